/* The option parser of every verb. */
#include "tools/args.h"

#include "store/util.h"

static int parse_number(const struct vf_args *a, const struct vf_arg *o,
			const char *value)
{
	uint64_t v = 0;
	bool digits = value[strspn(value, "0123456789")] == '\0';

	if ((o->kind == VF_ARG_COUNT && !digits) || vf_parse_size(value, &v))
		return vf_fail(-EINVAL, "%s: --%s \"%s\" is not a %s", a->verb,
			       o->name, value,
			       o->kind == VF_ARG_COUNT ? "whole number"
						       : "size");
	if (v < o->min || (o->max && v > o->max))
		return vf_fail(
			-EINVAL, "%s: --%s %s is out of range (%llu to %llu)",
			a->verb, o->name, value, (unsigned long long)o->min,
			(unsigned long long)(o->max ? o->max : UINT64_MAX));
	*(uint64_t *)o->to = v;
	return 0;
}

static int add_string(const struct vf_args *a, const struct vf_arg *o,
		      const char *value)
{
	struct vf_arg_list *l = o->to;

	if (l->n == VF_ARG_LIST_MAX)
		return vf_fail(-EINVAL, "%s: --%s more than %d times", a->verb,
			       o->name, VF_ARG_LIST_MAX);
	l->at[l->n++] = value;
	return 0;
}

static int set_value(const struct vf_args *a, const struct vf_arg *o,
		     const char *value)
{
	if (o->kind == VF_ARG_FLAG)
		*(bool *)o->to = true;
	else if (o->kind == VF_ARG_STRING)
		*(const char **)o->to = value;
	else if (o->kind == VF_ARG_LIST)
		return add_string(a, o, value);
	else
		return parse_number(a, o, value);
	return 0;
}

/* The option of @table that @arg ("--name", "--name=...", "-x", "-x...") spells. */
static const struct vf_arg *find_option(const struct vf_arg *table,
					const char *arg)
{
	size_t len = strcspn(arg + 2, "=");

	for (; table->name; table++) {
		if (table->kind == VF_ARG_TABLE) {
			const struct vf_arg *o = find_option(table->to, arg);
			if (o)
				return o;
		} else if (arg[1] != '-') {
			if (table->letter == arg[1])
				return table;
		} else if (strlen(table->name) == len &&
			   !memcmp(table->name, arg + 2, len)) {
			return table;
		}
	}
	return NULL;
}

/* Take one option and perhaps the word after it. */
static int parse_option(struct vf_args *a, const struct vf_arg *table,
			const struct vf_arg *common, char **argv, int argc,
			int *at)
{
	const char *arg = argv[*at];
	const struct vf_arg *o = find_option(table, arg);
	bool is_long = arg[1] == '-';
	const char *value = is_long ? strchr(arg, '=') : arg + 2;

	if (!o)
		o = find_option(common, arg);
	if (!o)
		return vf_fail(-EINVAL,
			       "%s: no such option: %s (see: vectool help %s)",
			       a->verb, arg, a->verb);
	if (!is_long && !*value)
		value = NULL; /* "-j 4", not "-j4" */
	if (o->kind == VF_ARG_FLAG) {
		if (value)
			return vf_fail(-EINVAL, "%s: --%s takes no value",
				       a->verb, o->name);
		return set_value(a, o, NULL);
	}
	if (value)
		return set_value(a, o, value + is_long);
	if (*at + 1 >= argc)
		return vf_fail(-EINVAL, "%s: --%s needs a value", a->verb,
			       o->name);
	return set_value(a, o, argv[++*at]);
}

int vf_args_parse(struct vf_args *a, const struct vf_arg *table, int argc,
		  char **argv)
{
	struct vf_args_common *c = &a->common;
	const struct vf_arg common[] = {
		{"endpoint", 0, VF_ARG_STRING, &c->bucket.endpoint, 0, 0},
		{"region", 0, VF_ARG_STRING, &c->bucket.region, 0, 0},
		{"profile", 0, VF_ARG_STRING, &c->bucket.profile, 0, 0},
		{"ca-file", 0, VF_ARG_STRING, &c->bucket.ca_file, 0, 0},
		{"connections", 0, VF_ARG_COUNT, &c->n_connections, 1, 1024},
		{"timeout", 0, VF_ARG_COUNT, &c->timeout_ms, 10, 3600000},
		{"threads", 'j', VF_ARG_COUNT, &c->n_threads, 1, 256},
		{"single-writer", 0, VF_ARG_FLAG, &c->single_writer, 0, 0},
		{"quiet", 'q', VF_ARG_FLAG, &c->quiet, 0, 0},
		{"help", 'h', VF_ARG_FLAG, &c->help, 0, 0},
		{0}};
	bool options = true;

	for (int i = 0; i < argc; i++) {
		if (options && !strcmp(argv[i], "--")) {
			options = false;
		} else if (options && argv[i][0] == '-' && argv[i][1]) {
			int err =
				parse_option(a, table, common, argv, argc, &i);
			if (err)
				return err;
		} else if (a->n_operands == VF_ARGS_OPERANDS_MAX) {
			return vf_fail(-EINVAL, "%s: too many operands: %s",
				       a->verb, argv[i]);
		} else {
			a->operands[a->n_operands++] = argv[i];
		}
	}
	c->bucket.single_writer = c->single_writer;
	c->bucket.max_connections = (unsigned)c->n_connections;
	c->bucket.timeout_ms = (unsigned)c->timeout_ms;
	if (!c->n_threads) {
		long n = sysconf(_SC_NPROCESSORS_ONLN);
		c->n_threads = (uint64_t)VF_MIN(VF_MAX(n, 1L), 64L);
	}
	return 0;
}
