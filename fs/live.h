/*
 * Indexes as the mount knows them, and what is made up in their folders.
 * Threads: any.
 */
#ifndef VF_FS_LIVE_H
#define VF_FS_LIVE_H

#include "fs/fs.h"

/* The newest state known of index @name, at most a name's life old, borrowed
 * until vf_live_put; NULL when there is no such index. */
struct index_view;
int vf_live_get(struct fs *fs, const char *name, struct index_view **out);
/* The same, at most so old; UINT64_MAX: what is known. */
int vf_live_get_since(struct fs *fs, const char *name, uint64_t max_age_ms,
		      struct index_view **out);
void vf_live_put(struct fs *fs, struct index_view *v);
const struct vf_state *vf_live_state(const struct index_view *v);
uint64_t vf_live_age_ms(const struct index_view *v);
/* The next of the list that begins at fs->indexes; caller holds fs->mtx. */
const struct index_view *vf_live_next(const struct index_view *v);
void vf_live_fini(struct fs *fs);

/* Is @path the folder of an index ("products")? */
bool vf_live_is_index_path(const char *path);
/* Split "products/shard/<name>"; false for any other path. */
bool vf_live_shard_path(const char *path, char index[VF_INDEX_NAME_MAX + 1],
			const char **out_shard);
/* The ref of the object shown as @name in a shard's folder, or NULL. */
const struct vf_object_ref *vf_live_find(const struct vf_state *s,
					 const char *shard, const char *name,
					 bool *out_view);
/* The text of .vecfs/state/INDEX: its state as a checkpoint with all rows. */
int vf_live_text(struct fs *fs, const char *path, struct vf_buf *out);

#endif
