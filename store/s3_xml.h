/*
 * The XML that S3 servers answer with.  Pure; entities and depth are bounded
 * by expat and by what is kept.
 */
#ifndef VF_STORE_S3_XML_H
#define VF_STORE_S3_XML_H

#include "store/bucket.h"
#include "store/util.h"

/*
 * The text of the first element @name, anywhere: "" when there is none or the
 * bytes are no XML.  Cut to @cap.
 */
void vf_s3_xml_find(const void *p, size_t len, const char *name, char *out,
		    size_t cap);

struct vf_s3_page_entry {
	char *key; /* decoded */
	bool folder;
	struct vf_object object;
};

/* One page of ListObjectsV2. */
struct vf_s3_page {
	struct vf_s3_page_entry *entries; /* owned, in byte order of keys */
	size_t n, cap;
	bool truncated;
	char *token; /* NextContinuationToken, NULL when none */
};

/*
 * Returns 0; -EBADMSG no such page; -ENOMEM.  Release with fini, also after
 * an error.
 */
int vf_s3_page_parse(const void *p, size_t len, struct vf_s3_page *out);
void vf_s3_page_fini(struct vf_s3_page *p);

#endif
