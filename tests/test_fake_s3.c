/*
 * What suites of the s3:// bucket share; itself no suite.
 */
#include "tests/fake_s3.h"

#include <stdio.h>

static enum vf_httpd_after answer(void *arg, const struct vf_httpd_request *r,
				  struct vf_buf *reply)
{
	static const char no_keys[] =
		"<ListBucketResult><IsTruncated>false</IsTruncated>"
		"</ListBucketResult>";
	struct vf_fake_s3 *s = arg;

	snprintf(s->head, sizeof(s->head), "%s", r->head);
	if (s->is_open && s->n < VF_N(s->targets))
		snprintf(s->targets[s->n++], sizeof(s->targets[0]), "%s %s",
			 r->method, r->target);
	if (s->is_open && s->fn)
		return s->fn(s->arg, r, reply);
	vf_httpd_reply(reply, 200, "", no_keys, sizeof(no_keys) - 1);
	return VF_HTTPD_KEEP;
}

static void keep_line(void *arg, enum vf_level level, const char *line)
{
	struct vf_fake_s3 *s = arg;

	s->n_logged++;
	snprintf(s->logged, sizeof(s->logged), "%s", line);
}

static void set_environment(const char *endpoint)
{
	static const char *const others[] = {
		"AWS_PROFILE",	      "AWS_DEFAULT_PROFILE", "AWS_REGION",
		"AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE",
		"AWS_SESSION_TOKEN",
	};

	for (size_t i = 0; i < VF_N(others); i++)
		unsetenv(others[i]);
	setenv("AWS_ACCESS_KEY_ID", "AKIATEST", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "VerySecret", 1);
	setenv("AWS_ENDPOINT_URL", endpoint, 1);
}

void vf_fake_s3_start(struct vf_fake_s3 *s, vf_httpd_fn *fn, void *arg)
{
	memset(s, 0, sizeof(*s));
	s->fn = fn;
	s->arg = arg;
	s->is_open = true;
	s->d = vf_httpd_open(answer, s);
	set_environment(vf_httpd_url(s->d));
	vf_log_set(keep_line, s, VF_WARN);
}

void vf_fake_s3_open(struct vf_fake_s3 *s, vf_httpd_fn *fn, void *arg)
{
	const struct vf_bucket_options opt = {.timeout_ms = 60000};

	vf_fake_s3_start(s, fn, arg);
	s->is_open = false;
	CU_ASSERT_EQUAL_FATAL(vf_bucket_open("s3://test/p/q", &opt, &s->b), 0);
	s->is_open = true;
}

void vf_fake_s3_close(struct vf_fake_s3 *s)
{
	vf_bucket_close(s->b);
	vf_httpd_close(s->d);
	vf_test_log_reset();
}

bool vf_fake_s3_sent(const struct vf_fake_s3 *s, const char *text)
{
	return strstr(s->head, text) != NULL;
}

enum vf_httpd_after vf_canned_give(void *arg, const struct vf_httpd_request *r,
				   struct vf_buf *reply)
{
	struct vf_canned *c = arg;

	if (c->n_before) {
		c->n_before--;
		vf_httpd_reply(reply, 503, "", "", 0);
		return VF_HTTPD_KEEP;
	}
	if (c->status)
		vf_httpd_reply(reply, c->status, c->lines ? c->lines : "",
			       c->body, c->body ? strlen(c->body) : 0);
	if (!strcmp(r->method, "HEAD") && c->body)
		reply->len -= strlen(c->body);
	return c->after;
}
