/*
 * A RAM tier that follows memory pressure: it shrinks while tasks wait for
 * memory and grows back slowly once they have not for a while.
 *
 * What is looked at is the kernel's pressure stall information, the share of the
 * last ten seconds in which some task waited for memory; of our own cgroup (v2)
 * where that has it, else of the machine.
 */
#ifndef VF_STORE_PRESSURE_H
#define VF_STORE_PRESSURE_H

#include "store/cache.h"
#include "store/util.h"

struct vf_pressure;

/* Zero means default. */
struct vf_pressure_options {
	const char *file;   /* NULL: the cgroup's or the machine's */
	size_t min_len;	    /* never fewer bytes: 64 MiB */
	size_t max_len;	    /* never more: vf_pressure_max_len() */
	unsigned period_ms; /* of looking: 1000 */
};

/*
 * A quarter of the memory that is available now, or of the cgroup's limit, if
 * that is less.
 */
size_t vf_pressure_max_len(void);

/*
 * Begin to resize @c, borrowed; its ram_len is max_len.  @opt is copied.
 * Returns 0; -ENOENT there is nothing to look at (logged); -ENOMEM; -errno.
 */
int vf_pressure_open(struct vf_cache *c, const struct vf_pressure_options *opt,
		     struct vf_pressure **out);
/* The cache keeps its size of the moment.  Accepts NULL. */
void vf_pressure_close(struct vf_pressure *p);

struct vf_pressure_stats {
	const char *file;	   /* borrowed until close */
	uint64_t stalled;	   /* hundredths of a percent */
	uint64_t n_shrink, n_grow; /* steps */
};
void vf_pressure_stats(struct vf_pressure *p, struct vf_pressure_stats *out);

/* ---- pure: what the thread does every period ---------------------------------------- */

/* The "some avg10" of @text, NUL-terminated, in hundredths of a percent.
 * Returns 0; -EBADMSG it is no pressure file. */
int vf_pressure_parse(const char *text, unsigned *out_stalled);

/* How large the tier is to be; @calm_ms: since when nothing was stalled,
 * the caller's between calls, 0 at first. */
size_t vf_pressure_step(size_t len, size_t min_len, size_t max_len,
			unsigned stalled, unsigned passed_ms,
			unsigned *calm_ms);

#endif
