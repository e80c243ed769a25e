/*
 * libvecfs on one page: open an index, search it, print what was found.
 *
 *     cc -o example example.c $(pkg-config --cflags --libs vecfs)
 *     ./example /mnt/v/products 17
 */
#include "query/query.h"

#include <stdio.h>
#include <stdlib.h>

/* The nearest ten of a stored vector. */
static int search(struct vf_view *v, const char *key)
{
	const struct vf_search s = {.k = 10};
	struct vf_view_info info;
	struct vf_answer *a;
	float *q;
	int err;

	vf_view_info(v, &info);
	q = malloc(info.dim * sizeof(*q));
	if (!q)
		return -1;
	err = vf_view_vector(v, key, q);
	if (!err)
		err = vf_view_search(v, q, &s, &a);
	free(q);
	if (err)
		return err;
	for (size_t i = 0; i < a->n_hits; i++)
		printf("%9.6f  %s  %s\n", (double)a->hits[i].distance,
		       a->hits[i].key, a->hits[i].metadata);
	printf("commit %llu: %llu vectors read, %llu of them from the bucket, "
	       "in %.1f ms\n",
	       (unsigned long long)a->version,
	       (unsigned long long)a->cost.rows_read,
	       (unsigned long long)a->cost.from_bucket, a->cost.total_ms);
	vf_answer_free(a);
	return 0;
}

int main(int argc, char **argv)
{
	struct vf_view *v;
	int err;

	if (argc != 3) {
		fprintf(stderr, "Usage: example DIR/INDEX KEY\n");
		return 2;
	}
	/* Rows are read through mappings; a mount can go away under them. */
	err = vf_guard_install();
	if (!err)
		err = vf_view_open(argv[1], NULL, &v);
	if (err) /* why has been said on stderr */
		return 1;
	err = search(v, argv[2]);
	vf_view_close(v);
	return err ? 1 : 0;
}
