/*
 * vecfs: mount a bucket.
 *
 * The program forks before it has threads.  The child opens the bucket, mounts
 * and tells the parent through a pipe how it went; only then does it let go of
 * the terminal.  So a mount that fails says why and the caller's status is not 0.
 */
#include "fs/fs.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <syslog.h>

enum { EXIT_OK, EXIT_ERROR, EXIT_USAGE };

enum {
	/* Threads for look-ups and listings, which wait for the bucket;
	 * reads do not. */
	WORKERS_MAX = 64,
	FUSE_MAGIC = 0x65735546,
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

/* A bucket that holds its own mount would wait for itself for ever. */
static int check_source(const char *url, const char *mountpoint)
{
	char source[PATH_MAX];

	if (strncmp(url, "file://", 7) || !realpath(url + 7, source))
		return 0; /* the bucket's own error tells more */
	if (!is_within(source, mountpoint) && !is_within(mountpoint, source))
		return 0;
	fprintf(stderr,
		"vecfs: %s and the mount point %s hold one another; mount it "
		"elsewhere\n",
		url, mountpoint);
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
	return o->mountpoint ? check_source(o->url, dir) : -1;
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
				  : LOG_INFO,
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
	if (!err)
		err = vf_cache_open(fs->opt.ram_len, 0, &fs->cache);
	if (!err)
		err = vf_inodes_init(fs);
	if (!err)
		vf_passthrough_init(&fs->passthrough, &fs->opt,
				    vf_bucket_dir(fs->bucket));
	return err;
}

/* First the bucket: what is under way ends, and answers its readers. */
static void close_fs(struct fs *fs)
{
	vf_bucket_close(fs->bucket);
	vf_inodes_fini(fs);
	vf_cache_close(fs->cache);
	vf_live_fini(fs);
	pthread_mutex_destroy(&fs->mtx);
}

static int mount_session(struct fs *fs, struct fuse_session *se)
{
	if (!vf_passthrough_mount(&fs->passthrough, se, &fs->opt))
		return 0;
	/* fusermount3 says why when it fails */
	return fuse_session_mount(se, fs->opt.mountpoint) ? -EIO : 0;
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

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	static struct fs fs;
	int report = -1, rc;

	vf_log_set(log_line, NULL, VF_WARN);
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
