/*
 * Objects: a sorted array of names; bytes in memory, or in files of --data.
 *
 * A file is named after the SHA-256 of its key, written beside and renamed:
 *
 *     s3sim1 ETAG MTIME KEY-LENGTH \n KEY BODY
 *
 * It is mapped, never written again, so responses may go on sending the bytes
 * of an object that was replaced meanwhile.
 */
#include "tests/s3sim.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

enum { FILE_HEAD_MAX = 256 };

struct sim_blob *sim_blob_new(struct vf_buf *b)
{
	struct sim_blob *blob = calloc(1, sizeof(*blob));

	if (!blob)
		return NULL;
	blob->data = VF_STEAL(b->data);
	blob->len = b->len;
	blob->refs = 1;
	vf_buf_fini(b);
	return blob;
}

struct sim_blob *sim_blob_get(struct sim_blob *b)
{
	b->refs++;
	return b;
}

void sim_blob_put(struct sim_blob *b)
{
	if (!b || --b->refs)
		return;
	if (b->map)
		munmap(b->map, b->map_len);
	else
		free((void *)b->data);
	free(b);
}

static void free_object(struct sim_object *o)
{
	if (!o)
		return;
	sim_blob_put(o->blob);
	free(o->key);
	free(o);
}

/* ---- the array --------------------------------------------------------------- */

size_t sim_store_lower(const struct sim_store *s, const char *key)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (strcmp(s->all[mid]->key, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct sim_object *sim_store_find(const struct sim_store *s, const char *key)
{
	size_t i = sim_store_lower(s, key);

	return i < s->n && !strcmp(s->all[i]->key, key) ? s->all[i] : NULL;
}

static int reserve_one(struct sim_store *s)
{
	if (s->n < s->cap)
		return 0;
	size_t cap = s->cap ? 2 * s->cap : 64;
	void *p = reallocarray(s->all, cap, sizeof(s->all[0]));
	if (!p)
		return -ENOMEM;
	s->all = p;
	s->cap = cap;
	return 0;
}

/* Takes @o; room is there. */
static void insert_object(struct sim_store *s, struct sim_object *o)
{
	size_t i = sim_store_lower(s, o->key);

	if (i < s->n && !strcmp(s->all[i]->key, o->key)) {
		free_object(s->all[i]);
		s->all[i] = o;
		return;
	}
	memmove(s->all + i + 1, s->all + i, (s->n - i) * sizeof(s->all[0]));
	s->all[i] = o;
	s->n++;
}

/* ---- files -------------------------------------------------------------------- */

static void file_path(const struct sim_store *s, const char *key,
		      const char *suffix, char out[512])
{
	char hash[VF_SIGV4_HEX + 1];

	vf_sigv4_hash(key, strlen(key), hash);
	snprintf(out, 512, "%s/%s%s", s->dir, hash, suffix);
}

/* Offset of the key in a mapped file, 0 when it is none of ours. */
static size_t parse_file(const char *p, size_t len, struct sim_object *o,
			 size_t *out_key_len)
{
	char head[FILE_HEAD_MAX] = "";
	int n = 0;

	memcpy(head, p, VF_MIN(len, sizeof(head) - 1));
	if (sscanf(head, "s3sim1 %47s %" SCNd64 " %zu%n", o->etag, &o->mtime,
		   out_key_len, &n) != 3 ||
	    head[n] != '\n' || *out_key_len > SIM_KEY_MAX ||
	    *out_key_len > len - (size_t)n - 1)
		return 0;
	return (size_t)n + 1;
}

static void *map_file(const char *path, size_t *out_len)
{
	VF_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) || st.st_size <= 0)
		return NULL;
	void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	*out_len = (size_t)st.st_size;
	return p == MAP_FAILED ? NULL : p;
}

static int load_file(struct sim_store *s, const char *path)
{
	struct sim_object *o = calloc(1, sizeof(*o));
	size_t len = 0, off, key_len = 0;
	char *map = map_file(path, &len);

	if (!o || !map || reserve_one(s) ||
	    !(off = parse_file(map, len, o, &key_len)) ||
	    !(o->blob = calloc(1, sizeof(*o->blob))) ||
	    !(o->key = strndup(map + off, key_len)))
		goto fail;
	*o->blob = (struct sim_blob){.data = (uint8_t *)map + off + key_len,
				     .len = len - off - key_len,
				     .refs = 1,
				     .map = map,
				     .map_len = len};
	insert_object(s, o);
	return 0;
fail:
	if (map)
		munmap(map, len);
	if (o)
		free(o->blob);
	free(o);
	return vf_fail(-EBADMSG, "%s: not an object of s3sim", path);
}

static int load_dir(struct sim_store *s)
{
	DIR *d = opendir(s->dir);
	struct dirent *e;
	char path[512];
	int err = 0;

	if (!d)
		return vf_fail(-errno, "%s: %m", s->dir);
	while (!err && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%.200s", s->dir, e->d_name);
		if (strstr(e->d_name, ".new"))
			unlink(path); /* a write that was cut off */
		else
			err = load_file(s, path);
	}
	closedir(d);
	return err;
}

static int write_body(int fd, const struct sim_object *o)
{
	char head[FILE_HEAD_MAX];
	int n = snprintf(head, sizeof(head), "s3sim1 %s %" PRId64 " %zu\n",
			 o->etag, o->mtime, strlen(o->key));
	int err = vf_write_all(fd, head, (size_t)n);

	if (!err)
		err = vf_write_all(fd, o->key, strlen(o->key));
	if (!err)
		err = vf_write_all(fd, o->blob->data, o->blob->len);
	return err;
}

static int write_file(struct sim_store *s, const struct sim_object *o,
		      char path[512])
{
	char fresh[512];
	int err;

	file_path(s, o->key, "", path);
	file_path(s, o->key, ".new", fresh);
	VF_AUTO_FD int fd =
		open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return vf_fail(-errno, "%s: %m", fresh);
	err = write_body(fd, o);
	if (!err && rename(fresh, path))
		err = -errno;
	return err ? vf_fail(err, "%s: %s", fresh, vf_strerror(err)) : 0;
}

/* ---- put, delete, open ----------------------------------------------------------- */

int sim_store_put(struct sim_store *s, const char *key, struct sim_blob *blob,
		  const char *etag)
{
	struct sim_object *o = calloc(1, sizeof(*o));
	char path[512];
	int err = -ENOMEM;

	if (!o || reserve_one(s) || !(o->key = strdup(key)))
		goto fail;
	snprintf(o->etag, sizeof(o->etag), "%s", etag);
	o->mtime = time(NULL);
	o->blob = sim_blob_get(blob);
	if (!s->dir) {
		insert_object(s, o);
		return 0;
	}
	err = write_file(s, o, path);
	if (!err)
		err = load_file(s, path);
fail:
	free_object(o);
	return err;
}

void sim_store_delete(struct sim_store *s, const char *key)
{
	size_t i = sim_store_lower(s, key);
	char path[512];

	if (i == s->n || strcmp(s->all[i]->key, key))
		return;
	if (s->dir) {
		file_path(s, key, "", path);
		unlink(path);
	}
	free_object(s->all[i]);
	s->n--;
	memmove(s->all + i, s->all + i + 1, (s->n - i) * sizeof(s->all[0]));
}

int sim_store_open(struct sim_store *s, const char *dir)
{
	*s = (struct sim_store){0};
	if (!dir)
		return 0;
	if (strlen(dir) > 256)
		return vf_fail(-ENAMETOOLONG, "%s: name too long", dir);
	if (mkdir(dir, 0700) && errno != EEXIST)
		return vf_fail(-errno, "%s: %m", dir);
	s->dir = strdup(dir);
	return s->dir ? load_dir(s) : -ENOMEM;
}

void sim_store_close(struct sim_store *s)
{
	for (size_t i = 0; i < s->n; i++)
		free_object(s->all[i]);
	free(s->all);
	free(s->dir);
	*s = (struct sim_store){0};
}
