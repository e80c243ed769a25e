/* What is learned, and which texts there are to be embedded. */
#include "tools/first_pass.h"

#include <inttypes.h>

#include "tools/interrupt.h"

void vf_first_pass_begin(struct vf_first_pass *p, uint64_t n_total)
{
	p->n_taken = p->n_skipped = 0;
	vf_progress_begin(&p->progress, p->learning ? "learning" : "reading",
			  n_total, 0, p->quiet);
}

void vf_first_pass_end(struct vf_first_pass *p)
{
	vf_progress_end(&p->progress);
}

static int refuse(const struct vf_first_pass *p, const char *key,
		  uint64_t number)
{
	return vf_fail(-EINVAL,
		       "%s: the text of %s%s%s%s %" PRIu64
		       " holds no word (--skip-empty passes over it)",
		       p->name, key ? "key \"" : "", key ? key : "",
		       key ? "\", " : "", p->unit, number);
}

int vf_first_pass_take(struct vf_first_pass *p, const struct vf_embed_text *t,
		       const char *key, uint64_t number, bool *out_taken)
{
	int err = 0;

	*out_taken = vf_embedder_has_words(p->e, t->p, t->len);
	if (!*out_taken && !p->skip_empty)
		return refuse(p, key, number);
	if (*out_taken && p->learning)
		err = vf_embedder_learn(p->learning, t->p, t->len);
	if (err)
		return vf_fail(err, "%s: %s %" PRIu64 ": %s", p->name, p->unit,
			       number, vf_strerror(err));
	p->n_taken += *out_taken;
	p->n_skipped += !*out_taken;
	vf_progress_update(&p->progress, p->n_taken + p->n_skipped);
	return vf_interrupted() ? -ECANCELED : 0;
}

int vf_first_pass_file(struct vf_first_pass *p, struct vf_intake *in,
		       uint64_t *out_rows)
{
	VF_AUTO_BUF struct vf_buf text = {0};
	bool taken;
	int err = 0;

	vf_first_pass_begin(p, in->n_rows);
	for (uint64_t row = 0; !err && row < in->n_rows; row++) {
		text.len = 0;
		err = vf_intake_words(in, row, &text);
		if (err)
			break;
		const struct vf_embed_text t = {(char *)text.data, text.len};
		err = vf_first_pass_take(p, &t, NULL, row, &taken);
		if (!err && taken && out_rows)
			out_rows[p->n_taken - 1] = row;
	}
	vf_first_pass_end(p);
	if (!err && !p->n_taken)
		err = vf_fail(-EINVAL, "%s: holds no texts", p->name);
	return err;
}
