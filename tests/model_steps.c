/*
 * What writers, the compactor, gc and a reader do, a request at a time, and
 * what must hold between.  model_commit.c says what it means.
 */
#include "tests/model.h"

#include <string.h>

enum mutation model_mutation;
const char *model_fault;

struct fold {
	uint8_t head, last, live, shards, oldest;
};

/* ---- folding ------------------------------------------------------------------ */

static bool fold_record(const struct model *m, struct fold *f, uint8_t id)
{
	const struct record *r = &m->records[id];

	if (r->prev != f->last)
		return false;
	if (r->kind != COLLECT && r->kill != f->live)
		return false;
	if ((r->kind == PUT_SHARD || r->kind == COMPACT) &&
	    model_mutation != NO_HEAD_CHECK &&
	    m->shard_head[r->arg] < f->oldest)
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
			model_fault = "a void record is believed";
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
bool model_create(struct model *m, uint8_t number, uint8_t id)
{
	struct fold f;

	if (m->log[number])
		return false;
	m->log[number] = id;
	if (number <= m->n_truth)
		return true; /* void: it means nothing */
	f = fold_truth(m, m->n_truth);
	if (number != m->n_truth + 1 || !fold_record(m, &f, id))
		model_fault =
			"a record does not follow: a row is killed twice, or "
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
void model_check(const struct model *m)
{
	uint8_t from = highest(m->boundaries);
	struct fold f = fold_truth(m, highest(m->checkpoints));

	if (!load(m, &f) || f.head != m->n_truth)
		model_fault = model_fault ? model_fault
					  : "the newest version does not load";
	for (uint8_t n = from ? from : 1; n <= m->n_truth; n++)
		if (fold_truth(m, n).shards & ~m->shards)
			model_fault =
				"a shard of a version that is kept is gone";
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
	if (model_mutation == NOT_RESOLVED && w->rounds)
		kill = m->records[w->record].kill;
	if (w->kind != PUT_INLINE && w->rounds && m->shard_head[i] < f.oldest &&
	    model_mutation != NO_HEAD_CHECK) {
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
		model_fault = "what was refused is committed";
}

/* Somebody else's record came first. */
static void rebase(struct model *m, uint8_t i)
{
	struct writer *w = &m->writers[i];
	struct fold f = fold_truth(m, w->head);

	if (!load(m, &f)) {
		model_fault =
			model_fault ? model_fault : "a sound log does not load";
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
	if (w->trusts || model_mutation == WRITERS_BLIND)
		return;
	w->trusts = 1;
	if (w->number < highest(m->boundaries))
		rebase(m, i);
}

static void acknowledge(struct model *m, struct writer *w)
{
	w->step = ACKED;
	if (!is_true(m, w->record))
		model_fault = "what was acknowledged is not in the log";
}

static void confirm(struct model *m, struct writer *w)
{
	bool blind = model_mutation == WRITERS_BLIND ||
		     model_mutation == BELIEVE_200;

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
	if (model_mutation == NEW_BYTES)
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
	bool created = model_create(m, w->number, w->record);
	if (way == 1)
		no_answer(m, i);
	else if (created)
		w->step = CONFIRM;
	else if (model_mutation == NONCE_IGNORED)
		rebase(m, i);
	else
		w->step = UNSURE;
	return true;
}

bool model_step_writer(struct model *m, uint8_t i, unsigned way)
{
	struct writer *w = &m->writers[i];

	if (way == 4) { /* the request nobody waits for lands */
		if (!w->zombie)
			return false;
		model_create(m, w->zombie_number, w->zombie);
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
	model_create(m, (uint8_t)(f.head + 1), id);
	m->gc_step = BOUNDARY;
}

static void gc_wait(struct model *m)
{
	for (int i = 0; i < ACTORS && model_mutation != NO_WAIT; i++) {
		struct writer *w = &m->writers[i];
		w->trusts = 0;
		w->zombie = w->zombie_number = 0;
		if (w->step == SENT) /* expired; its writer has no answer */
			w->step = UNSURE;
	}
	if (model_mutation != NO_WAIT)
		m->rd_trusts = 0;
	m->gc_step = KEEP;
}

/* Delete the @way-th of what is to go; false: there are not so many. */
static bool gc_sweep(struct model *m, unsigned way)
{
	uint8_t end =
		(uint8_t)(m->gc_below + (model_mutation == RECORD_B_DELETED));

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

bool model_step_gc(struct model *m, unsigned way)
{
	if (m->gc_step == CHOOSE)
		return gc_choose(m, way);
	if (m->gc_step == SWEEP)
		return gc_sweep(m, way);
	if (way)
		return false;
	switch (m->gc_step) {
	case CHECKPOINT:
		if (model_mutation != NO_CHECKPOINT)
			m->checkpoints |= (uint8_t)(1 << m->gc_below);
		if (model_mutation == KEPT_TOO_EARLY)
			m->gc_kept = list_kept(m);
		if (model_mutation == BOUNDARY_FIRST) /* and all it allows */
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
		if (model_mutation != KEPT_TOO_EARLY)
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
		model_fault = "a sound log looks damaged to a reader";
	m->rd_step = COLD;
}

/* What it has at the end is what it believes. */
static void end_of_reading(struct model *m)
{
	m->rd_step = READ;
	if (!m->rd_trusts && model_mutation != OLD_LIST &&
	    m->rd_head < highest(m->boundaries))
		m->rd_step = COLD;
	else if (m->rd_void)
		model_fault = "a void record is believed";
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

bool model_step_reader(struct model *m)
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
