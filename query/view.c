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

static int read_whole(struct vf_view *v, const char *key,
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
		err = vf_file_load_all(&f, out);
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

static int open_whole(struct vf_view *v, const struct vf_shard_ref *r,
		      struct vf_shard *s)
{
	VF_AUTO_FREE char *key =
		vf_shard_key(v->state->name, r->name, r->codes.name);
	uint64_t last_off;
	uint32_t last_len, crc;
	const char *why;
	void *p = NULL;
	int err;

	if (!key)
		return -ENOMEM;
	err = read_whole(v, key, &r->codes, CODES_MAX, &p);
	if (err)
		return err;
	err = vf_index_open(p, r->codes.stored_len, &s->ix, &why);
	if (err)
		return fail_codes(v, r, err, why);
	if (!codes_agree(v->state, r, s->ix))
		return fail_codes(v, r, -EBADMSG,
				  "it belongs to another shard");
	vf_index_line(s->ix, r->n_rows - 1, &last_off, &last_len, &crc);
	return last_off + last_len == r->records.len
		       ? 0
		       : fail_codes(v, r, -EBADMSG,
				    "it belongs to another shard");
}

/* By leaf, where that is possible. */
static int open_codes(struct vf_view *v, const struct vf_shard_ref *r,
		      struct vf_shard *s)
{
	int err = s->is_mapped ? 1 : vf_shard_open_codes(v, r, s);

	if (err > 0)
		return open_whole(v, r, s);
	if (!err && !codes_agree(v->state, r, s->ix))
		err = fail_codes(v, r, -EBADMSG, "it belongs to another shard");
	return err;
}

/* Codes that do not fit stay in the file. */
static int unload_codes(struct vf_view *v, const struct vf_shard_ref *r,
			struct vf_shard *s)
{
	char byte;
	int err =
		vf_file_open_in_shard(vf_bucket_dir(v->bucket), v->state->name,
				      r->name, &r->codes, &s->codes);

	if (!err && vf_guarded_copy(&byte, s->codes.map, 1))
		err = vf_fail(-EINVAL,
			      "%s: to be read as needed, codes want "
			      "vf_guard_install",
			      s->codes.path);
	if (!err)
		err = vf_index_unload(s->ix, s->codes.map, vf_guarded_copy);
	if (!err) /* a leaf is read from its first row to its last */
		madvise((void *)s->codes.map, s->codes.len, MADV_NORMAL);
	return err;
}

/* Which shards' codes may be held. */
static void share_ram(struct vf_view *v)
{
	size_t left = v->ram_max;

	if (v->tree) {
		struct vf_tree_info info;
		vf_tree_info(v->tree, &info);
		left -= VF_MIN(left, info.ram_len);
	}
	for (size_t i = 0; i < v->n_shards; i++) {
		uint64_t len = v->state->shards[i].codes.stored_len;
		v->shards[i].is_mapped = len > left;
		left -= v->shards[i].is_mapped ? 0 : len;
	}
}

/* The header is ours and known to the byte. */
static int check_vectors(const struct vf_view *v, const struct vf_shard *s)
{
	uint8_t want[VF_NPY_DATA_OFF], have[VF_NPY_DATA_OFF];
	struct vf_npy npy = {.dtype = v->state->config.dtype,
			     .n_rows = s->n_rows,
			     .dim = v->state->config.dim};
	int err;

	if (s->vectors.len != VF_NPY_DATA_OFF + s->n_rows * v->row_len)
		return vf_fail(-EBADMSG, "%s: %llu bytes are not its rows",
			       s->vectors.path,
			       (unsigned long long)s->vectors.len);
	err = vf_file_read(&s->vectors, 0, sizeof(have), have);
	if (err)
		return err;
	vf_npy_header(&npy, want);
	return memcmp(want, have, sizeof(want))
		       ? vf_fail(-EBADMSG, "%s: its header is damaged",
				 s->vectors.path)
		       : 0;
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

static int open_tree(struct vf_view *v)
{
	const struct vf_tree_ref *ref = &v->state->tree;
	char key[VF_INDEX_NAME_MAX + VF_OBJECT_NAME_MAX + 16];
	VF_AUTO_FREE void *p = NULL;
	struct vf_tree_file f;
	const char *why;
	int err;

	if (!v->state->has_tree)
		return 0;
	strcpy(key, v->state->name);
	strcat(key, "/tree/");
	strcat(key, ref->object.name);
	err = read_whole(v, key, &ref->object, CODES_MAX, &p);
	if (err)
		return err;
	err = vf_tree_validate(p, ref->object.stored_len, &f, &why);
	if (!err && (f.view.dim != v->state->config.dim ||
		     f.view.metric != v->state->config.metric)) {
		err = -EBADMSG;
		why = "it belongs to another index";
	}
	if (err)
		return vf_fail(err, "%s/%s: %s", vf_bucket_url(v->bucket), key,
			       why);
	err = vf_tree_new(&f, v->state->config.rotation_seed, &v->tree);
	if (!err)
		vf_tree_trim(v->tree);
	return err;
}

/* What there is to open of a shard; and of the view, once, its tree. */
enum piece { CODES, VECTORS, RECORDS, N_PIECES };

static int open_piece(void *arg, size_t item)
{
	struct vf_view *v = arg;

	if (!item--) /* the largest, so it begins first */
		return open_tree(v);
	const struct vf_shard_ref *r = &v->state->shards[item / N_PIECES];
	struct vf_shard *s = &v->shards[item / N_PIECES];
	const char *dir = vf_bucket_dir(v->bucket), *name = v->state->name;
	int err;

	switch ((enum piece)(item % N_PIECES)) {
	case CODES:
		err = open_codes(v, r, s);
		return err || !s->is_mapped ? err : unload_codes(v, r, s);
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
		int err = read_whole(v, key, ref, EMBEDDER_MAX,
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
