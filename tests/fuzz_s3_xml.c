/*
 * XML that S3 servers answer with: pages of a list, errors, what multipart
 * uploads and deletions of many say.  A page that is accepted is in order and
 * can be gone on from; what is found of any text ends within its room.
 */
#include "store/s3_xml.h"
#include "tests/fuzz.h"

const char fuzz_name[] = "s3_xml";

static int try_page(const uint8_t *p, size_t len)
{
	struct vf_s3_page page;
	int err = vf_s3_page_parse(p, len, &page);

	fuzz_check(!err || err == -EBADMSG);
	if (!err) {
		fuzz_check(!page.truncated || page.token);
		for (size_t i = 0; i < page.n; i++) {
			const struct vf_s3_page_entry *e = &page.entries[i];
			fuzz_check(e->key != NULL);
			fuzz_check(!i || strcmp(e[-1].key, e->key) <= 0);
			fuzz_check(e->object.mtime_ns >= 0);
			fuzz_check(strlen(e->object.etag) < VF_ETAG_MAX);
		}
	}
	int outcome = err ? err
			  : (int)VF_MIN(page.n, (size_t)8) +
				      page.truncated * 16 +
				      (page.token ? 32 : 0);
	vf_s3_page_fini(&page);
	return outcome;
}

int fuzz_one(const uint8_t *p, size_t len)
{
	static const char *const names[] = {"Code",	  "Message",
					    "Region",	  "Endpoint",
					    "UploadId",	  "AccessKeyId",
					    "Expiration", "ETag"};
	/* Short and long, each a block of its own. */
	static const size_t rooms[] = {1, 2, 32, 320};
	int outcome = try_page(p, len) * 4096;

	for (size_t i = 0; i < VF_N(names); i++) {
		size_t cap = rooms[i % VF_N(rooms)];
		VF_AUTO_FREE char *out = malloc(cap);
		fuzz_check(out != NULL);
		memset(out, 'x', cap);
		vf_s3_xml_find(p, len, names[i], out, cap);
		fuzz_check(memchr(out, 0, cap));
		outcome += out[0] ? 1 << i : 0;
	}
	return outcome;
}

void fuzz_seeds(void)
{
	static const char *const seeds[] = {
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/"
		"2006-03-01/\"><Name>b</Name><Prefix>x</Prefix>"
		"<EncodingType>url</EncodingType><KeyCount>3</KeyCount>"
		"<IsTruncated>true</IsTruncated>"
		"<NextContinuationToken>a&amp;b</NextContinuationToken>"
		"<Contents><Key>b%2Fc+d%C3%A9</Key><LastModified>"
		"2009-10-12T17:50:30.000Z</LastModified><ETag>&quot;fba9-2"
		"&quot;</ETag><Size>434234</Size></Contents>"
		"<Contents><Key>a</Key><ETag>e</ETag></Contents>"
		"<CommonPrefixes><Prefix>z%2F</Prefix></CommonPrefixes>"
		"</ListBucketResult>",
		"<Error><Code>PermanentRedirect</Code><Message>elsewhere"
		"</Message><Endpoint>s3.eu-west-1.amazonaws.com</Endpoint>"
		"<Region>eu-west-1</Region></Error>",
		"<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key>"
		"<UploadId>VXBsb2Fk</UploadId></InitiateMultipartUploadResult>",
		"<CompleteMultipartUploadResult><Location>l</Location>"
		"<ETag>\"3858f62230ac3c915f300c664312c11f-9\"</ETag>"
		"</CompleteMultipartUploadResult>",
		"<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b"
		"</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
		"</DeleteResult>",
		"<AssumeRoleResponse><Credentials><AccessKeyId>A</AccessKeyId>"
		"<Expiration>2026-01-01T00:00:00Z</Expiration></Credentials>"
		"</AssumeRoleResponse>",
		"<!DOCTYPE l [<!ENTITY a \"aaaaaaaa\"><!ENTITY b "
		"\"&a;&a;&a;&a;\">]><ListBucketResult><Contents><Key>&b;</Key>"
		"</Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key><![CDATA[<]]></Key><Size>"
		"18446744073709551616</Size></Contents></ListBucketResult>"};

	for (size_t i = 0; i < VF_N(seeds); i++)
		fuzz_add(seeds[i], strlen(seeds[i]));
}

/* An element that is closed, so that what is in it counts. */
void fuzz_fix(uint8_t *p, size_t len)
{
	static const char open[] = "<ListBucketResult>";
	static const char end[] = "</ListBucketResult>";

	if (len < sizeof(open) + sizeof(end) || fuzz_rand(2))
		return;
	memcpy(p, open, sizeof(open) - 1);
	memcpy(p + len - (sizeof(end) - 1), end, sizeof(end) - 1);
}
