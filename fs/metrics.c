/*
 * What the mount tells of itself.  One table of numbers gives both texts:
 *
 *   .vecfs/status.json  {"cache": {"hits": N, ...}, ...}
 *   .vecfs/metrics      vecfs_cache_hits_total N, in Prometheus' text format
 */
#include "fs/fs.h"
#include "fs/live.h"
#include "fs/rewarm.h"
#include "store/pressure.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

enum type { COUNTER, GAUGE };

struct metric {
	const char *group; /* "mount": no prefix of its own */
	const char *name;
	enum type type;
	uint64_t value;
	const char *help;
};

enum { METRICS_MAX = 80, HOT_MAX = 10 };

struct metrics {
	struct metric all[METRICS_MAX];
	size_t n;
	struct vf_cache_stats cache;
	struct vf_bucket_stats bucket;
	struct vf_disk_stats disk;
};

/* ---- the table ------------------------------------------------------------------------ */

static void add(struct metrics *m, const char *group, const char *name,
		enum type type, uint64_t value, const char *help)
{
	assert(m->n < METRICS_MAX);
	m->all[m->n++] = (struct metric){group, name, type, value, help};
}

static void add_mount(struct metrics *m, struct fs *fs)
{
	add(m, "mount", "reads", COUNTER, atomic_load(&fs->n_reads),
	    "Reads answered by the daemon.");
	add(m, "mount", "read_errors", COUNTER, atomic_load(&fs->n_read_errors),
	    "Reads answered with an error.");
	add(m, "mount", "read_bytes", COUNTER, atomic_load(&fs->bytes_read),
	    "Bytes given to readers.");
	add(m, "mount", "hidden_names", COUNTER, atomic_load(&fs->n_hidden),
	    "Names met that cannot be shown as files.");
	add(m, "mount", "inodes", GAUGE, fs->n_inodes,
	    "Files and folders that the kernel knows.");
	add(m, "passthrough", "opens", COUNTER,
	    atomic_load(&fs->passthrough.n_opens),
	    "Handles of files that the kernel reads itself.");
	add(m, "passthrough", "files", GAUGE,
	    atomic_load(&fs->passthrough.n_ids),
	    "Files open that the kernel reads itself.");
}

static void add_cache(struct metrics *m)
{
	const struct vf_cache_stats *c = &m->cache;

	add(m, "cache", "ram_bytes", GAUGE, c->ram_len,
	    "Size of the cache in RAM.");
	add(m, "cache", "used_bytes", GAUGE, c->used_len,
	    "Bytes of its blocks in use.");
	add(m, "cache", "block_bytes", GAUGE, c->block_len,
	    "Size of one block.");
	add(m, "cache", "hits", COUNTER, c->n_hit, "Blocks found in RAM.");
	add(m, "cache", "misses", COUNTER, c->n_miss, "Blocks not in RAM.");
	add(m, "cache", "waits", COUNTER, c->n_wait,
	    "Misses that joined a fetch under way.");
	add(m, "cache", "disk_hits", COUNTER, c->n_disk_hit,
	    "Blocks that came from the disk tier.");
	add(m, "cache", "disk_page_reads", COUNTER, c->n_page,
	    "Of the misses: pages read from the disk tier past RAM.");
	add(m, "cache", "fetches", COUNTER, c->n_fetch,
	    "Fetches from the bucket, of one block or neighbours.");
	add(m, "cache", "read_ahead", COUNTER, c->n_ahead,
	    "Fetches that nobody waited for yet.");
	add(m, "cache", "hedges", COUNTER, c->n_hedge,
	    "Fetches sent a second time because they were late.");
	add(m, "cache", "hedges_won", COUNTER, c->n_hedge_won,
	    "Second requests that were answered first.");
	add(m, "cache", "flying", GAUGE, c->n_flying, "Fetches under way now.");
	add(m, "cache", "asked_bytes", COUNTER, c->bytes_asked,
	    "Bytes that readers asked the cache for.");
	add(m, "cache", "fetched_bytes", COUNTER, c->bytes_fetched,
	    "Bytes fetched for them.");
	add(m, "cache", "evictions", COUNTER, c->n_evict, "Blocks replaced.");
	add(m, "cache", "bypass", COUNTER, c->n_bypass,
	    "Blocks read past a cache with every block in use.");
}

static void add_disk(struct metrics *m)
{
	const struct vf_disk_stats *d = &m->disk;

	add(m, "disk", "size_bytes", GAUGE, d->size, "Size of the disk tier.");
	add(m, "disk", "used_bytes", GAUGE, d->used, "Bytes allocated in it.");
	add(m, "disk", "pinned_bytes", GAUGE, d->pinned,
	    "Bytes that never leave.");
	add(m, "disk", "pin_limit_bytes", GAUGE, vf_pins_limit(d),
	    "Most that can be pinned.");
	add(m, "disk", "held_bytes", GAUGE, d->held,
	    "Bytes that stay while the kernel reads their files, unpinned.");
	add(m, "disk", "reads", COUNTER, d->n_read, "Blocks read from it.");
	add(m, "disk", "read_misses", COUNTER, d->n_read_miss,
	    "Blocks it could not give.");
	add(m, "disk", "damaged", COUNTER, d->n_damaged,
	    "Blocks whose checksum was wrong, fetched again.");
	add(m, "disk", "writes", COUNTER, d->n_write, "Blocks written.");
	add(m, "disk", "writes_dropped", COUNTER, d->n_write_dropped,
	    "Blocks not written: budget, queue or failing disk.");
	add(m, "disk", "evictions", COUNTER, d->n_evict, "Blocks replaced.");
	add(m, "disk", "errors", COUNTER, d->n_error, "Failed operations.");
	add(m, "disk", "read_bytes", COUNTER, d->bytes_read,
	    "Bytes read from it.");
	add(m, "disk", "written_bytes", COUNTER, d->bytes_written,
	    "Bytes written to it.");
	add(m, "disk", "resting", GAUGE, d->resting,
	    "1 while it fails and is left alone.");
}

static void add_ram(struct metrics *m, struct fs *fs)
{
	struct vf_pressure_stats p;
	struct vf_rewarm_stats r;

	if (fs->pressure) {
		vf_pressure_stats(fs->pressure, &p);
		add(m, "pressure", "stalled", GAUGE, p.stalled,
		    "Time that tasks waited for memory, hundredths of a "
		    "percent.");
		add(m, "pressure", "shrinks", COUNTER, p.n_shrink,
		    "Times the cache in RAM was made smaller for it.");
		add(m, "pressure", "grows", COUNTER, p.n_grow,
		    "Times it was made larger again.");
	}
	if (fs->rewarm) {
		vf_rewarm_stats(fs->rewarm, &r);
		add(m, "rewarm", "blocks", COUNTER, r.n_blocks,
		    "Blocks hot at the last unmount and read again.");
		add(m, "rewarm", "over", GAUGE, r.is_over,
		    "1 once all of them are on their way.");
	}
}

static void add_bucket(struct metrics *m)
{
	const struct vf_bucket_stats *b = &m->bucket;

	add(m, "requests", "get", COUNTER, b->n_get, "GET requests.");
	add(m, "requests", "head", COUNTER, b->n_head, "HEAD requests.");
	add(m, "requests", "list", COUNTER, b->n_list, "LIST requests.");
	add(m, "requests", "retries", COUNTER, b->n_retry,
	    "Requests sent again.");
	add(m, "requests", "errors", COUNTER, b->n_error,
	    "Requests that failed for good.");
	add(m, "requests", "in_bytes", COUNTER, b->bytes_in,
	    "Bytes of bodies received.");
}

static void add_pins(struct metrics *m, struct fs *fs)
{
	struct vf_warm_stats w;

	vf_warm_stats(fs->warm, &w);
	add(m, "warm", "jobs", GAUGE, w.n_jobs, "Warm-ups queued or running.");
	add(m, "warm", "left_bytes", GAUGE, w.bytes_left,
	    "Bytes they have still to do.");
	add(m, "pins", "paths", GAUGE, vf_pins_count(fs->pins),
	    "Pins that hold: paths, or ranges of files.");
}

static void gather(struct fs *fs, struct metrics *m)
{
	*m = (struct metrics){0};
	vf_cache_stats(fs->cache, &m->cache);
	vf_bucket_stats(fs->bucket, &m->bucket);
	add_mount(m, fs);
	add_cache(m);
	if (fs->disk) {
		vf_disk_stats(fs->disk, &m->disk);
		add_disk(m);
	}
	add_ram(m, fs);
	add_bucket(m);
	add_pins(m, fs);
}

/* ---- status.json -------------------------------------------------------------------- */

static json_t *index_list(struct fs *fs)
{
	json_t *a = json_array();

	pthread_mutex_lock(&fs->mtx);
	for (const struct index_view *v = fs->indexes; v; v = vf_live_next(v)) {
		const struct vf_state *s = vf_live_state(v);
		json_array_append_new(
			a,
			json_pack("{s:s, s:I, s:I, s:I, s:I}", "name", s->name,
				  "head", (json_int_t)s->head, "head_age_ms",
				  (json_int_t)vf_live_age_ms(v), "rows",
				  (json_int_t)s->n_rows, "shards",
				  (json_int_t)s->n_shards));
	}
	pthread_mutex_unlock(&fs->mtx);
	return a;
}

/* The group's object in @o, made at its first member. */
static json_t *group_of(json_t *o, const char *group)
{
	json_t *g = json_object_get(o, group);

	if (!g && !json_object_set_new(o, group, json_object()))
		g = json_object_get(o, group);
	return g;
}

static json_t *hot_list(struct fs *fs)
{
	struct vf_hot hot[HOT_MAX];
	size_t n = vf_inodes_hot(fs, hot, HOT_MAX);
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++) {
		/* NULL: without memory, or no UTF-8; then not shown */
		json_array_append_new(
			a, json_pack("{s:s, s:I, s:I}", "path", hot[i].path,
				     "reads", (json_int_t)hot[i].n_reads,
				     "bytes", (json_int_t)hot[i].bytes));
		free(hot[i].path);
	}
	return a;
}

/* Element i: fetches that took less than 2^i microseconds, and no less than
 * half of that; the last one has all longer ones. */
static json_t *latency_list(const struct metrics *m)
{
	json_t *a = json_array();

	for (size_t i = 0; i < VF_LATENCY_BUCKETS; i++)
		json_array_append_new(
			a, json_integer((json_int_t)m->cache.latency[i]));
	return a;
}

static void add_words(json_t *o, struct fs *fs, const struct metrics *m)
{
	const char *why = vf_passthrough_why(&fs->passthrough);
	json_t *g = group_of(o, "passthrough");
	struct vf_pressure_stats pressure;

	json_object_set_new(g, "state", json_string(why ? "off" : "on"));
	json_object_set_new(
		g, "why",
		json_string(why ? why : vf_passthrough_what(&fs->passthrough)));
	json_object_set_new(group_of(o, "cache"), "policy",
			    json_string(m->cache.policy));
	json_object_set_new(group_of(o, "cache"), "fetch_us_log2",
			    latency_list(m));
	if (fs->pressure) {
		vf_pressure_stats(fs->pressure, &pressure);
		json_object_set_new(group_of(o, "pressure"), "file",
				    json_string(pressure.file));
	}
	json_object_set_new(o, "hot", hot_list(fs));
	if (fs->disk) {
		g = group_of(o, "disk");
		json_object_set_new(g, "directory",
				    json_string(fs->opt.disk.dir));
		json_object_set_new(g, "io",
				    json_string(m->disk.uring ? "io_uring"
							      : "threads"));
	}
}

static int status_text(struct fs *fs, const struct metrics *m,
		       struct vf_buf *out)
{
	json_t *o = json_pack(
		"{s:s, s:s, s:I, s:I, s:o}", "version", VF_VERSION, "bucket",
		vf_bucket_url(fs->bucket), "pid", (json_int_t)getpid(),
		"uptime_s",
		(json_int_t)((vf_now_ns() - fs->start_ns) / 1000000000),
		"indexes", index_list(fs));
	VF_AUTO_FREE char *text = NULL;

	if (!o)
		return -ENOMEM;
	for (size_t i = 0; i < m->n; i++) {
		const struct metric *x = &m->all[i];
		json_t *g =
			strcmp(x->group, "mount") ? group_of(o, x->group) : o;
		json_object_set_new(g, x->name,
				    json_integer((json_int_t)x->value));
	}
	add_words(o, fs, m);
	text = json_dumps(o, JSON_INDENT(2));
	json_decref(o);
	return text ? vf_buf_printf(out, "%s\n", text) : -ENOMEM;
}

/* ---- metrics -------------------------------------------------------------------------- */

/* Buckets are cumulative, bounds in seconds. */
static int histogram_text(const struct metrics *m, struct vf_buf *out)
{
	const char *name = "vecfs_fetch_seconds";
	uint64_t n = 0;
	double us = 1;
	int err = vf_buf_printf(out,
				"# HELP %s Time of fetches from the bucket.\n"
				"# TYPE %s histogram\n",
				name, name);

	for (size_t i = 0; !err && i < VF_LATENCY_BUCKETS; i++, us *= 2) {
		n += m->cache.latency[i];
		err = i + 1 < VF_LATENCY_BUCKETS
			      ? vf_buf_printf(out,
					      "%s_bucket{le=\"%g\"} %" PRIu64
					      "\n",
					      name, us / 1e6, n)
			      : vf_buf_printf(out,
					      "%s_bucket{le=\"+Inf\"} %" PRIu64
					      "\n%s_count %" PRIu64 "\n",
					      name, n, name, n);
	}
	return err;
}

static int metrics_text(const struct metrics *m, struct vf_buf *out)
{
	static const char *const types[] = {"counter", "gauge"};
	int err = 0;

	for (size_t i = 0; !err && i < m->n; i++) {
		const struct metric *x = &m->all[i];
		bool mount = !strcmp(x->group, "mount");
		char name[64];
		snprintf(name, sizeof(name), "vecfs_%s%s%s%s",
			 mount ? "" : x->group, mount ? "" : "_", x->name,
			 x->type == COUNTER ? "_total" : "");
		err = vf_buf_printf(
			out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n",
			name, x->help, name, types[x->type], name, x->value);
	}
	return err ? err : histogram_text(m, out);
}

int vf_control_text(struct fs *fs, enum kind kind, struct vf_buf *out)
{
	struct metrics m;

	gather(fs, &m);
	return kind == STATUS ? status_text(fs, &m, out)
			      : metrics_text(&m, out);
}
