/*
 * The mount against its bars: what a read costs, cold and from each tier.
 * `bench_mount --help` tells the rest.
 */
#include "bench/mount_rig.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static const char help[] =
	"usage: bench_mount [options] [SECTION...]     all of them by default\n"
	"\n"
	"Starts s3sim and vecfs, which are beside it, puts an object of random\n"
	"bytes and reads it through the mount.  Each result stands beside its\n"
	"bar; the exit status is 1 when one is missed.\n"
	"\n"
	"  faults      1, 8 and 64 threads, each faults one cold block\n"
	"  hinted      200 cold rows, hinted together, then touched\n"
	"  ram         reads from the RAM tier, against null_fs\n"
	"  disk        reads from the disk tier, against the disk itself\n"
	"  whole       a file that is whole in the disk tier, passed through,\n"
	"              against the tier's file\n"
	"  sequential  a cold stream, against 16 range GETs by libcurl; of the\n"
	"              server in AWS_ENDPOINT_URL and S3_BUCKET when they are set,\n"
	"              as for ready\n"
	"  ready       the start of a mount over a filled disk tier, up to the\n"
	"              first page out of it\n"
	"  query       a query whose rows only the bucket has, against the same\n"
	"              query warm\n"
	"  others      a table beside s3fs and rclone, as far as installed\n"
	"\n"
	"  --size SIZE      of the object, 64M to 16G; by default 1G for hinted\n"
	"                   and ready, 512M for ram, disk and whole, else 256M\n"
	"  --rounds N       repetitions, medians are printed (9)\n"
	"  --latency-ms N   of a GET, in faults and hinted (30), others (0)\n"
	"  --dir DIR        for mounts, caches, files (TMPDIR, /tmp)\n"
	"  --help\n";

enum { ROUNDS = 9, MIB = 1 << 20 };

struct section {
	const char *name;
	void (*run)(void);
	unsigned size_mib, latency_ms;
	bool real; /* the server of the environment, when there is one */
};

static const struct section sections[] = {
	{"faults", bench_faults, 256, 30, false},
	{"hinted", bench_hinted, 1024, 30, false},
	{"ram", bench_ram, 512, 0, false},
	{"disk", bench_disk, 512, 0, false},
	{"whole", bench_whole, 512, 0, false},
	{"sequential", bench_cold_stream, 256, 0, true},
	{"ready", bench_ready, 1024, 0, true},
	{"query", bench_cold_query, 64, 30, false},
	{"others", bench_others, 256, 0, false},
};

struct settings {
	uint64_t size;	 /* 0: the section's */
	long latency_ms; /* -1: the section's */
	const char *dir;
};

static _Noreturn void refuse(const char *why, const char *what)
{
	fprintf(stderr, "bench_mount: %s: %s; try --help\n", what, why);
	exit(2);
}

static void parse_options(int argc, char **argv, struct settings *out)
{
	static const struct option options[] = {
		{"size", required_argument, NULL, 's'},
		{"rounds", required_argument, NULL, 'r'},
		{"latency-ms", required_argument, NULL, 'l'},
		{"dir", required_argument, NULL, 'd'},
		{"help", no_argument, NULL, 'h'},
		{0}};
	int opt;

	*out = (struct settings){.latency_ms = -1};
	bench.rounds = ROUNDS;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'h') {
			fputs(help, stdout);
			exit(0);
		} else if (opt == 'r') {
			bench.rounds =
				bench_number(optarg, 1, BENCH_ROUNDS_MAX);
		} else if (opt == 'l') {
			out->latency_ms = bench_number(optarg, 0, 10000);
		} else if (opt == 'd') {
			out->dir = optarg;
		} else if (opt != 's' || vf_parse_size(optarg, &out->size) ||
			   out->size < 64 * MIB || out->size > 16384ull * MIB) {
			refuse("not understood", optarg ? optarg : argv[0]);
		}
	}
	out->size -= out->size % MIB;
}

static const struct section *find_section(const char *name)
{
	for (size_t i = 0; i < VF_N(sections); i++)
		if (!strcmp(sections[i].name, name))
			return &sections[i];
	refuse("no section of this name", name);
}

/* In a process of its own: each has its server, and leaves nothing behind. */
static int run_section(const struct section *s, const struct settings *set)
{
	bench.latency_ms =
		set->latency_ms < 0 ? s->latency_ms : (unsigned)set->latency_ms;
	if (s->latency_ms && !bench.latency_ms)
		refuse("this section divides by the latency", s->name);
	bench.len = set->size ? set->size : (uint64_t)s->size_mib * MIB;
	bench_open(set->dir);
	bench_serve(s->real);
	printf("%s: object of %llu MiB, latency %u ms, %u rounds, %s\n",
	       s->name, (unsigned long long)(bench.len / MIB), bench.latency_ms,
	       bench.rounds, bench.sim ? "s3sim" : getenv("AWS_ENDPOINT_URL"));
	s->run();
	return bench.missed;
}

/* The status of the worst. */
static int run_sections(const struct section *const *wanted, size_t n,
			const struct settings *set)
{
	int worst = 0, status;

	for (size_t i = 0; i < n; i++) {
		pid_t pid = fork();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			exit(run_section(wanted[i], set));
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			bench_fail("fork");
		status = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
		worst = VF_MAX(worst, status);
	}
	return worst;
}

int main(int argc, char **argv)
{
	const struct section *wanted[VF_N(sections)];
	struct settings set;
	size_t n = 0;

	vf_log_name("bench_mount");
	parse_options(argc, argv, &set);
	for (int i = optind; i < argc; i++) {
		if (n == VF_N(sections))
			refuse("sections are named once each", argv[i]);
		wanted[n++] = find_section(argv[i]);
	}
	for (size_t i = 0; optind == argc && i < VF_N(sections); i++)
		wanted[n++] = &sections[i];
	return run_sections(wanted, n, &set);
}
