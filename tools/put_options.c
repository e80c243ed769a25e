#include "tools/put_options.h"

#include "index/tree.h"
#include "store/util.h"
#include "tools/verb.h"

struct vf_put_options vf_put_options = {.seed = UINT64_MAX};
#define opt vf_put_options

const struct vf_arg vf_index_args[] = {
	{"metric", 0, VF_ARG_STRING, &opt.metric, 0, 0},
	{"dtype", 0, VF_ARG_STRING, &opt.dtype, 0, 0},
	{"non-filterable", 0, VF_ARG_LIST, &opt.non_filterable, 0, 0},
	{"seed", 0, VF_ARG_COUNT, &opt.seed, 0, UINT64_MAX - 1},
	{0}};

const struct vf_arg vf_shard_args[] = {
	{"bits", 0, VF_ARG_COUNT, &opt.bits, 1, 8},
	{"shard-rows", 0, VF_ARG_COUNT, &opt.shard_rows, 1, VF_SHARD_ROWS_MAX},
	{"compress", 0, VF_ARG_FLAG, &opt.compress, 0, 0},
	{"leaves", 0, VF_ARG_COUNT, &opt.leaves, 1, VF_TREE_LEAVES_MAX},
	{"ram", 0, VF_ARG_SIZE, &opt.ram, 64 << 20, 0},
	{"scratch", 0, VF_ARG_STRING, &opt.scratch, 0, 0},
	{"cache-dir", 0, VF_ARG_STRING, &opt.cache_dir, 0, 0},
	{0}};

int vf_put_wish(const char *verb, struct vf_wish *out)
{
	*out = (struct vf_wish){.has_seed = opt.seed != UINT64_MAX,
				.seed = opt.seed,
				.bits = (uint32_t)opt.bits,
				.non_filterable = opt.non_filterable};
	if (opt.metric && vf_metric_parse(opt.metric, &out->metric))
		return vf_fail(VF_ERR_USAGE,
			       "%s: --metric \"%s\" is none of cosine, "
			       "euclidean, dot",
			       verb, opt.metric);
	if (opt.dtype &&
	    (vf_dtype_parse(opt.dtype, &out->dtype) || out->dtype == VF_U8))
		return vf_fail(VF_ERR_USAGE,
			       "%s: --dtype \"%s\" is none of f32, f16", verb,
			       opt.dtype);
	return 0;
}

struct vf_ingest vf_put_ingest(const struct vf_args *a,
			       const struct vf_target *t,
			       const struct vf_wish *w)
{
	return (struct vf_ingest){.bucket = t->bucket,
				  .target = t->name,
				  .index = t->index,
				  .wish = *w,
				  .shard_rows = opt.shard_rows,
				  .cache_dir = opt.cache_dir,
				  .compress = opt.compress,
				  .n_leaves = (uint32_t)opt.leaves,
				  .ram = opt.ram,
				  .scratch = opt.scratch,
				  .quiet = a->common.quiet,
				  .n_threads = (unsigned)a->common.n_threads};
}
