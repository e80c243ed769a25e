#!/bin/bash
# Pins, warming and eviction through extended attributes and vectool: what was
# warmed or pinned is read without one GET, whatever else is read meanwhile and
# after a restart; and who may ask for it, and how much.
. "$(dirname "$0")/e2e_lib.bash"

have_fuse || { skip pins "no FUSE here"; exit; }
with_s3sim --port 0 --data "$WORK/sim" || { not_ok pins "no simulator"; exit; }
mnt=$WORK/mnt disk=$WORK/disk url=s3://$S3_BUCKET

upload() {
	curl -fsS --aws-sigv4 aws:amz:us-east-1:s3 -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" \
		-u "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" -T "$1" "$AWS_ENDPOINT_URL/$S3_BUCKET/$2"
}
xattr() { /usr/bin/python3 -c "import os, sys; print(os.getxattr(sys.argv[1], 'user.vecfs.' + sys.argv[2]).decode())" "$@"; }
set_xattr() { /usr/bin/python3 -c "import os, sys; sys.tracebacklimit = 0; os.setxattr(sys.argv[1], 'user.vecfs.' + sys.argv[2], sys.argv[3].encode())" "$@"; }
none_taken() {
	local v
	for v in "pin 1-x" "pin 5-5" "warm 1@fast" "evict all"; do
		# shellcheck disable=SC2086
		set_xattr "$mnt/a/f" $v 2>/dev/null && return 1
	done
	return 0
}
refused() { ! set_xattr "$@" 2>/dev/null; }
no_xattr() { ! xattr "$@" 2>/dev/null; }
stats() { curl -sS "$AWS_ENDPOINT_URL/_sim/stats"; }
gets() { stats | jq .get; }
# Backwards and by single blocks: nobody reads ahead, beyond the range.
cat >"$WORK/read_part.py" <<'PY'
import os, sys
want, path, a, b = open(sys.argv[1], "rb").read(), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
f = os.open(path, os.O_RDONLY)
os.posix_fadvise(f, 0, 0, os.POSIX_FADV_RANDOM)
for end in range(b, a, -32768):
    off = max(a, end - 32768)
    assert os.pread(f, end - off, off) == want[off:end], off
PY
# 0 GETs for a range that is not in the kernel's page cache nor in RAM.
no_gets() {
	vectool evict "$mnt/$1" && sim reset >/dev/null && /usr/bin/python3 "$WORK/read_part.py" "$WORK/$2" "$mnt/$1" "$3" "$4" &&
		[ "$(gets)" = 0 ]
}
all_on_disk() { xattr "$1" cached | awk '{ exit !($4 == $6 && $8 == $6) }'; }
remount() {
	umount_bucket "$mnt" || return 1
	until_true bash -c "! mountpoint -q '$mnt' && ! fuser -s '$disk/lock' 2>/dev/null"
	until_true mount_bucket "$url" "$mnt" -o "$options" 2>/dev/null
}

mkdir -p "$WORK/a"
head -c 6000000 /dev/urandom >"$WORK/a/f"
head -c 3000000 /dev/urandom >"$WORK/a/g"
head -c 250000000 /dev/urandom >"$WORK/big"
upload "$WORK/a/f" a/f && upload "$WORK/a/g" a/g && upload "$WORK/big" big ||
	{ not_ok pins "cannot upload"; exit; }
vectool gen --rows 2000 --dim 256 --seed 3 "$WORK/base.npy" -q &&
	vectool put "$url/v" "$WORK/base.npy" -q >/dev/null || { not_ok pins "cannot put"; exit; }
options=ram=2M,disk=$disk:24M,name_ttl_ms=100,allow_other,rewarm=0
check "mount" mount_bucket "$url" "$mnt" -o "$options"

# ---- warming
check "warm a file" vectool warm "$mnt/a/f"
sim reset >/dev/null
check "the bytes are right" cmp "$WORK/a/f" "$mnt/a/f"
check "warm, then not one GET" [ "$(gets)" = 0 ]
check "progress is told" [ "$(xattr "$mnt/a/f" warm)" = "6000000 of 6000000" ]
check "where it is, is told" bash -c "[[ '$(xattr "$mnt/a/f" cached)' == 'ram '*' disk 6000000 of 6000000 pinned 0' ]]"
check "of a folder it is the sum" bash -c "[[ '$(xattr "$mnt/a" cached)' == *' disk 6000000 of 9000000 pinned 0' ]]"
check "evict drops it" bash -c "vectool evict '$mnt/a' && [ '$(vectool evict "$mnt/a"; xattr "$mnt/a" cached)' = 'ram 0 disk 0 of 9000000 pinned 0' ]"
sim reset >/dev/null
cat "$mnt/a/f" >/dev/null
check "and the page cache's copy too" [ "$(gets)" -gt 0 ]
vectool evict "$mnt/a"
check "warm a range, at a rate" vectool warm "$mnt/a/f" --range 1000000-2000000 --rate 200
check "only the range" bash -c "d=\$(/usr/bin/python3 -c \"import os; print(os.getxattr('$mnt/a/f', 'user.vecfs.cached').decode())\" | cut -d' ' -f4); [ \$d -ge 1000000 ] && [ \$d -le 1200000 ]"
check "a folder, several at a time" vectool warm "$mnt/a" "$mnt/v" -j 2
check "not waited for" vectool warm "$mnt/a/g" --no-wait
fails "more than the disk tier" "too large: it has 238.4 MiB, the cache holds 24.0 MiB" vectool warm "$mnt/big"
check "silence in a pipe" [ ! -s "$WORK/out" ]

# ---- a pinned range under 10 times the cache
check "pin a range" vectool pin "$mnt/big" --range 1000000-5000000
check "the range is told" [ "$(xattr "$mnt/big" pin)" = "1000000-5000000" ]
check "10 times the cache goes by" cmp "$WORK/big" "$mnt/big"
check "the pinned range: not one GET" no_gets big big 1000000 5000000
check "the rest is not kept" bash -c "vectool evict '$mnt/big'; [ '$(vectool evict "$mnt/big"; xattr "$mnt/big" cached | cut -d' ' -f4)' -le 4200000 ]"
check "evicting leaves pins" bash -c "[ '$(xattr "$mnt/big" cached | cut -d' ' -f4)' -ge 4000000 ]"
check "restart" remount
check "after a restart: not one GET" no_gets big big 1000000 5000000
check "still pinned" [ "$(xattr "$mnt/big" pin)" = "1000000-5000000" ]
check "10 times again" cmp "$WORK/big" "$mnt/big"
check "and still not one GET" no_gets big big 1000000 5000000

# ---- unpin
check "unpin a part" vectool unpin "$mnt/big" --range 2000000-3000000
check "two ranges are left" [ "$(xattr "$mnt/big" pin | tr , '\n' | sort | tr '\n' ' ')" = "1000000-2000000 3000000-5000000 " ]
check "of which nothing is lost" no_gets big big 3000000 5000000
check "unpin the rest" vectool unpin "$mnt/big"
check "nothing is pinned" jq -e '.disk.pinned_bytes == 0 and .pins.paths == 0' "$mnt/.vecfs/status.json"
fails "unpin what is not" "not pinned by this path" vectool unpin "$mnt/big"
check "it can go now" bash -c "vectool evict '$mnt/big'; [ '$(vectool evict "$mnt/big"; xattr "$mnt/big" cached)' = 'ram 0 disk 0 of 250000000 pinned 0' ]"
check "unpinned after a restart too" bash -c "$(declare -f remount until_true mount_bucket umount_bucket xattr no_xattr)
	mnt=$mnt disk=$disk url=$url options=$options MOUNTS=(); remount && no_xattr '$mnt/big' pin && jq -e '.disk.pinned_bytes == 0' '$mnt/.vecfs/status.json'"

# ---- limits and refusals
fails "more than may be pinned" "too large: it has 238.4 MiB, and 0 B of at most 18.0 MiB" vectool pin "$mnt/big"
check "nothing of it is pinned" bash -c "jq -e '.disk.pinned_bytes == 0 and .pins.paths == 0' '$mnt/.vecfs/status.json'"
fails "a range of a folder" "ranges are of files" vectool pin "$mnt/a" --range 0-10
fails "a range beyond the end" "no such range" vectool pin "$mnt/a/f" --range 7000000-8000000
fails "a range that is none" "is not A-B" vectool pin "$mnt/a/f" --range 9-5
fails "a made-up file" "made up" vectool pin "$mnt/.vecfs/metrics"
fails "a path that is not in a mount" "not in a mount" vectool pin "$WORK/big"
fails "a path that is not" "No such file" vectool warm "$mnt/none"
fails "no other attribute can be set" "Read-only" /usr/bin/python3 -c \
	"import os, sys; sys.tracebacklimit = 0; os.setxattr('$mnt/a/f', 'user.other', b'1')"
check "values that are none are refused" none_taken
other=(setpriv --reuid 65534 --regid 65534 --clear-groups)
if [ "$(id -u)" = 0 ] && chmod 755 "$WORK" && "${other[@]}" test -r "$mnt/a/f" 2>/dev/null; then
	for verb in pin unpin warm evict; do
		fails "another user: $verb" "only the user who mounted" "${other[@]}" "$BIN/vectool" $verb "$mnt/a/f"
	done
	check "another user may look" "${other[@]}" "$BIN/vectool" stat "$mnt/a/f"
else
	skip "other users" "cannot become another user here"
fi

# ---- folders, and indexes, which follow their commits
check "pin a folder" vectool pin "$mnt/a"
check "files below it are pinned" [ "$(xattr "$mnt/a/g" pin)" = 1 ]
head -c 2000000 /dev/urandom >"$WORK/a/g2"
upload "$WORK/a/g2" a/g
until_true bash -c "[ \$(stat -c %s '$mnt/a/g') = 2000000 ]"
check "a replaced file: the new one is pinned" until_true all_on_disk "$mnt/a"
check "not one GET for it" no_gets a/g a/g2 0 2000000
check "unpin the folder" vectool unpin "$mnt/a"
check "pin an index" vectool pin "$mnt/v"
check "all of it is there" all_on_disk "$mnt/v"
before=$(jq .disk.pinned_bytes "$mnt/.vecfs/status.json")
vectool put "$url/v" "$WORK/base.npy" -q >/dev/null
follows() { [ -e "$mnt/v/live/001.npy" ] && [ "$(jq .disk.pinned_bytes "$mnt/.vecfs/status.json")" -gt $((before * 3 / 2)) ] && all_on_disk "$mnt/v"; }
check "a new commit is followed" until_true follows
cat "$mnt/v/live/001.npy" "$mnt/v/live/001.jsonl" | sha256sum >"$WORK/sum"
vectool evict "$mnt/v"
sim reset >/dev/null
check "its shard is read" bash -c "cat '$mnt/v/live/001.npy' '$mnt/v/live/001.jsonl' | sha256sum | cmp - '$WORK/sum'"
check "without a GET" [ "$(gets)" = 0 ]
check "a range of a decompressed file" bash -c "vectool unpin '$mnt/v' && vectool pin '$mnt/v/live/000.jsonl' --range 0-1000"
check "live/ can be pinned" bash -c "vectool pin '$mnt/v/live' && vectool unpin '$mnt/v/live' && vectool unpin '$mnt/v/live/000.jsonl'"

# ---- what the tools show
check "stat of a file" bash -c "vectool warm '$mnt/a/f' && vectool stat '$mnt/a/f' | grep -q '^on disk    5.7 MiB of 5.7 MiB (100%)'"
check "stat of a file as JSON" bash -c "vectool stat --json '$mnt/a/f' | jq -e '.disk == 6000000'"
check "stat of an index has both" bash -c "vectool stat '$mnt/v' | grep -q '^rows  *4000' && vectool stat '$mnt/v' | grep -q '^pinned '"
check "top, a line a time in a pipe" bash -c "[ \$(vectool top '$mnt' -n 2 --interval 0.1 | grep -c 'GET/s') = 2 ]"
check "the hottest files are told" jq -e '.hot | length >= 1 and .[0].reads >= .[-1].reads' "$mnt/.vecfs/status.json"
check "copies carry no attribute" bash -c "vectool pin '$mnt/a/f' && cp --preserve=all '$mnt/a/f' '$WORK/copy' && [ -z \"\$(/usr/bin/python3 -c \"import os; [print(a) for a in os.listxattr('$WORK/copy') if 'vecfs' in a]\")\" ]"

# ---- unmounting while the bucket says nothing
check "pin a range to look at again" vectool pin "$mnt/a/g" --range 0-1000000
umount_bucket "$mnt"
gone() { ! mountpoint -q "$mnt" && ! fuser -s "$disk/lock" 2>/dev/null; }
until_true gone
mount_bucket "$url" "$mnt" -o "$options,name_ttl_ms=600000,timeout_ms=600000"
check "known before the bucket goes silent" [ "$(xattr "$mnt/a/g" pin)" = 0-1000000 ]
kill -STOP "$SIM_PID"
check "a look at the path begins" vectool unpin "$mnt/a/g" --range 0-500000
sleep 0.2
umount_bucket "$mnt"
check "unmounting does not wait for it" until_true gone
kill -CONT "$SIM_PID"
mount_bucket "$url" "$mnt" -o "$options"
check "the part is still pinned" [ "$(xattr "$mnt/a/g" pin)" = 500000-1000000 ]
vectool unpin "$mnt/a/g"

# ---- pins that come and go under those who look up names
umount_bucket "$mnt"
until_true bash -c "! mountpoint -q '$mnt' && ! fuser -s '$disk/lock' 2>/dev/null"
mount_bucket "$url" "$mnt" -o "$options,name_ttl_ms=0"
cat >"$WORK/come_and_go.py" <<'PY'
import os, signal, sys
pinned, other = sys.argv[1:]
looker = os.fork()
while not looker:
    os.stat(other)
    try:
        os.getxattr(other, "user.vecfs.pin")
    except OSError:
        pass
try:
    for i in range(200):
        os.setxattr(pinned, "user.vecfs.pin", b"1")
        os.setxattr(pinned, "user.vecfs.pin", b"0")
finally:
    os.kill(looker, signal.SIGKILL)
    os.wait()
PY
check "200 pins come and go while another name is looked up" \
	/usr/bin/python3 "$WORK/come_and_go.py" "$mnt/a/g" "$mnt/a/f"

# ---- the list of pins, damaged
umount_bucket "$mnt"
until_true bash -c "! mountpoint -q '$mnt' && ! fuser -s '$disk/lock' 2>/dev/null"
sed -i '1s/$/x/' "$disk/pins" && echo '{"path":"a/g"}' >>"$disk/pins"
check "a damaged list: the mount comes" until_true mount_bucket "$url" "$mnt" -o "$options" 2>/dev/null
check "what is damaged is no pin" no_xattr "$mnt/a/f" pin
umount_bucket "$mnt"

# ---- without a disk tier
until_true bash -c "! mountpoint -q '$mnt'"
vecfs "$url" "$mnt" -f -o ram=16M 2>"$WORK/log" &
vecfs_pid=$!
check "mount without a disk tier" until_true test -e "$mnt/.vecfs/status.json"
fails "no pins there" "no disk tier; mount with -o disk=" vectool pin "$mnt/a/f"
check "warming fills the RAM" vectool warm "$mnt/a/f"
sim reset >/dev/null
check "its bytes" cmp "$WORK/a/f" "$mnt/a/f"
check "not one GET either" [ "$(gets)" = 0 ]

# ---- the log
check "the log's level is told" [ "$(xattr "$mnt" log)" = warn ]
check "nothing is said of what goes well" bash -c "! grep -q warmed '$WORK/log'"
check "it can be raised" set_xattr "$mnt" log debug
vectool evict "$mnt/a/f" && cat "$mnt/a/f" >/dev/null
check "requests are logged" grep -q "a/f.*: 206, [0-9]* bytes, 1 attempts, [0-9]* us" "$WORK/log"
check "without what they are signed with" bash -c "! grep -qiE 'signature|$AWS_SECRET_ACCESS_KEY' '$WORK/log'"
check "and lowered" set_xattr "$mnt" log info
vectool warm "$mnt/a/g"
check "a warm-up is logged" until_true grep -q "a/g: warmed: 2000000 of 2000000 bytes" "$WORK/log"
check "a level that is none is refused" refused "$mnt" log loud
check "of a file there is none" refused "$mnt/a/f" log debug
check "unmount" umount_bucket "$mnt"
wait "$vecfs_pid"
