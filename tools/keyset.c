/* Open addressing, linear probing, at most 3/4 full. */
#include "tools/keyset.h"

/* Hashes come from XXH3 and are mixed well; still not the caller's choice. */
static size_t slot_of(const struct vf_keyset *k, uint64_t hash)
{
	return (size_t)(hash * 0x9e3779b97f4a7c15 >> 20) & (k->cap - 1);
}

static void insert(struct vf_keyset *k, uint64_t hash, uint64_t row)
{
	size_t at = slot_of(k, hash);

	while (k->slots[2 * at + 1])
		at = (at + 1) & (k->cap - 1);
	k->slots[2 * at] = hash;
	k->slots[2 * at + 1] = row + 1;
	k->n++;
}

static int grow(struct vf_keyset *k)
{
	struct vf_keyset big = {.cap = k->cap ? 2 * k->cap : 1024};

	big.slots = calloc(big.cap, 2 * sizeof(*big.slots));
	if (!big.slots)
		return -ENOMEM;
	for (size_t i = 0; i < k->cap; i++)
		if (k->slots[2 * i + 1])
			insert(&big, k->slots[2 * i], k->slots[2 * i + 1] - 1);
	free(k->slots);
	*k = big;
	return 0;
}

int vf_keyset_each(const struct vf_keyset *k, uint64_t hash,
		   int (*fn)(void *arg, uint64_t row), void *arg)
{
	int rc = 0;

	if (!k->cap)
		return 0;
	for (size_t at = slot_of(k, hash); !rc && k->slots[2 * at + 1];
	     at = (at + 1) & (k->cap - 1))
		if (k->slots[2 * at] == hash)
			rc = fn(arg, k->slots[2 * at + 1] - 1);
	return rc;
}

static int take_row(void *arg, uint64_t row)
{
	*(uint64_t *)arg = row;
	return 1;
}

bool vf_keyset_find(const struct vf_keyset *k, uint64_t hash, uint64_t *out_row)
{
	return vf_keyset_each(k, hash, take_row, out_row);
}

int vf_keyset_add(struct vf_keyset *k, uint64_t hash, uint64_t row,
		  uint64_t *out_row)
{
	int err = k->n + 1 > k->cap / 4 * 3 ? grow(k) : 0;

	if (err)
		return err;
	if (!vf_keyset_find(k, hash, out_row))
		*out_row = row;
	insert(k, hash, row);
	return 0;
}

void vf_keyset_fini(struct vf_keyset *k)
{
	free(k->slots);
	*k = (struct vf_keyset){0};
}
