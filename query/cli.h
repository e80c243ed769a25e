/*
 * What the parts of the vecquery program share: no part of the library.
 */
#ifndef VF_QUERY_CLI_H
#define VF_QUERY_CLI_H

#include <pthread.h>

#include "query/embed.h"
#include "query/query.h"
#include "store/util.h"

enum { EXIT_FULL, EXIT_ERROR, EXIT_USAGE, EXIT_PARTIAL };

/* ---- arguments (cli_args.c) ------------------------------------------------------- */

/* A search as asked for; use it through cli_search. */
struct cli_knobs {
	struct vf_search search;
	bool has_good_enough;
	float good_enough;
	char *filter; /* owned: set anew, the one before is freed */
};

struct cli_args {
	const char *index, *npy, *vector, *key, *text;
	const char *embed, *model; /* where texts are embedded, or NULL */
	struct cli_knobs knobs;
	bool table, wants_table; /* the second: it was said */
	bool stdin_queries;
	uint32_t n_threads; /* 0: as many as processors */
	uint64_t cache_len; /* of answers kept */
	uint64_t ram_max;   /* of codes held; 0: no limit */
	uint32_t at;	    /* commit; 0: the newest */
	int fresh_ms;	    /* of the view; 0: its default */
	const char *cache_dir;
};

/* -1 to go on, else the exit status; what is wrong has been said. */
int cli_parse(int argc, char **argv, struct cli_args *out);

/*
 * Set the knob @name ("max-gets", or with '_') from text.
 * Returns 0; -ENOENT no such knob; -EINVAL, and *out_takes says what it takes,
 * until this thread's next call; -ENOMEM.
 */
int cli_knob_set(struct cli_knobs *k, const char *name, const char *text,
		 const char **out_takes);

/* The search, its pointers into @k. */
const struct vf_search *cli_search(struct cli_knobs *k);

/* ---- queries (cli_query.c) ---------------------------------------------------------- */

enum { CLI_ERROR_LEN = VF_EMBED_WHY_LEN };

/* Where queries are asked.  Threads: any. */
struct cli_source {
	const char *index; /* as named */
	struct vf_view *view;
	struct vf_view_info info;
	pthread_mutex_t lock;
	const char *embed, *model;    /* URL and name, or NULL */
	struct vf_embedder *embedder; /* [lock], opened by the first text */
};

void cli_source_init(struct cli_source *s, const struct cli_args *a,
		     struct vf_view *view);
void cli_source_fini(struct cli_source *s);

/*
 * Each makes float[dim] of what it is given.
 * Returns 0, or a negative errno and why in @error[CLI_ERROR_LEN].
 */
int cli_from_key(struct cli_source *s, const char *key, float *q, char *error);
int cli_from_text(struct cli_source *s, const char *text, float *q,
		  char *error);
/* @json  the text of an array of numbers */
int cli_from_json(struct cli_source *s, const char *json, size_t len, float *q,
		  char *error);

/*
 * A line of --stdin: {"vector": [..]} or "key" or "text", and knobs.
 * @knobs  on entry the defaults
 */
int cli_from_line(struct cli_source *s, const char *line, size_t len, float *q,
		  struct cli_knobs *knobs, char *error);

/* ---- many queries (cli_stream.c) ------------------------------------------------------ */

/*
 * Answer the lines of stdin on stdout, in order.
 * Returns 0; -EIO reading failed; *out_partial: an answer is partial, or an
 * error.  Writing's failure is left to be seen on stdout.
 */
int cli_stream(struct cli_source *s, const struct cli_args *a,
	       bool *out_partial);

/* ---- answers (cli_print.c) --------------------------------------------------------- */

/* One line of JSON, newline included.  Returns 0; -ENOMEM. */
int cli_append_json(const struct vf_answer *a, uint64_t number,
		    struct vf_buf *out);
/* A line on standard error, when that is a terminal; for vf_view_options. */
void cli_show_building(void *arg, uint64_t done, uint64_t total);

/* To stdout; @many: with the query's number above. */
void cli_print_table(const struct vf_answer *a, uint64_t number, bool many);

#endif
