/*
 * What a query is made of: an array, a stored vector, a text.
 */
#include "query/cli.h"
#include "query/embed_http.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>

void cli_source_init(struct cli_source *s, const struct cli_args *a,
		     struct vf_view *view)
{
	*s = (struct cli_source){.index = a->index,
				 .view = view,
				 .embed = a->embed,
				 .model = a->model};
	pthread_mutex_init(&s->lock, NULL);
	vf_view_info(view, &s->info);
}

void cli_source_fini(struct cli_source *s)
{
	vf_embedder_free(s->embedder);
	pthread_mutex_destroy(&s->lock);
}

static int __attribute__((format(printf, 3, 4)))
refuse(int err, char *error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, CLI_ERROR_LEN, fmt, ap);
	va_end(ap);
	return err;
}

int cli_from_key(struct cli_source *s, const char *key, float *q, char *error)
{
	int err = vf_view_vector(s->view, key, q);

	if (err == -ENOENT)
		return refuse(err, error, "%s: no key \"%.100s\"", s->index,
			      key);
	return err ? refuse(err, error, "%s", vf_strerror(err)) : 0;
}

/* ---- texts ------------------------------------------------------------------------------- */

/* Models are not in the index: only their names are, and the URL is asked for. */
static int open_model(struct cli_source *s, const char *model, char *error)
{
	const struct vf_embed_http_options opt = {
		.url = s->embed, .model = model, .dim = s->info.dim};

	if (!s->embed)
		return refuse(-EINVAL, error,
			      "%s: its texts were embedded by the model %s; "
			      "give --embed URL of an API that has it",
			      s->index, model);
	if (s->model && strcmp(s->model, model))
		return refuse(-EINVAL, error,
			      "%s: its texts were embedded by the model %s, "
			      "not %s",
			      s->index, model, s->model);
	return vf_embed_http_open(&opt, &s->embedder);
}

static int open_builtin(struct cli_source *s, char *error)
{
	const void *data;
	size_t len;

	if (s->embed || s->model)
		return refuse(-EINVAL, error,
			      "%s: its embedder is %s, which is built in: "
			      "without --embed and --model",
			      s->index, s->info.embedder);
	int err = vf_view_embedder(s->view, &data, &len);
	if (!err)
		err = vf_embedder_open(s->info.embedder, data, len,
				       &s->embedder);
	if (!err && s->embedder->dim != s->info.dim)
		return refuse(-EINVAL, error, "%s: dimension %u, but %s has %u",
			      s->info.embedder, s->embedder->dim, s->index,
			      s->info.dim);
	return err;
}

static int open_embedder(struct cli_source *s, char *error)
{
	const char *model = vf_embed_http_model(s->info.embedder);

	if (!s->info.embedder[0])
		return refuse(-EINVAL, error,
			      "%s: it was not made from texts; use vectors or "
			      "keys",
			      s->index);
	int err = model ? open_model(s, model, error) : open_builtin(s, error);
	if (!err)
		return 0;
	vf_embedder_free(s->embedder);
	s->embedder = NULL;
	return error[0] ? err : refuse(err, error, "%s", vf_strerror(err));
}

int cli_from_text(struct cli_source *s, const char *text, float *q, char *error)
{
	const struct vf_embed_text one = {text, strlen(text)};
	struct vf_embed_failure f;
	int err = 0;

	pthread_mutex_lock(&s->lock);
	if (!s->embedder)
		err = open_embedder(s, error);
	pthread_mutex_unlock(&s->lock);
	if (err)
		return err;
	err = vf_embedder_embed_many(s->embedder, &one, 1, q, &f);
	return err ? refuse(err, error, "%s", f.why) : 0;
}

/* ---- arrays ------------------------------------------------------------------------------ */

static int from_array(struct cli_source *s, const json_t *j, float *q,
		      char *error)
{
	size_t n = json_array_size(j);

	if (!json_is_array(j))
		return refuse(-EINVAL, error, "not a JSON array of numbers");
	if (n != s->info.dim)
		return refuse(-EINVAL, error, "dimension %zu, but %s has %u", n,
			      s->index, s->info.dim);
	for (size_t i = 0; i < n; i++) {
		const json_t *v = json_array_get(j, i);
		if (!json_is_number(v))
			return refuse(-EINVAL, error,
				      "element %zu is no number", i);
		q[i] = (float)json_number_value(v);
	}
	return 0;
}

int cli_from_json(struct cli_source *s, const char *json, size_t len, float *q,
		  char *error)
{
	json_t *j = json_loadb(json, len, JSON_DECODE_INT_AS_REAL, NULL);
	int err = from_array(s, j, q, error);

	json_decref(j);
	return err;
}

/* ---- lines ------------------------------------------------------------------------------- */

static int set_member(struct cli_knobs *knobs, const char *name,
		      const json_t *value, char *error)
{
	VF_AUTO_FREE char *text = json_is_string(value)
					  ? strdup(json_string_value(value))
					  : json_dumps(value, JSON_ENCODE_ANY);
	const char *takes;
	int err = text ? cli_knob_set(knobs, name, text, &takes) : -ENOMEM;

	if (err == -ENOENT)
		return refuse(-EINVAL, error, "there is no knob \"%.50s\"",
			      name);
	if (err == -EINVAL)
		return refuse(err, error, "%s%s %s", name,
			      strcmp(name, "filter") ? "" : ":", takes);
	return err ? refuse(err, error, "%s", vf_strerror(err)) : 0;
}

/* The query of member @name, if it is one; *out_n counts them. */
static int read_member(struct cli_source *s, const char *name,
		       const json_t *value, float *q, struct cli_knobs *knobs,
		       int *out_n, char *error)
{
	bool is_key = !strcmp(name, "key"), is_text = !strcmp(name, "text");

	if (!strcmp(name, "vector")) {
		++*out_n;
		return from_array(s, value, q, error);
	}
	if (!is_key && !is_text)
		return set_member(knobs, name, value, error);
	++*out_n;
	if (!json_is_string(value))
		return refuse(-EINVAL, error, "%s is a string", name);
	return (is_key ? cli_from_key
		       : cli_from_text)(s, json_string_value(value), q, error);
}

int cli_from_line(struct cli_source *s, const char *line, size_t len, float *q,
		  struct cli_knobs *knobs, char *error)
{
	json_error_t e;
	json_t *j =
		len ? json_loadb(line, len, JSON_REJECT_DUPLICATES, &e) : NULL;
	json_t *value;
	const char *name;
	int n = 0, err = 0;

	if (!len)
		return refuse(-EINVAL, error, "the line is empty");
	if (!j)
		return refuse(-EINVAL, error, "no JSON: %.150s", e.text);
	if (!json_is_object(j))
		err = refuse(-EINVAL, error, "not a JSON object");
	if (!err)
		json_object_foreach(j, name, value)
		{
			err = read_member(s, name, value, q, knobs, &n, error);
			if (err)
				break;
		}
	if (!err && n != 1)
		err = refuse(-EINVAL, error, "give one of vector, key, text");
	if (!err)
		err = vf_view_check(s->view, q, cli_search(knobs), error);
	json_decref(j);
	return err;
}
