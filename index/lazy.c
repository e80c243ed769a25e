/*
 * Sections lie in private memory as they do in the file; a leaf's part of them
 * is there from when its state says so.
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
#include "index/lazy.h"
#include "index/index_impl.h"
#include "index/refine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { EMPTY, LOADING, READY };
enum { PARTS_MAX = 5 }; /* sections of one kind */

struct vf_lazy {
	struct vf_codes_source src; /* [fixed] */
	struct vf_section_ref ref[VF_N_SECTIONS_MAX];
	uint32_t n_leaves;
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	atomic_uchar *state; /* [2 * n_leaves + 1] */
	atomic_uint n_ready; /* of codes */
	atomic_size_t len;   /* bytes read */
};

/* What is loaded together. */
enum kind { CODES, EXTRA, HASHES };

static const struct part {
	enum vf_section section;
	bool has_end; /* one element more than rows */
	bool is_left; /* in the file */
} parts[][PARTS_MAX + 1] = {
	[CODES] = {{VF_SEC_CODES, false, false},
		   {VF_SEC_FACTORS, false, false},
		   {VF_SEC_LINE_OFFS, true, true},
		   {VF_SEC_ROW_CRCS, false, true},
		   {VF_SEC_LINE_CRCS, false, true},
		   {VF_N_SECTIONS_MAX, false, false}},
	[EXTRA] = {{VF_SEC_EXTRA_CODES, false, false},
		   {VF_SEC_EXTRA_FACTORS, false, false},
		   {VF_N_SECTIONS_MAX, false, false}},
};

static const struct vf_leaf_disk *leaf_at(const struct vf_index *ix, uint32_t i)
{
	return (const struct vf_leaf_disk *)ix->c.section[VF_SEC_LEAVES] + i;
}

static struct vf_extent part_extent(const struct vf_index *ix,
				    const struct part *p, uint64_t row,
				    uint64_t n)
{
	const struct vf_section_ref *r = &ix->lazy->ref[p->section];
	uint64_t each = r->len / (ix->c.n_rows + p->has_end);

	return (struct vf_extent){r->off + row * each, (n + p->has_end) * each};
}

static atomic_uchar *state_of(const struct vf_lazy *z, enum kind k, uint32_t i)
{
	return &z->state[k * (size_t)z->n_leaves + i];
}

static bool is_ready(const struct vf_lazy *z, enum kind k, uint32_t i)
{
	/* acquire: pairs with the release in end_leaves */
	return atomic_load_explicit(state_of(z, k, i), memory_order_acquire) ==
	       READY;
}

bool vf_lazy_has_extra(const struct vf_index *ix, uint32_t leaf)
{
	return !ix->lazy || is_ready(ix->lazy, EXTRA, leaf);
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

static int read_into(const struct vf_index *ix, struct vf_extent e)
{
	struct vf_lazy *z = ix->lazy;

	atomic_fetch_add_explicit(&z->len, e.len, memory_order_relaxed);
	return e.len ? z->src.read(z->src.arg, e.off, e.len, ix->bytes + e.off)
		     : 0;
}

int vf_lazy_peek(const struct vf_lazy *z, enum vf_section section, uint64_t off,
		 size_t len, void *out)
{
	return (z->src.peek ? z->src.peek : z->src.read)(
		z->src.arg, z->ref[section].off + off, len, out);
}

/* Sections that are needed whole, checked. */
static int read_small(struct vf_index *ix, const char **out_reason)
{
	static const enum vf_section small[] = {VF_SEC_ORIGIN, VF_SEC_LEAVES,
						VF_SEC_CENTROIDS, VF_SEC_TREE,
						VF_SEC_LEAF_CRCS};
	int err;

	for (size_t i = 0; i < VF_N(small); i++) {
		const struct vf_section_ref *r = &ix->lazy->ref[small[i]];
		*out_reason = NULL;
		err = read_into(ix, (struct vf_extent){r->off, r->len});
		if (err)
			return err;
		*out_reason = "a section is damaged";
		if (vf_crc32c(0, ix->bytes + r->off, r->len) != r->crc)
			return -EBADMSG;
	}
	*out_reason = vf_codes_check_leaves(&ix->c);
	return *out_reason ? -EBADMSG : 0;
}

static int make_room(struct vf_index *ix, uint64_t len)
{
	struct vf_lazy *z = ix->lazy;
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
			z->ref[s].off ? ix->bytes + z->ref[s].off : NULL;
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
		err = make_room(ix, len);
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
		want[i] &= !is_ready(ix->lazy, CODES, i);
}

static bool has_all_codes(const struct vf_index *ix)
{
	return !ix->lazy ||
	       atomic_load_explicit(&ix->lazy->n_ready, memory_order_acquire) ==
		       ix->lazy->n_leaves;
}

/*
 * Runs of wanted leaves, each as one extent of each section.
 * @left  of those that stay in the file too
 */
static size_t list_extents(const struct vf_index *ix, enum kind k,
			   const bool *want, bool left, struct vf_extent *out)
{
	size_t n = 0;

	for (const struct part *p = parts[k];
	     p->section < VF_N_SECTIONS_MAX && (left || !p->is_left); p++)
		for (uint32_t i = 0, end; i < ix->c.n_leaves; i = end + 1) {
			for (end = i; end < ix->c.n_leaves && want[end]; end++)
				;
			if (end == i)
				continue;
			uint64_t row = leaf_at(ix, i)->first_row;
			const struct vf_leaf_disk *last = leaf_at(ix, end - 1);
			out[n++] = part_extent(ix, p, row,
					       last->first_row + last->n_rows -
						       row);
		}
	return n;
}

static size_t extents_max(const struct vf_index *ix)
{
	return PARTS_MAX * ((size_t)ix->c.n_leaves / 2 + 1);
}

int vf_index_hint_leaves(const struct vf_index *ix,
			 const struct vf_scan_job *jobs, size_t n, void *cost)
{
	if (has_all_codes(ix) || !ix->lazy->src.hint)
		return 0;
	VF_AUTO_FREE bool *want = calloc(ix->c.n_leaves, sizeof(*want));
	VF_AUTO_FREE struct vf_extent *e = calloc(extents_max(ix), sizeof(*e));
	if (!want || !e)
		return -ENOMEM;
	want_jobs(ix, jobs, n, want);
	size_t n_extents = list_extents(ix, CODES, want, true, e);
	if (n_extents)
		ix->lazy->src.hint(ix->lazy->src.arg, e, n_extents, cost);
	return 0;
}

/* ---- reading --------------------------------------------------------------------------- */

/* Take leaves of @want that nobody has; leaves of others stay in @want. */
static void begin_leaves(struct vf_lazy *z, enum kind k, const bool *want,
			 bool *mine)
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

static void end_leaves(struct vf_lazy *z, enum kind k, const bool *mine,
		       bool ready)
{
	pthread_mutex_lock(&z->mtx);
	for (uint32_t i = 0; i < z->n_leaves; i++) {
		if (!mine[i])
			continue;
		/* release: what was read is seen by who sees READY */
		atomic_store_explicit(state_of(z, k, i), ready ? READY : EMPTY,
				      memory_order_release);
		if (k == CODES && ready)
			atomic_fetch_add_explicit(&z->n_ready, 1,
						  memory_order_release);
	}
	pthread_cond_broadcast(&z->changed);
	pthread_mutex_unlock(&z->mtx);
}

/* Others read them: wait.  False when one of them could not. */
static bool await_leaves(struct vf_lazy *z, enum kind k, const bool *want)
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

static bool is_sum(const struct vf_index *ix, const struct part *p,
		   const struct vf_leaf_disk *leaf, uint32_t crc)
{
	struct vf_extent e = part_extent(ix, p, leaf->first_row, leaf->n_rows);

	return vf_crc32c(0, ix->bytes + e.off, e.len) == crc;
}

/* What stays in the file of one leaf. */
static int check_left(const struct vf_index *ix, uint32_t i,
		      const char **out_reason)
{
	const struct vf_leaf_crcs *crcs = ix->c.section[VF_SEC_LEAF_CRCS];
	const uint32_t want[] = {0, 0, crcs[i].line_offs, crcs[i].row_crcs,
				 crcs[i].line_crcs};
	const struct vf_leaf_disk *leaf = leaf_at(ix, i);
	VF_AUTO_FREE uint64_t *p = malloc((leaf->n_rows + 1) * sizeof(*p));

	for (size_t j = 0; p && j < VF_N(want); j++) {
		const struct part *part = &parts[CODES][j];
		struct vf_extent e =
			part_extent(ix, part, leaf->first_row, leaf->n_rows);
		if (!part->is_left)
			continue;
		int err =
			ix->lazy->src.read(ix->lazy->src.arg, e.off, e.len, p);
		if (err)
			return err;
		if (vf_crc32c(0, p, e.len) != want[j])
			*out_reason = "the codes of a leaf are damaged";
		else if (part->section == VF_SEC_LINE_OFFS)
			*out_reason = vf_codes_check_lines(p, leaf->first_row,
							   leaf->n_rows);
		if (*out_reason)
			return -EBADMSG;
	}
	return p ? 0 : -ENOMEM;
}

static int check_leaf(const struct vf_index *ix, uint32_t i,
		      const char **out_reason)
{
	const struct vf_leaf_crcs *crcs = ix->c.section[VF_SEC_LEAF_CRCS];
	const struct vf_leaf_disk *leaf = leaf_at(ix, i);

	if (!is_sum(ix, &parts[CODES][0], leaf, leaf->codes_crc) ||
	    !is_sum(ix, &parts[CODES][1], leaf, crcs[i].factors))
		*out_reason = "the codes of a leaf are damaged";
	else
		*out_reason = vf_codes_check_rows(&ix->c, leaf->first_row,
						  leaf->n_rows);
	return *out_reason ? -EBADMSG : check_left(ix, i, out_reason);
}

/* Extra bits of each row have a checksum among their factors. */
static const char *check_extra(const struct vf_index *ix, uint32_t i)
{
	const struct vf_leaf_crcs *crcs = ix->c.section[VF_SEC_LEAF_CRCS];
	const struct vf_extra_factors *f = ix->c.section[VF_SEC_EXTRA_FACTORS];
	const uint8_t *extra = ix->c.section[VF_SEC_EXTRA_CODES];
	const struct vf_leaf_disk *leaf = leaf_at(ix, i);
	size_t len = vf_extra_len(ix->c.bits, ix->c.padded);

	if (!is_sum(ix, &parts[EXTRA][1], leaf, crcs[i].extra_factors))
		return "the extra bits of a leaf are damaged";
	for (uint64_t r = 0; r < leaf->n_rows; r++) {
		uint64_t row = leaf->first_row + r;
		if (vf_crc32c(0, extra + row * len, len) != f[row].crc)
			return "the extra bits of a leaf are damaged";
	}
	return vf_codes_check_extra(&ix->c, leaf->first_row, leaf->n_rows);
}

static int read_leaves(const struct vf_index *ix, enum kind k, const bool *mine,
		       const char **out_reason)
{
	VF_AUTO_FREE struct vf_extent *e = calloc(extents_max(ix), sizeof(*e));
	int err = e ? 0 : -ENOMEM;

	if (err)
		return err;
	size_t n = list_extents(ix, k, mine, false, e);
	for (size_t i = 0; !err && i < n; i++)
		err = read_into(ix, e[i]);
	for (uint32_t i = 0; !err && i < ix->c.n_leaves; i++) {
		if (!mine[i])
			continue;
		if (k == CODES) {
			err = check_leaf(ix, i, out_reason);
			continue;
		}
		*out_reason = check_extra(ix, i);
		err = *out_reason ? -EBADMSG : 0;
	}
	return err;
}

static int load_leaves(const struct vf_index *ix, enum kind k, const bool *want,
		       const char **out_reason)
{
	VF_AUTO_FREE bool *mine = calloc(ix->c.n_leaves, sizeof(*mine));
	struct vf_lazy *z = ix->lazy;
	int err = mine ? 0 : -ENOMEM;

	*out_reason = NULL;
	while (!err) {
		begin_leaves(z, k, want, mine);
		err = read_leaves(ix, k, mine, out_reason);
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
	return load_leaves(ix, CODES, want, out_reason);
}

/* Take from @want leaves that would cost a request. */
static int keep_near(const struct vf_index *ix, bool *want)
{
	VF_AUTO_FREE struct vf_extent *e =
		calloc(2 * (size_t)ix->c.n_leaves, sizeof(*e));
	VF_AUTO_FREE bool *near =
		calloc(2 * (size_t)ix->c.n_leaves, sizeof(*near));
	struct vf_lazy *z = ix->lazy;
	size_t n = 0;

	if (!e || !near)
		return -ENOMEM;
	for (uint32_t i = 0; i < ix->c.n_leaves; i++)
		for (int j = 0; want[i] && j < 2; j++)
			e[n++] = part_extent(ix, &parts[EXTRA][j],
					     leaf_at(ix, i)->first_row,
					     leaf_at(ix, i)->n_rows);
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
		want[leaf] = !is_ready(ix->lazy, EXTRA, leaf);
		any |= want[leaf];
	}
	if (!any)
		return 0;
	int err = near && ix->lazy->src.locate ? keep_near(ix, want) : 0;
	return err ? err : load_leaves(ix, EXTRA, want, out_reason);
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
	if (!z || is_ready(z, HASHES, 0))
		return 0;
	const struct vf_section_ref *r = &z->ref[VF_SEC_KEY_HASHES];
	VF_AUTO_FREE void *p = malloc(r->len);
	int err = p ? read_hashes(ix, p, out_reason) : -ENOMEM;
	if (err)
		return err;
	pthread_mutex_lock(&z->mtx);
	if (*state_of(z, HASHES, 0) != READY) {
		memcpy(ix->bytes + r->off, p, r->len);
		atomic_fetch_add_explicit(&z->len, r->len,
					  memory_order_relaxed);
		atomic_store_explicit(state_of(z, HASHES, 0), READY,
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
	     i < ix->c.n_leaves && leaf_at(ix, i)->first_row < row + n; i++)
		want[i] = true;
	int err = load_leaves(ix, CODES, want, out_reason);
	return err || !extra ? err : load_leaves(ix, EXTRA, want, out_reason);
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
	/* What will be there whole may be in large pages. */
	madvise(ix->bytes, ix->len, MADV_HUGEPAGE);
	int err = vf_index_load_hashes(ix, out_reason);
	return err ? err : vf_index_load_rows(ix, 0, ix->c.n_rows, out_reason);
}
