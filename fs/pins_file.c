/*
 * DIR/pins: one line of JSON per pin.
 *
 *   {"bucket": IDENTITY, "crc": HEX, "end": N, "objects": [[KEY, ETAG, SIZE, OFF,
 *    END], ...], "off": N, "path": PATH, "released": BOOL, "version": 1}
 *
 * crc is the CRC32C of the same line without it: compact, members in the order
 * of their names.  An end of -1 is the file's.
 */
#include "fs/fs.h"
#include "store/local_file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>

enum { FILE_MAX = 256 << 20, VERSION = 1 };

static const size_t dump_flags = JSON_COMPACT | JSON_SORT_KEYS;

struct vf_pin *vf_pin_new(const char *bucket, const char *path, uint64_t off,
			  uint64_t end)
{
	struct vf_pin *pin = calloc(1, sizeof(*pin));

	if (!pin)
		return NULL;
	pin->bucket = strdup(bucket);
	pin->path = strdup(path);
	pin->off = off;
	pin->end = end;
	if (pin->bucket && pin->path)
		return pin;
	vf_pin_free(pin);
	return NULL;
}

void vf_pin_free(struct vf_pin *pin)
{
	if (!pin)
		return;
	vf_stored_fini(&pin->list);
	free(pin->bucket);
	free(pin->path);
	free(pin);
}

/* ---- writing --------------------------------------------------------------------------- */

static json_t *objects_json(const struct vf_stored_list *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++) {
		const struct vf_stored *s = &l->all[i];
		json_array_append_new(a, json_pack("[s, s, I, I, I]", s->key,
						   s->etag, (json_int_t)s->size,
						   (json_int_t)s->off,
						   (json_int_t)s->end));
	}
	return a;
}

/* Add the checksum; -EINVAL: a name that is no UTF-8. */
static int seal(json_t *o, char **out)
{
	VF_AUTO_FREE char *plain = o ? json_dumps(o, dump_flags) : NULL;
	char crc[9];

	*out = NULL;
	if (!plain)
		return -EINVAL;
	snprintf(crc, sizeof(crc), "%08x", vf_crc32c(0, plain, strlen(plain)));
	json_object_set_new(o, "crc", json_string(crc));
	*out = json_dumps(o, dump_flags);
	return *out ? 0 : -ENOMEM;
}

static int add_line(struct vf_buf *b, const struct vf_pin *pin)
{
	json_t *o =
		json_pack("{s:i, s:s, s:s, s:I, s:I, s:b, s:o}", "version",
			  VERSION, "bucket", pin->bucket, "path", pin->path,
			  "off", (json_int_t)pin->off, "end",
			  (json_int_t)pin->end, "released", (int)pin->released,
			  "objects", objects_json(&pin->list));
	VF_AUTO_FREE char *line = NULL;
	int err = seal(o, &line);

	json_decref(o);
	if (err)
		return vf_fail(err, "%s: cannot write down this pin: %s",
			       pin->path, strerror(-err));
	err = vf_buf_append(b, line, strlen(line));
	return err ? err : vf_buf_append(b, "\n", 1);
}

int vf_pins_save(const char *dir, const struct vf_pin *pins)
{
	VF_AUTO_FREE char *name = NULL;
	VF_AUTO_BUF struct vf_buf b = {0};
	int err = 0;

	if (asprintf(&name, "%s/pins", dir) < 0) {
		name = NULL;
		return -ENOMEM;
	}
	for (; !err && pins; pins = pins->next)
		err = add_line(&b, pins);
	if (err)
		return err;
	err = vf_replace_file(name, b.data, b.len);
	return err ? vf_fail(err, "%s: %s", name, strerror(-err)) : 0;
}

/* ---- reading --------------------------------------------------------------------------- */

static bool check_crc(json_t *o)
{
	json_t *crc = json_object_get(o, "crc");
	VF_AUTO_FREE char *plain = NULL;
	uint32_t want;
	char *end;

	if (!json_is_string(crc))
		return false;
	want = (uint32_t)strtoul(json_string_value(crc), &end, 16);
	if (*end || end - json_string_value(crc) != 8)
		return false;
	json_object_del(o, "crc");
	plain = json_dumps(o, dump_flags);
	return plain && vf_crc32c(0, plain, strlen(plain)) == want;
}

static int parse_object(json_t *a, const char *bucket,
			struct vf_stored_list *out)
{
	const char *key, *etag;
	json_int_t size, off, end;
	struct vf_stored s = {0};

	if (json_unpack(a, "[s, s, I, I, I!]", &key, &etag, &size, &off,
			&end) ||
	    off < 0 || off >= end || end > size ||
	    strlen(etag) >= sizeof(s.etag) || strlen(key) > VF_OBJECT_KEY_MAX)
		return -EBADMSG;
	s.key = (char *)key;
	s.size = (uint64_t)size;
	strcpy(s.etag, etag);
	vf_fs_stored_id(bucket, key, etag, s.size, s.id);
	return vf_stored_add(out, &s, (uint64_t)off, (uint64_t)end);
}

static int parse_pin(json_t *o, struct vf_pin **out)
{
	const char *bucket, *path;
	json_int_t off, end;
	int version, released, err = 0;
	json_t *objects, *a;
	size_t i;

	if (!check_crc(o) ||
	    json_unpack(o, "{s:i, s:s, s:s, s:I, s:I, s:b, s:o}", "version",
			&version, "bucket", &bucket, "path", &path, "off", &off,
			"end", &end, "released", &released, "objects",
			&objects))
		return -EBADMSG;
	if (version != VERSION)
		return -ENOTSUP;
	if (!json_is_array(objects) || off < 0 || (end >= 0 && off >= end))
		return -EBADMSG;
	*out = vf_pin_new(bucket, path, (uint64_t)off,
			  end < 0 ? VF_PIN_WHOLE : (uint64_t)end);
	if (!*out)
		return -ENOMEM;
	(*out)->released = released;
	json_array_foreach(objects, i, a) if (!err) err =
		parse_object(a, bucket, &(*out)->list);
	if (err) {
		vf_pin_free(*out);
		*out = NULL;
	}
	return err;
}

static int read_lines(FILE *f, const char *name, struct vf_pin **out)
{
	VF_AUTO_FREE char *line = NULL;
	size_t cap = 0;
	ssize_t len;

	for (unsigned n = 1; (len = getline(&line, &cap, f)) > 0; n++) {
		json_t *o = json_loadb(line, (size_t)len, 0, NULL);
		struct vf_pin *pin = NULL;
		int err = o ? parse_pin(o, &pin) : -EBADMSG;
		json_decref(o);
		if (err == -ENOTSUP || err == -ENOMEM)
			return vf_fail(err, "%s:%u: %s", name, n,
				       vf_strerror(err));
		if (err) {
			vf_log(VF_WARN,
			       "%s:%u: damaged, this pin is lost: what it "
			       "holds stays until its path is pinned and "
			       "unpinned again",
			       name, n);
			continue;
		}
		*out = pin;
		out = &pin->next;
	}
	return ferror(f) ? vf_fail(-EIO, "%s: cannot be read", name) : 0;
}

int vf_pins_load(const char *dir, struct vf_pin **out)
{
	VF_AUTO_FREE char *name = NULL;
	struct stat st;
	FILE *f;
	int fd, err;

	*out = NULL;
	if (asprintf(&name, "%s/pins", dir) < 0) {
		name = NULL;
		return -ENOMEM;
	}
	fd = open(name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	f = fd < 0 ? NULL : fdopen(fd, "r");
	if (!f || fstat(fd, &st) || !S_ISREG(st.st_mode) ||
	    st.st_size > FILE_MAX) {
		err = vf_fail(-EINVAL, "%s: %s", name,
			      f ? "not a list of pins" : strerror(errno));
		if (f)
			fclose(f);
		else if (fd >= 0)
			close(fd);
		return err;
	}
	err = read_lines(f, name, out);
	fclose(f);
	return err;
}
