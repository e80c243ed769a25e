/*
 * No suite: the index that test_query.c and test_view.c search.
 */
#include "tests/fixture.h"
#include "tests/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <xxhash.h>

#include "index/encoder.h"
#include "index/index.h"
#include "store/frames.h"
#include "store/npy.h"

enum { DIM = VF_FIX_DIM, ROWS = VF_FIX_ROWS, SHARDS = VF_FIX_SHARDS };

static const uint64_t shard_rows[SHARDS] = {300, 7, 93};

uint64_t vf_fixture_base(size_t shard)
{
	uint64_t n = 0;

	while (shard--)
		n += shard_rows[shard];
	return n;
}

const char *vf_fixture_key(size_t row)
{
	static char key[32];

	if (row == 5)
		return "a\"b\\c \xc3\xa9";
	snprintf(key, sizeof(key), "k%zu", row);
	return key;
}

const char *vf_fixture_metadata(size_t row)
{
	if (row % 2)
		return "{}";
	return row % 4 ? "{\"n\":123456789012345678901234567890,\"x\":0.10}"
		       : "{\"s\":\"}{ \\\"key\\\" \",\"l\":[1,\"a\"]}";
}

static void fill_rows(struct vf_fixture *f)
{
	uint64_t seed = 61;

	for (size_t i = 0; i < ROWS; i++) {
		for (int j = 0; j < DIM; j++)
			f->x[i][j] = (float)(vf_test_rand(&seed) % 7) - 3;
		f->x[i][0] = 4; /* never zero */
	}
	/* Equal rows in one shard and in three. */
	memcpy(f->x[11], f->x[10], sizeof(f->x[0]));
	memcpy(f->x[301], f->x[10], sizeof(f->x[0]));
	memcpy(f->x[399], f->x[10], sizeof(f->x[0]));
}

static void append_line(struct vf_buf *out, size_t row)
{
	const char *key =
		row == 5 ? "a\\\"b\\\\c \xc3\xa9" : vf_fixture_key(row);

	vf_buf_printf(out, "{\"key\":\"%s\",\"metadata\":%s}\n", key,
		      vf_fixture_metadata(row));
}

static void compress(struct vf_buf *b)
{
	struct vf_buf out = {0};
	struct vf_framer *f;

	if (vf_framer_new(4096, 3, &f) ||
	    vf_framer_write(f, b->data, b->len, &out) ||
	    vf_framer_finish(f, &out))
		abort();
	vf_framer_free(f);
	vf_buf_fini(b);
	*b = out;
}

static void put_object(struct vf_bucket *b, const struct vf_shard_ref *shard,
		       const char *name, bool zstd, struct vf_buf *data,
		       struct vf_object_ref *ref)
{
	snprintf(ref->name, sizeof(ref->name), "%s%s", name,
		 zstd ? ".zst" : "");
	ref->len = data->len;
	ref->zstd = zstd;
	if (zstd)
		compress(data);
	ref->stored_len = data->len;
	ref->checksum = XXH3_64bits(data->data, data->len);
	VF_AUTO_FREE char *key = vf_shard_key("things", shard->name, ref->name);
	if (vf_bucket_put(b, key, data->data, data->len, 0, NULL))
		abort();
}

static void put_vectors(struct vf_bucket *b, const struct vf_fixture *f,
			size_t base, struct vf_shard_ref *s)
{
	struct vf_npy npy = {
		.dtype = f->opt.dtype, .n_rows = s->n_rows, .dim = DIM};
	size_t n = s->n_rows * DIM, bad;
	VF_AUTO_BUF struct vf_buf data = {0};
	uint8_t header[VF_NPY_DATA_OFF];
	VF_AUTO_FREE uint16_t *half = malloc(n * sizeof(*half));

	vf_npy_header(&npy, header);
	vf_buf_append(&data, header, sizeof(header));
	if (f->opt.dtype == VF_F32)
		vf_buf_append(&data, f->x[base], n * sizeof(float));
	else if (!vf_narrow(f->x[base], n, half, &bad))
		vf_buf_append(&data, half, n * sizeof(*half));
	put_object(b, s, "vectors.npy", f->opt.zstd, &data, &s->vectors);
}

static uint32_t row_crc(const struct vf_fixture *f, size_t row)
{
	uint16_t half[DIM];
	size_t bad;

	if (f->opt.dtype == VF_F32)
		return vf_crc32c(0, f->x[row], sizeof(f->x[row]));
	vf_narrow(f->x[row], DIM, half, &bad);
	return vf_crc32c(0, half, sizeof(half));
}

static uint32_t bits_of(const struct vf_fixture *f,
			const struct vf_shard_ref *s)
{
	return s == &f->shards[1] ? 1 : f->opt.bits;
}

static void put_codes(struct vf_bucket *b, const struct vf_fixture *f,
		      size_t base, const struct vf_buf *lines,
		      struct vf_shard_ref *s)
{
	struct vf_code_params params = {DIM, f->opt.metric, 5, bits_of(f, s)};
	float centroid[DIM] = {0};
	struct vf_builder *builder;
	struct vf_encoder *e;
	struct vf_factors factors;
	struct vf_extra_factors extra_factors;
	uint8_t code[256 / 8], extra[256];
	struct vf_coded coded = {code, &factors, extra, &extra_factors, NULL};
	VF_AUTO_BUF struct vf_buf data = {0};
	const uint8_t *at = lines->data;

	if (vf_encoder_new(&params, centroid, &e) ||
	    vf_builder_new(e, f->opt.dtype, &builder))
		abort();
	for (size_t i = base; i < base + s->n_rows; i++) {
		const uint8_t *nl =
			memchr(at, '\n', lines->len - (at - lines->data));
		uint32_t len = (uint32_t)(nl + 1 - at);
		struct vf_builder_row row = {
			vf_key_hash(vf_fixture_key(i),
				    strlen(vf_fixture_key(i))),
			len, row_crc(f, i), vf_crc32c(0, at, len)};
		if (vf_encoder_coded(e, f->x[i], 1, &coded) ||
		    vf_builder_add_coded(builder, &coded, &row, 1))
			abort();
		at += len;
	}
	if (vf_builder_finish(builder, &data))
		abort();
	put_object(b, s, "codes.vix", false, &data, &s->codes);
	vf_builder_free(builder);
	vf_encoder_free(e);
}

static void put_shard(struct vf_bucket *b, struct vf_fixture *f, size_t i,
		      size_t base)
{
	struct vf_shard_ref *s = &f->shards[i];
	VF_AUTO_BUF struct vf_buf records = {0};

	vf_shard_name(0, s->name);
	s->n_rows = shard_rows[i];
	for (size_t r = base; r < base + s->n_rows; r++)
		append_line(&f->lines[i], r);
	vf_buf_append(&records, f->lines[i].data, f->lines[i].len);
	put_object(b, s, "records.jsonl", true, &records, &s->records);
	put_vectors(b, f, base, s);
	put_codes(b, f, base, &f->lines[i], s);
}

static void commit_shards(struct vf_bucket *b, const struct vf_fixture *f,
			  size_t n_shards)
{
	struct vf_op ops[1 + SHARDS] = {{.kind = VF_OP_CONFIGURE,
					 .configure = {.dim = DIM,
						       .metric = f->opt.metric,
						       .dtype = f->opt.dtype,
						       .rotation_seed = 5}}};
	struct vf_state *state, *next;
	uint8_t uuid[16];

	for (size_t i = 0; i < n_shards; i++)
		ops[1 + i] = (struct vf_op){.kind = VF_OP_ADD_SHARD,
					    .add_shard = f->shards[i]};
	if (vf_index_create(b, "things", uuid) ||
	    vf_state_load(b, "things", &state) ||
	    vf_commit(b, state, ops, 1 + n_shards, &next))
		abort();
	vf_state_free(state);
	vf_state_free(next);
}

struct vf_fixture *vf_fixture_new(const struct vf_fixture_options *opt)
{
	size_t n = opt->no_shard ? 0 : SHARDS;
	struct vf_fixture *f = calloc(1, sizeof(*f));
	struct vf_bucket *b;
	char url[160];

	f->opt = *opt;
	snprintf(f->root, sizeof(f->root), "%s", vf_test_dir());
	snprintf(f->path, sizeof(f->path), "%s/things", f->root);
	snprintf(url, sizeof(url), "file://%s", f->root);
	fill_rows(f);
	if (vf_bucket_open(url, NULL, &b))
		abort();
	for (size_t i = 0; i < n; i++)
		put_shard(b, f, i, vf_fixture_base(i));
	commit_shards(b, f, n);
	vf_bucket_close(b);
	return f;
}

void vf_fixture_free(struct vf_fixture *f)
{
	for (size_t i = 0; i < SHARDS; i++)
		vf_buf_fini(&f->lines[i]);
	free(f);
}

const char *vf_fixture_file(const struct vf_fixture *f, size_t shard,
			    const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/shard/%s/%s", f->path,
		 f->shards[shard].name, name);
	return path;
}

void vf_fixture_unpack(const struct vf_fixture *f)
{
	for (size_t i = 0; i < SHARDS; i++) {
		unlink(vf_fixture_file(f, i, "records.jsonl.zst"));
		VF_AUTO_FD int fd = open(vf_fixture_file(f, i, "records.jsonl"),
					 O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0 ||
		    vf_write_all(fd, f->lines[i].data, f->lines[i].len))
			abort();
	}
}
