/*
 * What the files of the mount share.
 *
 * An inode is one version of one object, or a folder, or something made up; a
 * name leads to the inode that is current when it is looked up.
 */
#ifndef VF_FS_FS_H
#define VF_FS_FS_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>

#include "fs/connection.h"
#include "fs/passthrough.h"
#include "fs/pins.h"
#include "store/cache.h"
#include "store/commit.h"
#include "store/tier_disk.h"
#include "store/util.h"

struct mount_options {
	char *url, *mountpoint;
	struct vf_bucket_options bucket;
	struct vf_cache_options cache;
	struct vf_disk_options disk; /* dir NULL: none */
	bool ram_auto;		     /* the RAM tier follows memory pressure */
	char *pressure_file;	     /* of that; NULL: the system's */
	uint32_t rewarm_mbps;	     /* 0: what was hot is not remembered */
	unsigned name_ttl_ms; /* how long a name may be answered from memory */
	bool foreground, debug, allow_other, passthrough_off;
	unsigned long mount_flags; /* MS_* */
	bool default_permissions;
	bool foreign_options; /* some that only libfuse understands */
};

struct fs {
	struct mount_options opt;     /* [fixed] */
	struct vf_bucket *bucket;     /* [fixed] */
	struct vf_cache *cache;	      /* [fixed] */
	struct vf_disk *disk;	      /* [fixed] or NULL */
	size_t cache_block_len;	      /* [fixed] */
	struct vf_pressure *pressure; /* [fixed] or NULL */
	struct vf_rewarm *rewarm;     /* [fixed] or NULL */
	uid_t uid;		      /* [fixed] of the mounting user */
	gid_t gid;
	uint64_t start_ns;
	time_t start_s;
	pthread_mutex_t mtx;
	struct inode **table;	       /* [mtx] by path and version */
	size_t n_inodes, mask;	       /* [mtx] */
	struct inode *root;	       /* [fixed] */
	struct index_view *indexes;    /* [mtx] list, see live.c */
	struct listing_kept *listings; /* [mtx] list, see listings.c */
	struct vf_connection connection;
	struct vf_passthrough passthrough;
	struct fuse_session *session;  /* [fixed] */
	struct vf_pins *pins;	       /* [fixed] NULL without a disk tier */
	struct vf_warm *warm;	       /* [fixed] */
	atomic_uint_fast64_t n_hidden; /* names met that cannot be shown */
	atomic_uint_fast64_t n_reads, n_read_errors, bytes_read;
};

enum kind {
	FOLDER,	 /* of the bucket */
	OBJECT,	 /* as it is stored */
	VIEW,	 /* a .zst of ours, decompressed */
	LIVE,	 /* the made-up folder of an index */
	LINK,	 /* live/NNN.npy and NNN.jsonl */
	ALIVE,	 /* live/NNN.alive.npy */
	CONTROL, /* .vecfs */
	STATUS,
	METRICS, /* its files, made at open */
	STATES,	 /* .vecfs/state */
	STATE,	 /* of an index, in it, likewise */
};

struct inode {
	enum kind kind; /* [fixed], as all below but the marked */
	char *path;	/* below the mount, "" for the root */
	char *key;	/* stored object, for OBJECT and VIEW */
	char etag[VF_ETAG_MAX];
	uint64_t size; /* as shown */
	uint64_t stored_len;
	int64_t mtime_ns;
	uint64_t number; /* st_ino: a hash of path and version */
	char *target;	 /* of a LINK */
	uint64_t n_rows; /* of an ALIVE, and which of them died */
	struct vf_dead *dead;
	uint64_t n_lookup;  /* [fs.mtx] */
	struct inode *next; /* [fs.mtx] table chain */
	pthread_mutex_t open_mtx;
	struct vf_cached *data; /* [open_mtx] opened at the first open that is
				 * not passed through to the bucket's file */
	struct vf_cached *told; /* [open_mtx] the same blocks, of an OBJECT, for
				 * readers who tell what they want */
	struct vf_backing backing; /* [open_mtx] of an OBJECT */
	bool held;   /* [open_mtx] its file in the disk tier is handed out */
	bool second; /* [fixed] of two for one version: see vf_fs_entry */
	atomic_uint_fast64_t n_reads, bytes_read; /* through the daemon */
};

/* ---- options.c ------------------------------------------------------------------------ */

/*
 * Parse the command line; what is libfuse's stays in @args.  Returns 0; 1 when
 * help or the version was printed; -EINVAL, said.  Fini also after an error.
 */
int vf_options_parse(struct fuse_args *args, struct mount_options *out);
void vf_options_fini(struct mount_options *o);

/* ---- inode.c ----------------------------------------------------------------------- */

int vf_inodes_init(struct fs *fs);
void vf_inodes_fini(struct fs *fs);
struct inode *vf_inode(const struct fs *fs, fuse_ino_t ino);
fuse_ino_t vf_inode_id(const struct fs *fs, const struct inode *i);
/*
 * The inode like @want (path, kind, version), found or made, its look-up count
 * raised.  Strings of @want are copied.  NULL without memory.
 */
struct inode *vf_inode_get(struct fs *fs, const struct inode *want);
void vf_inode_forget(struct fs *fs, struct inode *i, uint64_t n);
/* Visit the files that the kernel knows at @path and below it.  @fn may wait. */
int vf_inodes_below(struct fs *fs, const char *path,
		    void (*fn)(struct fs *fs, struct inode *i));
/* The @n most read files, most read first; copies of their paths are the
 * caller's to free(). */
struct vf_hot {
	char *path;
	uint64_t n_reads, bytes;
};
size_t vf_inodes_hot(struct fs *fs, struct vf_hot *out, size_t n);
void vf_inode_stat(const struct fs *fs, const struct inode *i,
		   struct stat *out);

/* ---- names.c: what a path leads to -------------------------------------------------- */

/*
 * Fill @out for @name in @dir; strings of it are in @arena, freed by
 * vf_found_fini.  Returns 0; -ENOENT; -EIO and others from the bucket.
 */
struct found {
	struct inode inode;
	char *path, *key, *target; /* owned; inode points to them */
	struct vf_dead *dead;	   /* likewise */
	double ttl_s;		   /* how long the name holds */
};
int vf_find_name(struct fs *fs, const struct inode *dir, const char *name,
		 struct found *out);
void vf_found_fini(struct found *f);

/* The same for a path below the mount. */
int vf_find_path(struct fs *fs, const char *path, struct found *out);

/* How long a name in folder @dir may be answered from memory. */
double vf_name_ttl_s(const struct fs *fs, const char *dir);

/* Can this part of a key be shown as a name? */
bool vf_name_ok(const char *name, size_t len);

/* ---- data.c ------------------------------------------------------------------------------ */

/*
 * Open an OBJECT or VIEW in the cache, once; then i->data, but for an empty
 * one.  Blocks on the bucket for a VIEW's seek table.
 */
int vf_fs_data_open(struct fs *fs, struct inode *i);
int vf_fs_data_open_locked(struct fs *fs, struct inode *i); /* open_mtx */
/* Whoever opens with O_NONBLOCK, which else says nothing of a file, tells what
 * he wants (store/ranges.h): then i->told, without read-ahead. */
int vf_fs_told_open(struct fs *fs, struct inode *i);
/* Identity of a stored object; see vf_cached_open.  @bucket: its identity. */
void vf_fs_stored_id(const char *bucket, const char *key, const char *etag,
		     uint64_t size, uint8_t out_id[16]);
/* A stored object, as another reader of the same blocks, without read-ahead. */
int vf_fs_stored_open(struct fs *fs, const char *key, const char *etag,
		      uint64_t size, struct vf_cached **out);
/*
 * GETs of blocks that the calling thread has begun so far: what it finds in a
 * tier, and what is under way already, is none.
 */
unsigned vf_fs_requests_begun(void);
/*
 * Which stored bytes [*off, *end) of a VIEW, which is not empty, come from;
 * and where its seek table begins.  Blocks on the bucket.
 */
int vf_fs_view_part(struct fs *fs, const struct inode *i, uint64_t *off,
		    uint64_t *end, uint64_t *out_table_off);

/* ---- dir.c, file.c, control.c: FUSE operations -------------------------------------------- */

/*
 * The kernel's entry for what was found; its inode counts one look-up more.
 * All handles of an inode are passed through or none is, so a version that
 * became whole in the disk tier while handles of it were open gets a second
 * inode, with the same number, for handles to come.
 */
int vf_fs_entry(struct fs *fs, const struct inode *want, double ttl_s,
		struct fuse_entry_param *out);
void vf_fs_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void vf_fs_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		   struct fuse_file_info *fi);
void vf_fs_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi);
void vf_fs_releasedir(fuse_req_t req, fuse_ino_t ino,
		      struct fuse_file_info *fi);
void vf_fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void vf_fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		struct fuse_file_info *fi);
void vf_fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void vf_fs_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg,
		 struct fuse_file_info *fi, unsigned flags, const void *in,
		 size_t in_len, size_t out_len);
/* Would a handle opened now be passed through? */
bool vf_fs_is_passed(struct fs *fs, struct inode *i);
/* It would not, only because other handles are open that are not. */
bool vf_fs_is_held_up(struct fs *fs, struct inode *i);
void vf_fs_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		    size_t size);
void vf_fs_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		    const char *value, size_t size, int flags);
void vf_fs_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* The text of .vecfs/status.json or .vecfs/metrics. */
int vf_control_text(struct fs *fs, enum kind kind, struct vf_buf *out);

extern const struct fuse_lowlevel_ops vf_fs_ops;

/* What a reader of the mount gets for an error of ours. */
static inline int vf_fs_errno(int err)
{
	switch (err) {
	case -EREMOTEIO:
	case -EBADMSG:
	case -ENODATA:
		return EIO;
	case -ECANCELED:
		return EINTR;
	default:
		return -err;
	}
}

#endif
