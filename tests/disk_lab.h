/*
 * What the suites of the disk tier share: objects whose bytes follow from
 * their number, reads that wait, the size of a folder.
 */
#ifndef VF_TESTS_DISK_LAB_H
#define VF_TESTS_DISK_LAB_H

#include <fcntl.h>
#include <ftw.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

#include "store/tier_disk_impl.h"
#include "tests/test.h"

enum { LAB_BLOCK = 16384, LAB_BLOCK_MAX = 65536 };

static inline void lab_id(unsigned object, uint8_t id[16])
{
	uint64_t s = object * 977 + 5;

	vf_put_le64(id, vf_test_rand(&s));
	vf_put_le64(id + 8, vf_test_rand(&s));
}

/* The bytes of one block of an object. */
static inline void lab_fill(unsigned object, uint64_t number, void *buf,
			    size_t len)
{
	uint64_t s = (uint64_t)object << 40 ^ number << 8 ^ 0x5eed;
	uint8_t *p = buf;

	for (size_t i = 0; i < len; i += 8) {
		uint64_t v = vf_test_rand(&s);
		memcpy(p + i, &v, VF_MIN(len - i, (size_t)8));
	}
}

struct lab_wait {
	atomic_int err; /* 1: not yet */
};

static inline void lab_done(void *arg, int err)
{
	struct lab_wait *w = arg;

	/* pairs with lab_read */
	atomic_store_explicit(&w->err, err, memory_order_release);
}

static inline int lab_read(struct vf_disk_file *f, uint64_t number, void *buf)
{
	struct lab_wait w;
	int err;

	atomic_init(&w.err, 1);
	vf_disk_read(f, number, buf, 1, lab_done, &w);
	while ((err = atomic_load_explicit(&w.err, memory_order_acquire)) == 1)
		usleep(20);
	return err;
}

/* 1 right, 0 not there, -1 wrong bytes. */
static inline int lab_check(struct vf_disk_file *f, unsigned object,
			    uint64_t number)
{
	static _Thread_local uint8_t got[LAB_BLOCK_MAX], want[LAB_BLOCK_MAX];
	uint32_t len = vf_disk_block_len(f, number);

	if (lab_read(f, number, got))
		return 0;
	lab_fill(object, number, want, len);
	return memcmp(got, want, len) ? -1 : 1;
}

static inline void lab_write(struct vf_disk_file *f, unsigned object,
			     uint64_t number, unsigned flags)
{
	static _Thread_local uint8_t buf[LAB_BLOCK_MAX];

	lab_fill(object, number, buf, vf_disk_block_len(f, number));
	vf_disk_write(f, number, buf, flags);
}

/* Write whatever the queue has no place for at first. */
static inline void lab_write_sure(struct vf_disk *d, struct vf_disk_file *f,
				  unsigned object, uint64_t number)
{
	struct vf_disk_stats s;

	for (unsigned i = 0; i < 2000; i++) {
		uint64_t before;
		vf_disk_stats(d, &s);
		before = s.n_write_dropped;
		lab_write(f, object, number, 0);
		vf_disk_stats(d, &s);
		if (s.n_write_dropped == before)
			return;
		usleep(1000);
	}
}

/* @wait_ms  as of struct vf_disk_options */
static inline struct vf_disk *lab_open_waiting(const char *dir, uint64_t size,
					       uint32_t block_len,
					       uint32_t wait_ms)
{
	struct vf_disk_options o = {.dir = dir,
				    .size = size,
				    .block_len = block_len,
				    .policy = "lru",
				    .wait_ms = wait_ms};
	struct vf_disk *d = NULL;

	CU_ASSERT_EQUAL_FATAL(vf_disk_open(&o, &d), 0);
	return d;
}

/* A machine may be slow: only what never comes is late. */
static inline struct vf_disk *lab_open_as(const char *dir, uint64_t size,
					  uint32_t block_len)
{
	return lab_open_waiting(dir, size, block_len, 60000);
}

static inline struct vf_disk *lab_open(const char *dir, uint64_t size)
{
	return lab_open_as(dir, size, LAB_BLOCK);
}

static inline struct vf_disk_file *lab_file(struct vf_disk *d, unsigned object,
					    uint64_t size)
{
	struct vf_disk_file *f = NULL;
	char label[32];
	uint8_t id[16];

	lab_id(object, id);
	snprintf(label, sizeof(label), "object-%u", object);
	CU_ASSERT_EQUAL_FATAL(vf_disk_file_get(d, id, size, label, &f), 0);
	return f;
}

static uint64_t lab_du_sum;

static inline int lab_add_size(const char *path, const struct stat *st,
			       int flag, struct FTW *ftw)
{
	(void)path, (void)flag, (void)ftw;
	lab_du_sum += (uint64_t)st->st_blocks * 512;
	return 0;
}

/* Allocated bytes of the folder and all in it. */
static inline uint64_t lab_du(const char *dir)
{
	lab_du_sum = 0;
	nftw(dir, lab_add_size, 16, FTW_PHYS);
	return lab_du_sum;
}

/* A walk is no snapshot: what moves meanwhile may be counted twice.  What is too
 * much stays too much. */
static inline bool lab_fits(const char *dir, uint64_t size)
{
	for (unsigned i = 0; i < 5; i++) {
		if (lab_du(dir) <= size)
			return true;
		usleep(20000);
	}
	return false;
}

static inline void lab_path(const char *dir, unsigned object, char out[256])
{
	char hex[33];
	uint8_t id[16];

	lab_id(object, id);
	vf_hex(id, 16, hex);
	snprintf(out, 256, "%s/data/%.2s/%s", dir, hex, hex);
}

/* On the disk, behind the tier's back. */
static inline void lab_flip(const char *path, uint64_t at)
{
	VF_AUTO_FD int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	CU_ASSERT_EQUAL(pread(fd, &byte, 1, (off_t)at), 1);
	byte ^= 1;
	CU_ASSERT_EQUAL(pwrite(fd, &byte, 1, (off_t)at), 1);
	CU_ASSERT_EQUAL(fsync(fd), 0);
}

#endif
