/*
 * The disk tier from outside: files, pins, numbers.  How its
 * parts fit together: tier_disk_impl.h.
 *
 *   file   LOADING -> READY, or DEAD; in the table as long as it is in RAM
 *          users > 0: open; else on the idle list, and later unloaded by the
 *          index thread: then only its records know it ("cold")
 */
#include "store/thread.h"
#include "store/tier_disk_impl.h"

#include <stdio.h>

enum {
	GROUPS_MAX = 1 << 24, /* of a file */
	REST_MAX_MS = 60000,
	FLUSH_MAX_S = 120,
};

/* ---- time and rest --------------------------------------------------------------- */

void vf_disk_wait(struct vf_disk *d, pthread_cond_t *c, uint64_t until_ns)
{
	vf_cond_wait(c, &d->mtx, until_ns);
}

bool vf_disk_is_resting(const struct vf_disk *d)
{
	return d->n_overdue || vf_now_ns() < d->rest_until_ns;
}

bool vf_disk_is_stalled(const struct vf_disk *d)
{
	return d->rest_is_stall && vf_disk_is_resting(d);
}

void vf_disk_rest(struct vf_disk *d, bool is_stall, int err, const char *what)
{
	uint64_t now = vf_now_ns();

	if (is_stall)
		d->rest_is_stall = true;
	if (now < d->rest_until_ns)
		return;
	d->rest_is_stall = is_stall;
	d->rest_ms = d->rest_ms ? VF_MIN(2 * d->rest_ms, REST_MAX_MS) : 1000;
	d->rest_until_ns = now + d->rest_ms * UINT64_C(1000000);
	d->rest_what = what;
	d->rest_err = is_stall ? -ETIMEDOUT : err;
	pthread_cond_signal(&d->wake_writer); /* who says so */
}

static uint64_t use_now(const struct vf_disk *d)
{
	return (uint64_t)d->generation << 32 |
	       ((vf_now_ns() - d->opened_ns) / 1000000000u & 0xffffffff);
}

void vf_disk_fault(struct vf_disk *d, vf_io_fault_fn *fn, void *arg)
{
	vf_uring_fault(d->ring, fn, arg);
}

/* ---- the table of files: caller holds mtx ------------------------------------------ */

static struct vf_disk_file **chain_of(struct vf_disk *d, const uint8_t id[16])
{
	return &d->table[vf_le64(id) & d->mask];
}

struct vf_disk_file *vf_disk_find(struct vf_disk *d, const uint8_t id[16])
{
	struct vf_disk_file *f = *chain_of(d, id);

	while (f && memcmp(f->id, id, 16))
		f = f->hash_next;
	return f;
}

static void grow_table(struct vf_disk *d)
{
	size_t n = 2 * (d->mask + 1);
	struct vf_disk_file **old = d->table, **t = calloc(n, sizeof(*t));

	if (!t)
		return; /* longer chains */
	d->table = t;
	for (size_t i = 0; i <= n / 2 - 1; i++)
		while (old[i]) {
			struct vf_disk_file *f = old[i];
			old[i] = f->hash_next;
			f->hash_next = t[vf_le64(f->id) & (n - 1)];
			t[vf_le64(f->id) & (n - 1)] = f;
		}
	d->mask = n - 1;
	free(old);
}

void vf_disk_file_add(struct vf_disk_file *f)
{
	struct vf_disk *d = f->disk;
	struct vf_disk_file **chain;

	if (d->n_files++ > d->mask)
		grow_table(d);
	chain = chain_of(d, f->id);
	f->hash_next = *chain;
	*chain = f;
}

void vf_disk_file_remove(struct vf_disk_file *f)
{
	struct vf_disk_file **at = chain_of(f->disk, f->id);

	while (*at != f)
		at = &(*at)->hash_next;
	*at = f->hash_next;
	f->disk->n_files--;
}

void vf_disk_idle_add(struct vf_disk_file *f)
{
	struct vf_disk *d = f->disk;

	f->idle_newer = NULL;
	f->idle_older = d->idle_newest;
	*(d->idle_newest ? &d->idle_newest->idle_newer : &d->idle_oldest) = f;
	d->idle_newest = f;
	if (++d->n_idle > d->idle_max)
		pthread_cond_signal(&d->wake_index);
}

void vf_disk_idle_remove(struct vf_disk_file *f)
{
	struct vf_disk *d = f->disk;

	*(f->idle_newer ? &f->idle_newer->idle_older : &d->idle_newest) =
		f->idle_older;
	*(f->idle_older ? &f->idle_older->idle_newer : &d->idle_oldest) =
		f->idle_newer;
	d->n_idle--;
}

/* ---- files -------------------------------------------------------------------------- */

struct vf_disk_file *vf_disk_file_new(struct vf_disk *d, const uint8_t id[16],
				      uint64_t size, const char *label)
{
	uint64_t n = size / d->opt.block_len + (size % d->opt.block_len != 0);
	uint64_t n_groups = (n + VF_DISK_GROUP - 1) / VF_DISK_GROUP;
	struct vf_disk_file *f;

	if (n_groups > GROUPS_MAX)
		return NULL;
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->disk = d;
	f->size = size;
	f->n_blocks = n;
	f->n_groups = n_groups;
	f->fd = -1;
	memcpy(f->id, id, 16);
	snprintf(f->label, sizeof(f->label), "%s", label);
	f->groups = calloc(n_groups + 1, sizeof(*f->groups));
	if (!f->groups) {
		free(f);
		return NULL;
	}
	return f;
}

void vf_disk_file_free(struct vf_disk_file *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->n_groups; i++)
		free(f->groups[i]);
	free(f->groups);
	if (f->fd >= 0)
		close(f->fd);
	free(f);
}

static void ask_load(struct vf_disk_file *f)
{
	struct vf_disk *d = f->disk;

	f->state = VF_DISK_LOADING;
	f->load_next = d->load;
	d->load = f;
	pthread_cond_signal(&d->wake_index);
}

/* A reference, and the load asked for; mtx. */
static void use_file(struct vf_disk_file *f)
{
	struct vf_disk *d = f->disk;

	if (!f->users++)
		vf_disk_idle_remove(f);
	if (d->victim == f)
		d->victim = NULL;
	if (f->state == VF_DISK_DEAD)
		ask_load(f);
}

/* The file in RAM, made when it is not; NULL: no memory; mtx. */
static struct vf_disk_file *find_or_make(struct vf_disk *d,
					 const uint8_t id[16], uint64_t size,
					 const char *label)
{
	struct vf_disk_file *f = vf_disk_find(d, id);

	if (f)
		return f;
	f = vf_disk_file_new(d, id, size, label);
	if (!f)
		return NULL;
	vf_disk_file_add(f);
	vf_disk_idle_add(f);
	ask_load(f);
	return f;
}

/* Until the index has answered, or for so long that it will not; mtx. */
static void wait_loaded(struct vf_disk_file *f)
{
	struct vf_disk *d = f->disk;
	uint64_t until = vf_now_ns() + d->wait_ns;

	while (f->state == VF_DISK_LOADING && !d->is_late &&
	       vf_now_ns() < until)
		vf_disk_wait(d, &d->changed, until);
	/* One waits in vain, not each of a thousand. */
	d->is_late |= f->state == VF_DISK_LOADING;
	if (f->state != VF_DISK_READY)
		return;
	f->last_use = use_now(d);
	if (f->has_record)
		vf_disk_mark_file(f);
}

int vf_disk_file_get(struct vf_disk *d, const uint8_t id[16], uint64_t size,
		     const char *label, struct vf_disk_file **out)
{
	struct vf_disk_file *f;
	uint64_t had = size;

	*out = NULL;
	pthread_mutex_lock(&d->mtx);
	f = find_or_make(d, id, size, label);
	if (f && f->size == size) {
		use_file(f);
		wait_loaded(f);
		*out = f;
	} else if (f) {
		had = f->size;
	}
	pthread_mutex_unlock(&d->mtx);
	if (*out)
		return 0;
	if (had == size)
		return -ENOMEM;
	return vf_fail(-EINVAL, "%s: one identity, but %llu and %llu bytes",
		       label, (unsigned long long)had,
		       (unsigned long long)size);
}

void vf_disk_file_put(struct vf_disk_file *f)
{
	struct vf_disk *d;

	if (!f)
		return;
	d = f->disk;
	pthread_mutex_lock(&d->mtx);
	assert(f->users);
	if (!--f->users)
		vf_disk_idle_add(f);
	pthread_mutex_unlock(&d->mtx);
}

/* ---- blocks of a file ------------------------------------------------------------------ */

bool vf_disk_has(struct vf_disk_file *f, uint64_t number)
{
	struct vf_disk_block *b;
	bool has;

	pthread_mutex_lock(&f->disk->mtx);
	b = number < f->n_blocks ? vf_disk_block_at(f, number, false) : NULL;
	has = b && b->state == VF_BLOCK_VALID && !vf_disk_is_stalled(f->disk);
	pthread_mutex_unlock(&f->disk->mtx);
	return has;
}

/* The end of a range of the caller's, within the file. */
static uint64_t end_of(const struct vf_disk_file *f, uint64_t first, uint64_t n)
{
	if (first >= f->n_blocks)
		return first;
	return first + VF_MIN(n, f->n_blocks - first);
}

void vf_disk_touch(struct vf_disk_file *f, uint64_t first, uint64_t n_blocks)
{
	struct vf_disk *d = f->disk;
	uint64_t end = end_of(f, first, n_blocks);

	pthread_mutex_lock(&d->mtx);
	for (uint64_t i = first; i < end; i++) {
		struct vf_disk_block *b = vf_disk_block_at(f, i, false);
		if (b && b->entry.queue)
			vf_policy_hit(d->policy, &b->entry, 1);
	}
	pthread_mutex_unlock(&d->mtx);
}

static int set_pins(struct vf_disk_file *f, uint64_t first, uint64_t end,
		    bool pinned)
{
	for (uint64_t i = first; i < end; i++) {
		struct vf_disk_block *b = vf_disk_block_at(f, i, pinned);
		if (b)
			vf_disk_set_pinned(vf_disk_group_of(b), b, pinned);
		else if (pinned)
			return -ENOMEM;
	}
	return 0;
}

/* What counts as pinned once the range is. */
static uint64_t count_pins(struct vf_disk_file *f, uint64_t first, uint64_t end,
			   uint64_t enough)
{
	uint64_t n = f->disk->pinned;

	for (uint64_t i = first; i < end && n <= enough; i++) {
		struct vf_disk_block *b = vf_disk_block_at(f, i, false);
		if (!b || !b->pinned)
			n += vf_disk_block_cost(f, i);
	}
	return n;
}

int vf_disk_pin(struct vf_disk_file *f, uint64_t first, uint64_t n_blocks)
{
	uint64_t end = end_of(f, first, n_blocks);
	struct vf_disk *d = f->disk;
	uint64_t share = d->opt.size / 4 * 3, had;
	int err = 0;

	pthread_mutex_lock(&d->mtx);
	had = d->pinned;
	if (f->state != VF_DISK_READY)
		err = -EAGAIN;
	else if (count_pins(f, first, end, share) > share)
		err = -ENOSPC;
	else
		err = set_pins(f, first, end, true);
	pthread_mutex_unlock(&d->mtx);
	if (err != -ENOSPC)
		return err;
	return vf_fail(err,
		       "%s: cannot pin %llu blocks of %u bytes: %llu of the "
		       "%llu bytes for pins are in use",
		       f->label, (unsigned long long)(end - first),
		       d->opt.block_len, (unsigned long long)had,
		       (unsigned long long)share);
}

void vf_disk_unpin(struct vf_disk_file *f, uint64_t first, uint64_t n_blocks)
{
	pthread_mutex_lock(&f->disk->mtx);
	set_pins(f, first, end_of(f, first, n_blocks), false);
	pthread_mutex_unlock(&f->disk->mtx);
}

void vf_disk_drop(struct vf_disk_file *f, uint64_t first, uint64_t n_blocks)
{
	uint64_t end = end_of(f, first, n_blocks);
	struct vf_disk_punch *list = NULL;

	pthread_mutex_lock(&f->disk->mtx);
	for (uint64_t i = first; i < end; i++) {
		struct vf_disk_block *b = vf_disk_block_at(f, i, false);
		if (!b || b->pinned || b->readers)
			continue;
		if (b->state == VF_BLOCK_WRITING || f->n_holds)
			b->doomed = true;
		if (b->state != VF_BLOCK_VALID || f->n_holds)
			continue;
		vf_disk_set_evicting(vf_disk_group_of(b), b);
		vf_disk_punch_add(&list, f, i);
	}
	pthread_mutex_unlock(&f->disk->mtx);
	vf_disk_punch_submit(f->disk, list);
}

/* ---- numbers ------------------------------------------------------------------------------ */

void vf_disk_file_info(struct vf_disk_file *f, struct vf_disk_file_info *out)
{
	pthread_mutex_lock(&f->disk->mtx);
	*out = (struct vf_disk_file_info){f->n_blocks, f->n_valid, f->n_pinned};
	pthread_mutex_unlock(&f->disk->mtx);
}

void vf_disk_stats(struct vf_disk *d, struct vf_disk_stats *out)
{
	pthread_mutex_lock(&d->mtx);
	*out = d->stats;
	out->size = d->opt.size;
	out->used = VF_MIN(d->opt.size,
			   d->used + d->dir_bytes + d->meta_bytes + d->unknown);
	out->pinned = d->pinned;
	out->held = d->held;
	out->resting = vf_disk_is_resting(d);
	out->uring = vf_uring_is_ring(d->ring);
	pthread_mutex_unlock(&d->mtx);
}

static bool is_settled(const struct vf_disk *d)
{
	return !d->queue_bytes && !d->dirty && !d->saving && !d->janitor &&
	       !d->cleaning && !d->evicting;
}

int vf_disk_flush(struct vf_disk *d)
{
	uint64_t until = vf_now_ns() + FLUSH_MAX_S * UINT64_C(1000000000);
	uint64_t n_saves;
	int err = 0;

	pthread_mutex_lock(&d->mtx);
	d->n_flush++;
	n_saves = d->n_saves;
	d->save_err = 0;
	while (!is_settled(d) && !(d->save_err && d->n_saves > n_saves + 1) &&
	       !err) {
		pthread_cond_signal(&d->wake_index);
		pthread_cond_signal(&d->wake_writer);
		vf_disk_wait(d, &d->changed, vf_now_ns() + 20000000);
		if (vf_now_ns() > until)
			err = vf_fail(-ETIMEDOUT, "%s: not written in %d s",
				      d->dir, FLUSH_MAX_S);
	}
	d->n_flush--;
	if (!err)
		err = d->save_err;
	pthread_mutex_unlock(&d->mtx);
	return err;
}
