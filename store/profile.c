/*
 * The files are small INI files: [section], name = value, # or ; comments;
 * indented lines belong to the value above and are skipped.
 */
#include "store/profile.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { FILE_LEN_MAX = 1 << 20, SECTION_MAX = 256 };

static const char *const names[VF_PROFILE_SETTINGS] = {
	[VF_PROFILE_ACCESS_KEY] = "aws_access_key_id",
	[VF_PROFILE_SECRET_KEY] = "aws_secret_access_key",
	[VF_PROFILE_SESSION_TOKEN] = "aws_session_token",
	[VF_PROFILE_REGION] = "region",
	[VF_PROFILE_ENDPOINT] = "endpoint_url",
	[VF_PROFILE_PROCESS] = "credential_process",
	[VF_PROFILE_ROLE_ARN] = "role_arn",
	[VF_PROFILE_SOURCE] = "source_profile",
	[VF_PROFILE_CREDENTIAL_SOURCE] = "credential_source",
	[VF_PROFILE_WEB_TOKEN_FILE] = "web_identity_token_file",
	[VF_PROFILE_SESSION_NAME] = "role_session_name",
	[VF_PROFILE_EXTERNAL_ID] = "external_id",
	[VF_PROFILE_DURATION_S] = "duration_seconds",
	[VF_PROFILE_MFA_SERIAL] = "mfa_serial",
	[VF_PROFILE_SSO_SESSION] = "sso_session",
	[VF_PROFILE_SSO_START_URL] = "sso_start_url",
};

/* ---- secrets --------------------------------------------------------------------------- */

void vf_secret_free(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

void vf_secret_free_at_exit(char **s)
{
	vf_secret_free(*s);
}

char *vf_secret_read(const char *path, size_t max, size_t *out_len)
{
	VF_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	VF_AUTO_SECRET char *text = NULL;
	struct stat st;
	size_t len;
	int err;

	if (fd < 0 || fstat(fd, &st))
		return NULL;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > max) {
		errno = S_ISREG(st.st_mode) ? EFBIG : EINVAL;
		return NULL;
	}
	len = (size_t)st.st_size;
	text = calloc(1, len + 1);
	if (!text)
		return NULL;
	err = vf_pread_all(fd, text, len, 0);
	if (err) {
		errno = -err;
		return NULL;
	}
	*out_len = len;
	return VF_STEAL(text);
}

/* ---- one value --------------------------------------------------------------------------- */

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
	char name[SECTION_MAX] = "";
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

char *vf_profile_find(const char *text, size_t len, const char *section,
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

enum file { CREDENTIALS, CONFIG };

/* The caller's to free; NULL without HOME. */
static char *find_path(enum file f)
{
	const char *path = getenv(f == CONFIG ? "AWS_CONFIG_FILE"
					      : "AWS_SHARED_CREDENTIALS_FILE");
	const char *home = getenv("HOME");
	char *out;

	if (path && *path)
		return strdup(path);
	if (!home || asprintf(&out, "%s/.aws/%s", home,
			      f == CONFIG ? "config" : "credentials") < 0)
		return NULL;
	return out;
}

static char *read_file(enum file f, size_t *out_len)
{
	VF_AUTO_FREE char *path = find_path(f);

	return path ? vf_secret_read(path, FILE_LEN_MAX, out_len) : NULL;
}

static void read_section(const char *text, size_t len, const char *section,
			 struct vf_profile *p)
{
	size_t from = p->value[VF_PROFILE_ACCESS_KEY] ? VF_PROFILE_KEYS_END : 0;

	for (size_t i = from; text && i < VF_PROFILE_SETTINGS; i++) {
		bool there;
		char *v;
		if (p->value[i])
			continue;
		v = vf_profile_find(text, len, section, names[i], &there);
		p->there |= there;
		p->value[i] = v;
		if (i == VF_PROFILE_ACCESS_KEY && !v)
			i = VF_PROFILE_KEYS_END - 1;
	}
}

/* By length: a NUL inside must not keep what follows. */
static void free_text(char *text, size_t len)
{
	if (text)
		explicit_bzero(text, len);
	free(text);
}

void vf_profile_read(const char *name, struct vf_profile *out)
{
	size_t len = 0, config_len = 0;
	char *text = read_file(CREDENTIALS, &len);
	char *config = read_file(CONFIG, &config_len);
	char section[SECTION_MAX];

	*out = (struct vf_profile){0};
	snprintf(section, sizeof(section), "profile %s", name);
	read_section(text, len, name, out);
	read_section(config, config_len, section, out);
	if (!strcmp(name, "default"))
		read_section(config, config_len, name, out);
	free_text(text, len);
	free_text(config, config_len);
}

void vf_profile_fini(struct vf_profile *p)
{
	for (size_t i = 0; i < VF_PROFILE_SETTINGS; i++)
		vf_secret_free(p->value[i]);
	*p = (struct vf_profile){0};
}

uint64_t vf_profile_stamp(void)
{
	uint64_t sum = 0;

	for (enum file f = CREDENTIALS; f <= CONFIG; f++) {
		VF_AUTO_FREE char *path = find_path(f);
		struct stat st;
		uint64_t all[4] = {0};
		if (path && !stat(path, &st)) {
			all[0] = (uint64_t)st.st_mtim.tv_sec;
			all[1] = (uint64_t)st.st_mtim.tv_nsec;
			all[2] = (uint64_t)st.st_size;
			all[3] = (uint64_t)st.st_ino;
		}
		for (size_t i = 0; i < VF_N(all); i++)
			sum = (sum ^ all[i]) * 0x100000001b3;
	}
	return sum;
}
