/*
 * The command line of vecfs: mount(8)'s conventions, sizes like 2G.
 */
#include "fs/fs.h"
#include "store/pressure.h"

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

static const char help[] =
	"Usage: vecfs BUCKET MOUNTPOINT [-o OPTION[,OPTION...]]\n"
	"Mount a bucket of vectors, s3://bucket/prefix or file:///dir, as a\n"
	"read-only directory, and keep what is read in RAM.\n"
	"\n"
	"  -f                     stay in the foreground\n"
	"  -d                     the same, and print every FUSE request\n"
	"  -o ram=SIZE            memory for cached blocks, for example 2G\n"
	"                         (default 1G, at most a quarter of the RAM)\n"
	"  -o ram=auto            as much as memory pressure allows: 64M to a\n"
	"                         quarter of what is available at the start\n"
	"  -o pressure=FILE       where that is read (default: memory.pressure of\n"
	"                         the cgroup, else /proc/pressure/memory)\n"
	"  -o rewarm=MB/s         how fast what was hot at the last unmount is read\n"
	"                         into RAM again, with a disk tier (default 64;\n"
	"                         0: not at all)\n"
	"  -o disk=DIR:SIZE       a second tier on a local disk, for example\n"
	"                         /nvme/vecfs:50G; kept over restarts\n"
	"  -o policy=NAME         which blocks leave: lru, lfu (default), s3fifo\n"
	"  -o ttl=SECONDS         blocks fetched longer ago leave first\n"
	"  -o disk_write_mbps=N   write at most so many MB/s to the disk\n"
	"  -o fetch_size=SIZE     largest request to the bucket (default 4M)\n"
	"  -o read_ahead=SIZE     most that is read ahead of a sequential\n"
	"                         reader (default 64M, a quarter of ram; 0: none)\n"
	"  -o hedge=PERCENTILE    ask again, beside, for what takes longer than so\n"
	"                         many of 100 fetches, for example 95 (default 0:\n"
	"                         never); at most one in twenty\n"
	"  -o endpoint=URL        an S3 server other than AWS\n"
	"                         (else AWS_ENDPOINT_URL)\n"
	"  -o region=NAME         (else AWS_REGION, the profile, us-east-1)\n"
	"  -o profile=NAME        of ~/.aws/credentials and ~/.aws/config\n"
	"  -o ca_file=FILE        certificates to trust, PEM\n"
	"  -o virtual_host        bucket.host/key instead of host/bucket/key\n"
	"  -o connections=N       requests under way at once (default 64)\n"
	"  -o timeout_ms=N        one request with its retries (default 60000)\n"
	"  -o name_ttl_ms=N       how long a name may be answered from memory\n"
	"                         (default 1000)\n"
	"  -o passthrough=auto|off  let the kernel itself read what is whole on\n"
	"                         the local disk, where it can (default auto)\n"
	"  -o allow_other         let other users in, by the files' modes\n"
	"  -h, --help             this text\n"
	"  -V, --version          the version\n"
	"\n"
	"Credentials come from the environment (AWS_ACCESS_KEY_ID, ...) or from\n"
	"the profile, never from options.  Unmount with\n"
	"`fusermount3 -u MOUNTPOINT`.\n"
	"\n"
	"Examples:\n"
	"  vecfs s3://bucket/prefix /mnt/v -o ram=2G\n"
	"  vecfs file:///data/vectors /mnt/v\n"
	"  vecquery /mnt/v/products --npy queries.npy -k 10\n"
	"In /etc/fstab:\n"
	"  s3://bucket/prefix /mnt/v fuse.vecfs _netdev,allow_other,ram=2G 0 0\n";

enum {
	RAM_DEFAULT = 1 << 30,
	NAME_TTL_DEFAULT_MS = 1000,
	REWARM_DEFAULT_MBPS = 64,
	RAM_MIN = 16 * (64 << 10),
	DISK_MIN = 16 << 20,
	DAY_MS = 86400 * 1000,
};

enum key { KEY_IGNORE, KEY_HELP, KEY_VERSION, KEY_ALLOW_OTHER };

struct parsed {
	struct mount_options *o;
	char *ram, *connections, *timeout, *name_ttl, *passthrough, *disk,
		*policy, *ttl, *write_mbps, *fetch, *ahead, *hedge, *pressure,
		*rewarm;
	int foreground, debug, virtual_host;
	bool allow_other, help, version, bad;
};

#define OPT(text, member, value)                                               \
	{                                                                      \
		text, offsetof(struct parsed, member), value                   \
	}

static const struct fuse_opt table[] = {
	OPT("ram=%s", ram, 0),
	OPT("connections=%s", connections, 0),
	OPT("timeout_ms=%s", timeout, 0),
	OPT("name_ttl_ms=%s", name_ttl, 0),
	OPT("disk=%s", disk, 0),
	OPT("policy=%s", policy, 0),
	OPT("ttl=%s", ttl, 0),
	OPT("disk_write_mbps=%s", write_mbps, 0),
	OPT("fetch_size=%s", fetch, 0),
	OPT("read_ahead=%s", ahead, 0),
	OPT("hedge=%s", hedge, 0),
	OPT("pressure=%s", pressure, 0),
	OPT("rewarm=%s", rewarm, 0),
	OPT("passthrough=%s", passthrough, 0),
	OPT("virtual_host", virtual_host, 1),
	OPT("-f", foreground, 1),
	OPT("-d", debug, 1),
	OPT("debug", debug, 1),
	FUSE_OPT_KEY("-h", KEY_HELP),
	FUSE_OPT_KEY("--help", KEY_HELP),
	FUSE_OPT_KEY("-V", KEY_VERSION),
	FUSE_OPT_KEY("--version", KEY_VERSION),
	FUSE_OPT_KEY("allow_other", KEY_ALLOW_OTHER),
	/* for mount(8) and systemd, not for us */
	FUSE_OPT_KEY("_netdev", KEY_IGNORE),
	FUSE_OPT_KEY("nofail", KEY_IGNORE),
	FUSE_OPT_KEY("auto", KEY_IGNORE),
	FUSE_OPT_KEY("noauto", KEY_IGNORE),
	FUSE_OPT_KEY("user", KEY_IGNORE),
	FUSE_OPT_KEY("nouser", KEY_IGNORE),
	FUSE_OPT_KEY("users", KEY_IGNORE),
	FUSE_OPT_KEY("defaults", KEY_IGNORE),
	FUSE_OPT_KEY("rw", KEY_IGNORE),
	FUSE_OPT_KEY("x-", KEY_IGNORE),
	FUSE_OPT_END,
};

/* Strings of the bucket's options; true when @arg is one. */
static bool take_string(struct parsed *p, const char *arg)
{
	struct vf_bucket_options *b = &p->o->bucket;
	const struct {
		const char *name;
		const char **to;
	} all[] = {{"endpoint=", &b->endpoint},
		   {"region=", &b->region},
		   {"profile=", &b->profile},
		   {"ca_file=", &b->ca_file}};

	if (!strncmp(arg, "--", 2))
		arg += 2;
	for (size_t i = 0; i < VF_N(all); i++)
		if (!strncmp(arg, all[i].name, strlen(all[i].name))) {
			free((char *)*all[i].to);
			*all[i].to = strdup(arg + strlen(all[i].name));
			return true;
		}
	return false;
}

/*
 * What libfuse makes of an option that it is left with, for a mount that is
 * not made by libfuse.  One that is not in the table leaves it to libfuse.
 */
static void note_mount_option(struct mount_options *o, const char *arg)
{
	static const struct {
		const char *name;
		unsigned long set, clear;
	} all[] = {{"ro", MS_RDONLY, 0},	 {"nosuid", MS_NOSUID, 0},
		   {"nodev", MS_NODEV, 0},	 {"noexec", MS_NOEXEC, 0},
		   {"exec", 0, MS_NOEXEC},	 {"noatime", MS_NOATIME, 0},
		   {"atime", 0, MS_NOATIME},	 {"sync", MS_SYNCHRONOUS, 0},
		   {"async", 0, MS_SYNCHRONOUS}, {"dirsync", MS_DIRSYNC, 0}};

	for (size_t i = 0; i < VF_N(all); i++)
		if (!strcmp(arg, all[i].name)) {
			o->mount_flags |= all[i].set;
			o->mount_flags &= ~all[i].clear;
			return;
		}
	if (!strcmp(arg, "default_permissions"))
		o->default_permissions = true;
	else
		o->foreign_options = true;
}

static int take_operand(struct parsed *p, const char *arg)
{
	char **to = !p->o->url		? &p->o->url
		    : !p->o->mountpoint ? &p->o->mountpoint
					: NULL;

	if (!to) {
		fprintf(stderr, "vecfs: one operand too many: %s\n", arg);
		p->bad = true;
		return -1;
	}
	*to = strdup(arg);
	return 0;
}

/* 0: taken; 1: libfuse's; -1: an error. */
static int take(void *data, const char *arg, int key, struct fuse_args *rest)
{
	struct parsed *p = data;

	switch (key) {
	case KEY_IGNORE:
		return 0;
	case KEY_HELP:
		p->help = true;
		return 0;
	case KEY_VERSION:
		p->version = true;
		return 0;
	case KEY_ALLOW_OTHER:
		p->allow_other = true;
		return 0;
	case FUSE_OPT_KEY_NONOPT:
		return take_operand(p, arg);
	default:
		if (!strncmp(arg, "x-", 2) || take_string(p, arg))
			return 0;
		note_mount_option(p->o, arg);
		return 1;
	}
}

static int bad(const char *option, const char *value)
{
	fprintf(stderr,
		"vecfs: %s=%s: not a number that it can take; see "
		"vecfs --help\n",
		option, value);
	return -EINVAL;
}

static int to_number(const char *option, const char *s, uint64_t min,
		     uint64_t max, uint64_t *out)
{
	if (!s)
		return 0;
	if (vf_parse_size(s, out) || *out < min || *out > max)
		return bad(option, s);
	return 0;
}

static uint64_t default_ram_len(void)
{
	uint64_t all = (uint64_t)sysconf(_SC_PHYS_PAGES) *
		       (uint64_t)sysconf(_SC_PAGESIZE);

	return VF_MAX(VF_MIN((uint64_t)RAM_DEFAULT, all / 4),
		      (uint64_t)RAM_MIN);
}

/* Numbers: option, its text, limits, default, and where it goes. */
struct number {
	const char *name;
	const char *text; /* NULL: not given */
	uint64_t min, max, value;
};

enum {
	RAM,
	CONNECTIONS,
	TIMEOUT,
	NAME_TTL,
	TTL,
	WRITE_MBPS,
	FETCH,
	AHEAD,
	HEDGE,
	REWARM,
};

static int to_numbers(struct parsed *p)
{
	struct mount_options *o = p->o;
	bool is_auto = p->ram && !strcmp(p->ram, "auto");
	struct number n[] = {
		[RAM] = {"ram", is_auto ? NULL : p->ram, RAM_MIN, SIZE_MAX / 2,
			 is_auto ? vf_pressure_max_len() : default_ram_len()},
		[CONNECTIONS] = {"connections", p->connections, 1, 4096, 0},
		[TIMEOUT] = {"timeout_ms", p->timeout, 1, DAY_MS, 0},
		[NAME_TTL] = {"name_ttl_ms", p->name_ttl, 0, DAY_MS,
			      NAME_TTL_DEFAULT_MS},
		[TTL] = {"ttl", p->ttl, 0, UINT32_MAX, 0},
		[WRITE_MBPS] = {"disk_write_mbps", p->write_mbps, 1, 1000000,
				0},
		[FETCH] = {"fetch_size", p->fetch, 64 << 10, 16 << 20, 0},
		[AHEAD] = {"read_ahead", p->ahead, 0, UINT32_MAX, 0},
		[HEDGE] = {"hedge", p->hedge, 0, 99, 0},
		[REWARM] = {"rewarm", p->rewarm, 0, 1000000,
			    REWARM_DEFAULT_MBPS},
	};
	int err = 0;

	for (size_t i = 0; !err && i < VF_N(n); i++)
		err = to_number(n[i].name, n[i].text, n[i].min, n[i].max,
				&n[i].value);
	o->cache.ram_len = n[RAM].value;
	o->ram_auto = is_auto;
	o->rewarm_mbps = (uint32_t)n[REWARM].value;
	o->cache.ttl_s = o->disk.ttl_s = (uint32_t)n[TTL].value;
	o->cache.fetch_len = n[FETCH].value;
	/* Zero is the cache's word for its default; one byte is none at all. */
	o->cache.ahead_len = p->ahead && !n[AHEAD].value ? 1 : n[AHEAD].value;
	o->cache.hedge = (unsigned)n[HEDGE].value;
	o->disk.write_mbps = (uint32_t)n[WRITE_MBPS].value;
	o->bucket.max_connections = (unsigned)n[CONNECTIONS].value;
	o->bucket.timeout_ms = (unsigned)n[TIMEOUT].value;
	o->name_ttl_ms = (unsigned)n[NAME_TTL].value;
	/* A quarter of the connections is always left to those who wait. */
	o->cache.max_ahead =
		o->bucket.max_connections
			? VF_MAX(o->bucket.max_connections * 3 / 4, 1u)
			: 0;
	return err;
}

/* "DIR:SIZE" */
static int to_disk(struct parsed *p)
{
	char *colon = p->disk ? strrchr(p->disk, ':') : NULL;
	struct vf_disk_options *d = &p->o->disk;
	char *dir;

	if (!p->disk)
		return 0;
	if (!colon || colon == p->disk || vf_parse_size(colon + 1, &d->size) ||
	    d->size < DISK_MIN || d->size > INT64_MAX) {
		fprintf(stderr,
			"vecfs: disk=%s: use disk=DIRECTORY:SIZE, at least 16M, "
			"for example disk=/nvme/vecfs:50G\n",
			p->disk);
		return -EINVAL;
	}
	*colon = '\0';
	if (mkdir(p->disk, 0700) && errno != EEXIST) {
		fprintf(stderr, "vecfs: %s: %s\n", p->disk, strerror(errno));
		return -EINVAL;
	}
	/* absolute: the daemon leaves the directory it was started in */
	dir = realpath(p->disk, NULL);
	if (!dir) {
		fprintf(stderr, "vecfs: %s: %s\n", p->disk, strerror(errno));
		return -EINVAL;
	}
	d->dir = dir;
	return 0;
}

/* Absolute: the daemon leaves the directory it was started in. */
static int to_ca_file(struct parsed *p)
{
	const char *given = p->o->bucket.ca_file;
	char *path;

	if (!given)
		return 0;
	path = realpath(given, NULL);
	if (!path) {
		fprintf(stderr, "vecfs: ca_file=%s: %s\n", given,
			strerror(errno));
		return -EINVAL;
	}
	free((char *)given);
	p->o->bucket.ca_file = path;
	return 0;
}

static int to_words(struct parsed *p)
{
	struct mount_options *o = p->o;
	const char *all[] = {"lru", "lfu", "s3fifo"};
	bool known = !p->policy;

	for (size_t i = 0; p->policy && i < VF_N(all); i++)
		if (!strcmp(p->policy, all[i]))
			o->cache.policy = o->disk.policy = all[i], known = true;
	if (!known) {
		fprintf(stderr, "vecfs: policy=%s: use lru, lfu or s3fifo\n",
			p->policy);
		return -EINVAL;
	}
	if (p->passthrough && strcmp(p->passthrough, "auto") &&
	    strcmp(p->passthrough, "off")) {
		fprintf(stderr, "vecfs: passthrough=%s: use auto or off\n",
			p->passthrough);
		return -EINVAL;
	}
	if (p->pressure && (*p->pressure != '/' || !o->ram_auto)) {
		fprintf(stderr,
			"vecfs: pressure=%s: it goes with ram=auto, and is a "
			"full path\n",
			p->pressure);
		return -EINVAL;
	}
	o->pressure_file = VF_STEAL(p->pressure);
	o->passthrough_off = p->passthrough && !strcmp(p->passthrough, "off");
	o->bucket.virtual_host = p->virtual_host != 0;
	o->debug = p->debug;
	o->foreground = p->foreground || p->debug;
	o->allow_other = p->allow_other;
	o->default_permissions |= p->allow_other;
	return 0;
}

/* fsname is one option: what would end it is escaped. */
static int add_source(struct fuse_args *args, const char *url)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	int err = vf_buf_printf(&b, "-osubtype=vecfs,fsname=");

	for (; !err && *url; url++)
		err = vf_buf_printf(&b, "%s%c", strchr(",\\", *url) ? "\\" : "",
				    *url);
	return err || fuse_opt_add_arg(args, (char *)b.data) ? -ENOMEM : 0;
}

static int finish(struct parsed *p, struct fuse_args *args)
{
	if (!p->o->url || !p->o->mountpoint) {
		fprintf(stderr, "vecfs: %s is missing; see vecfs --help\n",
			p->o->url ? "the mount point" : "the bucket");
		return -EINVAL;
	}
	int err = to_numbers(p);
	if (!err)
		err = to_words(p);
	if (!err)
		err = to_ca_file(p);
	if (!err)
		err = to_disk(p);
	if (!err)
		err = add_source(args, p->o->url);
	if (!err && p->allow_other)
		err = fuse_opt_add_arg(args, "-oallow_other") ||
				      fuse_opt_add_arg(args,
						       "-odefault_permissions")
			      ? -ENOMEM
			      : 0;
	if (!err && p->debug)
		err = fuse_opt_add_arg(args, "-d") ? -ENOMEM : 0;
	return err;
}

int vf_options_parse(struct fuse_args *args, struct mount_options *out)
{
	struct parsed p = {.o = out};
	int err = -EINVAL;

	out->mount_flags = MS_NOSUID | MS_NODEV; /* libfuse's default */
	if (!fuse_opt_parse(args, &p, table, take) && !p.bad) {
		if (p.help)
			fputs(help, stdout);
		if (p.version)
			puts("vecfs " VF_VERSION);
		err = p.help || p.version ? 1 : finish(&p, args);
	}
	char *const texts[] = {p.ram,	   p.connections, p.timeout,
			       p.name_ttl, p.passthrough, p.disk,
			       p.policy,   p.ttl,	  p.write_mbps,
			       p.fetch,	   p.ahead,	  p.hedge,
			       p.pressure, p.rewarm};
	for (size_t i = 0; i < VF_N(texts); i++)
		free(texts[i]);
	return err;
}

void vf_options_fini(struct mount_options *o)
{
	free(o->url);
	free(o->mountpoint);
	free((char *)o->bucket.endpoint);
	free((char *)o->bucket.region);
	free((char *)o->bucket.profile);
	free((char *)o->bucket.ca_file);
	free((char *)o->disk.dir);
	free(o->pressure_file);
}
