/*
 * s3:// buckets: not built yet.
 */
#include "store/bucket_impl.h"
#include "store/util.h"

int vf_bucket_s3_open(const char *url, const struct vf_bucket_options *opt,
		      struct vf_bucket **out)
{
	return vf_fail(-ENOTSUP, "%s: s3:// is not built yet", url);
}
