/*
 * The driver of every fuzz program; include it once, in fuzz_<parser>.c, which
 * provides the four things declared below.
 *
 *     fuzz_x [-t SECONDS] [-s SEED]    mutate; a failing seed can be passed back
 *     fuzz_x FILE...                   replay
 *
 * Each input lies in a heap block of exactly its length, so that a sanitizer
 * sees every read beyond it.  What crashes is kept in /tmp/fuzz-<name>-crash.
 * Exit status: 0, or that of the crash.
 */
#ifndef VF_TESTS_FUZZ_H
#define VF_TESTS_FUZZ_H

#include "store/util.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

/* ---- what a fuzz program provides ------------------------------------------ */

extern const char fuzz_name[];

/*
 * Feed one input; fuzz_check what must hold of an accepted one.  Returns what
 * became of it: the first input with a new outcome is mutated further.
 */
int fuzz_one(const uint8_t *p, size_t len);

/* Call fuzz_add with some good inputs. */
void fuzz_seeds(void);

/* Make lengths and checksums right again, so that parsing goes deep. */
void fuzz_fix(uint8_t *p, size_t len);

/* ---- for its use -------------------------------------------------------------- */

#define fuzz_check(x)                                                          \
	do {                                                                   \
		if (!(x)) {                                                    \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__,       \
				__LINE__, #x);                                 \
			abort();                                               \
		}                                                              \
	} while (0)

enum { FUZZ_SEEDS_MAX = 512, FUZZ_LEN_MAX = 64 << 10 };

static struct vf_buf fuzz_corpus[FUZZ_SEEDS_MAX];
static unsigned fuzz_n_corpus;

static void fuzz_add(const void *p, size_t len)
{
	if (fuzz_n_corpus < FUZZ_SEEDS_MAX &&
	    !vf_buf_append(&fuzz_corpus[fuzz_n_corpus], p, len))
		fuzz_n_corpus++;
}

/* An outcome made of an error and a constant reason. */
static inline int fuzz_outcome(int err, const char *why)
{
	uint32_t h = why ? vf_crc32c(0, why, strlen(why)) : 0;
	return (int)(h ^ (uint32_t)err);
}

/* ---- crashes --------------------------------------------------------------------- */

static const uint8_t *fuzz_now; /* the input being tried */
static size_t fuzz_now_len;

static void fuzz_save(void)
{
	char path[128];

	if (!fuzz_now)
		return;
	snprintf(path, sizeof(path), "/tmp/fuzz-%s-crash", fuzz_name);
	VF_AUTO_FD int fd =
		open(path,
		     O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
		     0600);
	if (fd < 0 || vf_write_all(fd, fuzz_now, fuzz_now_len))
		fprintf(stderr, "%s: cannot be written\n", path);
	else
		fprintf(stderr, "the input is in %s\n", path);
	fuzz_now = NULL;
}

static void fuzz_on_signal(int sig)
{
	fuzz_save();
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Sanitizers report and then end the program in a way of their own. */
void __sanitizer_set_death_callback(void (*fn)(void)) __attribute__((weak));
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "max_allocation_size_mb=512";
}

static void fuzz_watch(void)
{
	signal(SIGABRT, fuzz_on_signal);
	if (__sanitizer_set_death_callback) {
		__sanitizer_set_death_callback(fuzz_save);
		return;
	}
	signal(SIGSEGV, fuzz_on_signal);
	signal(SIGBUS, fuzz_on_signal);
	signal(SIGFPE, fuzz_on_signal);
	signal(SIGILL, fuzz_on_signal);
}

static int fuzz_try(const void *p, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);
	int outcome;

	fuzz_check(copy != NULL);
	if (len)
		memcpy(copy, p, len);
	fuzz_now = copy;
	fuzz_now_len = len;
	outcome = fuzz_one(copy, len);
	fuzz_now = NULL;
	free(copy);
	return outcome;
}

/* ---- mutation ---------------------------------------------------------------------- */

static uint64_t fuzz_state;

/* Below @n, 0 when @n is 0; splitmix64. */
static size_t fuzz_rand(size_t n)
{
	uint64_t z = vf_splitmix64(&fuzz_state);

	return n ? (size_t)(z % n) : 0;
}

/* Numbers at which lengths and counts go wrong. */
static void fuzz_put_number(struct vf_buf *b)
{
	static const uint64_t numbers[] = {0,
					   1,
					   2,
					   7,
					   8,
					   63,
					   64,
					   127,
					   128,
					   255,
					   256,
					   4095,
					   4096,
					   4097,
					   0x7fff,
					   0x8000,
					   0xffff,
					   0x10000,
					   262144,
					   262145,
					   1 << 20,
					   16 << 20,
					   INT32_MAX,
					   0x80000000,
					   UINT32_MAX,
					   1ull << 32,
					   INT64_MAX,
					   1ull << 63,
					   UINT64_MAX - 1,
					   UINT64_MAX,
					   0x7f800000,
					   0x7fc00000};
	size_t width = (size_t)1 << fuzz_rand(4);
	uint64_t v = numbers[fuzz_rand(VF_N(numbers))];
	uint8_t le[8];

	if (b->len < width)
		return;
	uint8_t *at = b->data + fuzz_rand(b->len - width + 1);
	if (fuzz_rand(3) == 0) { /* a little more or less than was there */
		memcpy(le, at, width);
		memset(le + width, 0, 8 - width);
		v = vf_le64(le) + fuzz_rand(65) - 32;
	}
	vf_put_le64(le, v);
	memcpy(at, le, width);
}

static void fuzz_cut(struct vf_buf *b)
{
	size_t at = fuzz_rand(b->len), n = fuzz_rand(b->len - at + 1);

	if (fuzz_rand(2))
		n = VF_MIN(n, (size_t)8);
	memmove(b->data + at, b->data + at + n, b->len - at - n);
	b->len -= n;
}

/* Put @n bytes of @p in at a random place; @p must not lie in @b. */
static void fuzz_insert(struct vf_buf *b, const uint8_t *p, size_t n)
{
	size_t at = fuzz_rand(b->len + 1);

	if (b->len + n > FUZZ_LEN_MAX || vf_buf_reserve(b, n))
		return;
	memmove(b->data + at + n, b->data + at, b->len - at);
	memcpy(b->data + at, p, n);
	b->len += n;
}

/* A range of this input or of another one, put in or laid over. */
static void fuzz_splice(struct vf_buf *b, const struct vf_buf *from)
{
	VF_AUTO_BUF struct vf_buf part = {0};
	size_t at = fuzz_rand(from->len);
	size_t n = fuzz_rand(VF_MIN(from->len - at, (size_t)4096) + 1);

	if (!n || vf_buf_append(&part, from->data + at, n))
		return;
	if (fuzz_rand(2)) {
		fuzz_insert(b, part.data, n);
	} else {
		size_t to = fuzz_rand(b->len + 1);
		memcpy(b->data + to, part.data, VF_MIN(n, b->len - to));
	}
}

static void fuzz_mutate(struct vf_buf *b)
{
	uint8_t bytes[16];
	size_t n;

	if (vf_buf_reserve(b, 1))
		return;
	switch (fuzz_rand(8)) {
	case 0:
	case 1:
		if (b->len)
			b->data[fuzz_rand(b->len)] ^=
				(uint8_t)(1 << fuzz_rand(8));
		break;
	case 2:
		if (b->len)
			b->data[fuzz_rand(b->len)] = (uint8_t)fuzz_rand(256);
		break;
	case 3:
		fuzz_put_number(b);
		break;
	case 4:
		if (b->len)
			fuzz_cut(b);
		break;
	case 5:
		n = 1 + fuzz_rand(sizeof(bytes));
		memset(bytes, (int)fuzz_rand(256), n);
		fuzz_insert(b, bytes, n);
		break;
	case 6:
		fuzz_splice(b, b);
		break;
	default:
		fuzz_splice(b, &fuzz_corpus[fuzz_rand(fuzz_n_corpus)]);
	}
}

/* ---- running ------------------------------------------------------------------------ */

static bool fuzz_is_new(int outcome)
{
	static int seen[FUZZ_SEEDS_MAX];
	static unsigned n;

	for (unsigned i = 0; i < n; i++)
		if (seen[i] == outcome)
			return false;
	if (n == VF_N(seen))
		return false;
	seen[n++] = outcome;
	return true;
}

static uint64_t fuzz_run(double seconds)
{
	uint64_t end = vf_now_ns() + (uint64_t)(seconds * 1e9), n;

	for (n = 0; n % 64 || vf_now_ns() < end; n++) {
		VF_AUTO_BUF struct vf_buf b = {0};
		const struct vf_buf *from =
			&fuzz_corpus[fuzz_rand(fuzz_n_corpus)];
		if (vf_buf_append(&b, from->data, from->len))
			continue;
		for (size_t i = 1 + fuzz_rand(6); i; i--)
			fuzz_mutate(&b);
		if (fuzz_rand(4))
			fuzz_fix(b.data, b.len);
		if (fuzz_is_new(fuzz_try(b.data, b.len)))
			fuzz_add(b.data, b.len);
	}
	return n;
}

static int fuzz_replay(const char *path)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	FILE *f = fopen(path, "rb");
	uint8_t part[4096];
	size_t n;

	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return 2;
	}
	while ((n = fread(part, 1, sizeof(part), f)))
		vf_buf_append(&b, part, n);
	fclose(f);
	fprintf(stderr, "%s: outcome %d\n", path, fuzz_try(b.data, b.len));
	return 0;
}

static void fuzz_drop_line(void *arg, enum vf_level level, const char *line)
{
}

int main(int argc, char **argv)
{
	double seconds = 5;
	int opt, err = 0;

	vf_random(&fuzz_state, sizeof(fuzz_state));
	while ((opt = getopt(argc, argv, "t:s:")) != -1)
		if (opt == 't')
			seconds = strtod(optarg, NULL);
		else if (opt == 's')
			fuzz_state = strtoull(optarg, NULL, 0);
		else
			return 2;
	vf_log_set(fuzz_drop_line, NULL, VF_ERROR);
	fuzz_watch();
	if (optind < argc) {
		while (optind < argc && !err)
			err = fuzz_replay(argv[optind++]);
		return err;
	}
	fprintf(stderr, "fuzz_%s -s %llu\n", fuzz_name,
		(unsigned long long)fuzz_state);
	fuzz_seeds();
	for (unsigned i = 0, n = fuzz_n_corpus; i < n; i++)
		fuzz_is_new(fuzz_try(fuzz_corpus[i].data, fuzz_corpus[i].len));
	unsigned long long n = fuzz_run(seconds);
	fprintf(stderr, "fuzz_%s: %llu inputs, %u kept\n", fuzz_name, n,
		fuzz_n_corpus);
	for (unsigned i = 0; i < fuzz_n_corpus; i++)
		vf_buf_fini(&fuzz_corpus[i]);
	return 0;
}

#endif
