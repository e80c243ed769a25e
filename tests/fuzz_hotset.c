/*
 * Lists of what was hot: whatever is accepted is within its bounds, and is
 * written again as the same bytes.
 */
#include "store/hotset.h"
#include "tests/fuzz.h"

const char fuzz_name[] = "hotset";

int fuzz_one(const uint8_t *p, size_t len)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	struct vf_hotset s;
	int err = vf_hotset_parse(p, len, &s), n;

	if (err) {
		fuzz_check(!s.all && !s.n);
		return err;
	}
	fuzz_check(!vf_hotset_begin(&b, s.block_len));
	for (size_t i = 0; i < s.n; i++) {
		const struct vf_hot_object *o = &s.all[i];
		const struct vf_hot_range *last = &o->ranges[o->n_ranges - 1];
		fuzz_check(((uint64_t)last->first + last->n - 1) * s.block_len <
			   o->size);
		fuzz_check(!vf_hotset_add(&b, o));
	}
	fuzz_check(!vf_hotset_end(&b));
	fuzz_check(b.len == len && !memcmp(b.data, p, len));
	n = (int)VF_MIN(s.n, (size_t)8);
	vf_hotset_fini(&s);
	return n;
}

void fuzz_seeds(void)
{
	struct vf_hot_range r[] = {{0, 3}, {5, 1}, {9, 2}};
	struct vf_hot_object o = {.key = (char *)"a/b",
				  .etag = "\"1\"",
				  .size = 1 << 20,
				  .ranges = r,
				  .n_ranges = 3};
	VF_AUTO_BUF struct vf_buf b = {0};

	for (unsigned n = 0; n < 3; n++) {
		b.len = 0;
		vf_hotset_begin(&b, 65536);
		for (unsigned i = 0; i < n; i++)
			vf_hotset_add(&b, &o);
		vf_hotset_end(&b);
		fuzz_add(b.data, b.len);
	}
}

void fuzz_fix(uint8_t *p, size_t len)
{
	if (len < 28)
		return;
	memcpy(p, "vecfsHOT\1\0\0\0", 12);
	vf_put_le32(p + 20, (uint32_t)(len - 28));
	vf_put_le32(p + len - 4, vf_crc32c(0, p, len - 4));
}
