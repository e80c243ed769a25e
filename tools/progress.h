/*
 * One line on a terminal that is rewritten in place; nothing in a pipe.  Work
 * between begin and end is one thing to the user: it fails with one line.
 */
#ifndef VF_TOOLS_PROGRESS_H
#define VF_TOOLS_PROGRESS_H

#include "store/vecfs.h"

/* Caller's; one at a time in a program. Threads: one at a time. */
struct vf_progress {
	const char *what; /* "put", borrowed */
	const char *unit; /* of what is counted, borrowed; begin: "rows" */
	uint64_t n_total; /* 0: not known */
	uint64_t row_len; /* bytes; 0: no MB/s */
	uint64_t start_ns, shown_ns;
	bool on;
};

/* @quiet, or standard error that is no terminal, keeps it silent. */
void vf_progress_begin(struct vf_progress *p, const char *what,
		       uint64_t n_total, uint64_t row_len, bool quiet);
/* @n_done of the total; cheap, shows at most ten times a second. */
void vf_progress_update(struct vf_progress *p, uint64_t n_done);
/* A vf_catalog_progress_fn: @progress is one; -ECANCELED once interrupted. */
int vf_progress_reading(void *progress, uint64_t done, uint64_t total);
/* Take the line away. */
void vf_progress_end(struct vf_progress *p);

/*
 * What this thread does is beside the user's own work: its begin and end, quiet
 * ones, change nothing about what that says.
 */
void vf_progress_aside(void);

/* A vf_log_fn that does not write into the middle of the line. */
void vf_progress_log(void *arg, enum vf_level level, const char *line);

#endif
