/*
 * The loop and the connections.
 *
 *   READING_HEAD -> READING_BODY -> HELD -> WRITING -> READING_HEAD
 *                                     (latency)           | or CLOSED
 *
 * A connection has one request at a time; what a client sends ahead waits in
 * its input.  CLOSED ones are freed at the end of a turn of the loop, so
 * nothing in a turn meets freed memory.
 */
#include "tests/s3sim.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { READ_STEP = 16 << 10, BODY_STEP = 1 << 20, EVENTS_MAX = 256 };

enum conn_state { READING_HEAD, READING_BODY, HELD, WRITING, CLOSED };

struct conn {
	struct conn *next;
	int fd;
	enum conn_state state;
	uint32_t events; /* what epoll waits for */
	struct vf_buf in;
	struct sim_request req;
	struct sim_response res;
	struct vf_buf head; /* of the response */
	size_t n_sent;	    /* of head and body */
	uint64_t held_ns;   /* HELD: since when; UINT64_MAX: for good */
	bool in_flight;	    /* an object GET, counted */
};

struct server {
	struct sim *sim;
	int epoll_fd, listen_fd, signal_fd;
	struct conn *conns;
	size_t n_held;
	bool any_closed;
};

/* ---- closing --------------------------------------------------------------------- */

static void end_flight(struct server *v, struct conn *c)
{
	if (c->in_flight)
		v->sim->in_flight--;
	c->in_flight = false;
}

static void close_conn(struct server *v, struct conn *c, bool reset)
{
	const struct linger now = {.l_onoff = 1, .l_linger = 0};

	if (c->state == CLOSED)
		return;
	if (reset)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(c->fd);
	v->n_held -= c->state == HELD;
	v->sim->n_connections--;
	v->any_closed = true;
	c->state = CLOSED;
	end_flight(v, c);
}

static void free_closed(struct server *v)
{
	for (struct conn **at = &v->conns; *at;) {
		struct conn *c = *at;
		if (c->state != CLOSED) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		sim_request_fini(&c->req);
		sim_response_fini(&c->res);
		vf_buf_fini(&c->in);
		vf_buf_fini(&c->head);
		free(c);
	}
	v->any_closed = false;
}

static void wait_for(struct server *v, struct conn *c, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = c};

	if (c->state == CLOSED || c->events == events)
		return;
	c->events = events;
	if (epoll_ctl(v->epoll_fd, EPOLL_CTL_MOD, c->fd, &e))
		close_conn(v, c, true);
}

/* ---- writing ---------------------------------------------------------------------- */

static size_t body_to_send(const struct conn *c)
{
	size_t len = sim_response_length(&c->res);

	if (c->res.head_only || c->res.status == 204 || c->res.status == 304)
		return 0;
	return c->res.cut ? VF_MIN(len, c->res.cut_len) : len;
}

static void end_response(struct server *v, struct conn *c)
{
	bool close = c->req.close || c->res.cut;

	v->sim->stats.bytes_out += body_to_send(c);
	end_flight(v, c);
	if (close) {
		close_conn(v, c, c->res.cut_reset);
		return;
	}
	sim_request_fini(&c->req);
	sim_response_fini(&c->res);
	c->head.len = 0;
	c->n_sent = 0;
	c->state = READING_HEAD;
	wait_for(v, c, EPOLLIN);
}

static void write_conn(struct server *v, struct conn *c)
{
	const uint8_t *body = sim_response_body(&c->res);
	size_t head = c->head.len, len = body_to_send(c);

	while (c->n_sent < head + len) {
		size_t h = VF_MIN(c->n_sent, head), b = c->n_sent - h;
		struct iovec iov[] = {{c->head.data + h, head - h},
				      {(void *)(body + b), len - b}};
		struct msghdr m = {.msg_iov = iov, .msg_iovlen = len ? 2 : 1};
		ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN) {
			wait_for(v, c, EPOLLOUT);
			return;
		}
		if (n < 0) {
			close_conn(v, c, true);
			return;
		}
		c->n_sent += (size_t)n;
	}
	end_response(v, c);
}

static void respond(struct server *v, struct conn *c)
{
	bool close = c->req.close;

	v->n_held -= c->state == HELD;
	c->state = WRITING;
	if (c->res.reset ||
	    sim_response_head(&c->res, ++v->sim->n_request, close, &c->head))
		close_conn(v, c, true);
	else
		write_conn(v, c);
}

/* ---- reading ---------------------------------------------------------------------- */

static void begin_flight(struct server *v, struct conn *c)
{
	struct sim_stats *n = &v->sim->stats;

	if (!sim_is_object_get(&c->req))
		return;
	c->in_flight = true;
	n->waves += !v->sim->in_flight++;
	n->max_in_flight = VF_MAX(n->max_in_flight, v->sim->in_flight);
}

static void finish_request(struct server *v, struct conn *c)
{
	uint64_t now = vf_now_ns();

	begin_flight(v, c);
	sim_answer(v->sim, &c->req, &c->res);
	if (!c->res.silent && (!c->res.held || !v->sim->latency_ms)) {
		respond(v, c);
		return;
	}
	c->held_ns = c->res.silent ? UINT64_MAX : now;
	c->state = HELD;
	v->n_held++;
	wait_for(v, c, EPOLLRDHUP);
}

/* The request cannot be read: say so and hang up. */
static void refuse_request(struct server *v, struct conn *c, int err)
{
	if (err == -EOPNOTSUPP)
		sim_refuse(&c->res, 501, "NotImplemented",
			   "s3sim takes no Transfer-Encoding");
	else if (err == -EFBIG)
		sim_refuse(&c->res, 400, "EntityTooLarge",
			   "Your proposed upload exceeds the maximum allowed "
			   "size");
	else
		sim_refuse(&c->res, 400, "InvalidRequest",
			   "The request cannot be parsed");
	c->req.close = true;
	respond(v, c);
}

/* Move up to what is missing of the body; the rest is the next request. */
static int take_body(struct conn *c)
{
	size_t n = VF_MIN(c->req.length - c->req.body.len, c->in.len);
	int err = vf_buf_append(&c->req.body, c->in.data, n);

	if (err || !n)
		return err;
	c->in.len -= n;
	memmove(c->in.data, c->in.data + n, c->in.len);
	return 0;
}

static int take_head(struct conn *c, size_t len)
{
	char *text = malloc(len + 1);

	if (!text)
		return -ENOMEM;
	memcpy(text, c->in.data, len);
	text[len] = '\0';
	c->in.len -= len;
	memmove(c->in.data, c->in.data + len, c->in.len);
	bool nul = strlen(text) != len;
	int err = sim_request_parse(&c->req, text);
	return nul ? -EINVAL : err;
}

/* True: a request was read and its response is on the way. */
static bool begin_request(struct server *v, struct conn *c)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	const uint8_t *end =
		c->in.len ? memmem(c->in.data, c->in.len, "\r\n\r\n", 4) : NULL;
	int err = -E2BIG;

	if (!end && c->in.len <= SIM_HEAD_MAX)
		return false;
	if (end)
		err = take_head(c, (size_t)(end - c->in.data) + 4);
	if (!err)
		err = take_body(c);
	if (err) {
		refuse_request(v, c, err);
		return true;
	}
	c->state = READING_BODY;
	if (c->req.body.len == c->req.length)
		finish_request(v, c);
	else if (c->req.expects)
		send(c->fd, go_on, sizeof(go_on) - 1, MSG_NOSIGNAL);
	return true;
}

static void advance(struct server *v, struct conn *c)
{
	while (c->state == READING_HEAD && begin_request(v, c))
		;
}

static void read_conn(struct server *v, struct conn *c)
{
	bool body = c->state == READING_BODY;
	struct vf_buf *b = body ? &c->req.body : &c->in;
	size_t want = READ_STEP;

	if (body)
		want = VF_MIN(c->req.length - b->len, (size_t)BODY_STEP);
	if (vf_buf_reserve(b, want)) {
		close_conn(v, c, true);
		return;
	}
	ssize_t n = recv(c->fd, b->data + b->len, want, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		close_conn(v, c, n < 0);
		return;
	}
	b->len += (size_t)n;
	if (body && b->len == c->req.length)
		finish_request(v, c);
	advance(v, c);
}

/* ---- the loop ------------------------------------------------------------------------ */

static void handle_conn(struct server *v, struct conn *c, uint32_t events)
{
	if (c->state == CLOSED)
		return;
	if (c->state == HELD || (events & EPOLLERR)) {
		close_conn(v, c, true); /* the client hung up */
	} else if (c->state == WRITING) {
		write_conn(v, c);
		advance(v, c);
	} else {
		read_conn(v, c);
	}
}

static void accept_conn(struct server *v)
{
	int one = 1, fd = accept4(v->listen_fd, NULL, NULL,
				  SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct epoll_event e = {.events = EPOLLIN};
	struct conn *c = fd < 0 || v->sim->n_connections >= SIM_CONNECTIONS_MAX
				 ? NULL
				 : calloc(1, sizeof(*c));

	e.data.ptr = c;
	if (!c || epoll_ctl(v->epoll_fd, EPOLL_CTL_ADD, fd, &e)) {
		free(c);
		if (fd >= 0)
			close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->fd = fd;
	c->events = EPOLLIN;
	c->next = v->conns;
	v->conns = c;
	v->sim->n_connections++;
}

/* As the latency is now: who lowers it lets go of what is held. */
static uint64_t due_ns(const struct server *v, const struct conn *c)
{
	return c->held_ns == UINT64_MAX
		       ? UINT64_MAX
		       : c->held_ns + v->sim->latency_ms * UINT64_C(1000000);
}

/* Send what is due; milliseconds until the next is, -1 when none is held. */
static int release_held(struct server *v)
{
	uint64_t now = vf_now_ns(), first = UINT64_MAX;

	if (!v->n_held)
		return -1;
	for (struct conn *c = v->conns; c; c = c->next) {
		if (c->state == HELD && due_ns(v, c) <= now) {
			respond(v, c);
			advance(v, c);
		}
		if (c->state == HELD)
			first = VF_MIN(first, due_ns(v, c));
	}
	if (!v->n_held || first == UINT64_MAX)
		return -1;
	return first <= now ? 0 : (int)((first - now + 999999) / 1000000);
}

static int watch(struct server *v, int fd, int *tag)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = tag};

	return fd < 0 || epoll_ctl(v->epoll_fd, EPOLL_CTL_ADD, fd, &e) ? -errno
								       : 0;
}

static int open_server(struct server *v)
{
	sigset_t stop;
	int err;

	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	v->signal_fd = signalfd(-1, &stop, SFD_CLOEXEC);
	v->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	err = watch(v, v->listen_fd, &v->listen_fd);
	if (!err)
		err = watch(v, v->signal_fd, &v->signal_fd);
	return err ? vf_fail(err, "epoll: %s", vf_strerror(err)) : 0;
}

static void close_server(struct server *v)
{
	for (struct conn *c = v->conns; c; c = c->next)
		close_conn(v, c, false);
	free_closed(v);
	if (v->signal_fd >= 0)
		close(v->signal_fd);
	if (v->epoll_fd >= 0)
		close(v->epoll_fd);
}

int sim_serve(struct sim *s, int fd)
{
	struct server v = {.sim = s, .listen_fd = fd};
	struct epoll_event events[EVENTS_MAX];
	bool stop = false;
	int err = open_server(&v), wait_ms = -1;

	while (!err && !stop) {
		int n = epoll_wait(v.epoll_fd, events, EVENTS_MAX, wait_ms);
		for (int i = 0; i < n; i++) {
			void *tag = events[i].data.ptr;
			if (tag == &v.signal_fd)
				stop = true;
			else if (tag == &v.listen_fd)
				accept_conn(&v);
			else
				handle_conn(&v, tag, events[i].events);
		}
		wait_ms = release_held(&v);
		if (v.any_closed)
			free_closed(&v);
	}
	close_server(&v);
	return err;
}
