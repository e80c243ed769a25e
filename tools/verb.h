/*
 * A verb of vectool: cmd_<verb>.c defines one, main.c lists them.
 */
#ifndef VF_TOOLS_VERB_H
#define VF_TOOLS_VERB_H

#include "tools/args.h"

/* Exit statuses, the same for every verb. */
enum {
	VF_EXIT_OK = 0,
	VF_EXIT_ERROR = 1,
	VF_EXIT_USAGE = 2,
	VF_EXIT_UNKNOWN = 4, /* whether a commit landed could not be learned */
	VF_EXIT_INTERRUPTED = 130,
};

/* What a verb returns when what it was given makes no sense: VF_EXIT_USAGE. */
#define VF_ERR_USAGE (-EDESTADDRREQ)

struct vf_verb {
	const char *name;
	const char *summary; /* one line of the verb list */
	const char *help;    /* usage, options, examples */
	unsigned min_operands, max_operands;
	const struct vf_arg *options; /* ends in an entry without a name */
	/* Returns 0 or a negative errno, already said. */
	int (*run)(const struct vf_args *a);
};

extern const struct vf_verb vf_verb_create, vf_verb_put, vf_verb_ls,
	vf_verb_stat, vf_verb_gen, vf_verb_import, vf_verb_pin, vf_verb_unpin,
	vf_verb_warm, vf_verb_evict, vf_verb_top, vf_verb_delete, vf_verb_get,
	vf_verb_log, vf_verb_recall, vf_verb_gc, vf_verb_restore, vf_verb_drop,
	vf_verb_compact, vf_verb_export, vf_verb_verify;

#endif
