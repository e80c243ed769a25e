#!/bin/bash
# How a mount comes, behaves and goes: in the background and the foreground, with
# writers, replaced objects, odd names, a cache that is too small, a lost bucket.
. "$(dirname "$0")/e2e_lib.bash"

have_fuse || { skip mount "no FUSE here"; exit; }
src=$WORK/bucket mnt=$WORK/mnt
mkdir "$src" "$mnt" "$src/.vecfs"
vectool gen --rows 4000 --dim 256 --seed 6 --queries 4 --queries-out "$WORK/q.npy" \
	"$WORK/base.npy" -q && vectool put "file://$src/p" "$WORK/base.npy" -q ||
	{ not_ok mount "cannot put"; exit; }
echo one >"$src/file"
echo hidden >"$src/.vecfs/hidden"
mkdir -p "$src/a/b" && echo deep >"$src/a/b/c"
head -c 3000000 /dev/urandom >"$src/big"
: >"$src/empty"

# ---- what it refuses, before anything is mounted
fails "a bucket that is not there" "no such directory" vecfs "file://$WORK/none" "$mnt"
fails "a URL of another kind" "not a bucket" vecfs "http://x/y" "$mnt"
fails "a mount point that is not there" "No such file" vecfs "file://$src" "$WORK/none"
fails "a mount point that is a file" "not a directory" vecfs "file://$src" "$src/file"
fails "a mount point inside the bucket" "hold one another" vecfs "file://$src" "$src/a"
fails "a bucket inside the mount point" "hold one another" vecfs "file://$src" "$WORK"
fails "a size that is none" "ram=lots" vecfs "file://$src" "$mnt" -o ram=lots
fails "an unknown option" "frobnicate" vecfs "file://$src" "$mnt" -o frobnicate
fails "certificates that are not there" "ca_file=none.pem: No such file" \
	vecfs "file://$src" "$mnt" -o ca_file=none.pem
fails "no mount point" "mount point is missing" vecfs "file://$src"
fails "an operand too many" "too many" vecfs "file://$src" "$mnt" more
check "--help" vecfs --help
check "nothing was mounted" bash -c "! mountpoint -q '$mnt'"

# ---- the background
check "mount in the background" mount_bucket "file://$src" "$mnt" \
	-o ram=1M,name_ttl_ms=100,passthrough=off
fails "a second mount at the same place" "mounted there already" vecfs "file://$src" "$mnt"
check "the mount is nosuid, nodev, and named" bash -c \
	"grep ' $mnt ' /proc/mounts | grep 'fuse.vecfs' | grep 'nosuid' | grep 'nodev' | grep -q '^file://$src '"
for how in "touch $mnt/new" "mkdir $mnt/new" "rm -f $mnt/file" "mv $mnt/file $mnt/other" \
	"ln -s x $mnt/new" "ln $mnt/file $mnt/new" "chmod 777 $mnt/file" "truncate -s 0 $mnt/file" \
	"rmdir $mnt/a/b"; do
	fails "refused: ${how%% *}" "Read-only file system" $how
done
check "a real .vecfs is hidden and counted" bash -c \
	"! ls '$mnt/.vecfs/hidden' 2>/dev/null && ls -a '$mnt' >/dev/null && jq -e '.hidden_names >= 1' '$mnt/.vecfs/status.json'"
check "metrics are Prometheus text" bash -c \
	"grep -Eq '^vecfs_reads_total [0-9]+\$' '$mnt/.vecfs/metrics' && ! grep -Evq '^(# (HELP|TYPE) vecfs_|vecfs_[a-z_]+(\\{le=\"[^\"]*\"\\})? [0-9]+\$)' '$mnt/.vecfs/metrics'"
check "an empty file" cmp "$src/empty" "$mnt/empty"
check "ls -la" bash -c "[ \$(ls -la '$mnt/p' | wc -l) = 6 ] && ls -laR '$mnt'"
check "a folder read from its beginning again shows what is new" /usr/bin/python3 -c "
import os
f = os.open('$mnt/a', os.O_RDONLY)
assert os.listdir(f) == ['b'] # rewinds when done
open('$src/a/new', 'w').close()
assert sorted(os.listdir(f)) == ['b', 'new']
os.remove('$src/a/new')"
echo "not ours" >"$src/p/live"
check "an object of a name that is ours is not shown beside it" bash -c \
	"[ \$(ls '$mnt/p' | grep -cx live) = 1 ] && [ -e '$mnt/p/live/000.npy' ]"
rm "$src/p/live"
xattr() { /usr/bin/python3 -c "import os, sys; print(os.getxattr(sys.argv[1], sys.argv[2]).decode())" "$@"; }
check "the index tells its head" bash -c "[ \"$(xattr "$mnt/p" user.vecfs.head | cut -d' ' -f1)\" = 1 ]"
check "a file tells its URL" [ "$(xattr "$mnt/a/b/c" user.vecfs.url)" = "file://$src/a/b/c" ]
check "attributes are not listed" /usr/bin/python3 -c "import os, sys; sys.exit(len(os.listxattr('$mnt/file')))"

# ---- a cache much smaller than what is read, many readers
many() {
	local i pids=()
	for i in 1 2 3 4 5 6; do
		cmp "$src/big" "$mnt/big" & pids+=($!)
		vecquery "$mnt/p" --npy "$WORK/q.npy" --exact >"$WORK/many$i" & pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || return 1; done
	for i in 2 3 4 5 6; do
		cmp <(jq -c .hits "$WORK/many1") <(jq -c .hits "$WORK/many$i") || return 1
	done
}
check "many readers over a cache of 1 MiB" many
check "its limit holds" jq -e '.cache.used_bytes <= 1048576 and .cache.evictions > 0' "$mnt/.vecfs/status.json"

# ---- objects replaced under open files
cat >"$WORK/replace.py" <<'PY'
import os, sys, time
src, mnt = sys.argv[1:3]
path = mnt + "/big"
old = open(src + "/big", "rb").read()
f = os.open(path, os.O_RDONLY)
assert os.pread(f, 4096, 0) == old[:4096]
new = os.urandom(len(old))
open(src + "/big.tmp", "wb").write(new)
os.rename(src + "/big.tmp", src + "/big")
time.sleep(0.3)
for off in range(0, len(old), 65536):  # one version, or an error: never a mixture
    try:
        got = os.pread(f, 65536, off)  # the kernel cuts it at a page that fails
        assert got and got == old[off:off + len(got)], (off, len(got))
    except OSError as e:
        assert e.errno in (116, 5), e
assert open(path, "rb").read() == new
PY
check "an open file is one version, a new open the new one" /usr/bin/python3 "$WORK/replace.py" "$src" "$mnt"
echo two, longer >"$src/.new" && mv "$src/.new" "$src/file"
sleep 0.3
check "a replaced file shows its new bytes" cmp "$src/file" "$mnt/file"
vectool put "file://$src/p" "$WORK/base.npy" -q >/dev/null
sleep 0.3
check "a new commit shows in live/" [ -e "$mnt/p/live/001.npy" ]

# ---- a bucket that goes away
cp -r "$src" "$src.kept"
cat "$mnt/a/b/c" >/dev/null
rm -rf "${src:?}"/*
fails "reading what is gone fails" "No such file|Stale|Input/output" cat "$mnt/p/log/00000000000000000001"
check "the rest of the mount still answers" jq -e . "$mnt/.vecfs/status.json"
cp -r "$src.kept"/* "$src"
check "unmount" umount_bucket "$mnt"
check "nothing is left" is_gone "$mnt"

# ---- the foreground, signals, a daemon that dies
vecfs "file://$src" "$mnt" -f & pid=$!
check "the foreground mounts too" timeout 10 bash -c "until mountpoint -q '$mnt'; do sleep 0.05; done"
kill -TERM $pid
wait $pid && ok "SIGTERM ends it with status 0" || not_ok "SIGTERM ends it with status 0" "$?"
check "and unmounts" bash -c "! mountpoint -q '$mnt'"
vecfs "file://$src" "$mnt" -f & pid=$!
timeout 10 bash -c "until mountpoint -q '$mnt'; do sleep 0.05; done"
kill -KILL $pid
wait $pid 2>/dev/null
fails "a stale mount point is explained" "fusermount3 -u $mnt" vecfs "file://$src" "$mnt"
fusermount3 -u "$mnt"
check "and mounts after the advice was followed" mount_bucket "file://$src" "$mnt"
check "unmount again" umount_bucket "$mnt"
