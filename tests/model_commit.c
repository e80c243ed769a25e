/*
 * The protocol of DESIGN.md, "Commit" and "Garbage", as a model: every
 * interleaving, within bounds, of writers, a compactor, gc and a reader over a
 * bucket of a few objects, with answers lost and requests that land late.
 *
 *   model_commit [-v] [-s]   explore; -v prints the steps to each fault; -s
 *                            is short: the protocol as it is, the small worlds
 *
 * There is one key.  A put writes its row into its record, or into a shard that
 * was uploaded before, and kills the row that lived; the compactor moves the
 * row into a shard.  Beside the bucket stands what no program can see, the
 * truth: the records that were created while their number was the next one.
 *
 *   acknowledged   an answer "committed" is about a record of the truth
 *   refused        an answer "refused" is about none
 *   one kill       each record of the truth kills exactly the row that lives
 *   no void record what a reader folds is a record of the truth
 *   whole          shards of every version from the boundary on are there, and
 *                  the newest version can be loaded, at every moment
 *
 * Time is in one step only, gc's wait: requests sent before it have expired
 * after it, and nobody trusts what he saw before it.  (A signature is valid for
 * 15 minutes, writers trust a state for 5, gc waits 16.)
 *
 * What this found wrong in the text, or left open by it:
 *
 *   - the text has readers alone look at boundary/.  A writer that sleeps
 *     before it sends finds its number free once the record there is collected:
 *     it is told 200 for a void record ("writers do not look").  So a writer
 *     whose state is old looks before it sends; and one that slept in between
 *     looks again before it believes the 200, and says UNKNOWN when the
 *     boundary has passed it: its record may have counted before it was
 *     collected ("the 200 is believed").
 *   - a LIST does not keep: a reader that sleeps after it may find, under a
 *     number it listed, the void record of such a writer.  It looks at
 *     boundary/ when its LIST is old by the time it has read all ("the reader
 *     believes an old LIST"; our own code did).
 *   - record B itself must outlive boundary B: by it a reader's LIST shows that
 *     it fell behind, so that a refresh need not look at boundary/.
 *   - what gc keeps has to be taken from the log after the collect is in it
 *     ("kept is listed before the collect").
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static const char *const mutation_names[] = {
	"the protocol",
	"the boundary is created before the collect",
	"shards older than the boundary may be added",
	"nobody waits before the deletes",
	"writers do not look at the boundary",
	"the 200 is believed after a sleep",
	"whose record is there is not asked",
	"kills are not resolved again",
	"after no answer the next number is tried",
	"the boundary has no checkpoint",
	"the reader believes an old LIST",
	"what is kept is listed before the collect",
	"the record of the boundary is deleted too",
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

struct fold {
	uint8_t head, last, live, shards, oldest;
};

static enum mutation mutation;
static bool verbose, is_short;
static const char *fault;

/* ---- folding ------------------------------------------------------------------ */

static bool fold_record(const struct model *m, struct fold *f, uint8_t id)
{
	const struct record *r = &m->records[id];

	if (r->prev != f->last)
		return false;
	if (r->kind != COLLECT && r->kill != f->live)
		return false;
	if ((r->kind == PUT_SHARD || r->kind == COMPACT) &&
	    mutation != NO_HEAD_CHECK && m->shard_head[r->arg] < f->oldest)
		return false;
	f->head++;
	f->last = id;
	if (r->kind == PUT_INLINE)
		f->live = f->head;
	if (r->kind == PUT_SHARD || r->kind == COMPACT) {
		f->live = (uint8_t)(8 + r->arg);
		f->shards |= (uint8_t)(1 << r->arg);
	}
	if (r->kind == COLLECT && r->arg > f->oldest)
		f->oldest = r->arg;
	/* A shard without a living row leaves with the next record. */
	if (f->live < 8)
		f->shards = 0;
	else
		f->shards &= (uint8_t)(1 << (f->live - 8));
	return true;
}

/* The truth up to @head: a checkpoint says just this. */
static struct fold fold_truth(const struct model *m, uint8_t head)
{
	struct fold f = {0};

	while (f.head < head && fold_record(m, &f, m->truth[f.head + 1]))
		;
	return f;
}

static uint8_t highest(uint8_t bits)
{
	uint8_t n = 0;

	for (uint8_t i = 1; i <= LAST; i++)
		if (bits >> i & 1)
			n = i;
	return n;
}

static uint8_t end_of_log(const struct model *m)
{
	uint8_t n = 0;

	for (uint8_t i = 1; i <= LAST; i++)
		if (m->log[i])
			n = i;
	return n;
}

/* From @f to the end of the log, or again from a checkpoint.  False: damage. */
static bool load(const struct model *m, struct fold *f)
{
	for (int i = 0; i < 2; i++) {
		uint8_t end = end_of_log(m);
		while (f->head < end && m->log[f->head + 1] &&
		       fold_record(m, f, m->log[f->head + 1]))
			;
		if (f->head >= end && f->last != m->truth[f->head])
			fault = "a void record is believed";
		if (f->head >= end)
			return true;
		if (highest(m->boundaries) <= f->head)
			return false;
		*f = fold_truth(m, highest(m->checkpoints));
	}
	return false;
}

/* ---- the bucket ------------------------------------------------------------------ */

/* Create a record if it is absent; the truth grows when it is the next one. */
static bool create(struct model *m, uint8_t number, uint8_t id)
{
	struct fold f;

	if (m->log[number])
		return false;
	m->log[number] = id;
	if (number <= m->n_truth)
		return true; /* void: it means nothing */
	f = fold_truth(m, m->n_truth);
	if (number != m->n_truth + 1 || !fold_record(m, &f, id))
		fault = "a record does not follow: a row is killed twice, or "
			"never";
	m->truth[++m->n_truth] = id;
	return true;
}

static bool is_true(const struct model *m, uint8_t id)
{
	for (uint8_t n = 1; n <= m->n_truth; n++)
		if (m->truth[n] == id)
			return true;
	return false;
}

/* What must hold of every state. */
static void check(const struct model *m)
{
	uint8_t from = highest(m->boundaries);
	struct fold f = fold_truth(m, highest(m->checkpoints));

	if (!load(m, &f) || f.head != m->n_truth)
		fault = fault ? fault : "the newest version does not load";
	for (uint8_t n = from ? from : 1; n <= m->n_truth; n++)
		if (fold_truth(m, n).shards & ~m->shards)
			fault = "a shard of a version that is kept is gone";
}

/* ---- writers ----------------------------------------------------------------------- */

/* A record on top of what the writer saw; false: it has nothing to do. */
static bool resolve(struct model *m, uint8_t i)
{
	struct writer *w = &m->writers[i];
	struct fold f = fold_truth(m, w->head);
	uint8_t kill = f.live;

	if (m->n_records + 1 == RECORDS || w->head == LAST)
		return false;
	if (w->kind == COMPACT && w->rounds && f.live != w->input)
		return false; /* what it moved was written again */
	if (mutation == NOT_RESOLVED && w->rounds)
		kill = m->records[w->record].kill;
	if (w->kind != PUT_INLINE && w->rounds && m->shard_head[i] < f.oldest &&
	    mutation != NO_HEAD_CHECK) {
		m->shard_head[i] = w->head; /* uploaded again */
		m->shards |= (uint8_t)(1 << i);
	}
	w->record = ++m->n_records;
	m->records[w->record] = (struct record){w->kind, f.last, kill, i};
	w->number = (uint8_t)(w->head + 1);
	w->tries = 0;
	w->step = LOOK;
	return true;
}

static void refuse(struct model *m, struct writer *w)
{
	w->step = REFUSED;
	if (w->record && is_true(m, w->record))
		fault = "what was refused is committed";
}

/* Somebody else's record came first. */
static void rebase(struct model *m, uint8_t i)
{
	struct writer *w = &m->writers[i];
	struct fold f = fold_truth(m, w->head);

	if (!load(m, &f)) {
		fault = fault ? fault : "a sound log does not load";
		return;
	}
	/* Its own record, after all: it would be a second put. */
	w->head = f.head;
	w->trusts = 1;
	if (is_true(m, w->record) || ++w->rounds > 2 || !resolve(m, i))
		refuse(m, w);
}

static void begin(struct model *m, uint8_t i)
{
	struct writer *w = &m->writers[i];
	struct fold f = {0};

	load(m, &f);
	w->head = f.head;
	w->trusts = 1;
	w->input = f.live;
	if (w->kind != PUT_INLINE) {
		m->shard_head[i] = w->head;
		m->shards |= (uint8_t)(1 << i);
	}
	if (!resolve(m, i))
		w->step = OFF;
}

/* Before sending, when what it saw is old. */
static void look(struct model *m, uint8_t i)
{
	struct writer *w = &m->writers[i];

	w->step = SEND;
	if (w->trusts || mutation == WRITERS_BLIND)
		return;
	w->trusts = 1;
	if (w->number < highest(m->boundaries))
		rebase(m, i);
}

static void acknowledge(struct model *m, struct writer *w)
{
	w->step = ACKED;
	if (!is_true(m, w->record))
		fault = "what was acknowledged is not in the log";
}

static void confirm(struct model *m, struct writer *w)
{
	bool blind = mutation == WRITERS_BLIND || mutation == BELIEVE_200;

	if (w->trusts || blind || w->number >= highest(m->boundaries))
		acknowledge(m, w);
	else
		w->step = UNKNOWN;
}

static void read_back(struct model *m, uint8_t i)
{
	struct writer *w = &m->writers[i];
	uint8_t there = m->log[w->number];

	if (there == w->record) {
		w->step = CONFIRM;
	} else if (there) {
		rebase(m, i);
	} else if (w->tries) {
		w->step = UNKNOWN;
	} else {
		w->tries++;
		w->step = SENT; /* the same bytes to the same number */
	}
}

static void no_answer(struct model *m, uint8_t i)
{
	struct writer *w = &m->writers[i];

	w->step = UNSURE;
	if (mutation == NEW_BYTES)
		rebase(m, i);
}

/*
 * Step @way of a writer; false: there is no such step.  A request that was
 * sent is carried out and answered, or without an answer, is lost, or is on its
 * way for longer than anybody waits.
 */
static bool step_sent(struct model *m, uint8_t i, unsigned way)
{
	struct writer *w = &m->writers[i];

	if (way == 3) {
		if (w->zombie)
			return false;
		w->zombie = w->record;
		w->zombie_number = w->number;
	}
	if (way == 2 || way == 3) {
		no_answer(m, i);
		return true;
	}
	bool created = create(m, w->number, w->record);
	if (way == 1)
		no_answer(m, i);
	else if (created)
		w->step = CONFIRM;
	else if (mutation == NONCE_IGNORED)
		rebase(m, i);
	else
		w->step = UNSURE;
	return true;
}

static bool step_writer(struct model *m, uint8_t i, unsigned way)
{
	struct writer *w = &m->writers[i];

	if (way == 4) { /* the request nobody waits for lands */
		if (!w->zombie)
			return false;
		create(m, w->zombie_number, w->zombie);
		w->zombie = w->zombie_number = 0;
		return true;
	}
	if (w->step == SENT)
		return step_sent(m, i, way);
	if (way)
		return false;
	switch (w->step) {
	case BEGIN:
		begin(m, i);
		return true;
	case LOOK:
		look(m, i);
		return true;
	case SEND:
		w->step = SENT;
		return true;
	case UNSURE:
		read_back(m, i);
		return true;
	case CONFIRM:
		confirm(m, w);
		return true;
	default:
		return false;
	}
}

/* ---- gc --------------------------------------------------------------------------------- */

static uint8_t list_kept(const struct model *m)
{
	uint8_t kept = 0;

	for (uint8_t n = m->gc_below; n <= m->n_truth; n++)
		kept |= fold_truth(m, n).shards;
	return kept;
}

static void gc_commit(struct model *m)
{
	struct fold f = fold_truth(m, m->gc_head);

	if (!load(m, &f) || f.head == LAST || m->n_records + 1 == RECORDS) {
		m->gc_step = OVER;
		return;
	}
	uint8_t id = ++m->n_records;
	m->records[id] = (struct record){COLLECT, f.last, 0, m->gc_below};
	create(m, (uint8_t)(f.head + 1), id);
	m->gc_step = BOUNDARY;
}

static void gc_wait(struct model *m)
{
	for (int i = 0; i < ACTORS && mutation != NO_WAIT; i++) {
		struct writer *w = &m->writers[i];
		w->trusts = 0;
		w->zombie = w->zombie_number = 0;
		if (w->step == SENT) /* expired; its writer has no answer */
			w->step = UNSURE;
	}
	if (mutation != NO_WAIT)
		m->rd_trusts = 0;
	m->gc_step = KEEP;
}

/* Delete the @way-th of what is to go; false: there are not so many. */
static bool gc_sweep(struct model *m, unsigned way)
{
	uint8_t end = (uint8_t)(m->gc_below + (mutation == RECORD_B_DELETED));

	for (uint8_t n = 1; n < end; n++)
		if (m->log[n] && !way--) {
			m->log[n] = 0;
			return true;
		}
	for (uint8_t s = 0; s < ACTORS; s++)
		if (m->shards >> s & 1 && !(m->gc_kept >> s & 1) &&
		    m->shard_head[s] < m->gc_below && !way--) {
			m->shards &= (uint8_t) ~(1 << s);
			return true;
		}
	if (way)
		return false;
	m->gc_step = m->gc_runs > 1 ? CHOOSE : OVER;
	m->gc_runs--;
	return true;
}

static bool gc_choose(struct model *m, unsigned way)
{
	struct fold f = {0};

	if (way > 1 || !m->gc_runs || !load(m, &f) ||
	    f.head - way <= f.oldest || f.head < 1 + way)
		return false;
	m->gc_head = f.head;
	m->gc_below = (uint8_t)(f.head - way);
	m->gc_step = CHECKPOINT;
	return true;
}

static bool step_gc(struct model *m, unsigned way)
{
	if (m->gc_step == CHOOSE)
		return gc_choose(m, way);
	if (m->gc_step == SWEEP)
		return gc_sweep(m, way);
	if (way)
		return false;
	switch (m->gc_step) {
	case CHECKPOINT:
		if (mutation != NO_CHECKPOINT)
			m->checkpoints |= (uint8_t)(1 << m->gc_below);
		if (mutation == KEPT_TOO_EARLY)
			m->gc_kept = list_kept(m);
		if (mutation == BOUNDARY_FIRST) /* and all it allows */
			m->gc_step = BOUNDARY;
		else
			m->gc_step = COMMIT;
		return true;
	case COMMIT:
		gc_commit(m);
		return true;
	case BOUNDARY:
		m->boundaries |= (uint8_t)(1 << m->gc_below);
		m->gc_step = WAIT;
		return true;
	case WAIT:
		gc_wait(m);
		return true;
	case KEEP:
		if (mutation != KEPT_TOO_EARLY)
			m->gc_kept = list_kept(m);
		m->gc_step = SWEEP;
		return true;
	default:
		return false;
	}
}

/* ---- the reader ----------------------------------------------------------------------------- */

/* Behind the boundary it begins again; else the log would be damaged. */
static void fell_behind(struct model *m)
{
	if (highest(m->boundaries) <= m->rd_head)
		fault = "a sound log looks damaged to a reader";
	m->rd_step = COLD;
}

/* What it has at the end is what it believes. */
static void end_of_reading(struct model *m)
{
	m->rd_step = READ;
	if (!m->rd_trusts && mutation != OLD_LIST &&
	    m->rd_head < highest(m->boundaries))
		m->rd_step = COLD;
	else if (m->rd_void)
		fault = "a void record is believed";
}

static void reader_get(struct model *m)
{
	uint8_t id = m->log[m->rd_head + 1];

	if (!id || m->records[id].prev != m->rd_id) {
		fell_behind(m);
		return;
	}
	m->rd_head++;
	m->rd_id = id;
	m->rd_void |= id != m->truth[m->rd_head];
	if (m->rd_head == m->rd_last)
		end_of_reading(m);
}

static bool step_reader(struct model *m)
{
	switch (m->rd_step) {
	case COLD:
		if (!m->rd_loads)
			return false;
		m->rd_loads--;
		m->rd_head = highest(m->checkpoints);
		m->rd_id = m->truth[m->rd_head];
		m->rd_void = false;
		m->rd_step = LIST;
		return true;
	case LIST:
		m->rd_last = end_of_log(m);
		m->rd_trusts = 1;
		m->rd_step = m->rd_last > m->rd_head ? GET : READ;
		return true;
	case GET:
		reader_get(m);
		return true;
	default: /* a refresh */
		if (!m->rd_loads)
			return false;
		m->rd_loads--;
		m->rd_step = LIST;
		return true;
	}
}

/* ---- exploring -------------------------------------------------------------------------------- */

static uint64_t *seen; /* [TABLE] hashes; 0: free */
static uint64_t n_states;
static uint8_t trace[DEPTH][2]; /* who, and which way */

static uint64_t hash_model(const struct model *m)
{
	const uint8_t *p = (const uint8_t *)m;
	uint64_t h = 0x9e3779b97f4a7c15;

	for (size_t i = 0; i < sizeof(*m); i += 8) {
		uint64_t v = 0;
		memcpy(&v, p + i, sizeof(*m) - i < 8 ? sizeof(*m) - i : 8);
		h = (h ^ v) * 0xff51afd7ed558ccd;
		h ^= h >> 32;
	}
	return h ? h : 1;
}

static bool is_new(const struct model *m)
{
	uint64_t h = hash_model(m);
	size_t at = h % TABLE;

	while (seen[at] && seen[at] != h)
		at = (at + 1) % TABLE;
	if (seen[at])
		return false;
	seen[at] = h;
	if (++n_states > TABLE / 10 * 9) {
		fprintf(stderr, "model_commit: too many states\n");
		exit(2);
	}
	return true;
}

static void print_trace(unsigned depth)
{
	printf("  %s:", fault);
	for (unsigned i = 0; i < depth; i++)
		printf(" %c%u", "abcgr"[trace[i][0]], trace[i][1]);
	puts("");
}

static bool step(struct model *m, unsigned actor, unsigned way)
{
	if (actor < ACTORS)
		return step_writer(m, (uint8_t)actor, way);
	if (actor == ACTORS)
		return step_gc(m, way);
	return !way && step_reader(m);
}

static bool explore(const struct model *m, unsigned depth)
{
	for (unsigned actor = 0; actor < ACTORS + 2; actor++)
		for (unsigned way = 0; way < LAST + ACTORS; way++) {
			struct model next = *m;
			if (!step(&next, actor, way))
				continue;
			if (depth == DEPTH)
				abort();
			trace[depth][0] = (uint8_t)actor;
			trace[depth][1] = (uint8_t)way;
			bool fresh = !fault && is_new(&next);
			if (fresh)
				check(&next);
			if (fault) {
				if (verbose)
					print_trace(depth + 1);
				return false;
			}
			if (fresh && !explore(&next, depth + 1))
				return false;
		}
	return true;
}

struct scenario {
	enum kind kinds[ACTORS];
	uint8_t gc_runs, loads;
};

/* A row is there, in record 1; everyone else comes. */
static bool run_scenario(const struct scenario *s)
{
	struct model m;

	memset(&m, 0, sizeof(m));
	memset(seen, 0, TABLE * sizeof(*seen));
	m.n_records = 1;
	m.records[1] = (struct record){.kind = PUT_INLINE};
	create(&m, 1, 1);
	for (int i = 0; i < ACTORS; i++) {
		m.writers[i].kind = (uint8_t)s->kinds[i];
		m.writers[i].step = s->kinds[i] ? BEGIN : OFF;
	}
	m.gc_runs = s->gc_runs;
	m.rd_loads = s->loads;
	fault = NULL;
	return explore(&m, 0);
}

static const struct scenario scenarios[] = {
	{{PUT_INLINE, PUT_INLINE}, 0, 0},
	{{PUT_INLINE}, 1, 3},
	{{PUT_INLINE}, 3, 2},
	{{PUT_SHARD}, 2, 2},
	{{PUT_INLINE, NONE, COMPACT}, 1, 0},
	{{PUT_SHARD, PUT_INLINE}, 1, 0},
	{{PUT_INLINE, PUT_SHARD, COMPACT}, 0, 0},
};

/* True: as it should be, which is a fault for every mutation. */
static bool run_mutation(enum mutation which)
{
	size_t n = sizeof(scenarios) / sizeof(*scenarios);
	const char *found = NULL;
	uint64_t all = 0;

	mutation = which;
	for (size_t i = 0; !found && i < (is_short ? 2 : n); i++) {
		n_states = 0;
		if (!run_scenario(&scenarios[i]))
			found = fault;
		all += n_states;
		if (verbose)
			fprintf(stderr, "%zu: %llu\n", i,
				(unsigned long long)n_states);
	}
	bool ok = !found == !which;
	printf("%s model: %s: %s%s (%llu states)\n", ok ? "ok" : "not ok",
	       mutation_names[which], which && found ? "caught: " : "",
	       found ? found : "no fault", (unsigned long long)all);
	return ok;
}

int main(int argc, char **argv)
{
	bool ok = true;

	for (int i = 1; i < argc; i++) {
		verbose |= !strcmp(argv[i], "-v");
		is_short |= !strcmp(argv[i], "-s");
	}
	seen = malloc(TABLE * sizeof(*seen));
	if (!seen)
		return 2;
	for (unsigned i = 0; i < (is_short ? 1 : N_MUTATIONS); i++)
		ok = run_mutation(i) && ok;
	free(seen);
	return ok ? 0 : 1;
}
