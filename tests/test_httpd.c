/*
 * Threads live until their connection ends or the server closes, which shuts
 * every socket down.
 */
#include "tests/httpd.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>

enum { CONNECTIONS_MAX = 4096, HEAD_MAX = 64 << 10 };

struct connection {
	struct vf_httpd *d;
	unsigned number;
	pthread_t thread;
	int fd; /* [mtx] -1 when closed */
};

struct vf_httpd {
	vf_httpd_fn *fn;
	void *arg;
	char url[64];
	int fd;
	pthread_t thread;
	pthread_mutex_t mtx;
	unsigned n_requests, n_connections; /* [mtx] */
	bool stop;			    /* [mtx] */
	struct connection *all[CONNECTIONS_MAX];
};

void vf_httpd_reply(struct vf_buf *reply, int status, const char *lines,
		    const void *body, size_t len)
{
	if (vf_buf_printf(reply,
			  "HTTP/1.1 %d x\r\n%sContent-Length: %zu\r\n\r\n",
			  status, lines, len) ||
	    (len && vf_buf_append(reply, body, len)))
		abort();
}

bool vf_httpd_header(const struct vf_httpd_request *r, const char *name,
		     char *out, size_t cap)
{
	size_t n = strlen(name);

	for (const char *l = r->head; *l; l = strstr(l, "\r\n") + 2)
		if (!strncasecmp(l, name, n) && l[n] == ':') {
			l += n + 1 + strspn(l + n + 1, " ");
			snprintf(out, cap, "%.*s", (int)strcspn(l, "\r"), l);
			return true;
		}
	return false;
}

/* ---- one connection -------------------------------------------------------------------- */

/* A whole request in @in; false at the connection's end. */
static bool read_request(int fd, struct vf_buf *in, struct vf_httpd_request *r)
{
	char *end = NULL, length[32];
	size_t want = SIZE_MAX;

	in->len = 0;
	while (in->len < want) {
		if (vf_buf_reserve(in, 1 << 20))
			abort();
		ssize_t n = read(fd, in->data + in->len, (1 << 20) - 1);
		if (n <= 0)
			return false;
		in->len += (size_t)n;
		in->data[in->len] = '\0';
		if (want != SIZE_MAX)
			continue;
		end = memmem(in->data, in->len, "\r\n\r\n", 4);
		if (!end)
			continue;
		size_t head = (size_t)(end - (char *)in->data) + 4;
		end[2] = '\0';
		r->head = strstr((char *)in->data, "\r\n") + 2;
		want = head + (vf_httpd_header(r, "content-length", length,
					       sizeof(length))
				       ? strtoull(length, NULL, 10)
				       : 0);
		r->body_len = want - head;
	}
	char *save, *line = (char *)in->data;
	r->head = strstr(line, "\r\n") + 2; /* it may have moved */
	r->method = strtok_r(line, " ", &save);
	r->target = strtok_r(NULL, " ", &save);
	r->body = in->data + want - r->body_len;
	return true;
}

static void reset(int fd)
{
	struct linger l = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

static void hang(int fd)
{
	char byte;

	while (read(fd, &byte, 1) > 0)
		continue;
}

static bool serve_one(struct connection *c, struct vf_buf *in,
		      struct vf_buf *out)
{
	struct vf_httpd_request r = {.connection = c->number};
	enum vf_httpd_after after;

	if (!read_request(c->fd, in, &r))
		return false;
	out->len = 0;
	pthread_mutex_lock(&c->d->mtx);
	r.n = c->d->n_requests++;
	after = c->d->fn(c->d->arg, &r, out);
	pthread_mutex_unlock(&c->d->mtx);
	if (after == VF_HTTPD_RESET) {
		reset(c->fd);
		return false;
	}
	for (size_t at = 0; at < out->len;) {
		ssize_t n = send(c->fd, out->data + at, out->len - at,
				 MSG_NOSIGNAL);
		if (n < 0)
			return false;
		at += (size_t)n;
	}
	if (after == VF_HTTPD_HANG)
		hang(c->fd);
	return after == VF_HTTPD_KEEP;
}

static void *serve(void *arg)
{
	struct connection *c = arg;
	VF_AUTO_BUF struct vf_buf in = {0};
	VF_AUTO_BUF struct vf_buf out = {0};

	while (serve_one(c, &in, &out))
		continue;
	pthread_mutex_lock(&c->d->mtx);
	close(c->fd);
	c->fd = -1;
	pthread_mutex_unlock(&c->d->mtx);
	return NULL;
}

/* ---- the server -------------------------------------------------------------------------- */

static void *accept_all(void *arg)
{
	struct vf_httpd *d = arg;
	int fd;

	while ((fd = accept(d->fd, NULL, NULL)) >= 0) {
		struct connection *c = calloc(1, sizeof(*c));
		pthread_mutex_lock(&d->mtx);
		if (!c || d->n_connections == CONNECTIONS_MAX)
			abort();
		*c = (struct connection){
			.d = d, .number = d->n_connections, .fd = fd};
		if (d->stop)
			shutdown(fd, SHUT_RDWR);
		d->all[d->n_connections++] = c;
		if (pthread_create(&c->thread, NULL, serve, c))
			abort();
		pthread_mutex_unlock(&d->mtx);
	}
	return NULL;
}

struct vf_httpd *vf_httpd_open(vf_httpd_fn *fn, void *arg)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct vf_httpd *d = calloc(1, sizeof(*d));
	socklen_t len = sizeof(a);

	if (!d)
		abort();
	d->fn = fn;
	d->arg = arg;
	d->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (d->fd < 0 || bind(d->fd, (struct sockaddr *)&a, len) ||
	    listen(d->fd, 128) ||
	    getsockname(d->fd, (struct sockaddr *)&a, &len))
		abort();
	snprintf(d->url, sizeof(d->url), "http://127.0.0.1:%u",
		 (unsigned)ntohs(a.sin_port));
	pthread_mutex_init(&d->mtx, NULL);
	if (pthread_create(&d->thread, NULL, accept_all, d))
		abort();
	return d;
}

void vf_httpd_close(struct vf_httpd *d)
{
	shutdown(d->fd, SHUT_RDWR);
	pthread_join(d->thread, NULL);
	close(d->fd);
	pthread_mutex_lock(&d->mtx);
	d->stop = true;
	for (unsigned i = 0; i < d->n_connections; i++)
		if (d->all[i]->fd >= 0)
			shutdown(d->all[i]->fd, SHUT_RDWR);
	pthread_mutex_unlock(&d->mtx);
	for (unsigned i = 0; i < d->n_connections; i++) {
		pthread_join(d->all[i]->thread, NULL);
		free(d->all[i]);
	}
	pthread_mutex_destroy(&d->mtx);
	free(d);
}

const char *vf_httpd_url(const struct vf_httpd *d)
{
	return d->url;
}

unsigned vf_httpd_connections(struct vf_httpd *d)
{
	pthread_mutex_lock(&d->mtx);
	unsigned n = d->n_connections;
	pthread_mutex_unlock(&d->mtx);
	return n;
}

void vf_httpd_settle(struct vf_httpd *d)
{
	pthread_mutex_lock(&d->mtx);
	pthread_mutex_unlock(&d->mtx);
}
