/*
 * What the two halves of the file:// bucket share: bucket_file.c reads and
 * writes, file_list.c lists.
 */
#ifndef VF_STORE_BUCKET_FILE_H
#define VF_STORE_BUCKET_FILE_H

#include <sys/stat.h>

#include "store/bucket_impl.h"
#include "store/util.h"

#define VF_FILE_TMP_PREFIX ".vecfs-tmp-"
enum { VF_FILE_TMP_LEN = sizeof(VF_FILE_TMP_PREFIX) - 1 + 32 };

struct file_bucket {
	struct vf_bucket base;
	int root; /* [fixed] */
	_Atomic uint64_t n_get, n_put, n_head, n_list, n_delete, n_error,
		bytes_in, bytes_out;
};

/* ---- bucket_file.c ---- */

/* openat2 beneath the root.  Returns the descriptor; -1 and errno. */
int vf_file_open_beneath(const struct file_bucket *fb, const char *path,
			 int flags);
/* Log errno for @key and return what it means. */
int vf_file_fail(struct file_bucket *fb, const char *key, const char *what);
void vf_file_describe(const struct stat *st, struct vf_object *out);

/* ---- file_list.c: as vf_bucket_list ---- */
int vf_file_list(struct vf_bucket *b, const char *prefix, bool folders,
		 const char *start_after, vf_list_fn *fn, void *arg);

#endif
