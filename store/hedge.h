/*
 * Hedged fetches: one that takes longer than most gets a second request beside
 * it, into another buffer; the first answer counts and the other is ignored
 * when it comes.
 *
 * Source: Dean and Barroso, "The tail at scale", CACM 2013, hedged requests.
 */
#ifndef VF_STORE_HEDGE_H
#define VF_STORE_HEDGE_H

#include "store/cache.h"

struct vf_hedge;

/*
 * @percentile  1 to 99: of the recent fetches; never under 5 ms, and none
 *              before 64 fetches were seen
 * At most one in twenty is sent twice.  Starts a thread.
 * Returns 0; -EINVAL; -ENOMEM; -errno, logged.
 */
int vf_hedge_open(unsigned percentile, struct vf_hedge **out);
/* No more second requests: before the sources' bucket closes.  Accepts NULL. */
void vf_hedge_stop(struct vf_hedge *h);
/* Waits until every request was answered, not from a callback.  Accepts NULL. */
void vf_hedge_close(struct vf_hedge *h);

/*
 * Fetch [off, off + len) of @o's source into @buf, which is written only
 * before @done is called: once, with 0 or a negative errno.
 * Threads: any; none waits.
 */
void vf_hedge_start(struct vf_hedge *h, struct vf_cached *o, uint64_t off,
		    size_t len, void *buf, vf_fetch_fn *done, void *arg);

/* Second requests; those that answered first. */
void vf_hedge_stats(struct vf_hedge *h, uint64_t *out_n, uint64_t *out_n_won);

#endif
