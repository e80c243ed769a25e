/*
 * Rows as JSON lines from standard input, committed in groups while they come.
 */
#ifndef VF_TOOLS_PUT_STREAM_H
#define VF_TOOLS_PUT_STREAM_H

#include "tools/target.h"

struct vf_put_stream {
	const struct vf_target *target; /* borrowed */
	const char *cache_dir;		/* NULL: the default */
	const char *scratch;		/* of folding the log; NULL likewise */
	uint64_t every_ms;		/* a row waits no longer; 0: 1000 */
	bool if_absent;
	bool skip_bad; /* say what is wrong with a line and go on */
	bool quiet;
};

/*
 * After each commit a line {"line","rows","replaced","version"} goes to
 * standard output: what came up to that line is there to stay.
 *
 * Returns 0; -EINVAL a bad line, -EEXIST a key that is there: what came before
 * that line, or group, is committed; -EINPROGRESS; -ECANCELED after a signal;
 * -errno.  All logged, with the last line that is committed.
 */
int vf_put_stream_run(const struct vf_put_stream *o);

#endif
