/*
 * vectool pin, unpin, warm, evict: the extended attributes of paths in a mount.
 * The mount does the work; pin and warm wait for it and show how far it is.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tools/interrupt.h"
#include "tools/mounted.h"
#include "tools/progress.h"
#include "tools/target.h"
#include "tools/verb.h"

enum { POLL_US = 50000, SHOW_NS = 200000000 };

static struct {
	const char *range, *rate;
	bool no_wait;
} opt;

struct task {
	const char *path;
	bool begun, over;
	uint64_t done, total; /* bytes */
};

/* ---- what went wrong, and the way out --------------------------------------------- */

static int refuse_space(const char *verb, const char *path, const char *root)
{
	char need[24], used[24], most[24];
	struct vf_cached_shares s;
	json_t *status;
	bool pin = !strcmp(verb, "pin");

	if (vf_mounted_status(root, &status))
		return -ENOSPC;
	if (vf_mounted_shares(path, &s))
		s.size = 0;
	vf_format_size(s.size, need);
	vf_format_size(vf_status_number(status, "disk.pinned_bytes"), used);
	vf_format_size(vf_status_number(status,
					pin ? "disk.pin_limit_bytes"
					: json_object_get(status, "disk")
						? "disk.size_bytes"
						: "cache.ram_bytes"),
		       most);
	json_decref(status);
	if (pin)
		return vf_fail(-ENOSPC,
			       "pin: %s: too large: it has %s, and %s of at "
			       "most %s are pinned; unpin something, use "
			       "--range, or mount with a larger disk=",
			       path, need, used, most);
	return vf_fail(-ENOSPC,
		       "warm: %s: too large: it has %s, the cache holds %s; "
		       "use --range, or mount with a larger disk=",
		       path, need, most);
}

static int refuse_owner(const char *verb, const char *path, const char *root)
{
	struct stat st;

	if (stat(root, &st))
		return vf_fail(-EPERM, "%s: %s: %s", verb, path,
			       strerror(EPERM));
	return vf_fail(-EPERM,
		       "%s: %s: only the user who mounted %s (uid %u) or root "
		       "may do that",
		       verb, path, root, (unsigned)st.st_uid);
}

static int refuse_kind(const char *verb, const char *path, const char *root)
{
	json_t *status = NULL;
	bool has_disk = !vf_mounted_status(root, &status) &&
			json_object_get(status, "disk");

	json_decref(status);
	if (!strcmp(verb, "pin") && !has_disk)
		return vf_fail(-EOPNOTSUPP,
			       "pin: %s: the mount has no disk tier; mount "
			       "with -o disk=DIRECTORY:SIZE",
			       path);
	return vf_fail(-EOPNOTSUPP,
		       "%s: %s: made up by the mount; name a file or folder "
		       "of the bucket",
		       verb, path);
}

static int explain(const char *verb, const char *path, const char *root,
		   int err)
{
	switch (err) {
	case -ENOSPC:
		return refuse_space(verb, path, root);
	case -EPERM:
	case -EACCES:
		return refuse_owner(verb, path, root);
	case -EOPNOTSUPP:
		return refuse_kind(verb, path, root);
	case -ENODATA:
		return vf_fail(err,
			       "%s: %s: not pinned by this path (see: vectool "
			       "stat %s)",
			       verb, path, path);
	case -EINVAL:
		return vf_fail(err,
			       "%s: %s: no such range; ranges are of files, "
			       "A-B in bytes, A below its size",
			       verb, path);
	default:
		return vf_fail(err, "%s: %s: %s", verb, path, strerror(-err));
	}
}

static int find_root(const char *verb, const char *path, char **out)
{
	int err = vf_mounted_root(path, out);

	if (err == -EXDEV)
		return vf_fail(err,
			       "%s: %s: not in a mount of vecfs; mount the "
			       "bucket and name the path there",
			       verb, path);
	return err ? vf_fail(err, "%s: %s: %s", verb, path, strerror(-err)) : 0;
}

/* ---- setting ------------------------------------------------------------------------- */

static int check_options(const char *verb)
{
	uint64_t a, b;
	char rest, *end;
	double rate;

	if (opt.range && (sscanf(opt.range, "%" SCNu64 "-%" SCNu64 "%c", &a, &b,
				 &rest) != 2 ||
			  a >= b))
		return vf_fail(VF_ERR_USAGE,
			       "%s: --range \"%s\" is not A-B, bytes, A below "
			       "B",
			       verb, opt.range);
	if (!opt.rate)
		return 0;
	rate = strtod(opt.rate, &end);
	if (end == opt.rate || *end || !(rate >= 0.001 && rate <= 1e6))
		return vf_fail(VF_ERR_USAGE,
			       "%s: --rate \"%s\" is no number of MB/s", verb,
			       opt.rate);
	return 0;
}

static int set_attribute(const char *verb, const char *path, const char *name,
			 const char *value)
{
	VF_AUTO_FREE char *root = NULL;
	int err = find_root(verb, path, &root);

	if (err)
		return err;
	err = vf_mounted_set(path, name, value);
	return err ? explain(verb, path, root, err) : 0;
}

/* ---- waiting ------------------------------------------------------------------------- */

static int poll_task(const char *verb, struct task *t)
{
	char text[VF_MOUNTED_TEXT];
	const char *failed;
	int err = vf_mounted_get(t->path, "warm", text);

	if (err == -ENODATA) { /* long over, and forgotten */
		t->over = true;
		return 0;
	}
	if (err)
		return vf_fail(err, "%s: %s: %s", verb, t->path,
			       strerror(-err));
	if (sscanf(text, "%" SCNu64 " of %" SCNu64, &t->done, &t->total) != 2)
		return vf_fail(-EBADMSG, "%s: %s: the mount says \"%s\"", verb,
			       t->path, text);
	failed = strstr(text, " failed: ");
	if (failed)
		return vf_fail(-EIO,
			       "%s: %s: %s; what is missing is read when it "
			       "is asked for (the mount's log says more)",
			       verb, t->path, failed + strlen(" failed: "));
	t->over = t->done >= t->total;
	return 0;
}

struct show {
	bool on;
	uint64_t start_ns, shown_ns, start_done;
};

static void show_line(struct show *s, const char *verb, uint64_t done,
		      uint64_t total)
{
	uint64_t now = vf_now_ns();
	double seconds = (double)(now - s->start_ns) / 1e9, per_s;
	char a[24], b[24], left[40] = "";

	if (!s->on || now - s->shown_ns < SHOW_NS)
		return;
	s->shown_ns = now;
	per_s = (double)(done - VF_MIN(done, s->start_done)) /
		VF_MAX(seconds, 0.001);
	if (per_s > 0 && done < total)
		snprintf(left, sizeof(left), ", %.0f s left",
			 (double)(total - done) / per_s);
	fprintf(stderr, "\r\033[K%s %3.0f%%: %s of %s, %.0f MB/s%s", verb,
		total ? 100. * (double)done / (double)total : 100.,
		vf_format_size(done, a), vf_format_size(total, b), per_s / 1e6,
		left);
	fflush(stderr);
}

static void end_line(const struct show *s)
{
	if (s->on && s->shown_ns)
		fputs("\r\033[K", stderr);
}

/* Poll what has begun; how many are still under way. */
static int poll_all(const char *verb, struct task *all, size_t n,
		    struct show *show, size_t *out_flying)
{
	uint64_t done = 0, total = 0;
	int first_err = 0;

	*out_flying = 0;
	for (size_t i = 0; i < n; i++) {
		struct task *t = &all[i];
		int err = 0;
		if (t->begun && !t->over)
			err = poll_task(verb, t);
		if (err) {
			t->over = true;
			first_err = first_err ? first_err : err;
		}
		*out_flying += t->begun && !t->over;
		done += t->done;
		total += t->total;
	}
	if (*out_flying)
		show_line(show, verb, done, total);
	return first_err;
}

/* At most @max at a time; the first error, after all were tried. */
static int run_all(const char *verb, const char *value, struct task *all,
		   size_t n, size_t max, bool quiet)
{
	struct show show = {.on = !quiet && isatty(STDERR_FILENO),
			    .start_ns = vf_now_ns()};
	size_t next = 0, flying = 0;
	int first_err = 0, err;

	while (!vf_interrupted() && (next < n || flying)) {
		while (next < n && (opt.no_wait || flying < max)) {
			struct task *t = &all[next++];
			err = set_attribute(verb, t->path, verb, value);
			first_err = first_err ? first_err : err;
			t->begun = !err && !opt.no_wait;
			flying += t->begun;
		}
		err = poll_all(verb, all, n, &show, &flying);
		first_err = first_err ? first_err : err;
		if (flying)
			usleep(POLL_US);
	}
	end_line(&show);
	return vf_interrupted() ? -ECANCELED : first_err;
}

static int run_waiting(const struct vf_args *a)
{
	VF_AUTO_FREE struct task *all = calloc(a->n_operands, sizeof(*all));
	char value[80];
	int err = check_options(a->verb);

	if (err)
		return err;
	if (!all)
		return vf_fail(-ENOMEM, "%s: %s", a->verb, strerror(ENOMEM));
	for (size_t i = 0; i < a->n_operands; i++)
		all[i].path = a->operands[i];
	snprintf(value, sizeof(value), "%s%s%s", opt.range ? opt.range : "1",
		 opt.rate ? "@" : "", opt.rate ? opt.rate : "");
	return run_all(a->verb, value, all, a->n_operands,
		       (size_t)a->common.n_threads, a->common.quiet);
}

static int run_at_once(const struct vf_args *a)
{
	bool unpin = !strcmp(a->verb, "unpin");
	char value[80];
	int err = check_options(a->verb), first_err = err;

	if (unpin)
		snprintf(value, sizeof(value), "0%s%s", opt.range ? " " : "",
			 opt.range ? opt.range : "");
	else
		snprintf(value, sizeof(value), "%s",
			 opt.range ? opt.range : "1");
	for (size_t i = 0; !err && i < a->n_operands; i++) {
		int one = set_attribute(a->verb, a->operands[i],
					unpin ? "pin" : "evict", value);
		first_err = first_err ? first_err : one;
	}
	return first_err;
}

/* ---- verbs ------------------------------------------------------------------------------ */

static const struct vf_arg pin_options[] = {
	{"range", 0, VF_ARG_STRING, &opt.range, 0, 0},
	{"no-wait", 0, VF_ARG_FLAG, &opt.no_wait, 0, 0},
	{0}};
static const struct vf_arg warm_options[] = {
	{"range", 0, VF_ARG_STRING, &opt.range, 0, 0},
	{"rate", 0, VF_ARG_STRING, &opt.rate, 0, 0},
	{"no-wait", 0, VF_ARG_FLAG, &opt.no_wait, 0, 0},
	{0}};
static const struct vf_arg range_options[] = {
	{"range", 0, VF_ARG_STRING, &opt.range, 0, 0}, {0}};

const struct vf_verb vf_verb_pin = {
	.name = "pin",
	.summary = "keep files or folders of a mount on the local disk",
	.help = "usage: vectool pin PATH... [--range A-B] [-j N] [--no-wait]\n\n"
		"PATH is a file or folder in a mount that has a disk tier (-o "
		"disk=).  It is\n"
		"fetched and then stays on the local disk until it is unpinned, "
		"over restarts.\n"
		"A folder follows what is in it; the folder of an index "
		"follows its live\n"
		"shards.  Ctrl-C stops the waiting, not the pin.\n\n"
		"  --range A-B    only bytes A to B of a file, B not included\n"
		"  --no-wait      do not wait until it is there\n"
		"  -j N           wait for so many paths at a time\n\n"
		"Example:\n"
		"  vectool pin /mnt/v/products\n",
	.min_operands = 1,
	.max_operands = VF_ARGS_OPERANDS_MAX,
	.options = pin_options,
	.run = run_waiting,
};

const struct vf_verb vf_verb_unpin = {
	.name = "unpin",
	.summary = "let go of what was pinned",
	.help = "usage: vectool unpin PATH... [--range A-B]\n\n"
		"It stays on the local disk until others need the place.\n\n"
		"  --range A-B    only bytes A to B of a file, B not "
		"included\n\n"
		"Example:\n"
		"  vectool unpin /mnt/v/products\n",
	.min_operands = 1,
	.max_operands = VF_ARGS_OPERANDS_MAX,
	.options = range_options,
	.run = run_at_once,
};

const struct vf_verb vf_verb_warm = {
	.name = "warm",
	.summary = "fetch files or folders of a mount before they are needed",
	.help = "usage: vectool warm PATH... [--range A-B] [--rate MB/s] [-j N] "
		"[--no-wait]\n\n"
		"The mount fetches what is not cached, to the local disk when "
		"it has one (-o\n"
		"disk=), else to RAM.  Unlike a pin it may leave again.  "
		"Ctrl-C stops the\n"
		"waiting, not the fetching.\n\n"
		"  --range A-B    only bytes A to B of a file, B not included\n"
		"  --rate MB/s    not faster than this, each path\n"
		"  --no-wait      do not wait until it is there\n"
		"  -j N           so many paths at a time\n\n"
		"Example:\n"
		"  vectool warm /mnt/v/products --rate 50\n",
	.min_operands = 1,
	.max_operands = VF_ARGS_OPERANDS_MAX,
	.options = warm_options,
	.run = run_waiting,
};

const struct vf_verb vf_verb_evict = {
	.name = "evict",
	.summary = "drop what a mount has cached of files or folders",
	.help = "usage: vectool evict PATH... [--range A-B]\n\n"
		"From RAM, from the local disk and from the kernel's page "
		"cache.  What is pinned\n"
		"stays on the local disk.\n\n"
		"  --range A-B    only bytes A to B of a file, B not "
		"included\n\n"
		"Example:\n"
		"  vectool evict /mnt/v/products\n",
	.min_operands = 1,
	.max_operands = VF_ARGS_OPERANDS_MAX,
	.options = range_options,
	.run = run_at_once,
};
