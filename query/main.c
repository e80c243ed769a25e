/*
 * vecquery: the nearest vectors of an index, by the path of its folder.
 */
#include "index/index.h"
#include "query/embed.h"
#include "query/query.h"
#include "store/npy.h"

#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

enum { EXIT_FULL, EXIT_ERROR, EXIT_USAGE, EXIT_PARTIAL };

static const char help[] =
	"Usage: vecquery DIR/INDEX QUERY [OPTION...]\n"
	"Find the nearest vectors of an index: in a mount of vecfs, in the\n"
	"directory of a file:// bucket, or in a plain copy of either.\n"
	"\n"
	"The query, one of:\n"
	"      --npy FILE         each row of a NumPy file (f4, f2 or u1)\n"
	"      --vector JSON      one array of numbers; '-' reads it from stdin\n"
	"      --key KEY          the stored vector of this key\n"
	"      --text TEXT        this text, through the index's embedder\n"
	"\n"
	"  -k N                   results per query (default 10)\n"
	"      --candidates N     rows ranked again (default 100, or 10 * k)\n"
	"      --probes N|all     leaves of the tree scanned (default: enough for\n"
	"                         most of the nearest); flat indexes have none\n"
	"      --rerank HOW       by what: exact, their vectors, which are read;\n"
	"                         fast, all bits of their codes (vectool put\n"
	"                         --bits); none, the estimates that chose them\n"
	"                         (default exact)\n"
	"      --hamming          candidates by plain Hamming distance of the\n"
	"                         codes, a baseline to compare with\n"
	"      --exact            read every row\n"
	"      --no-metadata      keys and distances only\n"
	"      --format FORMAT    table, or jsonl: one JSON object per query\n"
	"                         (default: table on a terminal, else jsonl)\n"
	"  -h, --help             this text\n"
	"  -V, --version          the version\n"
	"\n"
	"Distances ascend: cosine is 1 - cos, euclidean is squared, dot is the\n"
	"negated inner product.  Those that no vector was read for are estimates\n"
	"(with --hamming and --rerank none, counts of differing bits), marked ~ in\n"
	"tables and \"exact\":false in JSON.  Exit status: 0 full answers, 1 error,\n"
	"2 usage, 3 an answer is partial.\n"
	"\n"
	"Examples:\n"
	"  vecquery /mnt/v/products --npy queries.npy -k 10\n"
	"  vecquery /mnt/v/products --key 17 --format jsonl | jq .hits\n"
	"  vecquery /mnt/v/packages --text 'play chess against the computer'\n";

struct args {
	const char *index, *npy, *vector, *key, *text;
	struct vf_search search;
	bool table;
};

static int usage_error(const char *what)
{
	fprintf(stderr, "vecquery: %s; see vecquery --help\n", what);
	return EXIT_USAGE;
}

static int parse_count(const char *s, uint32_t *out)
{
	char *end;
	unsigned long long v = strtoull(s, &end, 10);

	if (!*s || *end || *s == '-' || v > UINT32_MAX || !v)
		return -EINVAL;
	*out = (uint32_t)v;
	return 0;
}

static int parse_rerank(const char *s, enum vf_rerank *out)
{
	static const char *const names[] = {[VF_RERANK_EXACT] = "exact",
					    [VF_RERANK_FAST] = "fast",
					    [VF_RERANK_NONE] = "none"};

	for (size_t i = 0; i < VF_N(names); i++)
		if (!strcmp(s, names[i])) {
			*out = (enum vf_rerank)i;
			return 0;
		}
	return -EINVAL;
}

enum option_id {
	OPT_NPY = 256,
	OPT_VECTOR,
	OPT_KEY,
	OPT_TEXT,
	OPT_CANDIDATES,
	OPT_RERANK,
	OPT_PROBES,
	OPT_HAMMING,
	OPT_EXACT,
	OPT_FORMAT,
	OPT_NO_METADATA
};

static const struct option options[] = {
	{"npy", required_argument, NULL, OPT_NPY},
	{"vector", required_argument, NULL, OPT_VECTOR},
	{"key", required_argument, NULL, OPT_KEY},
	{"text", required_argument, NULL, OPT_TEXT},
	{"candidates", required_argument, NULL, OPT_CANDIDATES},
	{"probes", required_argument, NULL, OPT_PROBES},
	{"rerank", required_argument, NULL, OPT_RERANK},
	{"hamming", no_argument, NULL, OPT_HAMMING},
	{"exact", no_argument, NULL, OPT_EXACT},
	{"format", required_argument, NULL, OPT_FORMAT},
	{"no-metadata", no_argument, NULL, OPT_NO_METADATA},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{0}};

/* -1 to go on, else the exit status. */
static int parse_option(struct args *a, int c)
{
	switch (c) {
	case OPT_NPY:
		a->npy = optarg;
		break;
	case OPT_VECTOR:
		a->vector = optarg;
		break;
	case OPT_KEY:
		a->key = optarg;
		break;
	case OPT_TEXT:
		a->text = optarg;
		break;
	case 'k':
		if (parse_count(optarg, &a->search.k))
			return usage_error("-k takes a number from 1");
		break;
	case OPT_CANDIDATES:
		if (parse_count(optarg, &a->search.candidates))
			return usage_error(
				"--candidates takes a number from 1");
		break;
	case OPT_PROBES:
		if (!strcmp(optarg, "all"))
			a->search.probes = VF_PROBES_ALL;
		else if (parse_count(optarg, &a->search.probes))
			return usage_error(
				"--probes takes a number from 1, or all");
		break;
	case OPT_RERANK:
		if (parse_rerank(optarg, &a->search.rerank))
			return usage_error("--rerank is none, fast or exact");
		break;
	case OPT_HAMMING:
		a->search.hamming = true;
		break;
	case OPT_EXACT:
		a->search.exact = true;
		break;
	case OPT_NO_METADATA:
		a->search.no_metadata = true;
		break;
	case OPT_FORMAT:
		if (strcmp(optarg, "table") && strcmp(optarg, "jsonl"))
			return usage_error("--format is table or jsonl");
		a->table = !strcmp(optarg, "table");
		break;
	case 'h':
		fputs(help, stdout);
		return EXIT_FULL;
	case 'V':
		puts("vecquery " VF_VERSION);
		return EXIT_FULL;
	default:
		fputs("See vecquery --help.\n", stderr);
		return EXIT_USAGE;
	}
	return -1;
}

static int parse_args(int argc, char **argv, struct args *a)
{
	int c, rc;

	*a = (struct args){.search.k = 10, .table = isatty(STDOUT_FILENO)};
	while ((c = getopt_long(argc, argv, "k:hV", options, NULL)) != -1) {
		rc = parse_option(a, c);
		if (rc >= 0)
			return rc;
	}
	if (optind + 1 != argc)
		return usage_error(optind == argc ? "name an index: DIR/INDEX"
						  : "one index at a time");
	a->index = argv[optind];
	if (!!a->npy + !!a->vector + !!a->key + !!a->text != 1)
		return usage_error(
			"give one of --npy, --vector, --key, --text");
	return -1;
}

/* ---- output ---------------------------------------------------------------------------- */

static void print_json(const struct vf_answer *a, uint64_t number)
{
	const struct vf_cost *c = &a->cost;

	printf("{\"query\":%llu,\"version\":%llu,\"partial\":%s,\"hits\":[",
	       (unsigned long long)number, (unsigned long long)a->version,
	       a->partial ? "true" : "false");
	for (size_t i = 0; i < a->n_hits; i++) {
		const struct vf_answer_hit *h = &a->hits[i];
		json_t *key = json_string(h->key);
		VF_AUTO_FREE char *text = json_dumps(key, JSON_ENCODE_ANY);
		json_decref(key);
		printf("%s{\"key\":%s,\"distance\":%.9g,\"exact\":%s,"
		       "\"metadata\":%s}",
		       i ? "," : "", text ? text : "null", (double)h->distance,
		       h->exact ? "true" : "false", h->metadata);
	}
	printf("],\"cost\":{\"leaves\":%llu,\"scanned\":%llu,"
	       "\"candidates\":%llu,\"rows_read\":%llu,"
	       "\"ranges\":%llu,\"bytes\":%llu,\"ms\":{\"plan\":%.3f,"
	       "\"scan\":%.3f,\"fetch\":%.3f,\"total\":%.3f}}}\n",
	       (unsigned long long)c->leaves, (unsigned long long)c->scanned,
	       (unsigned long long)c->candidates,
	       (unsigned long long)c->rows_read, (unsigned long long)c->ranges,
	       (unsigned long long)c->bytes, c->plan_ms, c->scan_ms,
	       c->fetch_ms, c->total_ms);
}

static size_t terminal_width(void)
{
	struct winsize w;

	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) && w.ws_col > 40)
		return w.ws_col;
	return 120;
}

/* At most @width characters of UTF-8, control bytes as '?'. */
static int print_text(const char *s, size_t width, bool pad)
{
	size_t n = 0;

	for (; *s && n < width; s++) {
		unsigned char c = (unsigned char)*s;
		putchar(c < 0x20 || c == 0x7f ? '?' : c);
		n += (c & 0xc0) != 0x80;
	}
	while (*s && (*s & 0xc0) == 0x80)
		putchar(*s++);
	for (size_t i = n; pad && i < width; i++)
		putchar(' ');
	return 0;
}

static size_t text_width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

static void print_table(const struct vf_answer *a, uint64_t number, bool many)
{
	size_t width = terminal_width(), keys = 3;

	for (size_t i = 0; i < a->n_hits; i++)
		keys = VF_MAX(keys, text_width(a->hits[i].key));
	keys = VF_MIN(keys, (size_t)40);
	if (many)
		printf("query %llu\n", (unsigned long long)number);
	printf("%4s  %10s  %-*s  metadata\n", "rank", "distance", (int)keys,
	       "key");
	for (size_t i = 0; i < a->n_hits; i++) {
		printf("%4zu %c%10.6f  ", i + 1, a->hits[i].exact ? ' ' : '~',
		       (double)a->hits[i].distance);
		print_text(a->hits[i].key, keys, true);
		fputs("  ", stdout);
		print_text(a->hits[i].metadata,
			   width > keys + 24 ? width - keys - 20 : 4, false);
		putchar('\n');
	}
	printf("%llu rows read of %llu candidates in %.1f ms (scan %.1f, fetch "
	       "%.1f)%s\n",
	       (unsigned long long)a->cost.rows_read,
	       (unsigned long long)a->cost.candidates, a->cost.total_ms,
	       a->cost.scan_ms, a->cost.fetch_ms,
	       a->partial ? "; the answer is partial" : "");
}

/* ---- queries --------------------------------------------------------------------------- */

struct run {
	const struct args *args;
	struct vf_view *view;
	struct vf_view_info info;
	uint64_t n_done;
	bool many, any_partial;
};

static int run_query(struct run *r, const float *q)
{
	struct vf_answer *a;
	int err = vf_view_search(r->view, q, &r->args->search, &a);

	if (err)
		return err;
	if (r->args->table)
		print_table(a, r->n_done, r->many);
	else
		print_json(a, r->n_done);
	r->n_done++;
	r->any_partial |= a->partial;
	vf_answer_free(a);
	return ferror(stdout) ? -EIO : 0;
}

static int check_dim(const struct run *r, const char *what, uint64_t dim)
{
	if (dim == r->info.dim)
		return 0;
	return vf_fail(-EINVAL, "%s: dimension %llu, but %s has %u", what,
		       (unsigned long long)dim, r->args->index, r->info.dim);
}

static int read_npy_header(int fd, const char *path, struct vf_npy *npy)
{
	VF_AUTO_FREE uint8_t *head = malloc(VF_NPY_HEADER_MAX);
	const char *why = "it is cut short";
	struct stat st;
	ssize_t n;

	if (!head)
		return -ENOMEM;
	n = pread(fd, head, VF_NPY_HEADER_MAX, 0);
	if (n < 0 || fstat(fd, &st))
		return vf_fail(-errno, "%s: %s", path, strerror(errno));
	if (vf_npy_parse(head, (size_t)n, npy, &why) ||
	    (why = "it is cut short",
	     npy->data_len > (uint64_t)st.st_size ||
		     npy->data_off > (uint64_t)st.st_size - npy->data_len))
		return vf_fail(-EINVAL, "%s: %s", path, why);
	return 0;
}

static int run_npy(struct run *r, const char *path)
{
	VF_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct vf_npy npy;
	int err;

	if (fd < 0)
		return vf_fail(-errno, "%s: %s", path, strerror(errno));
	err = read_npy_header(fd, path, &npy);
	if (!err)
		err = check_dim(r, path, npy.dim);
	if (err)
		return err;
	size_t row_len = npy.dim * vf_dtype_size(npy.dtype);
	VF_AUTO_FREE void *row = malloc(row_len);
	VF_AUTO_FREE float *q = malloc(npy.dim * sizeof(*q));
	if (!row || !q)
		return -ENOMEM;
	r->many = npy.n_rows > 1;
	for (uint64_t i = 0; !err && i < npy.n_rows; i++) {
		err = vf_pread_all(fd, row, row_len,
				   npy.data_off + i * row_len);
		if (err)
			return vf_fail(err, "%s: row %llu: %s", path,
				       (unsigned long long)i, vf_strerror(err));
		vf_widen(npy.dtype, row, npy.dim, q);
		err = run_query(r, q);
	}
	return err;
}

static int run_vector(struct run *r, const char *text)
{
	json_error_t e;
	json_t *j = strcmp(text, "-") ? json_loads(text, 0, &e)
				      : json_loadf(stdin, 0, &e);
	VF_AUTO_FREE float *q = malloc(r->info.dim * sizeof(*q));
	int err = q ? 0 : -ENOMEM;

	if (!json_is_array(j))
		err = vf_fail(-EINVAL, "--vector: not a JSON array of numbers");
	else
		err = check_dim(r, "--vector", json_array_size(j));
	for (size_t i = 0; !err && i < r->info.dim; i++) {
		json_t *v = json_array_get(j, i);
		if (!json_is_number(v))
			err = vf_fail(-EINVAL,
				      "--vector: element %zu is no number", i);
		else
			q[i] = (float)json_number_value(v);
	}
	json_decref(j);
	return err ? err : run_query(r, q);
}

static int run_key(struct run *r, const char *key)
{
	VF_AUTO_FREE float *q = malloc(r->info.dim * sizeof(*q));
	int err = q ? vf_view_vector(r->view, key, q) : -ENOMEM;

	if (err == -ENOENT)
		return vf_fail(err, "%s: no key \"%s\"", r->args->index, key);
	return err ? err : run_query(r, q);
}

static int run_text(struct run *r, const char *text)
{
	VF_AUTO_FREE float *q = malloc(r->info.dim * sizeof(*q));
	struct vf_embedder *e = NULL;
	const void *data;
	size_t len;
	int err = q ? vf_view_embedder(r->view, &data, &len) : -ENOMEM;

	if (!err && !r->info.embedder[0])
		return vf_fail(-EINVAL,
			       "%s: it was not made from texts; use --npy, "
			       "--vector or --key",
			       r->args->index);
	if (!err)
		err = vf_embedder_open(r->info.embedder, data, len, &e);
	if (!err)
		err = check_dim(r, r->info.embedder, e->dim);
	if (!err) {
		err = vf_embedder_embed(e, text, strlen(text), q);
		if (err == -EINVAL)
			vf_fail(err, "--text: there is no word in it");
	}
	vf_embedder_free(e);
	return err ? err : run_query(r, q);
}

int main(int argc, char **argv)
{
	struct args a;
	struct run r = {.args = &a};
	int rc = parse_args(argc, argv, &a), err;

	if (rc >= 0)
		return rc;
	vf_log_name("vecquery");
	err = vf_guard_install();
	if (!err)
		err = vf_view_open(a.index, NULL, &r.view);
	if (!err) {
		vf_view_info(r.view, &r.info);
		err = a.npy	 ? run_npy(&r, a.npy)
		      : a.vector ? run_vector(&r, a.vector)
		      : a.key	 ? run_key(&r, a.key)
				 : run_text(&r, a.text);
	}
	vf_view_close(r.view);
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "vecquery: cannot write the answers: %s\n",
			strerror(errno));
		return EXIT_ERROR;
	}
	if (err == -ENOMEM)
		fputs("vecquery: out of memory\n", stderr);
	return err ? EXIT_ERROR : r.any_partial ? EXIT_PARTIAL : EXIT_FULL;
}
