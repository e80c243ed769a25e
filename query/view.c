/*
 * Opening one commit of an index by the path of its folder: its state from the
 * log, every shard's codes in memory, its two files ready to be read.
 */
#include "index/crew.h"
#include "query/engine.h"
#include "query/guard.h"
#include "query/results.h"
#include "store/npy.h"

#include <sys/mman.h>
#include <xxhash.h>

enum {
	EMBEDDER_MAX = 64 << 20,
	CODES_MAX = 1 << 30,
	OPENERS = 16, /* threads: they wait for the bucket */
};

/* ---- shards ---------------------------------------------------------------------------- */

int vf_view_read_whole(struct vf_view *v, const char *key,
		       const struct vf_object_ref *ref, size_t max, void **out)
{
	struct vf_file f;
	int err = 0;

	*out = NULL;
	if (ref->zstd || ref->stored_len > max)
		return vf_fail(-EBADMSG, "%s/%s: it is not like its kind",
			       vf_bucket_url(v->bucket), key);
	err = vf_file_open(vf_bucket_dir(v->bucket), key, ref, &f);
	if (!err)
		err = vf_file_load_first(&f, f.len, out);
	if (!err && XXH3_64bits(*out, f.len) != ref->checksum) {
		free(VF_STEAL(*out));
		err = vf_fail(-EBADMSG,
			      "%s/%s: it is not what the log says: damaged",
			      vf_bucket_url(v->bucket), key);
	}
	vf_file_close(&f);
	return err;
}

static bool codes_agree(const struct vf_state *st, const struct vf_shard_ref *r,
			const struct vf_index *ix)
{
	struct vf_index_info info;

	vf_index_info(ix, &info);
	return info.n_rows == r->n_rows && info.dim == st->config.dim &&
	       info.metric == st->config.metric &&
	       info.dtype == st->config.dtype;
}

static int fail_codes(struct vf_view *v, const struct vf_shard_ref *r, int err,
		      const char *why)
{
	return vf_fail(err, "%s/%s/shard/%s/%s: %s", vf_bucket_url(v->bucket),
		       v->state->name, r->name, r->codes.name, why);
}

/* Codes all of which can be looked at. */
static int check_codes(struct vf_view *v, const struct vf_shard_ref *r,
		       const struct vf_shard *s)
{
	uint64_t last_off;
	uint32_t last_len, crc;

	if (codes_agree(v->state, r, s->ix)) {
		vf_index_line(s->ix, r->n_rows - 1, &last_off, &last_len, &crc);
		if (last_off + last_len == r->records.len)
			return 0;
	}
	return fail_codes(v, r, -EBADMSG, "it belongs to another shard");
}

static int open_whole(struct vf_view *v, const struct vf_shard_ref *r,
		      struct vf_shard *s)
{
	VF_AUTO_FREE char *key =
		vf_shard_key(v->state->name, r->name, r->codes.name);
	const char *why;
	void *p = NULL;
	int err;

	if (!key)
		return -ENOMEM;
	err = vf_view_read_whole(v, key, &r->codes, CODES_MAX, &p);
	if (err)
		return err;
	err = vf_index_open(p, r->codes.stored_len, &s->ix, &why);
	return err ? fail_codes(v, r, err, why) : check_codes(v, r, s);
}

static void want_pages(const void *p, size_t len)
{
	uintptr_t skip = (uintptr_t)p % (uintptr_t)sysconf(_SC_PAGESIZE);

	madvise((char *)p - skip, len + skip, MADV_WILLNEED);
}

/* Codes that do not fit stay in the file, and are not held to be checked. */
static int open_mapped(struct vf_view *v, const struct vf_shard_ref *r,
		       struct vf_shard *s)
{
	const char *why;
	int err =
		vf_file_open_in_shard(vf_bucket_dir(v->bucket), v->state->name,
				      r->name, &r->codes, &s->codes);

	if (err)
		return err;
	if (!vf_guard_is_installed())
		return vf_fail(-EINVAL,
			       "%s: to be read as needed, codes want "
			       "vf_guard_install",
			       s->codes.path);
	/* Read from the beginning, then leaves from first row to last. */
	madvise((void *)s->codes.map, s->codes.len, MADV_NORMAL);
	vf_file_hint(&s->codes, 0, s->codes.len);
	const struct vf_index_mapping m = {.map = s->codes.map,
					   .len = s->codes.len,
					   .copy = vf_guarded_copy,
					   .call = vf_guarded_call,
					   .want = want_pages};
	err = vf_index_open_mapped(&m, &s->ix, &why);
	return err ? fail_codes(v, r, err, why) : check_codes(v, r, s);
}

/* By leaf, where that is possible. */
static int open_codes(struct vf_view *v, const struct vf_shard_ref *r,
		      struct vf_shard *s)
{
	int err;

	if (s->is_mapped)
		return open_mapped(v, r, s);
	err = vf_shard_open_codes(v, r, s);
	if (err > 0)
		return open_whole(v, r, s);
	if (!err && !codes_agree(v->state, r, s->ix))
		err = fail_codes(v, r, -EBADMSG, "it belongs to another shard");
	return err;
}

/* Which shards' codes may be held. */
static void share_ram(struct vf_view *v)
{
	size_t left = v->ram_max;

	for (size_t i = 0; i < v->n_shards; i++) {
		uint64_t len = v->state->shards[i].codes.stored_len;
		v->shards[i].is_mapped = len > left;
		left -= v->shards[i].is_mapped ? 0 : len;
	}
}

/* Its header is ours; rows have checksums, so nobody who searches reads it. */
static int check_vectors(const struct vf_view *v, const struct vf_shard *s)
{
	if (s->vectors.len == VF_NPY_DATA_OFF + s->n_rows * v->row_len)
		return 0;
	return vf_fail(-EBADMSG, "%s: %llu bytes are not its rows",
		       s->vectors.path, (unsigned long long)s->vectors.len);
}

/* Shards from before the tree, or smaller than it pays for, follow none. */
static int attach_tree(struct vf_view *v, const struct vf_shard_ref *r,
		       struct vf_shard *s)
{
	if (!vf_index_attach(s->ix, v->tree))
		return 0;
	return vf_fail(-EBADMSG, "%s/%s: shard %s follows another tree",
		       vf_bucket_url(v->bucket), v->state->name, r->name);
}

/* What there is to open of a shard; and of the view, once, its tree. */
enum piece { CODES, VECTORS, RECORDS, N_PIECES };

static int open_piece(void *arg, size_t item)
{
	struct vf_view *v = arg;

	if (!item--) /* the largest, so it begins first */
		return vf_view_open_tree(v);
	const struct vf_shard_ref *r = &v->state->shards[item / N_PIECES];
	struct vf_shard *s = &v->shards[item / N_PIECES];
	const char *dir = vf_bucket_dir(v->bucket), *name = v->state->name;
	int err;

	switch ((enum piece)(item % N_PIECES)) {
	case CODES:
		return open_codes(v, r, s);
	case VECTORS:
		err = vf_file_open_in_shard(dir, name, r->name, &r->vectors,
					    &s->vectors);
		return err ? err : check_vectors(v, s);
	case RECORDS:
		return vf_file_open_in_shard(dir, name, r->name, &r->records,
					     &s->records);
	case N_PIECES:
		break;
	}
	return 0;
}

static int open_shards(struct vf_view *v)
{
	size_t n = v->state->n_shards;
	uint64_t base = 0;

	v->shards = calloc(n + 1, sizeof(*v->shards));
	if (!v->shards)
		return -ENOMEM;
	v->n_shards = n;
	for (size_t i = 0; i < n; i++) {
		struct vf_shard *s = &v->shards[i];
		s->vectors.fd = s->records.fd = s->codes.fd = -1;
		s->n_rows = v->state->shards[i].n_rows;
		s->base = base;
		base += s->n_rows;
	}
	v->tail_base = base;
	share_ram(v);
	/* Each is a round to the bucket or several: together they are few. */
	int err = vf_crew_run(OPENERS, 1 + n * N_PIECES, open_piece, v);
	for (size_t i = 0; !err && i < n; i++)
		err = attach_tree(v, &v->state->shards[i], &v->shards[i]);
	v->reach = err ? 0 : vf_stage_reach(v);
	return err;
}

/* ---- open, close, describe ---------------------------------------------------------------- */

int vf_view_open(const char *path, const struct vf_view_options *opt,
		 struct vf_view **out)
{
	VF_AUTO_FREE char *url = NULL, *index = NULL;
	struct vf_view *v;
	int err;

	*out = NULL;
	if (strstr(path, "://") && strncmp(path, "file://", 7))
		return vf_fail(-EINVAL,
			       "%s: mount it first (vecfs %.*s DIR) and search "
			       "DIR%s",
			       path, (int)(strrchr(path, '/') - path), path,
			       strrchr(path, '/'));
	err = vf_target_split(path, &url, &index);
	if (err)
		return err;
	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->ram_max = opt && opt->ram_max ? opt->ram_max : SIZE_MAX;
	if (opt && opt->results_len)
		err = vf_results_new(opt->results_len, &v->results);
	if (!err)
		err = vf_filters_new(opt, &v->filters);
	if (!err)
		err = vf_bucket_open(url, NULL, &v->bucket);
	if (!err)
		err = vf_head_load(v->bucket, path, index, opt, &v->state);
	if (!err) {
		v->row_len = v->state->config.dim *
			     vf_dtype_size(v->state->config.dtype);
		err = open_shards(v);
	}
	if (err)
		vf_view_close(v);
	else
		*out = v;
	return err;
}

void vf_view_close(struct vf_view *v)
{
	if (!v)
		return;
	vf_view_load_stop(v);
	for (size_t i = 0; i < v->n_shards; i++) {
		vf_index_close(v->shards[i].ix);
		vf_file_close(&v->shards[i].vectors);
		vf_file_close(&v->shards[i].records);
		vf_file_close(&v->shards[i].codes);
	}
	free(v->shards);
	vf_tree_free(v->tree);
	vf_results_free(v->results);
	vf_filters_free(v->filters);
	free(v->embedder_data);
	vf_state_free(v->state);
	vf_bucket_close(v->bucket);
	free(v);
}

void vf_view_info(const struct vf_view *v, struct vf_view_info *out)
{
	const struct vf_index_config *c = &v->state->config;
	struct vf_tree_info tree = {0};
	struct vf_index_info codes;
	size_t ram_len;

	if (v->tree)
		vf_tree_info(v->tree, &tree);
	ram_len = tree.ram_len;
	for (size_t i = 0; i < v->n_shards; i++) {
		vf_index_info(v->shards[i].ix, &codes);
		ram_len += codes.ram_len;
	}
	*out = (struct vf_view_info){.version = v->state->head,
				     .n_rows = v->state->n_rows,
				     .n_shards = v->n_shards,
				     .dim = c->dim,
				     .metric = c->metric,
				     .dtype = c->dtype,
				     .n_leaves = tree.n_leaves,
				     .ram_len = ram_len,
				     .embedder = c->embedder};
}

int vf_view_embedder(struct vf_view *v, const void **out_data, size_t *out_len)
{
	const struct vf_object_ref *ref = &v->state->config.embedder_data;
	char key[VF_INDEX_NAME_MAX + VF_OBJECT_NAME_MAX + 16];

	*out_data = NULL;
	*out_len = 0;
	if (!ref->name[0])
		return 0;
	if (!v->embedder_data) {
		strcpy(key, v->state->name);
		strcat(key, "/embed/");
		strcat(key, ref->name);
		int err = vf_view_read_whole(v, key, ref, EMBEDDER_MAX,
					     &v->embedder_data);
		if (err)
			return err;
		v->embedder_len = ref->stored_len;
	}
	*out_data = v->embedder_data;
	*out_len = v->embedder_len;
	return 0;
}

/* ---- rows and lines ------------------------------------------------------------------------ */

struct vf_shard *vf_view_shard(const struct vf_view *v, uint64_t id)
{
	size_t lo = 0, hi = v->n_shards;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;
		if (v->shards[mid].base <= id)
			lo = mid;
		else
			hi = mid;
	}
	return &v->shards[lo];
}

void vf_view_skip(const struct vf_view *v, size_t i, struct vf_topk *top)
{
	const struct vf_dead *dead = v->state->dead[i];

	top->skip = top->skips ? top->skips[i] : dead ? dead->bits : NULL;
	top->skip_from = v->shards[i].base;
}

int vf_shard_row(const struct vf_view *v, const struct vf_shard *s,
		 uint64_t row, void *out)
{
	uint32_t crc;
	int err = vf_file_read(&s->vectors, VF_NPY_DATA_OFF + row * v->row_len,
			       v->row_len, out);

	if (!err)
		err = vf_index_row_crc(s->ix, row, &crc);
	if (!err && vf_crc32c(0, out, v->row_len) != crc)
		return vf_fail(-EBADMSG, "%s: row %llu is damaged",
			       s->vectors.path, (unsigned long long)row);
	return err;
}

int vf_shard_line(const struct vf_shard *s, uint64_t row, char **out_line,
		  size_t *out_len)
{
	uint64_t off;
	uint32_t len, crc;

	int err = vf_index_line(s->ix, row, &off, &len, &crc);
	VF_AUTO_FREE char *p = malloc((size_t)len + 1);
	if (!err && !p)
		return -ENOMEM;
	if (!err && (off > s->records.len || len > s->records.len - off))
		err = -EBADMSG;
	if (!err)
		err = vf_file_read(&s->records, off, len, p);
	if (err)
		return err == -EBADMSG
			       ? vf_fail(err, "%s: row %llu has no line",
					 s->records.path,
					 (unsigned long long)row)
			       : err;
	if (vf_crc32c(0, p, len) != crc)
		return vf_fail(-EBADMSG, "%s: line %llu is damaged",
			       s->records.path, (unsigned long long)row);
	p[len] = '\0';
	*out_line = VF_STEAL(p);
	*out_len = len;
	return 0;
}
