/*
 * The variables that credentials come from, put away for the time of a test;
 * and the messages of that time.
 */
#ifndef VF_TESTS_AWS_ENV_H
#define VF_TESTS_AWS_ENV_H

#include "tests/httpd.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

static const char *const aws_names[] = {
	"AWS_ACCESS_KEY_ID",
	"AWS_SECRET_ACCESS_KEY",
	"AWS_SESSION_TOKEN",
	"AWS_PROFILE",
	"AWS_DEFAULT_PROFILE",
	"AWS_SHARED_CREDENTIALS_FILE",
	"AWS_CONFIG_FILE",
	"AWS_REGION",
	"AWS_DEFAULT_REGION",
	"AWS_ENDPOINT_URL",
	"AWS_ENDPOINT_URL_S3",
	"AWS_ENDPOINT_URL_STS",
	"AWS_CA_BUNDLE",
	"AWS_WEB_IDENTITY_TOKEN_FILE",
	"AWS_ROLE_ARN",
	"AWS_ROLE_SESSION_NAME",
	"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
	"AWS_CONTAINER_CREDENTIALS_FULL_URI",
	"AWS_CONTAINER_AUTHORIZATION_TOKEN",
	"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
	"AWS_EC2_METADATA_DISABLED",
	"AWS_EC2_METADATA_SERVICE_ENDPOINT",
	"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
	"HOME",
};

struct aws_env {
	const char *home;
	char *value[VF_N(aws_names)];
	pthread_mutex_t mtx;
	int n_logged;	   /* [mtx] warnings and errors */
	char logged[1024]; /* [mtx] the last */
};

static inline void aws_env_keep(void *arg, enum vf_level level,
				const char *line)
{
	struct aws_env *e = arg;

	pthread_mutex_lock(&e->mtx);
	e->n_logged++;
	snprintf(e->logged, sizeof(e->logged), "%s", line);
	pthread_mutex_unlock(&e->mtx);
}

/* Nothing but an empty home, and no metadata service. */
static inline void aws_env_clear(struct aws_env *e)
{
	memset(e, 0, sizeof(*e));
	pthread_mutex_init(&e->mtx, NULL);
	for (size_t i = 0; i < VF_N(aws_names); i++) {
		const char *v = getenv(aws_names[i]);
		e->value[i] = v ? strdup(v) : NULL;
		unsetenv(aws_names[i]);
	}
	e->home = vf_test_dir();
	setenv("HOME", e->home, 1);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	vf_log_set(aws_env_keep, e, VF_WARN);
}

static inline void aws_env_restore(struct aws_env *e)
{
	vf_test_log_reset();
	for (size_t i = 0; i < VF_N(aws_names); i++) {
		unsetenv(aws_names[i]);
		if (e->value[i])
			setenv(aws_names[i], e->value[i], 1);
		free(e->value[i]);
	}
	pthread_mutex_destroy(&e->mtx);
}

/* One message came since, with @text in it and no secret of a test. */
static inline bool aws_env_said(struct aws_env *e, const char *text)
{
	bool said = e->n_logged == 1 && strstr(e->logged, text) &&
		    !strstr(e->logged, "HUSH");

	if (!said)
		fprintf(stderr, "%d messages, the last: %s\n", e->n_logged,
			e->logged);
	e->n_logged = 0;
	return said;
}

/* A file below home, replaced as editors do. */
static inline void aws_env_write(const struct aws_env *e, const char *name,
				 const char *text)
{
	char path[256], temporary[300];
	FILE *f;

	snprintf(path, sizeof(path), "%s/.aws", e->home);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/%s", e->home, name);
	snprintf(temporary, sizeof(temporary), "%s.new", path);
	f = fopen(temporary, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fputs(text, f);
	fclose(f);
	CU_ASSERT_EQUAL_FATAL(rename(temporary, path), 0);
}

static inline bool aws_equal(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

/* Append an answer whose body is @body. */
static inline enum vf_httpd_after aws_reply(struct vf_buf *reply, int status,
					    const char *body)
{
	vf_httpd_reply(reply, status, "", body, strlen(body));
	return VF_HTTPD_KEEP;
}

#endif
