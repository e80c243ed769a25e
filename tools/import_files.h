/*
 * Files of vectors into an index, part by part: each part is one commit, and
 * an import that was stopped goes on behind the last one.
 */
#ifndef VF_TOOLS_IMPORT_FILES_H
#define VF_TOOLS_IMPORT_FILES_H

#include "tools/ingest.h"
#include "tools/target.h"

struct vf_import_files {
	const struct vf_target *target; /* borrowed, as all below */
	const char *const *paths;
	const char *const *names; /* of the same, for messages */
	size_t n_paths;
	const char *part, *keys, *metadata; /* as in vf_source_file_options */
	uint64_t part_rows;		    /* of one commit; 0: default */
	uint64_t first_key; /* of the first file's row 0, when resuming */
	/* Texts: as in vf_source_file_options. */
	const struct vf_embedder *embedder;
	const char *words;
	bool skip_empty;
	bool resume, check;
	/* What each put gets; bucket, names, source and n_leaves are set here,
	 * n_leaves only where it is 0. */
	struct vf_ingest put;
};

/* Returns 0; -EILSEQ the check failed; -EINPROGRESS; -ECANCELED; -errno; all
 * logged.  Prints a line per file but when quiet. */
int vf_import_files_run(const struct vf_import_files *o);

#endif
