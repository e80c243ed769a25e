/*
 * What earlier sessions left: records that become files in RAM, files in RAM
 * that become records only, and data files that no record knows.
 *
 * After a crash a data file may hold blocks that no record knows: they are
 * punched when the file is loaded, and the sweep loads such files.  Until it
 * has been through, d->unknown counts as many bytes as there can be.
 */
#include "store/tier_disk_impl.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum {
	SWEEP_FILES = 64, /* looked at in one go */
	UNLOAD_TRIES = 64,
	COLD_TRIES = 64,
};

/* ---- forget ----------------------------------------------------------------------------- */

/* Records of it are gone from the totals, by which cold ones were counted. */
static void uncount(struct vf_disk *d, const struct vf_disk_total *before)
{
	struct vf_disk_total now;
	uint64_t bytes, pinned;

	vf_disk_index_total(d->index, &now);
	bytes = before->bytes - VF_MIN(now.bytes, before->bytes);
	pinned = before->pinned - VF_MIN(now.pinned, before->pinned);
	pthread_mutex_lock(&d->mtx);
	d->used -= VF_MIN(bytes, d->used);
	d->cold -= VF_MIN(bytes, d->cold);
	d->pinned -= VF_MIN(pinned, d->pinned);
	pthread_mutex_unlock(&d->mtx);
}

static int drop_records(struct vf_disk *d, const uint8_t id[16])
{
	int err = vf_disk_index_begin(d->index);

	if (err)
		return err;
	err = vf_disk_index_drop_file(d->index, id);
	if (!err)
		return vf_disk_index_commit(d->index);
	vf_disk_index_abort(d->index);
	return err;
}

/* Drop the records of a version, and its data file. */
static void forget(struct vf_disk *d, const uint8_t id[16])
{
	struct vf_disk_total before;

	if (vf_disk_dir_unlink(d, id))
		vf_log(VF_WARN, "%s: cannot remove a data file: %s", d->dir,
		       strerror(errno));
	vf_disk_index_total(d->index, &before);
	if (!drop_records(d, id))
		uncount(d, &before);
}

/* ---- load --------------------------------------------------------------------------------- */

struct load {
	struct vf_disk_file *file;
	struct vf_disk_group *groups; /* by dirty_next, states raw */
	bool has_data;
};

static bool fits(const struct vf_disk_file *f,
		 const struct vf_disk_group_record *g)
{
	uint64_t first = (uint64_t)g->number * VF_DISK_GROUP;
	uint64_t n;

	if (g->number >= f->n_groups || g->n_crc != f->disk->n_crc)
		return false;
	n = f->n_blocks - first;
	return n >= VF_DISK_GROUP || !((g->present | g->pinned) >> n);
}

static int load_group(void *arg, const struct vf_disk_group_record *r)
{
	struct load *l = arg;
	uint32_t n_crc = l->file->disk->n_crc;
	const uint8_t *at = r->crcs;
	struct vf_disk_group *g;

	if (!fits(l->file, r))
		return -EBADMSG;
	g = vf_disk_group_new(l->file, r->number);
	if (!g)
		return -ENOMEM;
	g->dirty_next = l->groups;
	l->groups = g;
	for (unsigned i = 0; i < VF_DISK_GROUP; i++) {
		struct vf_disk_block *b = &g->blocks[i];
		b->pinned = r->pinned >> i & 1;
		if (!(r->present >> i & 1))
			continue;
		if (l->has_data)
			b->state = VF_BLOCK_VALID;
		for (uint32_t k = 0; k < n_crc; k++, at += 4)
			vf_disk_crcs(g, b)[k] = vf_le32(at);
	}
	return 0;
}

static void free_load(struct load *l)
{
	while (l->groups) {
		struct vf_disk_group *g = l->groups;
		l->groups = g->dirty_next;
		free(g);
	}
}

static void attach_group(struct vf_disk_file *f, struct vf_disk_group *g)
{
	f->groups[g->number] = g;
	g->dirty_next = NULL;
	for (unsigned i = 0; i < VF_DISK_GROUP; i++) {
		struct vf_disk_block *b = &g->blocks[i];
		if (b->pinned) {
			f->n_pinned++;
			f->pinned +=
				vf_disk_block_cost(f, vf_disk_number(g, b));
		}
		if (b->state == VF_BLOCK_VALID) {
			f->n_live++;
			vf_disk_set_valid(g, b, 0, false);
		}
	}
}

/* From cold to known; mtx. */
static void attach(struct load *l, const struct vf_disk_record *r, int fd)
{
	struct vf_disk_file *f = l->file;
	struct vf_disk *d = f->disk;
	struct vf_disk_group *g;
	uint64_t bytes;

	f->fd = fd;
	f->generation = r->generation;
	f->last_use = r->last_use;
	f->has_record = true;
	while ((g = l->groups)) {
		l->groups = g->dirty_next;
		attach_group(f, g);
	}
	bytes = f->bytes + (fd >= 0 ? vf_disk_file_cost(f) : 0);
	d->cold -= VF_MIN(r->bytes, d->cold);
	d->used = d->used + bytes - VF_MIN(r->bytes, d->used + bytes);
	d->pinned = d->pinned + f->pinned -
		    VF_MIN(r->pinned, d->pinned + f->pinned);
	if (bytes != r->bytes || f->pinned != r->pinned)
		vf_disk_mark_file(f);
	if (fd >= 0 && !f->n_live)
		vf_disk_call_janitor(f);
}

/* Blocks that no record claims and that take place: a crash left them. */
static void punch_unknown(struct vf_disk_file *f)
{
	struct vf_disk *d = f->disk;
	uint64_t first = 0, i;
	struct stat st;

	if (fstat(f->fd, &st) ||
	    (uint64_t)st.st_blocks * 512 <= f->bytes + vf_disk_file_cost(f))
		return;
	for (i = 0; i <= f->n_blocks; i++) {
		struct vf_disk_block *b =
			i < f->n_blocks ? vf_disk_block_at(f, i, false) : NULL;
		if (i < f->n_blocks && (!b || b->state != VF_BLOCK_VALID))
			continue;
		if (i > first)
			fallocate(f->fd,
				  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  (off_t)(first * d->opt.block_len),
				  (off_t)((i - first) * d->opt.block_len));
		first = i + 1;
	}
}

/* Returns 0; -ENOENT none, or one that does not fit; -errno. */
static int find_record(struct vf_disk_file *f, struct vf_disk_record *r)
{
	struct vf_disk *d = f->disk;
	int err = vf_disk_index_get_file(d->index, f->id, r);

	if (err == -EBADMSG ||
	    (!err && (r->size != f->size || r->block_len != d->opt.block_len ||
		      r->generation > d->generation))) {
		forget(d, f->id);
		return -ENOENT;
	}
	return err;
}

static int load_record(struct vf_disk_file *f, const struct vf_disk_record *r)
{
	struct vf_disk *d = f->disk;
	struct load l = {.file = f};
	int fd = vf_disk_dir_data(d, f->id, VF_DISK_OPEN_OLD, f->size), err;

	if (fd == -EMFILE || fd == -ENFILE || fd == -EIO || fd == -ENOMEM)
		return vf_fail(fd, "%s: cannot open it in the disk cache: %s",
			       f->label, strerror(-fd));
	if (fd >= 0 && !vf_disk_dir_reclaim(fd)) { /* left to its readers */
		vf_disk_dir_unlink(d, f->id);
		close(fd);
		fd = -ENOENT;
	}
	l.has_data = fd >= 0;
	err = fd >= 0 || fd == -ENOENT ? 0 : -EBADMSG;
	if (!err)
		err = vf_disk_index_groups(d->index, r, load_group, &l);
	if (err) {
		free_load(&l);
		if (fd >= 0)
			close(fd);
		if (err != -EBADMSG)
			return err;
		forget(d, f->id);
		return -ENOENT;
	}
	pthread_mutex_lock(&d->mtx);
	attach(&l, r, fd);
	pthread_mutex_unlock(&d->mtx);
	if (fd >= 0)
		punch_unknown(f); /* LOADING: the blocks are nobody's else */
	return 0;
}

int vf_disk_load(struct vf_disk_file *f)
{
	struct vf_disk_record r;
	int err = find_record(f, &r);

	f->generation = f->disk->generation;
	if (!err)
		err = load_record(f, &r);
	return err == -ENOENT ? 0 : err;
}

/* ---- cold files ------------------------------------------------------------------------------ */

static bool is_in_ram(void *arg, const uint8_t id[16])
{
	struct vf_disk *d = arg;
	bool is;

	pthread_mutex_lock(&d->mtx);
	is = vf_disk_find(d, id) != NULL;
	pthread_mutex_unlock(&d->mtx);
	return is;
}

/* A file known by record alone comes to RAM, idle.  Without mtx. */
static struct vf_disk_file *load_idle(struct vf_disk *d, const uint8_t id[16])
{
	struct vf_disk_record r;
	struct vf_disk_file *f;
	int err = vf_disk_index_get_file(d->index, id, &r);

	if (err == -EBADMSG)
		forget(d, id);
	f = err ? NULL : vf_disk_file_new(d, id, r.size, r.label);
	if (!f)
		return NULL;
	pthread_mutex_lock(&d->mtx);
	if (vf_disk_find(d, id)) { /* opened meanwhile: in the load queue */
		pthread_mutex_unlock(&d->mtx);
		vf_disk_file_free(f);
		return NULL;
	}
	vf_disk_file_add(f);
	vf_disk_idle_add(f);
	pthread_mutex_unlock(&d->mtx);
	err = vf_disk_load(f);
	pthread_mutex_lock(&d->mtx);
	f->state = err ? VF_DISK_DEAD : VF_DISK_READY;
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->mtx);
	return err ? NULL : f;
}

static void drop_use(struct vf_disk *d, const uint8_t id[16], uint64_t last_use)
{
	if (vf_disk_index_begin(d->index))
		return;
	if (vf_disk_index_drop_use(d->index, id, last_use))
		vf_disk_index_abort(d->index);
	else
		vf_disk_index_commit(d->index);
}

static struct vf_disk_file *load_oldest(struct vf_disk *d)
{
	for (unsigned i = 0; i < COLD_TRIES; i++) {
		struct vf_disk_file *f;
		uint64_t last_use;
		uint8_t id[16];

		if (vf_disk_index_oldest(d->index, is_in_ram, d, id, &last_use))
			return NULL;
		f = load_idle(d, id);
		if (f && f->has_record)
			return f;
		if (!f && !is_in_ram(d, id))
			drop_use(d, id, last_use);
	}
	return NULL;
}

/* mtx is held, and let go in between. */
void vf_disk_load_cold(struct vf_disk *d)
{
	struct vf_disk_file *f;

	pthread_mutex_unlock(&d->mtx);
	f = load_oldest(d);
	pthread_mutex_lock(&d->mtx);
	d->want_cold = false;
	d->no_cold = !f;
	if (f && !f->users) {
		d->victim = f;
		d->victim_at = 0;
	}
	pthread_cond_broadcast(&d->changed);
}

/* ---- unload: mtx ----------------------------------------------------------------------------- */

static bool can_unload(const struct vf_disk_file *f)
{
	return !f->users && !f->n_holds && !f->io && !f->dirty && !f->janitor &&
	       !f->stuck && f->state != VF_DISK_LOADING;
}

static void unload(struct vf_disk_file *f)
{
	struct vf_disk *d = f->disk;

	for (size_t i = 0; i < f->n_groups; i++)
		for (unsigned k = 0; f->groups[i] && k < VF_DISK_GROUP; k++) {
			struct vf_disk_block *b = &f->groups[i]->blocks[k];
			if (b->entry.queue)
				vf_policy_remove(d->policy, &b->entry);
		}
	if (f->fd >= 0)
		d->cold += f->bytes + vf_disk_file_cost(f);
	if (d->victim == f)
		d->victim = NULL;
	vf_disk_idle_remove(f);
	vf_disk_file_remove(f);
	vf_disk_file_free(f);
	d->no_cold = false;
}

void vf_disk_unload_some(struct vf_disk *d)
{
	struct vf_disk_file *f = d->idle_oldest, *newer;

	for (unsigned i = 0; f && i < UNLOAD_TRIES; i++, f = newer) {
		newer = f->idle_newer;
		if (d->n_idle <= d->idle_max)
			return;
		if (can_unload(f))
			unload(f);
	}
}

/* ---- the sweep --------------------------------------------------------------------------------- */

struct vf_disk_sweep {
	struct vf_disk *disk;
	unsigned at; /* subfolder */
	DIR *dir;    /* of it */
};

int vf_disk_sweep_open(struct vf_disk *d, struct vf_disk_sweep **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->disk = d;
	return 0;
}

void vf_disk_sweep_close(struct vf_disk_sweep *s)
{
	if (s && s->dir)
		closedir(s->dir);
	free(s);
}

/* The next folder that is there; false: none is left. */
static bool next_dir(struct vf_disk_sweep *s)
{
	uint8_t byte;
	char name[3];
	int fd;

	for (; !s->dir && s->at < 256; s->at++) {
		byte = (uint8_t)s->at;
		vf_hex(&byte, 1, name);
		fd = openat(s->disk->data_fd, name,
			    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		s->dir = fd < 0 ? NULL : fdopendir(fd);
		if (fd >= 0 && !s->dir)
			close(fd);
	}
	return s->dir != NULL;
}

/* In RAM without a data file: the writer thread, which makes them, removes. */
static bool leave_to_writer(struct vf_disk *d, const uint8_t id[16])
{
	struct vf_disk_file *f;

	pthread_mutex_lock(&d->mtx);
	f = vf_disk_find(d, id);
	if (f && f->fd < 0 && f->state == VF_DISK_READY) {
		f->leftover = true;
		vf_disk_call_janitor(f);
	}
	pthread_mutex_unlock(&d->mtx);
	return f != NULL;
}

static void sweep_file(struct vf_disk *d, int dir_fd, const char *name)
{
	struct vf_disk_record r;
	struct stat st;
	uint8_t id[16];
	int err;

	if (vf_unhex(name, id, sizeof(id))) {
		unlinkat(dir_fd, name, 0);
		return;
	}
	if (leave_to_writer(d, id))
		return;
	err = vf_disk_index_get_file(d->index, id, &r);
	if (err == -ENOENT || err == -EBADMSG)
		forget(d, id);
	else if (!err && !fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) &&
		 (uint64_t)st.st_blocks * 512 > r.bytes)
		load_idle(d, id);
}

/* What could lie in files and in no record does not any more. */
static void end_sweep(struct vf_disk *d)
{
	pthread_mutex_lock(&d->mtx);
	d->unknown = 0;
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->mtx);
	if (vf_disk_index_begin(d->index))
		return;
	vf_disk_index_set(d->index, false, 0, d->generation);
	vf_disk_index_commit(d->index);
}

bool vf_disk_sweep_some(struct vf_disk_sweep *s)
{
	for (unsigned i = 0; i < SWEEP_FILES; i++) {
		struct dirent *e;

		if (!next_dir(s)) {
			end_sweep(s->disk);
			return true;
		}
		e = readdir(s->dir);
		if (!e) {
			closedir(s->dir);
			s->dir = NULL;
		} else if (e->d_name[0] != '.') {
			sweep_file(s->disk, dirfd(s->dir), e->d_name);
		}
	}
	return false;
}
