/*
 * Lines of queries in, lines of answers out, in order, on a pool of workers.
 *
 * Lines pass through a ring of slots:
 *
 *   EMPTY    the reader may fill it             [lock]: state, and the counts
 *   READ     a worker may take it                       below
 *   TAKEN    that worker's own
 *   DONE     its answer may be written, once all before it are
 *
 *   n_written <= n_taken <= n_read <= n_written + SLOTS
 *
 * A worker takes several lines when several wait: they share one pass over the
 * codes.  One thread at a time writes, whoever finished the oldest answer.
 */
#include "query/cli.h"
#include "store/thread.h"

#include <jansson.h>
#include <stdio.h>

enum {
	SLOTS = 128,
	BATCH = 8, /* lines a worker takes at once */
	WORKERS_MAX = 64,
	LINE_MAX_LEN = 4 << 20,
};

enum state { EMPTY, READ, TAKEN, DONE };

struct slot {
	enum state state;
	bool is_long; /* the line was cut */
	struct vf_buf line, out;
	float *q; /* [dim] */
	struct cli_knobs knobs;
	char error[CLI_ERROR_LEN]; /* "" when there is none */
};

struct stream {
	struct cli_source *source;
	const struct cli_args *args;
	unsigned n_workers;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t n_read, n_taken, n_written;
	bool at_end, is_writing, any_partial;
	struct slot slots[SLOTS];
};

static struct slot *slot_of(struct stream *s, uint64_t number)
{
	return &s->slots[number % SLOTS];
}

/* ---- reading -------------------------------------------------------------------------------- */

/* 1 a line, 0 the end; what is beyond LINE_MAX_LEN is passed over. */
static int read_line(struct slot *l)
{
	bool any = false;
	int c;

	l->line.len = 0;
	l->is_long = false;
	while ((c = getc_unlocked(stdin)) != EOF) {
		char byte = (char)c;
		any = true;
		if (c == '\n')
			break;
		if (l->line.len == LINE_MAX_LEN)
			l->is_long = true;
		else if (vf_buf_append(&l->line, &byte, 1))
			return -ENOMEM;
	}
	return any;
}

static int read_lines(struct stream *s)
{
	int rc;

	do {
		pthread_mutex_lock(&s->lock);
		struct slot *l = slot_of(s, s->n_read);
		while (l->state != EMPTY)
			pthread_cond_wait(&s->changed, &s->lock);
		pthread_mutex_unlock(&s->lock);
		rc = read_line(l);
		pthread_mutex_lock(&s->lock);
		if (rc > 0) {
			l->state = READ;
			s->n_read++;
		} else {
			s->at_end = true;
		}
		pthread_cond_broadcast(&s->changed);
		pthread_mutex_unlock(&s->lock);
	} while (rc > 0);
	if (rc < 0)
		return rc;
	return ferror(stdin)
		       ? vf_fail(-EIO, "standard input: %s", strerror(errno))
		       : 0;
}

/* ---- answering -------------------------------------------------------------------------------- */

/* How many of the lines that wait one worker takes; waits for the first. */
static size_t take_lines(struct stream *s, uint64_t *out_first)
{
	pthread_mutex_lock(&s->lock);
	while (s->n_taken == s->n_read && !s->at_end)
		pthread_cond_wait(&s->changed, &s->lock);
	uint64_t waiting = s->n_read - s->n_taken;
	size_t n = (size_t)VF_MIN((waiting + s->n_workers - 1) / s->n_workers,
				  (uint64_t)BATCH);
	*out_first = s->n_taken;
	for (size_t i = 0; i < n; i++)
		slot_of(s, s->n_taken++)->state = TAKEN;
	pthread_mutex_unlock(&s->lock);
	return n;
}

static void parse_slot(struct stream *s, struct slot *l)
{
	l->error[0] = '\0';
	free(l->knobs.filter);
	l->knobs = s->args->knobs;
	l->knobs.filter = NULL; /* the search borrows that of all lines */
	if (l->is_long)
		snprintf(l->error, sizeof(l->error),
			 "the line is longer than %d bytes", LINE_MAX_LEN);
	else
		cli_from_line(s->source, (const char *)l->line.data,
			      l->line.len, l->q, &l->knobs, l->error);
}

static void append_error(struct slot *l, uint64_t number)
{
	json_t *text = json_string(l->error);
	VF_AUTO_FREE char *quoted = json_dumps(text, JSON_ENCODE_ANY);

	json_decref(text);
	l->out.len = 0;
	vf_buf_printf(&l->out, "{\"query\":%llu,\"error\":%s}\n",
		      (unsigned long long)number,
		      quoted ? quoted : "\"not to be said\"");
}

/* @return: the answer is partial, or an error. */
static bool finish_slot(struct slot *l, uint64_t number, int err,
			struct vf_answer *a)
{
	bool partial = !a || a->partial;

	if (!err && a)
		err = cli_append_json(a, number, &l->out);
	if (err && !l->error[0])
		snprintf(l->error, sizeof(l->error), "%s", vf_strerror(err));
	if (l->error[0])
		append_error(l, number);
	vf_answer_free(a);
	return partial || l->error[0];
}

static bool answer_lines(struct stream *s, uint64_t first, size_t n)
{
	struct vf_query queries[BATCH];
	uint64_t numbers[BATCH];
	size_t n_queries = 0;
	bool partial = false;

	for (size_t i = 0; i < n; i++) {
		struct slot *l = slot_of(s, first + i);
		l->out.len = 0;
		parse_slot(s, l);
		if (l->error[0]) {
			partial |= finish_slot(l, first + i, -EINVAL, NULL);
			continue;
		}
		numbers[n_queries] = first + i;
		queries[n_queries++] = (struct vf_query){
			.q = l->q, .search = *cli_search(&l->knobs)};
	}
	int err = vf_view_search_many(s->source->view, queries, n_queries);
	for (size_t i = 0; i < n_queries; i++)
		partial |= finish_slot(slot_of(s, numbers[i]), numbers[i],
				       queries[i].err	   ? queries[i].err
				       : queries[i].answer ? 0
							   : err,
				       queries[i].answer);
	return partial;
}

/* Write what is done, in order; under the lock, which is let go meanwhile. */
static void write_done(struct stream *s)
{
	if (s->is_writing)
		return;
	s->is_writing = true;
	for (struct slot *l; l = slot_of(s, s->n_written), l->state == DONE;) {
		pthread_mutex_unlock(&s->lock);
		fwrite(l->out.data, 1, l->out.len, stdout);
		pthread_mutex_lock(&s->lock);
		l->state = EMPTY;
		s->n_written++;
		pthread_cond_broadcast(&s->changed);
		if (slot_of(s, s->n_written)->state != DONE)
			fflush(stdout);
	}
	s->is_writing = false;
}

static void *work(void *arg)
{
	struct stream *s = arg;
	uint64_t first;
	size_t n;

	while ((n = take_lines(s, &first))) {
		bool partial = answer_lines(s, first, n);
		pthread_mutex_lock(&s->lock);
		s->any_partial |= partial;
		for (size_t i = 0; i < n; i++)
			slot_of(s, first + i)->state = DONE;
		write_done(s);
		pthread_mutex_unlock(&s->lock);
	}
	return NULL;
}

/* ---- the stream ------------------------------------------------------------------------------- */

static int run_workers(struct stream *s)
{
	pthread_t threads[WORKERS_MAX];
	unsigned n = 0;
	int err = 0;

	/* Without it codes come as queries ask for them. */
	vf_view_load_start(s->source->view);
	while (n < s->n_workers && !vf_thread_start(&threads[n], work, s))
		n++;
	if (n)
		err = read_lines(s);
	else
		err = vf_fail(-EAGAIN, "no thread can be made");
	while (n)
		pthread_join(threads[--n], NULL);
	vf_view_load_stop(s->source->view);
	return err;
}

int cli_stream(struct cli_source *source, const struct cli_args *a,
	       bool *out_partial)
{
	struct stream *s = calloc(1, sizeof(*s));
	long n = a->n_threads ? a->n_threads : sysconf(_SC_NPROCESSORS_ONLN);
	int err = s ? 0 : -ENOMEM;

	if (err)
		return err;
	s->source = source;
	s->args = a;
	s->n_workers = (unsigned)VF_MAX(1, VF_MIN(n, (long)WORKERS_MAX));
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	for (size_t i = 0; i < SLOTS && !err; i++) {
		s->slots[i].q = malloc(source->info.dim * sizeof(float));
		err = s->slots[i].q ? 0 : -ENOMEM;
	}
	if (!err)
		err = run_workers(s);
	*out_partial = s->any_partial;
	for (size_t i = 0; i < SLOTS; i++) {
		free(s->slots[i].q);
		free(s->slots[i].knobs.filter);
		vf_buf_fini(&s->slots[i].line);
		vf_buf_fini(&s->slots[i].out);
	}
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
	return err;
}
