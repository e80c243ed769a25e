/*
 * credential_process: a program that prints credentials as JSON.
 *
 * It runs in a session of its own, so that it cannot ask at a terminal and
 * that all it starts can be killed; with empty standard input and with our
 * standard error, because its complaints are for whoever reads ours.  What it
 * prints is never logged.
 *
 * Source: AWS SDKs and Tools Reference Guide, "Process credential provider".
 */
#include "store/credentials_impl.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>

enum { OUTPUT_MAX = 64 << 10, TIME_MAX_S = 60, SLICE_MS = 50 };

struct run {
	const char *profile;
	const atomic_bool *stop;
	pid_t pid; /* 0 when it has been waited for */
	int fd;	   /* its standard output */
	int status;
	size_t len;
	char output[OUTPUT_MAX + 1];
};

static int fill_attributes(posix_spawnattr_t *a)
{
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	/* Our threads block every signal; that would be inherited. */
	if (posix_spawnattr_setsigmask(a, &none) ||
	    posix_spawnattr_setsigdefault(a, &all) ||
	    posix_spawnattr_setflags(a, POSIX_SPAWN_SETSIGMASK |
						POSIX_SPAWN_SETSIGDEF |
						POSIX_SPAWN_SETSID))
		return -EINVAL;
	return 0;
}

static int spawn(struct run *r, const char *command, int out)
{
	char *argv[] = {(char *)"sh", (char *)"-c", (char *)(uintptr_t)command,
			NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t a;
	int rc = ENOMEM;

	if (posix_spawn_file_actions_init(&files))
		return -ENOMEM;
	if (!posix_spawnattr_init(&a)) {
		if (!fill_attributes(&a) &&
		    !posix_spawn_file_actions_addopen(&files, 0, "/dev/null",
						      O_RDONLY, 0) &&
		    !posix_spawn_file_actions_adddup2(&files, out, 1) &&
		    !posix_spawn_file_actions_addclosefrom_np(&files, 3))
			rc = posix_spawn(&r->pid, "/bin/sh", &files, &a, argv,
					 environ);
		posix_spawnattr_destroy(&a);
	}
	posix_spawn_file_actions_destroy(&files);
	return -rc;
}

/* One read.  Returns 0; -ENODATA nothing more comes, -EAGAIN not now; -EFBIG. */
static int take_some(struct run *r)
{
	ssize_t n = read(r->fd, r->output + r->len, sizeof(r->output) - r->len);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	r->len += (size_t)n;
	if (r->len > OUTPUT_MAX)
		return -EFBIG;
	return n ? 0 : -ENODATA;
}

static bool has_ended(struct run *r)
{
	pid_t pid = r->pid ? waitpid(r->pid, &r->status, WNOHANG) : 0;

	if (pid)
		r->pid = 0;
	if (pid < 0) /* SIGCHLD is ignored: nobody knows how it ended */
		r->status = 0;
	return !r->pid;
}

/*
 * Until it has ended.  What it left running may hold its output open for
 * ever: then what is there counts.
 */
static int follow(struct run *r)
{
	uint64_t limit = vf_now_ns() + TIME_MAX_S * 1000000000ull;
	bool open = true;

	while (vf_now_ns() < limit) {
		struct pollfd p = {.fd = open ? r->fd : -1, .events = POLLIN};
		bool ended = has_ended(r);
		int err = 0;
		if (r->stop &&
		    atomic_load_explicit(r->stop, memory_order_relaxed))
			return -ECANCELED;
		while (open && !err)
			err = take_some(r);
		if (err == -EFBIG)
			return err;
		open = open && err == -EAGAIN;
		if (ended)
			return 0;
		poll(&p, 1, SLICE_MS);
	}
	return -ETIMEDOUT;
}

static int judge_end(const struct run *r, int err)
{
	const char *name = r->profile;

	if (err == -EFBIG)
		return vf_fail(-EACCES,
			       "credential_process of profile [%s] prints more "
			       "than %d bytes",
			       name, OUTPUT_MAX);
	if (err == -ETIMEDOUT)
		return vf_fail(-EACCES,
			       "credential_process of profile [%s] has not "
			       "ended after %d s",
			       name, TIME_MAX_S);
	if (!err && WIFSIGNALED(r->status))
		return vf_fail(-EACCES,
			       "credential_process of profile [%s] was killed "
			       "by signal %d",
			       name, WTERMSIG(r->status));
	if (!err && WEXITSTATUS(r->status))
		return vf_fail(-EACCES,
			       "credential_process of profile [%s] ended with "
			       "status %d",
			       name, WEXITSTATUS(r->status));
	return err;
}

static int run_command(struct run *r, const char *command)
{
	int fds[2], err;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	r->fd = fds[0];
	fcntl(r->fd, F_SETFL, O_NONBLOCK);
	err = spawn(r, command, fds[1]);
	close(fds[1]);
	if (err)
		err = vf_fail(err == -ENOMEM ? err : -EACCES,
			      "credential_process of profile [%s] cannot be "
			      "started: %s",
			      r->profile, strerror(-err));
	else
		err = judge_end(r, follow(r));
	if (r->pid > 0) {
		kill(-r->pid, SIGKILL);
		waitpid(r->pid, &r->status, 0);
	}
	close(r->fd);
	return err;
}

int vf_credentials_from_process(const char *command, const char *profile,
				const atomic_bool *stop,
				struct vf_credentials *out)
{
	struct run *r = calloc(1, sizeof(*r));
	const char *reason;
	int err;

	if (!r)
		return -ENOMEM;
	r->profile = profile;
	r->stop = stop;
	err = run_command(r, command);
	if (!err) {
		err = vf_credentials_parse(r->output, r->len,
					   VF_CREDENTIALS_PROCESS, out,
					   &reason);
		if (err == -EBADMSG)
			err = vf_fail(-EACCES,
				      "what credential_process of profile "
				      "[%s] prints %s",
				      profile, reason);
	}
	explicit_bzero(r->output, sizeof(r->output));
	free(r);
	return err;
}
