/*
 * A filter becomes an array of nodes and one of values.  What AWS leaves open:
 *
 *   $ne, $nin       are true exactly where $eq, $in are not, so also of a
 *                   vector without the key (as in MongoDB)
 *   numbers         are doubles: 1 equals 1.0, 0 equals -0
 *   across types    nothing is equal, nothing is in order
 *   lists           one element has to fulfil a condition; two conditions
 *                   may be fulfilled by two elements
 */
#include "store/filter.h"

#include <jansson.h>
#include <stdio.h>

/* A step of the place that a message names. */
struct place {
	const struct place *up;
	const char *name; /* NULL: a number */
	size_t number;
};

struct parser {
	struct vf_filter *f;
	size_t texts_len;
	char *why;
};

/* ---- messages ---------------------------------------------------------------------- */

static size_t print_place(const struct place *at, char *out, size_t cap)
{
	size_t n = at->up ? print_place(at->up, out, cap) : 0;
	int more;

	if (!at->name)
		more = snprintf(out + n, cap - n, "[%zu]", at->number);
	else
		more = snprintf(out + n, cap - n, "%s%.60s", n ? "." : "",
				at->name);
	return VF_MIN(n + (size_t)VF_MAX(more, 0), cap - 1);
}

static int refuse(struct parser *p, const struct place *at, const char *what)
{
	char where[VF_FILTER_WHY_LEN - 80] = "";

	print_place(at, where, sizeof(where));
	snprintf(p->why, VF_FILTER_WHY_LEN, "%s%s%.77s", where,
		 *where ? ": " : "", what);
	return -EINVAL;
}

/* ---- nodes and values --------------------------------------------------------------- */

static const char *keep_text(struct parser *p, const char *s, size_t len)
{
	char *to = p->f->texts + p->texts_len;

	memcpy(to, s, len);
	p->texts_len += len;
	return to;
}

static int new_node(struct parser *p, const struct place *at,
		    enum vf_filter_kind kind, uint32_t *out)
{
	struct vf_filter *f = p->f;

	if (f->n_nodes == VF_FILTER_NODES_MAX)
		return refuse(p, at, "more than 1024 conditions");
	f->nodes[f->n_nodes] =
		(struct vf_filter_node){.kind = kind, .first = f->n_values};
	*out = f->n_nodes++;
	return 0;
}

static int add_value(struct parser *p, const struct place *at, const json_t *j)
{
	struct vf_filter *f = p->f;
	struct vf_value v = {0};

	if (f->n_values == VF_FILTER_VALUES_MAX)
		return refuse(p, at, "more than 1024 values");
	if (json_is_string(j)) {
		v.kind = VF_VALUE_STRING;
		v.len = json_string_length(j);
		v.text = keep_text(p, json_string_value(j), v.len);
	} else if (json_is_boolean(j)) {
		v.kind = VF_VALUE_BOOL;
		v.number = json_is_true(j);
	} else if (json_is_number(j)) {
		v.kind = VF_VALUE_NUMBER;
		v.number = json_number_value(j) + 0.0; /* -0 is 0 */
	} else {
		return refuse(p, at, "takes a string, a number or a boolean");
	}
	f->values[f->n_values++] = v;
	return 0;
}

static int compare_values(const void *a, const void *b)
{
	return vf_value_compare(a, b);
}

/* Those that node @i took: in order, each once. */
static void close_values(struct vf_filter *f, uint32_t i)
{
	struct vf_filter_node *n = &f->nodes[i];
	struct vf_value *v = f->values + n->first;
	uint32_t n_all = f->n_values - n->first;

	qsort(v, n_all, sizeof(*v), compare_values);
	n->n = 0;
	for (uint32_t j = 0; j < n_all; j++)
		if (!j || vf_value_compare(&v[j], &v[n->n - 1]))
			v[n->n++] = v[j];
	f->n_values = n->first + n->n;
}

/* ---- operators on a key --------------------------------------------------------------- */

enum takes { ONE, LIST, NUMBER, TEXT, FLAG };

static const struct comparison {
	const char *name;
	enum vf_filter_kind kind;
	enum takes takes;
} operators[] = {
	{"$eq", VF_FILTER_IN, ONE},
	{"$ne", VF_FILTER_NOT_IN, ONE},
	{"$in", VF_FILTER_IN, LIST},
	{"$nin", VF_FILTER_NOT_IN, LIST},
	{"$gt", VF_FILTER_GT, NUMBER},
	{"$gte", VF_FILTER_GTE, NUMBER},
	{"$lt", VF_FILTER_LT, NUMBER},
	{"$lte", VF_FILTER_LTE, NUMBER},
	{"$exists", VF_FILTER_EXISTS, FLAG},
	{"$startsWith", VF_FILTER_STARTS, TEXT},
};

static const char *check_operand(enum takes takes, const json_t *v)
{
	switch (takes) {
	case NUMBER:
		return json_is_number(v) ? NULL : "takes a number";
	case TEXT:
		return json_is_string(v) ? NULL : "takes a string";
	case FLAG:
		return json_is_boolean(v) ? NULL : "takes true or false";
	case LIST:
		return json_array_size(v) ? NULL
					  : "takes a list of at least one";
	case ONE:
		break;
	}
	return json_is_array(v) ? "takes one value; for a list there is $in"
				: NULL;
}

static int read_operand(struct parser *p, const struct place *at,
			const struct comparison *o, const json_t *v,
			uint32_t node)
{
	const char *bad = check_operand(o->takes, v);
	int err = 0;

	if (bad)
		return refuse(p, at, bad);
	if (o->takes == FLAG) {
		if (json_is_false(v))
			p->f->nodes[node].kind = VF_FILTER_NOT_EXISTS;
		return 0;
	}
	if (o->takes != LIST)
		err = add_value(p, at, v);
	for (size_t i = 0; !err && i < json_array_size(v); i++) {
		struct place in = {at, NULL, i};
		err = add_value(p, &in, json_array_get(v, i));
	}
	if (!err)
		close_values(p->f, node);
	return err;
}

/* A condition on a key. */
struct condition {
	const char *key;
	size_t key_len;
	const char *op;
	const json_t *operand;
};

static int read_operator(struct parser *p, const struct place *at,
			 const struct condition *c, uint32_t *out)
{
	for (size_t i = 0; i < VF_N(operators); i++) {
		const struct comparison *o = &operators[i];
		if (strcmp(o->name, c->op))
			continue;
		int err = new_node(p, at, o->kind, out);
		if (err)
			return err;
		p->f->nodes[*out].key = c->key;
		p->f->nodes[*out].key_len = c->key_len;
		return read_operand(p, at, o, c->operand, *out);
	}
	return refuse(p, at,
		      *c->op == '$' ? "there is no such operator"
				    : "an operator is expected here, as $eq");
}

/* Hang @node behind *last, or below @parent when it is the first. */
static void link_node(struct vf_filter *f, uint32_t parent, uint32_t *last,
		      uint32_t node)
{
	*(*last ? &f->nodes[*last].next : &f->nodes[parent].child) = node;
	*last = node;
}

/* A key and what is asked of it, below @parent. */
static int read_key(struct parser *p, const struct place *at,
		    struct condition c, uint32_t parent, uint32_t *last)
{
	json_t *all = (json_t *)c.operand, *v;
	uint32_t node;
	int err;

	c.key = keep_text(p, c.key, c.key_len);
	if (!json_is_object(all)) {
		c.op = "$eq";
		err = read_operator(p, at, &c, &node);
		if (!err)
			link_node(p->f, parent, last, node);
		return err;
	}
	if (!json_object_size(all))
		return refuse(p, at, "an operator is expected here, as $eq");
	json_object_foreach(all, c.op, v)
	{
		struct place in = {at, c.op, 0};
		c.operand = v;
		err = read_operator(p, &in, &c, &node);
		if (err)
			return err;
		link_node(p->f, parent, last, node);
	}
	return 0;
}

/* ---- filters in filters ----------------------------------------------------------------- */

static int read_filter(struct parser *p, const struct place *at,
		       const json_t *j, unsigned depth, uint32_t node);

/* The list of $and or $or. */
static int read_list(struct parser *p, const struct place *at, const json_t *j,
		     unsigned depth, uint32_t parent)
{
	uint32_t last = 0, node;
	int err = 0;

	if (!json_array_size(j))
		return refuse(p, at, "takes a list of at least one filter");
	for (size_t i = 0; !err && i < json_array_size(j); i++) {
		struct place in = {at, NULL, i};
		err = new_node(p, &in, VF_FILTER_AND, &node);
		if (!err) {
			link_node(p->f, parent, &last, node);
			err = read_filter(p, &in, json_array_get(j, i),
					  depth + 1, node);
		}
	}
	return err;
}

static int read_member(struct parser *p, const struct place *at,
		       const char *name, json_t *v, unsigned depth,
		       uint32_t parent, uint32_t *last)
{
	bool is_or = !strcmp(name, "$or");
	uint32_t node;

	if (*name != '$') {
		struct condition c = {
			.key = name, .key_len = strlen(name), .operand = v};
		return read_key(p, at, c, parent, last);
	}
	if (!is_or && strcmp(name, "$and"))
		return refuse(p, at,
			      "there is no such operator between filters");
	int err = new_node(p, at, is_or ? VF_FILTER_OR : VF_FILTER_AND, &node);
	if (err)
		return err;
	link_node(p->f, parent, last, node);
	return read_list(p, at, v, depth, node);
}

/* The object @j into node @node, which is an AND. */
static int read_filter(struct parser *p, const struct place *at,
		       const json_t *j, unsigned depth, uint32_t node)
{
	uint32_t last = 0;
	const char *name;
	json_t *v;
	int err = 0;

	if (!json_is_object(j))
		return refuse(p, at, "a filter is a JSON object");
	if (depth > VF_FILTER_DEPTH_MAX)
		return refuse(p, at, "nested more than 16 deep");
	json_object_foreach((json_t *)j, name, v)
	{
		struct place in = {at, name, 0};
		err = read_member(p, &in, name, v, depth, node, &last);
		if (err)
			break;
	}
	return err;
}

static int new_filter(size_t len, struct vf_filter **out)
{
	struct vf_filter *f = calloc(1, sizeof(*f));

	*out = f;
	if (!f)
		return -ENOMEM;
	f->nodes = calloc(VF_FILTER_NODES_MAX, sizeof(*f->nodes));
	f->values = calloc(VF_FILTER_VALUES_MAX, sizeof(*f->values));
	f->texts = malloc(len + 1); /* no text is longer without escapes */
	return f->nodes && f->values && f->texts ? 0 : -ENOMEM;
}

static int read_text(struct parser *p, const char *json, size_t len)
{
	enum {
		FLAGS = JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL |
			JSON_ALLOW_NUL
	};
	const struct place top = {.name = ""};
	json_error_t e;
	uint32_t root;

	if (len > VF_FILTER_LEN_MAX)
		return refuse(p, &top, "longer than 65536 bytes");
	json_t *j = json_loadb(json, len, FLAGS, &e);
	if (!j) {
		snprintf(p->why, VF_FILTER_WHY_LEN,
			 "no JSON object, at character %d: %.120s", e.position,
			 e.text);
		return -EINVAL;
	}
	int err = new_filter(len, &p->f);
	if (!err)
		err = new_node(p, &top, VF_FILTER_AND, &root);
	if (!err)
		err = read_filter(p, &top, j, 0, root);
	json_decref(j);
	return err;
}

int vf_filter_parse(const char *json, size_t len, struct vf_filter **out,
		    char *why)
{
	struct parser p = {.why = why};
	int err = read_text(&p, json, len);

	if (err)
		vf_filter_free(VF_STEAL(p.f));
	*out = p.f;
	return err;
}

static bool is_of_key(const struct vf_filter_node *n, const char *key,
		      size_t len)
{
	return n->kind >= VF_FILTER_IN && n->key_len == len &&
	       !memcmp(n->key, key, len);
}

static int refuse_key(const struct vf_filter *f, const char *name,
		      const char *key)
{
	for (uint32_t i = 0; i < f->n_nodes; i++)
		if (is_of_key(&f->nodes[i], key, strlen(key)))
			return vf_fail(-EINVAL,
				       "filter: %s: this key of %s is not "
				       "filterable",
				       key, name);
	return 0;
}

int vf_filter_open(const char *json, const char *name,
		   const struct vf_index_config *c, struct vf_filter **out)
{
	char why[VF_FILTER_WHY_LEN];
	int err = vf_filter_parse(json, strlen(json), out, why);

	if (err == -EINVAL)
		return vf_fail(err, "filter: %s", why);
	for (uint32_t i = 0; !err && i < c->n_non_filterable; i++)
		err = refuse_key(*out, name, c->non_filterable[i]);
	if (err)
		vf_filter_free(VF_STEAL(*out));
	return err;
}

void vf_filter_free(struct vf_filter *f)
{
	if (!f)
		return;
	free(f->nodes);
	free(f->values);
	free(f->texts);
	free(f);
}

/* ---- evaluating ---------------------------------------------------------------------- */

bool vf_filter_holds(const struct vf_filter *f, const struct vf_filter_node *n,
		     const struct vf_value *v)
{
	const struct vf_value *have = f->values + n->first;

	if (n->kind == VF_FILTER_EXISTS || n->kind == VF_FILTER_NOT_EXISTS)
		return true;
	if (n->kind == VF_FILTER_IN || n->kind == VF_FILTER_NOT_IN)
		return bsearch(v, have, n->n, sizeof(*v), compare_values);
	if (v->kind != have->kind)
		return false;
	switch (n->kind) {
	case VF_FILTER_GT:
		return v->number > have->number;
	case VF_FILTER_GTE:
		return v->number >= have->number;
	case VF_FILTER_LT:
		return v->number < have->number;
	case VF_FILTER_LTE:
		return v->number <= have->number;
	default:
		return v->len >= have->len &&
		       !memcmp(v->text, have->text, have->len);
	}
}

struct matching {
	const struct vf_filter *f;
	bool holds[VF_FILTER_NODES_MAX];
};

static int see_value(void *arg, const char *key, size_t len,
		     const struct vf_value *v)
{
	struct matching *m = arg;

	for (uint32_t i = 0; i < m->f->n_nodes; i++)
		if (!m->holds[i] && is_of_key(&m->f->nodes[i], key, len))
			m->holds[i] = vf_filter_holds(m->f, &m->f->nodes[i], v);
	return 0;
}

static bool is_true(const struct matching *m, uint32_t i)
{
	const struct vf_filter_node *n = &m->f->nodes[i];
	bool is_or = n->kind == VF_FILTER_OR;

	if (n->kind == VF_FILTER_NOT_IN || n->kind == VF_FILTER_NOT_EXISTS)
		return !m->holds[i];
	if (n->kind >= VF_FILTER_IN)
		return m->holds[i];
	for (uint32_t c = n->child; c; c = m->f->nodes[c].next)
		if (is_true(m, c) == is_or)
			return is_or;
	return !is_or;
}

int vf_filter_match(const struct vf_filter *f, const char *metadata, size_t len,
		    struct vf_buf *scratch)
{
	struct matching m = {.f = f};
	int err = vf_metadata_walk(metadata, len, scratch, see_value, &m);

	return err ? err : is_true(&m, 0);
}
