/*
 * Rows of an index as a source: those that live in some of its shards, and in
 * its tail.  They are read once, checked against their checksums, and wait in a
 * scratch file.
 */
#ifndef VF_TOOLS_STORED_H
#define VF_TOOLS_STORED_H

#include "store/commit.h"
#include "tools/source.h"

struct vf_stored_options {
	struct vf_bucket *bucket; /* borrowed, as all below */
	const char *name;	  /* of the index, for messages */
	const struct vf_state *state;
	const bool *take; /* [n_shards] of the state */
	/* [n_shards]: without their codes, by the checksums of their vectors and
	 * records; NULL: none. */
	const bool *codeless;
	bool tail;    /* all of it, too */
	uint64_t ram; /* bytes; what is more goes to the scratch folder */
	const char *scratch;
	bool quiet;
};

/* Consecutive rows of the source that were together. */
struct vf_stored_place {
	char shard[VF_SHARD_NAME_LEN + 1]; /* "": of @record */
	uint64_t record;
	uint64_t first, n; /* rows of the source */
	uint64_t n_rows;   /* of the place, dead ones included */
};

/*
 * Memory: 8 bytes a row.  At most 2^32 - 1 rows.
 * Returns 0; -EBADMSG a row or line that is damaged; -EFBIG; -ENOSPC;
 * -ECANCELED after a signal; others; logged but for the signal.
 */
int vf_stored_open(const struct vf_stored_options *opt, struct vf_source **out);

/* Views that last as long as the source. */
const struct vf_stored_place *vf_stored_places(const struct vf_source *s,
					       size_t *out_n);
/* Which row of its place row @row of the source was. */
uint32_t vf_stored_row(const struct vf_source *s, uint64_t row);

/* What new shards take over from those that were read. */
struct vf_stored_traits {
	uint32_t bits;	   /* the most that one has; 0: no shard was read */
	bool compress;	   /* one has compressed vectors */
	uint64_t next_key; /* not 0: all keys are automatic, below it */
};
void vf_stored_traits(const struct vf_source *s, struct vf_stored_traits *out);

#endif
