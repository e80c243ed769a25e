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
vectors=$(ls "$b"/i/shard/*/vectors.npy | head -1)
printf 'x' | dd of="$vectors" bs=1 seek=5000 conv=notrunc status=none
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
