/*
 * The security token service: credentials for a while, for a proof.
 *
 *   POST https://sts.REGION.amazonaws.com/      (AWS_ENDPOINT_URL_STS)
 *   Action=AssumeRoleWithWebIdentity | AssumeRole, form-encoded; XML comes
 *
 * Source: AWS Security Token Service API Reference, version 2011-06-15.
 */
#include "store/credentials_impl.h"
#include "store/s3_xml.h"
#include "store/sigv4.h"

#include <ctype.h>
#include <stdio.h>

enum {
	ATTEMPT_MS = 5000,
	ATTEMPTS = 3,
	TOKEN_FILE_MAX = 64 << 10,
	VALUE_MAX = 8 << 10, /* of one element of the answer */
};

struct exchange {
	const struct vf_credential_options *opt;
	const char *action, *region;
	char *url; /* owned */
	char host[256];
	char *form; /* owned, secret */
	struct vf_http_once_answer *answer;
};

static void end_exchange(struct exchange *x)
{
	if (x->answer)
		explicit_bzero(x->answer, sizeof(*x->answer));
	free(x->answer);
	vf_secret_free(x->form);
	free(x->url);
}

/* ---- where ------------------------------------------------------------------------------- */

static bool is_region(const char *s)
{
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && *s != '-')
			return false;
	return true;
}

static const char *find_region(const struct vf_credential_options *opt,
			       const struct vf_profile *p)
{
	const char *r = opt->region;

	if (!r)
		r = vf_credentials_variable("AWS_REGION");
	if (!r)
		r = vf_credentials_variable("AWS_DEFAULT_REGION");
	if (!r)
		r = p->value[VF_PROFILE_REGION];
	return r ? r : "us-east-1";
}

static const char *find_endpoint(const struct vf_profile *p)
{
	const char *e = vf_credentials_variable("AWS_ENDPOINT_URL_STS");

	if (!e)
		e = vf_credentials_variable("AWS_ENDPOINT_URL");
	return e ? e : p->value[VF_PROFILE_ENDPOINT];
}

static int find_service(struct exchange *x, const struct vf_profile *p)
{
	const char *endpoint = find_endpoint(p), *at;
	bool tls;
	size_t n;

	x->region = find_region(x->opt, p);
	if (!is_region(x->region))
		return vf_fail(-EACCES, "\"%s\" is no region", x->region);
	if (asprintf(&x->url, "https://sts.%s.amazonaws.com%s/", x->region,
		     strncmp(x->region, "cn-", 3) ? "" : ".cn") < 0) {
		x->url = NULL;
		return -ENOMEM;
	}
	if (endpoint) {
		free(x->url);
		n = strlen(endpoint);
		while (n && endpoint[n - 1] == '/')
			n--;
		if (asprintf(&x->url, "%.*s/", (int)n, endpoint) < 0) {
			x->url = NULL;
			return -ENOMEM;
		}
	}
	/* The Host header that is signed has the port. */
	at = strstr(x->url, "://");
	if (!vf_credentials_is_word(x->url) ||
	    vf_http_once_host(x->url, x->host, sizeof(x->host), &tls) || !at)
		return vf_fail(-EACCES, "\"%s\" is no endpoint of an STS",
			       x->url);
	n = strcspn(at + 3, "/");
	snprintf(x->host, sizeof(x->host), "%.*s", (int)n, at + 3);
	return 0;
}

/* ---- what is sent --------------------------------------------------------------------------- */

struct field {
	const char *name, *value; /* NULL: left out */
};

static size_t encoded_max(const struct field *f, size_t n)
{
	size_t len = 1;

	for (size_t i = 0; i < n; i++)
		len += f[i].value
			       ? strlen(f[i].name) + strlen(f[i].value) * 3 + 2
			       : 0;
	return len;
}

static int make_form(struct exchange *x, const struct field *f, size_t n)
{
	struct vf_buf b = {0};
	/* All room at once: growing would leave copies of secrets behind. */
	int err = vf_buf_reserve(&b, encoded_max(f, n));

	for (size_t i = 0; !err && i < n; i++) {
		if (!f[i].value)
			continue;
		err = vf_buf_printf(&b, "%s%s=", b.len ? "&" : "", f[i].name);
		if (!err)
			err = vf_sigv4_encode(&b, f[i].value, false);
	}
	if (!err)
		err = vf_buf_append(&b, "", 1);
	x->form = (char *)b.data;
	return err;
}

/* ---- what comes ----------------------------------------------------------------------------- */

static char *take_element(const struct vf_http_once_answer *a, const char *name)
{
	char text[VALUE_MAX + 1];
	char *copy;

	vf_s3_xml_find(a->body, a->len, name, text, sizeof(text));
	copy = text[0] ? strdup(text) : NULL;
	explicit_bzero(text, sizeof(text));
	return copy;
}

static int take_answer(const struct exchange *x, struct vf_credentials *out)
{
	VF_AUTO_FREE char *expires = take_element(x->answer, "Expiration");

	out->access_key = take_element(x->answer, "AccessKeyId");
	out->secret_key = take_element(x->answer, "SecretAccessKey");
	out->session_token = take_element(x->answer, "SessionToken");
	if (out->access_key && out->secret_key && out->session_token &&
	    expires && !vf_credentials_time(expires, &out->expires_s))
		return 0;
	return vf_fail(-EACCES, "%s: the answer of %s holds no credentials",
		       x->action, x->host);
}

static int refuse(const struct exchange *x)
{
	const struct vf_http_once_answer *a = x->answer;
	char code[64], message[320];

	vf_s3_xml_find(a->body, a->len, "Code", code, sizeof(code));
	vf_s3_xml_find(a->body, a->len, "Message", message, sizeof(message));
	return vf_fail(a->status == 429 || a->status >= 500 ? -EREMOTEIO
							    : -EACCES,
		       "no credentials: %s: HTTP %d%s%s%s%s (%s)", x->action,
		       a->status, code[0] ? " " : "", code,
		       message[0] ? ": " : "", message, x->host);
}

static int ask(struct exchange *x, const char *const *headers, size_t n,
	       struct vf_credentials *out)
{
	const struct vf_http_once r = {
		.method = "POST",
		.url = x->url,
		.headers = headers,
		.n_headers = n,
		.body = x->form,
		.attempt_ms = ATTEMPT_MS,
		.n_attempts = ATTEMPTS,
		.ca_file = x->opt->ca_file,
		.stop = x->opt->stop,
	};
	int err;

	x->answer = malloc(sizeof(*x->answer));
	if (!x->answer)
		return -ENOMEM;
	err = vf_http_once(&r, x->answer);
	if (err == -EREMOTEIO)
		return vf_fail(err, "no credentials: %s: %s (%s)", x->action,
			       x->answer->why, x->host);
	if (err)
		return err;
	return x->answer->status == 200 ? take_answer(x, out) : refuse(x);
}

static const char form_type[] =
	"content-type: application/x-www-form-urlencoded";

/* ---- a token is the proof ---------------------------------------------------------------- */

/* Read each time: who wrote the file renews it. */
static int read_token(const char *path, char **out)
{
	size_t len = 0;

	*out = vf_secret_read(path, TOKEN_FILE_MAX, &len);
	if (!*out)
		return vf_fail(-EACCES, "the web identity token %s: %s", path,
			       strerror(errno));
	while (len && isspace((unsigned char)(*out)[len - 1]))
		(*out)[--len] = '\0';
	if (!len || strlen(*out) != len || !vf_credentials_is_word(*out))
		return vf_fail(-EACCES, "%s holds no web identity token", path);
	return 0;
}

int vf_credentials_from_web(const struct vf_credential_options *opt,
			    const struct vf_profile *p, const char *token_file,
			    const struct vf_credential_role *role,
			    struct vf_credentials *out)
{
	const char *const headers[] = {form_type};
	struct exchange x = {.opt = opt, .action = "AssumeRoleWithWebIdentity"};
	VF_AUTO_SECRET char *token = NULL;
	int err = read_token(token_file, &token);
	const struct field form[] = {
		{"Action", x.action},
		{"Version", "2011-06-15"},
		{"RoleArn", role->arn},
		{"RoleSessionName",
		 role->session_name ? role->session_name : "vecfs"},
		{"DurationSeconds", role->duration_s},
		{"WebIdentityToken", token},
	};

	if (!err)
		err = find_service(&x, p);
	if (!err)
		err = make_form(&x, form, VF_N(form));
	if (!err)
		err = ask(&x, headers, VF_N(headers), out);
	end_exchange(&x);
	return err;
}

/* ---- credentials are the proof -------------------------------------------------------------- */

enum { SIGNED_MAX = 5 };

struct signing {
	struct vf_sigv4_pair pair[SIGNED_MAX];
	size_t n;
	char time[20], hash[VF_SIGV4_HEX + 1];
	char *line[SIGNED_MAX + 1]; /* owned */
	size_t n_lines;
};

static void fill_pairs(struct signing *s, const struct exchange *x,
		       const struct vf_credentials *proof)
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(s->time, sizeof(s->time), "%Y%m%dT%H%M%SZ", &tm);
	vf_sigv4_hash(x->form, strlen(x->form), s->hash);
	s->pair[s->n++] = (struct vf_sigv4_pair){
		"content-type", form_type + strlen("content-type: ")};
	s->pair[s->n++] = (struct vf_sigv4_pair){"host", x->host};
	s->pair[s->n++] = (struct vf_sigv4_pair){"x-amz-date", s->time};
	if (proof->session_token)
		s->pair[s->n++] = (struct vf_sigv4_pair){"x-amz-security-token",
							 proof->session_token};
}

static int add_line(struct signing *s, const char *name, const char *value)
{
	if (asprintf(&s->line[s->n_lines], "%s: %s", name, value) < 0)
		return -ENOMEM;
	s->n_lines++;
	return 0;
}

static int sign(struct signing *s, const struct exchange *x,
		const struct vf_credentials *proof)
{
	VF_AUTO_BUF struct vf_buf value = {0};
	const struct vf_sigv4_scope scope = {proof->access_key,
					     proof->secret_key, x->region,
					     "sts", s->time};
	const struct vf_sigv4_request r = {
		.method = "POST",
		.path = strchr(strstr(x->url, "://") + 3, '/'),
		.headers = s->pair,
		.n_headers = s->n,
		.payload_hash = s->hash,
	};
	int err = vf_sigv4_authorization(&r, &scope, &value);

	if (!err)
		err = vf_buf_append(&value, "", 1);
	for (size_t i = 0; !err && i < s->n; i++)
		err = add_line(s, s->pair[i].name, s->pair[i].value);
	return err ? err : add_line(s, "authorization", (char *)value.data);
}

static int ask_signed(struct exchange *x, const struct vf_credentials *proof,
		      struct vf_credentials *out)
{
	struct signing s = {.n = 0};
	int err;

	fill_pairs(&s, x, proof);
	err = sign(&s, x, proof);
	if (!err)
		err = ask(x, (const char *const *)s.line, s.n_lines, out);
	while (s.n_lines)
		vf_secret_free(s.line[--s.n_lines]);
	return err;
}

int vf_credentials_from_role(const struct vf_credential_options *opt,
			     const struct vf_profile *p,
			     const struct vf_credentials *proof,
			     const struct vf_credential_role *role,
			     struct vf_credentials *out)
{
	struct exchange x = {.opt = opt, .action = "AssumeRole"};
	const struct field form[] = {
		{"Action", x.action},
		{"Version", "2011-06-15"},
		{"RoleArn", role->arn},
		{"RoleSessionName",
		 role->session_name ? role->session_name : "vecfs"},
		{"DurationSeconds", role->duration_s},
		{"ExternalId", role->external_id},
	};
	int err = find_service(&x, p);

	if (!err && !(vf_credentials_is_word(proof->access_key) &&
		      (!proof->session_token ||
		       vf_credentials_is_word(proof->session_token))))
		err = vf_fail(-EACCES,
			      "the credentials that are to become %s "
			      "hold spaces or control characters",
			      role->arn);
	if (!err)
		err = make_form(&x, form, VF_N(form));
	if (!err)
		err = ask_signed(&x, proof, out);
	end_exchange(&x);
	return err;
}
