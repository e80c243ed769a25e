/*
 * Blocks that are less than whole.  Several parts read at once: whichever of
 * them are neighbours on the disk, each is answered once, for itself, with its
 * own bytes.
 */
#include "tests/disk_lab.h"

#include <malloc.h>

enum { N_BLOCKS = 40, TIER = 32 << 20, LAST_LEN = 5000, MISSING = 1, BAD = 2 };

static const uint64_t size = (N_BLOCKS - 1) * LAB_BLOCK + LAST_LEN;

struct part {
	struct lab_wait wait;
	uint64_t number;
	uint32_t skip, len;
	uint8_t buf[LAB_BLOCK];
};

static void draw_part(struct part *p, uint64_t number, uint64_t *seed)
{
	uint32_t len = (uint32_t)VF_MIN((uint64_t)LAB_BLOCK,
					size - number * LAB_BLOCK);

	p->number = number;
	p->skip = vf_test_rand(seed) % 2 ? 0 : vf_test_rand(seed) % len;
	p->len = p->skip ? 1 + vf_test_rand(seed) % (len - p->skip) : len;
	atomic_init(&p->wait.err, 1);
}

static void check_part(const struct part *p, const uint8_t *state)
{
	uint8_t want[LAB_BLOCK];
	int err = atomic_load(&p->wait.err);

	if (state[p->number] == MISSING) {
		CU_ASSERT_EQUAL(err, -ENOENT);
		return;
	}
	/* a part of a damaged block may lie beside what is damaged */
	CU_ASSERT(!err || (state[p->number] == BAD && err == -ENOENT));
	lab_fill(1, p->number, want, LAB_BLOCK);
	if (!err)
		CU_ASSERT_EQUAL(memcmp(p->buf, want + p->skip, p->len), 0);
}

/* Runs of neighbours with gaps between them. */
static void read_some(struct vf_disk_file *f, const uint8_t *state,
		      uint64_t *seed)
{
	static struct part parts[N_BLOCKS];
	struct vf_disk_part asked[N_BLOCKS];
	size_t n = 0;

	for (uint64_t k = 0; k < N_BLOCKS; k++) {
		struct part *p = &parts[n];
		if (vf_test_rand(seed) % 8 == 0)
			continue;
		draw_part(p, k, seed);
		asked[n++] =
			(struct vf_disk_part){.off = k * LAB_BLOCK + p->skip,
					      .len = p->len,
					      .buf = p->buf,
					      .done = lab_done,
					      .arg = &p->wait};
	}
	vf_disk_read_parts(f, asked, n);
	for (size_t i = 0; i < n; i++) {
		while (atomic_load(&parts[i].wait.err) == 1)
			usleep(20);
		check_part(&parts[i], state);
	}
}

static void each_part_is_answered_for_itself(void)
{
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, TIER);
	struct vf_disk_file *f = lab_file(d, 1, size);
	uint8_t state[N_BLOCKS] = {
		[7] = MISSING, [8] = MISSING, [30] = MISSING};
	uint64_t seed = 11;
	char path[256];

	for (uint64_t k = 0; k < N_BLOCKS; k++)
		if (state[k] != MISSING)
			lab_write_sure(d, f, 1, k);
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	for (unsigned i = 0; i < 50; i++)
		read_some(f, state, &seed);
	state[3] = state[20] = BAD;
	lab_path(dir, 1, path);
	lab_flip(path, 3 * LAB_BLOCK + 17);
	lab_flip(path, 21 * LAB_BLOCK - 1);
	for (unsigned i = 0; i < 50; i++)
		read_some(f, state, &seed);
	CU_ASSERT(!vf_disk_has(f, 3));
	CU_ASSERT(!vf_disk_has(f, 20));
	CU_ASSERT(vf_disk_has(f, 4));
	vf_disk_file_put(f);
	vf_disk_close(d);
}

/* What lies behind the end of the file on the disk was never read. */
static void a_file_cut_short_costs_what_was_cut(void)
{
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, TIER);
	struct vf_disk_file *f = lab_file(d, 1, size);
	uint8_t state[N_BLOCKS] = {0};
	char path[256];
	uint64_t seed = 12;

	for (uint64_t k = 0; k < N_BLOCKS; k++)
		lab_write_sure(d, f, 1, k);
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	lab_path(dir, 1, path);
	CU_ASSERT_EQUAL(truncate(path, 10 * LAB_BLOCK + 4096), 0);
	memset(state + 10, BAD, N_BLOCKS - 10);
	for (unsigned i = 0; i < 20; i++)
		read_some(f, state, &seed);
	for (uint64_t k = 0; k < N_BLOCKS; k++)
		CU_ASSERT_EQUAL(vf_disk_has(f, k), k < 10);
	vf_disk_file_put(f);
	vf_disk_close(d);
}

/*
 * Symptom: bytes of the heap in the index's file.  Cause: a short last block
 * has fewer checksums than there is room for, the rest was never set.
 */
static void checksums_that_a_short_block_has_not_are_zero(void)
{
	struct vf_disk *d = lab_open(vf_test_dir(), 16 << 20);
	struct vf_disk_file *f = lab_file(d, 1, LAB_BLOCK + 100);
	struct vf_disk_block *b;
	const uint32_t *crcs;

	mallopt(M_PERTURB, 0x55); /* memory is not zeros by chance */
	lab_write(f, 1, 1, 0);
	mallopt(M_PERTURB, 0);
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	CU_ASSERT_EQUAL(lab_check(f, 1, 1), 1);
	pthread_mutex_lock(&d->mtx);
	b = vf_disk_block_at(f, 1, false);
	crcs = vf_disk_crcs(vf_disk_group_of(b), b);
	CU_ASSERT(crcs[0] != 0);
	for (size_t i = 1; i < d->n_crc; i++)
		CU_ASSERT_EQUAL(crcs[i], 0);
	pthread_mutex_unlock(&d->mtx);
	vf_disk_file_put(f);
	vf_disk_close(d);
}

static CU_TestInfo tests[] = {{"each part is answered for itself",
			       each_part_is_answered_for_itself},
			      {"a file cut short costs what was cut",
			       a_file_cut_short_costs_what_was_cut},
			      {"checksums that a short block has not are zero",
			       checksums_that_a_short_block_has_not_are_zero},
			      CU_TEST_INFO_NULL};

VF_SUITE("store/tier_disk_parts", tests);
