/*
 * vecquery: the nearest vectors of an index, by the path of its folder.
 */
#include "index/index.h"
#include "query/cli.h"
#include "query/embed.h"
#include "store/npy.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>

/* ---- queries --------------------------------------------------------------------------- */

struct run {
	struct cli_args *args;
	struct vf_view *view;
	struct vf_view_info info;
	uint64_t n_done;
	bool many, any_partial;
};

static int run_query(struct run *r, const float *q)
{
	const struct vf_search *s = cli_search(&r->args->knobs);
	VF_AUTO_BUF struct vf_buf line = {0};
	struct vf_answer *a;
	int err = vf_view_search(r->view, q, s, &a);

	if (err)
		return err;
	if (r->args->table)
		cli_print_table(a, r->n_done, r->many);
	else
		err = cli_append_json(a, r->n_done, &line);
	fwrite(line.data, 1, line.len, stdout);
	r->n_done++;
	r->any_partial |= a->partial;
	vf_answer_free(a);
	return err ? err : ferror(stdout) ? -EIO : 0;
}

static int check_dim(const struct run *r, const char *what, uint64_t dim)
{
	if (dim == r->info.dim)
		return 0;
	return vf_fail(-EINVAL, "%s: dimension %llu, but %s has %u", what,
		       (unsigned long long)dim, r->args->index, r->info.dim);
}

static int read_npy_header(int fd, const char *path, struct vf_npy *npy)
{
	VF_AUTO_FREE uint8_t *head = malloc(VF_NPY_HEADER_MAX);
	const char *why = "it is cut short";
	struct stat st;
	ssize_t n;

	if (!head)
		return -ENOMEM;
	n = pread(fd, head, VF_NPY_HEADER_MAX, 0);
	if (n < 0 || fstat(fd, &st))
		return vf_fail(-errno, "%s: %s", path, strerror(errno));
	if (vf_npy_parse(head, (size_t)n, npy, &why) ||
	    (why = "it is cut short",
	     npy->data_len > (uint64_t)st.st_size ||
		     npy->data_off > (uint64_t)st.st_size - npy->data_len))
		return vf_fail(-EINVAL, "%s: %s", path, why);
	return 0;
}

static int run_npy(struct run *r, const char *path)
{
	VF_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct vf_npy npy;
	int err;

	if (fd < 0)
		return vf_fail(-errno, "%s: %s", path, strerror(errno));
	err = read_npy_header(fd, path, &npy);
	if (!err)
		err = check_dim(r, path, npy.dim);
	if (err)
		return err;
	size_t row_len = npy.dim * vf_dtype_size(npy.dtype);
	VF_AUTO_FREE void *row = malloc(row_len);
	VF_AUTO_FREE float *q = malloc(npy.dim * sizeof(*q));
	if (!row || !q)
		return -ENOMEM;
	r->many = npy.n_rows > 1;
	for (uint64_t i = 0; !err && i < npy.n_rows; i++) {
		err = vf_pread_all(fd, row, row_len,
				   npy.data_off + i * row_len);
		if (err)
			return vf_fail(err, "%s: row %llu: %s", path,
				       (unsigned long long)i, vf_strerror(err));
		vf_widen(npy.dtype, row, npy.dim, q);
		err = run_query(r, q);
	}
	return err;
}

static int run_vector(struct run *r, const char *text)
{
	json_error_t e;
	json_t *j = strcmp(text, "-") ? json_loads(text, 0, &e)
				      : json_loadf(stdin, 0, &e);
	VF_AUTO_FREE float *q = malloc(r->info.dim * sizeof(*q));
	int err = q ? 0 : -ENOMEM;

	if (!json_is_array(j))
		err = vf_fail(-EINVAL, "--vector: not a JSON array of numbers");
	else
		err = check_dim(r, "--vector", json_array_size(j));
	for (size_t i = 0; !err && i < r->info.dim; i++) {
		json_t *v = json_array_get(j, i);
		if (!json_is_number(v))
			err = vf_fail(-EINVAL,
				      "--vector: element %zu is no number", i);
		else
			q[i] = (float)json_number_value(v);
	}
	json_decref(j);
	return err ? err : run_query(r, q);
}

static int run_key(struct run *r, const char *key)
{
	VF_AUTO_FREE float *q = malloc(r->info.dim * sizeof(*q));
	int err = q ? vf_view_vector(r->view, key, q) : -ENOMEM;

	if (err == -ENOENT)
		return vf_fail(err, "%s: no key \"%s\"", r->args->index, key);
	return err ? err : run_query(r, q);
}

static int run_text(struct run *r, const char *text)
{
	VF_AUTO_FREE float *q = malloc(r->info.dim * sizeof(*q));
	struct vf_embedder *e = NULL;
	const void *data;
	size_t len;
	int err = q ? vf_view_embedder(r->view, &data, &len) : -ENOMEM;

	if (!err && !r->info.embedder[0])
		return vf_fail(-EINVAL,
			       "%s: it was not made from texts; use --npy, "
			       "--vector or --key",
			       r->args->index);
	if (!err)
		err = vf_embedder_open(r->info.embedder, data, len, &e);
	if (!err)
		err = check_dim(r, r->info.embedder, e->dim);
	if (!err) {
		err = vf_embedder_embed(e, text, strlen(text), q);
		if (err == -EINVAL)
			vf_fail(err, "--text: there is no word in it");
	}
	vf_embedder_free(e);
	return err ? err : run_query(r, q);
}

int main(int argc, char **argv)
{
	struct cli_args a;
	struct run r = {.args = &a};
	int rc = cli_parse(argc, argv, &a), err;

	if (rc >= 0)
		return rc;
	vf_log_name("vecquery");
	err = vf_guard_install();
	if (!err)
		err = vf_view_open(a.index, NULL, &r.view);
	if (!err) {
		vf_view_info(r.view, &r.info);
		err = a.npy	 ? run_npy(&r, a.npy)
		      : a.vector ? run_vector(&r, a.vector)
		      : a.key	 ? run_key(&r, a.key)
				 : run_text(&r, a.text);
	}
	vf_view_close(r.view);
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "vecquery: cannot write the answers: %s\n",
			strerror(errno));
		return EXIT_ERROR;
	}
	if (err == -ENOMEM)
		fputs("vecquery: out of memory\n", stderr);
	return err ? EXIT_ERROR : r.any_partial ? EXIT_PARTIAL : EXIT_FULL;
}
