/*
 * Private to disk_index*.c.
 *
 * LMDB, one unnamed database; numbers in keys are big-endian, so that the
 * order of the keys is theirs:
 *
 *   'F' id               file      (values: disk_record.c)
 *   'G' id be32 number   group
 *   'U' be64 last_use id           order of last use; value: one byte
 *   'T'                  totals    0 magic  4 version  8 bytes  16 pinned
 *                                  24 unknown  32 generation  36 clean  40 crc
 *
 * The totals move in the transaction that moves the records they sum up.
 * LMDB has no checksums of its own: those of the values are ours, and the file
 * as a whole has a seal (disk_seal.h).
 */
#ifndef VF_STORE_DISK_INDEX_IMPL_H
#define VF_STORE_DISK_INDEX_IMPL_H

#include <lmdb.h>

#include "store/disk_index.h"

struct vf_disk_index {
	MDB_env *env;
	MDB_dbi dbi;
	MDB_txn *txn;			    /* between begin and commit */
	struct vf_disk_total total, before; /* before: of begin */
	unsigned n_commits;
	volatile uint8_t *mark; /* LMDB is at work: disk_seal.h */
	bool broken; /* its pages do not fit together: not to be opened again */
	bool recount; /* a damaged record was dropped: its share is not known */
	char path[4096], data[4096 + 16];
};

/* Numbers of LMDB end here. */
int vf_disk_index_fail(struct vf_disk_index *ix, int rc, const char *what);

/* From the begin of a transaction to its end. */
static inline void vf_disk_index_mark(struct vf_disk_index *ix, bool at_work)
{
	if (ix->mark)
		*ix->mark = at_work;
}

#endif
