#!/bin/bash
# vectool verify: each object gone, cut short, or with one byte flipped is named;
# nothing is found where nothing is wrong, and the sum outlives compaction.
. "$(dirname "$0")/e2e_lib.bash"
cd "$WORK" || exit 1
b=$WORK/b
mkdir "$b"
sum() { vectool verify "$1" --deep | grep -oE 'sum [0-9a-f]{16}: all is well'; }

vectool gen --rows 1500 --dim 16 --seed 1 -q base.npy
vectool gen --rows 3 --dim 16 --seed 2 -q few.npy
vectool put "$b/i" base.npy --leaves 8 --shard-rows 800 -q
vectool put "$b/i" few.npy -q
vectool delete "$b/i" 7 1400 -q
echo '{"key": "a", "text": "some words"}' >texts
vectool import "$b/t" --texts texts --embed hash:64 -q
check "nothing is wrong" vectool verify "$b/i"
check "nor inside" vectool verify "$b/i" --deep
check "nor where texts were embedded" vectool verify "$b/t" --deep
before=$(sum "$b/i")
cp -r "$b" kept
vectool compact "$b/i" -q
is "compaction keeps the sum" "$(sum "$b/i")" "$before"
vectool delete "$b/i" 8 -q
[ "$(sum "$b/i")" != "$before" ] && ok "a deletion does not" || not_ok "a deletion does not" "$before"
rm -rf "$b"
mv kept "$b"

cat >damage.py <<'PY'
import os, random, subprocess, sys
bucket, index = sys.argv[1:3]
random.seed(5)
env = dict(os.environ)
def verify(*opts):
    p = subprocess.run(["vectool", "verify", bucket + "/" + index, "-q", *opts], capture_output=True, text=True)
    return p.returncode, p.stdout + p.stderr
names = [os.path.join(d, f) for d, _, fs in os.walk(os.path.join(bucket, index)) for f in fs]
assert len(names) >= (10 if index == "i" else 5), names
tries = bad = 0
for path in sorted(names):
    key = os.path.relpath(path, bucket)
    whole = open(path, "rb").read()
    n = len(whole)
    places = {0, n // 2, n - 1} | {random.randrange(n) for _ in range(4)}
    cases = [("gone", None), ("cut", whole[:-1])] + [
        ("flipped at %d" % at, whole[:at] + bytes([whole[at] ^ 1 << random.randrange(8)]) + whole[at + 1:]) for at in places]
    newest = "/log/" in key and key == max(k for k in (os.path.relpath(x, bucket) for x in names) if "/log/" in k)
    for what, data in cases:
        if newest and what == "gone":
            continue # then an older version is the newest, and whole
        os.rename(path, "saved")
        if data is not None:
            open(path, "wb").write(data)
        rc, out = verify("--deep")
        if data is not None:
            os.remove(path)
        os.rename("saved", path)
        tries += 1
        if rc != 1 or key not in out:
            bad += 1
            print(key, what, rc, out)
print(tries, "cases,", bad, "not named")
sys.exit(bad > 0 or verify("--deep")[0])
PY
check "all that can happen to an object is named" /usr/bin/python3 damage.py "$b" i
check "also to what was learned of texts" /usr/bin/python3 damage.py "$b" t
mkdir away
mv "$b"/i/log/*2 "$b"/i/log/*3 away
cp away/*2 "$b/i/log/09000000000000000000"
timeout 60 vectool verify "$b/i" -q >out 2>err
is "records that are gone are one finding, however many" "$? $(grep -c 'not there, nor' out)" "1 1"
rm "$b/i/log/09000000000000000000"
mv away/* "$b/i/log"
vectors=$(ls "$b"/i/shard/*/vectors.npy | head -1)
printf 'vfvf' | dd of="$vectors" bs=1 seek=5000 conv=notrunc status=none
check "vectors are read with --deep only" vectool verify "$b/i"
vectool verify "$b/i" --deep >out 2>err
is "exit status" $? 1
is "one line per finding" "$(head -1 out)" "${vectors#"$b"/}: damaged: its checksum is wrong"
mv "$b/_vecfs/indexes/i" saved
fails "an identity that is gone is named" '_vecfs/indexes/i is gone' vectool verify "$b/i"
echo '{' >"$b/_vecfs/indexes/i"
fails "one that is damaged, too" '_vecfs/indexes/i' vectool verify "$b/i" -q
mv saved "$b/_vecfs/indexes/i"
vectool get "$b/t" a >/dev/null
for f in "$XDG_CACHE_HOME"/vecfs/catalog-*/data.mdb; do
	head -c 4096 /dev/urandom | dd of="$f" bs=1 seek=8192 conv=notrunc status=none
done
check "a catalog is made again" vectool verify "$b/t" --deep --repair
check "and is right then" vectool verify "$b/t" --deep

# ---- repair: codes and tree are made again of what is whole
vectool put "$b/r" base.npy --leaves 8 --shard-rows 800 --bits 4 -q
vectool delete "$b/r" 7 1400 -q
vectool put "$b/r" few.npy -q
before=$(sum "$b/r")
vecquery "$b/r" --npy few.npy --exact --format jsonl | jq -c '[.hits[] | [.key, .distance]]' >before.jsonl
rm -rf kept
cp -r "$b/r" kept
repaired() { # NAME PATTERN: what was said, and that nothing else is different
	vectool verify "$b/r" --repair >out 2>err
	is "$1" $? 0
	grep -qE "$2" out && ok "$1: said" || not_ok "$1: said" "$(cat out err)"
	is "$1: all rows" "$(sum "$b/r")" "$before"
	is "$1: 4 bits" "$(vecquery "$b/r" --npy few.npy --format jsonl | jq -c '.cost.refined > 0' | uniq)" true
	vecquery "$b/r" --npy few.npy --exact --format jsonl | jq -c '[.hits[] | [.key, .distance]]' >after.jsonl
	check "$1: the same answers" cmp before.jsonl after.jsonl
	rm -rf "$b/r"
	cp -r kept "$b/r"
}
codes=("$b"/r/shard/*/codes.vix)
printf 'vfvf' | dd of="${codes[0]}" bs=1 seek=3000 conv=notrunc status=none
repaired "a byte of codes" '^1 shard written again as 1: version 4$'
rm "${codes[1]}"
repaired "codes that are gone" '^1 shard written again as 1: version 4$'
for c in "${codes[@]}"; do truncate -s 100 "$c"; done
vectool verify "$b/r" --repair -q >out 2>err
is "codes of all shards" "$? $(sum "$b/r")" "0 $before"
rm -rf "$b/r"
cp -r kept "$b/r"
rm "$b"/r/tree/*
repaired "a tree that is gone" '^a new tree; [23] shards written again as'
rm "$b"/r/tree/* "${codes[0]}"
repaired "the tree, and codes" '^a new tree; [23] shards written again as'
rm "${codes[0]}"
printf 'vfvf' | dd of="$(dirname "${codes[0]}")/vectors.npy" bs=1 seek=4096 conv=notrunc status=none
find "$b/r" -type f | sort >files
fails "not when vectors are damaged: unseen" 'vectors.npy: damaged' vectool verify "$b/r" --repair
vectool verify "$b/r" --deep --repair >out 2>err
is "nor when they were read" "$? $(grep -c '^2 findings cannot be repaired: put those rows again' out)" "1 1"
is "and nothing is written" "$(find "$b/r" -type f | sort | diff files - | wc -l)" 0

# ---- a mount, and a copy of what it shows: records.jsonl.zst is listed as records.jsonl
rm -rf "$b/r"
mv kept "$b/r"
vectool put "$b/z" base.npy --compress -q
if have_fuse; then
	check "mount" mount_bucket "file://$b" "$WORK/mnt"
	for index in r t z; do
		is "a mount is as the bucket: $index" "$(vectool verify "mnt/$index" --deep | cut -d: -f2-)" \
			"$(vectool verify "$b/$index" --deep | cut -d: -f2-)"
	done
	fails "it is not repaired by way of a mount" "vectool verify --repair file://$b/r" vectool verify mnt/r --repair
	codes=$(cd "$b" && ls r/shard/*/codes.vix | head -1)
	mv "$b/$codes" saved
	umount_bucket "$WORK/mnt"
	check "mount again" mount_bucket "file://$b" "$WORK/mnt"
	vectool verify mnt/r >out 2>err
	is "what is gone is gone in a mount" "$? $(head -1 out)" "1 $codes: is not there"
	umount_bucket "$WORK/mnt"
	mv saved "$b/$codes"
	check "mount once more" mount_bucket "file://$b" "$WORK/mnt"
	cp -r "$WORK/mnt" kept
	umount_bucket "$WORK/mnt"
	chmod -R u+w kept
else
	skip "a mount is as the bucket" "no FUSE here"
	cp -r "$b" kept
	find kept -name '*.zst' -exec zstd -dq --rm {} +
fi
for index in r t z; do
	is "a copy has the same rows: $index" "$(sum "kept/$index")" "$(sum "$b/$index")"
done
codes=$(ls kept/r/shard/*/codes.vix | head -1)
truncate -s 100 "$codes"
vectool verify kept/r --repair >out 2>err
is "what only codes vouch for is not repaired without them" "$? $(grep -c 'has its checksums in codes.vix alone' out) $(grep -c 'cannot be repaired' out)" "1 1 1"
