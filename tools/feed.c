/*
 * Threads of a feed:
 *
 *   the caller  makes groups and puts them into the queue
 *   committer   takes from the queue, looks for keys, commits; all that changes
 *               the state happens here
 *   helpers     one folds the tail, one merges small shards: each is given a
 *               state, reads and uploads, and leaves its round for the committer
 *
 * A merge takes long and a fold must not wait for it, so they are two.  They
 * have no row in common: a fold takes only the tail, a merge only shards.
 *
 *   helper  IDLE -> GIVEN (committer) -> IDLE or READY (helper) -> IDLE (committer)
 *
 * The queue is a ring; [mtx] unless said otherwise.
 */
#include "tools/feed.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "index/index.h"
#include "query/shard_codes.h"
#include "store/change.h"
#include "store/thread.h"
#include "tools/compaction.h"
#include "tools/direct.h"
#include "tools/kept_tree.h"
#include "tools/keyset.h"
#include "tools/progress.h"
#include "tools/verb.h"

enum {
	QUEUE = 16,	       /* groups that wait */
	RECORD_LEN = 8 << 20,  /* bytes of groups that share a record */
	DIRECT_LEN = 16 << 20, /* that wait, and become a shard */
	SHARD_LEN = 32 << 20,  /* of that shard, at most */
	MERGE_LATE = 8,	       /* new shards, and no merge is put off more */
	/* Times what is a long tail: it is folded, and commits wait. */
	TAIL_FOLD = 2,
	TAIL_STOP = 4,
	QUIET_MS = 1000, /* without rows, and a long tail is folded, too */
	RETRY_NS = 1000000000, /* after a round that failed */
	IDLE_NICE = 19,
};
static const uint64_t helper_ram = 256 << 20;

enum status { IDLE, GIVEN, READY };

struct helper {
	struct vf_feed *feed;
	bool merges; /* else folds */
	bool started;
	pthread_t thread;
	enum status status;
	struct vf_state *from;	/* while it is GIVEN */
	struct vf_round *round; /* while it is READY */
	size_t n_seen;		/* shards of the last state given */
	uint64_t failed_ns;	/* 0: the last round did not fail */
};

struct vf_feed {
	struct vf_feed_options opt;
	pthread_mutex_t mtx;
	pthread_cond_t changed; /* anything below */
	pthread_t committer;
	bool started;
	struct vf_group queue[QUEUE];
	unsigned first, n;
	bool closing, abandon;
	bool rested; /* the last fold was given, if there is one */
	bool ended;  /* the committer */
	int err;
	int failed_fd; /* [fixed] */
	uint64_t unknown;
	struct helper fold, merge;
	struct vf_changer ch;	 /* the committer's alone */
	struct vf_direct direct; /* likewise */
	struct vf_tree_keeper keeper;
};

void vf_group_fini(struct vf_group *g)
{
	vf_buf_fini(&g->vectors);
	vf_buf_fini(&g->lines);
	vf_buf_fini(&g->line_lens);
	vf_buf_fini(&g->hashes);
	*g = (struct vf_group){0};
}

/* ---- the queue, holding the mutex ---------------------------------------------------------- */

static size_t group_len(const struct vf_group *g)
{
	return g->vectors.len + g->lines.len + g->line_lens.len;
}

static size_t queue_len(const struct vf_feed *f)
{
	size_t len = 0;

	for (unsigned i = 0; i < f->n; i++)
		len += group_len(&f->queue[(f->first + i) % QUEUE]);
	return len;
}

/*
 * Rows come faster than records are folded: as a shard they are written once
 * less.  Who commits now and then gets its small records.
 */
static bool takes_shard(const struct vf_feed *f)
{
	return !f->opt.if_absent && !f->opt.no_folds &&
	       queue_len(f) >= DIRECT_LEN;
}

/* ---- helpers ------------------------------------------------------------------------- */

static struct vf_round *make_round(struct helper *h,
				   const struct vf_state *from, int *out_err)
{
	const struct vf_feed_options *o = &h->feed->opt;
	struct vf_compact c = {.bucket = o->bucket,
			       .target = o->target,
			       .index = o->index,
			       .ram = o->ram ? o->ram : helper_ram,
			       .scratch = o->scratch,
			       .keeper = &h->feed->keeper,
			       .quiet = true,
			       .tail_only = !h->merges,
			       .shards_only = h->merges,
			       .n_threads = 1};
	struct vf_compacted done;
	struct vf_round *r;

	*out_err = vf_round_prepare(&c, from, &done, &r);
	return r;
}

static void *run_helper(void *arg)
{
	struct helper *h = arg;
	struct vf_feed *f = h->feed;

	/*
	 * Of this thread alone, on Linux, and of those it starts.  A fold is
	 * waited for when the tail grows faster than it goes.
	 */
	if (h->merges)
		setpriority(PRIO_PROCESS, (id_t)gettid(), IDLE_NICE);
	vf_progress_aside();
	pthread_mutex_lock(&f->mtx);
	while (!f->ended || h->status == GIVEN) {
		if (h->status != GIVEN) {
			pthread_cond_wait(&f->changed, &f->mtx);
			continue;
		}
		struct vf_state *from = VF_STEAL(h->from);
		int err = 0;
		pthread_mutex_unlock(&f->mtx);
		struct vf_round *r = make_round(h, from, &err);
		vf_state_free(from);
		pthread_mutex_lock(&f->mtx);
		h->round = r;
		h->status = r ? READY : IDLE;
		h->failed_ns = err ? vf_now_ns() : 0;
		pthread_cond_broadcast(&f->changed);
	}
	pthread_mutex_unlock(&f->mtx);
	return NULL;
}

/* Give @h the newest state. */
static void wake(struct vf_feed *f, struct helper *h)
{
	if (!h->started || h->status != IDLE ||
	    (h->failed_ns && vf_now_ns() - h->failed_ns < RETRY_NS))
		return;
	h->from = vf_state_copy(f->ch.state);
	if (!h->from)
		return;
	h->n_seen = f->ch.state->n_shards;
	h->status = GIVEN;
	pthread_cond_broadcast(&f->changed);
}

/*
 * After a commit, holding the mutex.  A fold costs the same few requests and
 * commit however short the tail is: while rows come it takes more of them.
 */
static void wake_helpers(struct vf_feed *f)
{
	if (f->closing)
		return;
	if (vf_tail_exceeds(f->ch.state, TAIL_FOLD))
		wake(f, &f->fold);
	/* A merge can wait, rows should not: it takes more shards then. */
	size_t n = f->ch.state->n_shards;
	bool late = n >= f->merge.n_seen + MERGE_LATE;
	if (n != f->merge.n_seen && (late || queue_len(f) < DIRECT_LEN))
		wake(f, &f->merge);
}

/* ---- committing what they made ---------------------------------------------------------- */

/*
 * What fails is said and left to another round: nothing of what was put depends
 * on it, and of an unknown outcome the next commit learns.
 */
static void commit_round(struct vf_feed *f, struct helper *h)
{
	struct vf_round *r = VF_STEAL(h->round);
	struct vf_compacted done;
	bool drop = f->abandon || f->err;

	h->status = IDLE;
	pthread_mutex_unlock(&f->mtx);
	int err = drop ? 0 : vf_round_commit(r, &f->ch.state, &done);
	vf_round_free(r);
	if (err && err != -ERESTART && err != -ECANCELED)
		vf_log(VF_WARN, "%s: its log stays long", f->opt.target);
	pthread_mutex_lock(&f->mtx);
	h->failed_ns = err ? vf_now_ns() : 0;
	pthread_cond_broadcast(&f->changed);
}

/* ---- committing groups ---------------------------------------------------------------------- */

/* Whether a key of @g is in @keys; else they are added.  Or -ENOMEM. */
static int add_keys(struct vf_keyset *keys, const struct vf_group *g)
{
	const uint64_t *hash = (const uint64_t *)g->hashes.data;
	uint64_t same;

	for (uint64_t i = 0; i < g->n_rows; i++)
		if (vf_keyset_find(keys, hash[i], &same))
			return 1;
	for (uint64_t i = 0; i < g->n_rows; i++)
		if (vf_keyset_add(keys, hash[i], i, &same))
			return -ENOMEM;
	return 0;
}

static int append_group(struct vf_group *to, const struct vf_group *g)
{
	if (vf_buf_append(&to->vectors, g->vectors.data, g->vectors.len) ||
	    vf_buf_append(&to->lines, g->lines.data, g->lines.len) ||
	    vf_buf_append(&to->line_lens, g->line_lens.data, g->line_lens.len))
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	to->n_rows += g->n_rows;
	to->tag = g->tag;
	return 0;
}

static struct vf_group pop(struct vf_feed *f)
{
	struct vf_group g = f->queue[f->first];

	f->queue[f->first] = (struct vf_group){0};
	f->first = (f->first + 1) % QUEUE;
	f->n--;
	pthread_cond_broadcast(&f->changed);
	return g;
}

/* Those that wait and have no key twice, into one commit: holding the mutex. */
static int take_groups(struct vf_feed *f, struct vf_group *out)
{
	size_t max = takes_shard(f) ? SHARD_LEN : RECORD_LEN;
	struct vf_keyset keys = {0};
	int err = 0;

	*out = pop(f);
	if (f->n && !f->opt.if_absent)
		err = add_keys(&keys, out);
	while (!err && f->n && !f->opt.if_absent &&
	       group_len(out) + group_len(&f->queue[f->first]) <= max) {
		err = add_keys(&keys, &f->queue[f->first]);
		if (err)
			break;
		struct vf_group g = pop(f);
		err = append_group(out, &g);
		vf_group_fini(&g);
	}
	vf_keyset_fini(&keys);
	return err < 0 ? err : 0;
}

static int commit_group(struct vf_feed *f, const struct vf_group *g)
{
	const struct vf_condition cond = {.if_absent = f->opt.if_absent};
	const struct vf_upsert rows = {.n_rows = g->n_rows,
				       .row_len = g->vectors.len / g->n_rows,
				       .vectors = g->vectors.data,
				       .line_lens = g->line_lens.data,
				       .lines = (const char *)g->lines.data,
				       .lines_len = g->lines.len};
	struct vf_changed done;
	bool shard = !cond.if_absent && !f->opt.no_folds &&
		     group_len(g) > RECORD_LEN;
	int err = shard ? vf_direct_put(&f->direct, &f->ch, &rows, &done)
			: vf_changer_upsert(&f->ch, &rows, &cond, &done);

	if (err)
		return err;
	const struct vf_feed_ack ack = {.tag = g->tag,
					.n_rows = g->n_rows,
					.n_replaced = done.n_killed,
					.head = done.head};
	f->opt.ack(f->opt.arg, &ack);
	return 0;
}

static int commit_next(struct vf_feed *f)
{
	struct vf_group g;
	int err = take_groups(f, &g);

	pthread_mutex_unlock(&f->mtx);
	if (!err)
		err = commit_group(f, &g);
	pthread_mutex_lock(&f->mtx);
	if (err == -EINPROGRESS)
		f->unknown = g.tag;
	vf_group_fini(&g);
	return err;
}

/* ---- the committer -------------------------------------------------------------------------- */

/* Readers hold the tail in memory and score it row by row: it has an end. */
static bool has_to_wait(const struct vf_feed *f)
{
	/* Else nobody would end it. */
	return f->fold.status != IDLE && !f->closing &&
	       vf_tail_exceeds(f->ch.state, TAIL_STOP);
}

/* False: there is nothing to do. */
static bool step(struct vf_feed *f)
{
	if (f->fold.status == READY)
		commit_round(f, &f->fold);
	else if (f->merge.status == READY)
		commit_round(f, &f->merge);
	else if (f->n && !f->err && !f->abandon && !has_to_wait(f))
		f->err = commit_next(f);
	else
		return false;
	if (!f->err) {
		wake_helpers(f);
		return true;
	}
	pthread_cond_broadcast(&f->changed);
	if (f->failed_fd >= 0)
		eventfd_write(f->failed_fd, 1);
	return true;
}

static bool is_done(const struct vf_feed *f)
{
	return f->closing && f->fold.status == IDLE &&
	       f->merge.status == IDLE && (!f->n || f->err || f->abandon);
}

/* Until something may be to be done. */
static void wait_for_change(struct vf_feed *f)
{
	bool may_fold = !f->n && !f->err && f->fold.status == IDLE &&
			vf_tail_is_long(f->ch.state);
	uint64_t until =
		may_fold ? vf_now_ns() + QUIET_MS * UINT64_C(1000000) : 0;

	if (vf_cond_wait(&f->changed, &f->mtx, until) == -ETIMEDOUT)
		wake(f, &f->fold);
}

/* Once, when nothing else comes: the next reader need not read a long tail. */
static void fold_rest(struct vf_feed *f)
{
	if (!f->closing || f->rested || f->n || f->fold.status != IDLE)
		return;
	f->rested = true;
	if (!f->err && !f->abandon && vf_tail_is_long(f->ch.state))
		wake(f, &f->fold);
}

static void end_helpers(struct vf_feed *f)
{
	f->ended = true;
	pthread_cond_broadcast(&f->changed);
}

static void *run_committer(void *arg)
{
	struct vf_feed *f = arg;

	pthread_mutex_lock(&f->mtx);
	wake_helpers(f);
	for (fold_rest(f); !is_done(f); fold_rest(f))
		if (!step(f))
			wait_for_change(f);
	end_helpers(f);
	pthread_mutex_unlock(&f->mtx);
	return NULL;
}

/* ---- the caller's side ------------------------------------------------------------------------ */

static void start_helper(struct vf_feed *f, struct helper *h)
{
	h->feed = f;
	h->n_seen = f->ch.state->n_shards;
	h->started =
		!f->opt.no_folds && !vf_thread_start(&h->thread, run_helper, h);
}

static void free_feed(struct vf_feed *f)
{
	while (f->n) {
		struct vf_group g = pop(f);
		vf_group_fini(&g);
	}
	vf_changer_fini(&f->ch);
	vf_tree_keeper_fini(&f->keeper);
	if (f->failed_fd >= 0)
		close(f->failed_fd);
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->mtx);
	free(f);
}

int vf_feed_open(const struct vf_feed_options *opt, struct vf_state **state,
		 struct vf_feed **out)
{
	struct vf_feed *f = calloc(1, sizeof(*f));

	*out = NULL;
	if (!f)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	f->opt = *opt;
	f->ch = (struct vf_changer){.bucket = opt->bucket,
				    .index = opt->index,
				    .cache_dir = opt->cache_dir,
				    .line_crcs = vf_shard_line_crcs,
				    .state = VF_STEAL(*state)};
	pthread_mutex_init(&f->mtx, NULL);
	vf_cond_init(&f->changed);
	vf_tree_keeper_init(&f->keeper);
	f->direct = (struct vf_direct){.bucket = opt->bucket,
				       .target = opt->target,
				       .index = opt->index,
				       .scratch = opt->scratch,
				       .keeper = &f->keeper,
				       .ram = opt->ram ? opt->ram : helper_ram};
	f->merge.merges = true;
	f->failed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	start_helper(f, &f->fold);
	start_helper(f, &f->merge);
	f->started = !vf_thread_start(&f->committer, run_committer, f);
	if (!f->started) {
		vf_feed_close(f, true, NULL);
		return vf_fail(-EAGAIN, "cannot start a thread");
	}
	*out = f;
	return 0;
}

int vf_feed_put(struct vf_feed *f, struct vf_group *g)
{
	pthread_mutex_lock(&f->mtx);
	while (f->n == QUEUE && !f->err)
		pthread_cond_wait(&f->changed, &f->mtx);
	int err = f->err;
	if (!err) {
		f->queue[(f->first + f->n++) % QUEUE] = *g;
		*g = (struct vf_group){0};
		pthread_cond_broadcast(&f->changed);
	}
	pthread_mutex_unlock(&f->mtx);
	return err;
}

int vf_feed_failed_fd(const struct vf_feed *f)
{
	return f->failed_fd;
}

int vf_feed_close(struct vf_feed *f, bool abandon, uint64_t *out_unknown)
{
	if (!f)
		return 0;
	pthread_mutex_lock(&f->mtx);
	f->closing = true;
	f->abandon = abandon;
	pthread_cond_broadcast(&f->changed);
	if (!f->started)
		end_helpers(f);
	pthread_mutex_unlock(&f->mtx);
	if (f->started)
		pthread_join(f->committer, NULL);
	if (f->fold.started)
		pthread_join(f->fold.thread, NULL);
	if (f->merge.started)
		pthread_join(f->merge.thread, NULL);
	int err = f->err;
	if (out_unknown)
		*out_unknown = f->unknown;
	free_feed(f);
	return err;
}
