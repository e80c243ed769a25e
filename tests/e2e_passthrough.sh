#!/bin/bash
# Files of a local bucket that the kernel reads itself: no read reaches the
# daemon, every rule of the kernel's is kept, and the mount is as any other.
. "$(dirname "$0")/e2e_lib.bash"

have_fuse || { skip passthrough "no FUSE here"; exit; }
src=$WORK/bucket mnt=$WORK/mnt
mkdir "$src" "$mnt" "$src/many"
vectool gen --rows 3000 --dim 100 --seed 3 --queries 3 --queries-out "$WORK/q.npy" \
	"$WORK/base.npy" -q && vectool put "file://$src/a" "$WORK/base.npy" -q &&
	vectool put "file://$src/z" "$WORK/base.npy" --compress -q ||
	{ not_ok passthrough "cannot put"; exit; }
head -c 9000001 /dev/urandom >"$src/big"
head -c 70000 /dev/urandom >"$src/small"
: >"$src/empty"
ln -s big "$src/link"
ln -s /etc/hostname "$src/outside"
for i in $(seq 20); do head -c $((i * 5000)) /dev/urandom >"$src/many/$i"; done

metric() { sed -n "s/^vecfs_$1 //p" "$mnt/.vecfs/metrics"; }
xattr() { /usr/bin/python3 -c "import os, sys; print(os.getxattr(sys.argv[1], sys.argv[2]).decode())" "$@"; }
state() { jq -r .passthrough.state "$mnt/.vecfs/status.json"; }
# Reads that a command sends to the daemon: reading the metrics is one by itself.
reads_of() {
	local a b c
	a=$(metric reads_total) b=$(metric reads_total)
	"$@" >"$WORK/reads.out" 2>&1 || { cat "$WORK/reads.out" >&2; return 1; }
	c=$(metric reads_total)
	[ $((c - b)) = $((b - a)) ] || { echo "$((c - b - (b - a))) reads" >&2; return 1; }
}
settles() { # METRIC VALUE: releases are answered after close(2) returned
	local n
	for n in $(seq 50); do
		[ "$(metric "$1")" = "$2" ] && return 0
		sleep 0.05
	done
	echo "$1 is $(metric "$1"), not $2" >&2
	return 1
}

# ---- off by wish
check "mount with passthrough=off" mount_bucket "file://$src" "$mnt" -o passthrough=off,allow_other
line_off=$(grep " $mnt " /proc/mounts)
check "status.json says that it is off, and why" jq -e \
	'.passthrough.state == "off" and (.passthrough.why | test("passthrough=off"))' "$mnt/.vecfs/status.json"
check "files say so too" [ "$(xattr "$mnt/big" user.vecfs.passthrough)" = 0 ]
check "and are read all the same" cmp "$src/big" "$mnt/big"
check "through the daemon" bash -c "! [ \$(sed -n 's/^vecfs_read_bytes_total //p' '$mnt/.vecfs/metrics') = 0 ]"
check "unmount" umount_bucket "$mnt"
fails "a value that is none" "auto or off" vecfs "file://$src" "$mnt" -o passthrough=maybe

# ---- on
check "mount" mount_bucket "file://$src" "$mnt" -o allow_other,name_ttl_ms=100
[ "$(state)" = on ] || {
	skip passthrough "off here: $(jq -r .passthrough.why "$mnt/.vecfs/status.json")"
	exit
}
check "the mount's options are the same either way" [ "$(grep " $mnt " /proc/mounts)" = "$line_off" ]
check "files say that they are passed through" [ "$(xattr "$mnt/big" user.vecfs.passthrough)" = 1 ]
check "what is made up is not" [ "$(xattr "$mnt/.vecfs/metrics" user.vecfs.passthrough)" = 0 ]
check "nor what is decompressed" bash -c "[ \$(/usr/bin/python3 -c \"import os, sys; print(os.getxattr(sys.argv[1], 'user.vecfs.passthrough').decode())\" '$mnt'/z/shard/*/records.jsonl) = 0 ]"
check "read: right bytes, no request" reads_of cmp "$src/big" "$mnt/big"
check "a link inside the bucket" reads_of cmp "$src/big" "$mnt/link"
fails "a link out of the bucket" "No such file" cat "$mnt/outside"
check "an empty file" reads_of cmp "$src/empty" "$mnt/empty"
cat >"$WORK/map.py" <<'PY'
import mmap, os, random, sys
src, mnt = sys.argv[1:3]
want = open(src, "rb").read()
f = os.open(mnt, os.O_RDONLY)
m = mmap.mmap(f, 0, prot=mmap.PROT_READ)
m.madvise(mmap.MADV_RANDOM)
random.seed(5)
for off in random.sample(range(0, len(want) - 4096), 500):
    assert m[off:off + 4096] == want[off:off + 4096], off
assert m[len(want) - 3:] == want[-3:]
os.close(f)
assert m[:] == want
PY
check "mmap: right bytes, no request" reads_of /usr/bin/python3 "$WORK/map.py" "$src/big" "$mnt/big"
check "live/ leads to files passed through" reads_of cmp "$mnt/a/live/000.npy" "$src"/a/shard/*/vectors.npy
check "live/*.alive.npy" /usr/bin/python3 -c "
import numpy; a = numpy.load('$mnt/a/live/000.alive.npy'); assert a.all() and len(a) == 3000"
views() {
	local f
	for f in "$src"/?/shard/*/*.zst; do
		zstd -dqc "$f" | cmp - "$mnt${f:${#src}:-4}" || return 1
	done
}
check "zstd views" views
answers() { vecquery "$1" --npy "$WORK/q.npy" -k 5 --format jsonl | jq -c '[.query, .hits]'; }
check "the mount and the bucket answer alike" cmp <(answers "$mnt/a") <(answers "$src/a")
fails "writing is refused" "Read-only file system" touch "$mnt/big"

# ---- ids
cat >"$WORK/ids.py" <<'PY'
import os, sys, time
mnt = sys.argv[1]
def metric(name):
    with open(mnt + "/.vecfs/metrics") as f:
        return next(int(l.split()[1]) for l in f if l.startswith("vecfs_" + name + " "))
def settles(want):
    for _ in range(100):
        if metric("passthrough_files") == want:
            return
        time.sleep(0.05)
    raise AssertionError((metric("passthrough_files"), want))
settles(0)
opens = metric("passthrough_opens_total")
a = [os.open(mnt + "/big", os.O_RDONLY) for _ in range(5)]
assert metric("passthrough_files") == 1, "one id for all handles of an inode"
b = os.open(mnt + "/small", os.O_RDONLY)
assert metric("passthrough_files") == 2
assert metric("passthrough_opens_total") == opens + 6
for f in a[1:]:
    os.close(f)
time.sleep(0.2)
assert metric("passthrough_files") == 2, "kept to the last release"
c = os.open(mnt + "/big", os.O_RDONLY)  # while another handle is open
assert os.pread(c, 100, 4096) == os.pread(a[0], 100, 4096)
os.close(a[0]), os.close(b)
settles(1)
os.close(c)
settles(0)
PY
check "one id per inode, counted to the last release" /usr/bin/python3 "$WORK/ids.py" "$mnt"

# ---- a new version
cat >"$WORK/replace.py" <<'PY'
import mmap, os, sys, time
src, mnt = sys.argv[1:3]
path = mnt + "/small"
old = open(src + "/small", "rb").read()
f = os.open(path, os.O_RDONLY)
m = mmap.mmap(f, 0, prot=mmap.PROT_READ)
g = os.open(mnt + "/many/7", os.O_RDONLY)
os.close(g)  # looked up, not open
new = os.urandom(50000)
for name in ("small", "many/7"):
    open(src + "/.tmp", "wb").write(new)
    os.rename(src + "/.tmp", src + "/" + name)
# At once: the old name may still be known, but never with other bytes.
with open(mnt + "/many/7", "rb") as now:
    assert now.read() == new
    assert os.fstat(now.fileno()).st_size == len(new)
time.sleep(0.3)
n = os.open(path, os.O_RDONLY)
assert os.pread(n, 1 << 20, 0) == new
assert os.pread(f, 1 << 20, 0) == old and m[:] == old
again = os.open(f"/proc/self/fd/{f}", os.O_RDONLY)  # the old inode, opened again
assert os.pread(again, 1 << 20, 0) == old
assert os.pread(n, 1 << 20, 0) == new
os.unlink(src + "/small")
time.sleep(0.3)
assert not os.path.exists(path)
assert os.pread(f, 1 << 20, 0) == old and os.pread(n, 1 << 20, 0) == new and m[:] == old
PY
check "a new version: new opens see it, old handles the old bytes" \
	/usr/bin/python3 "$WORK/replace.py" "$src" "$mnt"
check "no id is left" settles passthrough_files 0

# ---- many
pid=$(jq .pid "$mnt/.vecfs/status.json")
fds() { ls "/proc/$pid/fd" | wc -l; }
cat >"$WORK/cycle.py" <<'PY'
import os, sys
src, mnt, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
want = {i: open(f"{src}/many/{i}", "rb").read() for i in range(1, 21)}
for n in range(1000):
    i = (n * 7 + seed) % 20 + 1
    f = os.open(f"{mnt}/many/{i}", os.O_RDONLY)
    off = n * 31 % len(want[i])
    assert os.pread(f, 8192, off) == want[i][off:off + 8192]
    os.close(f)
PY
before=$(fds)
check "1000 times open and close" /usr/bin/python3 "$WORK/cycle.py" "$src" "$mnt" 0
parallel() {
	local i pids=()
	for i in 1 2 3 4 5 6 7 8; do
		/usr/bin/python3 "$WORK/cycle.py" "$src" "$mnt" "$i" & pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || return 1; done
}
check "8 processes at once: no request" reads_of parallel
check "no id is left after that" settles passthrough_files 0
check "no file is left open in the daemon" [ "$(fds)" -le "$before" ]

# ---- it goes like any other mount
exec 9<"$mnt/big"
fails "a busy mount stays" "busy" fusermount3 -u "$mnt"
exec 9<&-
check "unmount with fusermount3" umount_bucket "$mnt"
check "nothing is left" is_gone "$mnt"
vecfs "file://$src" "$mnt" -f & pid=$!
check "the foreground" timeout 10 bash -c "until mountpoint -q '$mnt'; do sleep 0.05; done"
exec 9<"$mnt/big"
kill -TERM $pid
wait $pid && ok "SIGTERM with a file open ends it with status 0" || not_ok "SIGTERM with a file open ends it with status 0" "$?"
check "and unmounts" bash -c "! mountpoint -q '$mnt'"
check "the open handle ends with the mount or reads right bytes" bash -c \
	"cmp - '$src/big' <&9 || ! head -c 1 <&9"
exec 9<&-
check "mount with an option that is left to fusermount3" mount_bucket "file://$src" "$mnt" -o auto_unmount
check "is off, and says why" jq -e '.passthrough.why | test("fusermount3")' "$mnt/.vecfs/status.json"
check "unmount that" umount_bucket "$mnt"
check "mount with noexec" mount_bucket "file://$src" "$mnt" -o noexec,ro
check "has it" bash -c "[ '$(state)' = on ] && grep ' $mnt ' /proc/mounts | grep -q 'ro,nosuid,nodev,noexec'"
check "unmount this" umount_bucket "$mnt"

# ---- where it cannot be
overlay=$WORK/overlay
mkdir -p "$overlay"/{low,up,work,all}
cp "$src/big" "$overlay/low"
if mount -t overlay overlay -o "lowerdir=$overlay/low,upperdir=$overlay/up,workdir=$overlay/work" "$overlay/all" 2>/dev/null; then
	CLEANUP+=("umount $overlay/all")
	check "a bucket on overlayfs" mount_bucket "file://$overlay/all" "$mnt"
	check "is off, and says that" jq -e '.passthrough.why | test("overlayfs")' "$mnt/.vecfs/status.json"
	check "and reads" cmp "$src/big" "$mnt/big"
	check "unmount from it" umount_bucket "$mnt"
	mkdir "$src/low"
	mount --bind "$overlay/all" "$src/low"
	CLEANUP=("umount $src/low" "${CLEANUP[@]}")
	check "a bucket with overlayfs inside" mount_bucket "file://$src" "$mnt"
	check "reads what is there" cmp "$src/big" "$mnt/low/big"
	check "not passed through" [ "$(xattr "$mnt/low/big" user.vecfs.passthrough)" = 0 ]
	check "reads the rest" cmp "$src/big" "$mnt/big"
	check "passed through" [ "$(xattr "$mnt/big" user.vecfs.passthrough)" = 1 ]
	check "unmount it" umount_bucket "$mnt"
else
	skip "a bucket on overlayfs" "cannot mount one"
fi
# A user who may open /dev/fuse, but has no other right.
chmod 755 "$WORK"
mkdir "$WORK/theirs" && chown 65534:65534 "$WORK/theirs" 2>/dev/null
if [ "$(id -u)" = 0 ] && mknod -m 666 "$WORK/fuse" c 10 229 2>/dev/null && [ -w "$WORK/fuse" ]; then
	check "a user without rights reads, and is told why it is off" unshare --mount bash -c "
		mount --bind '$WORK/fuse' /dev/fuse &&
		setpriv --reuid=65534 --regid=65534 --clear-groups bash -ec \"
			'$BIN/vecfs' 'file://$src' '$WORK/theirs'
			jq -e '.passthrough.why | test(\\\"CAP_SYS_ADMIN\\\")' '$WORK/theirs/.vecfs/status.json'
			cmp '$src/big' '$WORK/theirs/big'
			fusermount3 -u '$WORK/theirs'\""
else
	skip "a user without rights" "this user cannot make a device"
fi
if unshare --user --map-root-user --mount true 2>/dev/null; then
	check "root of a user namespace, without the right" unshare --user --map-root-user --mount bash -c "
		'$BIN/vecfs' 'file://$src' '$mnt' &&
		jq -e '.passthrough.state == \"off\" and (.passthrough.why | test(\"CAP_SYS_ADMIN\"))' '$mnt/.vecfs/status.json' &&
		cmp '$src/big' '$mnt/big' && fusermount3 -u '$mnt'"
else
	skip "root of a user namespace" "none can be made"
fi
