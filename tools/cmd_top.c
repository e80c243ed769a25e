/*
 * vectool top: what a mount is doing, from its status.json, over and over.
 * Figures are of the time since the last look; the first of all time.
 */
#include <inttypes.h>
#include <stdio.h>

#include "tools/interrupt.h"
#include "tools/mounted.h"
#include "tools/target.h"
#include "tools/verb.h"

enum { BUCKETS_MAX = 64, WAIT_STEP_US = 50000 };

static struct {
	uint64_t n;
	const char *interval;
} opt;

static const struct vf_arg options[] = {
	{"count", 'n', VF_ARG_COUNT, &opt.n, 1, 0},
	{"interval", 0, VF_ARG_STRING, &opt.interval, 0, 0},
	{0}};

struct sample {
	json_t *status;
	uint64_t at_ns;
};

/* ---- figures ---------------------------------------------------------------------- */

/* How much a counter grew; all of it at the first look. */
static uint64_t grown(const struct sample *now, const struct sample *before,
		      const char *name)
{
	uint64_t a = vf_status_number(now->status, name);
	uint64_t b =
		before->status ? vf_status_number(before->status, name) : 0;

	return a - VF_MIN(a, b);
}

static double per_second(const struct sample *now, const struct sample *before,
			 const char *name)
{
	double s = before->status
			   ? (double)(now->at_ns - before->at_ns) / 1e9
			   : (double)vf_status_number(now->status, "uptime_s");

	return (double)grown(now, before, name) / VF_MAX(s, 0.001);
}

static uint64_t bucket_of(const struct sample *s, size_t i)
{
	const json_t *a = json_object_get(json_object_get(s->status, "cache"),
					  "fetch_us_log2");

	return (uint64_t)json_integer_value(json_array_get(a, i));
}

/* The upper end of the bucket where @share of the fetches end; 0: none were. */
static double percentile_ms(const struct sample *now,
			    const struct sample *before, double share)
{
	uint64_t n[BUCKETS_MAX], all = 0, sum = 0;

	for (size_t i = 0; i < BUCKETS_MAX; i++) {
		uint64_t a = bucket_of(now, i);
		uint64_t b = before->status ? bucket_of(before, i) : 0;
		n[i] = a - VF_MIN(a, b);
		all += n[i];
	}
	for (size_t i = 0; all && i < BUCKETS_MAX; i++) {
		sum += n[i];
		if ((double)sum >= share * (double)all)
			return (double)(UINT64_C(1) << i) / 1000;
	}
	return 0;
}

static void format_share(uint64_t part, uint64_t of, char out[16])
{
	if (of)
		snprintf(out, 16, "%.1f%%", 100. * (double)part / (double)of);
	else
		strcpy(out, "-");
}

static void format_ms(double ms, char out[16])
{
	if (ms > 0)
		snprintf(out, 16, "<%.4g ms", ms);
	else
		strcpy(out, "-");
}

struct figures {
	char ram[16], disk[16], p50[16], p90[16], p99[16];
	char in[24], out[24];
	double gets;
	uint64_t flying, retries, errors;
};

static void get_figures(const struct sample *now, const struct sample *before,
			struct figures *f)
{
	uint64_t hit = grown(now, before, "cache.hits");
	uint64_t miss = grown(now, before, "cache.misses");

	format_share(hit, hit + miss, f->ram);
	if (json_object_get(now->status, "disk"))
		format_share(grown(now, before, "cache.disk_hits"), miss,
			     f->disk);
	else
		strcpy(f->disk, "none");
	format_ms(percentile_ms(now, before, 0.5), f->p50);
	format_ms(percentile_ms(now, before, 0.9), f->p90);
	format_ms(percentile_ms(now, before, 0.99), f->p99);
	vf_format_size((uint64_t)per_second(now, before, "requests.in_bytes"),
		       f->in);
	vf_format_size((uint64_t)per_second(now, before, "read_bytes"), f->out);
	f->gets = per_second(now, before, "requests.get");
	f->flying = vf_status_number(now->status, "cache.flying");
	f->retries = grown(now, before, "requests.retries");
	f->errors = grown(now, before, "requests.errors");
}

/* ---- a line a look, in a pipe ------------------------------------------------------ */

static void print_line(const struct sample *now, const struct sample *before)
{
	struct figures f;

	get_figures(now, before, &f);
	printf("hits ram %s disk %s  %.1f GET/s  in %s/s  out %s/s  p50 %s "
	       "p90 %s p99 %s  in flight %" PRIu64 "  retries %" PRIu64
	       "  errors %" PRIu64 "\n",
	       f.ram, f.disk, f.gets, f.in, f.out, f.p50, f.p90, f.p99,
	       f.flying, f.retries, f.errors);
	fflush(stdout);
}

/* ---- a screen, on a terminal ---------------------------------------------------------- */

static unsigned print_tier(const json_t *s, const char *what, const char *used,
			   const char *size, const char *pinned,
			   const char *hits)
{
	char a[24], b[24], c[24];

	printf("%-8s %10s of %-10s  hits %-7s", what,
	       vf_format_size(vf_status_number(s, used), a),
	       vf_format_size(vf_status_number(s, size), b), hits);
	if (pinned)
		printf("  pinned %s",
		       vf_format_size(vf_status_number(s, pinned), c));
	puts("\033[K");
	return 1;
}

static unsigned print_hot(const json_t *s)
{
	const json_t *hot = json_object_get(s, "hot"), *h;
	unsigned n = 0;
	size_t i;

	if (!json_array_size(hot))
		return 0;
	printf("\033[K\n%10s %10s  hottest files\033[K\n", "reads", "bytes");
	json_array_foreach((json_t *)hot, i, h)
	{
		const char *path =
			json_string_value(json_object_get(h, "path"));
		char size[24];
		printf("%10" PRIu64 " %10s  ", vf_status_number(h, "reads"),
		       vf_format_size(vf_status_number(h, "bytes"), size));
		if (path)
			vf_print_escaped(path, strlen(path));
		puts("\033[K");
		n++;
	}
	return n + 2;
}

/* What is too long is cut: lines are counted, and gone back over. */
#define WRAP_OFF "\033[?7l"
#define WRAP_ON	 "\033[?7h"

/* How many lines there are: to begin at the first of them again. */
static unsigned print_screen(const struct sample *now,
			     const struct sample *before)
{
	const json_t *s = now->status;
	const char *url = json_string_value(json_object_get(s, "bucket"));
	struct figures f;
	unsigned n = 5;

	get_figures(now, before, &f);
	fputs(WRAP_OFF, stdout);
	printf("bucket   ");
	vf_print_escaped(url ? url : "", url ? strlen(url) : 0);
	printf(", up %" PRIu64 " s\033[K\n", vf_status_number(s, "uptime_s"));
	n += print_tier(s, "ram", "cache.used_bytes", "cache.ram_bytes", NULL,
			f.ram);
	if (json_object_get(s, "disk"))
		n += print_tier(s, "disk", "disk.used_bytes", "disk.size_bytes",
				"disk.pinned_bytes", f.disk);
	printf("GETs     %.1f/s, %" PRIu64 " in flight, %" PRIu64
	       " retries, %" PRIu64 " errors\033[K\n"
	       "bytes    in %s/s, out %s/s\033[K\n"
	       "latency  p50 %s, p90 %s, p99 %s\033[K\n",
	       f.gets, f.flying, f.retries, f.errors, f.in, f.out, f.p50, f.p90,
	       f.p99);
	printf("warming  %" PRIu64 " jobs, %" PRIu64 " MiB left\033[K\n",
	       vf_status_number(s, "warm.jobs"),
	       vf_status_number(s, "warm.left_bytes") >> 20);
	n += print_hot(s);
	fputs("\033[J" WRAP_ON, stdout);
	fflush(stdout);
	return n;
}

/* ---- the loop ------------------------------------------------------------------------- */

static void wait_seconds(double s)
{
	uint64_t until = vf_now_ns() + (uint64_t)(s * 1e9);

	while (!vf_interrupted() && vf_now_ns() < until)
		usleep((useconds_t)VF_MIN((until - vf_now_ns()) / 1000 + 1,
					  (uint64_t)WAIT_STEP_US));
}

static int watch(const char *root, double interval_s)
{
	bool on_terminal = isatty(STDOUT_FILENO);
	struct sample before = {0}, now = {0};
	unsigned n_lines = 0;
	int err = 0;

	for (uint64_t i = 0; !opt.n || i < opt.n; i++) {
		if (i)
			wait_seconds(interval_s);
		if (vf_interrupted())
			break;
		err = vf_mounted_status(root, &now.status);
		if (err)
			break;
		now.at_ns = vf_now_ns();
		if (n_lines)
			printf("\033[%uA", n_lines);
		if (on_terminal)
			n_lines = print_screen(&now, &before);
		else
			print_line(&now, &before);
		json_decref(before.status);
		before = now;
		if (ferror(stdout)) /* nobody reads any more */
			break;
	}
	json_decref(before.status);
	return err;
}

static int run_top(const struct vf_args *a)
{
	VF_AUTO_FREE char *root = NULL;
	double interval_s = 1;
	char *end;
	int err;

	if (opt.interval) {
		interval_s = strtod(opt.interval, &end);
		if (end == opt.interval || *end ||
		    !(interval_s >= 0.05 && interval_s <= 86400))
			return vf_fail(VF_ERR_USAGE,
				       "top: --interval \"%s\" is no number of "
				       "seconds from 0.05 on",
				       opt.interval);
	}
	err = vf_mounted_root(a->operands[0], &root);
	if (err == -EXDEV)
		return vf_fail(err,
			       "top: %s: not in a mount of vecfs; mount the "
			       "bucket and name the path there",
			       a->operands[0]);
	if (err)
		return vf_fail(err, "top: %s: %s", a->operands[0],
			       strerror(-err));
	return watch(root, interval_s);
}

const struct vf_verb vf_verb_top = {
	.name = "top",
	.summary = "watch what a mount is doing",
	.help = "usage: vectool top MOUNT [-n COUNT] [--interval S]\n\n"
		"Hit rates of the tiers (of the disk: of what was not in RAM), "
		"requests and\n"
		"bytes per second, time of fetches from the bucket, and the "
		"most read files.\n"
		"The first figures are of all time, then of the time since the "
		"last.  In place\n"
		"on a terminal, a line a time elsewhere; Ctrl-C ends it.\n\n"
		"  -n, --count COUNT   so many times\n"
		"  --interval S        seconds between them (1)\n\n"
		"Example:\n"
		"  vectool top /mnt/v\n",
	.min_operands = 1,
	.max_operands = 1,
	.options = options,
	.run = run_top,
};
