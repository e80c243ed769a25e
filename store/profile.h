/*
 * Profiles: named sections of the two files that AWS's own tools read.
 *
 *   ~/.aws/credentials   [NAME]             (AWS_SHARED_CREDENTIALS_FILE)
 *   ~/.aws/config        [profile NAME]     (AWS_CONFIG_FILE)
 *
 * A file that is not there, or that we may not read, says nothing.
 */
#ifndef VF_STORE_PROFILE_H
#define VF_STORE_PROFILE_H

#include "store/util.h"

enum vf_profile_setting {
	/* Keys come all from one section: those of another would spoil them. */
	VF_PROFILE_ACCESS_KEY,
	VF_PROFILE_SECRET_KEY,
	VF_PROFILE_SESSION_TOKEN,
	VF_PROFILE_KEYS_END,
	VF_PROFILE_REGION = VF_PROFILE_KEYS_END,
	VF_PROFILE_ENDPOINT,
	VF_PROFILE_PROCESS,
	VF_PROFILE_ROLE_ARN,
	VF_PROFILE_SOURCE,	      /* source_profile */
	VF_PROFILE_CREDENTIAL_SOURCE, /* "Environment", ... */
	VF_PROFILE_WEB_TOKEN_FILE,
	VF_PROFILE_SESSION_NAME,
	VF_PROFILE_EXTERNAL_ID,
	VF_PROFILE_DURATION_S,
	VF_PROFILE_MFA_SERIAL,
	VF_PROFILE_SSO_SESSION,
	VF_PROFILE_SSO_START_URL,
	VF_PROFILE_SETTINGS
};

struct vf_profile {
	bool there;			  /* some file has the section */
	char *value[VF_PROFILE_SETTINGS]; /* owned; NULL when not set */
};

/* Threads: any, while nobody changes the environment.  Reads two files. */
void vf_profile_read(const char *name, struct vf_profile *out);
/* Wipes what it held. */
void vf_profile_fini(struct vf_profile *p);

/*
 * A number that changes when one of the two files is written or replaced
 * (time of modification, size, inode).
 */
uint64_t vf_profile_stamp(void);

/*
 * One value of such a file, in section [@section]: a copy that is the
 * caller's to free, or NULL.  Pure.  @out_section tells whether the section is
 * there at all.
 */
char *vf_profile_find(const char *text, size_t len, const char *section,
		      const char *name, bool *out_section);

/* free() that leaves nothing of a secret behind; accepts NULL. */
void vf_secret_free(char *s);
/* For VF_CLEANUP. */
void vf_secret_free_at_exit(char **s);
#define VF_AUTO_SECRET VF_CLEANUP(vf_secret_free_at_exit)

/*
 * A whole file of at most @max bytes as a secret string, or NULL: errno then
 * says why.  A NUL is appended.
 */
char *vf_secret_read(const char *path, size_t max, size_t *out_len);

#endif
