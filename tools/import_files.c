/*
 * What was committed is found again from the index itself:
 *
 *   with keys     rows up to the first whose key is not there
 *   without       as many rows as automatic keys were given out, which needs
 *                 an index that was begun with this import, or --first-key
 */
#include "tools/import_files.h"

#include <inttypes.h>
#include <stdio.h>

#include "index/cluster.h"
#include "query/shard_codes.h"
#include "store/change.h"
#include "tools/compare.h"
#include "tools/interrupt.h"
#include "tools/progress.h"
#include "tools/source_file.h"

enum {
	PART_SHARDS = 4, /* full ones, of a part by default */
	/* A part of texts is embedded before any of it is put: what is lost
	 * when it is stopped is paid for twice. */
	PART_TEXTS = 16384,
};

struct import {
	const struct vf_import_files *o;
	struct vf_source *source; /* the file at hand */
	uint64_t n;		  /* its rows */
	uint64_t skip;		  /* rows that are there already */
	uint64_t first_key;	  /* of row 0, when keys are numbers */
	uint64_t n_done;	  /* automatic keys that files before took */
	struct vf_ingest_result last;
	uint64_t n_replaced;
	size_t n_shards;
};

/* ---- what is there already --------------------------------------------------------- */

static int count_known(struct import *im, struct vf_catalog_view *v)
{
	VF_AUTO_BUF struct vf_buf key = {0}, metadata = {0};
	struct vf_place place;
	int err = 0;

	while (!err && im->skip < im->n) {
		key.len = metadata.len = 0;
		err = vf_source_file_row(im->source, im->skip, NULL, &key,
					 &metadata);
		if (err)
			return err;
		err = vf_catalog_find(v, key.data, key.len, &place);
		im->skip += !err;
		if (!err && vf_interrupted())
			err = -ECANCELED;
	}
	if (err == -EUCLEAN || err == -EIO)
		vf_log(VF_ERROR, "%s: the catalog: %s", im->o->target->name,
		       vf_strerror(err));
	return err == -ENOENT ? 0 : err;
}

static int skip_keys(struct import *im, struct vf_state *s)
{
	struct vf_changer ch = {.bucket = im->o->target->bucket,
				.index = im->o->target->index,
				.cache_dir = im->o->put.cache_dir,
				.line_crcs = vf_shard_line_crcs,
				.state = s};
	struct vf_catalog_view *v = NULL;
	int err = vf_changer_look(&ch, &v);

	if (!err)
		err = count_known(im, v);
	vf_catalog_done(v);
	vf_changer_fini(&ch);
	return err;
}

static int skip_numbers(struct import *im, const struct vf_state *s)
{
	uint64_t first = im->o->first_key + im->n_done, next = s->next_key;

	im->first_key = first;
	if (next > first)
		im->skip = VF_MIN(next - first, im->n);
	if (next >= first)
		return 0;
	return vf_fail(-EINVAL,
		       "%s: --resume: keys have come to %" PRIu64
		       ", before --first-key %" PRIu64,
		       im->o->target->name, next, first);
}

static int find_start(struct import *im, bool *out_is_new)
{
	struct vf_state *s;
	int err =
		vf_index_find(im->o->target->bucket, im->o->target->index, &s);

	if (err)
		return err;
	im->skip = 0;
	*out_is_new = !s || !s->configured;
	im->first_key = s ? s->next_key : 0;
	if (*out_is_new || !im->o->resume) {
		vf_state_free(s);
		return 0;
	}
	if (im->source->has_keys)
		return skip_keys(im, s); /* frees it */
	err = skip_numbers(im, s);
	vf_state_free(s);
	return err;
}

/* ---- putting ----------------------------------------------------------------------------- */

static int put_part(struct import *im, uint64_t from, uint64_t n, bool is_new)
{
	const struct vf_import_files *o = im->o;
	const struct vf_intake *in = vf_source_file_intake(im->source);
	struct vf_ingest put = o->put;

	put.source = im->source;
	if (!is_new)
		put.embedder_data = NULL;
	if (is_new && !put.wish.metric && in->has_metric)
		put.wish.metric = in->metric;
	/* The tree is made by the first part, for all rows. */
	if (from)
		put.n_leaves = 0;
	else if (is_new && !put.n_leaves && n < im->n && !o->embedder)
		put.n_leaves = vf_cluster_n_leaves(im->n);
	int err = vf_source_file_window(im->source, from, n);
	if (err)
		return err;
	err = vf_ingest_run(&put, &im->last);
	im->n_replaced += im->last.n_replaced;
	im->n_shards += im->last.n_shards;
	return err;
}

static uint64_t part_rows(const struct import *im)
{
	uint64_t shard = im->o->put.shard_rows;

	if (im->o->part_rows)
		return im->o->part_rows;
	if (im->o->embedder)
		return PART_TEXTS;
	if (!shard)
		shard = vf_shard_rows_default(im->source->dim,
					      im->source->dtype);
	return shard * PART_SHARDS;
}

static int put_parts(struct import *im, bool is_new)
{
	uint64_t step = part_rows(im);
	int err = 0;

	for (uint64_t at = im->skip; !err && at < im->n; at += step) {
		uint64_t n = VF_MIN(step, im->n - at);
		err = put_part(im, at, n, is_new && !at);
		if (err && at && err != -EINPROGRESS)
			vf_log(VF_WARN,
			       "%s: the first %" PRIu64
			       " rows are in %s; go on with --resume",
			       im->source->name, at, im->o->target->name);
	}
	return err;
}

/* ---- a file -------------------------------------------------------------------------------- */

/* Texts that were there already: embedded again, if it costs only time. */
static int embed_known(struct import *im)
{
	if (!im->o->embedder || !im->skip ||
	    !vf_embedder_is_local(im->o->embedder))
		return 0;
	return vf_source_file_window(im->source, 0, im->skip);
}

static int check_file(struct import *im)
{
	struct vf_state *s;
	int err = embed_known(im);

	if (!err)
		err = vf_target_state(im->o->target, &s);
	if (err)
		return err;
	struct vf_compare c = {.bucket = im->o->target->bucket,
			       .state = s,
			       .target = im->o->target->name,
			       .source = im->source,
			       .first_key = im->first_key,
			       .quiet = im->o->put.quiet};
	err = vf_compare_run(&c);
	vf_state_free(s);
	return err;
}

/* Vectors of a model are known while they are embedded, and not later. */
static void print_checked(const struct import *im)
{
	if (!im->skip || vf_source_file_has_vector(im->source, 0))
		puts("; checked: all as in the file");
	else
		printf("; checked: keys and metadata of all as in the file, "
		       "vectors of %" PRIu64 "\n",
		       im->n - im->skip);
}

static void print_file(const struct import *im, uint64_t start_ns)
{
	uint64_t empty = vf_source_file_skipped(im->source);
	char replaced[48] = "", skipped[64] = "";

	if (im->n_replaced)
		snprintf(replaced, sizeof(replaced), " (%" PRIu64 " replaced)",
			 im->n_replaced);
	if (im->skip)
		snprintf(skipped, sizeof(skipped),
			 ", %" PRIu64 " were there already", im->skip);
	printf("%s: %" PRIu64 " rows%s%s, ", im->source->name, im->n - im->skip,
	       replaced, skipped);
	if (empty)
		printf("%" PRIu64 " without a word passed over, ", empty);
	printf("%.2f s", (double)(vf_now_ns() - start_ns) / 1e9);
	if (im->last.head)
		printf(": version %" PRIu64 " of %s", im->last.head,
		       im->o->target->name);
	if (im->o->check)
		print_checked(im);
	else
		putchar('\n');
}

static int import_file(struct import *im, size_t i)
{
	const struct vf_import_files *o = im->o;
	struct vf_source_file_options opt = {.path = o->paths[i],
					     .name = o->names[i],
					     .part = o->part,
					     .keys = o->keys,
					     .metadata = o->metadata,
					     .embedder = o->embedder,
					     .words = o->words,
					     .skip_empty = o->skip_empty,
					     .keep = o->check,
					     .scratch = o->put.scratch,
					     .quiet = o->put.quiet};
	uint64_t start = vf_now_ns();
	bool is_new = false;
	int err = vf_source_file_open(&opt, &im->source);

	if (err)
		return err;
	im->n = vf_source_file_rows(im->source);
	im->n_replaced = im->last.head = im->n_shards = 0;
	err = find_start(im, &is_new);
	if (!err)
		err = put_parts(im, is_new);
	if (!err && o->check)
		err = check_file(im);
	if (!im->source->has_keys)
		im->n_done += im->n;
	if (!err && !o->put.quiet)
		print_file(im, start);
	vf_source_free(VF_STEAL(im->source));
	return err;
}

int vf_import_files_run(const struct vf_import_files *o)
{
	struct import im = {.o = o};
	int err = 0;

	for (size_t i = 0; !err && i < o->n_paths; i++)
		err = import_file(&im, i);
	return err;
}
