/* AWS's published examples, and the corners of encoding and sorting. */
#include "store/sigv4.h"
#include "tests/test.h"

/* "Examples: Signature Calculations", Amazon S3 API Reference. */
static const struct vf_sigv4_scope scope = {
	.access_key = "AKIAIOSFODNN7EXAMPLE",
	.secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
	.region = "us-east-1",
	.service = "s3",
	.time = "20130524T000000Z",
};

#define HOST                                                                   \
	{                                                                      \
		"host", "examplebucket.s3.amazonaws.com"                       \
	}
#define DATE                                                                   \
	{                                                                      \
		"x-amz-date", "20130524T000000Z"                               \
	}

static void expect(const struct vf_sigv4_request *r, const char *want)
{
	char have[VF_SIGV4_HEX + 1];

	CU_ASSERT(!vf_sigv4_signature(r, &scope, have));
	CU_ASSERT_STRING_EQUAL(have, want);
}

static void get_object(void)
{
	const struct vf_sigv4_pair headers[] = {DATE,
						{"x-amz-content-sha256",
						 vf_sigv4_empty},
						{"range", "bytes=0-9"},
						HOST};
	const struct vf_sigv4_request r = {.method = "GET",
					   .path = "/test.txt",
					   .headers = headers,
					   .n_headers = VF_N(headers),
					   .payload_hash = vf_sigv4_empty};
	VF_AUTO_BUF struct vf_buf b = {0};

	expect(&r, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c60"
		   "36bdb41");
	CU_ASSERT(!vf_sigv4_authorization(&r, &scope, &b));
	CU_ASSERT_STRING_EQUAL(
		(char *)b.data,
		"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/"
		"us-east-1/s3/aws4_request,SignedHeaders=host;range;"
		"x-amz-content-sha256;x-amz-date,Signature="
		"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036b"
		"db41");
}

static void put_object(void)
{
	char hash[VF_SIGV4_HEX + 1];
	const struct vf_sigv4_pair headers[] = {
		{"date", "Fri, 24 May 2013 00:00:00 GMT"},
		HOST,
		DATE,
		{"x-amz-storage-class", "REDUCED_REDUNDANCY"},
		{"x-amz-content-sha256", hash}};
	const struct vf_sigv4_request r = {.method = "PUT",
					   .path = "/test$file.text",
					   .headers = headers,
					   .n_headers = VF_N(headers),
					   .payload_hash = hash};

	vf_sigv4_hash("Welcome to Amazon S3.", 21, hash);
	CU_ASSERT_STRING_EQUAL(hash,
			       "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e"
			       "42034a8b803f8b072");
	expect(&r, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0e"
		   "ce108bd");
}

static void get_with_query(const struct vf_sigv4_pair *query, size_t n,
			   const char *want)
{
	const struct vf_sigv4_pair headers[] = {
		HOST, {"x-amz-content-sha256", vf_sigv4_empty}, DATE};
	const struct vf_sigv4_request r = {.method = "GET",
					   .path = "/",
					   .query = query,
					   .n_query = n,
					   .headers = headers,
					   .n_headers = VF_N(headers),
					   .payload_hash = vf_sigv4_empty};

	expect(&r, want);
}

static void get_lifecycle(void)
{
	const struct vf_sigv4_pair query[] = {{"lifecycle", ""}};

	get_with_query(query, 1,
		       "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a2"
		       "00a0136783543");
}

static void list_objects(void)
{
	const struct vf_sigv4_pair query[] = {{"prefix", "J"},
					      {"max-keys", "2"}};

	get_with_query(query, 2,
		       "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed"
		       "5711ef69dc6f7");
}

static void encoding(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};

	CU_ASSERT(!vf_sigv4_encode(&b, "a b/c~-._\xc3\xa9+%&=*", true));
	CU_ASSERT_STRING_EQUAL((char *)b.data,
			       "a%20b/c~-._%C3%A9%2B%25%26%3D%2A");
	b.len = 0;
	CU_ASSERT(!vf_sigv4_encode(&b, "a/b", false));
	CU_ASSERT_STRING_EQUAL((char *)b.data, "a%2Fb");
}

static void sorting(void)
{
	const struct vf_sigv4_pair query[] = {
		{"b", "2"}, {"a-b", "1"}, {"a", "z"}, {"a", "b"}, {"A", "x y"}};
	const struct vf_sigv4_request r = {.query = query, .n_query = 5};
	VF_AUTO_BUF struct vf_buf b = {0};

	CU_ASSERT(!vf_sigv4_query(&r, &b));
	CU_ASSERT_STRING_EQUAL((char *)b.data, "A=x%20y&a=b&a=z&a-b=1&b=2");
}

static void header_values(void)
{
	const struct vf_sigv4_pair headers[] = {{"my-header", "  a   b \t c  "},
						{"host", "h"}};
	const struct vf_sigv4_request r = {.method = "GET",
					   .path = "/a b",
					   .headers = headers,
					   .n_headers = 2,
					   .payload_hash = "x"};
	VF_AUTO_BUF struct vf_buf b = {0};

	CU_ASSERT(!vf_sigv4_canonical(&r, &b));
	CU_ASSERT_STRING_EQUAL((char *)b.data,
			       "GET\n/a%20b\n\nhost:h\nmy-header:a b c\n\n"
			       "host;my-header\nx");
}

/* Lines sorted whole put "x-amz-date:" before "x-amz:". */
static void header_order(void)
{
	const struct vf_sigv4_pair headers[] = {
		{"x-amz-date", "1"}, {"x-amz", "2"}, {"host", "h"}};
	const struct vf_sigv4_request r = {.method = "GET",
					   .path = "/",
					   .headers = headers,
					   .n_headers = 3,
					   .payload_hash = "x"};
	VF_AUTO_BUF struct vf_buf b = {0};

	CU_ASSERT(!vf_sigv4_canonical(&r, &b));
	CU_ASSERT_STRING_EQUAL((char *)b.data,
			       "GET\n/\n\nhost:h\nx-amz:2\nx-amz-date:1\n\n"
			       "host;x-amz;x-amz-date\nx");
}

static CU_TestInfo tests[] = {
	{"AWS's example: GET with a range", get_object},
	{"AWS's example: PUT with a strange name", put_object},
	{"AWS's example: GET of a subresource", get_lifecycle},
	{"AWS's example: LIST", list_objects},
	{"percent-encoding is S3's", encoding},
	{"query parameters are sorted by name, then value", sorting},
	{"header values are trimmed and their spaces made one", header_values},
	{"headers are sorted by name alone", header_order},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/sigv4", tests)
