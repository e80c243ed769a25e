/*
 * vectool ls: the indexes of a bucket, or the keys of an index; what is there
 * decides which.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "index/crew.h"
#include "store/filter.h"
#include "store/line.h"
#include "tools/each_record.h"
#include "tools/interrupt.h"
#include "tools/jsonl.h"
#include "tools/target.h"
#include "tools/verb.h"

static struct {
	bool json;
	uint64_t n_max;
	const char *filter, *page, *segment;
} opt = {.n_max = UINT64_MAX};

enum {
	PAGE = 500, /* rows, unless told otherwise */
	SEGMENTS_MAX = 1024,
	TOGETHER = 16, /* indexes: a log may be tens of MB */
};

static const struct vf_arg options[] = {
	{"json", 0, VF_ARG_FLAG, &opt.json, 0, 0},
	{"filter", 0, VF_ARG_STRING, &opt.filter, 0, 0},
	{"limit", 'n', VF_ARG_COUNT, &opt.n_max, 0, 0},
	{"page", 0, VF_ARG_STRING, &opt.page, 0, 0},
	{"segment", 0, VF_ARG_STRING, &opt.segment, 0, 0},
	{0}};

/* ---- keys of an index ------------------------------------------------------------ */

struct keys {
	uint64_t left, n;
	struct vf_filter *filter; /* NULL: none */
	struct vf_buf scratch;
};

/* 1: it is not to be listed. */
static int filter_line(struct keys *k, const char *line, size_t len)
{
	struct vf_line l;
	/* A token may lead into the middle of a line. */
	int rc = k->filter || opt.page ? vf_line_split(line, len, &l) : 0;

	if (!k->filter)
		return rc;
	if (!rc)
		rc = vf_filter_match(k->filter, l.metadata, l.metadata_len,
				     &k->scratch);
	return rc < 0 ? rc : !rc;
}

static int list_line(void *arg, const char *place, const char *line, size_t len)
{
	VF_AUTO_FREE char *key = NULL;
	struct keys *k = arg;
	size_t key_len;
	int rc = filter_line(k, line, len);

	if (!rc && opt.page)
		printf("%s%.*s", k->n ? "," : "", (int)(len - 1), line);
	else if (!rc && opt.json)
		fwrite(line, 1, len, stdout);
	else if (!rc && vf_record_line_key(line, len, &key, &key_len))
		rc = -EBADMSG;
	if (rc == -EBADMSG)
		return vf_fail(rc, "%s: a damaged record line", place);
	if (rc)
		return rc < 0 ? rc : 0;
	if (!opt.json && !opt.page) {
		vf_print_escaped(key, key_len);
		putchar('\n');
	}
	k->n++;
	/* Or nobody reads any more: head(1). */
	return !--k->left || ferror(stdout);
}

static int list_keys(const struct vf_target *t, const struct vf_state *s,
		     struct vf_records_pos *pos)
{
	struct keys k = {.left = opt.n_max};
	int rc = opt.filter ? vf_filter_open(opt.filter, t->name, &s->config,
					     &k.filter)
			    : 0;

	if (rc == -EINVAL)
		rc = VF_ERR_USAGE;
	if (!rc && opt.page)
		printf("{\"vectors\":[");
	if (!rc && k.left)
		rc = vf_records_walk(t, s, pos, list_line, &k);
	vf_filter_free(k.filter);
	vf_buf_fini(&k.scratch);
	return VF_MIN(rc, 0);
}

/* ---- pages and segments -------------------------------------------------------------- */

/* "I/N", I from 0 on, as ListVectors counts. */
static int parse_segment(const struct vf_state *s, struct vf_records_pos *out)
{
	uint64_t i = 0, n = 1;
	int end = 0;

	if (opt.segment &&
	    (sscanf(opt.segment, "%4" SCNu64 "/%4" SCNu64 "%n", &i, &n, &end) !=
		     2 ||
	     opt.segment[end] || !n || n > SEGMENTS_MAX || i >= n))
		return vf_fail(VF_ERR_USAGE,
			       "--segment: %s is not I/N, I from 0 to N - 1, N "
			       "at most %d",
			       opt.segment, SEGMENTS_MAX);
	*out = vf_records_part(s, i, n);
	return 0;
}

static int refuse_token(void)
{
	return vf_fail(VF_ERR_USAGE,
		       "--page: \"%s\" is no token of this index; begin with "
		       "\"first\"",
		       opt.page);
}

/* A token is "VERSION.PLACE.ROW.OFF.LEFT"; *s moves to its version. */
static int parse_token(const struct vf_target *t, struct vf_state **s,
		       struct vf_records_pos *out)
{
	uint64_t version;
	int end = 0, err = 0;

	if (sscanf(opt.page,
		   "%19" SCNu64 ".%19" SCNu64 ".%19" SCNu64 ".%19" SCNu64
		   ".%19" SCNu64 "%n",
		   &version, &out->place, &out->row, &out->off, &out->left,
		   &end) != 5 ||
	    opt.page[end] || !version || version > (*s)->head)
		return refuse_token();
	if (version != (*s)->head) {
		vf_state_free(VF_STEAL(*s));
		err = vf_state_load_at(t->bucket, t->index, version, s);
	}
	return err || vf_records_pos_ok(*s, out) ? err : refuse_token();
}

/* The page ends with where the next one begins, if there is one. */
static int list_page(const struct vf_target *t, struct vf_state **s)
{
	struct vf_records_pos pos;
	int err = strcmp(opt.page, "first") ? parse_token(t, s, &pos)
					    : parse_segment(*s, &pos);

	if (opt.n_max == UINT64_MAX)
		opt.n_max = PAGE;
	if (!opt.n_max)
		return vf_fail(VF_ERR_USAGE,
			       "--limit: a page has a row at least");
	if (!err)
		err = list_keys(t, *s, &pos);
	if (err)
		return err;
	printf("]");
	if (!vf_records_at_end(*s, &pos))
		printf(",\"nextToken\":\"%" PRIu64 ".%" PRIu64 ".%" PRIu64
		       ".%" PRIu64 ".%" PRIu64 "\"",
		       (*s)->head, pos.place, pos.row, pos.off, pos.left);
	printf("}\n");
	return 0;
}

static int list_index_keys(const struct vf_target *t, struct vf_state **s)
{
	struct vf_records_pos pos;
	int err;

	if (opt.page)
		return list_page(t, s);
	err = parse_segment(*s, &pos);
	return err ? err : list_keys(t, *s, &pos);
}

/* ---- indexes of a bucket ----------------------------------------------------------- */

/* What is said of one. */
struct indexed {
	char name[VF_INDEX_NAME_MAX + 1];
	bool configured;
	uint32_t dim;
	enum vf_metric metric;
	enum vf_dtype dtype;
	uint64_t n_rows, head;
	size_t n_shards;
};

/* Some are looked at together, each of which takes rounds to the bucket. */
struct listing {
	struct vf_bucket *bucket;
	struct indexed batch[256];
	size_t n;	 /* in the batch */
	uint64_t n_said; /* before it */
};

static void print_index(const struct indexed *x, bool first)
{
	const char *none = x->head && !opt.json ? "dropped" : "-";
	const char *metric = x->configured ? vf_metric_name(x->metric) : none;
	const char *dtype = x->configured ? vf_dtype_name(x->dtype) : "-";

	if (opt.json) {
		printf("{\"index\":\"%s\",\"rows\":%" PRIu64
		       ",\"dim\":%u,\"metric\":\"%s\",\"dtype\":\"%s\","
		       "\"shards\":%zu,\"version\":%" PRIu64 "}\n",
		       x->name, x->n_rows, x->dim, metric, dtype, x->n_shards,
		       x->head);
		return;
	}
	if (first)
		printf("%-24s %12s %6s %-10s %-5s %7s\n", "index", "rows",
		       "dim", "metric", "type", "shards");
	printf("%-24s %12" PRIu64 " %6u %-10s %-5s %7zu\n", x->name, x->n_rows,
	       x->dim, metric, dtype, x->n_shards);
}

static int look_at(void *arg, size_t i)
{
	struct listing *l = arg;
	struct indexed *x = &l->batch[i];
	struct vf_state *s;

	if (vf_interrupted())
		return -ECANCELED;
	int err = vf_state_load(l->bucket, x->name, &s);
	if (err == -ENOENT)
		return vf_fail(err, "%s: was removed meanwhile", x->name);
	if (err)
		return err;
	x->configured = s->configured;
	x->dim = s->config.dim;
	x->metric = s->config.metric;
	x->dtype = s->config.dtype;
	x->n_rows = s->n_rows;
	x->head = s->head;
	x->n_shards = s->n_shards;
	vf_state_free(s);
	return 0;
}

static int print_batch(struct listing *l)
{
	int err = vf_crew_run(TOGETHER, l->n, look_at, l);

	for (size_t i = 0; !err && i < l->n; i++)
		print_index(&l->batch[i], !l->n_said++);
	l->n = 0;
	return err;
}

static int list_index(void *arg, const char *name)
{
	struct listing *l = arg;

	if (l->n_said + l->n == opt.n_max)
		return 0;
	l->batch[l->n] = (struct indexed){0};
	strcpy(l->batch[l->n++].name, name);
	return l->n == VF_N(l->batch) ? print_batch(l) : 0;
}

/* The bucket that @name names itself, in a URL's form. */
static int bucket_url(const char *name, char **out)
{
	VF_AUTO_FREE char *inside = NULL, *index = NULL;

	if (asprintf(&inside, "%s/x", name) < 0)
		return -ENOMEM;
	return vf_target_split(inside, out, &index);
}

static int list_bucket(const char *url, const struct vf_args *a)
{
	struct listing l = {0};
	int err = vf_bucket_open(url, &a->common.bucket, &l.bucket);

	if (err)
		return err;
	err = vf_index_list(l.bucket, list_index, &l);
	if (!err)
		err = print_batch(&l);
	vf_bucket_close(l.bucket);
	return err;
}

/* ---- which of the two ---------------------------------------------------------------- */

/* Whether the last part of @url could name an index in what is before it. */
static bool may_be_index(const char *url)
{
	const char *path = strstr(url, "://") + 3;
	const char *slash = strrchr(path, '/');

	return slash && vf_index_name_ok(slash + 1) &&
	       (slash > path || !strncmp(url, "file://", 7));
}

/* Lists the keys when @url is an index. */
static int try_index(const char *url, const struct vf_args *a, bool *out_is)
{
	struct vf_target t;
	struct vf_state *s;
	int err = vf_target_open(url, &a->common, &t);

	*out_is = false;
	if (err)
		return err;
	err = vf_state_load(t.bucket, t.index, &s);
	if (!err) {
		*out_is = true;
		err = list_index_keys(&t, &s);
		vf_state_free(s);
	} else if (err == -ENOENT) {
		err = 0;
	}
	vf_target_close(&t);
	return err;
}

static int run_ls(const struct vf_args *a)
{
	VF_AUTO_FREE char *url = NULL;
	bool is_index = false;
	int err = bucket_url(a->operands[0], &url);

	if (err)
		return err;
	if (may_be_index(url))
		err = try_index(url, a, &is_index);
	if (!err && !is_index && (opt.filter || opt.page || opt.segment))
		err = vf_fail(VF_ERR_USAGE,
			      "%s: no index, whose keys --%s is of",
			      a->operands[0],
			      opt.filter ? "filter"
			      : opt.page ? "page"
					 : "segment");
	if (!err && !is_index)
		err = list_bucket(url, a);
	return err;
}

const struct vf_verb vf_verb_ls = {
	.name = "ls",
	.summary = "list the indexes of a bucket or the keys of an index",
	.help = "usage: vectool ls BUCKET [--json]\n"
		"       vectool ls TARGET [-n N] [--filter JSON] [--segment "
		"I/N] [--json]\n"
		"       vectool ls TARGET --page TOKEN [-n N] [--filter JSON] "
		"[--segment I/N]\n\n"
		"Of a bucket: its indexes with rows, dimension and metric.  Of "
		"an index: its keys,\n"
		"one per line, in the order of its shards.\n\n"
		"  -n, --limit N      at most N lines\n"
		"  --filter JSON      of an index: only rows whose metadata "
		"match, see\n"
		"                     vecfs-filters(7)\n"
		"  --segment I/N      part I, from 0 on, of N of about as many "
		"rows: N processes\n"
		"                     read an index together\n"
		"  --page TOKEN       one JSON object: {\"vectors\": [records], "
		"\"nextToken\"}, of\n"
		"                     at most -n (500) rows.  TOKEN is \"first\", "
		"then what the\n"
		"                     page before said; without nextToken it was "
		"the last.  All\n"
		"                     pages are of the version of the first\n"
		"  --json             one JSON object per line; of an index, "
		"its records\n\n"
		"Examples:\n"
		"  vectool ls s3://bucket/prefix\n"
		"  vectool ls -n 10 s3://bucket/prefix/products\n"
		"  vectool ls s3://bucket/prefix/films --filter "
		"'{\"genre\":\"drama\"}'\n"
		"  for i in 0 1 2 3; do vectool ls s3://bucket/prefix/films "
		"--segment $i/4 >$i & done\n",
	.min_operands = 1,
	.max_operands = 1,
	.options = options,
	.run = run_ls,
};
