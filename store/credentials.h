/*
 * Who we are to an S3 server: the first of these that says so.
 *
 *   1. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *   2. AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN, AWS_ROLE_SESSION_NAME:
 *      a token exchanged at the security token service (STS)
 *   3. the profile: keys, credential_process, or a role to assume
 *   4. AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI: ECS, EKS
 *   5. the metadata service of an EC2 instance, version 2
 *
 * A profile that is named by option, not by AWS_PROFILE, skips 1 and 2.  What
 * is set up and fails is an error: nothing later in the list takes its place.
 */
#ifndef VF_STORE_CREDENTIALS_H
#define VF_STORE_CREDENTIALS_H

#include "store/util.h"

#include <stdatomic.h>

struct vf_credentials { /* all owned; NULL when nobody says */
	char *access_key, *secret_key, *session_token;
	char *region, *endpoint; /* of the profile */
	int64_t expires_s;	 /* since 1970; 0: not known to expire */
	uint64_t serial;	 /* of a vf_credential_source: other keys, other
			    number */
};

/* Zero means default. */
struct vf_credential_options {
	const char *profile; /* AWS_PROFILE, AWS_DEFAULT_PROFILE, "default" */
	const char *region;  /* of the STS: AWS_REGION, the profile's */
	const char *ca_file; /* for the STS */
	const atomic_bool *stop; /* when it becomes true, give up; borrowed */
};

/*
 * Go through the list above.
 * Returns 0; -EACCES no credentials anywhere, or who should give them does
 * not (logged, with the ways to give them); -EREMOTEIO who should give them
 * does not answer (logged); -ECANCELED; -ENOMEM.
 * Threads: any, while nobody changes the environment.  Blocks: on services
 * some seconds each, on a credential_process up to 60 s.
 */
int vf_credentials_load(const struct vf_credential_options *opt,
			struct vf_credentials *out);
/* Wipes the secrets. */
void vf_credentials_fini(struct vf_credentials *c);

#endif
