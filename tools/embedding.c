/*
 *   file   float[][dim]; row i at (i - base) * dim * 4, base being the first of
 *          the window, or 0 when all are kept
 */
#include "tools/embedding.h"

#include <inttypes.h>

#include "tools/interrupt.h"
#include "tools/progress.h"
#include "tools/scratchfile.h"

enum { GATHER_LEN = 4 << 20 }; /* bytes of texts held at once */

/* Some texts on their way through the embedder. */
struct gathered {
	struct vf_buf bytes;
	size_t *ends; /* [many] of each text in bytes */
	struct vf_embed_text *texts;
	float *x; /* [many][dim] */
	size_t n;
};

static void fini_gathered(struct gathered *g)
{
	vf_buf_fini(&g->bytes);
	free(g->ends);
	free(g->texts);
	free(g->x);
}

static int init_gathered(struct gathered *g, const struct vf_embedder *e)
{
	*g = (struct gathered){
		.ends = malloc(e->many * sizeof(*g->ends)),
		.texts = malloc(e->many * sizeof(*g->texts)),
		.x = malloc((size_t)e->many * e->dim * sizeof(float))};
	return g->ends && g->texts && g->x
		       ? 0
		       : vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
}

static uint64_t file_row(const struct vf_embedding *m, uint64_t row)
{
	return m->rows ? m->rows[row] : row;
}

/* Texts of the file from @row on, as many as go together. */
static int gather(struct vf_embedding *m, struct gathered *g, uint64_t row,
		  uint64_t left)
{
	size_t max = (size_t)VF_MIN(left, (uint64_t)m->e->many), at = 0;
	int err = 0;

	g->bytes.len = 0;
	for (g->n = 0; !err && g->n < max && at < GATHER_LEN; g->n++) {
		err = vf_intake_words(m->in, file_row(m, row + g->n),
				      &g->bytes);
		g->ends[g->n] = at = g->bytes.len;
	}
	for (size_t i = 0; !err && i < g->n; i++) {
		size_t begin = i ? g->ends[i - 1] : 0;
		g->texts[i] = (struct vf_embed_text){
			(char *)g->bytes.data + begin, g->ends[i] - begin};
	}
	return err;
}

static int embed_some(struct vf_embedding *m, struct gathered *g, uint64_t row)
{
	size_t row_len = m->e->dim * sizeof(float);
	struct vf_embed_failure f;
	int err = gather(m, g, row, m->from + m->n - row);

	if (err)
		return err;
	err = vf_embedder_embed_many(m->e, g->texts, g->n, g->x, &f);
	if (vf_interrupted())
		return -ECANCELED; /* is said below */
	if (err && f.n < 2)
		return vf_fail(err, "%s: row %" PRIu64 ": %s", m->in->name,
			       file_row(m, row + f.at), f.why);
	if (err)
		return vf_fail(err, "%s: rows %" PRIu64 " to %" PRIu64 ": %s",
			       m->in->name, file_row(m, row + f.at),
			       file_row(m, row + f.at + f.n - 1), f.why);
	err = vf_pwrite_all(m->fd, g->x, g->n * row_len,
			    (row - m->base) * row_len);
	return err ? vf_fail(err, "%s: embeddings of its texts: %s",
			     m->in->name, vf_strerror(err))
		   : 0;
}

/* What the file holds when the window is embedded. */
static void move_window(struct vf_embedding *m, uint64_t from, uint64_t n)
{
	bool first = m->begin == m->end || !m->keep;

	m->from = from;
	m->n = n;
	m->base = m->keep ? 0 : from;
	m->begin = first ? from : VF_MIN(m->begin, from);
	m->end = first ? from + n : VF_MAX(m->end, from + n);
}

int vf_embedding_window(struct vf_embedding *m, uint64_t from, uint64_t n)
{
	struct vf_progress progress;
	struct gathered g;
	int err = m->fd < 0 ? vf_scratch_open(m->scratch, &m->fd) : 0;

	if (err)
		return err;
	move_window(m, from, n);
	err = init_gathered(&g, m->e);
	vf_progress_begin(&progress, "embedding", n, 0, m->quiet);
	for (uint64_t at = 0; !err && at < n; at += g.n) {
		err = embed_some(m, &g, from + at);
		vf_progress_update(&progress, at + g.n);
	}
	vf_progress_end(&progress);
	fini_gathered(&g);
	return err == -ECANCELED ? vf_fail(err, "interrupted") : err;
}

bool vf_embedding_has(const struct vf_embedding *m, uint64_t row)
{
	return row >= m->begin && row < m->end;
}

int vf_embedding_rows(struct vf_embedding *m, uint64_t row, size_t n, float *x)
{
	size_t row_len = m->e->dim * sizeof(float);

	assert(vf_embedding_has(m, row) && row + n <= m->end);
	int err =
		vf_pread_all(m->fd, x, n * row_len, (row - m->base) * row_len);
	return err ? vf_fail(err, "%s: embeddings of its texts: %s",
			     m->in->name, vf_strerror(err))
		   : 0;
}

void vf_embedding_fini(struct vf_embedding *m)
{
	if (m->fd >= 0)
		close(m->fd);
	m->fd = -1;
}
