/*
 * What the looks of an audit share; private to it.
 */
#ifndef VF_TOOLS_AUDIT_IMPL_H
#define VF_TOOLS_AUDIT_IMPL_H

#include "tools/audit.h"
#include "tools/progress.h"

/* Objects of the index as they were listed, ascending by key. */
struct listed {
	char *key; /* owned */
	uint64_t size;
	bool named;
};

struct audit {
	struct vf_audit *a;
	struct listed *objects; /* owned */
	size_t n, cap;
	uint64_t oldest; /* version that is kept; 0, 1: the first */
	bool codes_lost; /* of the shard that is being looked at */
	struct vf_progress progress;
};

/* One finding, said at once. */
__attribute__((format(printf, 2, 3))) void vf_audit_found(struct audit *w,
							  const char *fmt, ...);

/* The rows of the newest version, and the catalog (audit_rows.c). */
int vf_audit_rows(struct audit *w);

#endif
