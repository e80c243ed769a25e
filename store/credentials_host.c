/*
 * Services beside us that know who we are: those of a container (ECS task
 * roles, EKS pod identities) and the metadata service of an EC2 instance.
 *
 * Sources: AWS SDKs and Tools Reference Guide, "Container credential provider"
 * and "IMDS credential provider"; EC2 User Guide, "IMDSv2".
 */
#include "store/credentials_impl.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>

enum {
	CONTAINER_ATTEMPT_MS = 2000,
	CONTAINER_ATTEMPTS = 3,
	/* Most machines have no such service: soon enough is then sure. */
	INSTANCE_ATTEMPT_MS = 1000,
	INSTANCE_ATTEMPTS = 2,
	AUTHORIZATION_MAX = 16 << 10,
};

static void free_answer(struct vf_http_once_answer *a)
{
	if (a)
		explicit_bzero(a, sizeof(*a));
	free(a);
}

/* The credentials in the answer of @who. */
static int take_answer(const struct vf_http_once_answer *a, const char *who,
		       struct vf_credentials *out)
{
	const char *reason;

	if (a->status != 200)
		return vf_fail(a->status == 429 || a->status >= 500 ? -EREMOTEIO
								    : -EACCES,
			       "no credentials: %s answers HTTP %d", who,
			       a->status);
	if (vf_credentials_parse(a->body, a->len, VF_CREDENTIALS_SERVICE, out,
				 &reason))
		return vf_fail(-EACCES, "no credentials: the answer of %s %s",
			       who, reason);
	return 0;
}

/* ---- containers ---------------------------------------------------------------------------- */

static bool is_loopback(const char *host)
{
	struct in_addr v4;

	return !strcmp(host, "localhost") || !strcmp(host, "[::1]") ||
	       (inet_pton(AF_INET, host, &v4) == 1 &&
		ntohl(v4.s_addr) >> 24 == 127);
}

/* Unencrypted, credentials may come only from beside us. */
static bool may_ask(const char *url)
{
	char host[256];
	bool tls;

	if (vf_http_once_host(url, host, sizeof(host), &tls))
		return false;
	return tls || is_loopback(host) || !strcmp(host, "169.254.170.2") ||
	       !strcmp(host, "169.254.170.23") ||
	       !strcmp(host, "[fd00:ec2::23]");
}

/* The caller's to free; *@out NULL when no variable names one. */
static int find_container(char **out)
{
	const char *path = vf_credentials_variable(
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *url =
		vf_credentials_variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
	int n = 0;

	*out = NULL;
	if (path && *path != '/')
		return vf_fail(-EACCES,
			       "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does "
			       "not begin with /");
	if (path)
		n = asprintf(out, "http://169.254.170.2%s", path);
	else if (url)
		n = asprintf(out, "%s", url);
	if (n < 0) {
		*out = NULL;
		return -ENOMEM;
	}
	if (*out && (!vf_credentials_is_word(*out) || !may_ask(*out)))
		return vf_fail(-EACCES,
			       "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither "
			       "https nor an address of this machine");
	return 0;
}

/* "authorization: ...", the caller's; *@out NULL when there is no token. */
static int make_authorization(char **out)
{
	const char *file = vf_credentials_variable(
		"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *token =
		vf_credentials_variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	VF_AUTO_SECRET char *text = NULL;
	size_t len = 0;

	*out = NULL;
	if (file) {
		text = vf_secret_read(file, AUTHORIZATION_MAX, &len);
		if (!text)
			return vf_fail(-EACCES,
				       "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE "
				       "%s: %s",
				       file, strerror(errno));
		while (len && isspace((unsigned char)text[len - 1]))
			text[--len] = '\0';
		token = text;
	}
	if (!token)
		return 0;
	for (const char *c = token; *c; c++) /* "Basic xyz" may have a space */
		if (!isprint((unsigned char)*c))
			return vf_fail(-EACCES,
				       "the authorization token of the "
				       "container holds control characters");
	if (asprintf(out, "authorization: %s", token) < 0) {
		*out = NULL;
		return -ENOMEM;
	}
	return 0;
}

static int ask_container(const struct vf_credential_options *opt,
			 const char *url, const char *authorization,
			 struct vf_credentials *out)
{
	const struct vf_http_once r = {
		.method = "GET",
		.url = url,
		.headers = &authorization,
		.n_headers = authorization != NULL,
		.attempt_ms = CONTAINER_ATTEMPT_MS,
		.n_attempts = CONTAINER_ATTEMPTS,
		.direct = true,
		.stop = opt->stop,
	};
	struct vf_http_once_answer *a = malloc(sizeof(*a));
	int err = a ? vf_http_once(&r, a) : -ENOMEM;

	if (err == -EREMOTEIO)
		vf_fail(err, "no credentials: the container's service: %s",
			a->why);
	if (!err)
		err = take_answer(a, "the container's service", out);
	free_answer(a);
	return err;
}

int vf_credentials_from_container(const struct vf_credential_options *opt,
				  struct vf_credentials *out)
{
	VF_AUTO_SECRET char *authorization = NULL;
	VF_AUTO_FREE char *url = NULL;
	int err = find_container(&url);

	if (!err && !url)
		return -ENOENT;
	if (!err)
		err = make_authorization(&authorization);
	return err ? err : ask_container(opt, url, authorization, out);
}

/* ---- instances -------------------------------------------------------------------------------- */

static const char *find_metadata(void)
{
	const char *off = vf_credentials_variable("AWS_EC2_METADATA_DISABLED");
	const char *url =
		vf_credentials_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
	const char *mode = vf_credentials_variable(
		"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");

	if (off && !strcasecmp(off, "true"))
		return NULL;
	if (url)
		return url;
	return mode && !strcasecmp(mode, "ipv6") ? "http://[fd00:ec2::254]"
						 : "http://169.254.169.254";
}

struct metadata {
	const struct vf_credential_options *opt;
	const char *origin;
	char *token_line; /* owned, secret; "x-aws-ec2-metadata-token: ..." */
	struct vf_http_once_answer *answer;
};

/* @name is what follows the path of all roles. */
static int ask_metadata(struct metadata *m, const char *method,
			const char *path, const char *name, const char *line)
{
	struct vf_http_once r = {
		.method = method,
		.headers = &line,
		.n_headers = 1,
		.attempt_ms = INSTANCE_ATTEMPT_MS,
		.n_attempts = INSTANCE_ATTEMPTS,
		.direct = true,
		.stop = m->opt->stop,
	};
	size_t n = strlen(m->origin);
	VF_AUTO_FREE char *url = NULL;

	while (n && m->origin[n - 1] == '/')
		n--;
	if (asprintf(&url, "%.*s%s%s", (int)n, m->origin, path, name) < 0) {
		url = NULL;
		return -ENOMEM;
	}
	r.url = url;
	return vf_http_once(&r, m->answer);
}

/* The first line of the answer, in place; NULL when it is no word. */
static const char *first_word(struct vf_http_once_answer *a)
{
	a->body[strcspn(a->body, "\r\n")] = '\0';
	return a->body[0] && vf_credentials_is_word(a->body) ? a->body : NULL;
}

static int get_token(struct metadata *m)
{
	const char *word;
	int err = ask_metadata(m, "PUT", "/latest/api/token", "",
			       "x-aws-ec2-metadata-token-ttl-seconds: 21600");

	if (err == -EREMOTEIO)
		return -ENOENT; /* as on every other machine */
	if (err)
		return err;
	word = m->answer->status == 200 ? first_word(m->answer) : NULL;
	if (!word && m->answer->status >= 500)
		return vf_fail(-EREMOTEIO,
			       "no credentials: the instance's metadata "
			       "service answers HTTP %d",
			       m->answer->status);
	if (!word)
		return -ENOENT; /* it is off, or is something else */
	if (asprintf(&m->token_line, "x-aws-ec2-metadata-token: %s", word) <
	    0) {
		m->token_line = NULL;
		return -ENOMEM;
	}
	return 0;
}

static int get_role(struct metadata *m, struct vf_credentials *out)
{
	static const char roles[] =
		"/latest/meta-data/iam/security-credentials/";
	VF_AUTO_FREE char *role = NULL;
	const char *word;
	int err = ask_metadata(m, "GET", roles, "", m->token_line);

	if (!err && m->answer->status == 404)
		return -ENOENT; /* an instance without a role */
	if (!err && m->answer->status == 200) {
		word = first_word(m->answer);
		if (!word || strpbrk(word, "/?#%"))
			return -ENOENT;
		role = strdup(word);
		if (!role)
			return -ENOMEM;
		err = ask_metadata(m, "GET", roles, role, m->token_line);
	}
	if (err == -EREMOTEIO)
		return vf_fail(err,
			       "no credentials: the instance's metadata "
			       "service: %s",
			       m->answer->why);
	return err ? err
		   : take_answer(m->answer, "the instance's metadata service",
				 out);
}

int vf_credentials_from_instance(const struct vf_credential_options *opt,
				 struct vf_credentials *out)
{
	struct metadata m = {.opt = opt, .origin = find_metadata()};
	int err;

	if (!m.origin)
		return -ENOENT;
	if (!vf_credentials_is_word(m.origin))
		return vf_fail(-EACCES,
			       "AWS_EC2_METADATA_SERVICE_ENDPOINT is no URL");
	m.answer = malloc(sizeof(*m.answer));
	if (!m.answer)
		return -ENOMEM;
	err = get_token(&m);
	if (!err)
		err = get_role(&m, out);
	free_answer(m.answer);
	vf_secret_free(m.token_line);
	return err;
}
