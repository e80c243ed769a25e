/*
 * Whether an audit names the object whenever one byte of a bucket is flipped,
 * an object is cut short, or gone.  Of a bucket of a few KiB, each byte.
 *
 *     flips DIR INDEX [STEP]
 *
 * Prints each case that is not named, and a count; exit status 0 when all were.
 * Of vectors and codes, beyond their first KiB, every STEP-th byte (1); of all
 * else, every STEP/8-th.
 */
#define _XOPEN_SOURCE 700
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

#include "tools/audit.h"

enum { FILES_MAX = 64, HEAD_LEN = 1024 };

static const char *root, *index_name, *cache_dir;
static struct vf_bucket *bucket;
static char *files[FILES_MAX];
static size_t n_files;
static unsigned n_cases, n_missed;

static int take_file(const char *path, const struct stat *st, int type,
		     struct FTW *ftw)
{
	if (type == FTW_F && n_files < FILES_MAX)
		files[n_files++] = strdup(path);
	return 0;
}

struct named {
	const char *key;
	bool found;
};

static void take_finding(void *arg, const char *what)
{
	struct named *n = arg;

	n->found |= strstr(what, n->key) != NULL;
}

static void expect_named(const char *path, const char *what, off_t at)
{
	struct named n = {.key = path + strlen(root) + 1};
	struct vf_audit a = {.bucket = bucket,
			     .index = index_name,
			     .cache_dir = cache_dir,
			     .deep = true,
			     .quiet = true,
			     .found = take_finding,
			     .arg = &n};
	int err = vf_audit_run(&a);

	vf_audit_fini(&a);
	n_cases++;
	/* Errors name what cannot be looked at; here, the identity. */
	if (n.found || (err && strstr(n.key, "_vecfs/")))
		return;
	n_missed++;
	printf("%s: %s at %lld is not named (%s)\n", n.key, what, (long long)at,
	       err ? vf_strerror(err) : "no error");
}

static int flip_byte(int fd, off_t at, uint8_t mask)
{
	uint8_t byte;

	if (pread(fd, &byte, 1, at) != 1)
		return -EIO;
	byte ^= mask;
	return pwrite(fd, &byte, 1, at) == 1 ? 0 : -EIO;
}

static bool is_newest_record(const char *path)
{
	const char *last = NULL;

	for (size_t i = 0; i < n_files; i++)
		if (strstr(files[i], "/log/") &&
		    (!last || strcmp(files[i], last) > 0))
			last = files[i];
	return last == path;
}

static int damage_file(const char *path, off_t step)
{
	char kept[600];
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC), err = 0;

	if (fd < 0 || fstat(fd, &st))
		return -errno;
	bool is_bulk = strstr(path, "/codes.vix") || strstr(path, "/vectors.");
	for (off_t at = 0; !err && at < st.st_size;
	     at += is_bulk && at >= HEAD_LEN ? step : VF_MAX(1, step / 8)) {
		uint8_t mask = (uint8_t)(1 << at % 8);
		err = flip_byte(fd, at, mask);
		if (!err)
			expect_named(path, "a flipped byte", at);
		if (!err)
			err = flip_byte(fd, at, mask);
	}
	close(fd);
	snprintf(kept, sizeof(kept), "%s.kept", root); /* beside the bucket */
	/* Without its newest record an index is what it was before it. */
	if (err || is_newest_record(path))
		return err;
	if (rename(path, kept))
		return -errno;
	expect_named(path, "its absence", 0);
	return rename(kept, path) ? -errno : 0;
}

static void drop_line(void *arg, enum vf_level level, const char *line)
{
}

int main(int argc, char **argv)
{
	char path[512], cache[] = "/tmp/flips-XXXXXX";
	int err = argc < 3 || !(cache_dir = mkdtemp(cache)) ? -EINVAL : 0;

	if (err) {
		fputs("usage: flips DIR INDEX [STEP]\n", stderr);
		return 2;
	}
	off_t step = argc > 3 ? VF_MAX(1, atoi(argv[3])) : 1;
	root = argv[1];
	index_name = argv[2];
	vf_log_set(drop_line, NULL, VF_ERROR);
	snprintf(path, sizeof(path), "file://%s", root);
	err = vf_bucket_open(path, NULL, &bucket);
	snprintf(path, sizeof(path), "%s/%s", root, index_name);
	nftw(path, take_file, 8, FTW_PHYS);
	snprintf(path, sizeof(path), "%s/_vecfs/indexes/%s", root, index_name);
	nftw(path, take_file, 8, FTW_PHYS);
	for (size_t i = 0; !err && i < n_files; i++)
		err = damage_file(files[i], step);
	rmdir(cache_dir); /* empty where all were named */
	printf("%u cases in %zu objects, %u not named\n", n_cases, n_files,
	       n_missed);
	vf_bucket_close(bucket);
	return err || n_missed || !n_cases;
}
