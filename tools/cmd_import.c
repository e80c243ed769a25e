/* vectool import: files of vectors, or texts through an embedder. */
#include <fcntl.h>
#include <stdio.h>
#include <xxhash.h>

#include "index/tree.h"
#include "query/embed_http.h"
#include "store/util.h"
#include "tools/import_files.h"
#include "tools/ingest.h"
#include "tools/target.h"
#include "tools/verb.h"

enum { EMBEDDER_DATA_MAX = 1 << 30 };

static struct {
	const char *texts, *embed, *model, *words, *metric, *dtype;
	const char *array, *keys, *metadata, *cache_dir, *scratch;
	uint64_t embed_batch, embed_timeout;
	uint64_t bits, shard_rows, seed, leaves, ram, part_rows, first_key;
	bool compress, skip_empty, resume, check;
} opt = {.seed = UINT64_MAX};

static const struct vf_arg options[] = {
	{"texts", 0, VF_ARG_STRING, &opt.texts, 0, 0},
	{"embed", 0, VF_ARG_STRING, &opt.embed, 0, 0},
	{"model", 0, VF_ARG_STRING, &opt.model, 0, 0},
	{"text", 0, VF_ARG_STRING, &opt.words, 0, 0},
	{"embed-batch", 0, VF_ARG_COUNT, &opt.embed_batch, 1,
	 VF_EMBED_BATCH_MAX},
	{"embed-timeout", 0, VF_ARG_COUNT, &opt.embed_timeout, 1, 3600},
	{"metric", 0, VF_ARG_STRING, &opt.metric, 0, 0},
	{"dtype", 0, VF_ARG_STRING, &opt.dtype, 0, 0},
	{"bits", 0, VF_ARG_COUNT, &opt.bits, 1, 8},
	{"shard-rows", 0, VF_ARG_COUNT, &opt.shard_rows, 1, VF_SHARD_ROWS_MAX},
	{"compress", 0, VF_ARG_FLAG, &opt.compress, 0, 0},
	{"leaves", 0, VF_ARG_COUNT, &opt.leaves, 1, VF_TREE_LEAVES_MAX},
	{"ram", 0, VF_ARG_SIZE, &opt.ram, 64 << 20, 0},
	{"scratch", 0, VF_ARG_STRING, &opt.scratch, 0, 0},
	{"skip-empty", 0, VF_ARG_FLAG, &opt.skip_empty, 0, 0},
	{"seed", 0, VF_ARG_COUNT, &opt.seed, 0, UINT64_MAX - 1},
	{"array", 0, VF_ARG_STRING, &opt.array, 0, 0},
	{"keys", 0, VF_ARG_STRING, &opt.keys, 0, 0},
	{"metadata", 0, VF_ARG_STRING, &opt.metadata, 0, 0},
	{"cache-dir", 0, VF_ARG_STRING, &opt.cache_dir, 0, 0},
	{"part-rows", 0, VF_ARG_COUNT, &opt.part_rows, 1, 0},
	{"resume", 0, VF_ARG_FLAG, &opt.resume, 0, 0},
	{"first-key", 0, VF_ARG_COUNT, &opt.first_key, 0, 0},
	{"check", 0, VF_ARG_FLAG, &opt.check, 0, 0},
	{0}};

static bool is_model(void)
{
	return opt.embed && vf_embed_is_url(opt.embed);
}

static int check_model(bool files)
{
	if (!opt.model)
		return vf_fail(-EINVAL, "import: --embed URL needs --model");
	if (opt.texts || !files)
		return vf_fail(-EINVAL,
			       "import: with --embed URL give files instead of "
			       "--texts: TARGET FILE...");
	if (opt.check || opt.skip_empty || opt.array)
		return vf_fail(-EINVAL,
			       "import: --check, --skip-empty and --array are "
			       "not of --embed URL");
	return 0;
}

static int check_usage(const struct vf_args *a)
{
	bool files = a->n_operands > 1, texts = opt.texts || opt.embed;

	if (a->n_operands > 2 && (opt.keys || opt.metadata))
		return vf_fail(-EINVAL,
			       "import: --keys and --metadata are of one file");
	if (is_model())
		return check_model(files);
	if (opt.model || opt.words || opt.embed_batch || opt.embed_timeout)
		return vf_fail(-EINVAL,
			       "import: --model, --text, --embed-batch and "
			       "--embed-timeout are of FILE... --embed URL");
	if (files && texts)
		return vf_fail(
			-EINVAL,
			"import: either files of vectors, or --texts and "
			"--embed");
	if (!files && (!opt.texts || !opt.embed))
		return vf_fail(-EINVAL,
			       "import: no file given; --texts and --embed are "
			       "needed for texts");
	if (texts && (opt.keys || opt.metadata || opt.resume || opt.check))
		return vf_fail(-EINVAL,
			       "import: --keys, --metadata, --resume and "
			       "--check are of files of vectors");
	return 0;
}

static int read_wish(struct vf_wish *out)
{
	*out = (struct vf_wish){.has_seed = opt.seed != UINT64_MAX,
				.embedder = opt.embed,
				.bits = (uint32_t)opt.bits};
	if (out->has_seed)
		out->seed = opt.seed;
	if (is_model()) {
		static char name[VF_EMBEDDER_MAX];
		out->embedder = name;
		if (vf_embed_http_name(opt.model, name, sizeof(name)))
			return -EINVAL;
	} else if (opt.embed && strlen(opt.embed) >= VF_EMBEDDER_MAX)
		return vf_fail(-EINVAL, "import: --embed \"%s\" is too long",
			       opt.embed);
	if (opt.metric && vf_metric_parse(opt.metric, &out->metric))
		return vf_fail(-EINVAL,
			       "import: --metric \"%s\" is none of cosine, "
			       "euclidean, dot",
			       opt.metric);
	if (opt.dtype &&
	    (vf_dtype_parse(opt.dtype, &out->dtype) || out->dtype == VF_U8))
		return vf_fail(-EINVAL,
			       "import: --dtype \"%s\" is none of f32, f16",
			       opt.dtype);
	return 0;
}

/* ---- texts ------------------------------------------------------------------------ */

/* Texts are read twice: what comes through a pipe is kept in a nameless file. */
static int spool_stdin(int *out_fd)
{
	const char *dir = getenv("TMPDIR");
	VF_AUTO_FREE char *buf = malloc(1 << 20);
	VF_AUTO_FD int fd = open(dir && *dir ? dir : "/tmp",
				 O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	ssize_t n;

	if (fd < 0)
		return vf_fail(-errno, "cannot keep standard input in %s: %s",
			       dir && *dir ? dir : "/tmp", strerror(errno));
	while (buf && (n = read(STDIN_FILENO, buf, 1 << 20)) != 0) {
		int err = n < 0 ? -errno : vf_write_all(fd, buf, (size_t)n);
		if (vf_interrupted())
			return vf_fail(-ECANCELED, "interrupted");
		if (err && err != -EINTR)
			return vf_fail(err, "standard input: %s",
				       strerror(-err));
	}
	if (!buf)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	*out_fd = fd;
	fd = -1;
	return 0;
}

static int open_texts(int *out_fd, const char **out_name)
{
	if (!strcmp(opt.texts, "-")) {
		*out_name = "standard input";
		return spool_stdin(out_fd);
	}
	*out_name = opt.texts;
	*out_fd = open(opt.texts, O_RDONLY | O_CLOEXEC);
	if (*out_fd < 0)
		return vf_fail(-errno, "%s: %s", opt.texts, strerror(errno));
	if (lseek(*out_fd, 0, SEEK_CUR) >= 0)
		return 0;
	close(*out_fd);
	return vf_fail(-EINVAL, "%s: is read twice; give a pipe as -",
		       opt.texts);
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
	vf_state_free(s);
	return err;
}

/* ---- the verb ------------------------------------------------------------------------- */

static int ingest_texts(const struct vf_args *a, const struct vf_target *t,
			const struct vf_wish *wish, struct vf_embedder *e,
			bool learn, struct vf_source *source,
			struct vf_ingest_result *out)
{
	VF_AUTO_BUF struct vf_buf data = {0};
	struct vf_ingest in = {.cond.if_absent = true,
			       .bucket = t->bucket,
			       .target = t->name,
			       .index = t->index,
			       .source = source,
			       .wish = *wish,
			       .embedder_data = learn ? &data : NULL,
			       .shard_rows = opt.shard_rows,
			       .compress = opt.compress,
			       .n_leaves = (uint32_t)opt.leaves,
			       .ram = opt.ram,
			       .scratch = opt.scratch,
			       .quiet = a->common.quiet,
			       .n_threads = (unsigned)a->common.n_threads};
	int err = learn ? vf_embedder_save(e, &data) : 0;

	if (err)
		return vf_fail(err, "%s: %s", opt.embed, vf_strerror(err));
	return vf_ingest_run(&in, out);
}

static int import_texts(const struct vf_args *a, const struct vf_target *t,
			const struct vf_wish *wish, struct vf_embedder *e,
			bool learn)
{
	struct vf_source_texts_options texts = {.e = e,
						.learn = learn,
						.skip_empty = opt.skip_empty,
						.quiet = a->common.quiet};
	struct vf_ingest_result r = {0};
	struct vf_source *source;
	uint64_t start = vf_now_ns(), skipped;
	int err = open_texts(&texts.fd, &texts.name);

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
			  const struct vf_embedder *e)
{
	struct vf_import_files o = {
		.target = t,
		.paths = a->operands + 1,
		.n_paths = a->n_operands - 1,
		.part = opt.array,
		.keys = opt.keys,
		.metadata = opt.metadata,
		.embedder = e,
		.words = opt.words ? opt.words : "text",
		.part_rows = opt.part_rows,
		.first_key = opt.first_key,
		.resume = opt.resume,
		.check = opt.check,
		.put = {.wish = *wish,
			.shard_rows = opt.shard_rows,
			.cache_dir = opt.cache_dir,
			.compress = opt.compress,
			.n_leaves = (uint32_t)opt.leaves,
			.ram = opt.ram,
			.scratch = opt.scratch,
			.quiet = a->common.quiet,
			.n_threads = (unsigned)a->common.n_threads}};

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
		err = import_vectors(a, t, wish, e);
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
	err = opt.texts	   ? import_through(a, &t, &wish)
	      : is_model() ? import_model(a, &t, &wish)
			   : import_vectors(a, &t, &wish, NULL);
	vf_target_close(&t);
	return err;
}

const struct vf_verb vf_verb_import = {
	.name = "import",
	.summary = "add files of vectors, or texts through an embedder",
	.help = "usage: vectool import TARGET FILE... [OPTIONS]\n"
		"       vectool import TARGET --texts FILE.jsonl --embed "
		"hash:DIM [OPTIONS]\n"
		"       vectool import TARGET FILE... --embed URL --model NAME "
		"[OPTIONS]\n\n"
		"Files of vectors: npy, npz, fvecs, bvecs, ivecs, HDF5 (as "
		"ann-benchmarks), FAISS\n"
		"(flat, id map), JSON lines ({\"key\", \"vector\", "
		"\"metadata\"}), CSV.  What a file\n"
		"is, its content says.  Rows of keys that are there are "
		"replaced.  A file with\n"
		"many rows is put in parts, each one commit.\n\n"
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
		"  --skip-empty       pass over texts without a word\n\n"
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
		"All take --metric, --dtype, --bits, --shard-rows, "
		"--compress, --seed, --leaves,\n"
		"--ram, --scratch and --cache-dir as put does; a FAISS or HDF5 "
		"file brings the\n"
		"metric of a new index.\n\n"
		"Examples:\n"
		"  vectool import /data/bucket/glove glove-100-angular.hdf5 "
		"--check\n"
		"  vectool import s3://bucket/prefix/sift base.fvecs "
		"--part-rows 100000\n"
		"  vectool import /data/bucket/articles --texts articles.jsonl "
		"--embed hash:1024\n"
		"  vectool import /data/bucket/articles articles.csv --text "
		"body \\\n"
		"      --embed http://localhost:11434/v1 --model "
		"nomic-embed-text\n",
	.min_operands = 1,
	.max_operands = VF_ARGS_OPERANDS_MAX,
	.options = options,
	.run = run_import,
};
