/*
 * One stored object: mapped when it is plain, read frame by frame when only
 * its compressed form is there (a bucket opened without a mount).
 */
#include "query/engine.h"
#include "query/guard.h"
#include "store/ranges.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

enum {
	TELL_EACH = 16,
	/*
	 * Bytes that a request to the bucket is worth.  Measured, codes of 163
	 * and of 64 leaves of 4000 near 200 queries: 132 and 51 requests of
	 * 15.3 and 6.2 MB when nothing is joined, 67 and 31 of 21.2 and 7.9 by
	 * this, 44 and 25 of 32.8 and 11.0 by twice as much.
	 */
	REQUEST_LEN = 384 << 10,
};

static int fail_open(const char *path, int e)
{
	return vf_fail(e == ENOENT ? -ENOENT : -EREMOTEIO, "%s: %s", path,
		       strerror(e));
}

static int check_len(const char *path, int fd, uint64_t want)
{
	struct stat st;

	if (fstat(fd, &st))
		return fail_open(path, errno);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != want)
		return vf_fail(-EBADMSG,
			       "%s: %lld bytes, but the log says %llu", path,
			       (long long)st.st_size, (unsigned long long)want);
	return 0;
}

static int map_plain(struct vf_file *f)
{
	struct stat st;
	void *p;
	int err = check_len(f->path, f->fd, f->len);

	if (err)
		return err;
	p = mmap(NULL, f->len, PROT_READ, MAP_SHARED, f->fd, 0);
	if (p == MAP_FAILED)
		return fail_open(f->path, errno);
	f->map = p;
	f->is_own = !fstat(f->fd, &st) && st.st_uid == geteuid();
	/*
	 * Else each fault would read 128 KiB around one row, and a read go on
	 * beyond what was asked for, and wait for that.
	 */
	madvise(p, f->len, MADV_RANDOM);
	posix_fadvise(f->fd, 0, 0, POSIX_FADV_RANDOM);
	return 0;
}

static int read_frames(struct vf_file *f, uint64_t stored_len)
{
	uint8_t footer[VF_FRAMES_FOOTER_LEN];
	VF_AUTO_FREE uint8_t *table = NULL;
	uint64_t len = 0;
	int err = check_len(f->path, f->fd, stored_len);

	if (err)
		return err;
	if (stored_len < sizeof(footer))
		return vf_fail(-EBADMSG, "%s: too short", f->path);
	err = vf_pread_all(f->fd, footer, sizeof(footer),
			   stored_len - sizeof(footer));
	if (!err)
		err = vf_frames_footer(footer, stored_len, &len);
	if (!err && !(table = malloc(len)))
		return -ENOMEM;
	if (!err)
		err = vf_pread_all(f->fd, table, len, stored_len - len);
	if (!err)
		err = vf_frames_parse(table, len, stored_len, &f->frames);
	if (!err && f->frames.out_off[f->frames.n_frames] != f->len)
		err = -EBADMSG;
	return err ? vf_fail(err == -ENOMEM ? err : -EBADMSG,
			     "%s: its seek table is damaged", f->path)
		   : 0;
}

int vf_file_open(const char *dir, const char *key,
		 const struct vf_object_ref *ref, struct vf_file *out)
{
	size_t n = strlen(key);
	bool ours = ref->zstd && n > 4 && !strcmp(key + n - 4, ".zst");
	int err;

	*out = (struct vf_file){.fd = -1, .len = ref->len};
	if (asprintf(&out->path, "%s/%.*s", dir, (int)(ours ? n - 4 : n), key) <
	    0) {
		out->path = NULL;
		return -ENOMEM;
	}
	/* To a mount O_NONBLOCK says that it will be told what to fetch. */
	out->fd = open(out->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (out->fd >= 0) {
		err = map_plain(out);
	} else if (errno == ENOENT && ours) {
		VF_AUTO_FREE char *plain = out->path;
		char *path;
		out->path = NULL;
		if (asprintf(&path, "%s.zst", plain) < 0)
			return -ENOMEM;
		out->path = path;
		out->fd = open(path, O_RDONLY | O_CLOEXEC);
		err = out->fd < 0 ? fail_open(path, errno)
				  : read_frames(out, ref->stored_len);
	} else {
		err = fail_open(out->path, errno);
	}
	if (err)
		vf_file_close(out);
	return err;
}

int vf_file_open_in_shard(const char *dir, const char *index, const char *shard,
			  const struct vf_object_ref *ref, struct vf_file *out)
{
	VF_AUTO_FREE char *key = vf_shard_key(index, shard, ref->name);

	*out = (struct vf_file){.fd = -1};
	return key ? vf_file_open(dir, key, ref, out) : -ENOMEM;
}

void vf_file_close(struct vf_file *f)
{
	if (f->map)
		munmap((void *)f->map, f->len);
	if (f->fd >= 0)
		close(f->fd);
	vf_frames_fini(&f->frames);
	free(f->path);
	*f = (struct vf_file){.fd = -1};
}

void vf_file_hint(const struct vf_file *f, uint64_t off, uint64_t len)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t from = off / page * page;

	if (f->map)
		madvise((void *)(f->map + from), off + len - from,
			MADV_WILLNEED);
}

/*
 * Ask or tell the mount, VF_RANGES_MAX at a time.  False when the file is not
 * one of a mount.
 */
static bool call_mount(struct vf_file *f, uint32_t flags, struct vf_span *s,
		       size_t n, struct vf_cost *cost)
{
	VF_AUTO_FREE struct vf_ranges *a = NULL;

	if (atomic_load_explicit(&f->no_ioctl, memory_order_relaxed))
		return false;
	a = malloc(sizeof(*a));
	for (size_t i = 0; a && i < n; i += a->n) {
		memset(a, 0, offsetof(struct vf_ranges, r));
		a->version = 1;
		a->flags = flags;
		a->n = (uint32_t)VF_MIN(n - i, (size_t)VF_RANGES_MAX);
		for (uint32_t j = 0; j < a->n; j++)
			a->r[j] = (struct vf_range){
				s[i + j].off,
				(uint32_t)VF_MIN(s[i + j].end - s[i + j].off,
						 (uint64_t)UINT32_MAX),
				0};
		if (ioctl(f->fd, VF_IOC_RANGES, a)) {
			atomic_store_explicit(&f->no_ioctl, errno == ENOTTY,
					      memory_order_relaxed);
			return false;
		}
		for (uint32_t j = 0; j < a->n && flags & VF_RANGES_WHERE; j++)
			s[i + j].where = a->r[j].where;
		if (cost) {
			cost->gets += a->n_gets;
			cost->got += a->bytes;
		}
	}
	return a;
}

/* All its pages are in the page cache, whatever the mount has. */
static bool is_resident(const struct vf_file *f, const struct vf_span *s)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t from = s->off / page * page;
	unsigned char in[256];
	size_t n = (size_t)((s->end - from + page - 1) / page);

	if (!f->is_own || n > sizeof(in) ||
	    mincore((void *)(f->map + from), s->end - from, in))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!(in[i] & 1))
			return false;
	return true;
}

static bool are_resident(const struct vf_file *f, const struct vf_span *s,
			 size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!is_resident(f, &s[i]))
			return false;
	return true;
}

/*
 * Uses of what is in the page cache are told to the mount now and then: its
 * policy wants frequencies, and a call costs more than reading the rows.
 */
static bool is_to_be_told(struct vf_file *f)
{
	return !(
		atomic_fetch_add_explicit(&f->n_uses, 1, memory_order_relaxed) %
		TELL_EACH);
}

/*
 * What has to be fetched: spans that only the bucket has are one where less
 * lies between them than a request is worth.  Returns how many.
 */
static size_t join_away(const struct vf_span *s, size_t n, struct vf_span *out)
{
	struct vf_span *last = NULL;
	size_t m = 0;

	for (size_t i = 0; i < n; i++) {
		if (s[i].where == VF_IN_RAM)
			continue;
		if (last && last->where == VF_IN_BUCKET &&
		    s[i].where == VF_IN_BUCKET &&
		    s[i].off <= last->end + REQUEST_LEN) {
			last->end = VF_MAX(last->end, s[i].end);
			continue;
		}
		last = &out[m++];
		*last = s[i];
	}
	return m;
}

size_t vf_file_count_away(const struct vf_file *f, struct vf_span *s, size_t n)
{
	size_t away = 0;

	vf_file_locate(f, s, n, false);
	n = join_away(s, n, s);
	for (size_t i = 0; i < n; i++)
		away += s[i].where == VF_IN_BUCKET;
	return away;
}

void vf_file_fetch_all(const struct vf_file *f, const struct vf_span *s,
		       size_t n, struct vf_cost *cost)
{
	struct vf_file *file = (struct vf_file *)f;
	VF_AUTO_FREE struct vf_span *all = malloc((n + 1) * sizeof(*all));

	if (!f->map || !n || !all) /* it will be read without */
		return;
	memcpy(all, s, n * sizeof(*all));
	if (n > 1 && !call_mount(file, VF_RANGES_WHERE, all, n, NULL))
		return;
	if (n > 1)
		n = join_away(all, n, all);
	if (n)
		call_mount(file, VF_RANGES_FETCH | VF_RANGES_COUNT, all, n,
			   cost);
}

void vf_file_hint_all(const struct vf_file *f, const struct vf_span *s,
		      size_t n, struct vf_cost *cost)
{
	struct vf_file *file = (struct vf_file *)f;

	if (!f->map || (are_resident(f, s, n) && !is_to_be_told(file)))
		return;
	vf_file_fetch_all(f, s, n, cost);
	for (size_t i = 0; i < n; i++)
		vf_file_hint(f, s[i].off, s[i].end - s[i].off);
}

void vf_file_locate(const struct vf_file *f, struct vf_span *s, size_t n,
		    bool count)
{
	uint32_t flags = VF_RANGES_WHERE | (count ? VF_RANGES_COUNT : 0);
	struct vf_file *file = (struct vf_file *)f;

	for (size_t i = 0; i < n; i++)
		s[i].where = VF_IN_RAM;
	if (!f->map || (are_resident(f, s, n) && !is_to_be_told(file)) ||
	    !call_mount(file, flags, s, n, NULL))
		return;
	for (size_t i = 0; i < n; i++)
		if (s[i].where != VF_IN_RAM && is_resident(f, &s[i]))
			s[i].where = VF_IN_RAM;
}

static int fail_read(const struct vf_file *f, uint64_t off, int err)
{
	int meaning = err == -ESTALE || err == -EBADMSG || err == -ENOMEM
			      ? err
			      : -EREMOTEIO;

	return vf_fail(meaning, "%s: cannot read at %llu: %s", f->path,
		       (unsigned long long)off,
		       err == -ENODATA ? "the file ends" : vf_strerror(err));
}

static int read_zstd(const struct vf_file *f, uint64_t off, size_t len,
		     uint8_t *out)
{
	VF_AUTO_FREE uint8_t *in = NULL, *frame = NULL;

	while (len) {
		uint32_t i = vf_frames_find(&f->frames, off);
		uint64_t from = f->frames.out_off[i];
		size_t frame_len = f->frames.out_off[i + 1] - from;
		size_t in_len = f->frames.in_off[i + 1] - f->frames.in_off[i];
		size_t n = VF_MIN(len, (size_t)(from + frame_len - off));
		int err;

		free(in);
		free(frame);
		in = malloc(in_len);
		frame = malloc(frame_len); /* at most VF_FRAME_MAX */
		if (!in || !frame)
			return -ENOMEM;
		err = vf_pread_all(f->fd, in, in_len, f->frames.in_off[i]);
		if (!err)
			err = vf_frame_decompress(in, in_len, frame, frame_len);
		if (err)
			return fail_read(f, f->frames.in_off[i], err);
		memcpy(out, frame + (off - from), n);
		off += n;
		out += n;
		len -= n;
	}
	return 0;
}

int vf_file_read(const struct vf_file *f, uint64_t off, size_t len, void *out)
{
	int err;

	assert(off <= f->len && len <= f->len - off);
	if (!f->map)
		return read_zstd(f, off, len, out);
	if (!vf_guarded_copy(out, f->map + off, len))
		return 0;
	err = vf_pread_all(f->fd, out, len, off);
	return err ? fail_read(f, off, err) : 0;
}

int vf_file_load_first(const struct vf_file *f, uint64_t len, void **out)
{
	const struct vf_span first = {0, len, 0};
	VF_AUTO_FREE void *p = malloc(len + 1);
	int err = p ? 0 : -ENOMEM;

	if (!err) {
		vf_file_hint_all(f, &first, 1, NULL);
		err = vf_file_load(f, 0, len, p);
	}
	*out = err ? NULL : VF_STEAL(p);
	return err;
}

int vf_file_load(const struct vf_file *f, uint64_t off, size_t len, void *out)
{
	int err;

	assert(off <= f->len && len <= f->len - off);
	if (!f->map)
		return read_zstd(f, off, len, out);
	err = vf_pread_all(f->fd, out, len, off);
	return err ? fail_read(f, off, err) : 0;
}

int vf_file_loadv(const struct vf_file *f, uint64_t off, struct iovec *iov,
		  int n)
{
	int err = 0;

	if (f->map) {
		err = vf_preadv_all(f->fd, iov, n, off);
		return err ? fail_read(f, off, err) : 0;
	}
	for (int i = 0; !err && i < n; off += iov[i++].iov_len)
		err = read_zstd(f, off, iov[i].iov_len, iov[i].iov_base);
	return err;
}
