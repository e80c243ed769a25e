/*
 * The catalog: one million keys built from the records of shards, then looked
 * up in random order on one core.
 *
 *     bench_catalog DIR INDEX   an index of a file:// bucket, its keys "0".. up
 */
#include <stdio.h>

#include "store/catalog.h"
#include "store/util.h"

enum { LOOKUPS = 2000000, KEY_LEN = 24 };

/* Of this thread: others may keep the machine busy. */
static uint64_t cpu_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Their texts are made before the clock starts. */
static int look_up(struct vf_catalog_view *v, uint64_t n_keys)
{
	VF_AUTO_FREE char *keys = malloc((size_t)LOOKUPS * KEY_LEN);
	uint64_t seed = 1, n_found = 0;

	if (!keys)
		return -ENOMEM;
	for (size_t i = 0; i < LOOKUPS; i++)
		snprintf(keys + i * KEY_LEN, KEY_LEN, "%llu",
			 (unsigned long long)(vf_splitmix64(&seed) % n_keys));
	uint64_t start = cpu_now_ns();
	for (size_t i = 0; i < LOOKUPS; i++) {
		const char *key = keys + i * KEY_LEN;
		struct vf_place p;
		n_found += !vf_catalog_find(v, key, strlen(key), &p);
	}
	double s = (double)(cpu_now_ns() - start) / 1e9;
	printf("%d look-ups, %llu found: %.2f s of one core, %.0f per second\n",
	       LOOKUPS, (unsigned long long)n_found, s, LOOKUPS / s);
	return n_found ? 0 : -ENOENT;
}

static int run(struct vf_bucket *b, const char *index, const char *dir)
{
	struct vf_catalog_sync sync = {.bucket = b, .newest = true};
	struct vf_catalog_view *v = NULL;
	struct vf_catalog *c = NULL;
	struct vf_state *s;
	int err = vf_state_load(b, index, &s);

	if (err)
		return err;
	sync.state = s;
	err = vf_catalog_open(dir, s->uuid, &c);
	if (!err)
		err = vf_catalog_reset(c);
	uint64_t start = vf_now_ns();
	if (!err)
		err = vf_catalog_sync(c, &sync);
	printf("%llu keys built in %.2f s\n", (unsigned long long)s->n_rows,
	       (double)(vf_now_ns() - start) / 1e9);
	if (!err)
		err = vf_catalog_look(c, s, &v);
	for (int i = 0; !err && i < 2; i++)
		err = look_up(v, s->n_rows);
	vf_catalog_done(v);
	vf_catalog_close(c);
	vf_state_free(s);
	return err;
}

int main(int argc, char **argv)
{
	struct vf_bucket *b;
	char url[512], dir[560];

	if (argc != 3) {
		fprintf(stderr, "usage: bench_catalog DIR INDEX\n");
		return 2;
	}
	snprintf(url, sizeof(url), "file://%s", argv[1]);
	snprintf(dir, sizeof(dir), "%s/.bench-catalog", argv[1]);
	if (vf_bucket_open(url, NULL, &b))
		return 1;
	int err = run(b, argv[2], dir);
	vf_bucket_close(b);
	return err ? 1 : 0;
}
