/* vectool get: vectors and metadata by key. */
#include <jansson.h>
#include <stdio.h>

#include "index/index.h"
#include "query/shard_codes.h"
#include "store/change.h"
#include "store/npy.h"
#include "store/recordfile.h"
#include "tools/interrupt.h"
#include "tools/keyfile.h"
#include "tools/progress.h"
#include "tools/target.h"
#include "tools/verb.h"

enum { KEYS_MAX = 65536 }; /* held in memory with their rows */

static struct {
	const char *keys, *npy, *cache_dir;
	bool json;
} opt;

static const struct vf_arg options[] = {
	{"keys", 0, VF_ARG_STRING, &opt.keys, 0, 0},
	{"npy", 0, VF_ARG_STRING, &opt.npy, 0, 0},
	{"json", 0, VF_ARG_FLAG, &opt.json, 0, 0},
	{"cache-dir", 0, VF_ARG_STRING, &opt.cache_dir, 0, 0},
	{0}};

struct wanted {
	const char *key;
	size_t key_len;
	struct vf_place place;
	size_t metadata_off, metadata_len;
	size_t number; /* as asked for */
};

struct get {
	struct vf_changer ch;
	struct vf_progress progress;
	struct wanted *wanted;
	size_t n, row_len;
	struct vf_buf metadata;
	uint8_t *rows; /* [n][row_len] as asked for */
};

/* ---- rows -------------------------------------------------------------------------- */

static int read_row(struct get *g, struct vf_recordfile *f,
		    const struct vf_index *codes, const struct wanted *w)
{
	VF_AUTO_BUF struct vf_buf row = {0};
	uint32_t crc;
	int err =
		vf_recordfile_copy(f,
				   VF_NPY_DATA_OFF + w->place.row * g->row_len,
				   g->row_len, &row);

	if (!err)
		err = vf_index_row_crc(codes, w->place.row, &crc);
	if (err)
		return err;
	if (vf_crc32c(0, row.data, row.len) != crc)
		return vf_fail(-EBADMSG, "%s: row %u of shard %s is damaged",
			       g->ch.index, w->place.row,
			       g->ch.state->shards[w->place.at].name);
	memcpy(g->rows + w->number * g->row_len, row.data, g->row_len);
	return 0;
}

/* @n rows of one shard. */
static int read_shard(struct get *g, const struct wanted *w, size_t n)
{
	struct vf_shard_ref r = g->ch.state->shards[w->place.at];
	struct vf_index *codes = NULL;
	struct vf_recordfile *f = NULL;
	int err = vf_shard_codes_open(g->ch.bucket, g->ch.index, &r, &codes);

	if (err)
		return err;
	r.records = r.vectors; /* bytes of any object are read the same way */
	err = vf_recordfile_open(g->ch.bucket, g->ch.index, &r, 0, &f);
	for (size_t i = 0; !err && i < n; i++)
		err = read_row(g, f, codes, &w[i]);
	vf_recordfile_close(f);
	vf_index_close(codes);
	return err;
}

static int compare_places(const void *a, const void *b)
{
	const struct vf_place *x = &((const struct wanted *)a)->place,
			      *y = &((const struct wanted *)b)->place;

	if (x->tail != y->tail)
		return x->tail ? 1 : -1;
	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return (x->row > y->row) - (x->row < y->row);
}

static int compare_numbers(const void *a, const void *b)
{
	size_t x = ((const struct wanted *)a)->number,
	       y = ((const struct wanted *)b)->number;

	return (x > y) - (x < y);
}

static int read_rows(struct get *g)
{
	int err = 0;

	qsort(g->wanted, g->n, sizeof(*g->wanted), compare_places);
	for (size_t i = 0, end; !err && i < g->n; i = end) {
		const struct vf_place *p = &g->wanted[i].place;
		end = i + 1;
		if (p->tail) {
			const struct vf_inline *r =
				g->ch.state->tail[p->at].rows;
			memcpy(g->rows + g->wanted[i].number * g->row_len,
			       r->vectors + p->row * g->row_len, g->row_len);
			continue;
		}
		while (end < g->n && !g->wanted[end].place.tail &&
		       g->wanted[end].place.at == p->at)
			end++;
		err = vf_interrupted() ? -ECANCELED
				       : read_shard(g, &g->wanted[i], end - i);
	}
	qsort(g->wanted, g->n, sizeof(*g->wanted), compare_numbers);
	return err;
}

/* ---- looking up ----------------------------------------------------------------------- */

/* -EUCLEAN: not logged. */
static int look_up_one(struct get *g, struct vf_catalog_view *v,
		       struct wanted *w)
{
	int err = vf_catalog_find(v, w->key, w->key_len, &w->place);

	w->metadata_off = g->metadata.len;
	if (!err)
		err = vf_catalog_metadata(v, &w->place, &g->metadata);
	w->metadata_len = g->metadata.len - w->metadata_off;
	if (err == -ENOENT)
		vf_log(VF_ERROR, "%s: no key \"%.*s\"", g->ch.index,
		       (int)w->key_len, w->key);
	else if (err && err != -EUCLEAN)
		vf_log(VF_ERROR, "%s: the catalog: %s", g->ch.index,
		       vf_strerror(err));
	w->number = g->n;
	g->wanted[g->n++] = *w;
	return err;
}

static int look_up_all(struct get *g, const struct vf_delete *keys)
{
	struct vf_catalog_view *v;
	size_t cursor = 0;
	struct wanted w = {0};
	int err = vf_changer_look(&g->ch, &v);

	if (err)
		return err;
	g->n = g->metadata.len = 0;
	while (!err && vf_delete_next(keys, &cursor, &w.key, &w.key_len))
		err = look_up_one(g, v, &w);
	vf_catalog_done(v);
	return err;
}

/* A damaged catalog is built again, once. */
static int look_up(struct get *g, const struct vf_delete *keys)
{
	int err = look_up_all(g, keys);

	if (err == -EUCLEAN) {
		err = vf_catalog_reset(g->ch.catalog);
		if (!err)
			err = look_up_all(g, keys);
	}
	return err == -EUCLEAN ? vf_fail(-EIO, "%s: the catalog is damaged",
					 g->ch.index)
			       : err;
}

/* ---- answers ---------------------------------------------------------------------------- */

static int print_json(const struct get *g, const struct wanted *w, float *x)
{
	const struct vf_index_config *c = &g->ch.state->config;
	json_t *key = json_stringn(w->key, w->key_len);
	VF_AUTO_FREE char *text = json_dumps(key, JSON_ENCODE_ANY);

	json_decref(key);
	if (!text)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	vf_widen(c->dtype, g->rows + w->number * g->row_len, c->dim, x);
	printf("{\"key\":%s,\"metadata\":%.*s,\"vector\":[", text,
	       (int)w->metadata_len,
	       (const char *)g->metadata.data + w->metadata_off);
	for (uint32_t i = 0; i < c->dim; i++)
		printf("%s%.9g", i ? "," : "", (double)x[i]);
	puts("]}");
	return 0;
}

static int write_npy(const struct get *g)
{
	const struct vf_index_config *c = &g->ch.state->config;
	struct vf_npy npy = {.dtype = c->dtype, .n_rows = g->n, .dim = c->dim};
	uint8_t header[VF_NPY_DATA_OFF];
	FILE *f = fopen(opt.npy, "we");

	if (!f)
		return vf_fail(-errno, "%s: %s", opt.npy, strerror(errno));
	vf_npy_header(&npy, header);
	bool ok = fwrite(header, sizeof(header), 1, f) == 1 &&
		  fwrite(g->rows, g->row_len, g->n, f) == g->n;
	int err = ok ? 0 : -errno;
	if (fclose(f) && !err)
		err = -errno;
	return err ? vf_fail(err, "%s: %s", opt.npy, strerror(-err)) : 0;
}

static int print_all(const struct get *g)
{
	VF_AUTO_FREE float *x = malloc(g->ch.state->config.dim * sizeof(float));
	int err = x ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < g->n; i++) {
		const struct wanted *w = &g->wanted[i];
		if (opt.json) {
			err = print_json(g, w, x);
		} else if (!opt.npy) {
			vf_print_escaped(w->key, w->key_len);
			putchar('\t');
			vf_print_escaped((const char *)g->metadata.data +
						 w->metadata_off,
					 w->metadata_len);
			putchar('\n');
		}
	}
	return !err && opt.npy ? write_npy(g) : err;
}

static int get_rows(struct get *g, const struct vf_delete *keys)
{
	const struct vf_index_config *c = &g->ch.state->config;

	if (!c->dim)
		return vf_fail(-ENOENT, "%s: holds no rows", g->ch.index);
	if (keys->n_keys > KEYS_MAX)
		return vf_fail(-EINVAL, "get: %llu keys, at most %d at once",
			       (unsigned long long)keys->n_keys, KEYS_MAX);
	g->wanted = calloc(keys->n_keys, sizeof(*g->wanted));
	int err = g->wanted ? look_up(g, keys)
			    : vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	if (err)
		return err;
	/* The state moved on, maybe to another shape. */
	c = &g->ch.state->config;
	g->row_len = c->dim * vf_dtype_size(c->dtype);
	g->rows = malloc(g->n * g->row_len);
	if (!g->rows)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	if (opt.json || opt.npy)
		err = read_rows(g);
	vf_progress_end(&g->progress);
	return err ? err : print_all(g);
}

static int run_get(const struct vf_args *a)
{
	VF_AUTO_BUF struct vf_buf store = {0};
	struct get g = {0};
	struct vf_delete keys;
	struct vf_target t;
	int err = vf_keyfile_read(a->operands + 1, a->n_operands - 1, opt.keys,
				  &store, &keys);

	if (!err)
		err = vf_target_open(a->operands[0], &a->common, &t);
	if (err)
		return err;
	g.ch = (struct vf_changer){.bucket = t.bucket,
				   .index = t.index,
				   .cache_dir = opt.cache_dir,
				   .line_crcs = vf_shard_line_crcs,
				   .progress = vf_progress_reading,
				   .arg = &g.progress};
	vf_progress_begin(&g.progress, "reading keys", 0, 0, a->common.quiet);
	err = vf_target_state(&t, &g.ch.state);
	if (!err)
		err = get_rows(&g, &keys);
	vf_progress_end(&g.progress);
	if (err == -ECANCELED)
		vf_log(VF_ERROR, "interrupted");
	free(g.wanted);
	free(g.rows);
	vf_buf_fini(&g.metadata);
	vf_changer_fini(&g.ch);
	vf_target_close(&t);
	return err;
}

const struct vf_verb vf_verb_get = {
	.name = "get",
	.summary = "vectors and metadata by key",
	.help = "usage: vectool get TARGET KEY... [OPTIONS]\n"
		"       vectool get TARGET --keys FILE [OPTIONS]\n\n"
		"Prints key and metadata of each, in the order asked for; an "
		"absent key is an\nerror.\n\n"
		"  --json             {\"key\", \"metadata\", \"vector\"}, one "
		"object per line\n"
		"  --npy OUT          write the vectors to a NumPy file\n"
		"  --keys FILE        one key per line\n"
		"  --cache-dir DIR    of the map from keys to rows "
		"(~/.cache/vecfs)\n\n"
		"Examples:\n"
		"  vectool get /data/bucket/products 4711 --json\n"
		"  vectool get s3://bucket/prefix/products --keys ids.txt "
		"--npy some.npy\n",
	.min_operands = 1,
	.max_operands = VF_ARGS_OPERANDS_MAX,
	.options = options,
	.run = run_get,
};
