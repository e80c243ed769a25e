/*
 * Making room in the disk tier; the writer thread's.
 *
 * Who leaves: first files of earlier sessions that nobody opened since the
 * start, the least recently used file first; then whom the policy chooses.
 * For a long sequential read the other way round: it must not push out what
 * was not asked for yet.
 */
#include "store/tier_disk_impl.h"

enum { HEADROOM = 1 << 20 /* bytes evicted ahead, at most */ };

uint64_t vf_disk_taken(const struct vf_disk *d)
{
	return d->used + d->dir_bytes + d->meta_bytes + d->meta_slack +
	       d->unknown;
}

static bool may_leave(void *arg, const struct vf_policy_entry *e)
{
	const struct vf_disk_block *b = (const struct vf_disk_block *)e;

	static_assert(offsetof(struct vf_disk_block, entry) == 0, "the cast");
	return b->state == VF_BLOCK_VALID && !b->pinned && !b->readers;
}

static void evict(struct vf_disk_block *b, struct vf_disk_punch **punch)
{
	struct vf_disk_group *g = vf_disk_group_of(b);

	vf_disk_set_evicting(g, b);
	vf_disk_punch_add(punch, g->file, vf_disk_number(g, b));
	g->file->disk->stats.n_evict++;
}

static bool evict_by_policy(struct vf_disk *d, struct vf_disk_punch **punch)
{
	uint32_t now_s = (uint32_t)((vf_now_ns() - d->opened_ns) / 1000000000u);
	struct vf_policy_entry *e =
		vf_policy_victim(d->policy, may_leave, d, now_s);

	if (e)
		evict((struct vf_disk_block *)e, punch);
	return e != NULL;
}

/* A cold file to be emptied, once the index thread has loaded it. */
static struct vf_disk_file *find_victim(struct vf_disk *d)
{
	uint64_t until = vf_now_ns() + d->wait_ns;

	if (d->victim || !d->cold || d->no_cold)
		return d->victim;
	d->want_cold = true;
	pthread_cond_signal(&d->wake_index);
	while (d->want_cold && vf_now_ns() < until)
		vf_disk_wait(d, &d->changed, until);
	return d->victim;
}

/* One block of the victim, or it is done with. */
static bool evict_cold(struct vf_disk *d, struct vf_disk_punch **punch)
{
	struct vf_disk_file *f;

	while ((f = find_victim(d))) {
		for (; d->victim_at < f->n_groups; d->victim_at++) {
			struct vf_disk_group *g = f->groups[d->victim_at];
			for (unsigned i = 0; g && i < VF_DISK_GROUP; i++) {
				struct vf_disk_block *b = &g->blocks[i];
				if (f->n_holds || !may_leave(NULL, &b->entry))
					continue;
				evict(b, punch);
				return true;
			}
		}
		d->victim = NULL;
	}
	return false;
}

static bool evict_next(struct vf_disk *d, unsigned flags,
		       struct vf_disk_punch **punch)
{
	if (flags & VF_POLICY_SCAN && d->used - d->cold > d->opt.size / 10)
		return evict_by_policy(d, punch) || evict_cold(d, punch);
	return evict_cold(d, punch) || evict_by_policy(d, punch);
}

void vf_disk_punch_unlocked(struct vf_disk *d, struct vf_disk_punch *punch)
{
	pthread_mutex_unlock(&d->mtx);
	vf_disk_punch_submit(d, punch);
	pthread_mutex_lock(&d->mtx);
}

bool vf_disk_make_room(struct vf_disk *d, uint64_t need, unsigned flags)
{
	uint64_t until = vf_now_ns() + d->wait_ns;
	uint64_t ahead = VF_MIN((uint64_t)HEADROOM, d->opt.size / 64);

	while (vf_disk_taken(d) + need > d->opt.size) {
		struct vf_disk_punch *punch = NULL;
		while (vf_disk_taken(d) - d->evicting + need + ahead >
		       d->opt.size)
			if (!evict_next(d, flags, &punch))
				break;
		if (punch)
			vf_disk_punch_unlocked(d, punch);
		else if (!d->evicting)
			return false;
		if (vf_disk_taken(d) + need <= d->opt.size)
			break;
		if (d->evicting)
			vf_disk_wait(d, &d->changed, until);
		if (vf_now_ns() >= until || vf_disk_is_resting(d))
			return vf_disk_taken(d) + need <= d->opt.size;
	}
	return true;
}

void vf_disk_evict_some(struct vf_disk *d, unsigned n)
{
	struct vf_disk_punch *punch = NULL;

	while (n-- && evict_next(d, 0, &punch))
		;
	vf_disk_punch_unlocked(d, punch);
}
