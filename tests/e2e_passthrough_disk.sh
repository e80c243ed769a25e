#!/bin/bash
# Files that are whole in the disk tier are read by the kernel itself, whatever
# the bucket is: no request to the daemon, nothing leaves under a reader.
. "$(dirname "$0")/e2e_lib.bash"

have_fuse || { skip passthrough_disk "no FUSE here"; exit; }
with_s3sim --port 0 --data "$WORK/sim" || { not_ok passthrough_disk "no simulator"; exit; }
url=s3://$S3_BUCKET mnt=$WORK/mnt src=$WORK/src
mkdir "$src" "$mnt"
head -c 9000001 /dev/urandom >"$src/big"
head -c 70000 /dev/urandom >"$src/small"
for i in 1 2 3; do head -c 9500000 /dev/urandom >"$src/other$i"; done
for f in big small other1 other2 other3; do
	s3_put $f "$src/$f" || { not_ok passthrough_disk "cannot put $f"; exit; }
done

metric() { sed -n "s/^vecfs_$1 //p" "$mnt/.vecfs/metrics"; }
number() { jq -r ".$1" "$mnt/.vecfs/status.json"; }
why() { jq -r .passthrough.why "$mnt/.vecfs/status.json"; }
gets() { curl -sS "$AWS_ENDPOINT_URL/_sim/stats" | jq .get; }
passed() { # FILE: "1" or "0"
	/usr/bin/python3 -c "import os, sys; print(os.getxattr(sys.argv[1], 'user.vecfs.passthrough').decode())" "$mnt/$1"
}
enter() { mount_bucket "$url" "$mnt" -o "disk=$1,ram=4M,name_ttl_ms=100${2:+,$2}"; }
gone() { timeout 60 bash -c "while kill -0 $1 2>/dev/null; do sleep 0.02; done"; }
leave() {
	local pid
	pid=$(number pid) || return 1
	timeout 20 bash -c "until fusermount3 -u '$mnt' 2>/dev/null; do sleep 0.05; done" && gone "$pid"
}
whole() { # FILE...: read until the disk tier has all of it
	local f n
	for f; do
		for n in $(seq 100); do
			[ "$(passed "$f")" = 1 ] && continue 2
			cat "$mnt/$f" >"$WORK/whole" || return 1
			cmp -s "$WORK/whole" "$src/$f" || return 1
			dd if="$mnt/$f" iflag=nocache count=0 status=none # no page stays
			sleep 0.1
		done
		echo "$f does not become whole" >&2
		return 1
	done
}
quiet() { # COMMAND...: neither a read by the daemon nor a GET
	local a b c g
	g=$(gets) a=$(metric reads_total) b=$(metric reads_total)
	"$@" >"$WORK/quiet.out" 2>&1 || { cat "$WORK/quiet.out" >&2; return 1; }
	c=$(metric reads_total)
	[ $((c - b)) = $((b - a)) ] && [ "$(gets)" = "$g" ] ||
		{ echo "$((c - b - (b - a))) reads, $(($(gets) - g)) GETs" >&2; return 1; }
}
settles() { # METRIC VALUE
	local n
	for n in $(seq 100); do
		[ "$(metric "$1")" = "$2" ] && return 0
		sleep 0.05
	done
	echo "$1 is $(metric "$1"), not $2" >&2
	return 1
}

# ---- where it is off
check "mount without a disk tier" mount_bucket "$url" "$mnt"
check "it is off, and says why" [ "$(why)" = "the bucket is no local directory, and there is no disk tier" ]
check "unmount" leave
check "mount with passthrough=off" enter "$WORK/off:64M" passthrough=off
check "it is off, and says that" bash -c "[[ '$(why)' == *passthrough=off ]]"
check "reads go through the daemon" cmp "$src/small" "$mnt/small"
check "unmount that" leave
overlay=$WORK/overlay
mkdir -p "$overlay"/{up,work,all} "$overlay/low"
if mount -t overlay overlay -o "lowerdir=$overlay/low,upperdir=$overlay/up,workdir=$overlay/work" "$overlay/all" 2>/dev/null; then
	CLEANUP+=("umount $overlay/all")
	if enter "$overlay/all/d:64M" 2>/dev/null; then
		check "a disk tier on overlayfs: off, and says that" bash -c "[[ '$(why)' == *overlayfs ]]"
		check "it reads all the same" cmp "$src/big" "$mnt/big"
		leave
	fi
else
	skip "a disk tier on overlayfs" "cannot mount one"
fi

# ---- on
check "mount with a disk tier" enter "$WORK/d:64M"
[ "$(jq -r .passthrough.state "$mnt/.vecfs/status.json")" = on ] || {
	skip passthrough_disk "off here: $(why)"
	exit
}
check "status.json says for what" bash -c "[[ '$(why)' == *'whole in the disk tier'* ]]"
check "a file that was never read is not passed through" [ "$(passed big)" = 0 ]
check "it becomes whole by being read" whole big small
check "read: right bytes, no request" quiet cmp "$src/big" "$mnt/big"
check "and a small one" quiet cmp "$src/small" "$mnt/small"
cat >"$WORK/map.py" <<'PY'
import mmap, os, random, sys
want = open(sys.argv[1], "rb").read()
f = os.open(sys.argv[2], os.O_RDONLY)
m = mmap.mmap(f, 0, prot=mmap.PROT_READ)
m.madvise(mmap.MADV_RANDOM)
random.seed(5)
for off in random.sample(range(0, len(want) - 4096), 500):
    assert m[off:off + 4096] == want[off:off + 4096], off
os.close(f)
assert m[:] == want
PY
check "mmap: right bytes, no request" quiet /usr/bin/python3 "$WORK/map.py" "$src/big" "$mnt/big"
check "every release is the end of an id" settles passthrough_files 0
check "and nothing is held any more" settles disk_held_bytes 0
check "unmount after it" leave
check "mount again" enter "$WORK/d:64M"
check "whole files are passed through from the first open" quiet cmp "$src/big" "$mnt/big"

# ---- handles from before, a new version
cat >"$WORK/lib.py" <<'PY'
import mmap, os, subprocess, sys, time
src, mnt = sys.argv[1:3]
def metric(name):
    with open(mnt + "/.vecfs/metrics") as f:
        return next(int(l.split()[1]) for l in f if l.startswith("vecfs_" + name + " "))
def settles(name, want):
    for _ in range(100):
        if metric(name) == want:
            return
        time.sleep(0.05)
    raise AssertionError((name, metric(name), want))
def data(name):
    return open(src + "/" + name, "rb").read()
def read(f):
    return os.pread(f, 1 << 25, 0)
def passed(name):
    return os.getxattr(mnt + "/" + name, "user.vecfs.passthrough") == b"1"
def read_until_passed(f, name, want):
    for _ in range(100):
        os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)
        assert read(f) == want
        time.sleep(0.15)  # the name's life
        with open(mnt + "/" + name, "rb"):
            if metric("passthrough_files"):
                return
    raise AssertionError("not whole")
PY
cat >"$WORK/before.py" <<'PY'
import sys
exec(open(sys.argv[3]).read())
want = data("other1")
a = os.open(mnt + "/other1", os.O_RDONLY)
assert metric("passthrough_files") == 0
m = mmap.mmap(a, 0, prot=mmap.PROT_READ)
read_until_passed(a, "other1", want)
settles("passthrough_files", 0)
b = os.open(mnt + "/other1", os.O_RDONLY)
assert metric("passthrough_files") == 1, "a new look-up finds it whole"
again = os.open("/proc/self/fd/%d" % a, os.O_RDONLY)  # of the old kind
before = metric("read_bytes_total")
os.posix_fadvise(a, 0, 0, os.POSIX_FADV_DONTNEED)
assert read(b) == want
assert os.fstat(a).st_ino == os.fstat(b).st_ino
c = os.open("/proc/self/fd/%d" % b, os.O_RDONLY)
assert metric("passthrough_files") == 1
assert read(c) == want and read(again) == want and m[:] == want and read(a) == want
m.close(), os.close(a), os.close(again)
assert read(b) == want
time.sleep(0.15)
d = os.open(mnt + "/other1", os.O_RDONLY)
assert read(d) == want
os.close(b), os.close(c), os.close(d)
settles("passthrough_files", 0)
settles("disk_held_bytes", 0)
PY
check "handles from before it was whole stay as they are, later ones are passed through" \
	/usr/bin/python3 "$WORK/before.py" "$src" "$mnt" "$WORK/lib.py"
cat >"$WORK/version.py" <<'PY'
import sys
exec(open(sys.argv[3]).read())
old = data("small")
f = os.open(mnt + "/small", os.O_RDONLY)
m = mmap.mmap(f, 0, prot=mmap.PROT_READ)
assert metric("passthrough_files") == 1
new = os.urandom(50000)
open(src + "/small", "wb").write(new)
subprocess.run([sys.executable, sys.argv[4], "small", src + "/small"], check=True)
time.sleep(0.3)
n = os.open(mnt + "/small", os.O_RDONLY)
assert metric("passthrough_files") == 1, "the new version is not whole"
assert read(n) == new and read(f) == old and m[:] == old
os.close(n)
for _ in range(100):
    n = os.open(mnt + "/small", os.O_RDONLY)
    if metric("passthrough_files") == 2:
        break
    assert read(n) == new
    os.close(n)
    time.sleep(0.1)
assert metric("passthrough_files") == 2, "an id of its own"
assert read(n) == new and read(f) == old and m[:] == old
os.close(f)
assert m[:] == old and metric("passthrough_files") == 2, "mapped: in use"
m.close()
settles("passthrough_files", 1)
os.close(n)
settles("passthrough_files", 0)
PY
check "a new version has an id of its own, old handles the old bytes" \
	/usr/bin/python3 "$WORK/version.py" "$src" "$mnt" "$WORK/lib.py" "$WORK/put.py"
check "unmount, all closed" leave

# ---- replacement, the share, damage
check "mount a disk tier of two files" enter "$WORK/tight:20M"
check "one of them is whole" whole big
cat >"$WORK/press.py" <<'PY'
import sys
exec(open(sys.argv[3]).read())
want = data("big")
f = os.open(mnt + "/big", os.O_RDONLY)
m = mmap.mmap(f, 0, prot=mmap.PROT_READ)
os.close(f)
assert metric("passthrough_files") == 1
assert metric("disk_held_bytes") >= len(want)
def press():
    for name in ("other1", "other2", "other3"):
        with open(mnt + "/" + name, "rb") as o:
            assert o.read() == data(name)
            os.posix_fadvise(o.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    time.sleep(0.2)
for _ in range(3):
    press()
assert metric("disk_evictions_total") > 0
assert passed("big") and m[:] == want
f = os.open(mnt + "/other3", os.O_RDONLY)  # whole or not: no room for two
assert metric("passthrough_files") == 1
assert read(f) == data("other3")
os.close(f), m.close()
settles("passthrough_files", 0)
settles("disk_held_bytes", 0)
for _ in range(30):
    if not passed("big"):
        break
    press()
assert not passed("big"), "let go, it can leave"
assert open(mnt + "/big", "rb").read() == want
PY
check "nothing of it leaves while it is mapped, and no more than the share is held" \
	/usr/bin/python3 "$WORK/press.py" "$src" "$mnt" "$WORK/lib.py"
check "unmount the tight one" leave
flip_all() { # one byte in the middle of every cache file of DIR that is as large as FILE
	/usr/bin/python3 - "$1" "$(stat -c %s "$2")" <<'PY'
import os, sys
n = 0
for at, _, names in os.walk(sys.argv[1] + "/data"):
    for name in names:
        path = os.path.join(at, name)
        if os.path.getsize(path) == int(sys.argv[2]):
            with open(path, "r+b") as f:
                f.seek(4000000)
                b = f.read(1)
                f.seek(4000000)
                f.write(bytes([b[0] ^ 1]))
            n += 1
assert n == 1, n
PY
}
check "damage a cache file" flip_all "$WORK/d" "$src/big"
check "mount over it" enter "$WORK/d:64M"
check "its bytes are right, for it is not passed through" cmp "$src/big" "$mnt/big"
check "the damage was found before" [ "$(number disk.damaged)" = 1 ]
check "what was damaged is fetched again" bash -c "[ '$(number cache.fetches)' -ge 1 ]"
check "then it is whole" whole big
check "and passed through" quiet cmp "$src/big" "$mnt/big"

# ---- the end of the program under a reader
cat >"$WORK/hold.py" <<'PY'
import mmap, os, sys
want = open(sys.argv[1], "rb").read()
f = os.open(sys.argv[2], os.O_RDONLY)
m = mmap.mmap(f, 0, prot=mmap.PROT_READ)
open(sys.argv[3], "w").close()
sys.stdin.readline()
got = b""
try:
    got = os.pread(f, len(want), 0)
except OSError:
    got = want
assert got == want and m[:] == want
PY
mkfifo "$WORK/go"
/usr/bin/python3 "$WORK/hold.py" "$src/big" "$mnt/big" "$WORK/ready" <"$WORK/go" 2>"$WORK/reader.err" &
reader=$!
exec 9>"$WORK/go"
check "a reader has it mapped" timeout 10 bash -c "until [ -e '$WORK/ready' ]; do sleep 0.05; done"
pid=$(number pid)
kill -9 "$pid"
gone "$pid"
fusermount3 -uz "$mnt"
check "mount again after kill -9" enter "$WORK/d:20M"
press() {
	local n f
	for n in 1 2; do
		for f in big other1 other2 other3; do cmp "$src/$f" "$mnt/$f" || return 1; done
		sleep 0.3
	done
}
check "all is read, and the disk tier turns over" press
check "it does" bash -c "[ '$(number disk.evictions)' -gt 50 ]"
echo go >&9
wait $reader && ok "the reader from before sees no other byte" ||
	not_ok "the reader from before sees no other byte" "$(cat "$WORK/reader.err")"
check "unmount at last" leave
