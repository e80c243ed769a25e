/* Keys are checked here, so that a slip does not look like an absent key. */
#include "tools/keyfile.h"

#include <stdio.h>

#include "store/change.h"
#include "tools/jsonl.h"
#include "tools/lines.h"
#include "tools/verb.h"

static int add_key(const char *key, size_t len, const char *where,
		   uint64_t number, struct vf_buf *store)
{
	const char *why = vf_key_check(key, len);

	if (why)
		return vf_fail(-EINVAL, "%s %llu: the key %s", where,
			       (unsigned long long)number, why);
	return vf_keys_append(store, key, len)
		       ? vf_fail(-ENOMEM, "%s: %s", where, strerror(ENOMEM))
		       : 0;
}

static int read_file(const char *path, struct vf_buf *store, uint64_t *n)
{
	struct vf_lines *l;
	const char *line;
	size_t len;
	int err = vf_lines_open(path, VF_KEY_MAX, &l);

	if (err)
		return err;
	while (!(err = vf_lines_next(l, &line, &len)) && line) {
		VF_AUTO_FREE char *where = NULL;
		if (asprintf(&where, "%s: line", vf_lines_name(l)) < 0)
			where = NULL;
		err = add_key(line, len, where ? where : path,
			      vf_lines_number(l), store);
		if (err)
			break;
		++*n;
	}
	vf_lines_close(l);
	return err;
}

int vf_keyfile_read(const char *const *keys, size_t n, const char *path,
		    struct vf_buf *store, struct vf_delete *out)
{
	int err = 0;

	*out = (struct vf_delete){.n_keys = n};
	if (!n && !path)
		return vf_fail(VF_ERR_USAGE,
			       "no keys: name some, or --keys FILE");
	for (size_t i = 0; !err && i < n; i++)
		err = add_key(keys[i], strlen(keys[i]), "operand", i + 2,
			      store);
	if (!err && path)
		err = read_file(path, store, &out->n_keys);
	if (!err && !out->n_keys)
		err = vf_fail(-EINVAL, "%s: holds no keys", path);
	out->keys = store->data;
	out->len = store->len;
	return err;
}
