/*
 * What every part of vecfs shares: version, element types, metrics, the
 * meaning of error numbers, and where messages go.
 *
 * Every fallible function returns 0 or a negative errno with one meaning:
 *
 *   -ENOENT     absent                    -EEXIST     there already
 *   -EBADMSG    damaged bytes             -ENOTSUP    newer or unbuilt format
 *   -ESTALE     the object changed        -EREMOTEIO  the bucket failed
 *   -EINVAL     caller's mistake          -ECANCELED  shutting down
 *   -EACCES     the bucket says no        -ENOSPC     the disk is full
 *   -EINPROGRESS  the outcome of a commit could not be learned
 *
 * Whoever first sees a failure logs it once, naming file, key or row; callers
 * pass the number up in silence.
 */
#ifndef VF_STORE_VECFS_H
#define VF_STORE_VECFS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VF_VERSION "0.1.0"
#define VF_API	   __attribute__((visibility("default")))

/* Limits a user can meet. */
enum {
	VF_KEY_MAX = 1024,	    /* bytes of a vector's key */
	VF_DIM_MIN = 2,		    /* elements of a vector */
	VF_DIM_MAX = 4096,	    /* elements of a vector */
	VF_INDEX_NAME_MAX = 63,	    /* bytes of an index name */
	VF_METADATA_MAX = 40 << 10, /* bytes of one vector's metadata */
	VF_SHARD_ROWS_MAX = 262144, /* rows of one shard */
};

/* Numbers are on disk: never change one. */
enum vf_dtype { VF_F32 = 1, VF_F16 = 2, VF_U8 = 3 };
enum vf_metric { VF_COSINE = 1, VF_EUCLIDEAN = 2, VF_DOT = 3 };

/* Bytes of one element; 0 for an unknown type.  Threads: any. */
VF_API size_t vf_dtype_size(enum vf_dtype t);

/* "f32", "cosine", ...; "?" when unknown.  Threads: any. */
VF_API const char *vf_dtype_name(enum vf_dtype t);
VF_API const char *vf_metric_name(enum vf_metric m);

/* Returns 0; -EINVAL for a name that is none.  Threads: any. */
VF_API int vf_metric_parse(const char *name, enum vf_metric *out_metric);
VF_API int vf_dtype_parse(const char *name, enum vf_dtype *out_dtype);

/* What an error number of ours means, in words.  Threads: any. */
VF_API const char *vf_strerror(int err);

enum vf_level { VF_ERROR, VF_WARN, VF_INFO, VF_DEBUG };

/* One line without newline; control bytes are already escaped. */
typedef void vf_log_fn(void *arg, enum vf_level level, const char *line);

/*
 * Send messages up to @level to @fn; NULL restores the default, which writes
 * "name: line" to standard error.
 *
 * Threads: call before others exist.
 */
VF_API void vf_log_set(vf_log_fn *fn, void *arg, enum vf_level level);

/* Send those up to @level from now on.  Threads: any, at any time. */
VF_API void vf_log_limit(enum vf_level level);
VF_API enum vf_level vf_log_level(void);

/* "error", "warn", "info", "debug"; -EINVAL for others.  Threads: any. */
VF_API const char *vf_level_name(enum vf_level level);
VF_API int vf_level_parse(const char *name, enum vf_level *out_level);

/* The name in front of default messages, borrowed for ever. */
VF_API void vf_log_name(const char *name);

#endif
