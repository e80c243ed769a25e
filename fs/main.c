/*
 * vecfs: mount a bucket.
 *
 * The program forks before it has threads.  The child opens the bucket, mounts
 * and tells the parent through a pipe how it went; only then does it let go of
 * the terminal.  So a mount that fails says why and the caller's status is not 0.
 */
#include "fs/fs.h"
#include "fs/listings.h"
#include "fs/live.h"
#include "fs/rewarm.h"
#include "store/pressure.h"

#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <syslog.h>

enum { EXIT_OK, EXIT_ERROR, EXIT_USAGE };

enum {
	/* Threads for look-ups and listings, which wait for the bucket;
	 * reads do not. */
	WORKERS_MAX = 64,
	BLOCK_LEN = 64 << 10,
	FUSE_MAGIC = 0x65735546,
	MALLOC_LARGE_LEN = 32 << 20,
	MALLOC_KEEP_LEN = 12 << 20,
	MALLOC_ARENAS = 2,
};

/* ---- checks before anything is mounted ---------------------------------------------- */

static int explain_stat(const char *dir)
{
	if (errno == ENOTCONN)
		fprintf(stderr,
			"vecfs: %s: a mount whose program has died; remove it "
			"with: fusermount3 -u %s\n",
			dir, dir);
	else
		fprintf(stderr, "vecfs: %s: %s\n", dir, strerror(errno));
	return -1;
}

/* Is @path @dir itself or beneath it? */
static bool is_within(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	if (n == 1)
		return true;
	return !strncmp(path, dir, n) && (path[n] == '/' || !path[n]);
}

/* A bucket or cache that holds its own mount, or lies in it, would wait for
 * itself for ever; a cache in the bucket would show as objects. */
static int check_places(const struct mount_options *o)
{
	char source[PATH_MAX];
	const char *a = o->url, *b = o->mountpoint, *disk = o->disk.dir;
	bool local =
		!strncmp(o->url, "file://", 7) && realpath(o->url + 7, source);

	if (local && (is_within(source, b) || is_within(b, source)))
		goto refuse;
	if (disk && is_within(disk, b)) {
		a = disk;
		goto refuse;
	}
	if (local && disk &&
	    (is_within(disk, source) || is_within(source, disk))) {
		b = disk;
		goto refuse;
	}
	return 0;
refuse:
	fprintf(stderr,
		"vecfs: %s and %s hold one another; use another "
		"directory for one of them\n",
		a, b);
	return -1;
}

static int check_mountpoint(struct mount_options *o)
{
	char dir[PATH_MAX];
	struct stat st, up;
	struct statfs fs;
	VF_AUTO_FREE char *above = NULL;

	/* stat alone may be answered from attributes of a dead mount */
	if (stat(o->mountpoint, &st) || statfs(o->mountpoint, &fs) ||
	    !realpath(o->mountpoint, dir))
		return explain_stat(o->mountpoint);
	if (!S_ISDIR(st.st_mode)) {
		fprintf(stderr, "vecfs: %s: not a directory\n", o->mountpoint);
		return -1;
	}
	if (asprintf(&above, "%s/..", dir) < 0) {
		above = NULL;
		return -1;
	}
	if (fs.f_type == FUSE_MAGIC && !stat(above, &up) &&
	    up.st_dev != st.st_dev) {
		fprintf(stderr,
			"vecfs: %s: something is mounted there already; "
			"unmount it with: fusermount3 -u %s\n",
			dir, dir);
		return -1;
	}
	free(o->mountpoint);
	o->mountpoint = strdup(dir);
	return o->mountpoint ? check_places(o) : -1;
}

static int check_device(void)
{
	VF_AUTO_FD int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return 0;
	fprintf(stderr, "vecfs: /dev/fuse: %s; %s\n", strerror(errno),
		errno == ENOENT
			? "load the module (modprobe fuse), or start the "
			  "container with --device /dev/fuse --cap-add SYS_ADMIN"
			: "this user may not mount with FUSE");
	return -1;
}

/* ---- the background ----------------------------------------------------------------- */

/* In the child: the pipe's end to report to.  In the parent: exits. */
static int go_to_background(void)
{
	int fds[2];
	uint8_t status = EXIT_ERROR;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) || (pid = fork()) < 0) {
		perror("vecfs");
		exit(EXIT_ERROR);
	}
	if (!pid) {
		close(fds[0]);
		setsid();
		return fds[1];
	}
	close(fds[1]);
	if (read(fds[0], &status, 1) != 1)
		waitpid(pid, NULL, 0); /* died before it could tell */
	_exit(status);
}

static atomic_bool detached; /* from the terminal */

static void log_line(void *arg, enum vf_level level, const char *line)
{
	if (!atomic_load(&detached)) {
		fprintf(stderr, "vecfs: %s\n", line);
		return;
	}
	syslog(level == VF_ERROR  ? LOG_ERR
	       : level == VF_WARN ? LOG_WARNING
	       : level == VF_INFO ? LOG_INFO
				  : LOG_DEBUG,
	       "%s", line);
}

static void let_go(int report)
{
	static const uint8_t fine = EXIT_OK;
	int null = open("/dev/null", O_RDWR);

	openlog("vecfs", LOG_PID, LOG_DAEMON);
	atomic_store(&detached, true);
	if (null >= 0) {
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		if (null > 2)
			close(null);
	}
	if (chdir("/") || write(report, &fine, 1) != 1)
		syslog(LOG_WARNING, "cannot report to the caller");
	close(report);
}

/* ---- the mount -------------------------------------------------------------------------- */

static int open_cache(struct fs *fs)
{
	struct vf_cache_stats stats;
	int err = vf_cache_open(&fs->opt.cache, &fs->cache);

	if (err)
		return vf_fail(err, "the cache: %s", vf_strerror(err));
	vf_cache_stats(fs->cache, &stats);
	fs->cache_block_len = stats.block_len;
	if (!fs->opt.ram_auto)
		return 0;
	err = vf_pressure_open(
		fs->cache,
		&(struct vf_pressure_options){.file = fs->opt.pressure_file,
					      .max_len = stats.ram_len},
		&fs->pressure);
	return err == -ENOENT ? 0 : err; /* said; the size stays */
}

static int open_fs(struct fs *fs)
{
	struct timespec now;
	int err;

	clock_gettime(CLOCK_REALTIME, &now);
	fs->start_s = now.tv_sec;
	fs->start_ns = vf_now_ns();
	fs->uid = getuid();
	fs->gid = getgid();
	pthread_mutex_init(&fs->mtx, NULL);
	err = vf_bucket_open(fs->opt.url, &fs->opt.bucket, &fs->bucket);
	fs->opt.cache.block_len = fs->opt.disk.block_len = BLOCK_LEN;
	if (!err && fs->opt.disk.dir)
		err = vf_disk_open(&fs->opt.disk, &fs->disk);
	fs->opt.cache.disk = fs->disk;
	if (!err)
		err = open_cache(fs);
	if (!err)
		err = vf_inodes_init(fs);
	if (!err)
		err = vf_warm_open(fs, &fs->warm);
	if (!err && fs->disk)
		err = vf_pins_open(fs, fs->opt.disk.dir, &fs->pins);
	if (!err && fs->disk && fs->opt.rewarm_mbps)
		err = vf_rewarm_open(fs, &fs->rewarm);
	if (!err)
		vf_passthrough_init(&fs->passthrough, &fs->opt,
				    vf_bucket_dir(fs->bucket));
	return err;
}

/* First the bucket: what is under way ends, and answers its readers. */
static void close_fs(struct fs *fs)
{
	vf_pressure_close(fs->pressure);
	vf_rewarm_stop(fs->rewarm);
	vf_pins_stop(fs->pins);
	vf_warm_stop(fs->warm);
	if (fs->cache)
		vf_cache_stop(fs->cache);
	vf_bucket_stop(fs->bucket);
	vf_pins_join(fs->pins);
	vf_bucket_close(fs->bucket);
	vf_warm_close(fs->warm);
	vf_inodes_fini(fs);
	vf_rewarm_close(fs->rewarm);
	vf_cache_close(fs->cache);
	vf_disk_close(fs->disk);
	vf_pins_close(fs->pins);
	vf_live_fini(fs);
	vf_listings_fini(fs);
	pthread_mutex_destroy(&fs->mtx);
}

static int mount_session(struct fs *fs, struct fuse_session *se)
{
	if (!vf_passthrough_mount(&fs->passthrough, se, &fs->opt))
		return 0;
	/* fusermount3 says why when it fails */
	if (fuse_session_mount(se, fs->opt.mountpoint))
		return -EIO;
	int err = vf_connection_use(se, fuse_session_fd(se));
	if (err)
		fuse_session_unmount(se);
	return err;
}

static void unmount_session(struct fs *fs, struct fuse_session *se)
{
	if (fs->passthrough.fd >= 0)
		vf_passthrough_unmount(&fs->passthrough, fs->opt.mountpoint);
	else
		fuse_session_unmount(se);
}

static int serve(struct fs *fs, struct fuse_session *se, int report)
{
	struct fuse_loop_config *loop = fuse_loop_cfg_create();
	int rc;

	if (!loop)
		return -ENOMEM;
	fuse_loop_cfg_set_max_threads(loop, WORKERS_MAX);
	fuse_loop_cfg_set_idle_threads(loop, WORKERS_MAX);
	if (report >= 0)
		let_go(report);
	rc = fuse_session_loop_mt(se, loop);
	fuse_loop_cfg_destroy(loop);
	return rc < 0 ? rc : 0; /* a signal's number is a wish, not an error */
}

static int run(struct fs *fs, struct fuse_args *args, int report)
{
	struct fuse_session *se = NULL;
	int err = open_fs(fs);

	if (!err) {
		se = fuse_session_new(args, &vf_fs_ops, sizeof(vf_fs_ops), fs);
		fs->session = se;
		err = se ? fuse_set_signal_handlers(se) : -EINVAL;
	}
	if (!err)
		err = mount_session(fs, se);
	if (!err) {
		err = serve(fs, se, report);
		unmount_session(fs, se);
	}
	close_fs(fs);
	if (se) {
		fuse_remove_signal_handlers(se);
		fuse_session_destroy(se);
	}
	return err ? EXIT_ERROR : EXIT_OK;
}

/* Each open file may hold one of the disk tier, each request a socket. */
static void raise_file_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return;
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
}

/* The daemon leaves the directory it was started in: what the environment names
 * from there is still found. */
static void make_paths_absolute(void)
{
	static const char *const names[] = {
		"AWS_CA_BUNDLE",
		"AWS_CONFIG_FILE",
		"AWS_SHARED_CREDENTIALS_FILE",
		"AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
	};

	for (size_t i = 0; i < VF_N(names); i++) {
		const char *given = getenv(names[i]);
		VF_AUTO_FREE char *path = given && *given && *given != '/'
						  ? realpath(given, NULL)
						  : NULL;
		if (path)
			setenv(names[i], path, 1);
	}
}

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	static struct fs fs;
	int report = -1, rc;

	vf_std_occupy();
	/* Else every buffer of a fetch is a mapping of its own, and a page
	 * fault per 4 KiB of it: measured, a third of the daemon's time.  What
	 * is kept is kept by each arena: few of them, or it adds up. */
	mallopt(M_MMAP_THRESHOLD, MALLOC_LARGE_LEN);
	mallopt(M_TRIM_THRESHOLD, MALLOC_KEEP_LEN);
	mallopt(M_ARENA_MAX, MALLOC_ARENAS);
	vf_log_set(log_line, NULL, VF_WARN);
	raise_file_limit();
	make_paths_absolute();
	rc = vf_options_parse(&args, &fs.opt);
	if (rc) {
		rc = rc > 0 ? EXIT_OK : EXIT_USAGE;
	} else if (check_mountpoint(&fs.opt) || check_device()) {
		rc = EXIT_ERROR;
	} else {
		if (!fs.opt.foreground)
			report = go_to_background();
		rc = run(&fs, &args, report);
	}
	vf_options_fini(&fs.opt);
	fuse_opt_free_args(&args);
	return rc;
}
