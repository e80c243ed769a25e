/*
 * Credentials that stay good: loaded once at open, renewed in the background
 * before they expire, and at once when a server says that they no longer
 * count (then also files that were edited are read again).
 *
 * One thread does all that takes time.  Until new credentials are there the
 * old ones are handed out, also past their end: the server's clock decides.
 */
#ifndef VF_STORE_CREDENTIAL_SOURCE_H
#define VF_STORE_CREDENTIAL_SOURCE_H

#include "store/credentials.h"

struct vf_credential_source;

/*
 * @opt is copied, its stop unused.  Starts the thread.
 * Returns as vf_credentials_load, which it calls.
 */
int vf_credential_source_open(const struct vf_credential_options *opt,
			      struct vf_credential_source **out);
/*
 * Ends the thread; whoever waits gets -ECANCELED, now and later.  The
 * credentials can still be had.  Accepts NULL; twice is once.
 */
void vf_credential_source_stop(struct vf_credential_source *s);
/* Stops, and frees; all references must have been put.  Accepts NULL. */
void vf_credential_source_close(struct vf_credential_source *s);

/*
 * The credentials as of now; unchanging until put.  Keys that differ have
 * another serial.  Threads: any.  Does not wait.
 */
const struct vf_credentials *
vf_credential_source_get(struct vf_credential_source *s);
void vf_credential_source_put(struct vf_credential_source *s,
			      const struct vf_credentials *c);

/* The caller's memory, untouched by him until done is called. */
struct vf_credential_wait {
	/*
	 * 0: get others now; -EACCES there are none; -ECANCELED.  Exactly
	 * once, in the source's thread or before renew returns.
	 */
	void (*done)(void *arg, int err);
	void *arg;
	uint64_t serial;		 /* of those that were refused */
	struct vf_credential_wait *next; /* the source's */
};

/*
 * A server refused credentials: find others.  Many who ask at the same time
 * share one search; after one in vain the next begins later, from 1 s up to
 * 30 s, or when the profile's files have changed.
 * Threads: any.  Does not wait.
 */
void vf_credential_source_renew(struct vf_credential_source *s,
				struct vf_credential_wait *w);

#endif
