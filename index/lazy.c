/*
 * Sections lie in private memory by row, however they do in the file; a leaf's
 * part of them is there from when its state says so.
 *
 *   state[leaf]  EMPTY -> LOADING -> READY, or back  [mtx], READY [atomic]
 *
 * Codes of a leaf and what else a row needs (factors, where its line is, its
 * checksums) are one thing, extra bits another, key hashes a third: states are
 * three arrays in one, the last of one element.  Where lines are and checksums,
 * 16 bytes a row, are wanted of few rows: they are read with the codes, checked
 * and let go of, and come from the file, which is then in the page cache.
 *
 * No lock is held while bytes are read; others who want the same leaf wait.
 */
#include "index/lazy_impl.h"

#include <sys/mman.h>

enum { EMPTY, LOADING, READY };

static atomic_uchar *state_of(const struct vf_lazy *z, enum vf_lazy_kind k,
			      uint32_t i)
{
	return &z->state[k * (size_t)z->n_leaves + i];
}

static bool is_ready(const struct vf_lazy *z, enum vf_lazy_kind k, uint32_t i)
{
	/* acquire: pairs with the release in end_leaves */
	return atomic_load_explicit(state_of(z, k, i), memory_order_acquire) ==
	       READY;
}

bool vf_lazy_has_extra(const struct vf_index *ix, uint32_t leaf)
{
	return !ix->lazy || is_ready(ix->lazy, VF_LAZY_EXTRA, leaf);
}

/* ---- opening --------------------------------------------------------------------------- */

static void fini_lazy(struct vf_lazy *z)
{
	pthread_mutex_destroy(&z->mtx);
	pthread_cond_destroy(&z->changed);
	free(z->state);
	free(z);
}

void vf_lazy_free(struct vf_index *ix)
{
	if (ix->bytes)
		munmap(ix->bytes, ix->len);
	ix->bytes = NULL;
	fini_lazy(ix->lazy);
}

size_t vf_lazy_len(const struct vf_lazy *z)
{
	return atomic_load_explicit(&z->len, memory_order_relaxed);
}

int vf_lazy_peek(const struct vf_index *ix, enum vf_section section,
		 uint64_t row, size_t len, void *out)
{
	const struct vf_codes_source *src = &ix->lazy->src;
	uint32_t i = vf_index_row_leaf(ix, row);
	const struct vf_leaf_disk *leaf = vf_lazy_leaf(ix, i);
	struct vf_extent e = vf_lazy_extent(ix, i, section);
	uint64_t each = e.len / (leaf->n_rows + (section == VF_SEC_LINE_OFFS));

	return (src->peek ? src->peek : src->read)(
		src->arg, e.off + (row - leaf->first_row) * each, len, out);
}

/* Sections that are needed whole, checked. */
static int read_small(struct vf_index *ix, const char **out_reason)
{
	static const enum vf_section small[] = {VF_SEC_ORIGIN, VF_SEC_LEAVES,
						VF_SEC_CENTROIDS, VF_SEC_TREE,
						VF_SEC_LEAF_CRCS};
	struct vf_lazy *z = ix->lazy;

	for (size_t i = 0; i < VF_N(small); i++) {
		const struct vf_section_ref *r = &z->ref[small[i]];
		void *to = (void *)ix->c.section[small[i]];
		if (!r->len)
			continue;
		*out_reason = NULL;
		int err = z->src.read(z->src.arg, r->off, r->len, to);
		if (err)
			return err;
		atomic_fetch_add_explicit(&z->len, r->len,
					  memory_order_relaxed);
		*out_reason = "a section is damaged";
		if (vf_crc32c(0, to, r->len) != r->crc)
			return -EBADMSG;
	}
	*out_reason = vf_codes_check_leaves(&ix->c);
	return *out_reason ? -EBADMSG : 0;
}

/* Sections that memory has. */
static bool is_held(const struct vf_lazy *z, const struct vf_codes *c,
		    enum vf_section s)
{
	return !vf_lazy_is_left(s) && vf_codes_has_rows(c, s, z->ref[s].off);
}

static int make_room(struct vf_index *ix)
{
	struct vf_lazy *z = ix->lazy;
	uint64_t at[VF_N_SECTIONS_MAX], len = 0;

	for (int s = 0; s < VF_N_SECTIONS_MAX; s++) {
		at[s] = len;
		if (is_held(z, &ix->c, s))
			len = vf_round_up(len + vf_codes_len(&ix->c, s), 64);
	}
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	z->n_leaves = ix->c.n_leaves;
	z->state = calloc(2 * (size_t)z->n_leaves + 1, sizeof(*z->state));
	if (p == MAP_FAILED || !z->state) {
		if (p != MAP_FAILED)
			munmap(p, len);
		return -ENOMEM;
	}
	ix->bytes = p;
	ix->len = len;
	for (int s = 0; s < VF_N_SECTIONS_MAX; s++)
		ix->c.section[s] =
			is_held(z, &ix->c, s) ? ix->bytes + at[s] : NULL;
	return 0;
}

static int open_lazy(struct vf_index *ix, uint64_t len, const char **out_reason)
{
	uint8_t head[VF_CODES_TABLE_MAX];
	size_t n = VF_MIN(len, (uint64_t)sizeof(head));
	struct vf_lazy *z = ix->lazy;
	int err;

	*out_reason = NULL;
	err = z->src.read(z->src.arg, 0, n, head);
	if (err)
		return err;
	err = vf_codes_table(head, n, len, &ix->c, z->ref, out_reason);
	if (!err && !z->ref[VF_SEC_LEAF_CRCS].off)
		err = -ENOENT;
	*out_reason = err ? *out_reason : "no memory";
	if (!err)
		err = make_room(ix);
	if (!err)
		err = read_small(ix, out_reason);
	if (!err)
		err = vf_rotation_new(ix->c.dim, ix->c.rotation_seed,
				      &ix->rotation);
	return err;
}

int vf_index_open_lazy(const struct vf_codes_source *src, uint64_t len,
		       struct vf_index **out, const char **out_reason)
{
	struct vf_index *ix = calloc(1, sizeof(*ix));
	int err;

	*out = NULL;
	*out_reason = "no memory";
	if (ix)
		ix->lazy = calloc(1, sizeof(*ix->lazy));
	if (!ix || !ix->lazy) {
		free(ix);
		return -ENOMEM;
	}
	ix->lazy->src = *src;
	pthread_mutex_init(&ix->lazy->mtx, NULL);
	pthread_cond_init(&ix->lazy->changed, NULL);
	err = open_lazy(ix, len, out_reason);
	if (err)
		vf_index_close(ix);
	else
		*out = ix;
	return err;
}

/* ---- which leaves -------------------------------------------------------------------- */

/* Mark in @want, [n_leaves], what the jobs look into and is not there. */
static void want_jobs(const struct vf_index *ix, const struct vf_scan_job *jobs,
		      size_t n, bool *want)
{
	for (size_t i = 0; i < n; i++) {
		if (!ix->tree || !jobs[i].probes) {
			memset(want, true, ix->c.n_leaves);
			vf_index_expect_all(ix);
			break;
		}
		for (uint32_t j = 0; j < jobs[i].n_probes; j++) {
			uint32_t leaf =
				vf_index_tree_leaf(ix, jobs[i].probes[j].leaf);
			if (leaf < ix->c.n_leaves)
				want[leaf] = true;
		}
	}
	for (uint32_t i = 0; i < ix->c.n_leaves; i++)
		want[i] &= !is_ready(ix->lazy, VF_LAZY_CODES, i);
}

static bool has_all_codes(const struct vf_index *ix)
{
	return !ix->lazy ||
	       atomic_load_explicit(&ix->lazy->n_ready, memory_order_acquire) ==
		       ix->lazy->n_leaves;
}

static int compare_extents(const void *a, const void *b)
{
	const struct vf_extent *x = a, *y = b;

	return (x->off > y->off) - (x->off < y->off);
}

/* Where the file has the wanted leaves, as few extents as that is. */
static size_t list_extents(const struct vf_index *ix, enum vf_lazy_kind k,
			   const bool *want, struct vf_extent *out)
{
	size_t n_parts, n = 0, last = 0;
	const enum vf_section *p = vf_lazy_parts(k, &n_parts);

	for (uint32_t i = 0; i < ix->c.n_leaves; i++)
		for (size_t j = 0; want[i] && j < n_parts; j++)
			out[n++] = vf_lazy_extent(ix, i, p[j]);
	qsort(out, n, sizeof(*out), compare_extents);
	for (size_t i = 1; i < n; i++) {
		if (out[i].off > out[last].off + out[last].len)
			out[++last] = out[i];
		else
			out[last].len = out[i].off + out[i].len - out[last].off;
	}
	return n ? last + 1 : 0;
}

static size_t extents_max(const struct vf_index *ix)
{
	return VF_CODES_PARTS_MAX * (size_t)ix->c.n_leaves;
}

/* Of a mapped shard; one that is scanned whole is read ahead by itself. */
static void want_leaves(const struct vf_index *ix,
			const struct vf_scan_job *job)
{
	for (uint32_t i = 0; job->probes && i < job->n_probes; i++) {
		uint32_t n = vf_index_tree_leaf(ix, job->probes[i].leaf);
		if (n >= ix->c.n_leaves)
			continue;
		const struct vf_leaf_disk *l = vf_lazy_leaf(ix, n);
		vf_index_want(ix, VF_SEC_CODES, l->first_row, l->n_rows,
			      ix->c.padded / 8);
		vf_index_want(ix, VF_SEC_FACTORS, l->first_row, l->n_rows,
			      sizeof(struct vf_factors));
	}
}

int vf_index_hint_leaves(const struct vf_index *ix,
			 const struct vf_scan_job *jobs, size_t n, void *cost)
{
	for (size_t i = 0; ix->want && ix->tree && i < n; i++)
		want_leaves(ix, &jobs[i]);
	if (has_all_codes(ix) || !ix->lazy->src.hint)
		return 0;
	VF_AUTO_FREE bool *want = calloc(ix->c.n_leaves, sizeof(*want));
	VF_AUTO_FREE struct vf_extent *e = calloc(extents_max(ix), sizeof(*e));
	if (!want || !e)
		return -ENOMEM;
	want_jobs(ix, jobs, n, want);
	size_t n_extents = list_extents(ix, VF_LAZY_CODES, want, e);
	if (n_extents)
		ix->lazy->src.hint(ix->lazy->src.arg, e, n_extents, cost);
	return 0;
}

/* ---- reading --------------------------------------------------------------------------- */

/* Take leaves of @want that nobody has; leaves of others stay in @want. */
static void begin_leaves(struct vf_lazy *z, enum vf_lazy_kind k,
			 const bool *want, bool *mine)
{
	pthread_mutex_lock(&z->mtx);
	for (uint32_t i = 0; i < z->n_leaves; i++) {
		mine[i] = want[i] && *state_of(z, k, i) == EMPTY;
		if (mine[i])
			atomic_store_explicit(state_of(z, k, i), LOADING,
					      memory_order_relaxed);
	}
	pthread_mutex_unlock(&z->mtx);
}

static void end_leaves(struct vf_lazy *z, enum vf_lazy_kind k, const bool *mine,
		       bool ready)
{
	pthread_mutex_lock(&z->mtx);
	for (uint32_t i = 0; i < z->n_leaves; i++) {
		if (!mine[i])
			continue;
		/* release: what was read is seen by who sees READY */
		atomic_store_explicit(state_of(z, k, i), ready ? READY : EMPTY,
				      memory_order_release);
		if (k == VF_LAZY_CODES && ready)
			atomic_fetch_add_explicit(&z->n_ready, 1,
						  memory_order_release);
	}
	pthread_cond_broadcast(&z->changed);
	pthread_mutex_unlock(&z->mtx);
}

/* Others read them: wait.  False when one of them could not. */
static bool await_leaves(struct vf_lazy *z, enum vf_lazy_kind k,
			 const bool *want)
{
	bool ready = true;

	pthread_mutex_lock(&z->mtx);
	for (uint32_t i = 0; i < z->n_leaves; i++) {
		while (want[i] && *state_of(z, k, i) == LOADING)
			pthread_cond_wait(&z->changed, &z->mtx);
		ready &= !want[i] || *state_of(z, k, i) == READY;
	}
	pthread_mutex_unlock(&z->mtx);
	return ready;
}

static int load_leaves(const struct vf_index *ix, enum vf_lazy_kind k,
		       const bool *want, const char **out_reason)
{
	VF_AUTO_FREE bool *mine = calloc(ix->c.n_leaves, sizeof(*mine));
	struct vf_lazy *z = ix->lazy;
	int err = mine ? 0 : -ENOMEM;

	*out_reason = NULL;
	while (!err) {
		begin_leaves(z, k, want, mine);
		err = vf_lazy_read(ix, k, mine, out_reason);
		end_leaves(z, k, mine, !err);
		/* What others failed to read is tried here. */
		if (!err && await_leaves(z, k, want))
			break;
	}
	return err;
}

int vf_index_load_leaves(const struct vf_index *ix,
			 const struct vf_scan_job *jobs, size_t n,
			 const char **out_reason)
{
	*out_reason = NULL;
	if (has_all_codes(ix))
		return 0;
	VF_AUTO_FREE bool *want = calloc(ix->c.n_leaves, sizeof(*want));
	if (!want)
		return -ENOMEM;
	want_jobs(ix, jobs, n, want);
	return load_leaves(ix, VF_LAZY_CODES, want, out_reason);
}

/* Take from @want leaves that would cost a request. */
static int keep_near(const struct vf_index *ix, bool *want)
{
	VF_AUTO_FREE struct vf_extent *e =
		calloc(2 * (size_t)ix->c.n_leaves, sizeof(*e));
	VF_AUTO_FREE bool *near =
		calloc(2 * (size_t)ix->c.n_leaves, sizeof(*near));
	struct vf_lazy *z = ix->lazy;
	size_t n_parts, n = 0;
	const enum vf_section *p = vf_lazy_parts(VF_LAZY_EXTRA, &n_parts);

	if (!e || !near)
		return -ENOMEM;
	for (uint32_t i = 0; i < ix->c.n_leaves; i++)
		for (size_t j = 0; want[i] && j < n_parts; j++)
			e[n++] = vf_lazy_extent(ix, i, p[j]);
	if (n)
		z->src.locate(z->src.arg, e, n, near);
	n = 0;
	for (uint32_t i = 0; i < ix->c.n_leaves; i++)
		if (want[i]) {
			want[i] = near[n] && near[n + 1];
			n += 2;
		}
	return 0;
}

int vf_index_load_extra(const struct vf_index *ix,
			const struct vf_refined *rows, size_t n, bool near,
			const char **out_reason)
{
	bool any = false;

	*out_reason = NULL;
	if (!ix->lazy || ix->c.bits == 1)
		return 0;
	VF_AUTO_FREE bool *want = calloc(ix->c.n_leaves, sizeof(*want));
	if (!want)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		uint32_t leaf = vf_index_row_leaf(ix, rows[i].row);
		want[leaf] = !is_ready(ix->lazy, VF_LAZY_EXTRA, leaf);
		any |= want[leaf];
	}
	if (!any)
		return 0;
	int err = near && ix->lazy->src.locate ? keep_near(ix, want) : 0;
	return err ? err : load_leaves(ix, VF_LAZY_EXTRA, want, out_reason);
}

static int read_hashes(const struct vf_index *ix, void *room,
		       const char **out_reason)
{
	struct vf_lazy *z = ix->lazy;
	const struct vf_section_ref *r = &z->ref[VF_SEC_KEY_HASHES];
	int err = z->src.read(z->src.arg, r->off, r->len, room);

	if (!err && vf_crc32c(0, room, r->len) != r->crc) {
		*out_reason = "a section is damaged";
		err = -EBADMSG;
	}
	return err;
}

int vf_index_load_hashes(const struct vf_index *ix, const char **out_reason)
{
	struct vf_lazy *z = ix->lazy;

	*out_reason = NULL;
	if (!z || is_ready(z, VF_LAZY_HASHES, 0))
		return 0;
	const struct vf_section_ref *r = &z->ref[VF_SEC_KEY_HASHES];
	VF_AUTO_FREE void *p = malloc(r->len);
	int err = p ? read_hashes(ix, p, out_reason) : -ENOMEM;
	if (err)
		return err;
	pthread_mutex_lock(&z->mtx);
	if (*state_of(z, VF_LAZY_HASHES, 0) != READY) {
		memcpy((void *)ix->c.section[VF_SEC_KEY_HASHES], p, r->len);
		atomic_fetch_add_explicit(&z->len, r->len,
					  memory_order_relaxed);
		atomic_store_explicit(state_of(z, VF_LAZY_HASHES, 0), READY,
				      memory_order_release);
	}
	pthread_mutex_unlock(&z->mtx);
	return 0;
}

static int load_rows(const struct vf_index *ix, uint64_t row, uint64_t n,
		     bool extra, const char **out_reason)
{
	VF_AUTO_FREE bool *want = calloc(ix->c.n_leaves, sizeof(*want));

	if (!want)
		return -ENOMEM;
	for (uint32_t i = vf_index_row_leaf(ix, row);
	     i < ix->c.n_leaves && vf_lazy_leaf(ix, i)->first_row < row + n;
	     i++)
		want[i] = true;
	int err = load_leaves(ix, VF_LAZY_CODES, want, out_reason);
	return err || !extra ? err
			     : load_leaves(ix, VF_LAZY_EXTRA, want, out_reason);
}

int vf_index_load_row(const struct vf_index *ix, uint64_t row,
		      const char **out_reason)
{
	*out_reason = NULL;
	return has_all_codes(ix) ? 0 : load_rows(ix, row, 1, false, out_reason);
}

int vf_index_load_rows(const struct vf_index *ix, uint64_t row, uint64_t n,
		       const char **out_reason)
{
	*out_reason = NULL;
	return ix->lazy ? load_rows(ix, row, n, ix->c.bits > 1, out_reason) : 0;
}

int vf_index_load_all(const struct vf_index *ix, const char **out_reason)
{
	*out_reason = NULL;
	if (!ix->lazy)
		return 0;
	vf_index_expect_all(ix);
	int err = vf_index_load_hashes(ix, out_reason);
	return err ? err : vf_index_load_rows(ix, 0, ix->c.n_rows, out_reason);
}
