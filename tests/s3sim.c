/*
 * s3sim: an S3 server for tests, on 127.0.0.1, with latency, faults and
 * counters.  `s3sim --help` prints what it does: see the text below.
 *
 * It is strict where a client may be wrong (signatures, body hashes, lengths)
 * and has only what vecfs asks for; the rest is refused as NotImplemented.
 * Wherever it leaves S3's behaviour, it does so on request (the faults).
 */
#include "tests/s3sim.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

static const char help[] =
	"usage: s3sim [options]\n"
	"\n"
	"Serves one S3 bucket on 127.0.0.1 and prints one line for the shell:\n"
	"  export AWS_ENDPOINT_URL=http://127.0.0.1:PORT AWS_ACCESS_KEY_ID=...\n"
	"\n"
	"  --port N            0, the default: any free one\n"
	"  --data DIR          keep objects in files there, not in memory\n"
	"  --bucket NAME       the one bucket that exists (test)\n"
	"  --access-key K      (simkey)\n"
	"  --secret-key S      (simsecret)\n"
	"  --latency-ms N      hold every response back for so long\n"
	"  --error-rate P      0 to 1: 500 InternalError or 503 SlowDown instead\n"
	"                      of the operation; finishing a multipart upload may\n"
	"                      say so under status 200\n"
	"  --reset-rate P      0 to 1: the connection is reset; in half of the\n"
	"                      cases the operation was done, and of these a body\n"
	"                      may have been sent in part\n"
	"  --seed S            of the faults (1)\n"
	"  --exit-with-parent  stop when the process that started it ends\n"
	"  --help\n"
	"\n"
	"Operations: GET and HEAD (Range, If-Match, If-None-Match), PUT\n"
	"(If-None-Match: *, If-Match), DELETE, multipart uploads, ListObjectsV2,\n"
	"DeleteObjects, HEAD of the bucket.  Path style, region us-east-1.  Every request is\n"
	"checked: signature, clock (15 minutes), hash of the body.\n"
	"\n"
	"Control, without signature, not counted, not delayed:\n"
	"  GET  /_sim/stats   JSON: get put head list delete post (requests, faults\n"
	"                     included), bytes_in bytes_out (of bodies), errors\n"
	"                     resets (injected), in_flight max_in_flight (object\n"
	"                     GETs held at once), waves (times in_flight left 0),\n"
	"                     connections objects uploads (now)\n"
	"  POST /_sim/reset   zero the counters\n"
	"  POST /_sim/set?latency_ms=N&error_rate=P&reset_rate=P&seed=S\n"
	"                 a lower latency lets go of what is held\n"
	"                 max_keys=N   entries of a LIST page, at most 1000\n"
	"                 wrong=KIND   lie in object GETs, the next n=N (all):\n"
	"                   etag    another ETag\n"
	"                   range   a Content-Range that begins one byte later\n"
	"                   short   half of the body, then the connection ends\n"
	"                   long    200 and the whole object for a range\n"
	"                   length  one byte less than asked for, headers agreeing\n"
	"                   none    no more\n"
	"                 conditional=KIND   PUT with If-None-Match:\n"
	"                   on, ignored (the condition), refused (501)\n"
	"                 multi_delete=KIND   DeleteObjects:\n"
	"                   on, partial (every other one fails), refused (501)\n"
	"                 silent_after=N   N more requests are carried out, the last\n"
	"                   of them without an answer; later ones are not even\n"
	"                   carried out, until silent_after is set again\n";

struct options {
	struct sim sim;
	uint16_t port;
	const char *data;
	bool exit_with_parent;
};

enum {
	OPT_PORT = 256,
	OPT_DATA,
	OPT_BUCKET,
	OPT_ACCESS,
	OPT_SECRET,
	OPT_LATENCY,
	OPT_ERROR,
	OPT_RESET,
	OPT_SEED,
	OPT_PARENT,
	OPT_HELP,
};

static const struct option long_options[] = {
	{"port", required_argument, NULL, OPT_PORT},
	{"data", required_argument, NULL, OPT_DATA},
	{"bucket", required_argument, NULL, OPT_BUCKET},
	{"access-key", required_argument, NULL, OPT_ACCESS},
	{"secret-key", required_argument, NULL, OPT_SECRET},
	{"latency-ms", required_argument, NULL, OPT_LATENCY},
	{"error-rate", required_argument, NULL, OPT_ERROR},
	{"reset-rate", required_argument, NULL, OPT_RESET},
	{"seed", required_argument, NULL, OPT_SEED},
	{"exit-with-parent", no_argument, NULL, OPT_PARENT},
	{"help", no_argument, NULL, OPT_HELP},
	{0}};

static uint64_t parse_number(const char *name, const char *s, uint64_t max)
{
	char *end;
	unsigned long long n = strtoull(s, &end, 10);

	if (*s < '0' || *s > '9' || *end || n > max) {
		fprintf(stderr, "s3sim: %s: %s is not a number up to %llu\n",
			name, s, (unsigned long long)max);
		exit(2);
	}
	return n;
}

static double parse_rate(const char *name, const char *s)
{
	char *end;
	double p = strtod(s, &end);

	if (end == s || *end || !(p >= 0 && p <= 1)) {
		fprintf(stderr, "s3sim: %s: %s is not in 0 to 1\n", name, s);
		exit(2);
	}
	return p;
}

/* What the printed line must carry through a shell unquoted. */
static const char *parse_word(const char *name, const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz"
			     "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+/");

	if (!*s || s[n] || n > 100) {
		fprintf(stderr, "s3sim: %s: only letters, digits and -_.+/\n",
			name);
		exit(2);
	}
	return s;
}

static void take_option(struct options *o, int opt, const char *name)
{
	struct sim *s = &o->sim;

	switch (opt) {
	case OPT_PORT:
		o->port = (uint16_t)parse_number(name, optarg, 65535);
		break;
	case OPT_DATA:
		o->data = optarg;
		break;
	case OPT_BUCKET:
		s->bucket = parse_word(name, optarg);
		break;
	case OPT_ACCESS:
		s->access_key = parse_word(name, optarg);
		break;
	case OPT_SECRET:
		s->secret_key = parse_word(name, optarg);
		break;
	case OPT_LATENCY:
		s->latency_ms = (unsigned)parse_number(name, optarg, 600000);
		break;
	case OPT_ERROR:
		s->error_rate = parse_rate(name, optarg);
		break;
	case OPT_RESET:
		s->reset_rate = parse_rate(name, optarg);
		break;
	case OPT_SEED:
		s->rand = parse_number(name, optarg, UINT64_MAX);
		break;
	case OPT_PARENT:
		o->exit_with_parent = true;
		break;
	case OPT_HELP:
		fputs(help, stdout);
		exit(0);
	default:
		fprintf(stderr, "s3sim: try s3sim --help\n");
		exit(2);
	}
}

static void parse_options(struct options *o, int argc, char **argv)
{
	int opt, i = 0;

	while ((opt = getopt_long(argc, argv, "", long_options, &i)) != -1)
		take_option(o, opt, long_options[i].name);
	if (optind != argc)
		take_option(o, '?', "");
}

static int listen_on(uint16_t port, uint16_t *out_port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 1024) ||
	    getsockname(fd, (struct sockaddr *)&a, &len)) {
		vf_fail(-errno, "127.0.0.1:%u: %m", port);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	*out_port = ntohs(a.sin_port);
	return fd;
}

/* The parent may have ended before this was asked for. */
static bool follow_parent(pid_t parent)
{
	return !prctl(PR_SET_PDEATHSIG, SIGTERM) && getppid() == parent;
}

static void raise_file_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return;
	r.rlim_cur = VF_MIN(r.rlim_max, (rlim_t)2 * SIM_CONNECTIONS_MAX);
	setrlimit(RLIMIT_NOFILE, &r);
}

int main(int argc, char **argv)
{
	struct options o = {.sim = {.bucket = "test",
				    .access_key = "simkey",
				    .secret_key = "simsecret",
				    .region = "us-east-1",
				    .max_keys = SIM_MAX_KEYS,
				    .n_left = UINT64_MAX,
				    .rand = 1}};
	struct sim *s = &o.sim;
	pid_t parent = getppid();
	uint16_t port;
	int err;

	vf_log_name("s3sim");
	parse_options(&o, argc, argv);
	if (o.exit_with_parent && !follow_parent(parent))
		return 1;
	raise_file_limit();
	VF_AUTO_FD int fd = listen_on(o.port, &port);
	if (fd < 0 || sim_store_open(&s->store, o.data))
		return 1;
	printf("export AWS_ENDPOINT_URL=http://127.0.0.1:%u "
	       "AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s "
	       "AWS_REGION=%s S3_BUCKET=%s\n",
	       port, s->access_key, s->secret_key, s->region, s->bucket);
	fflush(stdout);
	err = sim_serve(s, fd);
	sim_uploads_free(s);
	sim_store_close(&s->store);
	return err ? 1 : 0;
}
