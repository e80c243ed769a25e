/*
 * One thread owns the curl_multi and everything in it; others only push calls
 * on a queue and wake it.
 *
 *   queued -> active -> done
 *               |  ^
 *               v  |        waiting: an attempt failed, the next has its time
 *             waiting
 *
 * In the thread a call belongs to exactly one list.
 */
#include "store/http.h"
#include "store/http_loop.h"
#include "store/thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum {
	CONNECTIONS_DEFAULT = 64,
	TIMEOUT_DEFAULT_MS = 60000,
	CONNECT_TIMEOUT_MS = 5000,
	STALL_DEFAULT_S = 15,
	IDLE_MAX_S = 50, /* servers close idle connections after 60 s */
	BACKOFF_FIRST_MS = 50,
	BACKOFF_MAX_MS = 5000,
	BODY_PER_S = 256 << 10, /* slowest sending that is waited for */
	POLL_MAX_MS = 1000,
	RECEIVE_LEN = 128 << 10, /* per connection: a block and its head */
};

struct call {
	struct vf_http_call c;
	struct vf_http *http;
	struct vf_http_answer answer;
	char text[VF_HTTP_TEXT_MAX + 1];
	char error[CURL_ERROR_SIZE];
	CURL *easy;		    /* while active */
	struct curl_slist *headers; /* while active */
	bool overflow;		    /* more bytes than asked for */
	bool fresh;		    /* the last attempt met a dead connection */
	uint64_t start_ns, deadline_ns, ready_ns;
	struct call *next;
};

struct vf_http {
	pthread_t thread;		 /* [fixed] */
	struct vf_http_loop loop;	 /* the thread's, but for its wake */
	char *ca_file;			 /* [fixed] */
	unsigned max_active, timeout_ms; /* [fixed] */
	unsigned stall_s;		 /* [fixed] */
	pthread_mutex_t mtx;
	struct call *queue, **queue_end; /* [mtx] */
	bool stop;			 /* [mtx] */
	atomic_uint_fast64_t n_retry;
	/* the thread's */
	struct call *todo, **todo_end; /* taken from the queue */
	struct call *waiting;	       /* any order */
	struct call *active;
	unsigned n_active;
	CURL **spare; /* [max_active] handles to use again */
	unsigned n_spare;
	uint64_t jitter; /* state of splitmix64 */
};

/* ---- what arrives --------------------------------------------------------------------- */

static size_t take_body(char *p, size_t size, size_t n, void *arg)
{
	struct call *c = arg;
	struct vf_http_answer *a = &c->answer;
	size_t len = size * n;
	long status = 0;

	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 300) {
		size_t room = VF_HTTP_TEXT_MAX - a->text_len;
		memcpy(c->text + a->text_len, p, VF_MIN(len, room));
		a->text_len += VF_MIN(len, room);
		return len;
	}
	if (!c->c.buf && !c->c.grow)
		return len; /* nobody wants it */
	if (c->c.buf && len <= c->c.buf_len - a->body_len)
		memcpy((char *)c->c.buf + a->body_len, p, len);
	else if (c->c.buf ||
		 len > c->c.grow_max - VF_MIN(a->body_len, c->c.grow_max) ||
		 vf_buf_append(c->c.grow, p, len))
		c->overflow = true;
	if (c->overflow)
		return 0;
	a->body_len += len;
	return len;
}

static size_t take_line(char *p, size_t size, size_t n, void *arg)
{
	struct call *c = arg;

	vf_http_header(&c->answer, p, size * n);
	return size * n;
}

/* ---- one attempt ------------------------------------------------------------------------ */

static void set_options(struct vf_http *h, struct call *c, CURL *e,
			const char *url)
{
	uint64_t now = vf_now_ns();
	long left_ms = now < c->deadline_ns
			       ? (long)((c->deadline_ns - now) / 1000000) + 1
			       : 1;

	curl_easy_setopt(e, CURLOPT_URL, url);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, c->headers);
	curl_easy_setopt(e, CURLOPT_PRIVATE, c);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->error);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, take_line);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, c);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_BUFFERSIZE, (long)RECEIVE_LEN);
	curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS,
			 (long)CONNECT_TIMEOUT_MS);
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)h->stall_s);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, left_ms);
	curl_easy_setopt(e, CURLOPT_MAXAGE_CONN, (long)IDLE_MAX_S);
	curl_easy_setopt(e, CURLOPT_USERAGENT, "vecfs/" VF_VERSION);
	/* libcurl itself sends again what met a closed idle connection. */
	if (c->fresh || c->c.once)
		curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, 1L);
	if (h->ca_file)
		curl_easy_setopt(e, CURLOPT_CAINFO, h->ca_file);
	if (!strcmp(c->c.method, "HEAD")) {
		curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
	} else if (c->c.body || !strcmp(c->c.method, "POST") ||
		   !strcmp(c->c.method, "PUT")) {
		curl_easy_setopt(e, CURLOPT_POST, 1L);
		curl_easy_setopt(e, CURLOPT_POSTFIELDS,
				 c->c.body ? c->c.body : "");
		curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE,
				 (curl_off_t)c->c.body_len);
	}
	if (strcmp(c->c.method, "HEAD"))
		curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, c->c.method);
}

static int add_headers(struct call *c, char *lines)
{
	char *save, *line;

	for (line = strtok_r(lines, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		struct curl_slist *l = curl_slist_append(c->headers, line);
		if (!l)
			return -ENOMEM;
		c->headers = l;
	}
	return 0;
}

static int begin(struct vf_http *h, struct call *c)
{
	static const char ours[] = "Expect:\nContent-Type:\n";
	VF_AUTO_BUF struct vf_buf url = {0};
	VF_AUTO_BUF struct vf_buf lines = {0};
	int err = c->c.prepare(c->c.arg, &url, &lines);

	if (!err)
		err = vf_buf_append(&url, "", 1);
	if (!err)
		err = vf_buf_append(&lines, ours, sizeof(ours));
	if (!err)
		err = add_headers(c, (char *)lines.data);
	if (err)
		return err;
	c->easy = h->n_spare ? h->spare[--h->n_spare] : curl_easy_init();
	if (!c->easy)
		return -ENOMEM;
	curl_easy_reset(c->easy);
	set_options(h, c, c->easy, (char *)url.data);
	if (curl_multi_add_handle(h->loop.multi, c->easy))
		return -ENOMEM;
	c->next = h->active;
	h->active = c;
	h->n_active++;
	c->answer.n_attempts++;
	return 0;
}

static void end_attempt(struct vf_http *h, struct call *c)
{
	if (c->easy) {
		curl_multi_remove_handle(h->loop.multi, c->easy);
		h->spare[h->n_spare++] = c->easy;
		c->easy = NULL;
	}
	curl_slist_free_all(c->headers);
	c->headers = NULL;
}

static void finish(struct call *c, int err)
{
	c->answer.err = err;
	c->text[c->answer.text_len] = '\0';
	c->answer.text = c->text;
	c->c.done(c->c.arg, &c->answer);
	free(c);
}

/* ---- retries ------------------------------------------------------------------------------ */

static uint64_t random_below(struct vf_http *h, uint64_t n)
{
	return vf_splitmix64(&h->jitter) % n;
}

/* "Full jitter": anywhere up to the doubled step, so that many clients that
 * failed together do not come back together; not before the server asks. */
static uint64_t back_off_ns(struct vf_http *h, const struct call *c)
{
	unsigned step = VF_MIN(c->answer.n_attempts, 8u);
	uint64_t ms = VF_MIN((uint64_t)BACKOFF_FIRST_MS << step,
			     (uint64_t)BACKOFF_MAX_MS);

	ms = random_below(h, ms) + 1 + c->answer.retry_after_s * 1000ull;
	return ms * 1000000;
}

static bool says_not_now(struct call *c, int status)
{
	/* S3 blames the client for a body that came too slowly. */
	if (status == 400)
		return memmem(c->text, c->answer.text_len,
			      "<Code>RequestTimeout<", 21) != NULL;
	return status >= 500 ? status != 501 && status != 505
			     : status == 429 || status == 408;
}

static void forget_answer(struct call *c)
{
	unsigned n = c->answer.n_attempts;

	if (c->c.grow)
		c->c.grow->len = 0;
	c->answer = (struct vf_http_answer){.n_attempts = n};
	c->overflow = false;
}

static bool may_retry(const struct call *c, uint64_t ready_ns, bool unheard)
{
	uint64_t limit = c->deadline_ns;

	if (unheard && c->c.connect_ms)
		limit = VF_MIN(limit,
			       c->start_ns + c->c.connect_ms * 1000000ull);
	/* Nobody heard it: sending it again cannot double it. */
	return ready_ns < limit && (!c->c.once || unheard) && !c->overflow;
}

static void explain_failure(struct call *c, CURLcode rc)
{
	const char *why = c->overflow	? "more bytes came than were asked for"
			  : c->error[0] ? c->error
					: curl_easy_strerror(rc);

	c->answer.text_len =
		(size_t)snprintf(c->text, sizeof(c->text), "%s", why);
}

static void judge(struct vf_http *h, struct call *c, CURLcode rc)
{
	bool unheard = rc == CURLE_COULDNT_CONNECT ||
		       rc == CURLE_COULDNT_RESOLVE_HOST ||
		       rc == CURLE_COULDNT_RESOLVE_PROXY ||
		       rc == CURLE_SSL_CONNECT_ERROR;
	long status = 0, n_new = 1;
	uint64_t wait = 0;

	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &n_new);
	end_attempt(h, c);
	c->answer.status = (int)status;
	if (!rc && !says_not_now(c, (int)status)) {
		finish(c, 0);
		return;
	}
	/* An idle connection that the server had closed: at once on a new one */
	bool stale = rc && !unheard && !n_new && !c->fresh;
	c->fresh = rc != 0;
	if (!stale)
		wait = back_off_ns(h, c);
	c->ready_ns = vf_now_ns() + wait;
	if (may_retry(c, c->ready_ns, unheard) &&
	    rc != CURLE_PEER_FAILED_VERIFICATION &&
	    rc != CURLE_SSL_CACERT_BADFILE && rc != CURLE_URL_MALFORMAT) {
		atomic_fetch_add(&h->n_retry, 1);
		forget_answer(c);
		c->next = h->waiting;
		h->waiting = c;
		return;
	}
	if (rc)
		explain_failure(c, rc);
	finish(c, rc ? -EREMOTEIO : 0);
}

/* ---- the thread ----------------------------------------------------------------------------- */

static bool take_queue(struct vf_http *h)
{
	bool stop;

	pthread_mutex_lock(&h->mtx);
	*h->todo_end = h->queue;
	if (h->queue)
		h->todo_end = h->queue_end;
	h->queue = NULL;
	h->queue_end = &h->queue;
	stop = h->stop;
	pthread_mutex_unlock(&h->mtx);
	return !stop;
}

/* The next call to begin: one whose wait is over, else the oldest queued. */
static struct call *next_call(struct vf_http *h, uint64_t now)
{
	struct call *c;

	for (struct call **at = &h->waiting; *at; at = &(*at)->next)
		if ((*at)->ready_ns <= now) {
			c = *at;
			*at = c->next;
			return c;
		}
	c = h->todo;
	if (c) {
		h->todo = c->next;
		if (!h->todo)
			h->todo_end = &h->todo;
	}
	return c;
}

static void begin_some(struct vf_http *h)
{
	uint64_t now = vf_now_ns();

	while (h->n_active < h->max_active) {
		struct call *c = next_call(h, now);
		if (!c)
			return;
		int err = begin(h, c);
		if (err) {
			end_attempt(h, c);
			finish(c, err);
		}
		/* Sent before the next is signed. */
		vf_http_loop_tick(&h->loop);
	}
}

static void unlink_active(struct vf_http *h, const struct call *c)
{
	struct call **at = &h->active;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	h->n_active--;
}

/* Whether there were any. */
static bool take_ended(struct vf_http *h)
{
	bool any = false;
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(h->loop.multi, &left))) {
		struct call *c;
		CURLcode rc = m->data.result;
		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c);
		unlink_active(h, c);
		judge(h, c, rc);
		any = true;
	}
	return any;
}

static int poll_ms(const struct vf_http *h)
{
	uint64_t now = vf_now_ns(), ms = POLL_MAX_MS;

	if (h->n_active < h->max_active)
		for (const struct call *c = h->waiting; c; c = c->next)
			ms = VF_MIN(ms, c->ready_ns <= now ? 0
							   : (c->ready_ns -
							      now) / 1000000 +
								     1);
	return (int)ms;
}

static void cancel_all(struct vf_http *h)
{
	struct call *c;

	while ((c = h->active)) {
		h->active = c->next;
		end_attempt(h, c);
		finish(c, -ECANCELED);
	}
	while ((c = h->waiting)) {
		h->waiting = c->next;
		finish(c, -ECANCELED);
	}
	while ((c = h->todo)) {
		h->todo = c->next;
		finish(c, -ECANCELED);
	}
	h->todo_end = &h->todo;
}

static void *run(void *arg)
{
	struct vf_http *h = arg;

	while (take_queue(h)) {
		begin_some(h);
		/* a server close by answers before we wait for it */
		vf_http_loop_turn(&h->loop, take_ended(h) ? 0 : poll_ms(h));
		take_ended(h);
	}
	cancel_all(h);
	return NULL;
}

/* ---- open, close, start ------------------------------------------------------------------ */

static void init_curl(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void free_http(struct vf_http *h)
{
	while (h->n_spare)
		curl_easy_cleanup(h->spare[--h->n_spare]);
	vf_http_loop_fini(&h->loop);
	pthread_mutex_destroy(&h->mtx);
	free(h->spare);
	free(h->ca_file);
	free(h);
}

int vf_http_open(const struct vf_http_options *opt, struct vf_http **out)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct vf_http *h = calloc(1, sizeof(*h));
	int err = 0;

	*out = NULL;
	if (!h)
		return -ENOMEM;
	pthread_once(&once, init_curl);
	pthread_mutex_init(&h->mtx, NULL);
	h->queue_end = &h->queue;
	h->todo_end = &h->todo;
	h->max_active = opt->max_connections ? opt->max_connections
					     : CONNECTIONS_DEFAULT;
	h->timeout_ms = opt->timeout_ms ? opt->timeout_ms : TIMEOUT_DEFAULT_MS;
	h->stall_s = opt->stall_s ? opt->stall_s : STALL_DEFAULT_S;
	vf_random(&h->jitter, sizeof(h->jitter));
	h->spare = calloc(h->max_active, sizeof(*h->spare));
	err = vf_http_loop_init(&h->loop, h->max_active);
	if (opt->ca_file && !(h->ca_file = strdup(opt->ca_file)))
		err = -ENOMEM;
	if (!h->spare)
		err = -ENOMEM;
	if (!err)
		err = vf_thread_start(&h->thread, run, h);
	if (err) {
		free_http(h);
		return err;
	}
	*out = h;
	return 0;
}

void vf_http_stop(struct vf_http *h)
{
	bool stopped;

	if (!h)
		return;
	pthread_mutex_lock(&h->mtx);
	stopped = h->stop;
	h->stop = true;
	pthread_mutex_unlock(&h->mtx);
	if (stopped)
		return;
	vf_http_loop_wake(&h->loop);
	pthread_join(h->thread, NULL);
	/* Calls that came with the last wake-up. */
	while (take_queue(h), h->todo)
		cancel_all(h);
}

void vf_http_close(struct vf_http *h)
{
	if (!h)
		return;
	vf_http_stop(h);
	free_http(h);
}

static void refuse_call(const struct vf_http_call *call, int err)
{
	call->done(call->arg,
		   &(struct vf_http_answer){.err = err, .text = (char *)""});
}

void vf_http_start(struct vf_http *h, const struct vf_http_call *call)
{
	struct call *c = malloc(sizeof(*c));
	uint64_t ms = h->timeout_ms + call->body_len * 1000 / BODY_PER_S;
	bool stopped, first;

	if (!c) {
		refuse_call(call, -ENOMEM);
		return;
	}
	memset(c, 0, offsetof(struct call, text));
	c->error[0] = '\0';
	c->easy = NULL;
	c->headers = NULL;
	c->overflow = c->fresh = false;
	c->c = *call;
	c->http = h;
	c->start_ns = vf_now_ns();
	c->deadline_ns = c->start_ns + ms * 1000000;
	c->ready_ns = 0;
	c->next = NULL;
	pthread_mutex_lock(&h->mtx);
	stopped = h->stop;
	first = !h->queue;
	if (!stopped) {
		*h->queue_end = c;
		h->queue_end = &c->next;
	}
	pthread_mutex_unlock(&h->mtx);
	if (!stopped) {
		/* Behind another the wake-up of that one serves both. */
		if (first)
			vf_http_loop_wake(&h->loop);
		return;
	}
	free(c);
	refuse_call(call, -ECANCELED);
}

void vf_http_stats(struct vf_http *h, struct vf_http_stats *out)
{
	out->n_retry = atomic_load(&h->n_retry);
}
