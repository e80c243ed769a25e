/*
 * Mutates good inputs, keeps those with an outcome that is new, and saves the
 * one that brings the program down.
 */
#include "tests/fuzz.h"

#include "store/log.h"

#include <fcntl.h>
#include <signal.h>
#include <xxhash.h>

enum { SEEDS_MAX = 512, LEN_MAX = 64 << 10 };

static struct vf_buf corpus[SEEDS_MAX];
static unsigned n_corpus;

void fuzz_add(const void *p, size_t len)
{
	if (n_corpus < SEEDS_MAX && !vf_buf_append(&corpus[n_corpus], p, len))
		n_corpus++;
}

int fuzz_outcome(int err, const char *why)
{
	uint32_t h = why ? vf_crc32c(0, why, strlen(why)) : 0;
	return (int)(h ^ (uint32_t)err);
}

void fuzz_fix_object(uint8_t *p, size_t len)
{
	if (len) {
		p[0] = '{';
		p[len - 1] = '}';
	}
}

void fuzz_fix_record(uint8_t *p, size_t len)
{
	vf_put_le64(p + 16, len);
	/* The JSON part keeps its length where it can: the rest is binary. */
	size_t body = len - VF_RECORD_HEADER_LEN - 8;
	uint64_t json = VF_MIN(vf_le64(p + 72), (uint64_t)body);
	vf_put_le64(p + 72, json);
	vf_put_le64(p + 80, body - json);
	memset(p + 88, 0, 8);
	vf_put_le64(p + len - 8, XXH3_64bits(p, len - 8));
}

/* ---- crashes --------------------------------------------------------------------- */

static const uint8_t *input; /* the input being tried */
static size_t input_len;

static void save(void)
{
	char path[128];

	if (!input)
		return;
	snprintf(path, sizeof(path), "/tmp/fuzz-%s-crash", fuzz_name);
	VF_AUTO_FD int fd =
		open(path,
		     O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
		     0600);
	if (fd < 0 || vf_write_all(fd, input, input_len))
		fprintf(stderr, "%s: cannot be written\n", path);
	else
		fprintf(stderr, "the input is in %s\n", path);
	input = NULL;
}

static void on_signal(int sig)
{
	save();
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

static void watch(void)
{
	signal(SIGABRT, on_signal);
	if (__sanitizer_set_death_callback) {
		__sanitizer_set_death_callback(save);
		return;
	}
	signal(SIGSEGV, on_signal);
	signal(SIGBUS, on_signal);
	signal(SIGFPE, on_signal);
	signal(SIGILL, on_signal);
}

static int try(const void *p, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);
	int outcome;

	fuzz_check(copy != NULL);
	if (len)
		memcpy(copy, p, len);
	input = copy;
	input_len = len;
	outcome = fuzz_one(copy, len);
	input = NULL;
	free(copy);
	return outcome;
}

/* ---- mutation ---------------------------------------------------------------------- */

static uint64_t state;

size_t fuzz_rand(size_t n)
{
	uint64_t z = vf_splitmix64(&state);

	return n ? (size_t)(z % n) : 0;
}

/* Numbers at which lengths and counts go wrong. */
static void put_number(struct vf_buf *b)
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

static void cut(struct vf_buf *b)
{
	size_t at = fuzz_rand(b->len), n = fuzz_rand(b->len - at + 1);

	if (fuzz_rand(2))
		n = VF_MIN(n, (size_t)8);
	memmove(b->data + at, b->data + at + n, b->len - at - n);
	b->len -= n;
}

/* Put @n bytes of @p in at a random place; @p must not lie in @b. */
static void insert(struct vf_buf *b, const uint8_t *p, size_t n)
{
	size_t at = fuzz_rand(b->len + 1);

	if (b->len + n > LEN_MAX || vf_buf_reserve(b, n))
		return;
	memmove(b->data + at + n, b->data + at, b->len - at);
	memcpy(b->data + at, p, n);
	b->len += n;
}

/* A range of this input or of another one, put in or laid over. */
static void splice_in(struct vf_buf *b, const struct vf_buf *from)
{
	VF_AUTO_BUF struct vf_buf part = {0};
	size_t at = fuzz_rand(from->len);
	size_t n = fuzz_rand(VF_MIN(from->len - at, (size_t)4096) + 1);

	if (!n || vf_buf_append(&part, from->data + at, n))
		return;
	if (fuzz_rand(2)) {
		insert(b, part.data, n);
	} else {
		size_t to = fuzz_rand(b->len + 1);
		memcpy(b->data + to, part.data, VF_MIN(n, b->len - to));
	}
}

static void mutate(struct vf_buf *b)
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
		put_number(b);
		break;
	case 4:
		if (b->len)
			cut(b);
		break;
	case 5:
		n = 1 + fuzz_rand(sizeof(bytes));
		memset(bytes, (int)fuzz_rand(256), n);
		insert(b, bytes, n);
		break;
	case 6:
		splice_in(b, b);
		break;
	default:
		splice_in(b, &corpus[fuzz_rand(n_corpus)]);
	}
}

/* ---- running ------------------------------------------------------------------------ */

static bool is_new(int outcome)
{
	static int seen[SEEDS_MAX];
	static unsigned n;

	for (unsigned i = 0; i < n; i++)
		if (seen[i] == outcome)
			return false;
	if (n == VF_N(seen))
		return false;
	seen[n++] = outcome;
	return true;
}

static uint64_t run(double seconds)
{
	uint64_t end = vf_now_ns() + (uint64_t)(seconds * 1e9), n;

	for (n = 0; n % 64 || vf_now_ns() < end; n++) {
		VF_AUTO_BUF struct vf_buf b = {0};
		const struct vf_buf *from = &corpus[fuzz_rand(n_corpus)];
		if (vf_buf_append(&b, from->data, from->len))
			continue;
		for (size_t i = 1 + fuzz_rand(6); i; i--)
			mutate(&b);
		if (fuzz_rand(4))
			fuzz_fix(b.data, b.len);
		if (is_new(try(b.data, b.len)))
			fuzz_add(b.data, b.len);
	}
	return n;
}

static int replay(const char *path)
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
	fprintf(stderr, "%s: outcome %d\n", path, try(b.data, b.len));
	return 0;
}

static void drop_line(void *arg, enum vf_level level, const char *line)
{
}

int main(int argc, char **argv)
{
	double seconds = 5;
	int opt, err = 0;

	vf_random(&state, sizeof(state));
	while ((opt = getopt(argc, argv, "t:s:")) != -1)
		if (opt == 't')
			seconds = strtod(optarg, NULL);
		else if (opt == 's')
			state = strtoull(optarg, NULL, 0);
		else
			return 2;
	vf_log_set(drop_line, NULL, VF_ERROR);
	watch();
	if (optind < argc) {
		while (optind < argc && !err)
			err = replay(argv[optind++]);
		return err;
	}
	fprintf(stderr, "fuzz_%s -s %llu\n", fuzz_name,
		(unsigned long long)state);
	fuzz_seeds();
	for (unsigned i = 0, n = n_corpus; i < n; i++)
		is_new(try(corpus[i].data, corpus[i].len));
	unsigned long long n = run(seconds);
	fprintf(stderr, "fuzz_%s: %llu inputs, %u kept\n", fuzz_name, n,
		n_corpus);
	for (unsigned i = 0; i < n_corpus; i++)
		vf_buf_fini(&corpus[i]);
	return 0;
}
