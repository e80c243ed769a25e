/*
 * What reading and changing the catalog share; private to the folder.
 *
 *   meta    "format": u32, "applied": struct applied_disk
 *   places  u32 id -> struct place_disk and a bitmap of the rows that died
 *   keys    XXH3-128 of the key -> CRC32C, then struct entry_disk and the key,
 *           once per key of this hash
 *   rows    u32 id, u32 row, both big-endian -> CRC32C, hash of the key,
 *           metadata
 *   values  postings of the metadata, store/postings_impl.h
 *
 * Each CRC32C continues over the key of its value.  A new place gets an id
 * above all others.  All changes are made under the flock; "applied" is zero
 * while they take more than one transaction.
 */
#ifndef VF_STORE_CATALOG_IMPL_H
#define VF_STORE_CATALOG_IMPL_H

#include "store/catalog.h"

#include <lmdb.h>

enum {
	VF_CATALOG_FORMAT = 2,	  /* 1 had no values */
	VF_CATALOG_NAME_LEN = 56, /* of a place, zeros behind it */
	VF_CATALOG_HASH_LEN = 16,
};

/* LMDB aligns values to two bytes. */
#define VF_PACKED __attribute__((packed))

struct applied_disk {
	uint32_t crc, zero;
	uint64_t number, checksum;
} VF_PACKED;
static_assert(sizeof(struct applied_disk) == 24, "on disk");

struct place_disk {
	uint32_t crc, n_rows;
	char name[VF_CATALOG_NAME_LEN]; /* shard, or "record:checksum" */
	uint8_t dead[];			/* [n_rows / 8, rounded up] */
} VF_PACKED;
static_assert(sizeof(struct place_disk) == 64, "on disk");

struct entry_disk {
	uint32_t place, row;
	uint32_t key_len; /* and so many bytes follow */
} VF_PACKED;
static_assert(sizeof(struct entry_disk) == 12, "on disk");

struct row_disk {
	uint32_t crc;
	uint8_t hash[VF_CATALOG_HASH_LEN];
	char metadata[];
} VF_PACKED;
static_assert(sizeof(struct row_disk) == 20, "on disk");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	      "a local cache, kept in the machine's order");

struct vf_catalog {
	char *dir;
	int lock_fd;
	MDB_env *env; /* NULL after a failed replace */
	MDB_dbi meta, places, keys, rows, values;
};

/*
 * The flock that whoever changes the catalog holds: while it is between two
 * commits, nobody else may.  Returns 0; -errno, logged.
 */
int vf_catalog_lock(struct vf_catalog *c);
/* Makes the file as long as LMDB believes it is; see open_env. */
void vf_catalog_unlock(struct vf_catalog *c);

/* Remove the files and begin anew, holding the lock.  0; -errno, not logged. */
int vf_catalog_replace(struct vf_catalog *c);

/* LMDB's codes to ours; -EUCLEAN for damage. */
int vf_catalog_errno(int rc);

void vf_catalog_hash(const void *key, size_t len,
		     uint8_t out[VF_CATALOG_HASH_LEN]);
/* CRC32C of @key and of @val behind its first four bytes. */
uint32_t vf_catalog_crc(const MDB_val *key, const void *val, size_t len);
/* Does the value carry the right one, and is it long enough? */
bool vf_catalog_sound(const MDB_val *key, const MDB_val *val, size_t min);

/* The commit the catalog is at; zeros when it is between two. */
int vf_catalog_applied(struct vf_catalog *c, MDB_txn *txn,
		       struct applied_disk *out);

/* How a place of the state is named here. */
void vf_catalog_shard_name(const struct vf_shard_ref *r,
			   char out[VF_CATALOG_NAME_LEN]);
void vf_catalog_tail_name(const struct vf_tail *t,
			  char out[VF_CATALOG_NAME_LEN]);

/* ---- changing it --------------------------------------------------------- */

/* A place of the state. */
struct vf_catalog_wanted {
	char name[VF_CATALOG_NAME_LEN];
	uint64_t n_rows;
	const struct vf_dead *dead;
	const struct vf_shard_ref *shard; /* or NULL and */
	const struct vf_inline *rows;
	bool there; /* in the catalog */
};

struct vf_catalog_work {
	struct vf_catalog *c;
	const struct vf_catalog_sync *s;
	MDB_txn *txn;
	struct vf_catalog_wanted *wanted;
	size_t n_wanted;
	uint32_t place; /* being read */
	uint64_t n_txn, n_done, n_total;
	struct vf_buf keys, scratch;
	struct vf_buf pending; /* keys that wait for a batch to be full */
	struct vf_postings *postings;
	const char *non_filterable[VF_NON_FILTERABLE_MAX];
};

/* The place as the state sees it, under @id.  Returns 0; -errno, not logged. */
int vf_catalog_put_place(struct vf_catalog_work *w, uint32_t id,
			 const struct vf_catalog_wanted *want);
/* All its living rows under the id w->place, which then moves on.  The same. */
int vf_catalog_read_place(struct vf_catalog_work *w,
			  const struct vf_catalog_wanted *want);

static inline void vf_catalog_row_key(uint32_t place, uint32_t row,
				      uint8_t out[8])
{
	place = htobe32(place);
	row = htobe32(row);
	memcpy(out, &place, 4);
	memcpy(out + 4, &row, 4);
}

#endif
