/*
 * Runs all suites, or those named on the command line ("store/npy").
 * Exit status: 0 all passed, 1 something failed, 2 no such suite.
 */
#include "tests/test.h"

#include <CUnit/Basic.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>

static struct vf_suite *suites;

void vf_suite_add(struct vf_suite *s)
{
	struct vf_suite **at = &suites;

	while (*at && strcmp((*at)->name, s->name) < 0)
		at = &(*at)->next;
	s->next = *at;
	*at = s;
}

/* ---- scratch directories ------------------------------------------------- */

static char scratch[64];
static unsigned n_scratch;

static int remove_entry(const char *path, const struct stat *st, int flag,
			struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static void remove_scratch(void)
{
	if (scratch[0])
		nftw(scratch, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *vf_test_dir(void)
{
	static char dirs[256][96];

	if (!scratch[0]) {
		strcpy(scratch, "/tmp/vecfs-test-XXXXXX");
		if (!mkdtemp(scratch))
			abort();
		atexit(remove_scratch);
	}
	char *d = dirs[n_scratch % VF_N(dirs)];
	snprintf(d, sizeof(dirs[0]), "%s/%u", scratch, n_scratch++);
	if (mkdir(d, 0700))
		abort();
	return d;
}

const char *vf_test_shared(const char *path)
{
	static char full[512];
	static bool said;

	snprintf(full, sizeof(full), "../shared/%s", path);
	if (!access(full, R_OK))
		return full;
	if (!said)
		fprintf(stderr, "skipped: %s is not here\n", full);
	said = true;
	return NULL;
}

/* ---- random numbers -------------------------------------------------------- */

uint64_t vf_test_rand(uint64_t *state)
{
	return vf_splitmix64(state);
}

float vf_test_normal(uint64_t *state)
{
	double u =
		((double)(vf_test_rand(state) >> 11) + 1) / 9007199254740993.;
	double v = (double)(vf_test_rand(state) >> 11) / 9007199254740992.;

	return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

/* ---- running --------------------------------------------------------------- */

static bool is_wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc < 2;
}

/* Expected failures would drown the report: messages only when asked for. */
static void drop_line(void *arg, enum vf_level level, const char *line)
{
	(void)arg, (void)level, (void)line;
}

void vf_test_log_reset(void)
{
	if (getenv("VF_TEST_LOG"))
		vf_log_set(NULL, NULL, VF_WARN);
	else
		vf_log_set(drop_line, NULL, VF_ERROR);
}

int main(int argc, char **argv)
{
	unsigned n = 0, failed;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	for (struct vf_suite *s = suites; s; s = s->next) {
		CU_SuiteInfo info[] = {{s->name, NULL, NULL, vf_test_log_reset,
					NULL, s->tests},
				       CU_SUITE_INFO_NULL};
		if (!is_wanted(s->name, argc, argv))
			continue;
		if (CU_register_suites(info) != CUE_SUCCESS)
			return 1;
		n++;
	}
	if (!n) {
		fprintf(stderr, "no such suite; there are:\n");
		for (struct vf_suite *s = suites; s; s = s->next)
			fprintf(stderr, "  %s\n", s->name);
		return 2;
	}
	CU_basic_set_mode(CU_BRM_NORMAL);
	CU_basic_run_tests();
	failed = CU_get_number_of_tests_failed();
	printf("unit: %u passed, %u failed\n",
	       CU_get_number_of_tests_run() - failed, failed);
	CU_cleanup_registry();
	return failed ? 1 : 0;
}
