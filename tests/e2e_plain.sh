#!/bin/bash
# What a mount shows is plain: NumPy, zstd, jq and cp read it, and all roads give
# the same bytes and the same answers.
. "$(dirname "$0")/e2e_lib.bash"

have_fuse || { skip plain "no FUSE here"; exit; }
src=$WORK/bucket mnt=$WORK/mnt
mkdir "$src"
vectool gen --rows 3000 --dim 100 --seed 3 --queries 5 --queries-out "$WORK/q.npy" \
	"$WORK/base.npy" -q || { not_ok plain "gen failed"; exit; }
for i in $(seq 0 2999); do echo "key é \"$i\""; done >"$WORK/keys"
for i in $(seq 0 2999); do echo "{\"n\":$i,\"tags\":[\"a\",\"b$((i % 7))\"]}"; done >"$WORK/meta"
check "put with keys, metadata and three shards" vectool put "file://$src/a" "$WORK/base.npy" \
	--keys "$WORK/keys" --metadata "$WORK/meta" --shard-rows 1200 -q
check "put compressed" vectool put "file://$src/z" "$WORK/base.npy" --compress -q
check "put as halves" vectool put "file://$src/h" "$WORK/base.npy" --dtype f16 -q
echo "somebody else's" >"$src/other.txt"
printf 'other' | zstd -q -o "$src/other.zst"
check "mount" mount_bucket "file://$src" "$mnt"

cat >"$WORK/same.py" <<'PY'
import glob, json, sys
import numpy as np
base, mnt, keys = np.load(sys.argv[1]), sys.argv[2], open(sys.argv[3]).read().split("\n")
for index, want in (("a", base), ("z", base), ("h", base.astype("f2"))):
    parts = [np.load(p, mmap_mode="r") for p in sorted(glob.glob(f"{mnt}/{index}/live/[0-9][0-9][0-9].npy"))]
    alive = [np.load(p) for p in sorted(glob.glob(f"{mnt}/{index}/live/*.alive.npy"))]
    assert [len(a) for a in alive] == [len(p) for p in parts] and all(a.all() and a.dtype == bool for a in alive)
    assert len(parts) == (3 if index == "a" else 1), (index, len(parts))
    assert np.array_equal(np.concatenate(parts), want), index
    lines = [json.loads(l) for p in sorted(glob.glob(f"{mnt}/{index}/live/*.jsonl")) for l in open(p)]
    have = [l["key"] for l in lines]
    assert have == (keys[:3000] if index == "a" else [str(i) for i in range(3000)]), index
    if index == "a":
        assert lines[17]["metadata"] == {"n": 17, "tags": ["a", "b3"]}
PY
check "numpy.load of live/ gives what was put" /usr/bin/python3 "$WORK/same.py" \
	"$WORK/base.npy" "$mnt" "$WORK/keys"
check "jq reads the records" jq -es 'length == 3000' "$mnt"/a/live/*.jsonl

same_as_zstd() {
	local f n=0
	while read -r f; do
		zstd -dqc "$src/$f" | cmp - "$mnt/${f%.zst}" || return 1
		n=$((n + 1))
	done < <(cd "$src" && find a z h -name '*.zst')
	[ $n -ge 6 ]
}
check "zstd -d of the stored objects gives what the mount shows" same_as_zstd
check "other people's files are shown as they are" cmp "$src/other.txt" "$mnt/other.txt"
check "other people's .zst are shown as they are" cmp "$src/other.zst" "$mnt/other.zst"
check "cp -r of the whole mount" cp -r "$mnt" "$WORK/copy"
check "the copy equals the mount" diff -r --exclude=.vecfs "$mnt" "$WORK/copy"

answers() { # the hits alone: costs differ
	vecquery "$1" --npy "$WORK/q.npy" -k 10 --format jsonl "${@:2}" | jq -c '[.query, .version, .hits]'
}
for index in a z h; do
	for way in "" --exact; do
		answers "$mnt/$index" $way >"$WORK/1"
		answers "$WORK/copy/$index" $way >"$WORK/2"
		answers "$src/$index" $way >"$WORK/3"
		[ "$(wc -l <"$WORK/1")" = 5 ] && cmp -s "$WORK/1" "$WORK/2" && cmp -s "$WORK/1" "$WORK/3" &&
			ok "mount, copy and bucket answer alike: $index $way" ||
			not_ok "mount, copy and bucket answer alike: $index $way" "they differ"
	done
done
check "unmount" umount_bucket "$mnt"
