/*
 * The form of postings; private to postings*.c.
 *
 *   key    u32 place, u32 run, 16 bytes XXH3-128 of the metadata key, u32
 *          block: numbers big-endian
 *   value  CRC32C, u32 blocks of the key in this run, u16 length of the
 *          metadata key and itself (0: not the first block), entries; and under the run UINT32_MAX of
 *          a place, behind its others, CRC32C and the number of runs
 *
 * A run holds so many rows as fit in memory; mostly a place has one.  The
 * entries of a key in a run ascend over its blocks, the first of which begins
 * with that of VF_VALUE_HERE.  An entry:
 *
 *   u8     kind of value | form of its rows << 2
 *   value  none; u8 of a boolean; of a number u8 (bytes shared with the entry
 *          before in the block << 4 | bytes that follow, then zeros), of an
 *          encoding that ascends; of a string varint bytes shared, varint
 *          bytes that follow
 *   rows   varint of the one; or varint count, varint of the first and of the
 *          steps; or varint first byte, varint bytes, and bits
 */
#ifndef VF_STORE_POSTINGS_IMPL_H
#define VF_STORE_POSTINGS_IMPL_H

#include "store/catalog_impl.h"
#include "store/postings.h"

enum {
	VF_POSTINGS_KEY_LEN = 28,
	VF_POSTINGS_HEADER_LEN = 10, /* of a value, up to the metadata key */
};

enum vf_rows_form { VF_ROWS_ONE, VF_ROWS_LIST, VF_ROWS_BITS };

static inline void vf_postings_key(uint32_t place, uint32_t run,
				   const uint8_t hash[VF_CATALOG_HASH_LEN],
				   uint32_t block,
				   uint8_t out[VF_POSTINGS_KEY_LEN])
{
	vf_catalog_row_key(place, run, out);
	if (hash)
		memcpy(out + 8, hash, VF_CATALOG_HASH_LEN);
	else
		memset(out + 8, 0, VF_CATALOG_HASH_LEN);
	block = htobe32(block);
	memcpy(out + 24, &block, 4);
}

/* Numbers in the order of their doubles: the sign bit turned, or all bits. */
static inline uint64_t vf_number_order(double number)
{
	uint64_t bits;

	memcpy(&bits, &number, 8);
	return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}

static inline double vf_number_of_order(uint64_t order)
{
	uint64_t bits = order >> 63 ? order & ~((uint64_t)1 << 63) : ~order;
	double number;

	memcpy(&number, &bits, 8);
	return number;
}

#endif
