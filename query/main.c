/*
 * vecquery: the nearest vectors of an index, by the path of its folder.
 */
#include "index/index.h"
#include "query/cli.h"
#include "store/npy.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* ---- queries --------------------------------------------------------------------------- */

enum { VECTOR_LEN_MAX = 4 << 20 };

struct run {
	struct cli_args *args;
	struct vf_view *view;
	struct cli_source source;
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
	if (line.len)
		fwrite(line.data, 1, line.len, stdout);
	r->n_done++;
	r->any_partial |= a->partial;
	vf_answer_free(a);
	return err ? err : ferror(stdout) ? -EIO : 0;
}

static int check_dim(const struct run *r, const char *what, uint64_t dim)
{
	if (dim == r->source.info.dim)
		return 0;
	return vf_fail(-EINVAL, "%s: dimension %llu, but %s has %u", what,
		       (unsigned long long)dim, r->args->index,
		       r->source.info.dim);
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
	if (n < 0 && errno == ESPIPE)
		return vf_fail(-EINVAL,
			       "%s: a pipe, and --npy takes files; lines of "
			       "JSON can come from one, to --stdin",
			       path);
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

/* All of stdin, which holds one array. */
static int read_stdin(struct vf_buf *out)
{
	char chunk[1 << 16];
	size_t n;

	while ((n = fread(chunk, 1, sizeof(chunk), stdin))) {
		if (out->len + n > VECTOR_LEN_MAX)
			return vf_fail(-EINVAL, "--vector: it is too long");
		if (vf_buf_append(out, chunk, n))
			return -ENOMEM;
	}
	return ferror(stdin)
		       ? vf_fail(-EIO, "standard input: %s", strerror(errno))
		       : 0;
}

static int make_vector(struct run *r, const char *text, float *q, char *error)
{
	VF_AUTO_BUF struct vf_buf all = {0};
	int err = 0;

	if (strcmp(text, "-"))
		return cli_from_json(&r->source, text, strlen(text), q, error);
	err = read_stdin(&all);
	return err ? err
		   : cli_from_json(&r->source, (const char *)all.data, all.len,
				   q, error);
}

/* The one query of --vector, --key or --text. */
static int run_one(struct run *r)
{
	const struct cli_args *a = r->args;
	VF_AUTO_FREE float *q = malloc(r->source.info.dim * sizeof(*q));
	char error[CLI_ERROR_LEN] = "";
	int err = -ENOMEM;

	if (q)
		err = a->vector ? make_vector(r, a->vector, q, error)
		      : a->key	? cli_from_key(&r->source, a->key, q, error)
				: cli_from_text(&r->source, a->text, q, error);
	if (err && error[0])
		vf_fail(err, "%s%s",
			a->vector ? "--vector: "
			: a->text ? "--text: "
				  : "",
			error);
	return err ? err : run_query(r, q);
}

static int run(struct run *r)
{
	const struct cli_args *a = r->args;
	struct vf_view_options opt = {.results_len = a->cache_len,
				      .ram_max = a->ram_max,
				      .at = a->at,
				      .fresh_ms = a->fresh_ms,
				      .cache_dir = a->cache_dir,
				      .building = cli_show_building};
	int err = vf_guard_install();

	if (!err)
		err = vf_view_open(a->index, &opt, &r->view);
	if (err)
		return err;
	cli_source_init(&r->source, a, r->view);
	err = a->stdin_queries ? cli_stream(&r->source, a, &r->any_partial)
	      : a->npy	       ? run_npy(r, a->npy)
			       : run_one(r);
	cli_source_fini(&r->source);
	return err;
}

int main(int argc, char **argv)
{
	struct cli_args a;
	struct run r = {.args = &a};
	int rc, err;

	vf_std_occupy();
	rc = cli_parse(argc, argv, &a);
	if (rc >= 0)
		return rc;
	vf_log_name("vecquery");
	err = run(&r);
	vf_view_close(r.view);
	free(a.knobs.filter);
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "vecquery: cannot write the answers: %s\n",
			strerror(errno));
		return EXIT_ERROR;
	}
	if (err == -ENOMEM)
		fputs("vecquery: out of memory\n", stderr);
	return err ? EXIT_ERROR : r.any_partial ? EXIT_PARTIAL : EXIT_FULL;
}
