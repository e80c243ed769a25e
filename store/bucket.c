/*
 * The front of every kind of bucket: choice by URL, checks of keys, and the
 * waiting forms of the asynchronous get.
 */
#include "store/bucket_impl.h"
#include "store/log.h"
#include "store/util.h"
#include "store/waiter.h"

#include <limits.h>
#include <stdio.h>

/* @url is taken over; without memory the bucket is closed. */
static int name_bucket(struct vf_bucket *b, char *url, struct vf_bucket **out)
{
	b->url = url;
	if (asprintf(&b->identity, "%s%s%s", b->server ? b->server : "",
		     b->server ? " " : "", url) >= 0)
		return 0;
	b->identity = NULL;
	vf_bucket_close(b);
	*out = NULL;
	return -ENOMEM;
}

int vf_bucket_open(const char *url, const struct vf_bucket_options *opt,
		   struct vf_bucket **out)
{
	static const struct vf_bucket_options defaults;
	VF_AUTO_FREE char *u = strdup(url);
	int err;

	*out = NULL;
	if (!u)
		return -ENOMEM;
	for (size_t n = strlen(u); n > 8 && u[n - 1] == '/'; n--)
		u[n - 1] = '\0';
	if (!opt)
		opt = &defaults;
	if (!strncmp(u, "file://", 7))
		err = vf_bucket_file_open(u, opt, out);
	else if (!strncmp(u, "s3://", 5))
		err = vf_bucket_s3_open(u, opt, out);
	else
		return vf_fail(-EINVAL,
			       "%s: not a bucket; use s3://bucket/prefix or "
			       "file:///directory",
			       url);
	if (err)
		return err;
	(*out)->single_writer = opt->single_writer;
	return name_bucket(*out, VF_STEAL(u), out);
}

void vf_bucket_stop(struct vf_bucket *b)
{
	if (b && b->ops->stop)
		b->ops->stop(b);
}

void vf_bucket_close(struct vf_bucket *b)
{
	if (!b)
		return;
	char *url = b->url, *dir = b->dir, *identity = b->identity;
	b->ops->close(b);
	free(url);
	free(dir);
	free(identity);
}

const char *vf_bucket_url(const struct vf_bucket *b)
{
	return b->url;
}

const char *vf_bucket_identity(const struct vf_bucket *b)
{
	return b->identity;
}

const char *vf_bucket_dir(const struct vf_bucket *b)
{
	return b->dir;
}

/* No part of a key may be empty, "." or "..": such keys are no paths. */
static int check_key(const struct vf_bucket *b, const char *key)
{
	const char *part = key;
	size_t len = strlen(key);
	bool bad = !len || len > VF_OBJECT_KEY_MAX;

	while (!bad) {
		size_t n = strcspn(part, "/");
		bad = !n || (n == 1 && part[0] == '.') ||
		      (n == 2 && part[0] == '.' && part[1] == '.');
		if (!part[n])
			break;
		part += n + 1;
	}
	return bad ? vf_fail(-EINVAL, "%s: \"%s\" cannot be a key", b->url, key)
		   : 0;
}

int vf_bucket_head(struct vf_bucket *b, const char *key, struct vf_object *out)
{
	int err = check_key(b, key);
	return err ? err : b->ops->head(b, key, out);
}

void vf_bucket_get_start(struct vf_bucket *b, const struct vf_get *get)
{
	int err = check_key(b, get->key);

	if (err)
		get->done(get->arg, err, 0, NULL);
	else
		b->ops->get_start(b, get);
}

int vf_bucket_open_file(struct vf_bucket *b, const char *key, const char *etag,
			int *out_fd)
{
	int err = check_key(b, key);

	*out_fd = -1;
	if (err)
		return err;
	return b->ops->open_file ? b->ops->open_file(b, key, etag, out_fd)
				 : -ENOTSUP;
}

/* Looking first, where nobody else writes.  -EEXIST; 0: it is absent. */
static int look_first(struct vf_bucket *b, const char *key)
{
	struct vf_object o;
	int err = vf_bucket_head(b, key, &o);

	if (!err)
		return -EEXIST;
	return err == -ENOENT ? 0 : err;
}

int vf_bucket_put(struct vf_bucket *b, const char *key, const void *data,
		  size_t len, unsigned flags, struct vf_object *out)
{
	struct vf_object unused;
	int err = check_key(b, key);

	if (!err && b->single_writer && flags & VF_PUT_IF_ABSENT) {
		err = look_first(b, key);
		flags &= ~(unsigned)VF_PUT_IF_ABSENT;
	}
	return err ? err
		   : b->ops->put(b, key, data, len, flags, out ? out : &unused);
}

int vf_upload_open(struct vf_bucket *b, const char *key, struct vf_upload **out)
{
	int err = check_key(b, key);

	*out = NULL;
	if (!err)
		err = b->ops->upload_open(b, key, out);
	if (!err)
		(*out)->bucket = b;
	return err;
}

int vf_upload_write(struct vf_upload *u, const void *data, size_t len)
{
	return u->bucket->ops->upload_write(u, data, len);
}

int vf_upload_commit(struct vf_upload *u, struct vf_object *out)
{
	struct vf_object unused;
	return u->bucket->ops->upload_commit(u, out ? out : &unused);
}

void vf_upload_abort(struct vf_upload *u)
{
	if (u)
		u->bucket->ops->upload_abort(u);
}

int vf_bucket_delete(struct vf_bucket *b, const char *key)
{
	int err = check_key(b, key);
	return err ? err : b->ops->delete (b, key);
}

int vf_bucket_delete_many(struct vf_bucket *b, const char *const *keys,
			  size_t n)
{
	int err = 0;

	for (size_t i = 0; !err && i < n; i++)
		err = check_key(b, keys[i]);
	if (!err && b->ops->delete_many)
		return b->ops->delete_many(b, keys, n);
	for (size_t i = 0; !err && i < n; i++)
		err = b->ops->delete (b, keys[i]);
	return err;
}

int vf_bucket_list(struct vf_bucket *b, const char *prefix, bool folders,
		   const char *start_after, vf_list_fn *fn, void *arg)
{
	return b->ops->list(b, prefix, folders, start_after, fn, arg);
}

void vf_bucket_stats(struct vf_bucket *b, struct vf_bucket_stats *out)
{
	b->ops->stats(b, out);
}

/* ---- waiting ----------------------------------------------------------------- */

struct got {
	struct vf_waiter waiter;
	size_t len;
	struct vf_object object;
};

static void wake_got(void *arg, int err, size_t len,
		     const struct vf_object *object)
{
	struct got *g = arg;

	g->len = len;
	if (object)
		g->object = *object;
	vf_waiter_wake(&g->waiter, err);
}

int vf_bucket_get(struct vf_bucket *b, const char *key, const char *etag,
		  uint64_t off, size_t len, void *buf, size_t *out_len,
		  struct vf_object *out_object)
{
	struct got g = {.waiter = VF_WAITER};
	int err;

	vf_bucket_get_start(b, &(struct vf_get){.key = key,
						.etag = etag,
						.off = off,
						.len = len,
						.buf = buf,
						.done = wake_got,
						.arg = &g});
	err = vf_waiter_wait(&g.waiter);
	*out_len = g.len;
	if (out_object)
		*out_object = g.object;
	return err;
}

int vf_bucket_get_all(struct vf_bucket *b, const char *key, size_t max,
		      void **out_data, size_t *out_len)
{
	struct vf_object object;
	size_t cap = VF_MIN(max, (size_t)64 << 10), len;
	VF_AUTO_FREE uint8_t *p = malloc(cap + 1);
	int err;

	if (!p)
		return -ENOMEM;
	err = vf_bucket_get(b, key, NULL, 0, cap, p, &len, &object);
	if (err)
		return err;
	if (object.size > max)
		return vf_fail(-EFBIG,
			       "%s/%s: %llu bytes, at most %zu expected",
			       b->url, key, (unsigned long long)object.size,
			       max);
	if (object.size > len) { /* the rest, of the same version */
		size_t more;
		uint8_t *q = realloc(p, object.size + 1);
		if (!q)
			return -ENOMEM;
		p = q;
		err = vf_bucket_get(b, key, object.etag, len, object.size - len,
				    p + len, &more, NULL);
		if (err)
			return err;
		len += more;
	}
	if (len != object.size)
		return vf_fail(-EREMOTEIO, "%s/%s: %zu bytes came, not %llu",
			       b->url, key, len,
			       (unsigned long long)object.size);
	p[len] = '\0';
	*out_data = VF_STEAL(p);
	*out_len = len;
	return 0;
}

/* ---- what users name ------------------------------------------------------------ */

/* The absolute path of @path; its last parts need not exist. */
static char *absolute_path(const char *path)
{
	char cwd[PATH_MAX], *out = realpath(path, NULL);

	if (out)
		return out;
	if (path[0] == '/')
		return strdup(path);
	if (!getcwd(cwd, sizeof(cwd)))
		return NULL;
	while (!strncmp(path, "./", 2))
		path += 2;
	return asprintf(&out, "%s/%s", cwd, path) < 0 ? NULL : out;
}

int vf_target_split(const char *target, char **out_url, char **out_index)
{
	bool is_url = strstr(target, "://") != NULL;
	VF_AUTO_FREE char *t = is_url ? strdup(target) : absolute_path(target);
	char *slash;

	if (!t)
		return -ENOMEM;
	for (size_t n = strlen(t); n && t[n - 1] == '/'; n--)
		t[n - 1] = '\0';
	slash = strrchr(t, '/');
	if (!slash || slash[-(slash > t)] == '/' ||
	    (is_url && slash - t < (ptrdiff_t)strlen("s3://x")))
		return vf_fail(-EINVAL,
			       "%s: name an index in it, such as %s/products",
			       target, t);
	if (!vf_index_name_ok(slash + 1))
		return vf_fail(-EINVAL,
			       "\"%s\" cannot name an index: use 1 to %d of "
			       "a-z, 0-9, '.', '_' and '-', a letter or digit "
			       "first",
			       slash + 1, VF_INDEX_NAME_MAX);
	*out_index = strdup(slash + 1);
	*slash = '\0';
	if (asprintf(out_url, "%s%s", is_url ? "" : "file://", *t ? t : "/") <
	    0)
		*out_url = NULL;
	if (*out_index && *out_url)
		return 0;
	free(*out_index);
	free(*out_url);
	return -ENOMEM;
}
