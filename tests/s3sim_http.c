/* Heads of requests and responses; what is printed into XML and headers. */
#include "tests/s3sim.h"

#include <ctype.h>
#include <stdio.h>

/* ---- requests ------------------------------------------------------------------ */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place.  '+' is a space in queries only. */
static int decode_percent(char *s, bool plus)
{
	char *out = s;

	for (; *s; s++) {
		if (*s != '%') {
			*out++ = plus && *s == '+' ? ' ' : *s;
			continue;
		}
		int hi = hex_digit(s[1]), lo = hi < 0 ? -1 : hex_digit(s[2]);
		if (lo < 0 || !(hi << 4 | lo))
			return -EINVAL;
		*out++ = (char)(hi << 4 | lo);
		s += 2;
	}
	*out = '\0';
	return 0;
}

static int parse_query(struct sim_request *r, char *s)
{
	char *pair;

	while ((pair = strsep(&s, "&"))) {
		char *value = strchr(pair, '=');
		if (!*pair)
			continue;
		if (r->n_query == SIM_PAIRS_MAX)
			return -E2BIG;
		if (value)
			*value++ = '\0';
		else
			value = pair + strlen(pair);
		if (decode_percent(pair, true) || decode_percent(value, true))
			return -EINVAL;
		r->query[r->n_query++] = (struct vf_sigv4_pair){pair, value};
	}
	return 0;
}

static int parse_target(struct sim_request *r, char *target)
{
	char *query = strchr(target, '?'), *slash;
	int err = 0;

	if (query) {
		*query++ = '\0';
		err = parse_query(r, query);
	}
	if (*target != '/' || decode_percent(target, false))
		return -EINVAL;
	r->path = target;
	free(r->bucket);
	r->bucket = strdup(target + 1);
	if (!r->bucket)
		return -ENOMEM;
	slash = strchr(r->bucket, '/');
	r->key = slash ? slash + 1 : "";
	if (slash)
		*slash = '\0';
	return err;
}

static int parse_header(struct sim_request *r, char *line)
{
	char *colon = strchr(line, ':');

	if (!colon || colon == line)
		return -EINVAL;
	if (r->n_headers == SIM_HEADERS_MAX)
		return -E2BIG;
	*colon++ = '\0';
	colon += strspn(colon, " \t");
	for (size_t n = strlen(colon); n && strchr(" \t", colon[n - 1]);)
		colon[--n] = '\0';
	for (char *c = line; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	r->headers[r->n_headers++] = (struct vf_sigv4_pair){line, colon};
	return 0;
}

/* What the headers say of the connection and the body. */
static int parse_framing(struct sim_request *r)
{
	const char *length = sim_request_header(r, "content-length");
	const char *v = sim_request_header(r, "connection");
	char *end;

	r->close = v && !strcasecmp(v, "close");
	v = sim_request_header(r, "expect");
	r->expects = v && !strcasecmp(v, "100-continue");
	if (sim_request_header(r, "transfer-encoding"))
		return -EOPNOTSUPP;
	if (!length)
		return 0;
	errno = 0;
	unsigned long long n = strtoull(length, &end, 10);
	if (!isdigit((unsigned char)*length) || *end)
		return -EINVAL;
	if (errno || n > SIM_BODY_MAX)
		return -EFBIG;
	r->length = n;
	r->has_length = true;
	return 0;
}

int sim_request_parse(struct sim_request *r, char *text)
{
	char *line, *method, *target;
	int err;

	r->text = text;
	line = strsep(&text, "\n");
	method = strsep(&line, " ");
	target = line ? strsep(&line, " ") : NULL;
	if (!target || !line || strncmp(line, "HTTP/1.", 7))
		return -EINVAL;
	r->method = method;
	err = parse_target(r, target);
	while (!err && (line = strsep(&text, "\n"))) {
		line[strcspn(line, "\r")] = '\0';
		if (*line)
			err = parse_header(r, line);
	}
	return err ? err : parse_framing(r);
}

void sim_request_fini(struct sim_request *r)
{
	free(r->text);
	free(r->bucket);
	vf_buf_fini(&r->body);
	*r = (struct sim_request){0};
}

static const char *find_pair(const struct vf_sigv4_pair *p, size_t n,
			     const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(p[i].name, name))
			return p[i].value;
	return NULL;
}

const char *sim_request_header(const struct sim_request *r, const char *name)
{
	return find_pair(r->headers, r->n_headers, name);
}

const char *sim_request_query(const struct sim_request *r, const char *name)
{
	return find_pair(r->query, r->n_query, name);
}

/* ---- responses ------------------------------------------------------------------- */

static const char *status_text(int status)
{
	static const struct {
		int status;
		const char *text;
	} texts[] = {{200, "OK"},
		     {204, "No Content"},
		     {206, "Partial Content"},
		     {304, "Not Modified"},
		     {400, "Bad Request"},
		     {403, "Forbidden"},
		     {404, "Not Found"},
		     {405, "Method Not Allowed"},
		     {411, "Length Required"},
		     {412, "Precondition Failed"},
		     {416, "Requested Range Not Satisfiable"},
		     {500, "Internal Server Error"},
		     {501, "Not Implemented"},
		     {503, "Slow Down"}};

	for (size_t i = 0; i < VF_N(texts); i++)
		if (texts[i].status == status)
			return texts[i].text;
	return "Unknown";
}

void sim_response_fini(struct sim_response *res)
{
	vf_buf_fini(&res->head);
	vf_buf_fini(&res->text);
	sim_blob_put(res->blob);
	*res = (struct sim_response){0};
}

size_t sim_response_length(const struct sim_response *res)
{
	return res->blob ? res->len : res->text.len;
}

const uint8_t *sim_response_body(const struct sim_response *res)
{
	return res->blob ? res->blob->data + res->off : res->text.data;
}

int sim_response_head(const struct sim_response *res, uint64_t id, bool close,
		      struct vf_buf *out)
{
	char date[40];
	int err;

	sim_time_http(time(NULL), date);
	err = vf_buf_printf(out,
			    "HTTP/1.1 %d %s\r\n"
			    "x-amz-request-id: %016llX\r\n"
			    "Date: %s\r\nServer: s3sim\r\n",
			    res->status, status_text(res->status),
			    (unsigned long long)id, date);
	if (!err && res->status != 204 && res->status != 304)
		err = vf_buf_printf(out, "Content-Length: %zu\r\n",
				    sim_response_length(res));
	if (!err && close)
		err = vf_buf_printf(out, "Connection: close\r\n");
	if (!err)
		err = vf_buf_append(out, res->head.data, res->head.len);
	return err ? err : vf_buf_append(out, "\r\n", 2);
}

void sim_xml_begin(struct sim_response *res)
{
	vf_buf_printf(&res->head, "Content-Type: application/xml\r\n");
	vf_buf_printf(&res->text,
		      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
}

int sim_refuse(struct sim_response *res, int status, const char *code,
	       const char *message)
{
	bool held = res->held, head_only = res->head_only;

	sim_response_fini(res);
	res->held = held;
	res->head_only = head_only;
	res->status = status;
	sim_xml_begin(res);
	vf_buf_printf(&res->text, "<Error><Code>%s</Code><Message>", code);
	sim_xml_append(&res->text, message);
	vf_buf_printf(&res->text, "</Message></Error>");
	return -EPERM;
}

int sim_xml_append(struct vf_buf *out, const char *s)
{
	int err = 0;

	for (; !err && *s; s++) {
		unsigned char c = (unsigned char)*s;
		if (c < 0x20 || strchr("&<>\"'", c))
			err = vf_buf_printf(out, "&#%u;", c);
		else
			err = vf_buf_append(out, &c, 1);
	}
	return err;
}

void sim_time_http(int64_t t, char out[40])
{
	struct tm tm;
	time_t when = t;

	gmtime_r(&when, &tm);
	strftime(out, 40, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

void sim_time_iso(int64_t t, char out[40])
{
	struct tm tm;
	time_t when = t;

	gmtime_r(&when, &tm);
	strftime(out, 40, "%Y-%m-%dT%H:%M:%S.000Z", &tm);
}

void sim_etag(const void *p, size_t len, char out[SIM_ETAG_MAX])
{
	char hash[VF_SIGV4_HEX + 1];

	vf_sigv4_hash(p, len, hash);
	snprintf(out, SIM_ETAG_MAX, "%.32s", hash);
}
