/*
 * Rows that a record is to carry itself, gathered from the chunks of a source.
 */
#ifndef VF_TOOLS_CARRIED_H
#define VF_TOOLS_CARRIED_H

#include "store/log.h"
#include "tools/source.h"

struct vf_carried {
	uint64_t n_rows, next_key;
	size_t row_len, max_len;
	struct vf_buf vectors, line_lens, lines;
};

void vf_carried_init(struct vf_carried *c, size_t row_len, size_t max_len);
void vf_carried_fini(struct vf_carried *c);
/*
 * A vf_consume_fn whose argument is a struct vf_carried.
 * Returns 0; -EFBIG over max_len bytes, not logged; -ENOMEM.
 */
int vf_carried_add(void *carried, const struct vf_chunk *chunk);
/* Views into @c. */
struct vf_op vf_carried_op(const struct vf_carried *c);

#endif
