/*
 * The model of the commit protocol: what model_commit.c explores and
 * model_steps.c makes go on.
 */
#ifndef VF_TESTS_MODEL_H
#define VF_TESTS_MODEL_H

#include <stdbool.h>
#include <stdint.h>

enum {
	LAST = 7,	 /* numbers 1..LAST */
	RECORDS = 14,	 /* that anybody makes */
	ACTORS = 3,	 /* writers and the compactor */
	TABLE = 1 << 24, /* states */
	DEPTH = 400,
};

enum kind { NONE, PUT_INLINE, PUT_SHARD, COMPACT, COLLECT };

enum mutation {
	CORRECT,
	BOUNDARY_FIRST, /* created before the collect is in the log */
	NO_HEAD_CHECK,	/* a shard older than the boundary may be added */
	NO_WAIT,	/* deletes follow the boundary at once */
	WRITERS_BLIND,	/* they never look at boundary/ */
	BELIEVE_200,	/* no second look */
	NONCE_IGNORED,	/* "it is there" is taken for somebody else's */
	NOT_RESOLVED,	/* a rebased record kills what it killed before */
	NEW_BYTES,	/* sent to the next number after no answer */
	NO_CHECKPOINT,	/* before the boundary */
	OLD_LIST,	/* the reader believes one, however old */
	KEPT_TOO_EARLY, /* what gc keeps is listed before the collect */
	RECORD_B_DELETED,
	N_MUTATIONS,
};

/* ---- the state ------------------------------------------------------------- */

/* Steps of a writer. */
enum { BEGIN, LOOK, SEND, SENT, UNSURE, CONFIRM, ACKED, REFUSED, UNKNOWN, OFF };
/* Steps of gc, and of the reader. */
enum { CHOOSE, CHECKPOINT, COMMIT, BOUNDARY, WAIT, KEEP, SWEEP, OVER };
enum { COLD, LIST, GET, READ };

struct record {
	uint8_t kind, prev, kill, arg; /* arg: a shard, or collect below */
};

struct writer {
	uint8_t kind, step, head, record, number;
	uint8_t trusts, tries, rounds;
	uint8_t input; /* of the compactor: the place it copied */
	uint8_t zombie, zombie_number; /* a request that nobody waits for */
};

/* All bytes, so that it can be hashed; places: 1..LAST records, 8 + shard. */
struct model {
	uint8_t log[LAST + 1], truth[LAST + 1], n_truth;
	uint8_t checkpoints, boundaries, shards; /* bits; of those there */
	uint8_t shard_head[ACTORS];
	struct record records[RECORDS];
	uint8_t n_records;
	struct writer writers[ACTORS];
	uint8_t gc_step, gc_head, gc_below, gc_kept, gc_runs;
	uint8_t rd_step, rd_head, rd_last, rd_loads;
	uint8_t rd_id, rd_void, rd_trusts; /* read last; some was void */
};

/* What is wrong with the protocol, on purpose. */
extern enum mutation model_mutation;
/* What must never be and was, since it was NULL. */
extern const char *model_fault;

/*
 * Create record @number.  False: it is there already.
 */
bool model_create(struct model *m, uint8_t number, uint8_t id);
/* What must hold at every moment. */
void model_check(const struct model *m);
/* One step of writer @i, of gc, of the reader; @way: which of those it has.
 * False: there is none such. */
bool model_step_writer(struct model *m, uint8_t i, unsigned way);
bool model_step_gc(struct model *m, unsigned way);
bool model_step_reader(struct model *m);

#endif
