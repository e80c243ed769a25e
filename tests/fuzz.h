/*
 * The driver of every fuzz program, fuzz_<parser>.c, which provides the four
 * things declared below.
 *
 *     fuzz_x [-t SECONDS] [-s SEED]    mutate; a failing seed can be passed back
 *     fuzz_x FILE...                   replay
 *
 * Each input lies in a heap block of exactly its length, so that a sanitizer
 * sees every read beyond it.  What crashes is kept in /tmp/fuzz-<name>-crash.
 * Exit status: 0, or that of the crash.
 */
#ifndef VF_TESTS_FUZZ_H
#define VF_TESTS_FUZZ_H

#include "store/util.h"

#include <stdio.h>

/* ---- what a fuzz program provides ------------------------------------------ */

extern const char fuzz_name[];

/*
 * Feed one input; fuzz_check what must hold of an accepted one.  Returns what
 * became of it: the first input with a new outcome is mutated further.
 */
int fuzz_one(const uint8_t *p, size_t len);

/* Call fuzz_add with some good inputs. */
void fuzz_seeds(void);

/* Make lengths and checksums right again, so that parsing goes deep. */
void fuzz_fix(uint8_t *p, size_t len);

/* ---- for its use -------------------------------------------------------------- */

#define fuzz_check(x)                                                          \
	do {                                                                   \
		if (!(x)) {                                                    \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__,       \
				__LINE__, #x);                                 \
			abort();                                               \
		}                                                              \
	} while (0)

/* One more good input, copied. */
void fuzz_add(const void *p, size_t len);
/* An outcome made of an error and a constant reason. */
int fuzz_outcome(int err, const char *why);
/* Below @n, 0 when @n is 0; of the run's seed. */
size_t fuzz_rand(size_t n);
/* For fuzz_fix: an object of JSON begins and ends as one. */
void fuzz_fix_object(uint8_t *p, size_t len);
/* The same for a record of the log, or a checkpoint, that is longer than its
 * header and checksum: lengths, padding, checksum; see store/log.h. */
void fuzz_fix_record(uint8_t *p, size_t len);

#endif
