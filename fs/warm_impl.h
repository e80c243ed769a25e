/*
 * What the two halves of warming share: warm.c has the queue of jobs,
 * warm_run.c runs one.
 *
 *   job    QUEUED -> RUNNING -> ENDED
 */
#ifndef VF_FS_WARM_IMPL_H
#define VF_FS_WARM_IMPL_H

#include "fs/fs.h"

enum {
	VF_WARM_THREADS_MAX = 4, /* jobs at a time */
	VF_WARM_PIECES_MAX = 16, /* under way, of all jobs */
};

enum job_state { QUEUED, RUNNING, ENDED };

struct job {			    /* [w.mtx] but for what is marked */
	char *path;		    /* [fixed] */
	struct vf_stored_list list; /* the runner's, until ENDED */
	uint64_t rate;		    /* [fixed] bytes/s; 0: no limit */
	uint64_t total;		    /* [fixed] bytes */
	bool for_pin;		    /* [fixed] */
	atomic_uint_fast64_t done;
	enum job_state state;
	atomic_bool cancelled;
	int err;
	struct job *next;
};

struct vf_warm {
	struct fs *fs; /* [fixed] */
	pthread_mutex_t mtx;
	pthread_cond_t cond; /* work, pieces, the end: look again */
	struct job *jobs;    /* [mtx] oldest first */
	unsigned n_pieces;   /* [mtx] in use */
	unsigned n_starting; /* [mtx] between a look at stopped and a read */
	bool stopped;	     /* [mtx] */
	unsigned n_threads, n_idle; /* [mtx] */
	pthread_t threads[VF_WARM_THREADS_MAX];
};

/* Run a job to its end; sets err, not the state.  Without mtx. */
void vf_warm_run(struct vf_warm *w, struct job *job);

#endif
