/*
 * The pins of a mount: which there are, and the blocks they hold.
 *
 * A pin is written down before its blocks are pinned, and a released one is
 * kept in the file until the disk tier has closed: whatever moment the program
 * dies at, the next start knows all blocks that may be marked as pinned.
 *
 * Blocks under several pins stay pinned until the last of these goes.
 */
#include "fs/pins_impl.h"
#include "store/thread.h"

#include <inttypes.h>

uint64_t vf_pins_limit(const struct vf_disk_stats *d)
{
	return d->size / 4 * 3; /* the rest of the tier serves all others */
}

/* ---- the list: caller holds change ---------------------------------------------------- */

static void count(struct vf_pins *p)
{
	size_t n = 0;

	for (const struct vf_pin *x = p->list; x; x = x->next)
		n += vf_pin_holds(x);
	atomic_store(&p->n_held, n);
}

static void link_pin(struct vf_pins *p, struct vf_pin *pin)
{
	pthread_mutex_lock(&p->mtx);
	pin->next = p->list;
	p->list = pin;
	count(p);
	pthread_mutex_unlock(&p->mtx);
}

static void unlink_pin(struct vf_pins *p, struct vf_pin *pin)
{
	struct vf_pin **at = &p->list;

	pthread_mutex_lock(&p->mtx);
	while (*at != pin)
		at = &(*at)->next;
	*at = pin->next;
	count(p);
	pthread_mutex_unlock(&p->mtx);
}

struct vf_pin *vf_pins_find(struct vf_pins *p, const char *path, uint64_t off,
			    uint64_t end)
{
	struct vf_pin *x = p->list;

	while (x && !(vf_pin_holds(x) && !strcmp(x->path, path) &&
		      x->off == off && x->end == end))
		x = x->next;
	return x;
}

/* ---- blocks ----------------------------------------------------------------------------- */

static uint64_t first_block(const struct vf_pins *p, const struct vf_stored *s)
{
	return s->off / p->fs->cache_block_len;
}

static uint64_t end_block(const struct vf_pins *p, const struct vf_stored *s)
{
	return (s->end - 1) / p->fs->cache_block_len + 1;
}

typedef void part_fn(struct vf_pins *p, const struct vf_stored *s,
		     uint64_t first, uint64_t end, void *arg);

/* Some pin's object that has blocks of [first, end). */
static const struct vf_stored *find_holder(const struct vf_pins *p,
					   const struct vf_stored *s,
					   uint64_t first, uint64_t end)
{
	for (const struct vf_pin *x = p->list; x; x = x->next) {
		const struct vf_stored *o, *last = x->list.all + x->list.n;
		if (x->released)
			continue;
		o = vf_stored_search(&x->list, s->key);
		for (; o < last && !strcmp(o->key, s->key); o++)
			if (!memcmp(o->id, s->id, sizeof(o->id)) &&
			    first_block(p, o) < end && end_block(p, o) > first)
				return o;
	}
	return NULL;
}

/* Call @fn for what of the blocks [first, end) is under no pin. */
static void each_free_part(struct vf_pins *p, const struct vf_stored *s,
			   uint64_t first, uint64_t end, part_fn *fn, void *arg)
{
	while (first < end) {
		const struct vf_stored *o = find_holder(p, s, first, end);
		if (!o) {
			fn(p, s, first, end, arg);
			return;
		}
		if (first < first_block(p, o))
			each_free_part(p, s, first, first_block(p, o), fn, arg);
		first = end_block(p, o);
	}
}

static void add_cost(struct vf_pins *p, const struct vf_stored *s,
		     uint64_t first, uint64_t end, void *arg)
{
	*(uint64_t *)arg += (end - first) * p->fs->cache_block_len;
}

static int with_file(struct vf_pins *p, const struct vf_stored *s,
		     struct vf_disk_file **out)
{
	return vf_disk_file_get(p->fs->disk, s->id, s->size, s->key, out);
}

static void unpin_part(struct vf_pins *p, const struct vf_stored *s,
		       uint64_t first, uint64_t end, void *arg)
{
	struct vf_disk_file *f;

	if (with_file(p, s, &f))
		return;
	vf_disk_unpin(f, first, end - first);
	vf_disk_file_put(f);
}

/* What of @l is under no pin any more leaves when its time comes. */
static void unpin_list(struct vf_pins *p, const struct vf_stored_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		each_free_part(p, &l->all[i], first_block(p, &l->all[i]),
			       end_block(p, &l->all[i]), unpin_part, NULL);
}

/* The first error, after all were tried. */
static int pin_list(struct vf_pins *p, const struct vf_stored_list *l)
{
	int first_err = 0;

	for (size_t i = 0; i < l->n; i++) {
		const struct vf_stored *s = &l->all[i];
		uint64_t first = first_block(p, s);
		struct vf_disk_file *f;
		int err = with_file(p, s, &f);
		if (!err) {
			err = vf_disk_pin(f, first, end_block(p, s) - first);
			vf_disk_file_put(f);
		}
		first_err = first_err ? first_err : err;
		if (err == -ENOSPC) /* the same for all that follow */
			break;
	}
	return first_err;
}

static int check_room(struct vf_pins *p, const char *path,
		      const struct vf_stored_list *l)
{
	struct vf_disk_stats d;
	uint64_t need = 0;

	for (size_t i = 0; i < l->n; i++)
		each_free_part(p, &l->all[i], first_block(p, &l->all[i]),
			       end_block(p, &l->all[i]), add_cost, &need);
	vf_disk_stats(p->fs->disk, &d);
	if (d.pinned + need <= vf_pins_limit(&d))
		return 0;
	return vf_fail(-ENOSPC,
		       "%s: cannot pin it: %" PRIu64 " bytes needed, %" PRIu64
		       " of at most %" PRIu64 " are pinned already",
		       *path ? path : "/", need, d.pinned, vf_pins_limit(&d));
}

/* ---- changes: caller holds change -------------------------------------------------------- */

/* @list, which is taken over, is no longer held by the pin of @path. */
static void release(struct vf_pins *p, const char *path,
		    struct vf_stored_list *list)
{
	struct vf_pin *gone = vf_pin_new(vf_bucket_identity(p->fs->bucket),
					 path, 0, VF_PIN_WHOLE);

	unpin_list(p, list);
	if (!gone || !list->n) {
		vf_pin_free(gone);
		vf_stored_fini(list);
		return;
	}
	gone->released = true;
	gone->list = *list;
	*list = (struct vf_stored_list){0};
	link_pin(p, gone);
}

/* What is still in the list is read by look-ups: first it leaves. */
static void drop_pin(struct vf_pins *p, struct vf_pin *pin)
{
	unlink_pin(p, pin);
	release(p, pin->path, &pin->list);
	vf_pin_free(pin);
}

int vf_pin_follow(struct vf_pins *p, struct vf_pin *pin,
		  struct vf_stored_list *list)
{
	bool changed = !vf_stored_equal(&pin->list, list);
	struct vf_stored_list old;
	int err;

	pthread_mutex_lock(&p->mtx);
	old = pin->list;
	pin->list = *list;
	pthread_mutex_unlock(&p->mtx);
	*list = (struct vf_stored_list){0};
	err = changed ? vf_pins_save(p->dir, p->list) : 0;
	if (!err)
		err = pin_list(p, &pin->list);
	if (!changed) {
		vf_stored_fini(&old);
		return err;
	}
	release(p, pin->path, &old);
	vf_pins_save(p->dir, p->list);
	return err;
}

static int add_pin(struct vf_pins *p, const char *path, uint64_t off,
		   uint64_t end, struct vf_stored_list *list)
{
	struct vf_pin *pin;
	int err = check_room(p, path, list);

	if (err)
		return err;
	pin = vf_pin_new(vf_bucket_identity(p->fs->bucket), path, off, end);
	if (!pin)
		return -ENOMEM;
	pin->list = *list;
	*list = (struct vf_stored_list){0};
	link_pin(p, pin);
	err = vf_pins_save(p->dir, p->list);
	if (!err)
		err = pin_list(p, &pin->list);
	if (err) {
		drop_pin(p, pin);
		vf_pins_save(p->dir, p->list);
	}
	return err;
}

/* Ranges of the same path that lie in a new one are of no use. */
static void drop_covered(struct vf_pins *p, const char *path, uint64_t off,
			 uint64_t end)
{
	struct vf_pin *x = p->list, *next;
	bool any = false;

	for (; x; x = next) {
		next = x->next;
		if (!vf_pin_holds(x) || strcmp(x->path, path) || x->off < off ||
		    x->end > end || (x->off == off && x->end == end))
			continue;
		drop_pin(p, x);
		any = true;
	}
	if (any)
		vf_pins_save(p->dir, p->list);
}

static const char *name_of(const struct inode *i)
{
	return *i->path ? i->path : "/";
}

int vf_pin(struct fs *fs, const struct inode *i, uint64_t off, uint64_t end)
{
	struct vf_pins *p = fs->pins;
	struct vf_stored_list list, copy = {0};
	struct vf_pin *pin;
	int err;

	if (!p)
		return vf_fail(-EOPNOTSUPP,
			       "%s: pins need a disk tier: mount with -o "
			       "disk=DIRECTORY:SIZE",
			       name_of(i));
	if (i->kind != FOLDER && end >= i->size)
		end = VF_PIN_WHOLE;
	err = vf_stored_find(fs, i, off, end, &list);
	if (!err)
		err = vf_stored_copy(&list, &copy);
	if (!err) {
		pthread_mutex_lock(&p->change);
		pin = vf_pins_find(p, i->path, off, end);
		err = pin ? vf_pin_follow(p, pin, &list)
			  : add_pin(p, i->path, off, end, &list);
		if (!err)
			drop_covered(p, i->path, off, end);
		pthread_mutex_unlock(&p->change);
	}
	vf_stored_fini(&list);
	if (err) {
		vf_stored_fini(&copy);
		return err;
	}
	vf_log(VF_INFO, "%s: pinned: %" PRIu64 " bytes of %zu objects",
	       name_of(i), copy.bytes, copy.n);
	return vf_warm_start(fs, i->path, &copy, 0, VF_WARM_FOR_PIN);
}

/* ---- unpinning --------------------------------------------------------------------------- */

/*
 * What is left of a range pin.  Of an object as it is stored the part is known
 * at once; of a decompressed view all stays until the next look at the path.
 */
static int add_rest(struct vf_pins *p, const struct vf_pin *of, bool is_plain,
		    uint64_t off, uint64_t end)
{
	struct vf_pin *pin;
	int err = 0;

	if (off >= end)
		return 0;
	pin = vf_pin_new(of->bucket, of->path, off, end);
	if (!pin)
		return -ENOMEM;
	for (size_t i = 0; !err && i < of->list.n; i++) {
		const struct vf_stored *s = &of->list.all[i];
		uint64_t lo = is_plain ? VF_MAX(s->off, off) : s->off;
		uint64_t hi = is_plain ? VF_MIN(s->end, end) : s->end;
		if (lo < hi)
			err = vf_stored_add(&pin->list, s, lo, hi);
	}
	pin->look_ns = vf_now_ns();
	if (err)
		vf_pin_free(pin);
	else
		link_pin(p, pin);
	return err;
}

static int cut_pin(struct vf_pins *p, struct vf_pin *pin, const struct inode *i,
		   uint64_t off, uint64_t end)
{
	uint64_t size = VF_MIN(pin->end, i->size);
	bool is_folder = i->kind == FOLDER || i->kind == LIVE;
	bool is_plain = i->kind == OBJECT;
	int err;

	if (is_folder || (off <= pin->off && end >= size)) {
		drop_pin(p, pin);
		return 0;
	}
	err = add_rest(p, pin, is_plain, pin->off, VF_MIN(off, pin->end));
	if (!err && end < size)
		err = add_rest(p, pin, is_plain, VF_MAX(end, pin->off),
			       pin->end);
	if (!err)
		drop_pin(p, pin);
	return err;
}

int vf_unpin(struct fs *fs, const struct inode *i, uint64_t off, uint64_t end)
{
	struct vf_pins *p = fs->pins;
	struct vf_pin *x, *next;
	int err = -ENODATA;

	if (!p)
		return -ENODATA;
	if ((i->kind == FOLDER || i->kind == LIVE) &&
	    (off || end != VF_PIN_WHOLE))
		return -EINVAL;
	pthread_mutex_lock(&p->change);
	for (x = p->list; x; x = next) {
		next = x->next;
		if (!vf_pin_holds(x) || strcmp(x->path, i->path) ||
		    x->off >= end || x->end <= off)
			continue;
		err = cut_pin(p, x, i, off, end);
		if (err)
			break;
	}
	if (err != -ENODATA)
		vf_pins_save(p->dir, p->list);
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->change);
	if (!err)
		vf_log(VF_INFO, "%s: unpinned", name_of(i));
	if (!err && end == VF_PIN_WHOLE)
		vf_warm_cancel(fs, i->path, VF_WARM_FOR_PIN);
	return err;
}

/* ---- open and close ---------------------------------------------------------------------- */

/* What a mount before this one left behind. */
static void begin(struct vf_pins *p)
{
	const char *url = vf_bucket_identity(p->fs->bucket);

	for (struct vf_pin *x = p->list; x; x = x->next) {
		x->foreign = strcmp(x->bucket, url) != 0;
		if (vf_pin_holds(x))
			x->look_ns = vf_now_ns();
	}
	for (struct vf_pin *x = p->list; x; x = x->next)
		if (x->released)
			unpin_list(p, &x->list);
	count(p);
}

static void free_list(struct vf_pins *p)
{
	while (p->list) {
		struct vf_pin *next = p->list->next;
		vf_pin_free(p->list);
		p->list = next;
	}
}

static int start_thread(struct vf_pins *p)
{
	int err = vf_thread_start(&p->thread, vf_pins_run, p);

	p->has_thread = !err;
	return err ? vf_fail(err, "cannot start a thread: %s", strerror(-err))
		   : 0;
}

int vf_pins_open(struct fs *fs, const char *dir, struct vf_pins **out)
{
	struct vf_pins *p = calloc(1, sizeof(*p));
	int err;

	if (!p)
		return -ENOMEM;
	p->fs = fs;
	pthread_mutex_init(&p->change, NULL);
	pthread_mutex_init(&p->mtx, NULL);
	vf_cond_init(&p->wake);
	*out = p;
	p->dir = strdup(dir);
	err = p->dir ? vf_pins_load(dir, &p->list) : -ENOMEM;
	if (err) {
		free_list(p); /* it is not whole, and must not be saved */
		return err;
	}
	begin(p);
	return start_thread(p);
}

void vf_pins_stop(struct vf_pins *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->mtx);
	p->stopped = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->mtx);
}

void vf_pins_join(struct vf_pins *p)
{
	if (p && p->has_thread)
		pthread_join(p->thread, NULL);
}

void vf_pins_close(struct vf_pins *p)
{
	bool released = false;

	if (!p)
		return;
	for (struct vf_pin **at = &p->list; *at;) {
		struct vf_pin *x = *at;
		if (!x->released) {
			at = &x->next;
			continue;
		}
		*at = x->next;
		vf_pin_free(x);
		released = true;
	}
	if (released)
		vf_pins_save(p->dir, p->list);
	free_list(p);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->mtx);
	pthread_mutex_destroy(&p->change);
	free(p->dir);
	free(p);
}
