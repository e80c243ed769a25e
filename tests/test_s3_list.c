/*
 * Listings of an s3:// bucket.
 */
#include "tests/fake_s3.h"

#include <stdio.h>

#define PAGE(more, inner)                                                      \
	"<ListBucketResult><EncodingType>url</EncodingType>"                   \
	"<IsTruncated>" more "</IsTruncated>" inner "</ListBucketResult>"
#define KEY(k)	  "<Contents><Key>" k "</Key><Size>1</Size></Contents>"
#define FOLDER(k) "<CommonPrefixes><Prefix>" k "</Prefix></CommonPrefixes>"
#define TOKEN	  "<NextContinuationToken>t/1+</NextContinuationToken>"

struct listed {
	char keys[16][32];
	size_t n, stop_at;
};

static int add_listed(void *arg, const struct vf_list_entry *e)
{
	struct listed *l = arg;

	snprintf(l->keys[l->n % 16], sizeof(l->keys[0]), "%s%s", e->key,
		 e->folder ? "*" : "");
	return ++l->n == l->stop_at ? 7 : 0;
}

static enum vf_httpd_after
give_pages(void *arg, const struct vf_httpd_request *r, struct vf_buf *reply)
{
	const char *const *pages = arg;
	const char *p = pages[strstr(r->target, "continuation-token") != NULL];

	vf_httpd_reply(reply, 200, "", p, strlen(p));
	return VF_HTTPD_KEEP;
}

static int list(struct vf_fake_s3 *s, const char *first, const char *second,
		const char *start_after, struct listed *l)
{
	const char *pages[] = {first, second};
	int rc;

	vf_fake_s3_open(s, give_pages, pages);
	rc = vf_bucket_list(s->b, "d", true, start_after, add_listed, l);
	s->fn = NULL;
	vf_fake_s3_close(s);
	return rc;
}

static void a_list_goes_on_over_pages_in_order(void)
{
	struct listed l = {0};
	struct vf_fake_s3 s;

	CU_ASSERT_EQUAL(
		list(&s,
		     PAGE("true", TOKEN KEY("p/q/d.x") KEY("p/q/d0%20+1")
					  FOLDER("p/q/d/")),
		     PAGE("false", FOLDER("p/q/d1%2F") KEY("p/q/d2")), "d", &l),
		0);
	CU_ASSERT_EQUAL(l.n, 5);
	CU_ASSERT_STRING_EQUAL(l.keys[0], "d.x");
	CU_ASSERT_STRING_EQUAL(l.keys[1], "d/*");
	CU_ASSERT_STRING_EQUAL(l.keys[2], "d0  1");
	CU_ASSERT_STRING_EQUAL(l.keys[3], "d1/*");
	CU_ASSERT_STRING_EQUAL(l.keys[4], "d2");
	CU_ASSERT_STRING_EQUAL(s.targets[0],
			       "GET /test?delimiter=%2F&encoding-type=url&"
			       "list-type=2&prefix=p%2Fq%2Fd&"
			       "start-after=p%2Fq%2Fd");
	CU_ASSERT_STRING_EQUAL(s.targets[1],
			       "GET /test?continuation-token=t%2F1%2B&"
			       "delimiter=%2F&encoding-type=url&list-type=2&"
			       "prefix=p%2Fq%2Fd");
}

static void a_folder_is_listed_once_and_after_the_start(void)
{
	struct listed l = {0};
	struct vf_fake_s3 s;

	CU_ASSERT_EQUAL(
		list(&s, PAGE("true", TOKEN FOLDER("p/q/d/") FOLDER("p/q/da/")),
		     PAGE("false", FOLDER("p/q/da/") KEY("p/q/db")), "d/", &l),
		0);
	CU_ASSERT_EQUAL(l.n, 2);
	CU_ASSERT_STRING_EQUAL(l.keys[0], "da/*");
	CU_ASSERT_STRING_EQUAL(l.keys[1], "db");
}

static void a_visitor_can_stop(void)
{
	struct listed l = {.stop_at = 1};
	struct vf_fake_s3 s;

	CU_ASSERT_EQUAL(list(&s,
			     PAGE("true", TOKEN KEY("p/q/d1") KEY("p/q/d2")),
			     "", NULL, &l),
			7);
	CU_ASSERT_EQUAL(l.n, 1);
	CU_ASSERT_EQUAL(s.n, 1);
}

static void a_list_out_of_order_is_an_error(void)
{
	static const char *const second[] = {
		PAGE("false", KEY("p/q/d1")),
		PAGE("false", KEY("p/x")),
		PAGE("false", KEY("z")),
		"<html/>",
		"",
	};

	for (size_t i = 0; i < VF_N(second); i++) {
		struct listed l = {0};
		struct vf_fake_s3 s;
		CU_ASSERT_EQUAL(list(&s, PAGE("true", TOKEN KEY("p/q/d2")),
				     second[i], NULL, &l),
				-EREMOTEIO);
		CU_ASSERT_EQUAL(l.n, 1);
		CU_ASSERT_EQUAL(s.n_logged, 1);
	}
}

static void empty_pages_without_end_are_an_error(void)
{
	struct listed l = {0};
	struct vf_fake_s3 s;

	CU_ASSERT_EQUAL(list(&s, PAGE("true", TOKEN), PAGE("true", TOKEN), NULL,
			     &l),
			-EREMOTEIO);
	CU_ASSERT_EQUAL(s.n_logged, 1);
}

static CU_TestInfo tests[] = {
	{"a list goes on over pages in order",
	 a_list_goes_on_over_pages_in_order},
	{"a folder is listed once and after the start",
	 a_folder_is_listed_once_and_after_the_start},
	{"a visitor can stop", a_visitor_can_stop},
	{"a list out of order is an error", a_list_out_of_order_is_an_error},
	{"empty pages without end are an error",
	 empty_pages_without_end_are_an_error},
	CU_TEST_INFO_NULL,
};

VF_SUITE("store/s3_list", tests);
