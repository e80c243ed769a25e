/*
 * The living record lines of an index, in the order of its shards, then those
 * of the log.
 */
#ifndef VF_TOOLS_EACH_RECORD_H
#define VF_TOOLS_EACH_RECORD_H

#include "tools/target.h"

/*
 * @place  for messages: of which shard
 * @line   with its newline, good during the call
 * What is not 0 ends the walk.
 */
typedef int vf_records_fn(void *arg, const char *place, const char *line,
			  size_t len);

/* How far a walk came, and what another one may go on from. */
struct vf_records_pos {
	uint64_t place; /* shards, then records with rows in the log */
	uint64_t row;	/* of the place: the next one */
	uint64_t off;	/* of its line in a shard; 0: lines are counted */
	uint64_t left;	/* rows, dead ones too, until the walk ends */
};

/* All of @s, or part @i of @n, all of about as many rows. */
struct vf_records_pos vf_records_part(const struct vf_state *s, uint64_t i,
				      uint64_t n);
/* Is there nothing behind it, and could it be a position in @s? */
bool vf_records_at_end(const struct vf_state *s,
		       const struct vf_records_pos *pos);
bool vf_records_pos_ok(const struct vf_state *s,
		       const struct vf_records_pos *pos);

/* As below, from @pos on, which is moved behind a line before @fn has it. */
int vf_records_walk(const struct vf_target *t, const struct vf_state *s,
		    struct vf_records_pos *pos, vf_records_fn *fn, void *arg);

/* Returns 0; what @fn returned; -ECANCELED; -EBADMSG; -EREMOTEIO; logged. */
int vf_records_each(const struct vf_target *t, const struct vf_state *s,
		    vf_records_fn *fn, void *arg);

#endif
