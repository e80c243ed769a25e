/* vectool create: an empty index. */
#include <stdio.h>

#include "store/util.h"
#include "tools/ingest.h"
#include "tools/target.h"
#include "tools/verb.h"

static struct {
	uint64_t dim, seed;
	const char *metric, *dtype;
	struct vf_arg_list non_filterable;
} opt = {.seed = UINT64_MAX};

static const struct vf_arg options[] = {
	{"dim", 0, VF_ARG_COUNT, &opt.dim, VF_DIM_MIN, VF_DIM_MAX},
	{"metric", 0, VF_ARG_STRING, &opt.metric, 0, 0},
	{"dtype", 0, VF_ARG_STRING, &opt.dtype, 0, 0},
	{"non-filterable", 0, VF_ARG_LIST, &opt.non_filterable, 0, 0},
	{"seed", 0, VF_ARG_COUNT, &opt.seed, 0, UINT64_MAX - 1},
	{0}};

static int read_config(struct vf_index_config *out)
{
	*out = (struct vf_index_config){.dim = (uint32_t)opt.dim,
					.metric = VF_COSINE,
					.dtype = VF_F32,
					.rotation_seed = opt.seed};
	if (!opt.dim)
		return vf_fail(-EINVAL, "create: --dim is needed");
	if (opt.metric && vf_metric_parse(opt.metric, &out->metric))
		return vf_fail(-EINVAL,
			       "create: --metric \"%s\" is none of cosine, "
			       "euclidean, dot",
			       opt.metric);
	if (opt.dtype &&
	    (vf_dtype_parse(opt.dtype, &out->dtype) || out->dtype == VF_U8))
		return vf_fail(-EINVAL,
			       "create: --dtype \"%s\" is none of f32, f16",
			       opt.dtype);
	if (opt.seed == UINT64_MAX)
		vf_random(&out->rotation_seed, sizeof(out->rotation_seed));
	int err = 0;
	for (uint32_t i = 0; !err && i < opt.non_filterable.n; i++)
		err = vf_config_exempt(out, opt.non_filterable.at[i]);
	return err;
}

static int create_index(const struct vf_target *t,
			const struct vf_index_config *config)
{
	struct vf_op op = {.kind = VF_OP_CONFIGURE, .configure = *config};
	struct vf_state *state = NULL, *after = NULL;
	uint8_t uuid[16];
	int err = vf_index_find(t->bucket, t->index, &state);

	if (!err && !state) {
		err = vf_index_create(t->bucket, t->index, uuid);
		if (!err)
			err = vf_target_state(t, &state);
	}
	if (!err && state->configured)
		err = -EEXIST;
	if (!err)
		err = vf_commit(t->bucket, state, &op, 1, &after);
	if (err == -EEXIST)
		vf_log(VF_ERROR, "%s: is there already", t->name);
	vf_state_free(state);
	vf_state_free(after);
	return err;
}

static int run_create(const struct vf_args *a)
{
	struct vf_index_config config;
	struct vf_target t;
	int err = read_config(&config);

	if (!err)
		err = vf_target_open(a->operands[0], &a->common, &t);
	if (err)
		return err;
	err = create_index(&t, &config);
	if (!err && !a->common.quiet)
		printf("created %s: dimension %u, %s, %s\n", t.name, config.dim,
		       vf_metric_name(config.metric),
		       vf_dtype_name(config.dtype));
	vf_target_close(&t);
	return err;
}

const struct vf_verb vf_verb_create = {
	.name = "create",
	.summary = "make an empty index",
	.help = "usage: vectool create TARGET --dim N [OPTIONS]\n\n"
		"Makes an index without rows; put makes one by itself when it "
		"is absent.\n\n"
		"  --dim N            elements of a vector, 2 to 4096\n"
		"  --metric M         cosine (default), euclidean or dot\n"
		"  --dtype T          how vectors are stored: f32 (default) or "
		"f16\n"
		"  --non-filterable KEY\n"
		"                     of metadata that filters never name, so "
		"that it costs no\n"
		"                     room beside the records; up to ten times\n"
		"  --seed N           of the rotation of codes (random)\n\n"
		"Example:\n"
		"  vectool create s3://bucket/prefix/products --dim 1024 "
		"--metric dot\n",
	.min_operands = 1,
	.max_operands = 1,
	.options = options,
	.run = run_create,
};
