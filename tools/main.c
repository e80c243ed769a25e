/*
 * vectool: writes to buckets of vectors and looks after them.  The table of
 * verbs, help, and what exit statuses mean; the work is in cmd_<verb>.c.
 */
#include <signal.h>
#include <stdio.h>

#include "store/util.h"
#include "tools/interrupt.h"
#include "tools/progress.h"
#include "tools/verb.h"

/* In the order that a user meets them: rows, what is there, upkeep, mounts. */
static const struct vf_verb *const verbs[] = {
	&vf_verb_create, &vf_verb_put,	   &vf_verb_import, &vf_verb_export,
	&vf_verb_get,	 &vf_verb_delete,  &vf_verb_ls,	    &vf_verb_stat,
	&vf_verb_log,	 &vf_verb_recall,  &vf_verb_verify, &vf_verb_compact,
	&vf_verb_gc,	 &vf_verb_restore, &vf_verb_drop,   &vf_verb_pin,
	&vf_verb_unpin,	 &vf_verb_warm,	   &vf_verb_evict,  &vf_verb_top,
	&vf_verb_gen};

static const char common_help[] =
	"\nEvery verb takes:\n"
	"  --endpoint URL     S3 server (else AWS_ENDPOINT_URL)\n"
	"  --region R         (else AWS_REGION, the profile, us-east-1)\n"
	"  --profile P        of ~/.aws/credentials and config\n"
	"  --ca-file FILE     PEM certificates to trust\n"
	"  --connections N    to the server (64)\n"
	"  --timeout MS       of a request with its repetitions (60000)\n"
	"  -j, --threads N    worker threads (one per CPU)\n"
	"  --single-writer    the server does not create objects only if absent, and\n"
	"                     nobody else writes to this bucket\n"
	"  -q, --quiet        no progress, no summary\n"
	"\nExit status: 0 done, 1 error, 2 usage, 4 it is unknown whether the\n"
	"commit landed, 130 interrupted.\n";

static void print_verbs(FILE *to)
{
	fputs("usage: vectool VERB TARGET [OPTIONS]\n\n"
	      "TARGET names an index by URL or path: s3://bucket/prefix/products,\n"
	      "file:///dir/products, /dir/products; pin, unpin, warm, evict and\n"
	      "top take paths in a mount\n\n",
	      to);
	for (size_t i = 0; i < VF_N(verbs); i++)
		fprintf(to, "  %-8s %s\n", verbs[i]->name, verbs[i]->summary);
	fputs("  help     vectool help VERB: options and examples\n", to);
}

static const struct vf_verb *find_verb(const char *name)
{
	for (size_t i = 0; i < VF_N(verbs); i++)
		if (!strcmp(verbs[i]->name, name))
			return verbs[i];
	return NULL;
}

/* One line that lists what there is. */
static int refuse_verb(const char *name)
{
	char have[256] = "";

	for (size_t i = 0, n = 0; i < VF_N(verbs) && n < sizeof(have); i++)
		n += (size_t)snprintf(have + n, sizeof(have) - n, " %s",
				      verbs[i]->name);
	vf_log(VF_ERROR, "%s: no such verb; there are:%s help", name, have);
	return VF_EXIT_USAGE;
}

static int print_help(const char *name)
{
	const struct vf_verb *v = name ? find_verb(name) : NULL;

	if (name && !v)
		return refuse_verb(name);
	if (!v) {
		print_verbs(stdout);
		return VF_EXIT_OK;
	}
	fputs(v->help, stdout);
	fputs(common_help, stdout);
	return VF_EXIT_OK;
}

static int exit_status(int err)
{
	switch (err) {
	case 0:
		return VF_EXIT_OK;
	case VF_ERR_USAGE:
		return VF_EXIT_USAGE;
	case -EINPROGRESS:
		return VF_EXIT_UNKNOWN;
	case -ECANCELED:
		return vf_interrupted() ? VF_EXIT_INTERRUPTED : VF_EXIT_ERROR;
	default:
		return VF_EXIT_ERROR;
	}
}

static int run_verb(const struct vf_verb *v, int argc, char **argv)
{
	struct vf_args a = {.verb = v->name};

	if (vf_args_parse(&a, v->options, argc, argv))
		return VF_EXIT_USAGE;
	if (a.common.help)
		return print_help(v->name);
	if (a.n_operands < v->min_operands || a.n_operands > v->max_operands) {
		vf_log(VF_ERROR,
		       "%s: %zu operands given (see: vectool help %s)", v->name,
		       a.n_operands, v->name);
		return VF_EXIT_USAGE;
	}
	vf_interrupt_catch();
	signal(SIGPIPE, SIG_IGN);
	int status = exit_status(v->run(&a));
	bool lost = ferror(stdout);
	/* Nobody reads any more, as in "ls | head": that is their choice. */
	if ((fflush(stdout) || lost) && errno != EPIPE &&
	    status == VF_EXIT_OK) {
		vf_log(VF_ERROR, "standard output: %s", strerror(errno));
		status = VF_EXIT_ERROR;
	}
	return status;
}

int main(int argc, char **argv)
{
	vf_std_occupy();
	vf_log_name("vectool");
	vf_log_set(vf_progress_log, NULL, VF_WARN);
	if (argc < 2) {
		print_verbs(stderr);
		return VF_EXIT_USAGE;
	}
	const char *name = argv[1];
	if (!strcmp(name, "-V") || !strcmp(name, "--version")) {
		puts("vectool " VF_VERSION);
		return VF_EXIT_OK;
	}
	if (!strcmp(name, "-h") || !strcmp(name, "--help") ||
	    !strcmp(name, "help"))
		return print_help(argc > 2 ? argv[2] : NULL);
	const struct vf_verb *v = find_verb(name);
	if (!v)
		return refuse_verb(name);
	return run_verb(v, argc - 2, argv + 2);
}
