#!/bin/bash
# The RAM tier over time: it follows memory pressure, and what was hot is hot
# again after a restart.
. "$(dirname "$0")/e2e_lib.bash"

have_fuse || { skip ram "no FUSE here"; exit; }
with_s3sim --port 0 --data "$WORK/sim" || { not_ok ram "no simulator"; exit; }
url=s3://$S3_BUCKET mnt=$WORK/mnt src=$WORK/src
mkdir "$src" "$mnt"
head -c 20000001 /dev/urandom >"$src/a"
head -c 3000000 /dev/urandom >"$src/b"
for f in a b; do s3_put $f "$src/$f" || { not_ok ram "cannot put $f"; exit; }; done

number() { jq -r ".$1" "$mnt/.vecfs/status.json"; }
gets() { curl -sS "$AWS_ENDPOINT_URL/_sim/stats" | jq .get; }
leave() {
	local pid
	pid=$(number pid) || return 1
	timeout 20 bash -c "until fusermount3 -u '$mnt' 2>/dev/null; do sleep 0.05; done" &&
		timeout 60 bash -c "while kill -0 $pid 2>/dev/null; do sleep 0.02; done"
}
becomes() { # JQ CONDITION
	local n
	for n in $(seq 200); do
		jq -e "$1" "$mnt/.vecfs/status.json" >"$WORK/state" && return 0
		sleep 0.05
	done
	jq '{cache, pressure, rewarm}' "$mnt/.vecfs/status.json" >&2
	return 1
}

# ---- memory pressure
calm="some avg10=0.00 avg60=0.00 avg300=0.00 total=0"
echo "$calm" >"$WORK/psi"
fails "pressure goes with ram=auto" "ram=auto" vecfs "$url" "$mnt" -o "pressure=$WORK/psi"
fails "a full path" "full path" vecfs "$url" "$mnt" -o "ram=auto,pressure=psi"
check "mount with ram=auto" mount_bucket "$url" "$mnt" -o "ram=auto,pressure=$WORK/psi"
first=$(number cache.ram_bytes)
check "it begins with at least 64 MiB" [ "$first" -ge $((64 << 20)) ]
check "status.json says what it follows" [ "$(number pressure.file)" = "$WORK/psi" ]
check "the same bytes" cmp "$src/a" "$mnt/a"
check "while all is calm it stays" [ "$(number cache.ram_bytes)" = "$first" ]
if [ "$first" -gt $((80 << 20)) ]; then
	echo "${calm/0.00/45.00}" >"$WORK/psi"
	check "under pressure it shrinks" becomes ".cache.ram_bytes < $first and .pressure.shrinks > 0 and .cache.used_bytes <= .cache.ram_bytes"
	check "and says what it saw" [ "$(number pressure.stalled)" = 4500 ]
else
	skip "under pressure it shrinks" "too little memory here to begin with"
fi
check "the same bytes then" cmp "$src/b" "$mnt/b"
check "unmount" leave
check "mount where nothing tells of pressure" mount_bucket "$url" "$mnt" -o "ram=auto,pressure=$WORK/none"
check "the size stays" jq -e ".cache.ram_bytes >= 67108864 and .pressure == null" "$mnt/.vecfs/status.json"
check "unmount that" leave

# ---- what was hot
disk=$WORK/disk
enter() { mount_bucket "$url" "$mnt" -o "disk=$disk:64M,ram=32M,passthrough=off${1:+,$1}"; }
cat >"$WORK/touch.py" <<'PY'
import os, sys
src, mnt = sys.argv[1:3]
want = open(src, "rb").read()
f = os.open(mnt, os.O_RDONLY)
os.posix_fadvise(f, 0, 0, os.POSIX_FADV_RANDOM)
for i in range(0, 300, 3):  # every third block: nothing sequential in it
    off = i * 65536 + 4096 * (i % 16)
    assert os.pread(f, 4096, off) == want[off:off + 4096], i
PY
touch_hot() { /usr/bin/python3 "$WORK/touch.py" "$src/a" "$mnt/a"; }
check "mount with a disk tier" enter
check "a hot set of 100 blocks" touch_hot
used=$(number cache.used_bytes)
check "unmount, with it" leave
hot=$(echo "$disk"/hot.*)
check "it is written down" [ -s "$hot" ]
sim reset >/dev/null
check "mount again" enter
check "it is read back, from the disk tier" becomes ".rewarm.over == 1 and .cache.flying == 0 and .cache.used_bytes >= $used"
[ "$(gets)" = 0 ] && ok "without a GET" || not_ok "without a GET" "$(gets) GETs"
misses=$(number cache.misses)
check "and read" touch_hot
check "every block was there" [ "$(number cache.misses)" = "$misses" ]
check "unmount after it" leave

rm -rf "$disk/data" "$disk/index"
sim reset >/dev/null
sim "set?latency_ms=20" >/dev/null
check "mount with an empty disk tier" enter rewarm=4
check "what somebody reads meanwhile is not late" timeout 10 cmp "$src/b" "$mnt/b"
check "it is read back, from the bucket" becomes ".rewarm.over == 1 and .rewarm.blocks > 50 and .cache.flying == 0"
check "and read again" touch_hot
check "unmount then" leave

sim "set?latency_ms=0" >/dev/null
s3_put a "$src/b"
check "mount with another version of the object" enter rewarm=1000
check "what is gone is passed over" becomes ".rewarm.over == 1 and .cache.flying == 0"
check "and the new one read" cmp "$src/b" "$mnt/a"
check "unmount it" leave
printf 'vecfsHOT garbage' >"$hot"
check "mount with a damaged list" enter
check "the same bytes as ever" cmp "$src/b" "$mnt/a"
check "unmount the last" leave
check "the list is whole again" bash -c "[ \$(stat -c %s '$hot') -gt 28 ]"
rm "$hot"
check "mount with rewarm=0" enter rewarm=0
check "it reads" cmp "$src/b" "$mnt/a"
check "it unmounts" leave
check "and remembers nothing" [ ! -e "$hot" ]
