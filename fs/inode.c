/*
 * The table of inodes that the kernel knows.  An inode lives while its look-up
 * count is above 0; equal path, kind and version share one.
 */
#include "fs/fs.h"

#include <xxhash.h>

enum { TABLE_LEN = 1 << 16 };

int vf_inodes_init(struct fs *fs)
{
	struct inode root = {.kind = FOLDER, .path = ""};

	fs->mask = TABLE_LEN - 1;
	fs->table = calloc(TABLE_LEN, sizeof(*fs->table));
	fs->root = fs->table ? vf_inode_get(fs, &root) : NULL;
	return fs->root ? 0 : -ENOMEM;
}

/* A hold that is left is of a handle that outlives the mount: it stays, for
 * the kernel goes on reading that file. */
static void free_inode(struct inode *i)
{
	vf_cached_put(i->data);
	vf_cached_put(i->told);
	pthread_mutex_destroy(&i->open_mtx);
	free(i->path);
	free(i->key);
	free(i->target);
	vf_dead_put(i->dead);
	free(i);
}

void vf_inodes_fini(struct fs *fs)
{
	for (size_t n = 0; fs->table && n <= fs->mask; n++)
		while (fs->table[n]) {
			struct inode *i = fs->table[n];
			fs->table[n] = i->next;
			free_inode(i);
		}
	free(fs->table);
}

struct inode *vf_inode(const struct fs *fs, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? fs->root : (struct inode *)(uintptr_t)ino;
}

fuse_ino_t vf_inode_id(const struct fs *fs, const struct inode *i)
{
	return i == fs->root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)i;
}

static uint64_t hash_inode(const struct inode *i)
{
	uint64_t h = XXH3_64bits(i->path, strlen(i->path));

	h = XXH3_64bits_withSeed(i->etag, strlen(i->etag), h);
	return XXH3_64bits_withSeed(&i->kind, sizeof(i->kind), h);
}

static bool same(const struct inode *a, const struct inode *b)
{
	return a->kind == b->kind && !strcmp(a->path, b->path) &&
	       !strcmp(a->etag, b->etag) && a->size == b->size &&
	       a->second == b->second &&
	       !strcmp(a->target ? a->target : "", b->target ? b->target : "");
}

static struct inode *copy_inode(const struct inode *want, uint64_t number)
{
	struct inode *i = calloc(1, sizeof(*i));

	if (!i)
		return NULL;
	*i = *want;
	pthread_mutex_init(&i->open_mtx, NULL);
	i->number = number | 1; /* 0 is no inode number */
	i->n_lookup = 0;
	i->data = NULL;
	i->backing = (struct vf_backing){0};
	atomic_init(&i->n_reads, 0);
	atomic_init(&i->bytes_read, 0);
	i->held = false;
	i->path = strdup(want->path);
	i->key = want->key ? strdup(want->key) : NULL;
	i->target = want->target ? strdup(want->target) : NULL;
	vf_dead_get(i->dead);
	if (i->path && (i->key || !want->key) && (i->target || !want->target))
		return i;
	free_inode(i);
	return NULL;
}

struct inode *vf_inode_get(struct fs *fs, const struct inode *want)
{
	uint64_t h = hash_inode(want);
	struct inode **chain = &fs->table[h & fs->mask], *i;

	pthread_mutex_lock(&fs->mtx);
	for (i = *chain; i && !same(i, want); i = i->next)
		;
	if (!i && (i = copy_inode(want, h))) {
		i->next = *chain;
		*chain = i;
		fs->n_inodes++;
	}
	if (i)
		i->n_lookup++;
	pthread_mutex_unlock(&fs->mtx);
	return i;
}

void vf_inode_forget(struct fs *fs, struct inode *i, uint64_t n)
{
	struct inode **at = &fs->table[hash_inode(i) & fs->mask];
	bool gone;

	if (i == fs->root)
		return;
	pthread_mutex_lock(&fs->mtx);
	i->n_lookup -= VF_MIN(n, i->n_lookup);
	gone = !i->n_lookup;
	if (gone) {
		while (*at != i)
			at = &(*at)->next;
		*at = i->next;
		fs->n_inodes--;
	}
	pthread_mutex_unlock(&fs->mtx);
	if (gone)
		free_inode(i);
}

static bool is_below(const struct inode *i, const char *path)
{
	size_t n = strlen(path);

	return (i->kind == OBJECT || i->kind == VIEW) &&
	       !strncmp(i->path, path, n) &&
	       (!n || !i->path[n] || i->path[n] == '/');
}

int vf_inodes_below(struct fs *fs, const char *path,
		    void (*fn)(struct fs *fs, struct inode *i))
{
	VF_AUTO_FREE struct inode **all = NULL;
	size_t n = 0;

	pthread_mutex_lock(&fs->mtx);
	all = malloc((fs->n_inodes + 1) * sizeof(*all));
	for (size_t at = 0; all && at <= fs->mask; at++)
		for (struct inode *i = fs->table[at]; i; i = i->next)
			if (is_below(i, path)) {
				i->n_lookup++;
				all[n++] = i;
			}
	pthread_mutex_unlock(&fs->mtx);
	if (!all)
		return -ENOMEM;
	for (size_t k = 0; k < n; k++) {
		fn(fs, all[k]);
		vf_inode_forget(fs, all[k], 1);
	}
	return 0;
}

static void note_hot(struct vf_hot *out, size_t n, size_t *n_out,
		     const struct inode *i)
{
	uint64_t reads =
		atomic_load_explicit(&i->n_reads, memory_order_relaxed);
	uint64_t bytes =
		atomic_load_explicit(&i->bytes_read, memory_order_relaxed);
	size_t at = *n_out;

	while (at && out[at - 1].n_reads < reads)
		at--;
	if (!reads || at == n)
		return;
	if (*n_out == n)
		free(out[--*n_out].path);
	memmove(out + at + 1, out + at, (*n_out - at) * sizeof(*out));
	out[at] = (struct vf_hot){strdup(i->path), reads, bytes};
	++*n_out;
}

size_t vf_inodes_hot(struct fs *fs, struct vf_hot *out, size_t n)
{
	size_t n_out = 0;

	pthread_mutex_lock(&fs->mtx);
	for (size_t at = 0; at <= fs->mask; at++)
		for (struct inode *i = fs->table[at]; i; i = i->next)
			note_hot(out, n, &n_out, i);
	pthread_mutex_unlock(&fs->mtx);
	return n_out;
}

void vf_inode_stat(const struct fs *fs, const struct inode *i, struct stat *out)
{
	bool folder = i->kind == FOLDER || i->kind == LIVE ||
		      i->kind == CONTROL || i->kind == STATES;
	int64_t ns = i->mtime_ns ? i->mtime_ns : fs->start_s * 1000000000;

	/* The kernel asks for the right to write before it sets an attribute
	 * of ours; whatever else would write is refused by the daemon. */
	mode_t owner = fs->opt.default_permissions ? 0200 : 0;

	*out = (struct stat){.st_ino = i->number,
			     .st_nlink = folder ? 2 : 1,
			     .st_mode = folder ? S_IFDIR | 0555 | owner
					: i->kind == LINK
						? S_IFLNK | 0777
						: S_IFREG | 0444 | owner,
			     .st_uid = fs->uid,
			     .st_gid = fs->gid,
			     .st_size = (off_t)i->size,
			     .st_blocks = (blkcnt_t)((i->size + 511) / 512),
			     .st_blksize = 64 << 10,
			     .st_mtim = {ns / 1000000000, ns % 1000000000}};
	out->st_atim = out->st_ctim = out->st_mtim;
}
