/*
 * What records, checkpoints and their operations share; private to the folder.
 */
#ifndef VF_STORE_LOG_IMPL_H
#define VF_STORE_LOG_IMPL_H

#include "store/log.h"

#include <jansson.h>

/* ---- the frame -------------------------------------------------------------- */

/* What is framed. */
struct vf_log_kind {
	const char *what; /* for messages: "a log record" */
	char magic[8];
	uint32_t version;
	uint64_t max; /* bytes of the whole */
};

struct vf_log_frame {
	const struct vf_log_kind *kind;
	uint8_t uuid[16];
	uint64_t number;
	uint8_t nonce[16];
	uint64_t checksum; /* of the record before, or at the end, of it */
	const void *json, *binary; /* views */
	size_t json_len, binary_len;
};

/* Append.  Returns 0; -EFBIG (logged); -ENOMEM. */
int vf_log_frame_encode(const struct vf_log_frame *f, struct vf_buf *out);
/* Returns 0 and views into @p; -EBADMSG; -ENOTSUP; @out_reason a constant. */
int vf_log_frame_parse(const struct vf_log_kind *kind, const void *p,
		       size_t len, struct vf_log_frame *out,
		       const char **out_reason);

/* ---- members and operations -------------------------------------------------- */

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
/* Exactly 16 hex digits: 64-bit numbers that need not fit a JSON integer. */
uint64_t vf_take_hex64(struct vf_reader *r, const char *name);
json_t *vf_hex64_json(uint64_t v);
bool vf_take_bool(struct vf_reader *r, const char *name);
void vf_finish_reader(struct vf_reader *r);

typedef void vf_read_fn(void *arg, struct vf_reader *r);

/*
 * The JSON object of a frame, whose members @fn takes, all of them.
 * Returns 0; the first failure; @out_reason a constant.
 */
int vf_log_body_parse(const struct vf_log_frame *f, vf_read_fn *fn, void *arg,
		      const char **out_reason);
/* The member "operations": @fn takes one after the other, and its bytes. */
void vf_take_ops(struct vf_reader *r, vf_read_fn *fn, void *arg);

/* The operation's JSON; its bytes are appended.  NULL without memory. */
json_t *vf_op_json(const struct vf_op *op, struct vf_buf *binary);
void vf_op_parse(struct vf_reader *r, struct vf_op *op);

#endif
