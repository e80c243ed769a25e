/*
 * What the frame of a record and its operations share; private to the folder.
 */
#ifndef VF_STORE_LOG_IMPL_H
#define VF_STORE_LOG_IMPL_H

#include "store/log.h"

#include <jansson.h>

/*
 * Members are taken one by one; what is left over at the end is unknown.
 * The first failure sticks.
 */
struct vf_reader {
	json_t *obj;	       /* borrowed, consumed member by member */
	const uint8_t *binary; /* what no operation has taken yet */
	size_t binary_len;
	int err;	 /* 0, -EBADMSG, -ENOTSUP, -ENOMEM */
	const char *why; /* constant */
};

void vf_refuse(struct vf_reader *r, int err, const char *why);
json_t *vf_take_member(struct vf_reader *r, const char *name);
/* Not negative; 0 when it is absent and not @needed. */
uint64_t vf_take_u64(struct vf_reader *r, const char *name, bool needed);
void vf_take_text(struct vf_reader *r, const char *name, char *out, size_t cap);
void vf_finish_reader(struct vf_reader *r);

/* The operation's JSON; its bytes are appended.  NULL without memory. */
json_t *vf_op_json(const struct vf_op *op, struct vf_buf *binary);
void vf_op_parse(struct vf_reader *r, struct vf_op *op);

#endif
