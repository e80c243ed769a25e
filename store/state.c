/*
 * Folding records into a state.
 *
 *   - every record names the checksum of the one before it
 *   - n_rows is the sum over places of rows that did not die
 *   - a row dies once; a record of the tail whose last row died is forgotten
 *   - what refs > 1 holds is never written to
 */
#include "store/state_impl.h"

/* ---- what is shared -------------------------------------------------------------------- */

static void get_ref(unsigned *refs)
{
	__atomic_fetch_add(refs, 1, __ATOMIC_RELAXED);
}

/* True for the last one; pairs with the other threads' releases. */
static bool put_ref(unsigned *refs)
{
	return __atomic_fetch_sub(refs, 1, __ATOMIC_ACQ_REL) == 1;
}

struct vf_dead *vf_dead_get(struct vf_dead *d)
{
	if (d)
		get_ref(&d->refs);
	return d;
}

void vf_dead_put(struct vf_dead *d)
{
	if (d && put_ref(&d->refs))
		free(d);
}

static void put_inline(struct vf_inline *i)
{
	if (i && put_ref(&i->refs))
		free(i);
}

/* A bitmap that only *at holds, made or copied as needed.  NULL: no memory. */
static struct vf_dead *own_dead(struct vf_dead **at, uint64_t n_rows)
{
	size_t len = sizeof(**at) + (n_rows + 63) / 64 * 8;
	struct vf_dead *d;

	if (*at && __atomic_load_n(&(*at)->refs, __ATOMIC_ACQUIRE) == 1)
		return *at;
	d = calloc(1, len);
	if (!d)
		return NULL;
	if (*at)
		memcpy(d, *at, len);
	d->refs = 1;
	d->n_rows = n_rows;
	vf_dead_put(*at);
	return *at = d;
}

/* One block: the struct, offsets of lines, vectors, lines. */
static struct vf_inline *copy_inline(const struct vf_upsert *u)
{
	size_t offs_len = (u->n_rows + 1) * sizeof(uint32_t);
	size_t vectors_len = u->n_rows * u->row_len;
	struct vf_inline *i =
		malloc(sizeof(*i) + offs_len + vectors_len + u->lines_len);
	uint32_t *offs = (uint32_t *)(i + 1), off = 0;

	if (!i)
		return NULL;
	uint8_t *vectors = (uint8_t *)offs + offs_len;
	*i = (struct vf_inline){.refs = 1,
				.n_rows = u->n_rows,
				.row_len = u->row_len,
				.next_key = u->next_key,
				.vectors = vectors,
				.lines = (char *)vectors + vectors_len,
				.line_offs = offs};
	for (uint64_t row = 0; row < u->n_rows; row++) {
		offs[row] = off;
		off += vf_le32(u->line_lens + 4 * row);
	}
	offs[u->n_rows] = off;
	memcpy(vectors, u->vectors, vectors_len);
	memcpy(vectors + vectors_len, u->lines, u->lines_len);
	return i;
}

/* ---- life ------------------------------------------------------------------------------ */

struct vf_state *vf_state_new(const char *name, const uint8_t uuid[16])
{
	struct vf_state *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	assert(strlen(name) < sizeof(s->name));
	strcpy(s->name, name);
	memcpy(s->uuid, uuid, sizeof(s->uuid));
	return s;
}

static void forget_rows(struct vf_state *s)
{
	for (size_t i = 0; i < s->n_shards; i++)
		vf_dead_put(s->dead[i]);
	for (size_t i = 0; i < s->n_tail; i++) {
		vf_dead_put(s->tail[i].dead);
		put_inline(s->tail[i].rows);
	}
	s->n_shards = s->n_tail = 0;
	s->n_rows = 0;
}

void vf_state_free(struct vf_state *s)
{
	if (!s)
		return;
	forget_rows(s);
	free(s->shards);
	free(s->dead);
	free(s->tail);
	free(s);
}

struct vf_state *vf_state_copy(const struct vf_state *s)
{
	struct vf_state *c = malloc(sizeof(*c));

	if (!c)
		return NULL;
	*c = *s;
	c->n_shards = c->n_tail = 0; /* until they are there */
	c->shards = malloc((s->n_shards + 1) * sizeof(*c->shards));
	c->dead = malloc((s->n_shards + 1) * sizeof(*c->dead));
	c->tail = malloc((s->n_tail + 1) * sizeof(*c->tail));
	if (!c->shards || !c->dead || !c->tail) {
		vf_state_free(c);
		return NULL;
	}
	for (; c->n_shards < s->n_shards; c->n_shards++) {
		c->shards[c->n_shards] = s->shards[c->n_shards];
		c->dead[c->n_shards] = vf_dead_get(s->dead[c->n_shards]);
	}
	for (; c->n_tail < s->n_tail; c->n_tail++) {
		c->tail[c->n_tail] = s->tail[c->n_tail];
		get_ref(&c->tail[c->n_tail].rows->refs);
		vf_dead_get(c->tail[c->n_tail].dead);
	}
	return c;
}

/* ---- looking ----------------------------------------------------------------------------- */

size_t vf_state_shard(const struct vf_state *s, const char *name)
{
	for (size_t i = 0; i < s->n_shards; i++)
		if (!strcmp(s->shards[i].name, name))
			return i;
	return SIZE_MAX;
}

size_t vf_state_tail(const struct vf_state *s, uint64_t record)
{
	for (size_t i = 0; i < s->n_tail; i++)
		if (s->tail[i].record == record)
			return i;
	return SIZE_MAX;
}

void vf_state_count(const struct vf_state *s, struct vf_state_counts *out)
{
	*out = (struct vf_state_counts){0};
	for (size_t i = 0; i < s->n_shards; i++) {
		out->shard_rows += s->shards[i].n_rows;
		out->shard_dead += vf_dead_count(s->dead[i]);
	}
	for (size_t i = 0; i < s->n_tail; i++) {
		const struct vf_inline *r = s->tail[i].rows;
		out->tail_rows += r->n_rows - vf_dead_count(s->tail[i].dead);
		out->tail_len +=
			r->n_rows * r->row_len + r->line_offs[r->n_rows];
	}
}

/* ---- operations -------------------------------------------------------------------------- */

/* Uploaded before what is kept: it may be deleted any moment. */
static bool is_void(const struct vf_state *s, uint64_t head)
{
	return head < s->oldest && s->restored != s->head + 1;
}

static const char *add_shard(struct vf_state *s, const struct vf_shard_ref *r)
{
	if (vf_state_shard(s, r->name) != SIZE_MAX)
		return "it adds a shard that is there already";
	if (is_void(s, vf_shard_head(r->name)))
		return "it adds a shard older than what is kept";
	struct vf_shard_ref *p =
		realloc(s->shards, (s->n_shards + 1) * sizeof(*p));
	if (!p)
		return "no memory";
	s->shards = p;
	struct vf_dead **d = realloc(s->dead, (s->n_shards + 1) * sizeof(*d));
	if (!d)
		return "no memory";
	s->dead = d;
	p[s->n_shards] = *r;
	d[s->n_shards++] = NULL;
	s->n_rows += r->n_rows;
	s->next_key = VF_MAX(s->next_key, r->next_key);
	return NULL;
}

static const char *remove_shard(struct vf_state *s, const char *name)
{
	size_t at = vf_state_shard(s, name);

	if (at == SIZE_MAX)
		return "it removes a shard that is not there";
	s->n_rows -= s->shards[at].n_rows - vf_dead_count(s->dead[at]);
	vf_dead_put(s->dead[at]);
	s->n_shards--;
	memmove(s->shards + at, s->shards + at + 1,
		(s->n_shards - at) * sizeof(*s->shards));
	memmove(s->dead + at, s->dead + at + 1,
		(s->n_shards - at) * sizeof(struct vf_dead *));
	return NULL;
}

static const char *add_rows(struct vf_state *s, const struct vf_upsert *u)
{
	uint64_t record = s->head + 1;

	if (u->row_len != s->config.dim * vf_dtype_size(s->config.dtype))
		return "its inline rows have another dimension";
	if (s->n_tail && s->tail[s->n_tail - 1].record == record)
		return "it carries inline rows twice";
	struct vf_tail *p = realloc(s->tail, (s->n_tail + 1) * sizeof(*p));
	if (!p)
		return "no memory";
	s->tail = p;
	p[s->n_tail] =
		(struct vf_tail){.record = record, .rows = copy_inline(u)};
	if (!p[s->n_tail].rows)
		return "no memory";
	s->n_tail++;
	s->n_rows += u->n_rows;
	s->next_key = VF_MAX(s->next_key, u->next_key);
	return NULL;
}

static void forget_tail(struct vf_state *s, size_t at)
{
	vf_dead_put(s->tail[at].dead);
	put_inline(s->tail[at].rows);
	s->n_tail--;
	memmove(s->tail + at, s->tail + at + 1,
		(s->n_tail - at) * sizeof(*s->tail));
}

static const char *kill_rows(struct vf_state *s, const struct vf_kill *k)
{
	bool shard = k->shard[0];
	size_t at = shard ? vf_state_shard(s, k->shard)
			  : vf_state_tail(s, k->record);
	uint64_t cursor = 0, n_rows;
	uint32_t row;

	if (at == SIZE_MAX)
		return "it kills rows of a place that is not there";
	n_rows = shard ? s->shards[at].n_rows : s->tail[at].rows->n_rows;
	struct vf_dead *d =
		own_dead(shard ? &s->dead[at] : &s->tail[at].dead, n_rows);
	if (!d)
		return "no memory";
	while (vf_kill_next(k, &cursor, &row)) {
		if (row >= n_rows)
			return "it kills a row that never was";
		if (vf_dead_has(d, row))
			return "it kills a row that is dead";
		d->bits[row / 64] |= UINT64_C(1) << row % 64;
	}
	d->n_dead += k->n_rows;
	s->n_rows -= k->n_rows;
	if (!shard && d->n_dead == n_rows)
		forget_tail(s, at);
	return NULL;
}

static const char *configure(struct vf_state *s,
			     const struct vf_index_config *c)
{
	if (s->configured)
		return "it configures the index a second time";
	if (is_void(s, vf_object_head(c->embedder_data.name)))
		return "it names an embedder older than what is kept";
	s->configured = true;
	s->dropped = false;
	s->config = *c;
	return NULL;
}

static const char *collect(struct vf_state *s, uint64_t below)
{
	if (below <= s->oldest || below > s->head)
		return "it collects what it cannot";
	s->oldest = below;
	return NULL;
}

static void drop(struct vf_state *s)
{
	forget_rows(s);
	s->configured = s->has_tree = false;
	s->dropped = true;
	s->next_key = 0;
	memset(&s->config, 0, sizeof(s->config));
	memset(&s->tree, 0, sizeof(s->tree));
}

static const char *restore(struct vf_state *s, uint64_t version)
{
	if (version < s->oldest || !version || version > s->head)
		return "it brings back a version that is not kept";
	s->restored = s->head + 1;
	return NULL;
}

static const char *set_tree(struct vf_state *s, const struct vf_tree_ref *t)
{
	if (is_void(s, vf_object_head(t->object.name)))
		return "it sets a tree older than what is kept";
	s->has_tree = true;
	s->tree = *t;
	return NULL;
}

const char *vf_state_fold(struct vf_state *s, const struct vf_op *op)
{
	if (op->kind == VF_OP_CONFIGURE)
		return configure(s, &op->configure);
	if (op->kind == VF_OP_COLLECT)
		return collect(s, op->collect_below);
	if (op->kind == VF_OP_RESTORE)
		return restore(s, op->restore);
	if (!s->configured)
		return "it comes before the index is configured";
	switch (op->kind) {
	case VF_OP_ADD_SHARD:
		return add_shard(s, &op->add_shard);
	case VF_OP_REMOVE_SHARD:
		return remove_shard(s, op->remove_shard);
	case VF_OP_UPSERT:
		return add_rows(s, &op->upsert);
	case VF_OP_KILL:
		return kill_rows(s, &op->kill);
	case VF_OP_DROP:
		drop(s);
		return NULL;
	case VF_OP_SET_TREE:
		return set_tree(s, &op->set_tree);
	case VF_OP_DELETE: /* its kills say what it did */
	default:
		return NULL;
	}
}

const char *vf_state_apply(struct vf_state *s, const struct vf_record *r,
			   uint64_t checksum)
{
	const char *why = NULL;

	if (memcmp(r->uuid, s->uuid, sizeof(s->uuid)))
		return "it belongs to another index";
	if (r->number != s->head + 1)
		return "its number is not its name";
	if (r->previous != s->head_checksum)
		return "it does not follow the record before it";
	for (size_t i = 0; !why && i < r->n_ops; i++)
		why = vf_state_fold(s, &r->ops[i]);
	s->head++;
	s->head_checksum = checksum;
	if (s->n_tail && s->tail[s->n_tail - 1].record == s->head)
		s->tail[s->n_tail - 1].checksum = checksum;
	return why;
}
