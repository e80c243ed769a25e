/*
 * line_shown   [atomic] a progress line is on the terminal
 * one_error    [atomic] threads work together: the first error says why, what
 *              the others meet while they stop is not worth a line
 * n_errors     [atomic] said since then
 */
#include "tools/progress.h"

#include <stdatomic.h>
#include <stdio.h>

#include "store/util.h"
#include "tools/interrupt.h"

static atomic_bool line_shown, one_error;
static atomic_uint n_errors;
static _Thread_local bool aside;

enum { INTERVAL_NS = 100000000 };

void vf_progress_begin(struct vf_progress *p, const char *what,
		       uint64_t n_total, uint64_t row_len, bool quiet)
{
	*p = (struct vf_progress){.what = what,
				  .unit = "rows",
				  .n_total = n_total,
				  .row_len = row_len,
				  .start_ns = vf_now_ns(),
				  .on = !quiet && isatty(STDERR_FILENO)};
	if (aside)
		return;
	atomic_store(&n_errors, 0);
	atomic_store(&one_error, true);
}

static void format_left(char *out, size_t cap, double s)
{
	if (s < 100)
		snprintf(out, cap, "%.0f s", s);
	else if (s < 6000)
		snprintf(out, cap, "%.0f min", s / 60);
	else
		snprintf(out, cap, "%.1f h", s / 3600);
}

void vf_progress_update(struct vf_progress *p, uint64_t n_done)
{
	uint64_t now = p->on ? vf_now_ns() : 0;
	char left[32] = "", speed[32] = "", rate[64] = "", share[16] = "";

	if (!p->on || now - p->shown_ns < INTERVAL_NS)
		return;
	p->shown_ns = now;
	double s = (double)(now - p->start_ns + 1) / 1e9;
	double per_s = (double)n_done / s;
	if (strcmp(p->unit, "s")) /* which are no news by the second */
		snprintf(rate, sizeof(rate), ", %.0f %s/s", per_s, p->unit);
	if (p->row_len)
		snprintf(speed, sizeof(speed), ", %.0f MB/s",
			 per_s * (double)p->row_len / 1e6);
	if (p->n_total && n_done) {
		double rest = (double)(p->n_total - n_done) / per_s;
		char t[24];
		format_left(t, sizeof(t), rest);
		snprintf(left, sizeof(left), ", %s left", t);
		snprintf(share, sizeof(share), " %3.0f%%",
			 100. * (double)n_done / (double)p->n_total);
	}
	fprintf(stderr, "\r\033[K%s%s: %llu %s%s%s%s", p->what, share,
		(unsigned long long)n_done, p->unit, rate, speed, left);
	fflush(stderr);
	atomic_store_explicit(&line_shown, true, memory_order_relaxed);
}

static void clear_line(void)
{
	if (atomic_exchange_explicit(&line_shown, false, memory_order_relaxed))
		fputs("\r\033[K", stderr);
}

int vf_progress_reading(void *progress, uint64_t done, uint64_t total)
{
	struct vf_progress *p = progress;

	p->n_total = total;
	vf_progress_update(p, done);
	return vf_interrupted() ? -ECANCELED : 0;
}

void vf_progress_end(struct vf_progress *p)
{
	if (aside)
		return;
	clear_line();
	p->on = false;
	atomic_store(&one_error, false);
}

void vf_progress_aside(void)
{
	aside = true;
}

void vf_progress_log(void *arg, enum vf_level level, const char *line)
{
	if (level == VF_ERROR && atomic_fetch_add(&n_errors, 1) &&
	    atomic_load(&one_error))
		return;
	clear_line();
	fprintf(stderr, "vectool: %s%s\n", level == VF_WARN ? "warning: " : "",
		line);
}
