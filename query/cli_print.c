/*
 * Answers as JSON and as tables.
 */
#include "query/cli.h"
#include "store/control.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/ioctl.h>

static int append_hit(const struct vf_answer_hit *h, bool first,
		      struct vf_buf *out)
{
	json_t *key = json_string(h->key);
	VF_AUTO_FREE char *text = json_dumps(key, JSON_ENCODE_ANY);

	json_decref(key);
	if (!text)
		return -ENOMEM;
	return vf_buf_printf(out,
			     "%s{\"key\":%s,\"distance\":%.9g,\"exact\":%s,"
			     "\"metadata\":%s}",
			     first ? "" : ",", text, (double)h->distance,
			     h->exact ? "true" : "false", h->metadata);
}

static int append_cost(const struct vf_cost *c, struct vf_buf *out)
{
	int err = vf_buf_printf(
		out,
		"\"cost\":{\"repeated\":%s,\"rounds\":%u,\"gets\":%" PRIu64
		",\"got\":%" PRIu64 ",\"leaves\":%" PRIu64
		",\"scans\":%u,\"scanned\":%" PRIu64 ",\"candidates\":%" PRIu64
		",\"refined\":%" PRIu64 ",\"rows_read\":%" PRIu64
		",\"from\":{\"ram\":%" PRIu64 ",\"disk\":%" PRIu64
		",\"bucket\":%" PRIu64 "}",
		c->is_repeated ? "true" : "false", c->rounds, c->gets, c->got,
		c->leaves, c->scans, c->scanned, c->candidates, c->refined,
		c->rows_read, c->from_ram, c->from_disk, c->from_bucket);

	if (err)
		return err;
	return vf_buf_printf(
		out,
		",\"ranges\":%" PRIu64 ",\"bytes\":%" PRIu64
		",\"errors\":%" PRIu64
		",\"ms\":{\"plan\":%.3f,\"scan\":%.3f,\"refine\":%.3f,"
		"\"fetch\":%.3f,\"total\":%.3f}}}\n",
		c->ranges, c->bytes, c->errors, c->plan_ms, c->scan_ms,
		c->refine_ms, c->fetch_ms, c->total_ms);
}

int cli_append_json(const struct vf_answer *a, uint64_t number,
		    struct vf_buf *out)
{
	int err =
		vf_buf_printf(out,
			      "{\"query\":%" PRIu64 ",\"version\":%" PRIu64
			      ",\"partial\":%s,\"bound_met\":%s,\"hits\":[",
			      number, a->version, a->partial ? "true" : "false",
			      a->cost.bound_met ? "true" : "false");

	for (size_t i = 0; !err && i < a->n_hits; i++)
		err = append_hit(&a->hits[i], !i, out);
	if (!err)
		err = vf_buf_printf(out, "],");
	return err ? err : append_cost(&a->cost, out);
}

static size_t terminal_width(void)
{
	struct winsize w;

	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) && w.ws_col > 40)
		return w.ws_col;
	return 120;
}

/* At most @width characters of UTF-8, control characters as '?'. */
static int print_text(const char *s, size_t width, bool pad)
{
	const char *end = s + strlen(s);
	size_t n = 0;

	for (size_t len; *s && n < width; s += len) {
		size_t control = vf_control_len(s, end);
		len = VF_MAX(control, (size_t)1);
		putchar(control ? '?' : *s);
		n += (*s & 0xc0) != 0x80;
	}
	while (*s && (*s & 0xc0) == 0x80)
		putchar(*s++);
	for (size_t i = n; pad && i < width; i++)
		putchar(' ');
	return 0;
}

static size_t text_width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

void cli_print_table(const struct vf_answer *a, uint64_t number, bool many)
{
	size_t width = terminal_width(), keys = 3;

	for (size_t i = 0; i < a->n_hits; i++)
		keys = VF_MAX(keys, text_width(a->hits[i].key));
	keys = VF_MIN(keys, (size_t)40);
	if (many)
		printf("query %llu\n", (unsigned long long)number);
	printf("%4s  %10s  %-*s  metadata\n", "rank", "distance", (int)keys,
	       "key");
	for (size_t i = 0; i < a->n_hits; i++) {
		printf("%4zu %c%10.6f  ", i + 1, a->hits[i].exact ? ' ' : '~',
		       (double)a->hits[i].distance);
		print_text(a->hits[i].key, keys, true);
		fputs("  ", stdout);
		print_text(a->hits[i].metadata,
			   width > keys + 24 ? width - keys - 20 : 4, false);
		putchar('\n');
	}
	printf("%llu rows read of %llu candidates in %.1f ms (scan %.1f, fetch "
	       "%.1f)%s\n",
	       (unsigned long long)a->cost.rows_read,
	       (unsigned long long)a->cost.candidates, a->cost.total_ms,
	       a->cost.scan_ms, a->cost.fetch_ms,
	       a->partial ? "; the answer is partial" : "");
}

/* ---- waiting --------------------------------------------------------------------------------- */

void cli_show_building(void *arg, uint64_t done, uint64_t total)
{
	if (!isatty(STDERR_FILENO))
		return;
	fputs("\r\033[K", stderr);
	if (total)
		fprintf(stderr, "building the catalog: %.0f %%",
			100. * (double)done / (double)total);
	fflush(stderr);
}
