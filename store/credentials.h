/*
 * Who we are to an S3 server, and what else a profile says: from the
 * environment, else from the files that AWS's own tools read.
 *
 *   AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *   ~/.aws/credentials   [profile]          (AWS_SHARED_CREDENTIALS_FILE)
 *   ~/.aws/config        [profile NAME]     (AWS_CONFIG_FILE)
 */
#ifndef VF_STORE_CREDENTIALS_H
#define VF_STORE_CREDENTIALS_H

#include "store/util.h"

struct vf_credentials { /* all owned; NULL when nobody says */
	char *access_key, *secret_key, *session_token;
	char *region, *endpoint; /* of the profile */
};

/*
 * @profile  NULL: AWS_PROFILE, AWS_DEFAULT_PROFILE, "default"
 * Keys of the environment win over files, unless @profile is given.
 * Returns 0; -EACCES no credentials anywhere, or a profile that is not there
 * (logged, with the ways to give them); -ENOMEM.
 */
int vf_credentials_load(const char *profile, struct vf_credentials *out);
/* Wipes the secrets. */
void vf_credentials_fini(struct vf_credentials *c);

/*
 * One value of an AWS configuration file, in section [@section]: a copy that
 * is the caller's to free, or NULL.  Pure.  @out_section tells whether the
 * section is there at all.
 */
char *vf_credentials_find(const char *text, size_t len, const char *section,
			  const char *name, bool *out_section);

#endif
