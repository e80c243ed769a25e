/*
 * The files are small INI files: [section], name = value, # or ; comments;
 * indented lines belong to the value above and are skipped.
 */
#include "store/credentials.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { FILE_LEN_MAX = 1 << 20 };

struct line {
	const char *at;
	size_t len;
};

static bool next_line(const char **at, const char *end, struct line *out)
{
	const char *nl;

	if (*at >= end)
		return false;
	nl = memchr(*at, '\n', (size_t)(end - *at));
	out->at = *at;
	out->len = (size_t)((nl ? nl : end) - *at);
	*at += out->len + (nl != NULL);
	return true;
}

static struct line trim(struct line l)
{
	while (l.len && isspace((unsigned char)*l.at)) {
		l.at++;
		l.len--;
	}
	while (l.len && isspace((unsigned char)l.at[l.len - 1]))
		l.len--;
	return l;
}

static bool equals(struct line l, const char *s)
{
	l = trim(l);
	return l.len == strlen(s) && !memcmp(l.at, s, l.len);
}

/* "[profile  x]" names the section "profile x". */
static bool is_section(struct line l, const char *section)
{
	char name[256];
	size_t n = 0;

	for (size_t i = 1; i + 1 < l.len && n + 1 < sizeof(name); i++) {
		char c = l.at[i] == '\t' ? ' ' : l.at[i];
		if (c != ' ' || (n && name[n - 1] != ' '))
			name[n++] = c;
	}
	while (n && name[n - 1] == ' ')
		n--;
	return n == strlen(section) && !memcmp(name, section, n);
}

char *vf_credentials_find(const char *text, size_t len, const char *section,
			  const char *name, bool *out_section)
{
	const char *at = text, *end = text + len;
	struct line l;
	bool here = false;
	char *found = NULL;

	*out_section = false;
	while (next_line(&at, end, &l)) {
		bool indented = l.len && isspace((unsigned char)*l.at);
		const char *eq;
		l = trim(l);
		if (!l.len || indented || *l.at == '#' || *l.at == ';')
			continue;
		if (*l.at == '[') {
			here = l.at[l.len - 1] == ']' && is_section(l, section);
			*out_section |= here;
			continue;
		}
		eq = memchr(l.at, '=', l.len);
		if (!here || found || !eq ||
		    !equals((struct line){l.at, (size_t)(eq - l.at)}, name))
			continue;
		struct line v = trim(
			(struct line){eq + 1, l.len - (size_t)(eq + 1 - l.at)});
		found = v.len ? strndup(v.at, v.len) : NULL;
	}
	return found;
}

/* ---- the two files ------------------------------------------------------------------- */

/* The text of a file, or NULL: one that is not there says nothing. */
static char *read_file(const char *variable, const char *name, size_t *out_len)
{
	const char *path = getenv(variable), *home = getenv("HOME");
	VF_AUTO_FREE char *own = NULL;
	VF_AUTO_FREE char *text = NULL;
	struct stat st;

	if (!path || !*path) {
		if (!home || asprintf(&own, "%s/.aws/%s", home, name) < 0) {
			own = NULL;
			return NULL;
		}
		path = own;
	}
	VF_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) || st.st_size > FILE_LEN_MAX)
		return NULL;
	text = malloc((size_t)st.st_size + 1);
	if (!text || vf_pread_all(fd, text, (size_t)st.st_size, 0))
		return NULL;
	*out_len = (size_t)st.st_size;
	return VF_STEAL(text);
}

static void take(char **to, char *value)
{
	if (*to)
		free(value);
	else
		*to = value;
}

/* True when the file has the section. */
static bool read_section(const char *text, size_t len, const char *section,
			 bool keys, struct vf_credentials *c)
{
	const struct {
		const char *name;
		char **to;
	} all[] = {{"aws_access_key_id", &c->access_key},
		   {"aws_secret_access_key", &c->secret_key},
		   {"aws_session_token", &c->session_token},
		   {"region", &c->region},
		   {"endpoint_url", &c->endpoint}};
	bool there = false;

	for (size_t i = keys ? 0 : 3; text && i < VF_N(all); i++)
		take(all[i].to, vf_credentials_find(text, len, section,
						    all[i].name, &there));
	return there;
}

static void wipe(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

static bool read_files(const char *profile, struct vf_credentials *c)
{
	size_t len = 0, config_len = 0;
	char *text =
		read_file("AWS_SHARED_CREDENTIALS_FILE", "credentials", &len);
	char *config = read_file("AWS_CONFIG_FILE", "config", &config_len);
	bool keys = !c->access_key, there;
	char section[256];

	snprintf(section, sizeof(section), "profile %s", profile);
	if (text)
		text[len] = '\0';
	if (config)
		config[config_len] = '\0';
	there = read_section(text, len, profile, keys, c);
	there |= read_section(config, config_len, section, keys, c);
	if (!strcmp(profile, "default"))
		there |= read_section(config, config_len, profile, keys, c);
	wipe(text);
	wipe(config);
	return there;
}

/* ---- the chain ------------------------------------------------------------------------ */

static const char *variable(const char *name)
{
	const char *v = getenv(name);

	return v && *v ? v : NULL;
}

static int read_environment(struct vf_credentials *c)
{
	const char *key = variable("AWS_ACCESS_KEY_ID");
	const char *secret = variable("AWS_SECRET_ACCESS_KEY");
	const char *token = variable("AWS_SESSION_TOKEN");

	if (!key || !secret)
		return 0;
	c->access_key = strdup(key);
	c->secret_key = strdup(secret);
	c->session_token = token ? strdup(token) : NULL;
	return c->access_key && c->secret_key && (c->session_token || !token)
		       ? 0
		       : -ENOMEM;
}

int vf_credentials_load(const char *profile, struct vf_credentials *out)
{
	const char *name = profile;
	int err = 0;
	bool there;

	*out = (struct vf_credentials){0};
	if (!name)
		name = variable("AWS_PROFILE");
	if (!name)
		name = variable("AWS_DEFAULT_PROFILE");
	if (!profile)
		err = read_environment(out);
	there = read_files(name ? name : "default", out);
	if (!err && name && !there && !out->access_key)
		err = vf_fail(-EACCES,
			      "no profile [%s] in ~/.aws/credentials or "
			      "~/.aws/config, so no credentials",
			      name);
	else if (!err && (!out->access_key || !out->secret_key))
		err = vf_fail(-EACCES,
			      "no S3 credentials: set AWS_ACCESS_KEY_ID and "
			      "AWS_SECRET_ACCESS_KEY, or name a profile of "
			      "~/.aws/credentials with AWS_PROFILE");
	if (err)
		vf_credentials_fini(out);
	return err;
}

void vf_credentials_fini(struct vf_credentials *c)
{
	wipe(c->access_key);
	wipe(c->secret_key);
	wipe(c->session_token);
	free(c->region);
	free(c->endpoint);
	*c = (struct vf_credentials){0};
}
