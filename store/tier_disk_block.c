/*
 * Blocks of the disk tier: what state they are in, what they cost, how they
 * leave.
 *
 *   EMPTY -> WRITING -> VALID -> EVICTING -> EMPTY
 *
 *   used       counts it from when room was made (WRITING) until EMPTY
 *   n_live     counts it in every state but EMPTY
 *   bytes      counts it while VALID
 *   policy     has it while VALID, not pinned and the file not held
 *   readers    only while VALID or EVICTING
 *   the group  stays while a block is not EMPTY or pinned, or it is dirty
 */
#include "store/tier_disk_impl.h"

#include <sys/mman.h>

enum {
	BLOCK_EXTRA = 32, /* an entry in the tree of extents, half-full nodes */
	FILE_EXTRA = 128, /* name in a folder */
	INLINE_BLOCKS = 4, /* more extents need a block of the file system */
	PUNCH_MAX = 256,   /* blocks in one go */
	BUFFERS_KEPT = 16 << 20, /* bytes of free ones */
};

uint32_t vf_disk_block_len(const struct vf_disk_file *f, uint64_t number)
{
	uint64_t block_len = f->disk->opt.block_len;

	return (uint32_t)VF_MIN(block_len, f->size - number * block_len);
}

uint64_t vf_disk_block_cost(const struct vf_disk_file *f, uint64_t number)
{
	return vf_round_up(vf_disk_block_len(f, number), f->disk->unit) +
	       BLOCK_EXTRA;
}

uint64_t vf_disk_file_cost(const struct vf_disk_file *f)
{
	return FILE_EXTRA + (f->n_blocks > INLINE_BLOCKS ? f->disk->unit : 0);
}

/* ---- groups -------------------------------------------------------------------- */

struct vf_disk_group *vf_disk_group_of(struct vf_disk_block *b)
{
	return (struct vf_disk_group *)((char *)(b - b->at) -
					offsetof(struct vf_disk_group, blocks));
}

struct vf_disk_group *vf_disk_group_new(struct vf_disk_file *f, uint32_t number)
{
	size_t n = (size_t)VF_DISK_GROUP * f->disk->n_crc;
	struct vf_disk_group *g = calloc(1, sizeof(*g) + n * sizeof(*g->crcs));

	if (!g)
		return NULL;
	g->file = f;
	g->number = number;
	for (unsigned i = 0; i < VF_DISK_GROUP; i++)
		g->blocks[i].at = (uint8_t)i;
	return g;
}

struct vf_disk_block *vf_disk_block_at(struct vf_disk_file *f, uint64_t number,
				       bool make)
{
	size_t i = number / VF_DISK_GROUP;

	assert(number < f->n_blocks);
	if (!f->groups[i] && make)
		f->groups[i] = vf_disk_group_new(f, (uint32_t)i);
	return f->groups[i] ? &f->groups[i]->blocks[number % VF_DISK_GROUP]
			    : NULL;
}

void vf_disk_group_release(struct vf_disk_group *g)
{
	struct vf_disk_block *b = g->blocks;

	if (g->dirty)
		return;
	for (unsigned i = 0; i < VF_DISK_GROUP; i++)
		if (b[i].state != VF_BLOCK_EMPTY || b[i].pinned)
			return;
	g->file->groups[g->number] = NULL;
	free(g);
}

uint32_t *vf_disk_crcs(struct vf_disk_group *g, const struct vf_disk_block *b)
{
	return g->crcs + (size_t)b->at * g->file->disk->n_crc;
}

/* ---- what must be saved ---------------------------------------------------------- */

enum { SAVE_AFTER_CHANGES = 1024 };

void vf_disk_mark_file(struct vf_disk_file *f)
{
	struct vf_disk *d = f->disk;

	if (!f->dirty) {
		f->dirty = true;
		f->dirty_next = d->dirty;
		d->dirty = f;
	}
	if (!d->save_at_ns) {
		d->save_at_ns = vf_now_ns() + 1000000000u;
		pthread_cond_signal(&d->wake_index);
	}
	if (++d->n_changes == SAVE_AFTER_CHANGES)
		pthread_cond_signal(&d->wake_index);
}

void vf_disk_mark_group(struct vf_disk_group *g)
{
	if (!g->dirty) {
		g->dirty = true;
		g->dirty_next = g->file->dirty_groups;
		g->file->dirty_groups = g;
	}
	vf_disk_mark_file(g->file);
}

/* ---- states ---------------------------------------------------------------------- */

static uint64_t hash_block(const struct vf_disk_file *f, uint64_t number)
{
	uint64_t h = vf_le64(f->id) ^ number * 0x9e3779b97f4a7c15;

	h = (h ^ h >> 32) * 0xd6e8feb86659fd93;
	return h ^ h >> 32;
}

static uint32_t seconds_of(const struct vf_disk *d)
{
	return (uint32_t)((vf_now_ns() - d->opened_ns) / 1000000000u);
}

void vf_disk_enter_policy(struct vf_disk_group *g, struct vf_disk_block *b,
			  unsigned flags)
{
	struct vf_disk *d = g->file->disk;

	memset(&b->entry, 0, sizeof(b->entry));
	vf_policy_insert(d->policy, &b->entry,
			 hash_block(g->file, vf_disk_number(g, b)), flags,
			 seconds_of(d));
}

void vf_disk_set_valid(struct vf_disk_group *g, struct vf_disk_block *b,
		       unsigned flags, bool was_written)
{
	struct vf_disk_file *f = g->file;

	b->state = VF_BLOCK_VALID;
	f->n_valid++;
	f->bytes += vf_disk_block_cost(f, vf_disk_number(g, b));
	if (!b->pinned)
		vf_disk_enter_policy(g, b, flags);
	if (was_written) {
		f->unsynced = true;
		vf_disk_mark_group(g);
	}
}

void vf_disk_set_checked(struct vf_disk_file *f, struct vf_disk_block *b)
{
	if (b->state != VF_BLOCK_VALID || b->checked)
		return;
	b->checked = true;
	f->n_checked++;
}

void vf_disk_set_bad(struct vf_disk_file *f, struct vf_disk_block *b)
{
	f->n_checked -= b->checked;
	b->checked = false;
	b->bad = true;
}

void vf_disk_set_evicting(struct vf_disk_group *g, struct vf_disk_block *b)
{
	struct vf_disk_file *f = g->file;
	uint64_t cost = vf_disk_block_cost(f, vf_disk_number(g, b));

	if (b->state == VF_BLOCK_VALID) {
		if (b->entry.queue)
			vf_policy_remove(f->disk->policy, &b->entry);
		f->n_valid--;
		f->bytes -= cost;
		f->n_checked -= b->checked;
		vf_disk_mark_group(g);
	}
	assert(!f->n_holds);
	b->state = VF_BLOCK_EVICTING;
	b->doomed = b->checked = b->bad = false;
	f->disk->evicting += cost;
}

void vf_disk_set_pinned(struct vf_disk_group *g, struct vf_disk_block *b,
			bool pinned)
{
	struct vf_disk_file *f = g->file;
	uint64_t len = vf_disk_block_cost(f, vf_disk_number(g, b));

	if (b->pinned == pinned)
		return;
	b->pinned = pinned;
	if (f->n_holds) {
		f->held += pinned ? -len : len;
		f->disk->held += pinned ? -len : len;
	}
	if (pinned) {
		if (b->entry.queue)
			vf_policy_remove(f->disk->policy, &b->entry);
		b->doomed = false;
		f->n_pinned++;
		f->pinned += len;
		f->disk->pinned += len;
	} else {
		if (b->state == VF_BLOCK_VALID && !f->n_holds)
			vf_disk_enter_policy(g, b, 0);
		f->n_pinned--;
		f->pinned -= len;
		f->disk->pinned -= VF_MIN(len, f->disk->pinned);
	}
	vf_disk_mark_group(g);
}

/* ---- files that became empty, punches that failed --------------------------------- */

void vf_disk_call_janitor(struct vf_disk_file *f)
{
	struct vf_disk *d = f->disk;

	if (!f->janitor) {
		f->janitor = true;
		f->janitor_next = d->janitor;
		d->janitor = f;
	}
	pthread_cond_signal(&d->wake_writer);
}

void vf_disk_io_end(struct vf_disk_file *f)
{
	assert(f->io);
	f->io--;
	if (!f->io && !f->n_live && f->fd >= 0)
		vf_disk_call_janitor(f);
}

/* ---- punching ---------------------------------------------------------------------- */

void vf_disk_punch_add(struct vf_disk_punch **list, struct vf_disk_file *f,
		       uint64_t number)
{
	struct vf_disk_punch *p = *list;

	if (p && p->file == f && p->n < PUNCH_MAX) {
		if (p->first + p->n == number) {
			p->n++;
			return;
		}
		if (number + 1 == p->first) {
			p->first = number;
			p->n++;
			return;
		}
	}
	p = calloc(1, sizeof(*p));
	if (!p) {
		vf_disk_block_at(f, number, false)->stuck = f->stuck = true;
		vf_disk_call_janitor(f);
		return;
	}
	p->file = f;
	p->first = number;
	p->n = 1;
	p->next = *list;
	*list = p;
	f->io++;
}

static void end_block(struct vf_disk_file *f, uint64_t number, int err)
{
	struct vf_disk_block *b = vf_disk_block_at(f, number, false);
	struct vf_disk *d = f->disk;
	uint64_t cost = vf_disk_block_cost(f, number);

	assert(b && b->state == VF_BLOCK_EVICTING && !b->readers);
	if (err) { /* still takes its place: counted until it works */
		b->stuck = f->stuck = true;
		return;
	}
	b->state = VF_BLOCK_EMPTY;
	b->stuck = false;
	d->evicting -= cost;
	d->used -= cost;
	f->n_live--;
	vf_disk_group_release(vf_disk_group_of(b));
}

static void finish_punch(struct vf_io *io, int res)
{
	struct vf_disk_punch *p = (struct vf_disk_punch *)io;
	struct vf_disk_file *f = p->file;
	struct vf_disk *d = f->disk;

	pthread_mutex_lock(&d->mtx);
	for (uint64_t i = 0; i < p->n; i++)
		end_block(f, p->first + i, res);
	if (res) {
		d->stats.n_error++;
		vf_disk_rest(d, false, res, "cannot punch a hole");
		vf_disk_call_janitor(f);
	}
	vf_disk_io_end(f);
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->mtx);
	free(p);
}

void vf_disk_punch_submit(struct vf_disk *d, struct vf_disk_punch *list)
{
	uint64_t block_len = d->opt.block_len;

	while (list) {
		struct vf_disk_punch *p = list;
		uint64_t last = p->first + p->n - 1;
		list = p->next;
		p->io.op = VF_IO_PUNCH;
		p->io.fd = p->file->fd; /* stays while io > 0 */
		p->io.off = p->first * block_len;
		p->io.len =
			last * block_len +
			vf_round_up(vf_disk_block_len(p->file, last), d->unit) -
			p->io.off;
		p->io.done = finish_punch;
		vf_uring_submit(d->ring, &p->io);
	}
}

/* ---- buffers ------------------------------------------------------------------------ */

/* Mappings, not malloc: between its chunks they would leave holes that nothing
 * else fits in, measured at five times what was in use. */
void *vf_disk_buffer_get(struct vf_disk *d)
{
	void *p;

	pthread_mutex_lock(&d->mtx);
	p = d->buffers;
	if (p) {
		d->buffers = *(void **)p;
		d->n_buffers--;
	}
	pthread_mutex_unlock(&d->mtx);
	if (p)
		return p;
	p = mmap(NULL, d->opt.block_len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

void vf_disk_buffer_put(struct vf_disk *d, void *buf)
{
	if (!buf)
		return;
	pthread_mutex_lock(&d->mtx);
	if (d->n_buffers * d->opt.block_len < BUFFERS_KEPT) {
		*(void **)buf = d->buffers;
		d->buffers = buf;
		d->n_buffers++;
		buf = NULL;
	}
	pthread_mutex_unlock(&d->mtx);
	if (buf)
		munmap(buf, d->opt.block_len);
}

void vf_disk_buffers_free(struct vf_disk *d)
{
	while (d->buffers) {
		void *p = d->buffers;
		d->buffers = *(void **)p;
		munmap(p, d->opt.block_len);
	}
}
