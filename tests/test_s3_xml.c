/*
 * What S3 servers answer with, and what none should.
 */
#include "store/s3_xml.h"
#include "tests/test.h"

#include <stdio.h>

static const char page[] =
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
	"<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
	"<Name>b</Name><Prefix>x</Prefix><KeyCount>4</KeyCount>"
	"<EncodingType>url</EncodingType>"
	"<IsTruncated>true</IsTruncated>"
	"<NextContinuationToken>a&amp;b&lt;</NextContinuationToken>"
	"<Contents><Key>b%2Fc+d%2B%C3%A9</Key>"
	"<LastModified>2009-10-12T17:50:30.000Z</LastModified>"
	"<ETag>&quot;fba9-2&quot;</ETag><Size>434234</Size>"
	"<Owner><ID>x</ID><Key>not this</Key></Owner></Contents>"
	"<Contents><Key>a0</Key><ETag>plain</ETag><Size>0</Size></Contents>"
	"<CommonPrefixes><Prefix>a%2F</Prefix></CommonPrefixes>"
	"<CommonPrefixes><Prefix>z%2F</Prefix></CommonPrefixes>"
	"</ListBucketResult>";

static int parse(const char *s, size_t len, struct vf_s3_page *p)
{
	VF_AUTO_FREE char *exact = malloc(len + !len);
	memcpy(exact, s, len);
	return vf_s3_page_parse(exact, len, p);
}

static void a_page_is_read_in_the_order_of_keys(void)
{
	struct vf_s3_page p;

	CU_ASSERT_EQUAL_FATAL(parse(page, sizeof(page) - 1, &p), 0);
	CU_ASSERT_EQUAL_FATAL(p.n, 4);
	CU_ASSERT(p.truncated);
	CU_ASSERT_STRING_EQUAL(p.token, "a&b<");
	CU_ASSERT_STRING_EQUAL(p.entries[0].key, "a/");
	CU_ASSERT(p.entries[0].folder);
	CU_ASSERT_STRING_EQUAL(p.entries[1].key, "a0");
	CU_ASSERT_STRING_EQUAL(p.entries[1].object.etag, "plain");
	CU_ASSERT_STRING_EQUAL(p.entries[2].key, "b/c d+é");
	CU_ASSERT(!p.entries[2].folder);
	CU_ASSERT_EQUAL(p.entries[2].object.size, 434234);
	CU_ASSERT_STRING_EQUAL(p.entries[2].object.etag, "fba9-2");
	CU_ASSERT_EQUAL(p.entries[2].object.mtime_ns, 1255369830000000000);
	CU_ASSERT_STRING_EQUAL(p.entries[3].key, "z/");
	vf_s3_page_fini(&p);
}

static void every_truncated_page_is_refused(void)
{
	for (size_t n = 0; n < sizeof(page) - 1; n++) {
		struct vf_s3_page p;
		CU_ASSERT_EQUAL(parse(page, n, &p), -EBADMSG);
		vf_s3_page_fini(&p);
	}
}

static void what_is_no_page_is_refused(void)
{
	static const char *const bad[] = {
		"",
		"hello",
		"<html><body/></html>",
		"<Error><Code>X</Code></Error>",
		"<ListBucketResult><IsTruncated>true</IsTruncated>"
		"</ListBucketResult>",
		"<ListBucketResult><Contents/></ListBucketResult>",
		"<ListBucketResult><EncodingType>url</EncodingType><Contents>"
		"<Key>%zz</Key></Contents></ListBucketResult>",
		"<ListBucketResult><EncodingType>url</EncodingType><Contents>"
		"<Key>%4</Key></Contents></ListBucketResult>",
		"<ListBucketResult><EncodingType>url</EncodingType><Contents>"
		"<Key>a%00b</Key></Contents></ListBucketResult>",
		"<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b "
		"\"&a;&a;&a;&a;\">]><ListBucketResult><Contents><Key>&b;"
		"</Key></ListBucketResult>",
	};

	for (size_t i = 0; i < VF_N(bad); i++) {
		struct vf_s3_page p;
		CU_ASSERT_EQUAL(parse(bad[i], strlen(bad[i]), &p), -EBADMSG);
		vf_s3_page_fini(&p);
	}
}

static void an_endless_key_is_refused(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	struct vf_s3_page p;

	vf_buf_printf(&b, "<ListBucketResult><Contents><Key>");
	for (int i = 0; i < 100000; i++)
		vf_buf_append(&b, "k", 1);
	vf_buf_printf(&b, "</Key></Contents></ListBucketResult>");
	CU_ASSERT_EQUAL(vf_s3_page_parse(b.data, b.len, &p), -EBADMSG);
	vf_s3_page_fini(&p);
}

static void an_empty_page_is_a_page(void)
{
	static const char empty[] =
		"<ListBucketResult><IsTruncated>false</IsTruncated>"
		"</ListBucketResult>";
	struct vf_s3_page p;

	CU_ASSERT_EQUAL(parse(empty, sizeof(empty) - 1, &p), 0);
	CU_ASSERT_EQUAL(p.n, 0);
	CU_ASSERT(!p.truncated);
	vf_s3_page_fini(&p);
}

static void damaged_pages_do_no_harm(void)
{
	uint64_t seed = 3;

	for (int i = 0; i < 20000; i++) {
		char copy[sizeof(page)];
		struct vf_s3_page p;
		memcpy(copy, page, sizeof(page));
		for (int k = 0; k < 3; k++)
			copy[vf_test_rand(&seed) % (sizeof(page) - 1)] =
				(char)vf_test_rand(&seed);
		parse(copy, sizeof(page) - 1, &p);
		vf_s3_page_fini(&p);
	}
}

static bool finds(const char *xml, const char *name, size_t cap,
		  const char *want)
{
	char out[64];

	vf_s3_xml_find(xml, strlen(xml), name, out, cap);
	return !strcmp(out, want);
}

static void an_element_is_found(void)
{
	static const char e[] = "<?xml version=\"1.0\"?>\n<Error><Code>NoSuch"
				"Key</Code><Message>a &amp; b</Message>"
				"<Code>second</Code></Error>";

	CU_ASSERT(finds(e, "Code", 64, "NoSuchKey"));
	CU_ASSERT(finds(e, "Message", 64, "a & b"));
	CU_ASSERT(finds(e, "Code", 4, "NoS"));
	CU_ASSERT(finds(e, "Region", 64, ""));
	CU_ASSERT(finds("", "Code", 64, ""));
	CU_ASSERT(finds("<h1>Bad gateway", "Code", 64, ""));
}

static CU_TestInfo tests[] = {
	{"a page is read in the order of keys",
	 a_page_is_read_in_the_order_of_keys},
	{"every truncated page is refused", every_truncated_page_is_refused},
	{"what is no page is refused", what_is_no_page_is_refused},
	{"an endless key is refused", an_endless_key_is_refused},
	{"an empty page is a page", an_empty_page_is_a_page},
	{"damaged pages do no harm", damaged_pages_do_no_harm},
	{"an element is found", an_element_is_found},
	CU_TEST_INFO_NULL,
};

VF_SUITE("store/s3_xml", tests);
