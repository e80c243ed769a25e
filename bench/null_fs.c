/*
 * A file system that does nothing: one file, "data", whose reads are answered
 * from a static buffer.  What it costs is the kernel's and libfuse's part of
 * a read; vecfs is measured against it.
 *
 *     null_fs BYTES MOUNTPOINT
 *
 * Loop, threads and limits as in fs/main.c and fs/ops.c.
 */
#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "store/util.h"

enum { DATA_INO = 2, THREADS = 64, BACKGROUND = 512, READ_MAX = 4 << 20 };

static const double ttl_s = 86400;
static uint64_t data_len;
static char zeros[READ_MAX];

static int fill_stat(fuse_ino_t ino, struct stat *st)
{
	if (ino != FUSE_ROOT_ID && ino != DATA_INO)
		return -ENOENT;
	*st = (struct stat){.st_ino = ino,
			    .st_mode = ino == DATA_INO ? S_IFREG | 0444
						       : S_IFDIR | 0555,
			    .st_nlink = 1,
			    .st_size = ino == DATA_INO ? (off_t)data_len : 0};
	return 0;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	conn->max_background = BACKGROUND;
	conn->congestion_threshold = BACKGROUND;
	conn->max_readahead = 1 << 20;
	conn->want &= ~(unsigned)FUSE_CAP_AUTO_INVAL_DATA;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = {
		.ino = DATA_INO, .attr_timeout = ttl_s, .entry_timeout = ttl_s};

	if (parent != FUSE_ROOT_ID || strcmp(name, "data")) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	fill_stat(DATA_INO, &e.attr);
	fuse_reply_entry(req, &e);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct stat st;

	if (fill_stat(ino, &st))
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_attr(req, &st, ttl_s);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	uint64_t from = (uint64_t)off;
	uint64_t left = from < data_len ? data_len - from : 0;
	size_t len = VF_MIN(VF_MIN((uint64_t)size, left), (uint64_t)READ_MAX);

	fuse_reply_buf(req, zeros, len);
}

static const struct fuse_lowlevel_ops ops = {.init = op_init,
					     .lookup = op_lookup,
					     .getattr = op_getattr,
					     .open = op_open,
					     .read = op_read};

static int serve(struct fuse_session *se)
{
	struct fuse_loop_config *loop = fuse_loop_cfg_create();
	int rc;

	if (!loop)
		return -ENOMEM;
	fuse_loop_cfg_set_max_threads(loop, THREADS);
	fuse_loop_cfg_set_idle_threads(loop, THREADS);
	rc = fuse_session_loop_mt(se, loop);
	fuse_loop_cfg_destroy(loop);
	return rc;
}

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_session *se;
	int rc = 1;

	if (argc != 3 || vf_parse_size(argv[1], &data_len)) {
		fprintf(stderr, "usage: null_fs BYTES MOUNTPOINT\n");
		return 2;
	}
	if (fuse_opt_add_arg(&args, argv[0]))
		return 1;
	se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	if (se && !fuse_set_signal_handlers(se) &&
	    !fuse_session_mount(se, argv[2])) {
		/* The caller goes on when the mount is there. */
		if (!fuse_daemonize(0))
			rc = serve(se) != 0;
		fuse_session_unmount(se);
	}
	if (se)
		fuse_session_destroy(se);
	fuse_opt_free_args(&args);
	return rc;
}
