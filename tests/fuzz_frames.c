/*
 * Seekable zstd objects: footer, table and every frame.
 */
#include "store/frames.h"
#include "tests/fuzz.h"

const char fuzz_name[] = "frames";

/* Compressed bytes from a block of exactly their length. */
static int try_frame(const uint8_t *p, const struct vf_frames *f, uint32_t i)
{
	size_t in_len = f->in_off[i + 1] - f->in_off[i];
	size_t out_len = f->out_off[i + 1] - f->out_off[i];
	VF_AUTO_FREE uint8_t *in = malloc(in_len);
	VF_AUTO_FREE uint8_t *out = malloc(out_len);

	fuzz_check(in && out && in_len && out_len);
	memcpy(in, p + f->in_off[i], in_len);
	return vf_frame_decompress(in, in_len, out, out_len);
}

static int try_object(const uint8_t *p, size_t len, const struct vf_frames *f)
{
	uint64_t total = f->out_off[f->n_frames];
	int err = 0;

	fuzz_check(f->in_off[0] == 0 && f->out_off[0] == 0);
	fuzz_check(f->in_off[f->n_frames] < len);
	for (uint32_t i = 0; i < f->n_frames; i++) {
		fuzz_check(f->in_off[i] < f->in_off[i + 1]);
		fuzz_check(f->out_off[i] < f->out_off[i + 1]);
		fuzz_check(f->out_off[i + 1] - f->out_off[i] <= VF_FRAME_MAX);
		fuzz_check(vf_frames_find(f, f->out_off[i]) == i);
		fuzz_check(vf_frames_find(f, f->out_off[i + 1] - 1) == i);
		if (!err && i < 64)
			err = try_frame(p, f, i);
		fuzz_check(!err || err == -EBADMSG);
	}
	return err ? -1 : total > 1000;
}

int fuzz_one(const uint8_t *p, size_t len)
{
	struct vf_frames f;
	uint64_t table_len = 0;
	int outcome;

	if (len < VF_FRAMES_FOOTER_LEN)
		return -2;
	if (vf_frames_footer(p + len - VF_FRAMES_FOOTER_LEN, len, &table_len))
		return -3;
	fuzz_check(table_len <= len);
	if (vf_frames_parse(p + len - table_len, table_len, len, &f)) {
		fuzz_check(!f.in_off && !f.out_off);
		return -4;
	}
	outcome = try_object(p, len, &f);
	vf_frames_fini(&f);
	return outcome;
}

void fuzz_seeds(void)
{
	static const size_t lens[] = {0, 1, 100, 1000, 5000};
	uint8_t in[5000];

	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t) "etaoin shrdlu\n\x80"[i * i / 7 % 15];
	for (size_t i = 0; i < VF_N(lens); i++) {
		VF_AUTO_BUF struct vf_buf b = {0};
		struct vf_framer *f;
		fuzz_check(!vf_framer_new(700, 1 + (int)i, &f));
		fuzz_check(!vf_framer_write(f, in, lens[i], &b));
		fuzz_check(!vf_framer_finish(f, &b));
		vf_framer_free(f);
		fuzz_add(b.data, b.len);
	}
}

/* A table of the length its footer says, and a last frame that fills up. */
void fuzz_fix(uint8_t *p, size_t len)
{
	uint64_t n, table_len, sum = 0;
	uint8_t *t;

	if (len < 8 + VF_FRAMES_FOOTER_LEN)
		return;
	p[len - 5] = 0;
	vf_put_le32(p + len - 4, 0x8f92eab1);
	n = vf_le32(p + len - VF_FRAMES_FOOTER_LEN);
	table_len = 8 + 8 * n + VF_FRAMES_FOOTER_LEN;
	if (table_len > len || !n)
		return;
	t = p + len - table_len;
	vf_put_le32(t, 0x184d2a5e);
	vf_put_le32(t + 4, (uint32_t)(table_len - 8));
	for (uint64_t i = 0; i + 1 < n; i++)
		sum += vf_le32(t + 8 + 8 * i);
	if (sum < len - table_len)
		vf_put_le32(t + 8 * n, (uint32_t)(len - table_len - sum));
}
