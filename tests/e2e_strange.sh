#!/bin/bash
# What a writer may meet: keys and versions that are gone, names that differ in
# case, records of a newer version, files that are not ours, a cache folder that
# two mounts want, disks that are full at each step, clocks that jump, file
# systems that do less than others.
. "$(dirname "$0")/e2e_lib.bash"
cd "$WORK" || exit 1
src=$WORK/bucket ix=$WORK/bucket/i
mkdir "$src"
vectool gen --rows 2000 --dim 16 --seed 1 -q base.npy
vectool gen --rows 20 --dim 16 --seed 2 -q few.npy
seq -f 'k%g' 0 1999 >base.keys
seq -f 'k%g' 1990 2009 >few.keys
version() { vectool stat --json "$1" | jq .version; }
keys() { vectool ls "$1" | sort | md5sum; }

# ---- gone already
vectool put "$ix" base.npy --keys base.keys -q # 1
check "a key is deleted" vectool delete "$ix" k7 -q
check "a key deleted a second time is counted, and is no commit" \
	bash -c "vectool delete '$ix' k7 | grep -q '^0 rows deleted, 1 key'"
is "the version stays" "$(version "$ix")" 2
fails "get of it" 'no key "k7"' vectool get "$ix" k7
fails "a version to come" 'no commit 9' vecquery "$ix" --npy few.npy -k 1 --at 9
vectool gc "$ix" --keep 1 --wait 0 -q # 3
fails "a query of a version that is gone" 'was collected' vecquery "$ix" --npy few.npy -k 1 --at 1
fails "restore of a version that is gone" 'was collected' vectool restore "$ix" --at 1

# ---- names
fails "a name in upper case" 'cannot name an index' vectool create "$src/I" --dim 16
before=$(keys "$ix")
mkdir -p "$src/I/log" && cp "$src/_vecfs/indexes/i" "$src/_vecfs/indexes/I"
is "what is named so is no index" "$(vectool ls "$src" --json | jq -r .index | xargs)" i
is "and the other is as it was" "$(keys "$ix")" "$before"
rm -r "$src/I" "$src/_vecfs/indexes/I"

# ---- metadata that a parser or a terminal trips over
vectool gen --rows 2 --dim 16 --seed 3 -q two.npy
printf '{"t":"a\\u0000b"}\n{"t":"\xc2\x9b31mred"}\n' >two.meta
printf 'nul\nc1\xc2\x9bJ\n' >two.keys
check "metadata with NUL escaped, and a control character of two bytes" \
	vectool put "$src/m" two.npy --keys two.keys --metadata two.meta -q
is "a query finds them" "$(vecquery "$src/m" --npy two.npy -k 2 --format jsonl | grep -c '"nul".*a.u0000b')" 2
{
	vecquery "$src/m" --npy two.npy -k 2 --format table
	vectool get "$src/m" $'c1\xc2\x9bJ'
	vectool ls "$src/m"
} >two.out
is "which are shown" "$(grep -c 31mred two.out)" 3
is "and reach no terminal" "$(LC_ALL=C grep -c $'\xc2\x9b' two.out)" 0

# ---- a record of a newer version
vectool put "$src/n" base.npy --keys base.keys -q
cp -r "$src/n" n.kept
/usr/bin/python3 - "$src/n/log/00000000000000000002" "$src/n/log/00000000000000000001" <<'PY'
import sys
b = bytearray(open(sys.argv[2], "rb").read())
b[8] = 2 # format version
b[40] = 2 # number
open(sys.argv[1], "wb").write(b)
PY
all=$(find "$src/n" -type f | sort | xargs md5sum | md5sum)
for verb in "stat" "ls" "get k5" "delete k5" "put few.npy --keys few.keys" "compact" "gc --keep 1 --wait 0" "drop"; do
	set -- $verb
	v=$1 && shift
	fails "$v upon a newer record" 'newer version of vecfs' vectool "$v" "$src/n" "$@"
done
fails "a query of it" 'newer version of vecfs' vecquery "$src/n" --npy few.npy -k 1
is "nothing was written or deleted" "$(find "$src/n" -type f | sort | xargs md5sum | md5sum)" "$all"

# ---- a catalog that is not ours
catalog=$(echo "$XDG_CACHE_HOME"/vecfs/catalog-*)
catalog=${catalog%% *}
for what in text empty directory other; do
	vectool get "$ix" k5 >/dev/null # it is there
	for c in "$XDG_CACHE_HOME"/vecfs/catalog-*; do
		rm -f "$c/data.mdb"
		case $what in
		text) yes "of somebody else" | head -c 100000 >"$c/data.mdb" ;;
		empty) : >"$c/data.mdb" ;;
		directory) mkdir "$c/data.mdb" ;;
		other) head -c 65536 /dev/urandom >"$c/data.mdb" ;;
		esac
	done
	if [ $what = directory ]; then
		fails "a catalog that is a folder" 'catalog' vectool get "$ix" k5
		rmdir "$XDG_CACHE_HOME"/vecfs/catalog-*/data.mdb
	else
		check "a catalog that is not ours: $what" vectool get "$ix" k5
	fi
done
check "and it is written with" vectool put "$ix" few.npy --keys few.keys -q
is "its rows" "$(vectool ls "$ix" | wc -l)" 2009

# ---- a cache folder that two mounts want
if have_fuse; then
	check "a mount with a disk tier" mount_bucket "file://$src" "$WORK/one" -o "disk=$WORK/tier:64M"
	mkdir two
	fails "a second one upon its folder" 'tier' vecfs "file://$src" "$WORK/two" -o "disk=$WORK/tier:64M"
	check "the first goes on" vecquery "$WORK/one/i" --npy few.npy -k 1
	check "two mounts, one cache folder" mount_bucket "file://$src" "$WORK/three"
	is "both are searched" "$(for m in one three; do vecquery "$WORK/$m/i" --npy few.npy -k 3 --format jsonl | jq -c .hits; done | sort | uniq -c | awk '{print $1}' | sort -u)" 2
	umount_bucket "$WORK/three"
	umount_bucket "$WORK/one"
else
	skip "two mounts" "no FUSE here"
fi

# ---- a full disk
mkdir full
if mount -t tmpfs -o size=4m tmpfs full 2>/dev/null; then
	CLEANUP+=("umount '$WORK/full'")
	fill() { head -c 64M /dev/zero >full/fill 2>/dev/null; }
	vectool put "$WORK/full/i" base.npy --keys base.keys -q
	vectool put "$WORK/full/i" few.npy --keys few.keys -q
	before=$(keys "$WORK/full/i")
	fill
	for verb in "put few.npy --keys few.keys" "put base.npy --keys base.keys" "delete k5" "gc --keep 1 --wait 0" "compact" "drop" "restore --at 1"; do
		set -- $verb
		v=$1 && shift
		fails "a full bucket: $v" 'No space left' vectool "$v" "$WORK/full/i" "$@"
	done
	fails "a full bucket: create" 'No space left' vectool create "$WORK/full/j" --dim 16
	is "nothing changed" "$(keys "$WORK/full/i") $(version "$WORK/full/i")" "$before 2"
	is "nothing half done is left" "$(find full -name '*tmp*' -o -name '.*' -type f | wc -l)" 0
	rm full/fill
	check "and then there is room" vectool compact "$WORK/full/i" -q
	fill
	before=$(keys "$ix")
	fails "no room for a catalog: get" 'No space left' vectool get "$ix" k5 --cache-dir full/c
	fails "no room for a catalog: delete" 'No space left' vectool delete "$ix" k5 --cache-dir full/c
	fails "no room for a catalog: put" 'No space left' vectool put "$ix" few.npy --keys few.keys --cache-dir full/c
	is "nothing was changed" "$(keys "$ix")" "$before"
	rm full/fill
	check "and then it is built" vectool get "$ix" k5 --cache-dir full/c
else
	skip "a full disk" "cannot mount a tmpfs here"
fi

# ---- a clock that jumps
cat >clock.c <<'C'
/* Real time is CLOCK_JUMP seconds off, every other look at it as far the other way. */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
static long jump(void)
{
	static int n;
	const char *s = getenv("CLOCK_JUMP");
	return !s ? 0 : __atomic_fetch_add(&n, 1, __ATOMIC_RELAXED) % 2 ? -atol(s) : atol(s);
}
int clock_gettime(clockid_t c, struct timespec *t)
{
	static int (*real)(clockid_t, struct timespec *);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
	int rc = real(c, t);
	if (c == CLOCK_REALTIME)
		t->tv_sec += jump();
	return rc;
}
time_t time(time_t *out)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	if (out)
		*out = t.tv_sec;
	return t.tv_sec;
}
C
# A sanitizer must be loaded first: it sees the rest.
[ "${VF_E2E_QUERIES:-0}" = 0 ] || exit 0
if cc -shared -fPIC -o clock.so clock.c -ldl 2>/dev/null; then
	jumping() { CLOCK_JUMP=$1 LD_PRELOAD=$WORK/clock.so "${@:2}"; }
	vectool put "$src/c" base.npy --keys base.keys -q
	for years in 1 40 -40 200; do
		check "a clock $years years off: put" jumping $((years * 31536000)) vectool put "$src/c" few.npy --keys few.keys -q
		check "a clock $years years off: delete" jumping $((years * 31536000)) vectool delete "$src/c" k1999 -q
	done
	is "every commit is there" "$(version "$src/c") $(vectool ls "$src/c" | wc -l)" "9 2009"
	check "the log is told" bash -c "[ \$(vectool log '$src/c' -n 99 --json | wc -l) = 9 ]"
	before=$(keys "$src/c")
	check "gc by age of such a log" jumping 31536000 vectool gc "$src/c" --older-than 1h --wait 0 -q
	check "again, by a clock that is right" vectool gc "$src/c" --older-than 1h --wait 0 -q
	is "nothing is lost" "$(keys "$src/c")" "$before"
	if with_s3sim; then
		fails "a clock that a server does not take" 'RequestTimeTooSkewed.*clock|clock.*RequestTimeTooSkewed|RequestTimeTooSkewed' \
			env CLOCK_JUMP=7200 "LD_PRELOAD=$WORK/clock.so" vectool put s3://test/c/i few.npy --keys few.keys -q
	fi
else
	skip "a clock that jumps" "no compiler"
fi

# ---- file systems that do less than others
cat >odd.c <<'C'
/*
 * ODD=direct  the first direct write is done in part, those after it not at all
 *     types   a listing tells no types
 *     end     a listing breaks off
 *     stat    nobody is told about an object
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
static int odd(const char *what)
{
	const char *s = getenv("ODD");
	return s && !strcmp(s, what);
}
/* What is left of @n; 0 and errno. */
static size_t cut(int fd, size_t n)
{
	static int written;
	if (!odd("direct") || n < 1 << 20 || !(fcntl(fd, F_GETFL) & O_DIRECT))
		return n;
	errno = EINVAL;
	return __atomic_fetch_add(&written, 1, __ATOMIC_RELAXED) ? 0 : 1 << 20;
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	static ssize_t (*real)(int, const void *, size_t, off_t);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pwrite64");
	return n && !(n = cut(fd, n)) ? -1 : real(fd, p, n, at);
}
ssize_t write(int fd, const void *p, size_t n)
{
	static ssize_t (*real)(int, const void *, size_t);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "write");
	return n && !(n = cut(fd, n)) ? -1 : real(fd, p, n);
}
struct dirent *readdir(DIR *d)
{
	static struct dirent *(*real)(DIR *);
	static int n;
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "readdir64");
	if (odd("end") && n++ > 3) {
		errno = EIO;
		return NULL;
	}
	struct dirent *e = real(d);
	if (e && odd("types"))
		e->d_type = DT_UNKNOWN;
	return e;
}
int fstatat(int dir, const char *name, struct stat *st, int flags)
{
	static int (*real)(int, const char *, struct stat *, int);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "fstatat64");
	errno = EIO;
	return odd("stat") ? -1 : real(dir, name, st, flags);
}
C
if cc -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -shared -fPIC -o odd.so odd.c -ldl 2>err; then
	oddly() { env "ODD=$1" "LD_PRELOAD=$WORK/odd.so" "${@:2}"; }
	vectool gen --rows 20000 --dim 128 --seed 3 -q wide.npy
	check "a direct write that fails half way: put" oddly direct vectool put "$src/odd" wide.npy --leaves 8 -q
	check "every byte is at its place" vectool verify "$src/odd" --deep -q
	check "a listing without types has its folders" oddly types vectool verify "$src/odd" -q
	fails "a listing that breaks off" 'cannot list.*Input/output' env ODD=end "LD_PRELOAD=$WORK/odd.so" vectool ls "$src"
	fails "objects that cannot be looked at" 'cannot list.*Input/output' env ODD=stat "LD_PRELOAD=$WORK/odd.so" vectool stat "$ix"
else
	skip "odd file systems" "$(cat err)"
fi
