/* Trees that a long-lived writer reads once. */
#include "store/bucket.h"
#include "tests/test.h"
#include "tools/kept_tree.h"

#include <xxhash.h>

enum { N = 300, DIM = 8, LEAVES = 10, SEED = 7 };

static const struct vf_index_config config = {
	.dim = DIM, .metric = VF_COSINE, .rotation_seed = SEED};

struct rig {
	struct vf_bucket *b;
	struct vf_tree_keeper keeper;
};

/* The object of a tree that is of @dim dimensions. */
static void put_tree(struct rig *r, const char *name, uint32_t dim,
		     struct vf_tree_ref *out)
{
	const struct vf_cluster_options o = {.dim = dim,
					     .metric = VF_COSINE,
					     .n_leaves = LEAVES,
					     .seed = SEED,
					     .n_threads = 1};
	VF_AUTO_FREE float *x = malloc((size_t)N * dim * sizeof(*x));
	VF_AUTO_BUF struct vf_buf file = {0};
	struct vf_cluster_view view;
	struct vf_cluster *c;
	const uint8_t id[16] = {1};
	uint64_t seed = SEED;
	char key[64];

	for (size_t i = 0; i < (size_t)N * dim; i++)
		x[i] = vf_test_normal(&seed);
	CU_ASSERT_EQUAL_FATAL(vf_cluster_train(&o, x, N, &c), 0);
	vf_cluster_view(c, &view);
	CU_ASSERT_EQUAL_FATAL(vf_tree_encode(&view, id, SEED, &file), 0);
	vf_cluster_free(c);
	*out = (struct vf_tree_ref){
		.object = {.stored_len = file.len,
			   .checksum = XXH3_64bits(file.data, file.len)}};
	strcpy(out->object.name, name);
	snprintf(key, sizeof(key), "v/tree/%s", name);
	CU_ASSERT_EQUAL_FATAL(
		vf_bucket_put(r->b, key, file.data, file.len, 0, NULL), 0);
}

static void open_rig(struct rig *r)
{
	char url[256];

	snprintf(url, sizeof(url), "file://%s", vf_test_dir());
	CU_ASSERT_EQUAL_FATAL(vf_bucket_open(url, NULL, &r->b), 0);
	vf_tree_keeper_init(&r->keeper);
}

static void close_rig(struct rig *r)
{
	vf_tree_keeper_fini(&r->keeper);
	vf_bucket_close(r->b);
}

static int get(struct rig *r, const struct vf_tree_ref *ref,
	       struct vf_kept_tree **out)
{
	return vf_kept_tree_get(&r->keeper, r->b, "v", &config, ref, out);
}

static void it_is_read_once(void)
{
	struct vf_kept_tree *a, *b;
	struct vf_tree_ref ref;
	struct rig r;

	open_rig(&r);
	put_tree(&r, "a.vit", DIM, &ref);
	CU_ASSERT_EQUAL_FATAL(get(&r, &ref, &a), 0);
	CU_ASSERT(a->n_leaves > 1 && a->tree && a->cluster);
	CU_ASSERT_EQUAL(vf_bucket_delete(r.b, "v/tree/a.vit"), 0);
	CU_ASSERT_EQUAL(get(&r, &ref, &b), 0);
	CU_ASSERT_PTR_EQUAL(a, b);
	vf_kept_tree_put(b);
	vf_kept_tree_put(a);
	close_rig(&r);
}

static void another_takes_its_place(void)
{
	struct vf_kept_tree *a, *b, *again;
	struct vf_tree_ref ref[2];
	struct rig r;

	open_rig(&r);
	put_tree(&r, "a.vit", DIM, &ref[0]);
	put_tree(&r, "b.vit", DIM, &ref[1]);
	CU_ASSERT_EQUAL_FATAL(get(&r, &ref[0], &a), 0);
	CU_ASSERT_EQUAL_FATAL(get(&r, &ref[1], &b), 0);
	CU_ASSERT_PTR_NOT_EQUAL(a, b);
	CU_ASSERT_STRING_EQUAL(a->ref.object.name, "a.vit"); /* held still */
	CU_ASSERT_EQUAL(vf_bucket_delete(r.b, "v/tree/a.vit"), 0);
	CU_ASSERT_EQUAL(get(&r, &ref[0], &again), -ENOENT);
	CU_ASSERT_EQUAL(get(&r, &ref[1], &again), 0);
	CU_ASSERT_PTR_EQUAL(again, b);
	vf_kept_tree_put(again);
	vf_kept_tree_put(b);
	vf_kept_tree_put(a);
	close_rig(&r);
}

static void what_is_wrong_is_not_kept(void)
{
	struct vf_kept_tree *good, *bad, *again;
	struct vf_tree_ref ref, lies;
	struct rig r;

	open_rig(&r);
	put_tree(&r, "a.vit", DIM, &ref);
	lies = ref;
	lies.object.checksum++;
	CU_ASSERT_EQUAL(get(&r, &lies, &bad), -EBADMSG);
	CU_ASSERT_PTR_NULL(bad);
	CU_ASSERT_PTR_NULL(r.keeper.newest);
	CU_ASSERT_EQUAL_FATAL(get(&r, &ref, &good), 0);
	CU_ASSERT_EQUAL(get(&r, &lies, &bad), -EBADMSG); /* is not that one */
	put_tree(&r, "other.vit", DIM + 1, &lies);
	CU_ASSERT_EQUAL(get(&r, &lies, &bad), -EBADMSG); /* of another index */
	CU_ASSERT_EQUAL_FATAL(get(&r, &ref, &again), 0);
	CU_ASSERT_PTR_EQUAL(again, good);
	vf_kept_tree_put(again);
	vf_kept_tree_put(good);
	close_rig(&r);
}

static CU_TestInfo tests[] = {
	{"it is read once", it_is_read_once},
	{"another takes its place, who holds it has it",
	 another_takes_its_place},
	{"what is wrong is not kept", what_is_wrong_is_not_kept},
	CU_TEST_INFO_NULL,
};
VF_SUITE("tools/kept_tree", tests)
