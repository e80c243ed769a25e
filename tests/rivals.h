/*
 * Writers at once upon one index, and what each of them was told: written by
 * rivals.c, compared with the log and a plain model by rivals_check.c.
 */
#ifndef VF_TESTS_RIVALS_H
#define VF_TESTS_RIVALS_H

#include "store/change.h"
#include "store/util.h"

#include <stdatomic.h>

enum {
	RIVALS_DIM = 2,
	RIVALS_KEYS = 32,
	RIVALS_AT_ONCE = 5, /* keys of one deed */
	RIVALS_MAX = 8,	    /* writers */
	RIVALS_EACH = 64,   /* deeds of one */
	RIVALS_MARK = 'd',  /* a key no row has, and the id of a delete */
};

enum rivals_told {
	RIVALS_NOT_BEGUN,
	RIVALS_BEGUN, /* and killed: unknown */
	RIVALS_ACKED,
	RIVALS_NOTHING, /* none of the keys to be deleted was there */
	RIVALS_REFUSED, /* a condition did not hold */
	RIVALS_FAILED,	/* surely not written */
	RIVALS_UNKNOWN,
	RIVALS_N_TOLD,
};

struct rivals_deed {
	/* Chosen. */
	uint32_t id; /* 1.., of all deeds: what upserted rows hold */
	bool is_delete, if_absent, at_version;
	uint8_t n_keys, keys[RIVALS_AT_ONCE];
	uint64_t version;
	/* What came of it. */
	enum rivals_told told;
	int err;
	uint64_t floor; /* a commit that somebody was told of before it began */
	uint64_t head;	/* the commit, or where it was refused */
	uint64_t killed; /* rows replaced or deleted */
	uint64_t landed; /* its record; 0: none.  Set by the check */
};

/* Shared by processes. */
struct rivals_journal {
	_Atomic uint64_t acked; /* the highest commit somebody was told of */
	unsigned n_writers, n_each;
	struct rivals_deed deeds[RIVALS_MAX][RIVALS_EACH];
};

/*
 * Does the index hold what the writers were told?  All of them have ended.
 * Returns how many things are wrong, each of them said on stderr.
 */
unsigned rivals_check(struct vf_bucket *b, const char *index,
		      const char *cache_dir, struct rivals_journal *j);

#endif
