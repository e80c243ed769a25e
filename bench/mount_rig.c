/* Children, mounts and the server of bench_mount. */
#include "bench/mount_rig.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <jansson.h>
#include <libgen.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/bucket.h"

enum { PIECE_LEN = 4 << 20 };

struct bench bench;

static bool mounted, null_mounted; /* the main thread's, read at exit */

_Noreturn void bench_fail(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what,
		strerror(errno));
	exit(1);
}

/* ---- children ---------------------------------------------------------------------- */

static void clear_mask(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int bench_run(char *const argv[])
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		clear_mask();
		execvp(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

void bench_tool(const char *const args[])
{
	char path[BENCH_PATH];
	char *argv[32] = {path};

	snprintf(path, sizeof(path), "%s/vectool", bench.bin);
	for (size_t n = 1; n + 1 < VF_N(argv) && args[n - 1]; n++)
		argv[n] = (char *)args[n - 1];
	fflush(stdout);
	if (bench_run(argv)) {
		errno = EIO;
		bench_fail(path);
	}
}

void bench_keep(const char *dir)
{
	snprintf(bench.data, sizeof(bench.data), "%.4000s/bucket", dir);
	if ((mkdir(dir, 0700) && errno != EEXIST) ||
	    (mkdir(bench.data, 0700) && errno != EEXIST))
		bench_fail(dir);
}

static void unmount_dir(const char *dir)
{
	char *quiet[] = {"sh", "-c", "fusermount3 -u \"$0\" 2>/dev/null",
			 (char *)dir, NULL};
	char *lazy[] = {"fusermount3", "-uz", (char *)dir, NULL};

	/* A file closed just now may still be known to the kernel. */
	for (int i = 0; i < 50; i++) {
		if (!bench_run(quiet))
			return;
		usleep(20000);
	}
	bench_run(lazy);
}

static void clean_up(void)
{
	char *argv[] = {"rm", "-rf", "--one-file-system", bench.dir, NULL};

	bench_unmount();
	bench_unmount_null();
	if (*bench.dir)
		bench_run(argv);
}

static void *await_signal(void *set)
{
	int number;

	sigwait(set, &number);
	exit(128 + number);
}

/* A mount that outlives its benchmark is a nuisance: signals end it in order. */
static void catch_signals(void)
{
	static sigset_t set;
	pthread_t t;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (!pthread_create(&t, NULL, await_signal, &set))
		pthread_detach(t);
}

static void make_dir(char *out, const char *name)
{
	snprintf(out, PATH_MAX, "%.4000s/%s", bench.dir, name);
	if (mkdir(out, 0700))
		bench_fail(out);
}

void bench_open(const char *disk_dir)
{
	char self[PATH_MAX] = "";
	const char *tmp = disk_dir ? disk_dir : getenv("TMPDIR");

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		bench_fail("/proc/self/exe");
	snprintf(bench.bin, sizeof(bench.bin), "%s", dirname(self));
	snprintf(bench.dir, sizeof(bench.dir), "%.3900s/vecfs-bench-XXXXXX",
		 tmp ? tmp : "/tmp");
	if (!mkdtemp(bench.dir))
		bench_fail(bench.dir);
	catch_signals();
	atexit(clean_up);
	make_dir(bench.mnt, "mnt");
	make_dir(bench.null, "null");
	make_dir(bench.cache, "cache");
	snprintf(bench.file, sizeof(bench.file), "%.4000s/" BENCH_KEY,
		 bench.mnt);
}

void bench_await_tier(void)
{
	char lock[BENCH_PATH];

	snprintf(lock, sizeof(lock), "%s/tier/lock", bench.cache);
	VF_AUTO_FD int fd = open(lock, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return; /* no tier */
	for (int i = 0; i < 1000; i++) {
		if (!flock(fd, LOCK_EX | LOCK_NB))
			return;
		usleep(10000);
	}
	bench_fail("the daemon does not end");
}

void bench_empty_cache(void)
{
	char *argv[] = {"rm", "-rf", bench.cache, NULL};

	bench_await_tier();
	if (bench_run(argv) || mkdir(bench.cache, 0700))
		bench_fail(bench.cache);
}

/* ---- the server ---------------------------------------------------------------------- */

/* The line that s3sim prints: "export NAME=VALUE ..." */
static void take_settings(char *line)
{
	char *save = NULL, *word = strtok_r(line, " \n", &save);

	while ((word = strtok_r(NULL, " \n", &save))) {
		char *eq = strchr(word, '=');
		if (!eq)
			continue;
		*eq = '\0';
		setenv(word, eq + 1, 1);
	}
}

static void start_sim(void)
{
	char sim[PATH_MAX + 16], line[1024];
	int fds[2];
	pid_t pid;

	snprintf(sim, sizeof(sim), "%s/s3sim", bench.bin);
	char *argv[] = {sim, "--exit-with-parent",
			bench.data[0] ? "--data" : NULL, bench.data, NULL};
	if (pipe2(fds, O_CLOEXEC) || (pid = fork()) < 0)
		bench_fail("s3sim");
	if (!pid) {
		clear_mask();
		dup2(fds[1], 1);
		execv(sim, argv);
		_exit(127);
	}
	close(fds[1]);
	FILE *f = fdopen(fds[0], "r");
	if (!f || !fgets(line, sizeof(line), f)) {
		fprintf(stderr, "%s: %s did not start\n",
			program_invocation_short_name, sim);
		exit(1);
	}
	take_settings(line);
	bench.sim = true;
}

static void fill_piece(uint8_t *piece, uint64_t off, size_t len)
{
	vf_random(piece, len);
	for (size_t i = 0; i < len; i += BENCH_PAGE)
		vf_put_le64(piece + i, (off + i) / BENCH_PAGE);
}

static int upload_object(struct vf_upload *u)
{
	VF_AUTO_FREE uint8_t *piece = malloc(PIECE_LEN);
	int err = piece ? 0 : -ENOMEM;

	for (uint64_t off = 0; !err && off < bench.len; off += PIECE_LEN) {
		size_t n = VF_MIN((uint64_t)PIECE_LEN, bench.len - off);
		fill_piece(piece, off, n);
		err = vf_upload_write(u, piece, n);
	}
	return err;
}

static void put_object(void)
{
	struct vf_bucket_options opt = {.create = 1};
	struct vf_upload *u = NULL;
	struct vf_bucket *b;

	if (vf_bucket_open(bench.url, &opt, &b))
		exit(1);
	if (vf_upload_open(b, BENCH_KEY, &u) || upload_object(u) ||
	    vf_upload_commit(u, NULL)) {
		fprintf(stderr, "%s: cannot put the object\n",
			program_invocation_short_name);
		exit(1);
	}
	vf_bucket_close(b);
}

void bench_serve(bool real)
{
	const char *bucket;

	if (!real || !getenv("AWS_ENDPOINT_URL") || !getenv("S3_BUCKET"))
		start_sim();
	bucket = getenv("S3_BUCKET");
	snprintf(bench.url, sizeof(bench.url), "s3://%s", bucket);
	if (!bench.sim)
		snprintf(bench.url, sizeof(bench.url), "s3://%s/vecfs-bench",
			 bucket);
	put_object();
}

static size_t take_body(char *p, size_t size, size_t n, void *arg)
{
	return vf_buf_append(arg, p, size * n) ? 0 : size * n;
}

static void ask_sim(bool post, const char *what, struct vf_buf *out)
{
	char url[512];
	CURL *c = curl_easy_init();

	snprintf(url, sizeof(url), "%s/_sim/%s", getenv("AWS_ENDPOINT_URL"),
		 what);
	if (!c)
		bench_fail("curl");
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, out);
	if (post)
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, "");
	if (curl_easy_perform(c)) {
		fprintf(stderr, "%s: %s: no answer\n",
			program_invocation_short_name, url);
		exit(1);
	}
	curl_easy_cleanup(c);
}

static void tell_sim(const char *what)
{
	VF_AUTO_BUF struct vf_buf b = {0};

	if (bench.sim)
		ask_sim(true, what, &b);
}

void bench_set_latency(unsigned ms)
{
	char what[64];

	snprintf(what, sizeof(what), "set?latency_ms=%u", ms);
	tell_sim(what);
}

void bench_reset_counts(void)
{
	tell_sim("reset");
}

struct bench_counts bench_counts(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	static const char *const kinds[] = {"get",  "put",    "head",
					    "list", "delete", "post"};
	struct bench_counts n = {0};
	json_t *o;

	if (!bench.sim)
		return n;
	ask_sim(false, "stats", &b);
	o = json_loadb((char *)b.data, b.len, 0, NULL);
	n.get = (uint64_t)json_integer_value(json_object_get(o, "get"));
	n.bytes = (uint64_t)json_integer_value(json_object_get(o, "bytes_out"));
	for (size_t i = 0; i < VF_N(kinds); i++)
		n.all += (uint64_t)json_integer_value(
			json_object_get(o, kinds[i]));
	n.rounds = n.all - n.get +
		   (uint64_t)json_integer_value(json_object_get(o, "waves"));
	json_decref(o);
	return n;
}

/* ---- mounts ---------------------------------------------------------------------------- */

void bench_mount(const char *options)
{
	char vecfs[PATH_MAX + 16];

	snprintf(vecfs, sizeof(vecfs), "%s/vecfs", bench.bin);
	char *argv[] = {vecfs, bench.url,	bench.mnt,
			"-o",  (char *)options, NULL};
	mounted = true;
	if (bench_run(argv)) {
		fprintf(stderr, "%s: cannot mount\n",
			program_invocation_short_name);
		exit(1);
	}
}

void bench_adopt_mount(void)
{
	mounted = true;
}

void bench_unmount(void)
{
	if (mounted)
		unmount_dir(bench.mnt);
	mounted = false;
}

void bench_mount_null(void)
{
	char null_fs[PATH_MAX + 16], len[32];

	snprintf(null_fs, sizeof(null_fs), "%s/null_fs", bench.bin);
	snprintf(len, sizeof(len), "%llu", (unsigned long long)bench.len);
	char *argv[] = {null_fs, len, bench.null, NULL};
	null_mounted = true;
	if (bench_run(argv)) {
		fprintf(stderr, "%s: cannot mount %s\n",
			program_invocation_short_name, null_fs);
		exit(1);
	}
}

void bench_unmount_null(void)
{
	if (null_mounted)
		unmount_dir(bench.null);
	null_mounted = false;
}

uint64_t bench_metric(const char *name)
{
	char path[BENCH_PATH], line[256];
	uint64_t value = 0;
	size_t n = strlen(name);

	snprintf(path, sizeof(path), "%s/.vecfs/metrics", bench.mnt);
	FILE *f = fopen(path, "re");
	if (!f)
		bench_fail(path);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, name, n) && line[n] == ' ')
			value = strtoull(line + n, NULL, 10);
	fclose(f);
	return value;
}

/* ---- options --------------------------------------------------------------------- */

uint32_t bench_number(const char *s, uint32_t min, uint32_t max)
{
	char *end;
	long n = strtol(s, &end, 10);

	if (end == s || *end || n < min || n > max) {
		fprintf(stderr, "%s: %s: not a number in reach; try --help\n",
			program_invocation_short_name, s);
		exit(2);
	}
	return (uint32_t)n;
}
