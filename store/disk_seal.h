/*
 * The seal of the disk tier's index: a checksum over the whole LMDB file,
 * written at an orderly end and checked before the next opening, because LMDB
 * has none of its own and a damaged page can crash it.  After a disorderly end
 * there is no seal; then a few ends in a row while LMDB was at work are taken
 * for damage, so that no damage can crash us for ever.  Whoever is killed at
 * another moment has nothing to do with it.
 *
 * Threads: one at a time per folder.
 */
#ifndef VF_STORE_DISK_SEAL_H
#define VF_STORE_DISK_SEAL_H

#include "store/util.h"

/*
 * Before the file is opened: check and break the seal.
 * @dir   the folder with data.mdb and the seal
 * Returns 0; -EBADMSG begin anew; -errno, logged.
 */
int vf_disk_seal_break(const char *dir);
/*
 * The mark that LMDB is at work, as long as it is 1: as it is after
 * vf_disk_seal_break.  NULL: it cannot be mapped, and stays 1.
 */
volatile uint8_t *vf_disk_seal_mark(const char *dir);
void vf_disk_seal_unmark(volatile uint8_t *mark); /* unmap; NULL is fine */
/* The opening came to something. */
void vf_disk_seal_prove(const char *dir);
/* After the file is closed. */
void vf_disk_seal_set(const char *dir);
/* The file was removed: nothing to be said about it. */
void vf_disk_seal_remove(const char *dir);

#endif
