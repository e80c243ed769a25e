/*
 * Listing a directory as if it were a bucket: keys in byte order, which is the
 * order of names when folders end in '/'.  Links that lead outside, and what is
 * neither file nor folder, are no objects.
 */
#include "store/bucket_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

/* Names of one directory; folders end in '/', so that order is that of keys. */
struct names {
	char **name;
	size_t n, cap;
};

static void free_names(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->name[i]);
	free(l->name);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_name(struct names *l, const char *name, bool folder)
{
	char *s;

	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		char **p = realloc(l->name, cap * sizeof(*p));
		if (!p)
			return -ENOMEM;
		l->name = p;
		l->cap = cap;
	}
	if (asprintf(&s, "%s%s", name, folder ? "/" : "") < 0)
		return -ENOMEM;
	l->name[l->n++] = s;
	return 0;
}

/* Since the folder was read. */
static bool is_gone(int e)
{
	return e == ENOENT || e == ENOTDIR;
}

/* Of a link: to nothing, in a circle, or to where we may not go. */
static bool leads_nowhere(int e)
{
	return is_gone(e) || e == ELOOP || e == EACCES || e == EXDEV ||
	       e == ENAMETOOLONG;
}

/*
 * Its type; 0: it is gone, or a link to what is no file.  A link counts as what
 * it leads to; a folder behind one is left out, because links can make circles.
 * Returns 0; -errno.
 */
static int read_type(int dir, const struct dirent *e, mode_t *out)
{
	static const mode_t known[] = {[DT_DIR] = S_IFDIR, [DT_REG] = S_IFREG};
	struct stat st = {0};

	*out = e->d_type < VF_N(known) ? known[e->d_type] : 0;
	if (*out)
		return 0;
	/* NFS and some of FUSE tell no types. */
	if (e->d_type == DT_UNKNOWN &&
	    fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW))
		return is_gone(errno) ? 0 : -errno;
	if (e->d_type == DT_LNK || S_ISLNK(st.st_mode)) {
		if (fstatat(dir, e->d_name, &st, 0))
			return leads_nowhere(errno) ? 0 : -errno;
		if (S_ISDIR(st.st_mode))
			return 0;
	}
	*out = st.st_mode & S_IFMT;
	return 0;
}

static bool is_hidden(const char *prefix, const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..") ||
	       (!*prefix &&
		!strncmp(name, VF_FILE_TMP_PREFIX, strlen(VF_FILE_TMP_PREFIX)));
}

/* Only objects and folders.  Returns 0; -errno. */
static int add_entry(struct names *l, int dir, const char *prefix,
		     const struct dirent *e)
{
	mode_t type = 0;
	int err = is_hidden(prefix, e->d_name) ? 0 : read_type(dir, e, &type);

	if (!err && (type == S_IFDIR || type == S_IFREG))
		err = add_name(l, e->d_name, type == S_IFDIR);
	return err;
}

/* Returns 0; -errno. */
static int read_entries(struct names *l, DIR *d, const char *prefix)
{
	const struct dirent *e;
	int err = 0;

	do {
		errno = 0; /* to tell an error from the end */
		e = readdir(d);
		if (e)
			err = add_entry(l, dirfd(d), prefix, e);
		else
			err = -errno;
	} while (e && !err);
	return err;
}

static int read_names(struct file_bucket *fb, const char *path, struct names *l)
{
	int fd = vf_file_open_beneath(fb, *path ? path : ".",
				      O_DIRECTORY | O_RDONLY);
	DIR *d;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP ||
		       errno == EXDEV || errno == ENAMETOOLONG))
		return 0;
	if (fd < 0)
		return vf_file_fail(fb, path, "cannot list");
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return vf_file_fail(fb, path, "cannot list");
	}
	int err = read_entries(l, d, path);
	if (err) {
		errno = -err;
		err = vf_file_fail(fb, path, "cannot list");
	}
	closedir(d);
	if (l->n)
		qsort(l->name, l->n, sizeof(l->name[0]), compare_names);
	return err;
}

struct walk {
	struct file_bucket *fb;
	const char *prefix;
	size_t prefix_len;
	bool folders;
	const char *start_after; /* "" to begin at the first */
	vf_list_fn *fn;
	void *arg;
};

static int visit_object(const struct walk *w, const char *key)
{
	struct vf_list_entry e = {.key = key};
	struct stat st;

	if (fstatat(w->fb->root, key, &st, AT_SYMLINK_NOFOLLOW))
		return is_gone(errno) ? 0
				      : vf_file_fail(w->fb, key, "cannot list");
	if (S_ISLNK(st.st_mode)) {
		VF_AUTO_FD int fd = vf_file_open_beneath(w->fb, key, O_PATH);
		if (fd < 0 && leads_nowhere(errno))
			return 0; /* it leads out of the bucket */
		if (fd < 0 || fstat(fd, &st))
			return vf_file_fail(w->fb, key, "cannot list");
	}
	vf_file_describe(&st, &e.object);
	return w->fn(w->arg, &e);
}

/* Whether keys below the folder @path ("a/b/") can still be wanted. */
static bool may_hold(const struct walk *w, const char *path)
{
	size_t n = strlen(path);

	return !strncmp(path, w->prefix, VF_MIN(n, w->prefix_len)) &&
	       strncmp(path, w->start_after, n) >= 0;
}

/* A folder of the bucket is one only while an object is below it. */
static int stop_at_first(void *arg, const struct vf_list_entry *e)
{
	return 1;
}

static int walk_folder(const struct walk *w, const char *path);

static int visit_folder(const struct walk *w, const char *path)
{
	struct vf_list_entry e = {.key = path, .folder = true};

	if (!w->folders || strlen(path) <= w->prefix_len)
		return walk_folder(w, path);
	struct walk any = {w->fb, "", 0, false, "", stop_at_first, NULL};
	int rc = walk_folder(&any, path);
	if (rc < 0)
		return rc;
	return rc && strcmp(path, w->start_after) > 0 ? w->fn(w->arg, &e) : 0;
}

static int walk_folder(const struct walk *w, const char *path)
{
	VF_CLEANUP(free_names) struct names l = {0};
	int rc = read_names(w->fb, path, &l);

	for (size_t i = 0; !rc && i < l.n; i++) {
		VF_AUTO_FREE char *key = NULL;
		if (asprintf(&key, "%s%s", path, l.name[i]) < 0)
			return -ENOMEM;
		size_t n = strlen(key);
		if (n > VF_OBJECT_KEY_MAX)
			continue;
		if (key[n - 1] == '/')
			rc = may_hold(w, key) ? visit_folder(w, key) : 0;
		else if (!strncmp(key, w->prefix, w->prefix_len) &&
			 strcmp(key, w->start_after) > 0)
			rc = visit_object(w, key);
	}
	return rc;
}

/* Whether keys can begin with the folder @path: "../" is bytes, no way up. */
static bool are_parts(const char *path)
{
	while (*path) {
		size_t n = strcspn(path, "/");
		if (strspn(path, ".") == n && n < 3)
			return false;
		path += n + 1;
	}
	return true;
}

int vf_file_list(struct vf_bucket *b, const char *prefix, bool folders,
		 const char *start_after, vf_list_fn *fn, void *arg)
{
	struct walk w = {((struct file_bucket *)b),
			 prefix,
			 strlen(prefix),
			 folders,
			 start_after ? start_after : "",
			 fn,
			 arg};
	char path[VF_OBJECT_KEY_MAX + 1];
	const char *slash = strrchr(prefix, '/');

	((struct file_bucket *)b)->n_list++;
	if (w.prefix_len > VF_OBJECT_KEY_MAX)
		return 0;
	snprintf(path, sizeof(path), "%.*s",
		 slash ? (int)(slash + 1 - prefix) : 0, prefix);
	return are_parts(path) ? walk_folder(&w, path) : 0;
}
