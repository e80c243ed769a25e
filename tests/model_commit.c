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
#include "tests/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static bool verbose, is_short;

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
	printf("  %s:", model_fault);
	for (unsigned i = 0; i < depth; i++)
		printf(" %c%u", "abcgr"[trace[i][0]], trace[i][1]);
	puts("");
}

static bool step(struct model *m, unsigned actor, unsigned way)
{
	if (actor < ACTORS)
		return model_step_writer(m, (uint8_t)actor, way);
	if (actor == ACTORS)
		return model_step_gc(m, way);
	return !way && model_step_reader(m);
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
			bool fresh = !model_fault && is_new(&next);
			if (fresh)
				model_check(&next);
			if (model_fault) {
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
	model_create(&m, 1, 1);
	for (int i = 0; i < ACTORS; i++) {
		m.writers[i].kind = (uint8_t)s->kinds[i];
		m.writers[i].step = s->kinds[i] ? BEGIN : OFF;
	}
	m.gc_runs = s->gc_runs;
	m.rd_loads = s->loads;
	model_fault = NULL;
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

	model_mutation = which;
	for (size_t i = 0; !found && i < (is_short ? 2 : n); i++) {
		n_states = 0;
		if (!run_scenario(&scenarios[i]))
			found = model_fault;
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
