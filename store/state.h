/*
 * What an index is after record @head: what records 1..head say, folded.  Pure.
 *
 * A state is immutable once others see it; a copy shares bitmaps and inline
 * rows with what it was copied from.
 */
#ifndef VF_STORE_STATE_H
#define VF_STORE_STATE_H

#include "store/log.h"

/* Which rows of a place died; shared, copied when a shared one changes. */
struct vf_dead {
	unsigned refs; /* [atomic] */
	uint64_t n_rows, n_dead;
	uint64_t bits[]; /* [n_rows / 64, rounded up] */
};

/* The rows a record carries; shared between states, never changed. */
struct vf_inline {
	unsigned refs; /* [atomic] */
	uint64_t n_rows;
	uint64_t row_len;	/* bytes */
	uint64_t next_key;	/* not 0: all keys are automatic */
	const uint8_t *vectors; /* [n_rows][row_len] */
	const char *lines;
	const uint32_t *line_offs; /* [n_rows + 1] into lines */
};

/* A record some of whose rows live and are in no shard. */
struct vf_tail {
	uint64_t record, checksum; /* its number, and of its bytes */
	struct vf_inline *rows;
	struct vf_dead *dead; /* NULL: every row lives */
};

struct vf_state {
	char name[VF_INDEX_NAME_MAX + 1];
	uint8_t uuid[16];
	uint64_t head;		/* 0: no record yet */
	uint64_t head_checksum; /* of record @head */
	bool configured;
	bool dropped; /* and not configured again since */
	struct vf_index_config config;
	uint64_t next_key;   /* the next automatic key */
	uint64_t n_rows;     /* that live, tail included */
	uint64_t oldest;     /* versions below are collected */
	uint64_t checkpoint; /* the newest one known of; 0: none */
	/*
	 * When head was surely the end of a log that nobody had collected: on
	 * CLOCK_BOOTTIME, so that a machine asleep counts; 0: never.
	 */
	uint64_t checked_ms;
	size_t n_shards;
	struct vf_shard_ref *shards; /* owned, in the order of the log */
	struct vf_dead **dead;	     /* [n_shards]; NULL: every row lives */
	size_t n_tail;
	struct vf_tail *tail; /* in the order of the log */
	uint64_t restored;    /* the last record that brought a version back */
	bool has_tree;
	struct vf_tree_ref tree;
};

/* No record yet.  Returns NULL without memory. */
struct vf_state *vf_state_new(const char *name, const uint8_t uuid[16]);
VF_API void vf_state_free(struct vf_state *s); /* accepts NULL */
/* Shares what is large.  Returns NULL without memory.  Threads: any. */
struct vf_state *vf_state_copy(const struct vf_state *s);

/*
 * Fold the encoded record (@r as parsed from its bytes, @checksum of them) into
 * @s, which nobody else sees.  Returns NULL, or why it cannot follow, a
 * constant; @s is then good for nothing but free.
 */
const char *vf_state_apply(struct vf_state *s, const struct vf_record *r,
			   uint64_t checksum);

/* Another reference (accepts NULL), and its end.  Threads: any. */
VF_API struct vf_dead *vf_dead_get(struct vf_dead *d);
VF_API void vf_dead_put(struct vf_dead *d);

/* Whether row @row (< n_rows of the place) died. */
static inline bool vf_dead_has(const struct vf_dead *d, uint64_t row)
{
	return d && d->bits[row / 64] >> row % 64 & 1;
}

static inline uint64_t vf_dead_count(const struct vf_dead *d)
{
	return d ? d->n_dead : 0;
}

/* Position of the live shard @name; SIZE_MAX when there is none. */
VF_API size_t vf_state_shard(const struct vf_state *s, const char *name);
/* Position in tail of @record; SIZE_MAX when none of its rows lives. */
VF_API size_t vf_state_tail(const struct vf_state *s, uint64_t record);

struct vf_state_counts {
	uint64_t shard_rows, shard_dead; /* of all shards */
	uint64_t tail_rows;		 /* that live */
	uint64_t tail_len;		 /* bytes held in memory */
};
VF_API void vf_state_count(const struct vf_state *s,
			   struct vf_state_counts *out);

#endif
