/*
 * What the parts of the vecquery program share: no part of the library.
 */
#ifndef VF_QUERY_CLI_H
#define VF_QUERY_CLI_H

#include "query/query.h"
#include "store/util.h"

enum { EXIT_FULL, EXIT_ERROR, EXIT_USAGE, EXIT_PARTIAL };

/* ---- arguments (cli_args.c) ------------------------------------------------------- */

/* A search as asked for; use it through cli_search. */
struct cli_knobs {
	struct vf_search search;
	bool has_good_enough;
	float good_enough;
};

struct cli_args {
	const char *index, *npy, *vector, *key, *text;
	struct cli_knobs knobs;
	bool table;
};

/* -1 to go on, else the exit status; what is wrong has been said. */
int cli_parse(int argc, char **argv, struct cli_args *out);

/*
 * Set the knob @name ("max-gets", or with '_') from text.
 * Returns 0; -ENOENT no such knob; -EINVAL, and *out_takes says what it takes.
 */
int cli_knob_set(struct cli_knobs *k, const char *name, const char *text,
		 const char **out_takes);

/* The search, its pointers into @k. */
const struct vf_search *cli_search(struct cli_knobs *k);

/* ---- answers (cli_print.c) --------------------------------------------------------- */

/* One line of JSON, newline included.  Returns 0; -ENOMEM. */
int cli_append_json(const struct vf_answer *a, uint64_t number,
		    struct vf_buf *out);
/* To stdout; @many: with the query's number above. */
void cli_print_table(const struct vf_answer *a, uint64_t number, bool many);

#endif
