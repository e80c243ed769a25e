/*
 * Extended attributes: what standard tools can ask of a file and tell it.  Not
 * listed by listxattr, so that copies do not carry them.
 *
 *   user.vecfs.etag  version of the stored object
 *   user.vecfs.url   where it is stored
 *   user.vecfs.passthrough  on a file, "1": the kernel reads the local file
 *   user.vecfs.head  on the folder of an index: newest commit known, and how
 *                    many milliseconds ago that was learned;
 *   user.vecfs.head.MS  the same, learned less than so long ago: 0 asks the
 *                    bucket
 *   user.vecfs.cached  "ram BYTES disk BYTES of BYTES pinned BYTES": of the
 *                    stored object, or of all below a folder
 *
 * Set by root and by who mounted it; RANGE is "1" (all) or "A-B", bytes of a
 * file, A included and B not:
 *
 *   user.vecfs.pin   RANGE keeps it on the local disk; "0" or "0 A-B" no more;
 *                    read: "1", or the ranges of this path
 *   user.vecfs.warm  RANGE or RANGE@MB/S fetches it in the background, "0"
 *                    stops that; read: "BYTES of BYTES"
 *   user.vecfs.evict  RANGE drops what is cached of it and not pinned
 *   user.vecfs.log   on the root: which messages are logged, up to "error",
 *                    "warn", "info" or "debug"; anybody may read it
 */
#include "fs/fs.h"
#include "fs/live.h"

#include <inttypes.h>
#include <stdio.h>

enum { VALUE_MAX = 80 };

/* ---- reading -------------------------------------------------------------------------- */

static int parse_bytes(const char **at, uint64_t *out);

/* @suffix: "", or ".MS" */
static int head_text(struct fs *fs, const struct inode *i, const char *suffix,
		     struct vf_buf *out)
{
	uint64_t max_age_ms = fs->opt.name_ttl_ms;
	struct index_view *v;
	int err;

	if (i->kind != FOLDER || !vf_live_is_index_path(i->path))
		return -ENODATA;
	if (*suffix &&
	    (*suffix++ != '.' || parse_bytes(&suffix, &max_age_ms) || *suffix))
		return -ENODATA;
	err = vf_live_get_since(fs, i->path, max_age_ms, &v);
	if (err)
		return err == -ENOENT ? -ENODATA : err;
	err = vf_buf_printf(out, "%" PRIu64 " %" PRIu64, vf_live_state(v)->head,
			    vf_live_age_ms(v));
	vf_live_put(fs, v);
	return err;
}

static bool is_file(const struct inode *i)
{
	return i->kind == OBJECT || i->kind == VIEW || i->kind == ALIVE ||
	       i->kind == STATUS || i->kind == METRICS || i->kind == STATE;
}

/* What of a stored object is where; blocks at its end count as they are. */
static int add_cached(struct fs *fs, const struct vf_stored *s, uint64_t sum[3])
{
	uint64_t size = s->size, block = fs->cache_block_len;
	struct vf_cached_info info;
	struct vf_cached *o;
	int err = vf_fs_stored_open(fs, s->key, s->etag, size, &o);

	if (err)
		return err;
	vf_cached_info(o, 0, size, &info);
	vf_cached_put(o);
	sum[0] += VF_MIN(info.n_ram * block, size);
	sum[1] += VF_MIN(info.n_disk * block, size);
	sum[2] += VF_MIN(info.n_pinned * block, size);
	return 0;
}

static int cached_text(struct fs *fs, const struct inode *i, struct vf_buf *out)
{
	uint64_t sum[3] = {0}, bytes;
	struct vf_stored_list list;
	int err = vf_stored_find(fs, i, 0, VF_PIN_WHOLE, &list);

	for (size_t n = 0; !err && n < list.n; n++)
		err = add_cached(fs, &list.all[n], sum);
	bytes = list.bytes;
	vf_stored_fini(&list);
	if (err)
		return err == -EOPNOTSUPP ? -ENODATA : err;
	return vf_buf_printf(out,
			     "ram %" PRIu64 " disk %" PRIu64 " of %" PRIu64
			     " pinned %" PRIu64,
			     sum[0], sum[1], bytes, sum[2]);
}

static int attribute_text(struct fs *fs, struct inode *i, const char *name,
			  struct vf_buf *out)
{
	const char *at = i->key ? i->key : i->path;

	if (!strncmp(name, "user.vecfs.head", 15))
		return head_text(fs, i, name + 15, out);
	if (!strcmp(name, "user.vecfs.etag") && i->key)
		return vf_buf_printf(out, "%s", i->etag);
	if (!strcmp(name, "user.vecfs.url") && (i->key || i->kind == FOLDER))
		return vf_buf_printf(out, "%s%s%s", vf_bucket_url(fs->bucket),
				     *at ? "/" : "", at);
	if (!strcmp(name, "user.vecfs.passthrough") && is_file(i))
		return vf_buf_printf(out, "%d", vf_fs_is_passed(fs, i));
	if (!strcmp(name, "user.vecfs.cached"))
		return cached_text(fs, i, out);
	if (!strcmp(name, "user.vecfs.pin"))
		return vf_pins_text(fs, i->path, out);
	if (!strcmp(name, "user.vecfs.warm"))
		return vf_warm_text(fs, i->path, out);
	if (!strcmp(name, "user.vecfs.log") && i == fs->root)
		return vf_buf_printf(out, "%s", vf_level_name(vf_log_level()));
	return -ENODATA;
}

void vf_fs_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		    size_t size)
{
	struct fs *fs = fuse_req_userdata(req);
	VF_AUTO_BUF struct vf_buf b = {0};
	int err = attribute_text(fs, vf_inode(fs, ino), name, &b);

	if (err == -ENODATA)
		fuse_reply_err(req, ENODATA);
	else if (err)
		fuse_reply_err(req, vf_fs_errno(err));
	else if (!size)
		fuse_reply_xattr(req, b.len);
	else if (b.len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, (char *)b.data, b.len);
}

/* ---- setting ---------------------------------------------------------------------------- */

struct range {
	uint64_t off, end;
};

static int parse_bytes(const char **at, uint64_t *out)
{
	char *end;

	if (**at < '0' || **at > '9')
		return -EINVAL;
	errno = 0;
	*out = strtoull(*at, &end, 10);
	*at = end;
	return errno || *out >= INT64_MAX ? -EINVAL : 0;
}

/* "1" or "A-B", to the end of @s. */
static int parse_range(const char *s, struct range *out)
{
	*out = (struct range){0, VF_PIN_WHOLE};
	if (!strcmp(s, "1"))
		return 0;
	if (parse_bytes(&s, &out->off) || *s++ != '-' ||
	    parse_bytes(&s, &out->end) || *s || out->off >= out->end)
		return -EINVAL;
	return 0;
}

/* Cuts "@RATE" off @s; in bytes per second. */
static int parse_rate(char *s, uint64_t *out)
{
	char *at = strchr(s, '@'), *end;
	double mb;

	*out = 0;
	if (!at)
		return 0;
	*at = '\0';
	mb = strtod(at + 1, &end);
	if (end == at + 1 || *end || !(mb >= 0.001 && mb <= 1e6))
		return -EINVAL;
	*out = (uint64_t)(mb * 1e6);
	return 0;
}

static int set_pin(struct fs *fs, struct inode *i, char *value)
{
	bool off = !strcmp(value, "0") || !strncmp(value, "0 ", 2);
	struct range r;
	int err = parse_range(!off ? value : value[1] ? value + 2 : "1", &r);

	if (err)
		return err;
	return off ? vf_unpin(fs, i, r.off, r.end)
		   : vf_pin(fs, i, r.off, r.end);
}

static int set_warm(struct fs *fs, struct inode *i, char *value)
{
	struct vf_stored_list list;
	struct range r;
	uint64_t rate;
	int err;

	if (!strcmp(value, "0")) {
		vf_warm_cancel(fs, i->path, 0);
		return 0;
	}
	err = parse_rate(value, &rate);
	if (!err)
		err = parse_range(value, &r);
	if (!err)
		err = vf_stored_find(fs, i, r.off, r.end, &list);
	return err ? err : vf_warm_start(fs, i->path, &list, rate, 0);
}

/* What the kernel and the decompressed views have of it. */
static void drop_copies(struct fs *fs, struct inode *i)
{
	bool is_open;

	pthread_mutex_lock(&i->open_mtx);
	is_open = i->data != NULL;
	pthread_mutex_unlock(&i->open_mtx);
	if (is_open && i->kind == VIEW) /* data stays once it is there */
		vf_cached_drop(i->data, 0, i->size);
	fuse_lowlevel_notify_inval_inode(fs->session, vf_inode_id(fs, i), 0, 0);
}

static int evict(struct fs *fs, struct inode *i, char *value)
{
	struct vf_stored_list list;
	struct range r;
	int err = parse_range(value, &r);

	if (!err)
		err = vf_stored_find(fs, i, r.off, r.end, &list);
	if (err)
		return err;
	err = vf_inodes_below(fs, i->path, drop_copies);
	for (size_t n = 0; !err && n < list.n; n++) {
		const struct vf_stored *s = &list.all[n];
		struct vf_cached *o;
		err = vf_fs_stored_open(fs, s->key, s->etag, s->size, &o);
		if (err)
			break;
		vf_cached_drop(o, s->off, s->end - s->off);
		vf_cached_put(o);
	}
	vf_stored_fini(&list);
	return err;
}

static int set_log(struct fs *fs, struct inode *i, char *value)
{
	enum vf_level level;
	int err = i == fs->root ? vf_level_parse(value, &level) : -EOPNOTSUPP;

	if (err)
		return err;
	vf_log(VF_WARN, "messages up to %s from now on", value);
	vf_log_limit(level);
	return 0;
}

typedef int set_fn(struct fs *fs, struct inode *i, char *value);

static const struct setter {
	const char *name;
	set_fn *fn;
} setters[] = {{"pin", set_pin},
	       {"warm", set_warm},
	       {"evict", evict},
	       {"log", set_log}};

/* Returns -EROFS for what is no attribute of ours. */
static int set_attribute(struct fs *fs, uid_t uid, struct inode *i,
			 const char *name, char *value)
{
	bool is_ours = !strncmp(name, "user.vecfs.", 11);

	for (size_t n = 0; is_ours && n < VF_N(setters); n++) {
		if (strcmp(name + 11, setters[n].name))
			continue;
		if (uid != fs->uid && uid != 0)
			return -EPERM;
		return setters[n].fn(fs, i, value);
	}
	return -EROFS;
}

/* Here ENODATA says that there was no pin. */
static int reply_errno(int err)
{
	return err == -ENODATA ? ENODATA : vf_fs_errno(err);
}

void vf_fs_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		    const char *value, size_t size, int flags)
{
	struct fs *fs = fuse_req_userdata(req);
	char text[VALUE_MAX + 1];
	int err = -EINVAL;

	if (size <= VALUE_MAX && !memchr(value, '\0', size)) {
		memcpy(text, value, size);
		text[size] = '\0';
		err = set_attribute(fs, fuse_req_ctx(req)->uid,
				    vf_inode(fs, ino), name, text);
	} else if (strncmp(name, "user.vecfs.", 11)) {
		err = -EROFS;
	}
	fuse_reply_err(req, reply_errno(err));
}

/* Of what is set only a pin lasts. */
void vf_fs_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fs *fs = fuse_req_userdata(req);
	bool warm = !strcmp(name, "user.vecfs.warm");
	char none[] = "0";
	int err = -EROFS;

	if (warm || !strcmp(name, "user.vecfs.pin"))
		err = set_attribute(fs, fuse_req_ctx(req)->uid,
				    vf_inode(fs, ino), name, none);
	fuse_reply_err(req, reply_errno(err));
}
