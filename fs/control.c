/*
 * What the mount tells of itself: .vecfs/status.json, .vecfs/metrics in
 * Prometheus' text format, and extended attributes (not listed by listxattr,
 * so that copies do not carry them).
 *
 *   user.vecfs.etag  version of the stored object
 *   user.vecfs.url   where it is stored
 *   user.vecfs.passthrough  on a file, "1": the kernel reads the local file
 *   user.vecfs.head  on the folder of an index: newest commit known, and how
 *                    many milliseconds ago that was learned
 */
#include "fs/fs.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

/* ---- status.json -------------------------------------------------------------------- */

static json_t *index_list(struct fs *fs)
{
	json_t *a = json_array();

	pthread_mutex_lock(&fs->mtx);
	for (const struct index_view *v = fs->indexes; v; v = vf_live_next(v)) {
		const struct vf_state *s = vf_live_state(v);
		json_array_append_new(
			a,
			json_pack("{s:s, s:I, s:I, s:I, s:I}", "name", s->name,
				  "head", (json_int_t)s->head, "head_age_ms",
				  (json_int_t)vf_live_age_ms(v), "rows",
				  (json_int_t)s->n_rows, "shards",
				  (json_int_t)s->n_shards));
	}
	pthread_mutex_unlock(&fs->mtx);
	return a;
}

static json_t *passthrough_state(struct fs *fs)
{
	const char *why = vf_passthrough_why(&fs->passthrough);

	return json_pack("{s:s, s:s}", "state", why ? "off" : "on", "why",
			 why ? why
			     : "files of the bucket's directory are read and "
			       "mapped by the kernel");
}

static int status_text(struct fs *fs, const struct vf_cache_stats *c,
		       const struct vf_bucket_stats *b, struct vf_buf *out)
{
	json_t *o = json_pack(
		"{s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:o}", "version",
		VF_VERSION, "bucket", vf_bucket_url(fs->bucket), "pid",
		(json_int_t)getpid(), "uptime_s",
		(json_int_t)((vf_now_ns() - fs->start_ns) / 1000000000),
		"inodes", (json_int_t)fs->n_inodes, "hidden_names",
		(json_int_t)atomic_load(&fs->n_hidden), "indexes",
		index_list(fs), "passthrough", passthrough_state(fs));
	VF_AUTO_FREE char *text = NULL;

	if (o) {
		json_object_set_new(
			o, "cache",
			json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "ram_bytes",
				  (json_int_t)c->ram_len, "used_bytes",
				  (json_int_t)c->used_len, "block_bytes",
				  (json_int_t)c->block_len, "hits",
				  (json_int_t)c->n_hit, "misses",
				  (json_int_t)c->n_miss, "evictions",
				  (json_int_t)c->n_evict));
		json_object_set_new(o, "requests",
				    json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}",
					      "get", (json_int_t)b->n_get,
					      "head", (json_int_t)b->n_head,
					      "list", (json_int_t)b->n_list,
					      "retries", (json_int_t)b->n_retry,
					      "errors", (json_int_t)b->n_error,
					      "bytes_in",
					      (json_int_t)b->bytes_in));
		text = json_dumps(o, JSON_INDENT(2));
		json_decref(o);
	}
	return text ? vf_buf_printf(out, "%s\n", text) : -ENOMEM;
}

/* ---- metrics -------------------------------------------------------------------------- */

struct metric {
	const char *name, *type, *help;
	uint64_t value;
};

static int metrics_text(struct fs *fs, const struct vf_cache_stats *c,
			const struct vf_bucket_stats *b, struct vf_buf *out)
{
	const struct metric all[] = {
		{"reads_total", "counter", "Reads answered.",
		 atomic_load(&fs->n_reads)},
		{"read_errors_total", "counter",
		 "Reads answered with an error.",
		 atomic_load(&fs->n_read_errors)},
		{"read_bytes_total", "counter", "Bytes given to readers.",
		 atomic_load(&fs->bytes_read)},
		{"cache_hits_total", "counter", "Blocks found in the cache.",
		 c->n_hit},
		{"cache_misses_total", "counter",
		 "Blocks that were not there yet.", c->n_miss},
		{"cache_waits_total", "counter",
		 "Misses that joined a fetch under way.", c->n_wait},
		{"cache_evictions_total", "counter", "Blocks replaced.",
		 c->n_evict},
		{"cache_bypass_total", "counter",
		 "Blocks read past a cache with every block in use.",
		 c->n_bypass},
		{"cache_used_bytes", "gauge", "Bytes of blocks in use.",
		 c->used_len},
		{"cache_ram_bytes", "gauge", "Bytes of the cache.", c->ram_len},
		{"bucket_get_total", "counter", "GET requests sent.", b->n_get},
		{"bucket_head_total", "counter", "HEAD requests sent.",
		 b->n_head},
		{"bucket_list_total", "counter", "LIST requests sent.",
		 b->n_list},
		{"bucket_retries_total", "counter", "Requests sent again.",
		 b->n_retry},
		{"bucket_errors_total", "counter", "Requests that failed.",
		 b->n_error},
		{"bucket_in_bytes_total", "counter",
		 "Bytes of objects received.", b->bytes_in},
		{"passthrough_opens_total", "counter",
		 "Handles of files that the kernel reads itself.",
		 atomic_load(&fs->passthrough.n_opens)},
		{"passthrough_files", "gauge",
		 "Files open that the kernel reads itself.",
		 atomic_load(&fs->passthrough.n_ids)},
		{"hidden_names_total", "counter",
		 "Names met that cannot be shown as files.",
		 atomic_load(&fs->n_hidden)},
	};
	int err = 0;

	for (size_t i = 0; !err && i < VF_N(all); i++)
		err = vf_buf_printf(out,
				    "# HELP vecfs_%s %s\n# TYPE vecfs_%s %s\n"
				    "vecfs_%s %" PRIu64 "\n",
				    all[i].name, all[i].help, all[i].name,
				    all[i].type, all[i].name, all[i].value);
	return err;
}

int vf_control_text(struct fs *fs, enum kind kind, struct vf_buf *out)
{
	struct vf_cache_stats c;
	struct vf_bucket_stats b;

	vf_cache_stats(fs->cache, &c);
	vf_bucket_stats(fs->bucket, &b);
	return kind == STATUS ? status_text(fs, &c, &b, out)
			      : metrics_text(fs, &c, &b, out);
}

/* ---- extended attributes -------------------------------------------------------------- */

static int head_text(struct fs *fs, const struct inode *i, struct vf_buf *out)
{
	struct index_view *v;
	int err;

	if (i->kind != FOLDER || !vf_live_is_index_path(i->path))
		return -ENODATA;
	err = vf_live_get(fs, i->path, &v);
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
	       i->kind == STATUS || i->kind == METRICS;
}

static int attribute_text(struct fs *fs, struct inode *i, const char *name,
			  struct vf_buf *out)
{
	const char *at = i->key ? i->key : i->path;

	if (!strcmp(name, "user.vecfs.head"))
		return head_text(fs, i, out);
	if (!strcmp(name, "user.vecfs.etag") && i->key)
		return vf_buf_printf(out, "%s", i->etag);
	if (!strcmp(name, "user.vecfs.url") && (i->key || i->kind == FOLDER))
		return vf_buf_printf(out, "%s%s%s", vf_bucket_url(fs->bucket),
				     *at ? "/" : "", at);
	if (!strcmp(name, "user.vecfs.passthrough") && is_file(i))
		return vf_buf_printf(out, "%d", vf_fs_is_passed(fs, i));
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
