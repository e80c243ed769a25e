/*
 * The log tells the order of the deeds; in that order they are done again upon
 * a plain table, one line of it per version.
 */
#include "tests/rivals.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "store/line.h"

struct check {
	struct vf_bucket *b;
	const char *index;
	struct rivals_journal *j;
	uint64_t head;
	uint32_t (*at)[RIVALS_KEYS]; /* [head + 1]: deed that wrote it, or 0 */
	unsigned n_wrong;
};

__attribute__((format(printf, 2, 3))) static void wrong(struct check *c,
							const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "%s: ", c->index);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	c->n_wrong++;
}

/* ---- the order --------------------------------------------------------------- */

/* Which deed a record is of; 0: nobody's, such as a compaction. */
static uint32_t deed_of(const struct vf_record *r)
{
	uint32_t id = 0;

	for (size_t i = 0; i < r->n_ops && !id; i++) {
		const struct vf_op *op = &r->ops[i];
		const char *key, *at;
		size_t cursor = 0, len;
		char digits[16] = "";
		if (op->kind == VF_OP_UPSERT) {
			at = memmem(op->upsert.lines, op->upsert.lines_len,
				    "{\"deed\":", 8);
			id = at ? (uint32_t)strtoul(at + 8, NULL, 10) : 0;
		}
		if (op->kind == VF_OP_DELETE &&
		    vf_delete_next(&op->delete, &cursor, &key, &len) &&
		    key[0] == RIVALS_MARK && len < sizeof(digits)) {
			memcpy(digits, key + 1, len - 1);
			id = (uint32_t)strtoul(digits, NULL, 10);
		}
	}
	return id;
}

static struct rivals_deed *find_deed(struct check *c, uint32_t id)
{
	uint32_t i = id - 1;

	return id && i / RIVALS_EACH < c->j->n_writers
		       ? &c->j->deeds[i / RIVALS_EACH][i % RIVALS_EACH]
		       : NULL;
}

static void do_again(struct check *c, uint64_t n, uint32_t id)
{
	struct rivals_deed *d = find_deed(c, id);

	memcpy(c->at[n], c->at[n - 1], sizeof(c->at[n]));
	if (!id)
		return;
	if (!d || d->id != id) {
		wrong(c, "record %" PRIu64 " is of a deed %u", n, id);
		return;
	}
	if (d->landed)
		wrong(c, "deed %u is record %" PRIu64 " and %" PRIu64, id,
		      d->landed, n);
	d->landed = n;
	for (unsigned k = 0; k < d->n_keys; k++)
		c->at[n][d->keys[k]] = d->is_delete ? 0 : id;
}

static int read_order(struct check *c)
{
	int err = 0;

	for (uint64_t n = 1; !err && n <= c->head; n++) {
		VF_AUTO_FREE void *bytes = NULL;
		struct vf_record r;
		err = vf_record_load(c->b, c->index, n, &bytes, &r);
		if (err)
			break;
		do_again(c, n, deed_of(&r));
		vf_record_fini(&r);
	}
	return err;
}

/* ---- what each was told -------------------------------------------------------- */

/* Keys of the deed that were there in version @n, each once. */
static unsigned n_there(const struct check *c, const struct rivals_deed *d,
			uint64_t n)
{
	uint64_t seen = 0;

	for (unsigned k = 0; n <= c->head && k < d->n_keys; k++)
		if (c->at[n][d->keys[k]])
			seen |= 1ull << d->keys[k];
	return (unsigned)__builtin_popcountll(seen);
}

static const char *judge_acked(const struct check *c,
			       const struct rivals_deed *d)
{
	if (!d->landed)
		return "was acknowledged and is lost";
	if (d->landed != d->head)
		return "was told another number";
	if (d->killed != n_there(c, d, d->landed - 1))
		return "was told another number of rows";
	if (d->if_absent && d->killed)
		return "replaced rows although it was not to";
	if (d->at_version && d->landed != d->version + 1)
		return "is upon another version than it was to be";
	return NULL;
}

static const char *judge_refused(const struct check *c,
				 const struct rivals_deed *d)
{
	if (d->landed)
		return "was refused and is there";
	if (d->head < d->floor)
		return "was refused by what was old already";
	if (d->err == -EEXIST && !n_there(c, d, d->head))
		return "was refused for keys that were not there";
	if (d->err == -ESTALE && d->head == d->version)
		return "was refused at the version it asked for";
	return NULL;
}

static const char *judge(const struct check *c, const struct rivals_deed *d)
{
	if (d->landed && d->landed <= d->floor)
		return "came before what was acknowledged before it began";
	switch (d->told) {
	case RIVALS_ACKED:
		return judge_acked(c, d);
	case RIVALS_REFUSED:
		return judge_refused(c, d);
	case RIVALS_NOTHING:
		if (d->head < d->floor || n_there(c, d, d->head))
			return "found nothing, and there was something";
		return d->landed ? "did nothing and is there" : NULL;
	case RIVALS_FAILED:
	case RIVALS_NOT_BEGUN:
		return d->landed ? "failed and is there" : NULL;
	default: /* may be there or not */
		return NULL;
	}
}

static void judge_all(struct check *c)
{
	for (unsigned w = 0; w < c->j->n_writers; w++)
		for (unsigned i = 0; i < c->j->n_each; i++) {
			const struct rivals_deed *d = &c->j->deeds[w][i];
			const char *why = judge(c, d);
			if (why)
				wrong(c,
				      "deed %u (%s of %u keys) %s: told %d, "
				      "error %d, head %" PRIu64
				      ", record %" PRIu64
				      ", begun after %" PRIu64,
				      d->id, d->is_delete ? "delete" : "upsert",
				      d->n_keys, why, d->told, d->err, d->head,
				      d->landed, d->floor);
		}
}

/* ---- what is there --------------------------------------------------------------- */

static uint64_t n_rows(const struct check *c, uint64_t n)
{
	uint64_t rows = 0;

	for (unsigned k = 0; k < RIVALS_KEYS; k++)
		rows += c->at[n][k] != 0;
	return rows;
}

/* Every living row of the tail is what the table says. */
static void compare_tail(struct check *c, const struct vf_state *s)
{
	for (size_t i = 0; i < s->n_tail; i++) {
		const struct vf_inline *r = s->tail[i].rows;
		for (uint64_t row = 0; row < r->n_rows; row++) {
			unsigned k = RIVALS_KEYS, id = 0;
			float x;
			if (vf_dead_has(s->tail[i].dead, row))
				continue;
			memcpy(&x, r->vectors + row * r->row_len, sizeof(x));
			sscanf(r->lines + r->line_offs[row],
			       "{\"key\":\"k%u\",\"metadata\":{\"deed\":%u", &k,
			       &id);
			if (k >= RIVALS_KEYS || c->at[s->head][k] != id ||
			    (unsigned)x != id)
				wrong(c,
				      "version %" PRIu64 ": key k%u is of "
				      "deed %u, not %u",
				      s->head, k, id,
				      c->at[s->head][k % RIVALS_KEYS]);
		}
	}
}

static void compare_version(struct check *c, uint64_t n)
{
	struct vf_state *s = NULL;
	int err = vf_state_load_at(c->b, c->index, n, &s);

	if (err) {
		wrong(c, "version %" PRIu64 ": %s", n, vf_strerror(err));
		return;
	}
	if (s->n_rows != n_rows(c, n))
		wrong(c,
		      "version %" PRIu64 " has %" PRIu64 " rows, not "
		      "%" PRIu64,
		      n, s->n_rows, n_rows(c, n));
	compare_tail(c, s);
	vf_state_free(s);
}

static void compare_key(struct check *c, struct vf_catalog_view *v, unsigned k)
{
	VF_AUTO_BUF struct vf_buf metadata = {0};
	struct vf_place p;
	char key[16];
	uint32_t id = 0, want = c->at[c->head][k];
	int len = snprintf(key, sizeof(key), "k%u", k);
	int err = vf_catalog_find(v, key, (size_t)len, &p);

	if (!err)
		err = vf_catalog_metadata(v, &p, &metadata);
	if (!err)
		err = vf_buf_append(&metadata, "", 1);
	if (!err)
		sscanf((char *)metadata.data, "{\"deed\":%u", &id);
	if ((err && err != -ENOENT) || id != want)
		wrong(c, "key %s is of deed %u, not %u: %s", key, id, want,
		      vf_strerror(err));
}

static void compare_keys(struct check *c, const char *cache_dir)
{
	struct vf_changer ch = {
		.bucket = c->b, .index = c->index, .cache_dir = cache_dir};
	struct vf_catalog_view *v = NULL;
	int err = vf_changer_load(&ch);

	if (!err)
		err = vf_changer_look(&ch, &v);
	if (err || ch.state->head < c->head)
		wrong(c, "the catalog: %s", vf_strerror(err));
	for (unsigned k = 0; !err && k < RIVALS_KEYS; k++)
		compare_key(c, v, k);
	vf_catalog_done(v);
	vf_changer_fini(&ch);
}

unsigned rivals_check(struct vf_bucket *b, const char *index,
		      const char *cache_dir, struct rivals_journal *j)
{
	struct check c = {.b = b, .index = index, .j = j};
	struct vf_state *s = NULL;
	int err = vf_state_load(b, index, &s);

	if (!err) {
		c.head = s->head;
		c.at = calloc(c.head + 1, sizeof(*c.at));
		err = c.at ? read_order(&c) : -ENOMEM;
	}
	vf_state_free(s);
	if (err) {
		wrong(&c, "cannot be read: %s", vf_strerror(err));
	} else {
		judge_all(&c);
		for (uint64_t n = c.head; n; n /= 2)
			compare_version(&c, n);
		compare_keys(&c, cache_dir);
	}
	free(c.at);
	return c.n_wrong;
}
