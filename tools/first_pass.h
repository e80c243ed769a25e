/*
 * The first pass over texts, before any is embedded: one without a word is
 * refused, or passed over; the embedder learns from the others.
 */
#ifndef VF_TOOLS_FIRST_PASS_H
#define VF_TOOLS_FIRST_PASS_H

#include "query/embed.h"
#include "tools/format.h"
#include "tools/progress.h"

struct vf_first_pass {
	const struct vf_embedder *e;  /* borrowed, as all here */
	struct vf_embedder *learning; /* the same, if it is to learn */
	const char *name, *unit;      /* of messages: "file", "line" */
	bool skip_empty, quiet;
	/* Its own. */
	uint64_t n_taken, n_skipped;
	struct vf_progress progress;
};

/* @n_total  texts; 0: not known */
void vf_first_pass_begin(struct vf_first_pass *p, uint64_t n_total);
void vf_first_pass_end(struct vf_first_pass *p);

/*
 * One text.  @key is for messages and may be NULL, @number counts units.
 * *out_taken: it is no text to be passed over.
 * Returns 0; -EINVAL it has no word; -ECANCELED; -ENOMEM; logged.
 */
int vf_first_pass_take(struct vf_first_pass *p, const struct vf_embed_text *t,
		       const char *key, uint64_t number, bool *out_taken);

/*
 * All texts of @in, from begin to end; the rows taken to @out_rows, which has
 * room for all (NULL: unwanted).  Returns as take; -EINVAL none was taken.
 */
int vf_first_pass_file(struct vf_first_pass *p, struct vf_intake *in,
		       uint64_t *out_rows);

#endif
