/*
 * Every period: read the share, take a step, set the size.
 *
 *   share >= STALLED  a quarter of what is above the least size goes, the last
 *                     thirty-second of all of it at once
 *   share >= UNEASY   nothing changes
 *   below, for CALM   a sixty-fourth of the largest size comes back per second
 *
 * The share is over ten seconds, so it stays high for some after it was enough:
 * better too small for a moment than the machine swapping for our sake.
 */
#include "store/pressure.h"
#include "store/thread.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

enum {
	STALLED = 1000, /* hundredths of a percent */
	UNEASY = 100,
	CALM_MS = 10000,
	MIN_DEFAULT = 64 << 20,
	PERIOD_DEFAULT_MS = 1000,
};

struct vf_pressure {
	struct vf_cache *cache;		/* [fixed] */
	struct vf_pressure_options opt; /* [fixed] .file is ours */
	char *file;			/* [fixed] owned */
	size_t len;			/* the thread's */
	unsigned calm_ms;		/* the thread's */
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	bool stop;		   /* [mtx] */
	uint64_t stalled;	   /* [mtx] */
	uint64_t n_shrink, n_grow; /* [mtx] */
};

/* ---- one step: pure ------------------------------------------------------------------ */

int vf_pressure_parse(const char *text, unsigned *out_stalled)
{
	static const char head[] = "some avg10=";
	unsigned percent = 0, part = 0, n = 0;

	if (strncmp(text, head, sizeof(head) - 1))
		return -EBADMSG;
	text += sizeof(head) - 1;
	for (; *text >= '0' && *text <= '9' && percent <= 100; text++, n++)
		percent = percent * 10 + (unsigned)(*text - '0');
	if (!n || percent > 100 || *text++ != '.')
		return -EBADMSG;
	for (n = 0; n < 2; n++, text++) {
		if (*text < '0' || *text > '9')
			return -EBADMSG;
		part = part * 10 + (unsigned)(*text - '0');
	}
	if (*text != ' ')
		return -EBADMSG;
	*out_stalled = percent * 100 + part;
	return 0;
}

size_t vf_pressure_step(size_t len, size_t min_len, size_t max_len,
			unsigned stalled, unsigned passed_ms, unsigned *calm_ms)
{
	if (stalled >= UNEASY) {
		*calm_ms = 0;
		if (stalled < STALLED || len <= min_len)
			return len;
		len -= (len - min_len) / 4;
		return len - min_len < max_len / 32 ? min_len : len;
	}
	*calm_ms += VF_MIN(passed_ms, UINT32_MAX - *calm_ms);
	if (*calm_ms < CALM_MS || len >= max_len)
		return len;
	return len + VF_MIN(max_len - len, max_len / 64 * passed_ms / 1000);
}

/* ---- what the system tells ------------------------------------------------------------- */

/* The head of a small file as text; false: it cannot be read. */
static bool read_text(const char *path, char *out, size_t len)
{
	FILE *f = fopen(path, "re");
	size_t n;

	if (!f)
		return false;
	n = fread(out, 1, len - 1, f);
	out[n] = '\0';
	fclose(f);
	return n > 0;
}

/* The folder of our cgroup, version 2; false: there is none. */
static bool find_cgroup(char *out, size_t len)
{
	char text[4096], *at;
	int n;

	if (!read_text("/proc/self/cgroup", text, sizeof(text)))
		return false;
	at = !strncmp(text, "0::", 3) ? text : strstr(text, "\n0::");
	if (!at)
		return false;
	at = strchr(at, '/');
	if (!at)
		return false;
	at[strcspn(at, "\n")] = '\0';
	n = snprintf(out, len, "/sys/fs/cgroup%s", at[1] ? at : "");
	return n > 0 && (size_t)n < len;
}

/* The least limit of our cgroup and those it is in. */
static uint64_t cgroup_limit(void)
{
	static const size_t root_len = sizeof("/sys/fs/cgroup") - 1;
	char dir[4200], path[4300], text[64], *slash;
	uint64_t least = UINT64_MAX;

	if (!find_cgroup(dir, sizeof(dir)))
		return least;
	for (;;) {
		snprintf(path, sizeof(path), "%s/memory.max", dir);
		if (read_text(path, text, sizeof(text)) && *text >= '0' &&
		    *text <= '9')
			least = VF_MIN(least,
				       (uint64_t)strtoull(text, NULL, 10));
		slash = strrchr(dir, '/');
		if (strlen(dir) <= root_len || !slash)
			return least;
		*slash = '\0';
	}
}

static uint64_t available(void)
{
	static const char name[] = "MemAvailable:";
	char text[4096], *at;

	if (!read_text("/proc/meminfo", text, sizeof(text)) ||
	    !(at = strstr(text, name)))
		return (uint64_t)sysconf(_SC_PHYS_PAGES) *
		       (uint64_t)sysconf(_SC_PAGESIZE);
	return strtoull(at + sizeof(name) - 1, NULL, 10) * 1024;
}

size_t vf_pressure_max_len(void)
{
	return (size_t)VF_MAX(VF_MIN(available(), cgroup_limit()) / 4,
			      (uint64_t)MIN_DEFAULT);
}

/* Returns 0; -ENOENT, logged. */
static int find_file(const struct vf_pressure_options *o, char **out)
{
	char dir[4200], text[256];
	char path[4300] = "/proc/pressure/memory";
	unsigned stalled;

	if (!o->file && find_cgroup(dir, sizeof(dir))) {
		snprintf(path, sizeof(path), "%s/memory.pressure", dir);
		if (!read_text(path, text, sizeof(text)) ||
		    vf_pressure_parse(text, &stalled))
			strcpy(path, "/proc/pressure/memory");
	}
	*out = strdup(o->file ? o->file : path);
	if (!*out)
		return -ENOMEM;
	if (read_text(*out, text, sizeof(text)) &&
	    !vf_pressure_parse(text, &stalled))
		return 0;
	return vf_fail(-ENOENT, "%s: tells nothing of memory pressure", *out);
}

/* ---- the thread ---------------------------------------------------------------------------- */

static void look(struct vf_pressure *p)
{
	const struct vf_pressure_options *o = &p->opt;
	size_t before = p->len;
	unsigned stalled = 0;
	char text[256];

	/* What cannot be read now counts as uneasy: the size stays. */
	if (!read_text(p->file, text, sizeof(text)) ||
	    vf_pressure_parse(text, &stalled))
		stalled = UNEASY;
	p->len = vf_pressure_step(before, o->min_len, o->max_len, stalled,
				  o->period_ms, &p->calm_ms);
	if (p->len != before)
		vf_cache_set_ram(p->cache, p->len);
	pthread_mutex_lock(&p->mtx);
	p->stalled = stalled;
	p->n_shrink += p->len < before;
	p->n_grow += p->len > before;
	pthread_mutex_unlock(&p->mtx);
}

static void *run(void *arg)
{
	struct vf_pressure *p = arg;

	pthread_mutex_lock(&p->mtx);
	while (!p->stop) {
		uint64_t until =
			vf_now_ns() + p->opt.period_ms * UINT64_C(1000000);
		while (!p->stop && vf_now_ns() < until)
			vf_cond_wait(&p->cond, &p->mtx, until);
		if (p->stop)
			break;
		pthread_mutex_unlock(&p->mtx);
		look(p);
		pthread_mutex_lock(&p->mtx);
	}
	pthread_mutex_unlock(&p->mtx);
	return NULL;
}

static void init_sync(struct vf_pressure *p)
{
	pthread_mutex_init(&p->mtx, NULL);
	vf_cond_init(&p->cond);
}

int vf_pressure_open(struct vf_cache *c, const struct vf_pressure_options *opt,
		     struct vf_pressure **out)
{
	struct vf_pressure *p = calloc(1, sizeof(*p));
	int err;

	*out = NULL;
	if (!p)
		return -ENOMEM;
	init_sync(p);
	p->cache = c;
	p->opt = *opt;
	if (!p->opt.max_len)
		p->opt.max_len = vf_pressure_max_len();
	if (!p->opt.min_len)
		p->opt.min_len = MIN_DEFAULT;
	p->opt.min_len = VF_MIN(p->opt.min_len, p->opt.max_len);
	if (!p->opt.period_ms)
		p->opt.period_ms = PERIOD_DEFAULT_MS;
	p->len = p->opt.max_len;
	err = find_file(opt, &p->file);
	p->opt.file = p->file;
	if (!err)
		err = vf_thread_start(&p->thread, run, p);
	p->has_thread = !err;
	if (err) {
		vf_pressure_close(p);
		return err;
	}
	*out = p;
	return 0;
}

void vf_pressure_close(struct vf_pressure *p)
{
	if (!p)
		return;
	if (p->has_thread) {
		pthread_mutex_lock(&p->mtx);
		p->stop = true;
		pthread_cond_signal(&p->cond);
		pthread_mutex_unlock(&p->mtx);
		pthread_join(p->thread, NULL);
	}
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->mtx);
	free(p->file);
	free(p);
}

void vf_pressure_stats(struct vf_pressure *p, struct vf_pressure_stats *out)
{
	pthread_mutex_lock(&p->mtx);
	*out = (struct vf_pressure_stats){p->file, p->stalled, p->n_shrink,
					  p->n_grow};
	pthread_mutex_unlock(&p->mtx);
}
