/*
 * The hot set over restarts.  DIR/hot.<bucket>, beside the disk tier's own
 * files, lists what was in RAM; written every minute and at the end, read at the
 * start.
 *
 *   noted    versions that were opened, by identity: blocks in RAM have no name
 *   READING  the list is being read back into RAM, as read-ahead at a bounded
 *            rate; the file stays as it is
 *   KEEPING  the file follows what is in RAM
 *
 * Blocks come from the disk tier where it has them, else from the bucket, with
 * If-Match as ever: an object that has changed meanwhile is passed over.
 */
#include "fs/rewarm.h"
#include "store/hotset.h"
#include "store/local_file.h"
#include "store/thread.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <xxhash.h>

enum {
	SAVE_EVERY_MS = 60000,
	PIECE_BLOCKS = 16, /* queued at once */
	QUEUED_MAX = 16,   /* fetches that wait: then nothing is added */
	LOOK_MS = 5,
	NOTED_MAX = 1 << 16,
	CHAINS = 1 << 12,
};

struct noted {
	uint8_t id[16];
	char *key, *etag; /* owned */
	uint64_t size;
	struct noted *next;
};

struct vf_rewarm {
	struct fs *fs; /* [fixed] */
	char *path;    /* [fixed] */
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	bool stop;		      /* [mtx] */
	bool is_over;		      /* [mtx] READING has ended */
	uint64_t n_blocks;	      /* [mtx] */
	size_t n_noted;		      /* [mtx] */
	struct noted *chains[CHAINS]; /* [mtx] */
};

/* ---- what was opened ------------------------------------------------------------------- */

static struct noted **chain_of(struct vf_rewarm *r, const uint8_t id[16])
{
	return &r->chains[vf_le64(id) % CHAINS];
}

static void free_noted(struct noted *n)
{
	free(n->key);
	free(n->etag);
	free(n);
}

static struct noted *new_noted(const uint8_t id[16], const char *key,
			       const char *etag, uint64_t size)
{
	struct noted *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	memcpy(n->id, id, 16);
	n->key = strdup(key);
	n->etag = strdup(etag);
	n->size = size;
	if (n->key && n->etag)
		return n;
	free_noted(n);
	return NULL;
}

void vf_rewarm_note(struct vf_rewarm *r, const uint8_t id[16], const char *key,
		    const char *etag, uint64_t size)
{
	struct noted **chain, *n;

	if (!r)
		return;
	chain = chain_of(r, id);
	pthread_mutex_lock(&r->mtx);
	for (n = *chain; n && memcmp(n->id, id, 16); n = n->next)
		;
	/* Beyond the limit new ones are not remembered over a restart. */
	if (!n && r->n_noted < NOTED_MAX &&
	    (n = new_noted(id, key, etag, size))) {
		n->next = *chain;
		*chain = n;
		r->n_noted++;
	}
	pthread_mutex_unlock(&r->mtx);
}

/* ---- writing: the list --------------------------------------------------------------------- */

static int compare_places(const void *a, const void *b)
{
	const struct vf_cache_place *x = a, *y = b;
	int d = memcmp(x->id, y->id, 16);

	return d ? d : (x->number > y->number) - (x->number < y->number);
}

/* The first place of object @id in sorted @p. */
static size_t find_places(const struct vf_cache_place *p, size_t n,
			  const uint8_t id[16])
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (memcmp(p[mid].id, id, 16) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int add_object(struct vf_buf *out, const struct noted *noted,
		      const struct vf_cache_place *p, size_t n)
{
	struct vf_hot_object o = {.key = noted->key, .size = noted->size};
	size_t at = find_places(p, n, noted->id), end = at;
	int err;

	while (end < n && !memcmp(p[end].id, noted->id, 16))
		end++;
	if (at == end || strlen(noted->key) > VF_HOTSET_KEY_MAX)
		return 0;
	o.ranges = malloc((end - at) * sizeof(*o.ranges));
	if (!o.ranges)
		return -ENOMEM;
	for (; at < end && p[at].number < UINT32_MAX; at++) {
		struct vf_hot_range *last = o.ranges + o.n_ranges - 1;
		if (o.n_ranges && p[at].number == last->first + last->n)
			last->n++;
		else
			o.ranges[o.n_ranges++] = (struct vf_hot_range){
				(uint32_t)p[at].number, 1};
	}
	snprintf(o.etag, sizeof(o.etag), "%s", noted->etag);
	err = o.n_ranges ? vf_hotset_add(out, &o) : 0;
	free(o.ranges);
	return err;
}

static int list_hot(struct vf_rewarm *r, struct vf_buf *out)
{
	struct vf_cache *c = r->fs->cache;
	VF_AUTO_FREE struct vf_cache_place *p = NULL;
	struct vf_cache_stats s;
	size_t n;
	int err = vf_hotset_begin(out, (uint32_t)r->fs->cache_block_len);

	vf_cache_stats(c, &s);
	n = s.used_len / s.block_len;
	p = malloc((n + 1) * sizeof(*p));
	if (!p)
		return -ENOMEM;
	n = vf_cache_list(c, p, n);
	qsort(p, n, sizeof(*p), compare_places);
	pthread_mutex_lock(&r->mtx);
	for (size_t i = 0; !err && i < CHAINS; i++)
		for (const struct noted *o = r->chains[i]; !err && o;
		     o = o->next)
			err = add_object(out, o, p, n);
	pthread_mutex_unlock(&r->mtx);
	return err ? err : vf_hotset_end(out);
}

static void save(struct vf_rewarm *r)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	int err = list_hot(r, &b);

	if (!err)
		err = vf_replace_file(r->path, b.data, b.len);
	if (err)
		vf_log(VF_WARN, "%s: cannot write it: %s", r->path,
		       vf_strerror(err));
}

/* ---- reading: the list ------------------------------------------------------------------------ */

static int read_file(const struct vf_rewarm *r, struct vf_hotset *out)
{
	VF_AUTO_FREE uint8_t *text = malloc(VF_HOTSET_MAX + 1);
	VF_AUTO_FD int fd = open(r->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = 1;

	if (fd < 0)
		return -errno;
	if (!text)
		return -ENOMEM;
	while (len <= VF_HOTSET_MAX && n > 0) {
		do
			n = read(fd, text + len, VF_HOTSET_MAX + 1 - len);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return -errno;
		len += (size_t)n;
	}
	return vf_hotset_parse(text, len, out);
}

/* ---- reading: the blocks, at a bounded rate ------------------------------------------------------ */

/* True: stopped. */
static bool wait_ms(struct vf_rewarm *r, uint64_t ms)
{
	uint64_t until = vf_now_ns() + ms * 1000000;
	bool stop;

	pthread_mutex_lock(&r->mtx);
	while (!r->stop && vf_now_ns() < until)
		vf_cond_wait(&r->cond, &r->mtx, until);
	stop = r->stop;
	pthread_mutex_unlock(&r->mtx);
	return stop;
}

/* Until the queue is short; false: stopped, or a quarter is all that is free. */
static bool wait_turn(struct vf_rewarm *r, uint64_t next_ns)
{
	struct vf_cache_stats s;
	uint64_t now;

	for (;;) {
		vf_cache_stats(r->fs->cache, &s);
		now = vf_now_ns();
		if (s.used_len > s.ram_len / 4 * 3)
			return false;
		if (s.n_queued < QUEUED_MAX && now >= next_ns)
			return !wait_ms(r, 0);
		if (wait_ms(r, VF_MAX(LOOK_MS,
				      now < next_ns ? (next_ns - now) / 1000000
						    : 0)))
			return false;
	}
}

/* False: no more. */
static bool warm_range(struct vf_rewarm *r, struct vf_cached *o,
		       const struct vf_hot_range *range, uint64_t *next_ns)
{
	uint64_t block_len = r->fs->cache_block_len, n_blocks;
	uint64_t at = range->first, end = at + range->n;

	for (; at < end; at += PIECE_BLOCKS) {
		uint64_t n = VF_MIN((uint64_t)PIECE_BLOCKS, end - at);
		if (!wait_turn(r, *next_ns))
			return false;
		n_blocks = vf_cached_warm(o, at * block_len, n * block_len);
		*next_ns = VF_MAX(*next_ns, vf_now_ns()) +
			   n_blocks * block_len * 1000 / r->fs->opt.rewarm_mbps;
		pthread_mutex_lock(&r->mtx);
		r->n_blocks += n_blocks;
		pthread_mutex_unlock(&r->mtx);
	}
	return true;
}

static bool warm_object(struct vf_rewarm *r, const struct vf_hot_object *h,
			uint64_t *next_ns)
{
	struct vf_cached *o;
	bool more = true;

	if (vf_fs_stored_open(r->fs, h->key, h->etag, h->size, &o))
		return false;
	for (uint32_t i = 0; more && i < h->n_ranges; i++)
		more = warm_range(r, o, &h->ranges[i], next_ns);
	vf_cached_put(o);
	return more;
}

static void read_back(struct vf_rewarm *r)
{
	struct vf_hotset s;
	uint64_t next_ns = 0;
	int err = read_file(r, &s);

	if (err && err != -ENOENT)
		vf_log(VF_WARN, "%s: not used: %s", r->path, vf_strerror(err));
	if (err)
		return;
	if (s.block_len == r->fs->cache_block_len)
		for (size_t i = 0; i < s.n; i++)
			if (!warm_object(r, &s.all[i], &next_ns))
				break;
	vf_hotset_fini(&s);
}

/* ---- the thread ------------------------------------------------------------------------------------- */

static void *run(void *arg)
{
	struct vf_rewarm *r = arg;
	bool stop;

	read_back(r);
	pthread_mutex_lock(&r->mtx);
	stop = r->stop;
	r->is_over = !stop;
	pthread_mutex_unlock(&r->mtx);
	if (stop) /* the list that was being read is the better one */
		return NULL;
	while (!wait_ms(r, SAVE_EVERY_MS))
		save(r);
	save(r);
	return NULL;
}

int vf_rewarm_open(struct fs *fs, struct vf_rewarm **out)
{
	struct vf_rewarm *r = calloc(1, sizeof(*r));
	const char *bucket;
	int err;

	*out = r;
	if (!r)
		return -ENOMEM;
	r->fs = fs;
	pthread_mutex_init(&r->mtx, NULL);
	vf_cond_init(&r->cond);
	/* One per bucket: a tier may serve several, one after the other. */
	bucket = vf_bucket_identity(fs->bucket);
	if (asprintf(&r->path, "%s/hot.%016llx", fs->opt.disk.dir,
		     (unsigned long long)XXH3_64bits(bucket, strlen(bucket))) <
	    0) {
		r->path = NULL;
		return -ENOMEM;
	}
	err = vf_thread_start(&r->thread, run, r);
	r->has_thread = !err;
	return err;
}

void vf_rewarm_stop(struct vf_rewarm *r)
{
	if (!r || !r->has_thread)
		return;
	pthread_mutex_lock(&r->mtx);
	r->stop = true;
	pthread_cond_signal(&r->cond);
	pthread_mutex_unlock(&r->mtx);
	pthread_join(r->thread, NULL);
	r->has_thread = false;
}

void vf_rewarm_close(struct vf_rewarm *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < CHAINS; i++)
		while (r->chains[i]) {
			struct noted *n = r->chains[i];
			r->chains[i] = n->next;
			free_noted(n);
		}
	pthread_cond_destroy(&r->cond);
	pthread_mutex_destroy(&r->mtx);
	free(r->path);
	free(r);
}

void vf_rewarm_stats(struct vf_rewarm *r, struct vf_rewarm_stats *out)
{
	pthread_mutex_lock(&r->mtx);
	*out = (struct vf_rewarm_stats){r->n_blocks, r->is_over};
	pthread_mutex_unlock(&r->mtx);
}
