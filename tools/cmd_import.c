/* vectool import: files of vectors, or texts through an embedder. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "query/embed_http.h"
#include "store/util.h"
#include "tools/first_pass.h"
#include "tools/import_files.h"
#include "tools/interrupt.h"
#include "tools/put_options.h"
#include "tools/scratchfile.h"
#include "tools/verb.h"

enum { EMBEDDER_DATA_MAX = 1 << 30 };

static struct {
	const char *texts, *embed, *model, *words;
	const char *array, *keys, *metadata;
	uint64_t embed_batch, embed_timeout, part_rows, first_key;
	bool skip_empty, resume, check;
} opt;

static const struct vf_arg options[] = {
	{"", 0, VF_ARG_TABLE, (void *)vf_index_args, 0, 0},
	{"", 0, VF_ARG_TABLE, (void *)vf_shard_args, 0, 0},
	{"texts", 0, VF_ARG_STRING, &opt.texts, 0, 0},
	{"embed", 0, VF_ARG_STRING, &opt.embed, 0, 0},
	{"model", 0, VF_ARG_STRING, &opt.model, 0, 0},
	{"text", 0, VF_ARG_STRING, &opt.words, 0, 0},
	{"embed-batch", 0, VF_ARG_COUNT, &opt.embed_batch, 1,
	 VF_EMBED_BATCH_MAX},
	{"embed-timeout", 0, VF_ARG_COUNT, &opt.embed_timeout, 1, 3600},
	{"skip-empty", 0, VF_ARG_FLAG, &opt.skip_empty, 0, 0},
	{"array", 0, VF_ARG_STRING, &opt.array, 0, 0},
	{"keys", 0, VF_ARG_STRING, &opt.keys, 0, 0},
	{"metadata", 0, VF_ARG_STRING, &opt.metadata, 0, 0},
	{"part-rows", 0, VF_ARG_COUNT, &opt.part_rows, 1, 0},
	{"resume", 0, VF_ARG_FLAG, &opt.resume, 0, 0},
	{"first-key", 0, VF_ARG_COUNT, &opt.first_key, 0, 0},
	{"check", 0, VF_ARG_FLAG, &opt.check, 0, 0},
	{0}};

static const char *text_name(void)
{
	return opt.words ? opt.words : "text";
}

static bool is_model(void)
{
	return opt.embed && vf_embed_is_url(opt.embed);
}

static int check_model(bool files)
{
	if (!opt.model)
		return vf_fail(VF_ERR_USAGE,
			       "import: --embed URL needs --model");
	if (opt.texts || !files)
		return vf_fail(VF_ERR_USAGE,
			       "import: with --embed URL give files instead of "
			       "--texts: TARGET FILE...");
	if (opt.array)
		return vf_fail(VF_ERR_USAGE, "import: --array is of files of "
					     "vectors");
	return 0;
}

static int check_texts(bool files)
{
	if (files)
		return vf_fail(VF_ERR_USAGE,
			       "import: either files, or --texts and --embed");
	if (!opt.embed)
		return vf_fail(VF_ERR_USAGE, "import: --texts needs --embed");
	if (opt.keys || opt.metadata || opt.resume || opt.check || opt.words)
		return vf_fail(VF_ERR_USAGE,
			       "import: --keys, --metadata, --resume, --check "
			       "and --text are of FILE... --embed, not of "
			       "--texts");
	return 0;
}

static int check_usage(const struct vf_args *a)
{
	bool files = a->n_operands > 1;

	if (a->n_operands > 2 && (opt.keys || opt.metadata))
		return vf_fail(VF_ERR_USAGE,
			       "import: --keys and --metadata are of one file");
	if (is_model())
		return check_model(files);
	if (opt.model || opt.embed_batch || opt.embed_timeout)
		return vf_fail(VF_ERR_USAGE,
			       "import: --model, --embed-batch and "
			       "--embed-timeout are of FILE... --embed URL");
	if (opt.texts)
		return check_texts(files);
	if (opt.words && !opt.embed)
		return vf_fail(VF_ERR_USAGE, "import: --text needs --embed");
	if (!files)
		return vf_fail(VF_ERR_USAGE,
			       "import: no file given; for texts there are "
			       "--texts and --embed");
	if (opt.skip_empty && !opt.embed)
		return vf_fail(VF_ERR_USAGE,
			       "import: --skip-empty is of texts");
	if (opt.embed && opt.array)
		return vf_fail(VF_ERR_USAGE, "import: --array is of files of "
					     "vectors");
	return 0;
}

static int read_wish(struct vf_wish *out)
{
	static char name[VF_EMBEDDER_MAX];
	int err = vf_put_wish("import", out);

	if (err)
		return err;
	out->embedder = opt.embed;
	if (is_model()) {
		out->embedder = name;
		if (vf_embed_http_name(opt.model, name, sizeof(name)))
			return VF_ERR_USAGE;
	} else if (opt.embed && strlen(opt.embed) >= VF_EMBEDDER_MAX)
		return vf_fail(VF_ERR_USAGE,
			       "import: --embed \"%s\" is too long", opt.embed);
	return 0;
}

/* ---- the embedder ------------------------------------------------------------------- */

static int check_embedder(const struct vf_target *t, const struct vf_state *s,
			  const char *want)
{
	const char *is = s->config.embedder;

	if (!strcmp(is, want))
		return 0;
	return vf_fail(-EINVAL, "%s: its embedder is %s, not %s", t->name,
		       is[0] ? is : "none", want);
}

/* What the index has learned: a second import embeds as the first did. */
static int load_embedder(const struct vf_target *t, const struct vf_state *s,
			 struct vf_embedder **out)
{
	const struct vf_object_ref *ref = &s->config.embedder_data;
	VF_AUTO_FREE char *key = NULL;
	VF_AUTO_FREE void *data = NULL;
	size_t len = 0;
	int err = check_embedder(t, s, opt.embed);

	if (err)
		return err;
	if (asprintf(&key, "%s/embed/%s", t->index, ref->name) < 0)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	err = vf_bucket_get_all(t->bucket, key, EMBEDDER_DATA_MAX, &data, &len);
	if (err == -ENOENT)
		vf_log(VF_ERROR, "%s: %s is not there", t->name, key);
	if (err)
		return err;
	if (len != ref->stored_len || XXH3_64bits(data, len) != ref->checksum)
		return vf_fail(-EBADMSG, "%s: %s is damaged", t->name, key);
	return vf_embedder_open(opt.embed, data, len, out);
}

static int open_embedder(const struct vf_target *t, struct vf_embedder **out,
			 bool *out_learn)
{
	struct vf_state *s;
	int err = vf_index_find(t->bucket, t->index, &s);

	if (err)
		return err;
	*out_learn = !s || !s->configured;
	if (*out_learn)
		err = vf_embedder_open(opt.embed, NULL, 0, out);
	else
		err = load_embedder(t, s, out);
	if (*out_learn && err == -EINVAL)
		err = VF_ERR_USAGE;
	vf_state_free(s);
	return err;
}

/* ---- files ---------------------------------------------------------------------------- */

/*
 * Pipes are copied to files first, because formats are recognised, counted and
 * compared by reading twice; they are opened by the number of such a file.
 */
struct files {
	const char *paths[VF_ARGS_OPERANDS_MAX];
	const char *names[VF_ARGS_OPERANDS_MAX];
	char copies[VF_ARGS_OPERANDS_MAX][32];
	size_t n;
};

static struct files files;

static bool is_pipe(const char *path)
{
	struct stat st;

	return !strcmp(path, "-") ||
	       (!stat(path, &st) &&
		(S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)));
}

/* Copies are nameless and end with the process. */
static int take_files(const struct vf_args *a)
{
	int err = 0, fd;

	for (size_t i = 1; !err && i < a->n_operands; i++) {
		size_t at = files.n++;
		files.paths[at] = files.names[at] = a->operands[i];
		if (!is_pipe(a->operands[i]))
			continue;
		err = vf_scratch_input(&files.names[at], &fd);
		if (err)
			break;
		snprintf(files.copies[at], sizeof(files.copies[at]),
			 "/proc/self/fd/%d", fd);
		files.paths[at] = files.copies[at];
	}
	return err;
}

/* ---- the verb ------------------------------------------------------------------------- */

static int ingest_texts(const struct vf_args *a, const struct vf_target *t,
			const struct vf_wish *wish, struct vf_embedder *e,
			bool learn, struct vf_source *source,
			struct vf_ingest_result *out)
{
	VF_AUTO_BUF struct vf_buf data = {0};
	struct vf_ingest in = vf_put_ingest(a, t, wish);

	in.cond.if_absent = true;
	in.source = source;
	in.embedder_data = learn ? &data : NULL;
	int err = learn ? vf_embedder_save(e, &data) : 0;

	if (err)
		return vf_fail(err, "%s: %s", opt.embed, vf_strerror(err));
	return vf_ingest_run(&in, out);
}

static int import_texts(const struct vf_args *a, const struct vf_target *t,
			const struct vf_wish *wish, struct vf_embedder *e,
			bool learn)
{
	struct vf_source_texts_options texts = {.name = opt.texts,
						.e = e,
						.learn = learn,
						.skip_empty = opt.skip_empty,
						.quiet = a->common.quiet};
	struct vf_ingest_result r = {0};
	struct vf_source *source;
	uint64_t start = vf_now_ns(), skipped;
	int err = vf_scratch_input(&texts.name, &texts.fd); /* read twice */

	if (!err)
		err = vf_source_texts_open(&texts, &source, &skipped);
	if (err)
		return err;
	err = ingest_texts(a, t, wish, e, learn, source, &r);
	vf_source_free(source);
	if (err || a->common.quiet)
		return err;
	char where[48] = "the log";
	if (r.n_shards)
		snprintf(where, sizeof(where), "%zu shard%s", r.n_shards,
			 vf_plural(r.n_shards));
	printf("%llu texts in %s, %.2f s: version %llu of %s",
	       (unsigned long long)r.n_rows, where,
	       (double)(vf_now_ns() - start) / 1e9, (unsigned long long)r.head,
	       t->name);
	if (skipped)
		printf(" (%llu without a word passed over)",
		       (unsigned long long)skipped);
	putchar('\n');
	return 0;
}

static int import_vectors(const struct vf_args *a, const struct vf_target *t,
			  const struct vf_wish *wish,
			  const struct vf_embedder *e,
			  const struct vf_buf *learned)
{
	struct vf_import_files o = {.target = t,
				    .paths = files.paths,
				    .names = files.names,
				    .n_paths = files.n,
				    .part = opt.array,
				    .keys = opt.keys,
				    .metadata = opt.metadata,
				    .embedder = e,
				    .words = text_name(),
				    .skip_empty = opt.skip_empty,
				    .part_rows = opt.part_rows,
				    .first_key = opt.first_key,
				    .resume = opt.resume,
				    .check = opt.check,
				    .put = vf_put_ingest(a, t, wish)};

	o.put.embedder_data = learned;
	return vf_import_files_run(&o);
}

/* An index of another model is found out before anything is paid for. */
static int open_model(const struct vf_target *t, const struct vf_wish *wish,
		      struct vf_embedder **out)
{
	struct vf_embed_http_options o = {
		.url = opt.embed,
		.model = opt.model,
		.batch = (uint32_t)opt.embed_batch,
		.timeout_ms = (unsigned)opt.embed_timeout * 1000,
		.stop = vf_interrupted};
	struct vf_state *s;
	int err = vf_index_find(t->bucket, t->index, &s);

	if (err)
		return err;
	if (s && s->configured) {
		o.dim = s->config.dim;
		err = check_embedder(t, s, wish->embedder);
	}
	vf_state_free(s);
	return err ? err : vf_embed_http_open(&o, out);
}

static int import_model(const struct vf_args *a, const struct vf_target *t,
			const struct vf_wish *wish)
{
	struct vf_embedder *e = NULL;
	int err = open_model(t, wish, &e);

	if (!err)
		err = import_vectors(a, t, wish, e, NULL);
	vf_embedder_free(e);
	return err;
}

static int import_through(const struct vf_args *a, const struct vf_target *t,
			  const struct vf_wish *wish)
{
	struct vf_embedder *e = NULL;
	bool learn;
	int err = open_embedder(t, &e, &learn);

	if (err)
		return err;
	err = import_texts(a, t, wish, e, learn);
	vf_embedder_free(e);
	return err;
}

/* ---- columns of texts ------------------------------------------------------------------ */

static int learn_file(size_t i, struct vf_embedder *e, bool quiet)
{
	struct vf_first_pass p = {.e = e,
				  .learning = e,
				  .name = files.names[i],
				  .unit = "row",
				  .skip_empty = opt.skip_empty,
				  .quiet = quiet};
	struct vf_intake in;
	int fd = open(files.paths[i], O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return vf_fail(-errno, "%s: %s", p.name, strerror(errno));
	int err = vf_intake_open_texts(fd, p.name, text_name(), &in);
	if (err)
		return err;
	err = vf_first_pass_file(&p, &in, NULL);
	vf_intake_close(&in);
	return err;
}

static int learn_files(const struct vf_args *a, struct vf_embedder *e,
		       struct vf_buf *out)
{
	int err = 0;

	for (size_t i = 0; !err && i < files.n; i++)
		err = learn_file(i, e, a->common.quiet);
	if (err)
		return err;
	err = vf_embedder_save(e, out);
	return err ? vf_fail(err, "%s: %s", opt.embed, vf_strerror(err)) : 0;
}

/* By what is built in: all files are learned from before the first is put. */
static int import_columns(const struct vf_args *a, const struct vf_target *t,
			  const struct vf_wish *wish)
{
	VF_AUTO_BUF struct vf_buf data = {0};
	struct vf_embedder *e = NULL;
	bool learn;
	int err = open_embedder(t, &e, &learn);

	if (!err && learn)
		err = learn_files(a, e, &data);
	if (!err)
		err = import_vectors(a, t, wish, e, learn ? &data : NULL);
	vf_embedder_free(e);
	return err;
}

static int run_import(const struct vf_args *a)
{
	struct vf_wish wish;
	struct vf_target t;
	int err = check_usage(a);

	if (!err)
		err = read_wish(&wish);
	if (!err)
		err = vf_target_open(a->operands[0], &a->common, &t);
	if (err)
		return err;
	err = take_files(a);
	err = err	   ? err
	      : opt.texts  ? import_through(a, &t, &wish)
	      : is_model() ? import_model(a, &t, &wish)
	      : opt.embed  ? import_columns(a, &t, &wish)
			   : import_vectors(a, &t, &wish, NULL, NULL);
	vf_target_close(&t);
	return err;
}

const struct vf_verb vf_verb_import = {
	.name = "import",
	.summary = "add files of vectors, or texts through an embedder",
	.help = "usage: vectool import TARGET FILE... [OPTIONS]\n"
		"       vectool import TARGET --texts FILE.jsonl --embed "
		"hash:DIM [OPTIONS]\n"
		"       vectool import TARGET FILE... --text NAME --embed "
		"hash:DIM [OPTIONS]\n"
		"       vectool import TARGET FILE... --embed URL --model NAME "
		"[OPTIONS]\n\n"
		"Files of vectors: npy, npz, fvecs, bvecs, ivecs, HDF5 (as "
		"ann-benchmarks), FAISS\n"
		"(flat, id map), JSON lines ({\"key\", \"vector\", "
		"\"metadata\"}), CSV.  What a file\n"
		"is, its content says.  Rows of keys that are there are "
		"replaced.  A file with\n"
		"many rows is put in parts, each one commit.  FILE may be a pipe, "
		"- is standard input:\n"
		"what comes is copied to $TMPDIR or /var/tmp first.\n\n"
		"  --array NAME       of an npz or HDF5 file (vectors, train, or "
		"the only one)\n"
		"  --keys FILE        line i is the key of row i (default: what "
		"the file has, else\n"
		"                     numbers that go on from the last put)\n"
		"  --metadata FILE    line i is a JSON object for row i\n"
		"  --part-rows N      rows of one commit (default: 4 full "
		"shards)\n"
		"  --resume           go on behind what an import that was "
		"stopped has put: behind\n"
		"                     the rows whose keys are there, or, "
		"without keys, as many rows\n"
		"                     as keys were given out since --first-key "
		"N (0)\n"
		"  --check            afterwards, compare every row of the file "
		"with the index\n\n"
		"Texts: each line is {\"key\": \"...\", \"text\": "
		"\"...\", \"metadata\": {...}};\n"
		"metadata may be absent, other members are passed over.  The "
		"first import learns\n"
		"how rare words are, and the index keeps that: later imports "
		"and vecquery --text\n"
		"embed alike.\n\n"
		"  --texts FILE       - is standard input\n"
		"  --embed hash:DIM   words and character n-grams hashed into "
		"DIM dimensions\n"
		"  --skip-empty       pass over texts without a word (also "
		"of FILE...)\n\n"
		"With FILE... instead of --texts, texts are a member of JSON "
		"lines or a column of CSV\n"
		"(--text NAME), keys and metadata are taken as of files of "
		"vectors, parts are of 16384\n"
		"rows, --resume goes on behind the last, and --check compares "
		"what was embedded now;\n"
		"of what a model embedded before, keys and metadata.\n\n"
		"Texts through a model behind an API like OpenAI's: FILE is "
		"JSON lines or CSV (whose\n"
		"first line names its columns).  Parts are of 16384 rows: "
		"each is embedded, then put,\n"
		"and --resume goes on behind the last.  The index remembers "
		"the model's name.\n\n"
		"  --embed URL        as http://localhost:8080/v1; a key is "
		"taken from VECFS_EMBED_KEY,\n"
		"                     else (https, or this machine) from "
		"OPENAI_API_KEY\n"
		"  --model NAME       of the model there\n"
		"  --text NAME        member or column with the text (text)\n"
		"  --embed-batch N    texts of one request (64); four are under "
		"way at once\n"
		"  --embed-timeout S  of a request and all its attempts (120)\n\n"
		"All take --metric, --dtype, --non-filterable, --bits, "
		"--shard-rows, --compress,\n"
		"--seed, --leaves, --ram, --scratch and --cache-dir as put "
		"does; a FAISS or HDF5 "
		"file brings the\n"
		"metric of a new index.\n\n"
		"Examples:\n"
		"  zcat rows.jsonl.gz | vectool import /data/bucket/rows -\n"
		"  vectool import /data/bucket/glove glove-100-angular.hdf5 "
		"--check\n"
		"  vectool import s3://bucket/prefix/sift base.fvecs "
		"--part-rows 100000\n"
		"  vectool import /data/bucket/articles --texts articles.jsonl "
		"--embed hash:1024\n"
		"  vectool import /data/bucket/articles articles.csv --text "
		"body --embed hash:1024\n"
		"  vectool import /data/bucket/articles articles.csv --text "
		"body \\\n"
		"      --embed http://localhost:11434/v1 --model "
		"nomic-embed-text\n",
	.min_operands = 1,
	.max_operands = VF_ARGS_OPERANDS_MAX,
	.options = options,
	.run = run_import,
};
