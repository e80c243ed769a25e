/* /_sim/...: unsigned, not counted, never delayed. */
#include "tests/s3sim.h"

#include <inttypes.h>
#include <stdio.h>

static void print_stats(const struct sim *s, struct sim_response *res)
{
	const struct sim_stats *n = &s->stats;

	vf_buf_printf(&res->head, "Content-Type: application/json\r\n");
	vf_buf_printf(
		&res->text,
		"{\"get\":%" PRIu64 ",\"put\":%" PRIu64 ",\"head\":%" PRIu64
		",\"list\":%" PRIu64 ",\"delete\":%" PRIu64 ",\"post\":%" PRIu64
		",\"bytes_in\":%" PRIu64 ",\"bytes_out\":%" PRIu64
		",\"errors\":%" PRIu64 ",\"resets\":%" PRIu64
		",\"in_flight\":%" PRIu64 ",\"max_in_flight\":%" PRIu64
		",\"waves\":%" PRIu64 ",\"connections\":%" PRIu64
		",\"objects\":%zu,\"uploads\":%u,\"silent\":%" PRIu64 "}\n",
		n->get, n->put, n->head, n->list, n->delete, n->post,
		n->bytes_in, n->bytes_out, n->errors, n->resets, s->in_flight,
		n->max_in_flight, n->waves, s->n_connections, s->store.n,
		s->n_uploads, n->silent);
}

/* Which of @names @v is; -1: none. */
static int find_name(const char *const *names, unsigned n, const char *v)
{
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(v, names[i]))
			return (int)i;
	return -1;
}

static int set_wrong(struct sim *s, const char *v)
{
	static const char *const names[] = {
		[SIM_WRONG_NONE] = "none",   [SIM_WRONG_ETAG] = "etag",
		[SIM_WRONG_RANGE] = "range", [SIM_WRONG_SHORT] = "short",
		[SIM_WRONG_LONG] = "long",   [SIM_WRONG_LENGTH] = "length"};
	int i = find_name(names, VF_N(names), v);

	if (i < 0)
		return -EINVAL;
	s->wrong = (enum sim_wrong)i;
	s->n_wrong = UINT64_MAX;
	return 0;
}

static int set_conditional(struct sim *s, const char *v)
{
	static const char *const names[] = {
		[SIM_CONDITIONAL_ON] = "on",
		[SIM_CONDITIONAL_IGNORED] = "ignored",
		[SIM_CONDITIONAL_REFUSED] = "refused"};
	int i = find_name(names, VF_N(names), v);

	if (i < 0)
		return -EINVAL;
	s->conditional = (enum sim_conditional)i;
	return 0;
}

static int set_multi_delete(struct sim *s, const char *v)
{
	static const char *const names[] = {
		[SIM_MULTI_DELETE_ON] = "on",
		[SIM_MULTI_DELETE_REFUSED] = "refused",
		[SIM_MULTI_DELETE_PARTIAL] = "partial"};
	int i = find_name(names, VF_N(names), v);

	if (i < 0)
		return -EINVAL;
	s->multi_delete = (enum sim_multi_delete)i;
	return 0;
}

static int parse_rate(const char *v, double *out)
{
	char *end;

	*out = strtod(v, &end);
	return end == v || *end || !(*out >= 0 && *out <= 1) ? -EINVAL : 0;
}

static int parse_count(const char *v, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;

	*out = strtoull(v, &end, 10);
	return *v < '0' || *v > '9' || *end || *out < min || *out > max
		       ? -EINVAL
		       : 0;
}

static int set_one(struct sim *s, const char *name, const char *v)
{
	uint64_t n;
	int err = -EINVAL;

	if (!strcmp(name, "wrong"))
		return set_wrong(s, v);
	if (!strcmp(name, "conditional"))
		return set_conditional(s, v);
	if (!strcmp(name, "multi_delete"))
		return set_multi_delete(s, v);
	if (!strcmp(name, "error_rate"))
		return parse_rate(v, &s->error_rate);
	if (!strcmp(name, "reset_rate"))
		return parse_rate(v, &s->reset_rate);
	if (!strcmp(name, "silent_after"))
		return parse_count(v, 0, UINT64_MAX, &s->n_left);
	if (!strcmp(name, "seed"))
		return parse_count(v, 0, UINT64_MAX, &s->rand);
	if (!strcmp(name, "latency_ms")) {
		err = parse_count(v, 0, 600000, &n);
		s->latency_ms = err ? s->latency_ms : (unsigned)n;
	} else if (!strcmp(name, "max_keys")) {
		err = parse_count(v, 1, SIM_MAX_KEYS, &n);
		s->max_keys = err ? s->max_keys : (unsigned)n;
	}
	return err;
}

static int set_all(struct sim *s, const struct sim_request *r)
{
	const char *n = sim_request_query(r, "n");
	int err = 0;

	for (size_t i = 0; !err && i < r->n_query; i++)
		if (strcmp(r->query[i].name, "n"))
			err = set_one(s, r->query[i].name, r->query[i].value);
	if (!err && n)
		err = parse_count(n, 0, UINT64_MAX, &s->n_wrong);
	return err;
}

void sim_control(struct sim *s, const struct sim_request *r,
		 struct sim_response *res)
{
	bool post = !strcmp(r->method, "POST");

	if (!post && !strcmp(r->key, "stats")) {
		print_stats(s, res);
	} else if (post && !strcmp(r->key, "reset")) {
		s->stats = (struct sim_stats){.max_in_flight = s->in_flight};
		res->status = 204;
	} else if (post && !strcmp(r->key, "set")) {
		if (set_all(s, r))
			sim_refuse(res, 400, "InvalidArgument",
				   "Not a setting, or not a value of it");
		else
			res->status = 204;
	} else {
		sim_refuse(res, 404, "NoSuchControl",
			   "GET /_sim/stats, POST /_sim/reset, POST "
			   "/_sim/set?...");
	}
}
