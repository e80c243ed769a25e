/*
 * Command lines: a table of options per verb, the options that every verb has,
 * and one-line complaints.  Options may stand anywhere; "--" ends them and "-"
 * is an operand.
 */
#ifndef VF_TOOLS_ARGS_H
#define VF_TOOLS_ARGS_H

#include "store/bucket.h"

enum vf_arg_kind {
	VF_ARG_FLAG,
	VF_ARG_STRING,
	VF_ARG_COUNT,
	VF_ARG_SIZE,
	VF_ARG_LIST,  /* of strings: the option may come again */
	VF_ARG_TABLE, /* another table; its name is "" */
};

enum { VF_ARG_LIST_MAX = 16 };
struct vf_arg_list {
	const char *at[VF_ARG_LIST_MAX];
	uint32_t n;
};

/* One option; a table ends in an entry without a name. */
struct vf_arg {
	const char *name; /* without "--" */
	char letter;	  /* "-k"; 0: none */
	enum vf_arg_kind kind;
	void *to;	   /* bool, const char *, uint64_t (COUNT, SIZE), struct
		     vf_arg_list; not touched when the option is absent;
		     const struct vf_arg * (TABLE) */
	uint64_t min, max; /* of a COUNT or SIZE; max 0: no limit */
};

/* What every verb understands. */
struct vf_args_common {
	struct vf_bucket_options bucket;
	uint64_t n_connections;
	uint64_t n_threads;  /* at least 1 */
	uint64_t timeout_ms; /* 0: default */
	bool quiet, help, single_writer;
};

enum { VF_ARGS_OPERANDS_MAX = 1024 };

struct vf_args {
	const char *verb; /* for messages */
	struct vf_args_common common;
	const char *operands[VF_ARGS_OPERANDS_MAX];
	size_t n_operands;
};

/*
 * Parse argv[0..argc) against @table and the common options.  Strings point
 * into @argv.  Returns 0; -EINVAL, said in one line naming the argument.
 */
int vf_args_parse(struct vf_args *a, const struct vf_arg *table, int argc,
		  char **argv);

#endif
