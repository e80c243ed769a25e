/*
 * Embeddings from an API: requests as they should be, answers as they should
 * not.
 */
#include "query/embed_http.h"
#include "tests/httpd.h"

#include <jansson.h>
#include <stdio.h>

enum { DIM = 4, N_MAX = 64 };

/* Each request's texts are "0".."63"; its vectors hold their number. */
struct api {
	const char *answer; /* instead of a right one */
	int status;	    /* 0: 200 */
	const char *lines;
	size_t n_requests, largest;
	unsigned n_seen[N_MAX];
	char target[64], key[64], type[32], model[32];
};

static void reply_right(struct api *a, const json_t *input,
			struct vf_buf *reply)
{
	json_t *data = json_array();
	VF_AUTO_FREE char *text = NULL;
	size_t n = json_array_size(input);

	for (size_t i = n; i-- > 0;) { /* backwards */
		int v = atoi(json_string_value(json_array_get(input, i)));
		a->n_seen[v % N_MAX]++;
		json_array_append_new(
			data, json_pack("{s:i, s:[i, f, i, i]}", "index",
					(int)i, "embedding", v, v + .5, 0, 1));
	}
	json_t *all = json_pack("{s:o}", "data", data);
	text = json_dumps(all, 0);
	json_decref(all);
	vf_httpd_reply(reply, 200, "", text, strlen(text));
}

static enum vf_httpd_after serve(void *arg, const struct vf_httpd_request *r,
				 struct vf_buf *reply)
{
	struct api *a = arg;
	json_t *ask = json_loadb((const char *)r->body, r->body_len, 0, NULL);
	const json_t *input = json_object_get(ask, "input");

	a->n_requests++;
	a->largest = VF_MAX(a->largest, json_array_size(input));
	snprintf(a->target, sizeof(a->target), "%s", r->target);
	snprintf(a->model, sizeof(a->model), "%s",
		 json_string_value(json_object_get(ask, "model")));
	a->key[0] = '\0';
	vf_httpd_header(r, "authorization", a->key, sizeof(a->key));
	vf_httpd_header(r, "content-type", a->type, sizeof(a->type));
	if (a->answer)
		vf_httpd_reply(reply, a->status ? a->status : 200,
			       a->lines ? a->lines : "", a->answer,
			       strlen(a->answer));
	else
		reply_right(a, input, reply);
	json_decref(ask);
	return VF_HTTPD_KEEP;
}

static int open_api(struct vf_httpd *d, const char *behind, uint32_t dim,
		    unsigned ms, struct vf_embedder **out)
{
	char url[128];

	snprintf(url, sizeof(url), "%s%s", vf_httpd_url(d), behind);
	const struct vf_embed_http_options opt = {.url = url,
						  .model = "m",
						  .dim = dim,
						  .batch = 5,
						  .timeout_ms = ms};
	return vf_embed_http_open(&opt, out);
}

static void forget_keys(void)
{
	unsetenv("VECFS_EMBED_KEY");
	unsetenv("OPENAI_API_KEY");
}

static void texts_go_in_batches_each_once(void)
{
	struct api a = {0};
	struct vf_httpd *d = vf_httpd_open(serve, &a);
	struct vf_embed_text texts[N_MAX];
	struct vf_embed_failure f;
	struct vf_embedder *e;
	char names[N_MAX][12];
	float x[N_MAX][DIM];

	forget_keys();
	for (int i = 0; i < N_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "%d", i);
		texts[i] = (struct vf_embed_text){names[i], strlen(names[i])};
	}
	setenv("OPENAI_API_KEY", "theirs", 1);
	CU_ASSERT_FATAL(!open_api(d, "/v1/", 0, 5000, &e));
	CU_ASSERT_EQUAL(e->dim, DIM);
	CU_ASSERT_EQUAL(e->many, 20);
	memset(a.n_seen, 0, sizeof(a.n_seen));
	CU_ASSERT_EQUAL(vf_embedder_embed_many(e, texts, N_MAX, x[0], &f), 0);
	vf_httpd_settle(d);
	for (int i = 0; i < N_MAX; i++) {
		CU_ASSERT_EQUAL(a.n_seen[i], 1);
		CU_ASSERT(x[i][0] == (float)i && x[i][1] == (float)i + .5f);
	}
	CU_ASSERT_EQUAL(a.largest, 5);
	CU_ASSERT_EQUAL(a.n_requests, 1 + (N_MAX + 4) / 5);
	CU_ASSERT_STRING_EQUAL(a.target, "/v1/embeddings");
	CU_ASSERT_STRING_EQUAL(a.key, "Bearer theirs");
	CU_ASSERT_STRING_EQUAL(a.type, "application/json");
	CU_ASSERT_STRING_EQUAL(a.model, "m");
	vf_embedder_free(e);
	setenv("VECFS_EMBED_KEY", "ours", 1);
	CU_ASSERT_FATAL(!open_api(d, "/x/embeddings?v=1", 0, 5000, &e));
	vf_httpd_settle(d);
	CU_ASSERT_STRING_EQUAL(a.target, "/x/embeddings?v=1");
	CU_ASSERT_STRING_EQUAL(a.key, "Bearer ours");
	vf_embedder_free(e);
	forget_keys();
	vf_httpd_close(d);
}

static void wrong_answers_are_named(void)
{
	static const struct {
		int status;
		const char *answer, *why;
	} cases[] = {
		{200, "", "no JSON"},
		{200, "[1]", "0 embeddings came for 2 texts"},
		{200, "{\"data\":{}}", "0 embeddings"},
		{200, "{\"data\":[{\"embedding\":[1,2,3,4]}]}", "1 embeddings"},
		{200, "{\"data\":[1,2]}", "is no list"},
		{200,
		 "{\"data\":[{\"index\":1,\"embedding\":[1,2,3,4]},"
		 "{\"index\":1,\"embedding\":[1,2,3,4]}]}",
		 "not numbered"},
		{200,
		 "{\"data\":[{\"index\":-1,\"embedding\":[1,2,3,4]},"
		 "{\"index\":2,\"embedding\":[1,2,3,4]}]}",
		 "not numbered"},
		{200, "{\"data\":[{\"embedding\":[1,2,3]},{}]}",
		 "3 elements, not 4"},
		{200, "{\"data\":[{\"embedding\":[1,2,3,\"4\"]},{}]}",
		 "element 3 "},
		{200, "{\"data\":[{\"embedding\":[1,4e38,3,4]},{}]}",
		 "element 1 "},
		{400, "{\"error\":{\"message\":\"bad\\nworse\"}}",
		 "status 400: bad"},
		{404, "nothing\nhere", "status 404: nothing"},
		{401, "you sent k3y", "status 401"},
	};
	static const struct vf_embed_text texts[2] = {{"1", 1}, {"2", 1}};
	struct api a = {0};
	struct vf_httpd *d = vf_httpd_open(serve, &a);
	struct vf_embed_failure f;
	struct vf_embedder *e;
	float x[2 * DIM];

	setenv("VECFS_EMBED_KEY", "k3y", 1);
	CU_ASSERT_FATAL(!open_api(d, "", DIM, 5000, &e));
	CU_ASSERT_EQUAL(a.n_requests, 0); /* its dimension is known */
	for (size_t i = 0; i < VF_N(cases); i++) {
		a.answer = cases[i].answer;
		a.status = cases[i].status;
		CU_ASSERT_EQUAL(vf_embedder_embed_many(e, texts, 2, x, &f),
				-EREMOTEIO);
		vf_httpd_settle(d);
		CU_ASSERT_PTR_NOT_NULL(strstr(f.why, cases[i].why));
		CU_ASSERT_PTR_NULL(strstr(f.why, "k3y"));
		CU_ASSERT_PTR_NULL(strchr(f.why, '\n'));
		CU_ASSERT(f.at == 0 && f.n == 2);
	}
	vf_embedder_free(e);
	forget_keys();
	vf_httpd_close(d);
}

static void a_server_that_asks_for_hours_is_not_waited_for(void)
{
	static const struct vf_embed_text text = {"1", 1};
	struct api a = {.answer = "no",
			.status = 429,
			.lines = "Retry-After: 7200\r\n"};
	struct vf_httpd *d = vf_httpd_open(serve, &a);
	struct vf_embed_failure f;
	struct vf_embedder *e;
	float x[DIM];

	CU_ASSERT_FATAL(!open_api(d, "", DIM, 600000, &e));
	CU_ASSERT_EQUAL(vf_embedder_embed_many(e, &text, 1, x, &f), -EREMOTEIO);
	vf_httpd_settle(d);
	CU_ASSERT_EQUAL(a.n_requests, 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(f.why, "status 429: no"));
	vf_embedder_free(e);
	vf_httpd_close(d);
}

static void texts_that_are_none_are_not_sent(void)
{
	static const struct vf_embed_text texts[2] = {{"1", 1}, {"\xff", 1}};
	struct api a = {0};
	struct vf_httpd *d = vf_httpd_open(serve, &a);
	struct vf_embed_failure f;
	struct vf_embedder *e;
	float x[2 * DIM];

	CU_ASSERT_FATAL(!open_api(d, "", DIM, 5000, &e));
	CU_ASSERT_EQUAL(vf_embedder_embed_many(e, texts, 2, x, &f), -EINVAL);
	CU_ASSERT(f.at == 1 && f.n == 1 && strstr(f.why, "UTF-8"));
	vf_httpd_settle(d);
	CU_ASSERT_EQUAL(a.n_requests, 0);
	vf_embedder_free(e);
	vf_httpd_close(d);
}

static enum vf_httpd_after hang(void *arg, const struct vf_httpd_request *r,
				struct vf_buf *reply)
{
	return VF_HTTPD_HANG;
}

static bool is_over(void)
{
	return true;
}

static void who_is_told_to_stop_does_not_wait(void)
{
	struct vf_httpd *d = vf_httpd_open(hang, NULL);
	const struct vf_embed_http_options opt = {.url = vf_httpd_url(d),
						  .model = "m",
						  .timeout_ms = 3600000,
						  .stop = is_over};
	struct vf_embedder *e;

	CU_ASSERT_EQUAL(vf_embed_http_open(&opt, &e), -ECANCELED);
	CU_ASSERT_PTR_NULL(e);
	vf_httpd_close(d);
}

static void names_tell_models_from_embedders_of_ours(void)
{
	char name[32];

	CU_ASSERT_EQUAL(vf_embed_http_name("a/b-c", name, sizeof(name)), 0);
	CU_ASSERT_STRING_EQUAL(name, "model:a/b-c");
	CU_ASSERT_STRING_EQUAL(vf_embed_http_model(name), "a/b-c");
	CU_ASSERT_PTR_NULL(vf_embed_http_model("hash:64"));
	CU_ASSERT_EQUAL(vf_embed_http_name("", name, sizeof(name)), -EINVAL);
	CU_ASSERT_EQUAL(vf_embed_http_name("a b", name, sizeof(name)), -EINVAL);
	CU_ASSERT_EQUAL(vf_embed_http_name("aaaaaaaaaaaaaaaaaaaaaaaaaa", name,
					   sizeof(name)),
			-EINVAL);
	CU_ASSERT(vf_embed_is_url("http://x") && vf_embed_is_url("https://x"));
	CU_ASSERT(!vf_embed_is_url("hash:64"));
}

static CU_TestInfo tests[] = {
	{"texts go in batches, each once", texts_go_in_batches_each_once},
	{"wrong answers are named", wrong_answers_are_named},
	{"a server that asks for hours is not waited for",
	 a_server_that_asks_for_hours_is_not_waited_for},
	{"texts that are none are not sent", texts_that_are_none_are_not_sent},
	{"who is told to stop does not wait",
	 who_is_told_to_stop_does_not_wait},
	{"names tell models from embedders of ours",
	 names_tell_models_from_embedders_of_ours},
	CU_TEST_INFO_NULL,
};
VF_SUITE("query/embed_http", tests);
