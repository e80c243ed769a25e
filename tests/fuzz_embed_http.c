/*
 * What an API of embeddings answers: vectors that are accepted are those of a
 * general parser, all of them there and finite; what is refused is said in one
 * text that ends.  The functions that read answers are static: included.
 */
#include "query/embed_http.c"
#include "tests/fuzz.h"

const char fuzz_name[] = "embed_http";

enum { DIM = 4, N_TEXTS = 3 };

static struct http_embedder embedder = {.base = {.dim = DIM},
					.shown = (char *)"http://x/v1",
					.key = (char *)"secret"};
static struct wave the_wave = {.e = &embedder};

static struct batch make_batch(const uint8_t *p, size_t len, size_t n)
{
	return (struct batch){
		.wave = &the_wave,
		.n = n,
		.answer = {.data = (uint8_t *)p, .len = len, .cap = len}};
}

static void check_why(const struct batch *b)
{
	fuzz_check(b->err == -EREMOTEIO && b->why[0]);
	fuzz_check(memchr(b->why, 0, sizeof(b->why)));
	fuzz_check(!strstr(b->why, embedder.key));
}

/* Vector @i of the texts is the one that says so, or the one in its place. */
static bool is_vector(const json_t *data, size_t i, const float *x)
{
	size_t at;
	json_t *v;

	json_array_foreach(data, at, v)
	{
		const json_t *index = json_object_get(v, "index");
		const json_t *list = json_object_get(v, "embedding");
		bool same = json_array_size(list) == DIM;
		if (index ? json_integer_value(index) != (json_int_t)i
			  : at != i)
			continue;
		for (size_t k = 0; same && k < DIM; k++)
			same = x[k] == (float)json_number_value(
					       json_array_get(list, k));
		if (same)
			return true;
	}
	return false;
}

static int try_vectors(const uint8_t *p, size_t len, size_t n)
{
	struct batch b = make_batch(p, len, n);
	VF_AUTO_FREE float *x = malloc(n * DIM * sizeof(float));

	fuzz_check(x != NULL);
	for (size_t i = 0; i < n * DIM; i++)
		x[i] = NAN;
	if (read_batch(&b, x)) {
		check_why(&b);
		return fuzz_outcome(b.err, b.why);
	}
	json_t *j = json_loadb((const char *)p, len, 0, NULL);
	for (size_t i = 0; i < n; i++)
		fuzz_check(
			is_vector(json_object_get(j, "data"), i, x + i * DIM));
	for (size_t i = 0; i < n * DIM; i++)
		fuzz_check(isfinite(x[i]));
	json_decref(j);
	return (int)n;
}

static void try_dim(const uint8_t *p, size_t len)
{
	struct batch b = make_batch(p, len, 1);
	uint32_t dim;

	if (read_dim(&b, &dim))
		check_why(&b);
	else
		fuzz_check(dim >= VF_DIM_MIN && dim <= VF_DIM_MAX);
}

static void try_error(const uint8_t *p, size_t len)
{
	struct batch b = make_batch(NULL, 0, 1);
	VF_AUTO_FREE char *text = strndup((const char *)p, len);

	fuzz_check(text != NULL);
	explain_status(&b, &(struct vf_http_answer){.status = 429,
						    .text = text,
						    .text_len = strlen(text),
						    .n_attempts = 3});
	check_why(&b);
}

int fuzz_one(const uint8_t *p, size_t len)
{
	try_dim(p, len);
	try_error(p, len);
	try_vectors(p, len, 1);
	return try_vectors(p, len, N_TEXTS);
}

void fuzz_seeds(void)
{
	static const char *const seeds[] = {
		"{\"object\":\"list\",\"data\":[{\"object\":\"embedding\","
		"\"index\":1,\"embedding\":[1,-2.5,3e-3,0]},{\"index\":0,"
		"\"embedding\":[0.1,16777217,1e-46,3.4e38]},{\"embedding\":"
		"[1,2,3,4],\"index\":2}],\"model\":\"m\",\"usage\":{}}",
		"{\"data\":[{\"embedding\":[1,2,3,4]}]}",
		"{\"data\":[{\"index\":1,\"embedding\":[1,2,3,4]},"
		"{\"embedding\":[1,2,3,4]},{\"index\":2,\"embedding\":"
		"[5,6,7,8]}]}",
		"{\"data\":[{\"embedding\":[1,2,3,4]},{\"embedding\":[5,6,7,8]}"
		",{\"embedding\":[9,10,11,12]}]}",
		"{\"data\":[{\"index\":0,\"embedding\":[1,2]},{\"index\":1,"
		"\"embedding\":[1e39,2,3,4]},{\"index\":2.5}]}",
		"{\"data\":[{\"index\":0,\"embedding\":\"AACAPwAAAEA=\"}]}",
		"{\"error\":{\"message\":\"slow down\\nplease\",\"code\":429}}",
		"{\"error\":\"the key secret is wrong\"}",
		"busy, \"try\" later"};

	for (size_t i = 0; i < VF_N(seeds); i++)
		fuzz_add(seeds[i], strlen(seeds[i]));
}

void fuzz_fix(uint8_t *p, size_t len)
{
	fuzz_fix_object(p, len);
}
