/*
 * vectool export: an index into a file of another program.  The file has a
 * name of its own until it is whole.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "store/util.h"
#include "tools/compare.h"
#include "tools/format.h"
#include "tools/rows.h"
#include "tools/source_file.h"
#include "tools/target.h"
#include "tools/verb.h"
#include "tools/walk.h"

static struct {
	const char *format, *keys, *metadata;
	bool check;
} opt;

static const struct vf_arg options[] = {
	{"format", 0, VF_ARG_STRING, &opt.format, 0, 0},
	{"keys", 0, VF_ARG_STRING, &opt.keys, 0, 0},
	{"metadata", 0, VF_ARG_STRING, &opt.metadata, 0, 0},
	{"check", 0, VF_ARG_FLAG, &opt.check, 0, 0},
	{0}};

/* A file on its way: PATH.part-<pid> until it is renamed. */
struct part {
	const char *path; /* NULL: none */
	char *tmp;
	FILE *stream;
};

struct export
{
	const struct vf_state *state;
	struct vf_outlet out;
	struct part file, keys, metadata;
	bool by_number;	    /* rows go where their key, a number, says */
	uint64_t n, n_lost; /* rows; those whose metadata is not kept */
	float *x;
};

/* ---- files --------------------------------------------------------------------------- */

static int open_part(struct part *p, const char *path)
{
	p->path = path;
	if (!path)
		return 0;
	if (asprintf(&p->tmp, "%s.part-%d", path, (int)getpid()) < 0) {
		p->tmp = NULL;
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	}
	p->stream = fopen(p->tmp, "w+e");
	if (p->stream)
		return 0;
	int err = vf_fail(-errno, "%s: %s", p->tmp, strerror(errno));
	free(VF_STEAL(p->tmp));
	return err;
}

/* On the disk, not yet under its name. */
static int close_part(struct part *p)
{
	if (!p->stream)
		return 0;
	bool ok = !fflush(p->stream) && !fsync(fileno(p->stream));
	int err = ok ? 0 : -errno;

	if (fclose(VF_STEAL(p->stream)) && !err)
		err = -errno;
	return err ? vf_fail(err, "%s: %s", p->path, strerror(-err)) : 0;
}

static int name_part(struct part *p)
{
	if (!p->path)
		return 0;
	if (rename(p->tmp, p->path))
		return vf_fail(-errno, "%s: %s", p->path, strerror(errno));
	free(VF_STEAL(p->tmp));
	return 0;
}

static void drop_part(struct part *p)
{
	if (p->stream)
		fclose(p->stream);
	if (p->tmp)
		unlink(p->tmp);
	free(p->tmp);
}

/* ---- rows ---------------------------------------------------------------------------- */

/* The number that a key is, in its one spelling; below @n. */
static bool parse_number(const char *key, size_t len, uint64_t n, uint64_t *out)
{
	uint64_t v = 0;

	if (!len || len > 19 || (len > 1 && *key == '0'))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (key[i] < '0' || key[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(key[i] - '0');
	}
	*out = v;
	return v < n;
}

static int find_at(const struct export *e, struct vf_outlet_row *row)
{
	row->at = e->n;
	if (!e->by_number ||
	    parse_number(row->key, row->key_len, e->out.n_rows, &row->at))
		return 0;
	return vf_fail(-EINVAL,
		       "%s: %s keeps no keys, and key \"%.*s\" is no row "
		       "number below %" PRIu64
		       "; --keys FILE keeps them beside it",
		       e->out.name, e->out.format->name, (int)row->key_len,
		       row->key, e->out.n_rows);
}

static int write_line(const struct part *p, const char *s, size_t len)
{
	if (!p->stream)
		return 0;
	if (memchr(s, '\n', len) || (len && s[len - 1] == '\r'))
		return vf_fail(-EINVAL,
			       "%s: a key holds a line break; write jsonl or "
			       "npz",
			       p->path);
	fwrite(s, 1, len, p->stream);
	return fputc('\n', p->stream) == EOF
		       ? vf_fail(-errno, "%s: %s", p->path, strerror(errno))
		       : 0;
}

static int write_row(void *arg, const struct vf_walk_row *r)
{
	struct export *e = arg;
	const struct vf_index_config *c = &e->state->config;
	struct vf_outlet_row row = {.x = e->x,
				    .key = r->key,
				    .key_len = r->key_len,
				    .metadata = r->metadata,
				    .metadata_len = r->metadata_len};
	int err = find_at(e, &row);

	if (err)
		return err;
	vf_rows_to_f32(c->dtype, r->vector, c->dim, e->x);
	err = vf_outlet_write(&e->out, &row);
	if (!err)
		err = write_line(&e->keys, r->key, r->key_len);
	if (!err)
		err = write_line(&e->metadata, r->metadata, r->metadata_len);
	e->n++;
	e->n_lost += r->metadata_len > 2 && !opt.metadata &&
		     !e->out.format->keeps_metadata;
	return err;
}

/* ---- the verb ------------------------------------------------------------------------------ */

static int find_format(const char *path, const struct vf_format **out)
{
	*out = opt.format ? vf_format_find(opt.format)
			  : vf_format_of_file(path);
	if (*out)
		return 0;
	if (opt.format)
		return vf_fail(VF_ERR_USAGE, "export: no format \"%s\"",
			       opt.format);
	return vf_fail(VF_ERR_USAGE,
		       "export: %s: its name ends like no format; --format "
		       "says which",
		       path);
}

static int begin(struct export *e, const char *path)
{
	const struct vf_index_config *c = &e->state->config;
	const struct vf_format *f = NULL;
	int err = find_format(path, &f);

	if (err)
		return err;
	if (!e->state->n_rows)
		return vf_fail(-EINVAL, "%s: holds no rows", e->state->name);
	if (opt.metadata && !opt.keys && !f->keeps_keys)
		return vf_fail(VF_ERR_USAGE,
			       "export: --metadata needs --keys: %s keeps no "
			       "keys",
			       f->name);
	err = open_part(&e->file, path);
	if (!err)
		err = open_part(&e->keys, opt.keys);
	if (!err)
		err = open_part(&e->metadata, opt.metadata);
	e->x = malloc(c->dim * sizeof(float));
	if (!err && !e->x)
		err = vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	if (err)
		return err;
	e->by_number = !f->keeps_keys && !opt.keys;
	e->out = (struct vf_outlet){.format = f,
				    .name = path,
				    .fd = fileno(e->file.stream),
				    .tmp = e->file.tmp,
				    .dim = c->dim,
				    .n_rows = e->state->n_rows,
				    .metric = c->metric,
				    .is_half = c->dtype == VF_F16,
				    .keys = !opt.keys,
				    .stream = e->file.stream};
	return vf_outlet_begin(&e->out);
}

/* Is what was written what is there?  Before it gets its name. */
static int check(struct export *e, const struct vf_target *t, bool quiet)
{
	struct vf_source_file_options o = {.path = e->file.tmp,
					   .keys = e->keys.tmp,
					   .metadata = e->metadata.tmp,
					   .quiet = quiet};
	struct vf_compare c = {.bucket = t->bucket,
			       .state = e->state,
			       .target = t->name,
			       .whole = true,
			       .quiet = quiet};
	int err = vf_source_file_open(&o, &c.source);

	if (err)
		return err;
	err = vf_compare_run(&c);
	vf_source_free(c.source);
	return err;
}

static int finish(struct export *e, const struct vf_target *t, bool quiet)
{
	int err = vf_outlet_finish(&e->out);

	if (!err)
		err = close_part(&e->file);
	if (!err)
		err = close_part(&e->keys);
	if (!err)
		err = close_part(&e->metadata);
	if (!err && opt.check)
		err = check(e, t, quiet);
	/* Whoever finds the file finds those beside it. */
	if (!err)
		err = name_part(&e->keys);
	if (!err)
		err = name_part(&e->metadata);
	return err ? err : name_part(&e->file);
}

static void print_summary(const struct export *e, uint64_t start_ns)
{
	char lost[64] = "";

	if (e->n_lost)
		snprintf(lost, sizeof(lost),
			 "; metadata of %" PRIu64 " is not in it", e->n_lost);
	printf("%" PRIu64 " rows of version %" PRIu64
	       " in %s (%s), %.2f s%s%s\n",
	       e->n, e->state->head, e->out.name, e->out.format->name,
	       (double)(vf_now_ns() - start_ns) / 1e9, lost,
	       opt.check ? "; checked: all as in the index" : "");
}

static int export_state(const struct vf_args *a, const struct vf_target *t,
			const struct vf_state *s)
{
	struct export e = {.state = s};
	uint64_t start = vf_now_ns();
	int err = begin(&e, a->operands[1]);

	if (!err)
		err = vf_walk(t->bucket, s, "export", a->common.quiet,
			      write_row, &e);
	if (!err)
		err = finish(&e, t, a->common.quiet);
	if (err == -ECANCELED)
		vf_log(VF_ERROR, "interrupted; no file was written");
	if (!err && !a->common.quiet)
		print_summary(&e, start);
	if (e.out.format)
		vf_outlet_discard(&e.out);
	drop_part(&e.file);
	drop_part(&e.keys);
	drop_part(&e.metadata);
	free(e.x);
	return err;
}

static int run_export(const struct vf_args *a)
{
	struct vf_target t;
	struct vf_state *s;
	int err = vf_target_open(a->operands[0], &a->common, &t);

	if (err)
		return err;
	err = vf_target_state(&t, &s);
	if (!err) {
		err = export_state(a, &t, s);
		vf_state_free(s);
	}
	vf_target_close(&t);
	return err;
}

const struct vf_verb vf_verb_export = {
	.name = "export",
	.summary = "write an index to a file of another program",
	.help = "usage: vectool export TARGET FILE [OPTIONS]\n\n"
		"Writes every living row of the newest version.  The end of "
		"FILE's name says the\n"
		"format; FILE appears when it is whole.\n\n"
		"  npy      vectors (f4; f2 of an f16 index)\n"
		"  npz      vectors, keys, metadata: vectors.npy and "
		"records.jsonl\n"
		"  fvecs    vectors; bvecs, ivecs: when all are whole numbers "
		"that fit\n"
		"  hdf5     (also .h5) as ann-benchmarks: \"train\"; \"keys\", "
		"\"metadata\"\n"
		"  faiss    (also .index) flat with ids: keys have to be whole "
		"numbers\n"
		"  jsonl    {\"key\", \"metadata\", \"vector\"} per line\n"
		"  csv      key,metadata,x0,x1...\n\n"
		"Formats without keys (npy, the vecs) take rows whose keys are "
		"the numbers 0 to\n"
		"rows - 1, in that order; with --keys any rows.\n\n"
		"  --format F         whatever FILE is called\n"
		"  --keys FILE        keys go here, a line per row\n"
		"  --metadata FILE    metadata goes here, a JSON object per "
		"line\n"
		"  --check            read the file again and compare every row "
		"with the index\n\n"
		"Examples:\n"
		"  vectool export /data/bucket/products products.npz --check\n"
		"  vectool export s3://bucket/prefix/products base.fvecs --keys "
		"ids.txt\n",
	.min_operands = 2,
	.max_operands = 2,
	.options = options,
	.run = run_export,
};
