/*
 * The log of an index: numbered immutable records.  Creating record N+1, only
 * if absent, is the commit.  Pure: encode and parse, no I/O.
 *
 * A record, little-endian:
 *
 *   off  len
 *     0    8  magic "VFRECORD"
 *     8    4  format version, 1
 *    12    4  flags, 0
 *    16    8  length of the whole record
 *    24   16  UUID of the index
 *    40    8  number
 *    48   16  nonce, random
 *    64    8  checksum of the record before it (0 for the first)
 *    72    8  length of the JSON part
 *    80    8  length of the binary part (inline rows, bitmaps of kills)
 *    88    8  reserved, 0
 *    96       JSON: {"writer", "time", "operations": [{"op": ...}, ...]}
 *             binary part: what operations carry, in their order
 *   end    8  XXH3-64 of everything before it
 *
 * Operations and their members, unknown members are refused (-ENOTSUP), as
 * are unknown operations: an old program must not guess.  Those with "bytes"
 * own so many of the binary part:
 *
 *   upsert  rows as they would be in vectors.npy, u32 length of each line, the
 *           lines as they would be in records.jsonl; at most one of a record
 *   delete  u32 length and bytes of each key: for people and for writers that
 *           follow; what dies is said by kills
 *   kill    rows of one place: u32 numbers, ascending ("list"), or a bitmap
 *           without zero bytes at its end ("bits")
 *
 * "collect" says below which version nothing is kept: no later record adds a
 * shard, sets a tree or names an embedder, whose name's head is below it.  Only a record that
 * begins with "restore", of a version that is kept, may bring such a one back.
 */
#ifndef VF_STORE_LOG_H
#define VF_STORE_LOG_H

#include "store/util.h"

enum {
	VF_RECORD_HEADER_LEN = 96,
	VF_RECORD_MAX = 16 << 20,	 /* bytes of one record */
	VF_SHARD_NAME_LEN = 20 + 1 + 32, /* <head>-<nonce>: %020u-%032x */
	VF_EMBEDDER_MAX = 128,
	VF_OBJECT_NAME_MAX = 63,
	VF_NON_FILTERABLE_MAX = 10, /* keys of metadata */
	VF_NON_FILTERABLE_LEN = 63, /* bytes of one */
};

enum vf_op_kind {
	VF_OP_CONFIGURE = 1,
	VF_OP_ADD_SHARD,
	VF_OP_SET_TREE,
	VF_OP_UPSERT,
	VF_OP_DELETE,
	VF_OP_KILL,
	VF_OP_REMOVE_SHARD,
	VF_OP_COLLECT,
	VF_OP_DROP,
	VF_OP_RESTORE,
};

/* One stored object: its name in its folder, sizes, checksum. */
struct vf_object_ref {
	char name[VF_OBJECT_NAME_MAX + 1]; /* as stored: "records.jsonl.zst" */
	uint64_t stored_len;
	uint64_t len;	   /* decompressed; equals stored_len when plain */
	uint64_t checksum; /* XXH3-64 of the stored bytes */
	bool zstd;	   /* seekable zstd, name ends in ".zst" */
};

/* Fixed for the life of the index; written by its first record. */
struct vf_index_config {
	uint32_t dim;
	enum vf_metric metric;
	enum vf_dtype dtype; /* of vectors.npy: VF_F32 or VF_F16 */
	uint64_t rotation_seed;
	char embedder[VF_EMBEDDER_MAX];	    /* "hash:1024", or "" */
	struct vf_object_ref embedder_data; /* in embed/; name "" when none */
	/* Keys of metadata that filters may not name. */
	uint32_t n_non_filterable;
	char non_filterable[VF_NON_FILTERABLE_MAX][VF_NON_FILTERABLE_LEN + 1];
};

struct vf_shard_ref {
	char name[VF_SHARD_NAME_LEN + 1];
	uint64_t n_rows;
	struct vf_object_ref vectors, records, codes;
	uint64_t next_key; /* automatic keys go on from here; 0: untouched */
};

struct vf_tree_ref {
	struct vf_object_ref object; /* in tree/ */
	uint64_t n_leaves;
};

/* Rows inline.  Views; of a parsed record into the bytes parsed. */
struct vf_upsert {
	uint64_t n_rows;
	uint64_t row_len;	  /* bytes */
	uint64_t next_key;	  /* as of a shard */
	const uint8_t *vectors;	  /* [n_rows][row_len] */
	const uint8_t *line_lens; /* [n_rows] u32, little-endian */
	const char *lines;
	size_t lines_len;
};

struct vf_delete {
	uint64_t n_keys;
	const uint8_t *keys; /* view: u32 length and bytes of each */
	size_t len;
};

/* Rows of one place, shard or record, that die. */
struct vf_kill {
	char shard[VF_SHARD_NAME_LEN + 1]; /* "": the place is @record */
	uint64_t record;
	uint64_t n_rows;     /* at least 1 */
	bool bits;	     /* else a list */
	const uint8_t *rows; /* view */
	size_t len;
};

struct vf_op {
	enum vf_op_kind kind;
	union {
		struct vf_index_config configure;
		struct vf_shard_ref add_shard;
		struct vf_tree_ref set_tree;
		struct vf_upsert upsert;
		struct vf_delete delete;
		struct vf_kill kill;
		char remove_shard[VF_SHARD_NAME_LEN + 1];
		uint64_t collect_below;
		uint64_t restore; /* the version */
	};
};

struct vf_record {
	uint8_t uuid[16];
	uint64_t number;
	uint8_t nonce[16];
	uint64_t previous; /* checksum of record number - 1 */
	char writer[64];   /* for people only */
	int64_t time_s;	   /* since 1970, for people only */
	struct vf_op *ops; /* owned after parse */
	size_t n_ops;
};

/* Append the record to @out.  Returns 0; -EFBIG over VF_RECORD_MAX; -ENOMEM. */
int vf_record_encode(const struct vf_record *r, struct vf_buf *out);

/*
 * Parse and check everything, names against their pattern included.
 * Returns 0; -EBADMSG; -ENOTSUP newer format or unknown operation; -ENOMEM;
 * @out_reason is a constant.  Release with vf_record_fini; operations hold
 * views into @p.
 */
int vf_record_parse(const void *p, size_t len, struct vf_record *out,
		    const char **out_reason);
void vf_record_fini(struct vf_record *r);

/*
 * Set the rows of @k to the @n (>= 1) ascending numbers, in the shorter form;
 * their bytes are appended to @store, which has to stay, and not to grow, while
 * @k is used.  Returns 0; -ENOMEM.
 */
int vf_kill_pack(const uint32_t *rows, size_t n, struct vf_kill *k,
		 struct vf_buf *store);
/*
 * The rows of a parsed or packed @k one after the other: *cursor begins at 0.
 * False when there are no more.
 */
bool vf_kill_next(const struct vf_kill *k, uint64_t *cursor, uint32_t *out_row);

/* The same for keys; *out_key is a view. */
bool vf_delete_next(const struct vf_delete *d, size_t *cursor,
		    const char **out_key, size_t *out_len);

/* The head at which the upload of shard @name began. */
uint64_t vf_shard_head(const char *name);
/* The same of a tree or an embedder; UINT64_MAX when its name does not say. */
uint64_t vf_object_head(const char *name);

/* The checksum at the end of an encoded record (len >= header + 8). */
uint64_t vf_record_checksum(const void *p, size_t len);

/* ---- names ------------------------------------------------------------------ */

/* "[a-z0-9][a-z0-9._-]*", at most VF_INDEX_NAME_MAX, not "log" or "_vecfs"... */
bool vf_index_name_ok(const char *name);
bool vf_shard_name_ok(const char *name);
bool vf_object_name_ok(const char *name);

/* ---- the identity object _vecfs/indexes/NAME ---------------------------------- */

/* One JSON line: {"format":1,"uuid":"...","checksum":"..."}. */
int vf_identity_encode(const uint8_t uuid[16], struct vf_buf *out);
/* Returns 0; -EBADMSG; -ENOTSUP a newer format. */
int vf_identity_parse(const void *p, size_t len, uint8_t out_uuid[16]);

#endif
