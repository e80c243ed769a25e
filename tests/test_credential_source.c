/*
 * Credentials that stay good: renewed in time, kept while nobody gives others,
 * shared by many users, and read again when the files change.
 */
#include "store/credential_source.h"
#include "tests/aws_env.h"

/* A container's service whose keys are numbered. */
struct service {
	unsigned n; /* answers given */
	int life_s; /* of what it gives */
	int status; /* 0: fine */
	bool same;  /* always the same keys */
	unsigned delay_ms;
};

static atomic_bool is_held; /* the service does not answer */

static enum vf_httpd_after answer(void *arg, const struct vf_httpd_request *r,
				  struct vf_buf *reply)
{
	struct service *s = arg;
	time_t end = time(NULL) + s->life_s;
	char text[256], when[32];
	struct tm tm;

	usleep(s->delay_ms * 1000);
	while (atomic_load(&is_held))
		usleep(1000);
	s->n++;
	if (s->status)
		return aws_reply(reply, s->status, "");
	gmtime_r(&end, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	snprintf(text, sizeof(text),
		 "{\"AccessKeyId\":\"K%u\",\"SecretAccessKey\":\"HUSH%u\","
		 "\"Token\":\"T%u\",\"Expiration\":\"%s\"}",
		 s->same ? 0 : s->n, s->same ? 0 : s->n, s->same ? 0 : s->n,
		 when);
	return aws_reply(reply, 200, text);
}

struct rig {
	struct aws_env e;
	struct service s;
	struct vf_httpd *d;
	struct vf_credential_source *source;
};

static void open_source(struct rig *r)
{
	const struct vf_credential_options opt = {0};

	CU_ASSERT_EQUAL_FATAL(vf_credential_source_open(&opt, &r->source), 0);
}

static void open_rig(struct rig *r, struct service s)
{
	aws_env_clear(&r->e);
	r->s = s;
	r->d = vf_httpd_open(answer, &r->s);
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", vf_httpd_url(r->d), 1);
	open_source(r);
}

static void close_rig(struct rig *r)
{
	vf_credential_source_close(r->source);
	vf_httpd_close(r->d);
	aws_env_restore(&r->e);
}

/* From now on the service behaves as @s says. */
static void set_service(struct rig *r, struct service s)
{
	vf_httpd_settle(r->d);
	s.n = r->s.n;
	r->s = s;
	vf_httpd_settle(r->d);
}

static uint64_t serial_now(struct rig *r)
{
	const struct vf_credentials *c = vf_credential_source_get(r->source);
	uint64_t serial = c->serial;

	vf_credential_source_put(r->source, c);
	return serial;
}

static bool key_is(struct rig *r, const char *key)
{
	const struct vf_credentials *c = vf_credential_source_get(r->source);
	bool is = aws_equal(c->access_key, key);

	vf_credential_source_put(r->source, c);
	return is;
}

static bool serial_becomes(struct rig *r, uint64_t serial, unsigned ms)
{
	for (unsigned n = 0; n < ms; n += 10) {
		if (serial_now(r) >= serial)
			return true;
		usleep(10000);
	}
	return false;
}

/* ---- asking for others ------------------------------------------------------------ */

struct asking {
	struct vf_credential_wait w;
	pthread_mutex_t mtx;
	pthread_cond_t done;
	int err; /* [mtx] 1: none yet */
};

static void keep_result(void *arg, int err)
{
	struct asking *a = arg;

	pthread_mutex_lock(&a->mtx);
	a->err = err;
	pthread_cond_signal(&a->done);
	pthread_mutex_unlock(&a->mtx);
}

static void begin_asking(struct rig *r, struct asking *a, uint64_t serial)
{
	*a = (struct asking){.mtx = PTHREAD_MUTEX_INITIALIZER,
			     .done = PTHREAD_COND_INITIALIZER,
			     .err = 1,
			     .w = {.done = keep_result, .serial = serial}};
	a->w.arg = a;
	vf_credential_source_renew(r->source, &a->w);
}

static int end_asking(struct asking *a)
{
	pthread_mutex_lock(&a->mtx);
	while (a->err == 1)
		pthread_cond_wait(&a->done, &a->mtx);
	pthread_mutex_unlock(&a->mtx);
	return a->err;
}

static int renew(struct rig *r, uint64_t serial)
{
	struct asking a;

	begin_asking(r, &a, serial);
	return end_asking(&a);
}

/* ---- time -------------------------------------------------------------------------- */

static void they_are_renewed_before_they_expire(void)
{
	const struct vf_credentials *old;
	struct rig r;

	open_rig(&r, (struct service){.life_s = 8});
	set_service(&r, (struct service){.life_s = 3600});
	old = vf_credential_source_get(r.source);
	CU_ASSERT(aws_equal(old->access_key, "K1"));
	CU_ASSERT(serial_becomes(&r, 1, 60000));
	CU_ASSERT(time(NULL) <= old->expires_s);
	CU_ASSERT(key_is(&r, "K2"));
	CU_ASSERT(aws_equal(old->secret_key, "HUSH1")); /* still held */
	vf_credential_source_put(r.source, old);
	CU_ASSERT_EQUAL(r.e.n_logged, 0);
	close_rig(&r);
}

static uint64_t seconds_since(uint64_t start_ns)
{
	return (vf_now_ns() - start_ns) / 1000000000;
}

static void the_old_ones_stay_while_nobody_gives_others(void)
{
	uint64_t start = vf_now_ns();
	struct rig r;

	open_rig(&r, (struct service){.life_s = 3});
	set_service(&r, (struct service){.status = 404});
	usleep(3200000);
	vf_httpd_settle(r.d);
	while (r.s.n < 2) {
		usleep(10000);
		vf_httpd_settle(r.d);
	}
	CU_ASSERT(key_is(&r, "K1"));
	CU_ASSERT(r.s.n <= 4 + seconds_since(start)); /* with pauses */
	set_service(&r, (struct service){.life_s = 3600});
	CU_ASSERT(serial_becomes(&r, 1, 60000));
	close_rig(&r);
}

static void long_lives_are_left_alone(void)
{
	struct rig r;

	open_rig(&r, (struct service){.life_s = 3600});
	usleep(300000);
	vf_httpd_settle(r.d);
	CU_ASSERT_EQUAL(r.s.n, 1);
	close_rig(&r);
}

/* ---- need --------------------------------------------------------------------------- */

enum { MANY = 16 };

static void many_who_ask_share_one_search(void)
{
	struct asking a[MANY];
	struct rig r;

	open_rig(&r, (struct service){.life_s = 3600});
	set_service(&r, (struct service){.life_s = 3600});
	atomic_store(&is_held, true);
	for (size_t i = 0; i < MANY; i++)
		begin_asking(&r, &a[i], 0);
	atomic_store(&is_held, false);
	for (size_t i = 0; i < MANY; i++)
		CU_ASSERT_EQUAL(end_asking(&a[i]), 0);
	CU_ASSERT(key_is(&r, "K2"));
	/* Who was late need not wait. */
	CU_ASSERT_EQUAL(renew(&r, 0), 0);
	vf_httpd_settle(r.d);
	CU_ASSERT_EQUAL(r.s.n, 2);
	close_rig(&r);
}

static void searches_in_vain_make_pauses(void)
{
	uint64_t start = vf_now_ns();
	unsigned n;
	struct rig r;

	open_rig(&r, (struct service){.life_s = 3600, .same = true});
	for (int i = 0; i < 50; i++)
		CU_ASSERT_EQUAL(renew(&r, 0), -EACCES);
	vf_httpd_settle(r.d);
	n = r.s.n;
	CU_ASSERT(n >= 2 && n <= 3 + seconds_since(start));
	usleep(2100000);
	vf_httpd_settle(r.d);
	CU_ASSERT_EQUAL(r.s.n, n); /* nobody asks, and nothing is due */
	set_service(&r, (struct service){.life_s = 3600});
	CU_ASSERT_EQUAL(renew(&r, 0), 0);
	close_rig(&r);
}

static void files_that_change_are_read_again(void)
{
	struct rig r = {.d = NULL};

	aws_env_clear(&r.e);
	aws_env_write(&r.e, ".aws/credentials",
		      "[default]\naws_access_key_id=A\n"
		      "aws_secret_access_key=B\n");
	open_source(&r);
	CU_ASSERT_EQUAL(renew(&r, 0), -EACCES); /* a pause begins */
	aws_env_write(&r.e, ".aws/credentials", "[default]\nbroken\n");
	CU_ASSERT_EQUAL(renew(&r, 0), -EACCES);
	CU_ASSERT(key_is(&r, "A"));
	aws_env_write(&r.e, ".aws/credentials",
		      "[default]\naws_access_key_id=C\n"
		      "aws_secret_access_key=D\n");
	CU_ASSERT_EQUAL(renew(&r, 0), 0);
	CU_ASSERT(key_is(&r, "C"));
	vf_credential_source_close(r.source);
	aws_env_restore(&r.e);
}

static void stopping_ends_who_waits(void)
{
	struct asking a;
	struct rig r;

	open_rig(&r, (struct service){.life_s = 3600});
	set_service(&r, (struct service){.life_s = 3600, .delay_ms = 600});
	begin_asking(&r, &a, 0);
	usleep(50000);
	vf_credential_source_stop(r.source);
	CU_ASSERT_EQUAL(end_asking(&a), -ECANCELED);
	CU_ASSERT_EQUAL(renew(&r, 0), -ECANCELED);
	CU_ASSERT(key_is(&r, "K1"));
	close_rig(&r);
}

static void none_at_open_is_an_error(void)
{
	const struct vf_credential_options opt = {0};
	struct rig r;

	aws_env_clear(&r.e);
	CU_ASSERT_EQUAL(vf_credential_source_open(&opt, &r.source), -EACCES);
	CU_ASSERT_PTR_NULL(r.source);
	CU_ASSERT(aws_env_said(&r.e, "no S3 credentials"));
	aws_env_restore(&r.e);
}

/* ---- many users ------------------------------------------------------------------------ */

struct user {
	struct rig *r;
	atomic_bool *stop;
	unsigned n, n_torn;
};

static void *use(void *arg)
{
	struct user *u = arg;

	do {
		const struct vf_credentials *c =
			vf_credential_source_get(u->r->source);
		u->n++;
		u->n_torn += strcmp(c->access_key + 1,
				    c->secret_key + strlen("HUSH")) ||
			     strcmp(c->access_key + 1, c->session_token + 1);
		vf_credential_source_put(u->r->source, c);
		if (u->n % 64 == 0)
			renew(u->r, serial_now(u->r));
	} while (!atomic_load(u->stop));
	return NULL;
}

static void users_never_see_half_of_two(void)
{
	pthread_t t[8];
	struct user users[VF_N(t)];
	atomic_bool stop = false;
	struct rig r;

	open_rig(&r, (struct service){.life_s = 3});
	for (size_t i = 0; i < VF_N(t); i++) {
		users[i] = (struct user){&r, &stop, 0, 0};
		pthread_create(&t[i], NULL, use, &users[i]);
	}
	CU_ASSERT(serial_becomes(&r, 1, 60000));
	usleep(200000);
	atomic_store(&stop, true);
	for (size_t i = 0; i < VF_N(t); i++) {
		pthread_join(t[i], NULL);
		CU_ASSERT(users[i].n > 0);
		CU_ASSERT_EQUAL(users[i].n_torn, 0);
	}
	CU_ASSERT(serial_now(&r) > 0);
	close_rig(&r);
}

static CU_TestInfo tests[] = {
	{"they are renewed before they expire",
	 they_are_renewed_before_they_expire},
	{"the old ones stay while nobody gives others",
	 the_old_ones_stay_while_nobody_gives_others},
	{"long lives are left alone", long_lives_are_left_alone},
	{"many who ask share one search", many_who_ask_share_one_search},
	{"searches in vain make pauses", searches_in_vain_make_pauses},
	{"files that change are read again", files_that_change_are_read_again},
	{"stopping ends who waits", stopping_ends_who_waits},
	{"none at open is an error", none_at_open_is_an_error},
	{"users never see half of two", users_never_see_half_of_two},
	CU_TEST_INFO_NULL,
};

VF_SUITE("store/credential_source", tests);
