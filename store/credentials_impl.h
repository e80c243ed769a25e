/*
 * The providers behind the chain of credentials.c, and what they share.
 * Nothing else but their tests may include this.
 *
 * Each provider fills the keys and the expiry of an empty @out.  Returns 0;
 * -ENOENT it is not set up here (not logged; only where said); -EACCES it
 * gives no credentials; -EREMOTEIO it does not answer; -ECANCELED; -ENOMEM.
 * What it returns in error may be half-filled: the caller releases it.
 */
#ifndef VF_STORE_CREDENTIALS_IMPL_H
#define VF_STORE_CREDENTIALS_IMPL_H

#include "store/credentials.h"
#include "store/http_once.h"
#include "store/profile.h"

/* A role to become.  Borrowed; NULL where not set. */
struct vf_credential_role {
	const char *arn, *session_name;
	const char *external_id, *duration_s;
};

/* Run @command by /bin/sh -c and take the JSON that it prints. */
int vf_credentials_from_process(const char *command, const char *profile,
				const atomic_bool *stop,
				struct vf_credentials *out);
/* AssumeRoleWithWebIdentity: a token is the proof. */
int vf_credentials_from_web(const struct vf_credential_options *opt,
			    const struct vf_profile *p, const char *token_file,
			    const struct vf_credential_role *role,
			    struct vf_credentials *out);
/* AssumeRole: other credentials are the proof. */
int vf_credentials_from_role(const struct vf_credential_options *opt,
			     const struct vf_profile *p,
			     const struct vf_credentials *proof,
			     const struct vf_credential_role *role,
			     struct vf_credentials *out);
/* ECS and EKS; -ENOENT when no variable is set. */
int vf_credentials_from_container(const struct vf_credential_options *opt,
				  struct vf_credentials *out);
/* EC2; -ENOENT when disabled, nobody answers, or the machine has no role. */
int vf_credentials_from_instance(const struct vf_credential_options *opt,
				 struct vf_credentials *out);

/* getenv() that takes "" for not set. */
const char *vf_credentials_variable(const char *name);

/* The JSON of a process has a version and another name for the token. */
enum vf_credential_dialect { VF_CREDENTIALS_SERVICE, VF_CREDENTIALS_PROCESS };

/*
 * Take the JSON object of a process or a service.  Pure.
 * Returns 0; -EBADMSG: @out_reason then ends a sentence about it.
 */
int vf_credentials_parse(const char *text, size_t len,
			 enum vf_credential_dialect d,
			 struct vf_credentials *out, const char **out_reason);

/* "2030-01-31T12:00:00Z", also with fractions and offsets.  Pure.
 * Returns 0; -EINVAL. */
int vf_credentials_time(const char *s, int64_t *out_s);

/* Whether @s can stand in a header: printable ASCII without spaces. */
bool vf_credentials_is_word(const char *s);

#endif
