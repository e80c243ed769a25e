/*
 * The chain, and reading what providers answer.
 *
 *   credentials_process.c   a program
 *   credentials_sts.c       web identity, roles
 *   credentials_host.c      containers, instances
 */
#include "store/credentials_impl.h"

#include <jansson.h>
#include <stdio.h>

enum { ROLES_MAX = 5 };

const char *vf_credentials_variable(const char *name)
{
	const char *v = getenv(name);

	return v && *v ? v : NULL;
}

bool vf_credentials_is_word(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f)
			return false;
	return true;
}

void vf_credentials_fini(struct vf_credentials *c)
{
	vf_secret_free(c->access_key);
	vf_secret_free(c->secret_key);
	vf_secret_free(c->session_token);
	free(c->region);
	free(c->endpoint);
	*c = (struct vf_credentials){0};
}

/* ---- answers ---------------------------------------------------------------------------- */

int vf_credentials_time(const char *s, int64_t *out_s)
{
	struct tm tm = {0};
	const char *at = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	int hours, minutes, len = 0;
	int64_t t;

	if (!at)
		return -EINVAL;
	t = timegm(&tm);
	if (*at == '.')
		at += 1 + strspn(at + 1, "0123456789");
	if (!strcmp(at, "Z")) {
		*out_s = t;
		return 0;
	}
	if ((*at != '+' && *at != '-') ||
	    (sscanf(at + 1, "%2d:%2d%n", &hours, &minutes, &len) != 2 &&
	     sscanf(at + 1, "%2d%2d%n", &hours, &minutes, &len) != 2) ||
	    at[1 + len] || hours < 0 || minutes < 0)
		return -EINVAL;
	*out_s = t - (*at == '+' ? 1 : -1) * (hours * 60 + minutes) * 60;
	return 0;
}

/* A copy of a member that is a string, wiped where it came from. */
static char *take_string(json_t *object, const char *name)
{
	json_t *v = json_object_get(object, name);
	const char *s = json_string_value(v);
	char *copy = s && *s ? strdup(s) : NULL;

	if (s)
		explicit_bzero((char *)(uintptr_t)s, json_string_length(v));
	return copy;
}

static const char *take_members(json_t *o, enum vf_credential_dialect d,
				struct vf_credentials *out)
{
	bool process = d == VF_CREDENTIALS_PROCESS;
	VF_AUTO_FREE char *expires = take_string(o, "Expiration");

	out->access_key = take_string(o, "AccessKeyId");
	out->secret_key = take_string(o, "SecretAccessKey");
	out->session_token = take_string(o, process ? "SessionToken" : "Token");
	if (process && json_integer_value(json_object_get(o, "Version")) != 1)
		return "has no \"Version\": 1";
	if (!out->access_key || !out->secret_key)
		return "has no AccessKeyId or SecretAccessKey";
	if (expires && vf_credentials_time(expires, &out->expires_s))
		return "has an Expiration that is no time";
	return NULL;
}

int vf_credentials_parse(const char *text, size_t len,
			 enum vf_credential_dialect d,
			 struct vf_credentials *out, const char **out_reason)
{
	json_t *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);

	*out_reason = "is no JSON object";
	if (json_is_object(o))
		*out_reason = take_members(o, d, out);
	json_decref(o);
	return *out_reason ? -EBADMSG : 0;
}

/* ---- environment and profile ----------------------------------------------------------- */

static int take_keys(const char *key, const char *secret, const char *token,
		     struct vf_credentials *out)
{
	out->access_key = strdup(key);
	out->secret_key = strdup(secret);
	out->session_token = token ? strdup(token) : NULL;
	return out->access_key && out->secret_key &&
			       (out->session_token || !token)
		       ? 0
		       : -ENOMEM;
}

static int load_environment(struct vf_credentials *out)
{
	const char *key = vf_credentials_variable("AWS_ACCESS_KEY_ID");
	const char *secret = vf_credentials_variable("AWS_SECRET_ACCESS_KEY");

	if (!key || !secret)
		return -ENOENT;
	return take_keys(key, secret,
			 vf_credentials_variable("AWS_SESSION_TOKEN"), out);
}

static int load_web(const struct vf_credential_options *opt,
		    const struct vf_profile *p, struct vf_credentials *out)
{
	const char *file =
		vf_credentials_variable("AWS_WEB_IDENTITY_TOKEN_FILE");
	const struct vf_credential_role role = {
		.arn = vf_credentials_variable("AWS_ROLE_ARN"),
		.session_name =
			vf_credentials_variable("AWS_ROLE_SESSION_NAME"),
	};

	if (!file)
		return -ENOENT;
	if (!role.arn)
		return vf_fail(-EACCES, "AWS_WEB_IDENTITY_TOKEN_FILE is set, "
					"AWS_ROLE_ARN is not");
	return vf_credentials_from_web(opt, p, file, &role, out);
}

static int load_profile(const struct vf_credential_options *opt,
			const char *name, const struct vf_profile *p,
			unsigned depth, struct vf_credentials *out);

/* "credential_source" of a profile. */
static int load_named_source(const struct vf_credential_options *opt,
			     const char *name, const char *source,
			     struct vf_credentials *out)
{
	int err = -EINVAL;

	if (!strcmp(source, "Environment"))
		err = load_environment(out);
	else if (!strcmp(source, "EcsContainer"))
		err = vf_credentials_from_container(opt, out);
	else if (!strcmp(source, "Ec2InstanceMetadata"))
		err = vf_credentials_from_instance(opt, out);
	if (err != -ENOENT && err != -EINVAL)
		return err;
	return vf_fail(-EACCES,
		       "profile [%s]: credential_source = %s gives no "
		       "credentials%s",
		       name, source,
		       err == -EINVAL ? "; use Environment, EcsContainer or "
					"Ec2InstanceMetadata"
				      : "");
}

static int load_source_profile(const struct vf_credential_options *opt,
			       const char *name, const struct vf_profile *p,
			       unsigned depth, struct vf_credentials *out)
{
	const char *source = p->value[VF_PROFILE_SOURCE];
	struct vf_profile other;
	int err = -ENOENT;

	if (depth >= ROLES_MAX)
		return vf_fail(-EACCES,
			       "profile [%s]: more than %d source_profile in a "
			       "row",
			       name, ROLES_MAX);
	vf_profile_read(source, &other);
	/* A role whose source is itself means the keys beside it. */
	if (!strcmp(source, name)) {
		vf_secret_free(other.value[VF_PROFILE_ROLE_ARN]);
		other.value[VF_PROFILE_ROLE_ARN] = NULL;
	}
	if (other.there)
		err = load_profile(opt, source, &other, depth + 1, out);
	vf_profile_fini(&other);
	if (err == -ENOENT)
		err = vf_fail(-EACCES,
			      "profile [%s]: source_profile [%s] gives no "
			      "credentials",
			      name, source);
	return err;
}

static int load_role(const struct vf_credential_options *opt, const char *name,
		     const struct vf_profile *p, unsigned depth,
		     struct vf_credentials *out)
{
	const struct vf_credential_role role = {
		p->value[VF_PROFILE_ROLE_ARN],
		p->value[VF_PROFILE_SESSION_NAME],
		p->value[VF_PROFILE_EXTERNAL_ID],
		p->value[VF_PROFILE_DURATION_S],
	};
	const char *token_file = p->value[VF_PROFILE_WEB_TOKEN_FILE];
	const char *source = p->value[VF_PROFILE_CREDENTIAL_SOURCE];
	struct vf_credentials proof = {0};
	int err;

	if (p->value[VF_PROFILE_MFA_SERIAL])
		return vf_fail(
			-EACCES,
			"profile [%s] has mfa_serial, and a mount cannot "
			"ask for codes; use a credential_process",
			name);
	if (token_file)
		return vf_credentials_from_web(opt, p, token_file, &role, out);
	if (p->value[VF_PROFILE_SOURCE])
		err = load_source_profile(opt, name, p, depth, &proof);
	else if (source)
		err = load_named_source(opt, name, source, &proof);
	else
		err = vf_fail(-EACCES,
			      "profile [%s] has role_arn, but no "
			      "source_profile, credential_source or "
			      "web_identity_token_file",
			      name);
	if (!err)
		err = vf_credentials_from_role(opt, p, &proof, &role, out);
	vf_credentials_fini(&proof);
	return err;
}

/* -ENOENT: the profile says nothing of credentials. */
static int load_profile(const struct vf_credential_options *opt,
			const char *name, const struct vf_profile *p,
			unsigned depth, struct vf_credentials *out)
{
	char *const *v = p->value;

	if (v[VF_PROFILE_ROLE_ARN])
		return load_role(opt, name, p, depth, out);
	if (v[VF_PROFILE_ACCESS_KEY] && !v[VF_PROFILE_SECRET_KEY])
		return vf_fail(-EACCES,
			       "profile [%s] has aws_access_key_id, but no "
			       "aws_secret_access_key; no credentials",
			       name);
	if (v[VF_PROFILE_ACCESS_KEY])
		return take_keys(v[VF_PROFILE_ACCESS_KEY],
				 v[VF_PROFILE_SECRET_KEY],
				 v[VF_PROFILE_SESSION_TOKEN], out);
	if (v[VF_PROFILE_PROCESS])
		return vf_credentials_from_process(v[VF_PROFILE_PROCESS], name,
						   opt->stop, out);
	if (v[VF_PROFILE_SSO_SESSION] || v[VF_PROFILE_SSO_START_URL])
		return vf_fail(-EACCES,
			       "profile [%s] uses SSO, which vecfs does not "
			       "know; make a profile with credential_process = "
			       "aws configure export-credentials --profile %s",
			       name, name);
	return -ENOENT;
}

/* ---- the chain ------------------------------------------------------------------------ */

static int load_any(const struct vf_credential_options *opt, const char *name,
		    const struct vf_profile *p, struct vf_credentials *out)
{
	int err = -ENOENT;

	if (!opt->profile)
		err = load_environment(out);
	if (err == -ENOENT && !opt->profile)
		err = load_web(opt, p, out);
	if (err == -ENOENT && name && !p->there)
		return vf_fail(-EACCES,
			       "no profile [%s] in ~/.aws/credentials or "
			       "~/.aws/config, so no credentials",
			       name);
	if (err == -ENOENT)
		err = load_profile(opt, name ? name : "default", p, 0, out);
	if (err == -ENOENT)
		err = vf_credentials_from_container(opt, out);
	if (err == -ENOENT)
		err = vf_credentials_from_instance(opt, out);
	if (err == -ENOENT)
		err = vf_fail(-EACCES,
			      "no S3 credentials: set AWS_ACCESS_KEY_ID and "
			      "AWS_SECRET_ACCESS_KEY, or name a profile of "
			      "~/.aws/credentials with AWS_PROFILE");
	return err;
}

/* What ends up in headers must not become two of them. */
static int check(const struct vf_credentials *c)
{
	if (vf_credentials_is_word(c->access_key) &&
	    vf_credentials_is_word(c->secret_key) &&
	    (!c->session_token || vf_credentials_is_word(c->session_token)))
		return 0;
	return vf_fail(-EACCES, "the credentials hold spaces or control "
				"characters, so they are none");
}

int vf_credentials_load(const struct vf_credential_options *opt,
			struct vf_credentials *out)
{
	const char *name = opt->profile;
	struct vf_profile p;
	int err;

	*out = (struct vf_credentials){0};
	if (!name)
		name = vf_credentials_variable("AWS_PROFILE");
	if (!name)
		name = vf_credentials_variable("AWS_DEFAULT_PROFILE");
	vf_profile_read(name ? name : "default", &p);
	err = load_any(opt, name, &p, out);
	if (!err)
		err = check(out);
	out->region = VF_STEAL(p.value[VF_PROFILE_REGION]);
	out->endpoint = VF_STEAL(p.value[VF_PROFILE_ENDPOINT]);
	vf_profile_fini(&p);
	if (err)
		vf_credentials_fini(out);
	return err;
}
