/*
 * The headers of an answer that anybody here wants.  Pure.
 */
#include "store/http.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdio.h>

enum { RETRY_AFTER_MAX_S = 3600 };

/* "bytes 0-9/100", "bytes * /100" without the space. */
static void take_range(struct vf_http_answer *a, const char *v)
{
	unsigned long long first, last, total;

	if (sscanf(v, "bytes %llu-%llu/%llu", &first, &last, &total) == 3) {
		a->first = first;
		a->last = last;
	} else if (sscanf(v, "bytes */%llu", &total) == 1) {
		a->first = 1;
		a->last = 0;
	} else {
		return;
	}
	a->total = total;
	a->has_range = true;
}

static void take_etag(struct vf_http_answer *a, const char *v)
{
	size_t n;

	if (!strncmp(v, "W/", 2))
		v += 2;
	v += *v == '"';
	n = strcspn(v, "\"");
	if (n >= sizeof(a->etag))
		return; /* longer than any server's: as if there were none */
	memcpy(a->etag, v, n);
	a->etag[n] = '\0';
}

static void take_header(struct vf_http_answer *a, const char *name,
			const char *v)
{
	if (!strcasecmp(name, "etag"))
		take_etag(a, v);
	else if (!strcasecmp(name, "content-range"))
		take_range(a, v);
	else if (!strcasecmp(name, "last-modified"))
		a->mtime_s = (int64_t)curl_getdate(v, NULL);
	else if (!strcasecmp(name, "x-amz-bucket-region"))
		snprintf(a->region, sizeof(a->region), "%s", v);
	else if (!strcasecmp(name, "retry-after")) /* dates: as if none */
		a->retry_after_s = (unsigned)VF_MIN(strtoull(v, NULL, 10),
						    RETRY_AFTER_MAX_S);
	else if (!strcasecmp(name, "content-length")) {
		a->has_length = true;
		a->content_length = strtoull(v, NULL, 10);
	}
}

void vf_http_header(struct vf_http_answer *a, const char *p, size_t len)
{
	char line[1024], *colon, *v;

	if (len >= sizeof(line))
		return; /* none of ours is so long */
	memcpy(line, p, len);
	while (len && isspace((unsigned char)line[len - 1]))
		len--;
	line[len] = '\0';
	colon = strchr(line, ':');
	if (!colon)
		return;
	*colon = '\0';
	v = colon + 1;
	while (isspace((unsigned char)*v))
		v++;
	take_header(a, line, v);
}
