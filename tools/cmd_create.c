/* vectool create: an empty index. */
#include <stdio.h>

#include "store/util.h"
#include "tools/put_options.h"
#include "tools/verb.h"

static uint64_t opt_dim;

static const struct vf_arg options[] = {
	{"dim", 0, VF_ARG_COUNT, &opt_dim, VF_DIM_MIN, VF_DIM_MAX},
	{"", 0, VF_ARG_TABLE, (void *)vf_index_args, 0, 0},
	{0}};

static int read_config(struct vf_index_config *out)
{
	struct vf_wish w;
	int err = vf_put_wish("create", &w);

	if (err)
		return err;
	if (!opt_dim)
		return vf_fail(VF_ERR_USAGE, "create: --dim is needed");
	return vf_config_new(&w, (uint32_t)opt_dim, VF_F32, out);
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
