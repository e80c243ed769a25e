/*
 * Files of the disk tier that are handed out: the kernel, or whoever else,
 * reads the data file itself.
 *
 *   held       every block is VALID and stays so; none is in the policy's hands
 *   doomed     dropped meanwhile: leaves with the last hold
 *   bad        found damaged meanwhile: leaves then too, pinned or not
 *
 * A hold that is still there when the program ends is marked at the file; the
 * next session leaves such a file to its readers (tier_disk_dir.c).
 */
#include "store/tier_disk_impl.h"

#include <sys/stat.h>

enum { CHECKS_MAX = 16 /* reads under way for one check */ };

/* ---- begin and end: mtx ------------------------------------------------------------ */

static bool is_whole(const struct vf_disk_file *f)
{
	return f->state == VF_DISK_READY && f->n_blocks && f->fd >= 0 &&
	       f->n_valid == f->n_blocks;
}

static bool has_room(const struct vf_disk_file *f)
{
	const struct vf_disk *d = f->disk;
	uint64_t held = d->held + f->bytes - f->pinned;

	return held <= d->opt.size / 2 &&
	       d->pinned + held <= d->opt.size / 8 * 7;
}

static void begin_hold(struct vf_disk_file *f)
{
	struct vf_disk *d = f->disk;

	for (size_t i = 0; i < f->n_groups; i++)
		for (unsigned k = 0; k < VF_DISK_GROUP; k++) {
			struct vf_disk_block *b = &f->groups[i]->blocks[k];
			if (b->entry.queue)
				vf_policy_remove(d->policy, &b->entry);
		}
	f->held = f->bytes - f->pinned;
	d->held += f->held;
}

static void end_block(struct vf_disk_group *g, struct vf_disk_block *b,
		      struct vf_disk_punch **punch)
{
	if (b->state != VF_BLOCK_VALID) /* beyond the end */
		return;
	if (!b->bad && !(b->doomed && !b->pinned)) {
		b->doomed = false;
		if (b->pinned)
			return;
		/* Uses were not seen: it counts as one that was used again. */
		vf_disk_enter_policy(g, b, 0);
		vf_policy_hit(g->file->disk->policy, &b->entry, 1);
		return;
	}
	vf_disk_set_evicting(g, b);
	if (!b->readers)
		vf_disk_punch_add(punch, g->file, vf_disk_number(g, b));
}

static void end_hold(struct vf_disk_file *f, struct vf_disk_punch **punch)
{
	f->disk->held -= f->held;
	f->held = 0;
	for (size_t i = 0; i < f->n_groups; i++)
		for (unsigned k = 0; k < VF_DISK_GROUP; k++)
			end_block(f->groups[i], &f->groups[i]->blocks[k],
				  punch);
	pthread_cond_broadcast(&f->disk->changed); /* there may be room */
}

void vf_disk_file_unhold(struct vf_disk_file *f)
{
	struct vf_disk *d = f->disk;
	struct vf_disk_punch *punch = NULL;

	pthread_mutex_lock(&d->mtx);
	assert(f->n_holds);
	if (!--f->n_holds)
		end_hold(f, &punch);
	pthread_mutex_unlock(&d->mtx);
	vf_disk_punch_submit(d, punch);
}

/* ---- the check ----------------------------------------------------------------------- */

struct check {
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	unsigned n_reads; /* [mtx] under way */
	bool failed;	  /* [mtx] */
};

static void finish_check(void *arg, int err)
{
	struct check *c = arg;

	pthread_mutex_lock(&c->mtx);
	c->n_reads--;
	c->failed |= err != 0;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->mtx);
}

/* Until fewer than @n reads are under way; true: none has failed. */
static bool wait_fewer(struct check *c, unsigned n)
{
	bool fine;

	pthread_mutex_lock(&c->mtx);
	while (c->n_reads >= n)
		pthread_cond_wait(&c->cond, &c->mtx);
	fine = !c->failed;
	pthread_mutex_unlock(&c->mtx);
	return fine;
}

static bool find_unchecked(struct vf_disk_file *f, uint64_t *number)
{
	pthread_mutex_lock(&f->disk->mtx);
	if (f->n_checked == f->n_blocks)
		*number = f->n_blocks;
	while (*number < f->n_blocks &&
	       vf_disk_block_at(f, *number, false)->checked)
		++*number;
	pthread_mutex_unlock(&f->disk->mtx);
	return *number < f->n_blocks;
}

static int check_blocks(struct vf_disk_file *f)
{
	uint64_t until = vf_now_ns() + f->disk->wait_ns;
	struct check c = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER,
			  0, false};
	uint64_t number = 0;
	bool late = false;

	while (find_unchecked(f, &number) && wait_fewer(&c, CHECKS_MAX)) {
		late = vf_now_ns() > until;
		if (late)
			break;
		pthread_mutex_lock(&c.mtx);
		c.n_reads++;
		pthread_mutex_unlock(&c.mtx);
		vf_disk_read(f, number++, NULL, 0, finish_check, &c);
	}
	if (!wait_fewer(&c, 1))
		return -ENOENT;
	return late ? -EAGAIN : 0;
}

/* ---- the file ---------------------------------------------------------------------------- */

/* By its name, and still the one that the blocks are in. */
static int open_file(struct vf_disk_file *f, int *out_fd)
{
	struct vf_disk *d = f->disk;
	VF_AUTO_FD int fd =
		vf_disk_dir_data(d, f->id, VF_DISK_OPEN_READ, f->size);
	struct stat ours, theirs;
	int err;

	if (fd < 0)
		return fd;
	if (fstat(f->fd, &ours) || fstat(fd, &theirs))
		return -errno;
	if (ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev)
		return -ENOENT;
	err = vf_disk_dir_lend(fd);
	if (err)
		return err;
	*out_fd = fd;
	fd = -1;
	return 0;
}

int vf_disk_file_hold(struct vf_disk_file *f, int *out_fd)
{
	struct vf_disk *d = f->disk;
	int err = 0;

	*out_fd = -1;
	pthread_mutex_lock(&d->mtx);
	if (!is_whole(f))
		err = -ENOENT;
	else if (!f->n_holds && !has_room(f))
		err = -ENOSPC;
	else if (!f->n_holds++)
		begin_hold(f);
	pthread_mutex_unlock(&d->mtx);
	if (err)
		return err;
	err = check_blocks(f);
	if (!err)
		err = open_file(f, out_fd);
	if (err)
		vf_disk_file_unhold(f);
	return err;
}
