/*
 * rivals: writers at once, threads or processes, upsert and delete rows of one
 * index over a bucket that loses requests and answers; then all they were told
 * is compared with what is there (rivals_check.c).
 */
#include "tests/rivals.h"

#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/faulty_bucket.h"

static const char help[] =
	"usage: rivals URL DIR [options]\n"
	"\n"
	"Each seed is an index of its own in the bucket; catalogs are in DIR.\n"
	"\n"
	"  --seed S       the first one (1)\n"
	"  --seeds N      so many of them (1)\n"
	"  --writers N    at once, 2 to 8; else as the seed says\n"
	"  --each N       deeds of one writer, at most 64 (12)\n"
	"  --processes    not threads; they share a catalog\n"
	"  --faults N     of 1000 requests go wrong (0)\n"
	"  --kills N      of 1000 requests end the process, which is started\n"
	"                 again; with --processes (0)\n"
	"  --verbose      what writers complain of\n"
	"\n"
	"Exit status: 0 all is as they were told, 1 not, 2 usage.\n";

static struct {
	const char *url, *dir;
	unsigned long seed, seeds, writers, each, faults, kills;
	int processes, verbose;
} opt = {.seed = 1, .seeds = 1, .each = 12};

static const struct option long_options[] = {
	{"seed", required_argument, NULL, 's'},
	{"seeds", required_argument, NULL, 'n'},
	{"writers", required_argument, NULL, 'w'},
	{"each", required_argument, NULL, 'e'},
	{"faults", required_argument, NULL, 'f'},
	{"kills", required_argument, NULL, 'k'},
	{"processes", no_argument, &opt.processes, 1},
	{"verbose", no_argument, &opt.verbose, 1},
	{0}};

struct writer {
	struct rivals_journal *j;
	unsigned number;
	char index[32], cache[256];
	uint64_t seed;
	struct vf_bucket *bucket; /* borrowed; NULL: opens its own */
	pthread_t thread;
};

/* ---- one deed ----------------------------------------------------------------- */

static void choose(uint64_t *seed, const struct vf_state *s,
		   struct rivals_deed *d)
{
	uint64_t kind = vf_splitmix64(seed) % 10;
	uint64_t first = vf_splitmix64(seed) % RIVALS_KEYS;

	d->is_delete = kind < 4;
	d->if_absent = kind == 8;
	d->at_version = kind == 3 || kind == 9;
	d->version = s->head - (vf_splitmix64(seed) % 4 == 0);
	d->n_keys = (uint8_t)(1 + vf_splitmix64(seed) % RIVALS_AT_ONCE);
	for (unsigned k = 0; k < d->n_keys; k++)
		d->keys[k] = (uint8_t)((first + 5 * k) % RIVALS_KEYS);
	if (d->is_delete && d->n_keys > 1) /* a key twice */
		d->keys[1] = d->keys[0];
}

static int upsert(struct vf_changer *c, const struct rivals_deed *d,
		  const struct vf_condition *cond, struct vf_changed *out)
{
	VF_AUTO_BUF struct vf_buf lines = {0};
	float x[RIVALS_AT_ONCE * RIVALS_DIM];
	uint8_t lens[4 * RIVALS_AT_ONCE];

	for (unsigned k = 0; k < d->n_keys; k++) {
		size_t before = lines.len;
		vf_buf_printf(&lines,
			      "{\"key\":\"k%u\",\"metadata\":{\"deed\":%u}}\n",
			      d->keys[k], d->id);
		vf_put_le32(lens + 4 * k, (uint32_t)(lines.len - before));
	}
	for (unsigned i = 0; i < VF_N(x); i++)
		x[i] = (float)d->id;
	struct vf_upsert rows = {.n_rows = d->n_keys,
				 .row_len = RIVALS_DIM * sizeof(float),
				 .vectors = (uint8_t *)x,
				 .line_lens = lens,
				 .lines = (char *)lines.data,
				 .lines_len = lines.len};
	return vf_changer_upsert(c, &rows, cond, out);
}

static int delete_keys(struct vf_changer *c, const struct rivals_deed *d,
		       const struct vf_condition *cond, struct vf_changed *out)
{
	VF_AUTO_BUF struct vf_buf keys = {0};
	char key[16];

	int len = snprintf(key, sizeof(key), "%c%u", RIVALS_MARK, d->id);
	vf_keys_append(&keys, key, (size_t)len);
	for (unsigned k = 0; k < d->n_keys; k++) {
		len = snprintf(key, sizeof(key), "k%u", d->keys[k]);
		vf_keys_append(&keys, key, (size_t)len);
	}
	struct vf_delete all = {d->n_keys + 1u, keys.data, keys.len};
	return vf_changer_delete(c, &all, cond, out);
}

static enum rivals_told told_of(int err, const struct rivals_deed *d)
{
	if (!err)
		return d->head ? RIVALS_ACKED : RIVALS_NOTHING;
	if ((err == -EEXIST && d->if_absent) ||
	    (err == -ESTALE && d->at_version))
		return RIVALS_REFUSED;
	return err == -EINPROGRESS ? RIVALS_UNKNOWN : RIVALS_FAILED;
}

static void note_acked(struct rivals_journal *j, uint64_t head)
{
	uint64_t seen = atomic_load(&j->acked);

	while (seen < head &&
	       !atomic_compare_exchange_weak(&j->acked, &seen, head))
		;
}

static void do_deed(struct writer *w, struct vf_changer *c,
		    struct rivals_deed *d)
{
	struct vf_changed done = {0};

	d->told = RIVALS_BEGUN;
	choose(&w->seed, c->state, d);
	struct vf_condition cond = {.if_absent = d->if_absent,
				    .at_version = d->at_version,
				    .version = d->version};
	d->err = d->is_delete ? delete_keys(c, d, &cond, &done)
			      : upsert(c, d, &cond, &done);
	d->head = done.head;
	d->killed = done.n_killed;
	enum rivals_told told = told_of(d->err, d);
	if (told == RIVALS_ACKED)
		note_acked(w->j, d->head);
	else
		d->head = c->state->head;
	d->told = told;
}

/* ---- one writer ------------------------------------------------------------------ */

/* From the first deed that was not begun; some look at the log anew. */
static void write_all(struct writer *w, struct vf_bucket *b)
{
	struct vf_changer c = {
		.bucket = b, .index = w->index, .cache_dir = w->cache};

	for (unsigned i = 0; i < w->j->n_each; i++) {
		struct rivals_deed *d = &w->j->deeds[w->number][i];
		if (d->told != RIVALS_NOT_BEGUN)
			continue;
		d->id = w->number * RIVALS_EACH + i + 1;
		w->seed = vf_mix64(w->seed + d->id);
		d->floor = atomic_load(&w->j->acked);
		if (!c.state || !(w->seed % 3)) {
			vf_changer_fini(&c);
			if (vf_changer_load(&c)) {
				c.state = NULL;
				d->told = RIVALS_FAILED;
				continue;
			}
		}
		do_deed(w, &c, d);
	}
	vf_changer_fini(&c);
}

static int open_bucket(struct vf_bucket **out)
{
	static const struct vf_bucket_options options = {.create = 1};

	return vf_bucket_open(opt.url, &options, out);
}

static void *run_writer(void *arg)
{
	struct writer *w = arg;
	struct vf_faulty f = {.real = w->bucket,
			      .seed = w->seed,
			      .fault_per_mille = (unsigned)opt.faults,
			      .kill_per_mille = (unsigned)opt.kills};

	if (!f.real && open_bucket(&f.real))
		return NULL;
	vf_faulty_init(&f);
	write_all(w, &f.base);
	vf_faulty_fini(&f);
	if (!w->bucket)
		vf_bucket_close(f.real);
	return NULL;
}

/* ---- all of them ------------------------------------------------------------------ */

static int run_threads(struct writer *w, unsigned n)
{
	struct vf_bucket *b;
	int err = open_bucket(&b);

	if (err)
		return err;
	for (unsigned i = 0; i < n; i++) {
		w[i].bucket = b;
		if (pthread_create(&w[i].thread, NULL, run_writer, &w[i]))
			abort();
	}
	for (unsigned i = 0; i < n; i++)
		pthread_join(w[i].thread, NULL);
	vf_bucket_close(b);
	return 0;
}

static pid_t start_process(struct writer *w)
{
	fflush(NULL);
	pid_t pid = fork();

	if (pid)
		return pid;
	run_writer(w);
	_exit(0);
}

/* Who is killed goes on with what it has not begun. */
static int run_processes(struct writer *w, unsigned n)
{
	pid_t pids[RIVALS_MAX];
	unsigned left = n;
	int status;

	for (unsigned i = 0; i < n; i++)
		pids[i] = start_process(&w[i]);
	while (left) {
		pid_t pid = wait(&status);
		for (unsigned i = 0; i < n; i++) {
			if (pids[i] != pid)
				continue;
			if (WIFSIGNALED(status) &&
			    WTERMSIG(status) == SIGKILL) {
				w[i].seed = vf_mix64(w[i].seed + 1);
				pids[i] = start_process(&w[i]);
				continue;
			}
			left--;
			if (!WIFEXITED(status) || WEXITSTATUS(status))
				return vf_fail(-ECHILD, "a writer crashed");
		}
		if (pid < 0)
			return -errno;
	}
	return 0;
}

static int make_index(const char *index)
{
	struct vf_op op = {.kind = VF_OP_CONFIGURE,
			   .configure = {.dim = RIVALS_DIM,
					 .metric = VF_EUCLIDEAN,
					 .dtype = VF_F32,
					 .rotation_seed = 7}};
	struct vf_state *s = NULL, *next = NULL;
	struct vf_bucket *b;
	uint8_t uuid[16];
	int err = open_bucket(&b);

	if (err)
		return err;
	err = vf_index_create(b, index, uuid);
	if (!err)
		err = vf_state_load(b, index, &s);
	if (!err)
		err = vf_commit(b, s, &op, 1, &next);
	vf_state_free(s);
	vf_state_free(next);
	vf_bucket_close(b);
	return err;
}

static int remove_entry(const char *path, const struct stat *st, int flag,
			struct FTW *ftw)
{
	return remove(path);
}

static unsigned totals[RIVALS_N_TOLD], n_landed_unknown;

static void count(const struct rivals_journal *j)
{
	for (unsigned w = 0; w < j->n_writers; w++)
		for (unsigned i = 0; i < j->n_each; i++) {
			const struct rivals_deed *d = &j->deeds[w][i];
			totals[d->told]++;
			n_landed_unknown +=
				d->landed && d->told != RIVALS_ACKED;
		}
}

static int check_seed(struct rivals_journal *j, const char *index,
		      const char *cache, unsigned *out_wrong)
{
	struct vf_bucket *b;
	int err = open_bucket(&b);

	if (err)
		return err;
	*out_wrong = rivals_check(b, index, cache, j);
	vf_bucket_close(b);
	count(j);
	return 0;
}

/* Returns how much is wrong; -errno. */
static int run_seed(struct rivals_journal *j, uint64_t seed)
{
	struct writer w[RIVALS_MAX] = {0};
	uint64_t random = seed;
	unsigned n_wrong = 0, n = (unsigned)opt.writers;
	char index[32], cache[192];

	n = n ? n : 2 + (unsigned)(vf_splitmix64(&random) % (RIVALS_MAX - 1));
	snprintf(index, sizeof(index), "s%" PRIu64, seed);
	snprintf(cache, sizeof(cache), "%s/%s", opt.dir, index);
	memset(j, 0, sizeof(*j));
	j->n_writers = n;
	j->n_each = (unsigned)opt.each;
	int err = make_index(index);
	mkdir(cache, 0700);
	for (unsigned i = 0; i < n; i++) {
		w[i].j = j;
		w[i].number = i;
		w[i].seed = vf_splitmix64(&random);
		strcpy(w[i].index, index);
		snprintf(w[i].cache, sizeof(w[i].cache), "%s/%u", cache,
			 opt.processes ? 0 : i);
	}
	if (!err)
		err = opt.processes ? run_processes(w, n) : run_threads(w, n);
	if (!err)
		err = check_seed(j, index, cache, &n_wrong);
	nftw(cache, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	return err ? err : (int)n_wrong;
}

static int run_all(void)
{
	struct rivals_journal *j =
		mmap(NULL, sizeof(*j), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned n_bad = 0;

	if (j == MAP_FAILED)
		return 1;
	for (uint64_t s = opt.seed; s < opt.seed + opt.seeds; s++) {
		int rc = run_seed(j, s);
		if (rc < 0)
			fprintf(stderr, "seed %" PRIu64 ": %s\n", s,
				vf_strerror(rc));
		else if (rc)
			fprintf(stderr, "seed %" PRIu64 ": %d wrong\n", s, rc);
		n_bad += rc != 0;
	}
	printf("%lu seeds, %u bad: %u acknowledged, %u had nothing to do, "
	       "%u refused, %u failed, %u unknown (%u of them landed)\n",
	       opt.seeds, n_bad, totals[RIVALS_ACKED], totals[RIVALS_NOTHING],
	       totals[RIVALS_REFUSED], totals[RIVALS_FAILED],
	       totals[RIVALS_UNKNOWN] + totals[RIVALS_BEGUN], n_landed_unknown);
	munmap(j, sizeof(*j));
	return n_bad || !totals[RIVALS_ACKED];
}

static void drop_line(void *arg, enum vf_level level, const char *line)
{
}

static bool parse_options(int argc, char **argv)
{
	static const struct {
		char letter;
		unsigned long *to, min, max;
	} numbers[] = {{'s', &opt.seed, 1, 1ul << 60},
		       {'n', &opt.seeds, 1, 1000000},
		       {'w', &opt.writers, 2, RIVALS_MAX},
		       {'e', &opt.each, 1, RIVALS_EACH},
		       {'f', &opt.faults, 0, 900},
		       {'k', &opt.kills, 0, 500}};
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) >= 0) {
		if (c == '?')
			return false;
		for (size_t i = 0; i < VF_N(numbers); i++) {
			if (c != numbers[i].letter)
				continue;
			*numbers[i].to = strtoul(optarg, NULL, 10);
			if (*numbers[i].to < numbers[i].min ||
			    *numbers[i].to > numbers[i].max)
				return false;
		}
	}
	opt.url = argv[optind];
	opt.dir = optind + 1 < argc ? argv[optind + 1] : NULL;
	return optind + 2 == argc && (opt.processes || !opt.kills);
}

int main(int argc, char **argv)
{
	if (!parse_options(argc, argv)) {
		fputs(help, stderr);
		return 2;
	}
	if (!opt.verbose)
		vf_log_set(drop_line, NULL, VF_ERROR);
	mkdir(opt.dir, 0700);
	return run_all();
}
