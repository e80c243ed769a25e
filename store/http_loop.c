/* libcurl says which sockets it waits for, and until when; epoll does it. */
#include "store/http_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

enum { EVENTS_MAX = 64 };

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg,
		     void *known)
{
	static const uint32_t events[] = {[CURL_POLL_IN] = EPOLLIN,
					  [CURL_POLL_OUT] = EPOLLOUT,
					  [CURL_POLL_INOUT] =
						  EPOLLIN | EPOLLOUT};
	struct vf_http_loop *l = arg;
	struct epoll_event e = {.data.fd = fd};

	if (what == CURL_POLL_REMOVE) {
		epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	e.events = events[what];
	if (epoll_ctl(l->epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd,
		      &e))
		return -1; /* no memory: libcurl ends what is under way */
	curl_multi_assign(l->multi, fd, l);
	return 0;
}

static int on_timer(CURLM *multi, long ms, void *arg)
{
	struct vf_http_loop *l = arg;

	l->timer_ns = ms < 0 ? 0 : vf_now_ns() + (uint64_t)ms * 1000000;
	return 0;
}

int vf_http_loop_init(struct vf_http_loop *l, unsigned max_connections)
{
	struct epoll_event e = {.events = EPOLLIN};

	*l = (struct vf_http_loop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e.data.fd = l->wake_fd;
	if (l->epoll_fd < 0 || l->wake_fd < 0 ||
	    epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->wake_fd, &e))
		return -errno;
	l->multi = curl_multi_init();
	if (!l->multi)
		return -ENOMEM;
	curl_multi_setopt(l->multi, CURLMOPT_MAXCONNECTS,
			  (long)max_connections);
	curl_multi_setopt(l->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(l->multi, CURLMOPT_SOCKETDATA, l);
	curl_multi_setopt(l->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(l->multi, CURLMOPT_TIMERDATA, l);
	return 0;
}

void vf_http_loop_fini(struct vf_http_loop *l)
{
	if (l->multi)
		curl_multi_cleanup(l->multi);
	if (l->epoll_fd >= 0)
		close(l->epoll_fd);
	if (l->wake_fd >= 0)
		close(l->wake_fd);
}

void vf_http_loop_wake(struct vf_http_loop *l)
{
	const uint64_t one = 1;

	/* It fails only when it is full of wake-ups already. */
	while (write(l->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void vf_http_loop_tick(struct vf_http_loop *l)
{
	int n_running;

	if (!l->timer_ns || l->timer_ns > vf_now_ns())
		return;
	l->timer_ns = 0; /* libcurl sets the next */
	curl_multi_socket_action(l->multi, CURL_SOCKET_TIMEOUT, 0, &n_running);
}

static void take_event(struct vf_http_loop *l, const struct epoll_event *e)
{
	uint64_t n_wakes;
	int n_running, bits = 0;

	if (e->data.fd == l->wake_fd) {
		if (read(l->wake_fd, &n_wakes, sizeof(n_wakes)) < 0)
			return; /* nothing there any more */
		return;
	}
	if (e->events & (EPOLLIN | EPOLLHUP))
		bits |= CURL_CSELECT_IN;
	if (e->events & EPOLLOUT)
		bits |= CURL_CSELECT_OUT;
	if (e->events & EPOLLERR)
		bits |= CURL_CSELECT_ERR;
	curl_multi_socket_action(l->multi, e->data.fd, bits, &n_running);
}

static int wait_ms(const struct vf_http_loop *l, int max_ms)
{
	uint64_t now = vf_now_ns(), ms;

	if (!l->timer_ns)
		return max_ms;
	ms = l->timer_ns <= now ? 0 : (l->timer_ns - now + 999999) / 1000000;
	return ms < (uint64_t)max_ms ? (int)ms : max_ms;
}

void vf_http_loop_turn(struct vf_http_loop *l, int max_ms)
{
	struct epoll_event events[EVENTS_MAX];
	int n = epoll_wait(l->epoll_fd, events, EVENTS_MAX, wait_ms(l, max_ms));

	for (int i = 0; i < n; i++)
		take_event(l, &events[i]);
	vf_http_loop_tick(l);
}
