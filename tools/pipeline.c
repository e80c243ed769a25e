/*
 * A ring of chunks.  A slot goes
 *
 *   FREE -> CLAIMED (a thread reads, checks and codes it) -> READY -> FREE
 *
 * Chunk number s lives in slot s % n_slots.  Claims are in order, one thread
 * at a time (claiming), because keys and texts are read sequentially; the
 * work on a chunk is parallel; the consumer takes chunks in order again.
 */
#include "tools/pipeline.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include "store/change.h"
#include "store/line.h"
#include "store/thread.h"
#include "tools/interrupt.h"
#include "tools/rows.h"

/*
 * A megabyte is read, checked, summed and coded while it is in L2: measured, a
 * put of 400 MB takes a quarter less time than with 4 MiB.
 */
enum { CHUNK_BYTES = 1 << 20, CHUNK_ROWS_MAX = 8192, THREADS_MAX = 256 };

enum slot_state { SLOT_FREE, SLOT_CLAIMED, SLOT_READY };

struct slot {
	enum slot_state state; /* [mtx] */
	struct vf_chunk chunk; /* of the thread that claimed, then consumer */
};

struct pipeline {
	const struct vf_pipeline_options *opt; /* [fixed] */
	struct slot *slots;
	size_t n_slots, chunk_rows; /* [fixed] */
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	bool claiming;			/* [mtx] */
	bool stop;			/* [mtx] nothing more is claimed */
	uint64_t next_row;		/* [mtx] of the next claim */
	uint64_t n_claimed, n_consumed; /* [mtx] chunks */
	int claim_err;			/* [mtx] said already */
};

/* ---- one chunk --------------------------------------------------------------------- */

static int refuse_row(const struct pipeline *p, struct vf_chunk *c, size_t i,
		      const char *reason)
{
	return vf_chunk_fail(c, -EINVAL, "%s: row %" PRIu64 " %s",
			     p->opt->source->name, c->row + i, reason);
}

static int check_rows(const struct pipeline *p, struct vf_chunk *c)
{
	uint32_t dim = p->opt->source->dim;
	const char *reason;
	size_t bad = vf_rows_check(c->x, c->n, dim, p->opt->metric, &reason);

	return bad < c->n ? refuse_row(p, c, bad, reason) : 0;
}

/* What is coded are the rows as they are stored: rounded. */
static int round_rows(const struct pipeline *p, struct vf_chunk *c)
{
	uint32_t dim = p->opt->source->dim;
	const char *reason;

	vf_rows_to_f16(c->x, c->n * dim, c->half);
	size_t bad = vf_rows_check_f16(c->x, c->half, c->n, dim, &reason);
	if (bad < c->n)
		return refuse_row(p, c, bad, reason);
	vf_rows_to_f32(VF_F16, c->half, c->n * dim, c->x);
	return check_rows(p, c);
}

static void make_chunk(const struct pipeline *p, struct vf_chunk *c)
{
	uint32_t dim = p->opt->source->dim;
	size_t row_len = dim * vf_dtype_size(p->opt->dtype);
	int err = p->opt->source->ops->fill(p->opt->source, c);

	if (!err)
		err = check_rows(p, c);
	if (!err && c->half)
		err = round_rows(p, c);
	if (err)
		return;
	const uint8_t *stored = c->half ? (uint8_t *)c->half : (uint8_t *)c->x;
	for (size_t i = 0; i < c->n; i++)
		c->rows[i].row_crc =
			vf_crc32c(0, stored + i * row_len, row_len);
	if (c->leaf)
		err = vf_cluster_assign(p->opt->cluster, NULL, c->x, c->n,
					c->leaf, NULL);
	const struct vf_coded coded = {c->codes, c->factors, c->extra,
				       c->extra_factors, c->leaf};
	if (!err)
		err = vf_encoder_coded(p->opt->encoder, c->x, c->n, &coded);
	if (err)
		vf_chunk_fail(c, err, "%s: %s", p->opt->source->name,
			      vf_strerror(err));
}

/* ---- threads ----------------------------------------------------------------------- */

static bool must_wait(const struct pipeline *p)
{
	return !p->stop &&
	       (p->claiming || p->n_claimed - p->n_consumed == p->n_slots);
}

/* Holding the lock, which is given up while the source reads. */
static struct slot *claim_slot(struct pipeline *p)
{
	const struct vf_pipeline_options *o = p->opt;

	while (must_wait(p))
		pthread_cond_wait(&p->changed, &p->mtx);
	if (p->stop)
		return NULL;
	struct slot *s = &p->slots[p->n_claimed % p->n_slots];
	struct vf_chunk *c = &s->chunk;
	uint64_t in_shard = o->shard_rows - p->next_row % o->shard_rows;
	uint64_t left = o->source->n_rows - p->next_row;
	assert(s->state == SLOT_FREE);
	c->row = p->next_row;
	c->n = (size_t)VF_MIN(VF_MIN(in_shard, left), (uint64_t)p->chunk_rows);
	c->first_key = o->first_key;
	c->err = 0;
	p->claiming = true;
	pthread_mutex_unlock(&p->mtx);
	int err = o->source->ops->claim(o->source, c);
	pthread_mutex_lock(&p->mtx);
	p->claiming = false;
	p->next_row += c->n;
	p->n_claimed += !err;
	p->claim_err = err;
	p->stop = p->stop || err || p->next_row == o->source->n_rows;
	s->state = err ? SLOT_FREE : SLOT_CLAIMED;
	pthread_cond_broadcast(&p->changed);
	return err ? NULL : s;
}

static void *run_worker(void *arg)
{
	struct pipeline *p = arg;
	struct slot *s;

	pthread_mutex_lock(&p->mtx);
	while ((s = claim_slot(p))) {
		pthread_mutex_unlock(&p->mtx);
		make_chunk(p, &s->chunk);
		pthread_mutex_lock(&p->mtx);
		s->state = SLOT_READY;
		pthread_cond_broadcast(&p->changed);
	}
	pthread_mutex_unlock(&p->mtx);
	return NULL;
}

/* The next chunk in order; NULL when there is none any more. */
static struct vf_chunk *next_chunk(struct pipeline *p, int *err)
{
	struct slot *s = &p->slots[p->n_consumed % p->n_slots];

	pthread_mutex_lock(&p->mtx);
	while (s->state != SLOT_READY &&
	       (!p->stop || p->claiming || p->n_consumed < p->n_claimed))
		pthread_cond_wait(&p->changed, &p->mtx);
	bool ready = s->state == SLOT_READY;
	*err = ready ? 0 : p->claim_err;
	pthread_mutex_unlock(&p->mtx);
	return ready ? &s->chunk : NULL;
}

static void free_slot(struct pipeline *p, bool stop)
{
	pthread_mutex_lock(&p->mtx);
	p->slots[p->n_consumed % p->n_slots].state = SLOT_FREE;
	p->n_consumed++;
	p->stop = p->stop || stop;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->mtx);
}

static int gather_keys(const struct vf_chunk *c, struct vf_buf *out)
{
	VF_AUTO_BUF struct vf_buf key = {0};
	const char *text = (const char *)c->lines.data;
	int err = 0;

	for (size_t i = 0; !err && i < c->n; i++) {
		struct vf_line line;
		key.len = 0;
		err = vf_line_split(text, c->rows[i].line_len, &line);
		if (!err)
			err = vf_line_key(&line, &key);
		if (!err)
			err = vf_keys_append(out, key.data, key.len);
		text += c->rows[i].line_len;
	}
	return err ? vf_fail(err, "keys: %s", vf_strerror(err)) : 0;
}

static int consume_all(struct pipeline *p)
{
	struct vf_chunk *c;
	int err;

	while ((c = next_chunk(p, &err))) {
		err = c->err;
		if (vf_interrupted())
			err = -ECANCELED;
		else if (err)
			vf_log(VF_ERROR, "%s", c->reason);
		else if (p->opt->keys)
			err = gather_keys(c, p->opt->keys);
		if (!err)
			err = p->opt->consume(p->opt->arg, c);
		free_slot(p, err != 0);
		if (err)
			return err;
	}
	return err;
}

/* ---- memory and the whole ------------------------------------------------------------ */

static int alloc_chunk(const struct pipeline *p, struct vf_chunk *c)
{
	const struct vf_pipeline_options *o = p->opt;
	size_t n = p->chunk_rows, dim = o->source->dim;
	size_t extra_len = vf_encoder_extra_len(o->encoder);

	c->x = malloc(n * dim * sizeof(float));
	c->codes = malloc(n * vf_encoder_code_len(o->encoder));
	c->factors = malloc(n * sizeof(*c->factors));
	c->rows = calloc(n, sizeof(*c->rows));
	c->keys = malloc(n * sizeof(*c->keys));
	c->bodies = malloc(n * sizeof(*c->bodies));
	c->numbers = malloc(n * sizeof(*c->numbers));
	if (o->source->dtype != VF_F32)
		c->raw = malloc(n * o->source->raw_len);
	if (o->dtype == VF_F16)
		c->half = malloc(n * dim * sizeof(uint16_t));
	if (o->cluster)
		c->leaf = malloc(n * sizeof(*c->leaf));
	if (extra_len) {
		c->extra = malloc(n * extra_len);
		c->extra_factors = malloc(n * sizeof(*c->extra_factors));
	}
	return c->x && c->codes && c->factors && c->rows && c->keys &&
			       c->bodies && c->numbers &&
			       (c->raw || o->source->dtype == VF_F32) &&
			       (c->half || o->dtype != VF_F16) &&
			       (c->leaf || !o->cluster) &&
			       (!extra_len || (c->extra && c->extra_factors))
		       ? 0
		       : -ENOMEM;
}

static void free_chunk(struct vf_chunk *c)
{
	free(c->x);
	free(c->raw);
	free(c->half);
	free(c->codes);
	free(c->factors);
	free(c->leaf);
	free(c->extra);
	free(c->extra_factors);
	free(c->rows);
	free(c->keys);
	free(c->bodies);
	free(c->numbers);
	vf_buf_fini(&c->lines);
	vf_buf_fini(&c->text);
}

static int run_threads(struct pipeline *p)
{
	pthread_t threads[THREADS_MAX];
	unsigned n = 0, want = VF_MIN(p->opt->n_threads, (unsigned)THREADS_MAX);
	int err;

	while (n < want && !vf_thread_start(&threads[n], run_worker, p))
		n++;
	if (!n)
		return vf_fail(-ENOMEM, "cannot start a thread: %s",
			       strerror(EAGAIN));
	err = consume_all(p);
	while (n)
		pthread_join(threads[--n], NULL);
	return err;
}

int vf_pipeline_run(const struct vf_pipeline_options *opt)
{
	size_t row_len = opt->source->dim * sizeof(float);
	struct pipeline p = {.opt = opt,
			     .n_slots = opt->n_threads + 3,
			     .chunk_rows = VF_MIN(CHUNK_BYTES / row_len,
						  (size_t)CHUNK_ROWS_MAX),
			     .mtx = PTHREAD_MUTEX_INITIALIZER,
			     .changed = PTHREAD_COND_INITIALIZER};
	int err = 0;

	p.slots = calloc(p.n_slots, sizeof(*p.slots));
	if (!p.slots)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	for (size_t i = 0; !err && i < p.n_slots; i++)
		err = alloc_chunk(&p, &p.slots[i].chunk);
	if (err) {
		vf_log(VF_ERROR, "%s", vf_strerror(err));
	} else {
		opt->source->ops->rewind(opt->source);
		err = run_threads(&p);
	}
	if (!err)
		err = opt->source->ops->finish(opt->source);
	for (size_t i = 0; i < p.n_slots; i++)
		free_chunk(&p.slots[i].chunk);
	free(p.slots);
	return err;
}
