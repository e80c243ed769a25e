/*
 * Options of vecquery.  Knobs are one table, for the command line and for the
 * queries of --stdin.
 */
#include "query/cli.h"

#include "query/embed_http.h"
#include "store/filter.h"

#include <ctype.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>

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
	"      --embed URL        where the model that embedded its texts is, if one\n"
	"                         did: an API like OpenAI's, such as\n"
	"                         http://localhost:8080/v1; the key is taken from\n"
	"                         VECFS_EMBED_KEY, else OPENAI_API_KEY\n"
	"      --model NAME       that model; another than the index's is refused\n"
	"      --stdin            lines of JSON: {\"vector\":[...]} or \"key\" or\n"
	"                         \"text\", and knobs such as \"k\" or \"max_gets\";\n"
	"                         answers come as lines, in order\n"
	"\n"
	"  -k N                   results per query (default 10)\n"
	"      --candidates N     rows ranked again, always so many (default: those\n"
	"                         that the bounds of their estimates leave open;\n"
	"                         without their vectors 100, or 10 * k)\n"
	"      --probes N|all     leaves of the tree scanned (default: enough for\n"
	"                         most of the nearest); flat indexes have none\n"
	"      --rerank HOW       by what: exact, their vectors, which are read;\n"
	"                         fast, all bits of their codes (vectool put\n"
	"                         --bits); none, the estimates that chose them\n"
	"                         (default exact)\n"
	"      --hamming          candidates by plain Hamming distance of the\n"
	"                         codes, a baseline to compare with\n"
	"      --exact            read every row\n"
	"      --good-enough D    done when rows at hand give k results no farther\n"
	"      --max-gets N       requests to the bucket, half of them for codes;\n"
	"                         leaves beyond are not scanned, rows keep their\n"
	"                         estimates\n"
	"      --max-ms MS        what has not come by then is left\n"
	"      --filter JSON      only rows whose metadata match, as\n"
	"                         '{\"year\":{\"$gte\":1990},\"genre\":\"drama\"}';\n"
	"                         see vecfs-filters(7)\n"
	"      --cache-dir DIR    of the catalog that filters use (default\n"
	"                         ~/.cache/vecfs); none: records are read instead\n"
	"      --on-error HOW     of a row that cannot be read: fail, or partial, an\n"
	"                         answer without it (default fail)\n"
	"      --no-metadata      keys and distances only\n"
	"      --threads N        that --stdin answers on (default: one for each\n"
	"                         processor), or one query scans on (default 1)\n"
	"      --at N             the index as of commit N\n"
	"      --fresh MS         the newest commit as of at most so long ago\n"
	"                         (default 1000; 0 asks the bucket)\n"
	"      --ram SIZE         memory for codes; those that do not fit are read\n"
	"                         from the mount as they are needed\n"
	"      --cache SIZE       memory for answers to repeated queries (default\n"
	"                         64M with --stdin)\n"
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
	"  vecquery /mnt/v/packages --text 'play chess against the computer'\n"
	"  echo '{\"key\":\"17\",\"k\":3}' | vecquery /mnt/v/products --stdin\n";

#define CACHE_DEFAULT UINT64_MAX
enum { CACHE_LEN = 64 << 20 };

/* ---- knobs ----------------------------------------------------------------------------- */

enum kind { COUNT, FLAG, PROBES, RERANK, ON_ERROR, DISTANCE, FILTER };

#define SEARCH(member) offsetof(struct cli_knobs, search.member)

static const struct knob {
	const char *name;
	enum kind kind;
	size_t off;   /* in struct cli_knobs */
	uint32_t max; /* of a count; 0: any */
} knobs[] = {
	{"k", COUNT, SEARCH(k), VF_K_MAX},
	{"candidates", COUNT, SEARCH(candidates), VF_CANDIDATES_MAX},
	{"max-gets", COUNT, SEARCH(max_gets), 0},
	{"max-ms", COUNT, SEARCH(max_ms), 0},
	{"probes", PROBES, SEARCH(probes), 0},
	{"rerank", RERANK, SEARCH(rerank), 0},
	{"hamming", FLAG, SEARCH(hamming), 0},
	{"exact", FLAG, SEARCH(exact), 0},
	{"no-metadata", FLAG, SEARCH(no_metadata), 0},
	{"on-error", ON_ERROR, SEARCH(on_error_partial), 0},
	{"good-enough", DISTANCE, 0, 0},
	{"filter", FILTER, 0, 0},
};

static const char *const takes[] = {
	[COUNT] = "takes a number from 1",
	[FLAG] = "takes true or false",
	[PROBES] = "takes a number from 1, or all",
	[RERANK] = "is none, fast or exact",
	[ON_ERROR] = "is partial or fail",
	[DISTANCE] = "takes a distance",
};

static bool is_named(const char *want, const char *name)
{
	for (; *want && *name; want++, name++)
		if (*want != (*name == '_' ? '-' : *name))
			return false;
	return *want == *name;
}

/* The number of @s among @names; -EINVAL. */
static int find_name(const char *s, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(s, names[i]))
			return (int)i;
	return -EINVAL;
}

static int parse_count(const char *s, uint32_t *out)
{
	char *end;
	unsigned long long v = strtoull(s, &end, 10);

	if (!isdigit((unsigned char)*s) || *end || v > UINT32_MAX || !v)
		return -EINVAL;
	*out = (uint32_t)v;
	return 0;
}

static int parse_flag(const char *s, const char *const names[2], bool *out)
{
	int i = find_name(s, names, 2);

	if (i >= 0)
		*out = i;
	return i < 0 ? i : 0;
}

static int parse_rerank(const char *s, enum vf_rerank *out)
{
	static const char *const names[] = {[VF_RERANK_EXACT] = "exact",
					    [VF_RERANK_FAST] = "fast",
					    [VF_RERANK_NONE] = "none"};
	int i = find_name(s, names, VF_N(names));

	if (i >= 0)
		*out = (enum vf_rerank)i;
	return i < 0 ? i : 0;
}

static int parse_distance(const char *s, struct cli_knobs *k)
{
	char *end;
	float v = strtof(s, &end);

	if (!*s || *end || !isfinite(v))
		return -EINVAL;
	k->good_enough = v;
	k->has_good_enough = true;
	return 0;
}

/* Checked here, so that what is wrong is said of the line it is in. */
static int parse_filter(const char *s, struct cli_knobs *k, char *why)
{
	struct vf_filter *f;
	int err = vf_filter_parse(s, strlen(s), &f, why);

	vf_filter_free(f);
	if (err)
		return err;
	free(k->filter);
	k->filter = strdup(s);
	k->search.filter = k->filter;
	return k->filter ? 0 : -ENOMEM;
}

static int set_knob(struct cli_knobs *k, const struct knob *knob,
		    const char *text)
{
	static const char *const flags[] = {"false", "true"};
	static const char *const errors[] = {"fail", "partial"};
	void *at = (char *)k + knob->off;
	uint32_t n;
	int err;

	switch (knob->kind) {
	case COUNT:
		err = parse_count(text, &n);
		if (err || (knob->max && n > knob->max))
			return -EINVAL;
		*(uint32_t *)at = n;
		return 0;
	case FLAG:
		return parse_flag(text, flags, at);
	case PROBES:
		if (strcmp(text, "all"))
			return parse_count(text, at);
		*(uint32_t *)at = VF_PROBES_ALL;
		return 0;
	case RERANK:
		return parse_rerank(text, at);
	case ON_ERROR:
		return parse_flag(text, errors, at);
	case DISTANCE:
		return parse_distance(text, k);
	case FILTER:
		break;
	}
	return -EINVAL;
}

int cli_knob_set(struct cli_knobs *k, const char *name, const char *text,
		 const char **out_takes)
{
	for (size_t i = 0; i < VF_N(knobs); i++) {
		if (!is_named(knobs[i].name, name))
			continue;
		static _Thread_local char why[VF_FILTER_WHY_LEN];
		*out_takes = why;
		if (knobs[i].kind == FILTER)
			return parse_filter(text, k, why);
		if (knobs[i].max)
			snprintf(why, sizeof(why),
				 "takes a number from 1 to %u", knobs[i].max);
		else
			*out_takes = takes[knobs[i].kind];
		return set_knob(k, &knobs[i], text);
	}
	return -ENOENT;
}

const struct vf_search *cli_search(struct cli_knobs *k)
{
	k->search.good_enough = k->has_good_enough ? &k->good_enough : NULL;
	return &k->search;
}

/* ---- the command line ------------------------------------------------------------------ */

static int usage_error(const char *what)
{
	fprintf(stderr, "vecquery: %s; see vecquery --help\n", what);
	return EXIT_USAGE;
}

enum option_id {
	OPT_NPY = 256,
	OPT_VECTOR,
	OPT_KEY,
	OPT_TEXT,
	OPT_EMBED,
	OPT_MODEL,
	OPT_FORMAT,
	OPT_STDIN,
	OPT_THREADS,
	OPT_CACHE,
	OPT_RAM,
	OPT_AT,
	OPT_FRESH,
	OPT_CACHE_DIR,
	OPT_KNOB
};

static const struct option options[] = {
	{"npy", required_argument, NULL, OPT_NPY},
	{"vector", required_argument, NULL, OPT_VECTOR},
	{"key", required_argument, NULL, OPT_KEY},
	{"text", required_argument, NULL, OPT_TEXT},
	{"embed", required_argument, NULL, OPT_EMBED},
	{"model", required_argument, NULL, OPT_MODEL},
	{"format", required_argument, NULL, OPT_FORMAT},
	{"stdin", no_argument, NULL, OPT_STDIN},
	{"threads", required_argument, NULL, OPT_THREADS},
	{"cache", required_argument, NULL, OPT_CACHE},
	{"ram", required_argument, NULL, OPT_RAM},
	{"at", required_argument, NULL, OPT_AT},
	{"fresh", required_argument, NULL, OPT_FRESH},
	{"cache-dir", required_argument, NULL, OPT_CACHE_DIR},
	{"candidates", required_argument, NULL, OPT_KNOB},
	{"filter", required_argument, NULL, OPT_KNOB},
	{"max-gets", required_argument, NULL, OPT_KNOB},
	{"max-ms", required_argument, NULL, OPT_KNOB},
	{"probes", required_argument, NULL, OPT_KNOB},
	{"rerank", required_argument, NULL, OPT_KNOB},
	{"on-error", required_argument, NULL, OPT_KNOB},
	{"good-enough", required_argument, NULL, OPT_KNOB},
	{"hamming", no_argument, NULL, OPT_KNOB},
	{"exact", no_argument, NULL, OPT_KNOB},
	{"no-metadata", no_argument, NULL, OPT_KNOB},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{0}};

/* Milliseconds; 0 is not the view's default. */
static int parse_fresh(const char *s, int *out)
{
	uint32_t ms;

	*out = VF_FRESH_NOW;
	if (!strcmp(s, "0"))
		return 0;
	if (parse_count(s, &ms) || ms > INT_MAX)
		return -EINVAL;
	*out = (int)ms;
	return 0;
}

static int parse_knob(struct cli_args *a, const char *name, const char *text)
{
	const char *want;
	int err = cli_knob_set(&a->knobs, name, text ? text : "true", &want);

	if (!err)
		return -1;
	fprintf(stderr, "vecquery: %s%s %s%s; see vecquery --help\n",
		strcmp(name, "k") ? "--" : "-", name,
		strcmp(name, "filter") ? "" : "is wrong: ",
		err == -EINVAL ? want : vf_strerror(err));
	return EXIT_USAGE;
}

static int parse_format(struct cli_args *a, const char *s)
{
	if (strcmp(s, "table") && strcmp(s, "jsonl"))
		return usage_error("--format is table or jsonl");
	a->table = a->wants_table = !strcmp(s, "table");
	return -1;
}

/* -1 to go on, else the exit status. */
static int parse_option(struct cli_args *a, int c, const char *name)
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
	case OPT_EMBED:
		if (!vf_embed_is_url(optarg))
			return usage_error("--embed takes a URL");
		a->embed = optarg;
		break;
	case OPT_MODEL:
		a->model = optarg;
		break;
	case OPT_STDIN:
		a->stdin_queries = true;
		break;
	case OPT_THREADS:
		if (parse_count(optarg, &a->n_threads))
			return usage_error("--threads takes a number from 1");
		break;
	case OPT_CACHE:
		if (vf_parse_size(optarg, &a->cache_len))
			return usage_error("--cache takes a size, such as 64M");
		break;
	case OPT_RAM:
		if (vf_parse_size(optarg, &a->ram_max) || !a->ram_max)
			return usage_error("--ram takes a size, such as 512M");
		break;
	case OPT_AT:
		if (parse_count(optarg, &a->at))
			return usage_error("--at takes a number from 1");
		break;
	case OPT_FRESH:
		if (parse_fresh(optarg, &a->fresh_ms))
			return usage_error("--fresh takes milliseconds");
		break;
	case OPT_CACHE_DIR:
		a->cache_dir = strcmp(optarg, "none") ? optarg : "";
		break;
	case OPT_KNOB:
		return parse_knob(a, name, optarg);
	case 'k':
		return parse_knob(a, "k", optarg);
	case OPT_FORMAT:
		return parse_format(a, optarg);
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

/* Options of which one would be without effect; NULL: none. */
static const char *find_clash(const struct cli_args *a)
{
	const struct vf_search *s = &a->knobs.search;

	if (s->exact && (s->max_gets || s->max_ms))
		return "--exact reads every row: no --max-gets, no --max-ms";
	if (a->wants_table && a->stdin_queries)
		return "--stdin is answered in lines of JSON: no --format table";
	if ((a->embed || a->model) && !a->text && !a->stdin_queries)
		return "--embed and --model are for --text and --stdin";
	if (a->at && a->fresh_ms)
		return "--at shows one commit, whatever is newest: no --fresh";
	return NULL;
}

int cli_parse(int argc, char **argv, struct cli_args *a)
{
	int c, rc, at = 0;

	*a = (struct cli_args){.knobs.search.k = 10,
			       .cache_len = CACHE_DEFAULT,
			       .table = isatty(STDOUT_FILENO)};
	while ((c = getopt_long(argc, argv, "k:hV", options, &at)) != -1) {
		rc = parse_option(a, c, options[at].name);
		if (rc >= 0)
			return rc;
	}
	if (optind + 1 != argc)
		return usage_error(optind == argc ? "name an index: DIR/INDEX"
						  : "one index at a time");
	a->index = argv[optind];
	if (!!a->npy + !!a->vector + !!a->key + !!a->text + a->stdin_queries !=
	    1)
		return usage_error(
			"give one of --npy, --vector, --key, --text, --stdin");
	const char *clash = find_clash(a);
	if (clash)
		return usage_error(clash);
	if (!a->stdin_queries)
		a->knobs.search.threads = a->n_threads;
	else if (a->cache_len == CACHE_DEFAULT)
		a->cache_len = CACHE_LEN;
	if (a->cache_len == CACHE_DEFAULT)
		a->cache_len = 0;
	return -1;
}
