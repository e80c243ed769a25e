#!/bin/bash
# What put, import, create, ls, stat and gen do, and that whatever is refused is
# refused in one line and leaves the bucket as it was.
. "$(dirname "$0")/e2e_lib.bash"

src=$WORK/bucket
mkdir "$src"
cd "$WORK" || exit 1
vectool gen --rows 1000 --dim 32 --seed 1 --queries 7 -q base.npy || { not_ok put "gen failed"; exit; }

cat >make.py <<'PY'
import json, numpy as np
b = np.load("base.npy")
np.save("f16.npy", b.astype("f2"))
np.save("u8.npy", (np.abs(b) * 255).astype("u1"))
np.save("fortran.npy", np.asfortranarray(b))
np.save("big.npy", b.astype(">f4"))
np.save("f64.npy", b.astype("f8"))
np.save("cube.npy", b.reshape(10, 100, 32))
np.save("empty.npy", b[:0])
np.save("wide.npy", np.zeros((2, 5000), "f4"))
np.save("other_dim.npy", b[:, :16].copy())
open("cut.npy", "wb").write(open("base.npy", "rb").read()[:-1])
open("head.npy", "wb").write(open("base.npy", "rb").read()[:20])
open("junk.npy", "wb").write(b"hello" * 100)
for name, row, value in (("nan", 777, np.nan), ("inf", 3, -np.inf), ("huge", 999, 1e30), ("large", 12, 70000.0)):
    c = b.copy(); c[row, 5] = value; np.save(name + ".npy", c)
c = b.copy(); c[998] = 0; np.save("zero.npy", c)
c = b.copy(); c[5] = 1e-9; np.save("tiny.npy", c)
two = b.copy(); two[900, 1] = np.nan; two[20, 1] = np.nan; np.save("nan2.npy", two)
keys = [f"k\u00e9y {i} \"q\" \\ \t" for i in range(1000)]
def lines(name, l): open(name, "w", newline="\n").write("".join(x + "\n" for x in l))
lines("keys", keys)
open("keys_no_newline", "w").write("\n".join(keys))
lines("keys_twice", keys[:999] + [keys[4]])
lines("keys_empty", keys[:10] + [""] + keys[11:])
lines("keys_long", keys[:10] + ["x" * 1025] + keys[11:])
lines("keys_1024", keys[:10] + ["x" * 1024] + keys[11:])
lines("keys_few", keys[:999]); lines("keys_many", keys + ["more"])
open("keys_latin", "wb").write("".join(f"{i}\u00e9\n" for i in range(1000)).encode("latin-1"))
open("keys_nul", "wb").write(b"".join(b"%d\0\n" % i for i in range(1000)))
def windows(name, l): open(name, "wb").write(b"\xef\xbb\xbf" + "".join(x + "\r\n" for x in l).encode())
windows("keys_windows", keys[:1] + ["y" * 1024] + keys[2:])
open("return.jsonl", "w").write('{"key": "a\\r", "vector": [1, 2]}\n')
windows("meta_windows", ['{"n": %d}' % i for i in range(1000)])
lines("keys_new", [f"new {i}" for i in range(999)] + [keys[500]])
good = [json.dumps({"n": i, "tags": ["a", i, True], "s": "\u00fc\u0001", "f": 0.1}) for i in range(1000)]
def meta(name, i, text): lines(name, good[:i] + [text] + good[i + 1:])
lines("meta", good)
meta("meta_null", 7, '{"a": null}'); meta("meta_nested", 8, '{"a": {"b": 1}}')
meta("meta_list", 9, '{"a": [[1]]}'); meta("meta_number", 10, '17'); meta("meta_broken", 11, '{"a": 1')
meta("meta_twice", 12, '{"a": 1, "a": 2}'); meta("meta_large", 13, json.dumps({"a": "x" * 41000}))
meta("meta_latin", 14, '{"a": "x"}'); meta("meta_null_in_list", 15, '{"a": [null]}')
lines("meta_few", good[:500]); lines("meta_many", good + good[:1])
lines("meta_exact", ['{ "big" : 123456789012345678901234567890 , "tenth":0.1,"e" : 1e300,"text":"a : , b" }'] + good[1:])
lines("texts", [json.dumps({"key": f"t{i}", "text": f"word{i % 50} and more words number {i}", "metadata": {"n": i}}) for i in range(500)])
lines("texts2", [json.dumps({"key": f"u{i}", "text": f"word{i % 50} again"}) for i in range(100)])
lines("texts_empty", ['{"key":"a","text":"some words"}', '{"key":"b","text":" . "}', '{"key":"c","text":"other words"}'])
lines("texts_no_key", ['{"key":"a","text":"some words"}', '{"text":"x words"}'])
lines("texts_twice", ['{"key":"a","text":"some words"}', '{"key":"b","text":"x words"}', '{"key":"a","text":"x words"}'])
lines("texts_null", ['{"key":"a","text":"some words"}', '{"key":"b","text":"some words","metadata":{"x":null}}'])
PY
/usr/bin/python3 make.py || { not_ok put "cannot make the input"; exit; }

picture() { (cd "$src" && find . -type f -exec md5sum {} + | sort -k 2; find . -type d | sort); }
# refused NAME PATTERN COMMAND...: fails, and the bucket is as it was
refused() {
	picture >"$WORK/before"
	fails "$@"
	picture >"$WORK/after"
	cmp -s "$WORK/before" "$WORK/after" || not_ok "$1: the bucket" "changed: $(diff "$WORK/before" "$WORK/after" | head -n 3)"
}
printf '#!/bin/bash\nexec vectool put "%s/$1" "${@:2}"\n' "$src" >put
chmod +x put
put() { ./put "$@"; }
count() { vectool stat --json "$src/$1" | jq "$2"; }

# ---- gen
check "gen is the same for any number of threads" bash -c "
	vectool gen --rows 3000 --dim 77 --seed 9 -q -j 1 g1.npy && vectool gen --rows 3000 --dim 77 --seed 9 -q -j 5 g2.npy &&
	cmp g1.npy g2.npy && ! { vectool gen --rows 3000 --dim 77 --seed 8 -q g3.npy && cmp -s g1.npy g3.npy; }"
check "gen makes unit rows with clusters and queries like them" /usr/bin/python3 -c "
import numpy as np
b, q = np.load('base.npy'), np.load('base.queries.npy')
assert b.shape == (1000, 32) and q.shape == (7, 32) and b.dtype == np.dtype('<f4')
assert abs(np.linalg.norm(b, axis=1) - 1).max() < 1e-5 and abs(np.linalg.norm(q, axis=1) - 1).max() < 1e-5
assert np.linalg.norm(b.mean(0)) > .3 and np.linalg.norm(q.mean(0)) > .3"
refused "gen into a folder that is not there" "no/where.npy: No such file" vectool gen --rows 3 --dim 3 no/where.npy

# ---- create, the ways to put, ls, stat
check "create" vectool create "$src/empty" --dim 32 --metric dot --dtype f16
[ "$(count empty '[.rows, .dim, .metric, .dtype, .version]' | jq -c .)" = '[0,32,"dot","f16",1]' ] && ok "stat of an empty index" || not_ok "stat of an empty index" "$(count empty .)"
refused "create twice" "empty: is there already" vectool create "$src/empty" --dim 32
refused "create without --dim" "--dim is needed" vectool create "$src/e2"
refused "create of dimension 1" "out of range" vectool create "$src/e2" --dim 1
refused "create with a bad name" "cannot name an index" vectool create "$src/Ünicode" --dim 4
check "put into a created index" put empty base.npy
check "put with keys and metadata" put keyed base.npy --keys keys --metadata meta --shard-rows 300
[ "$(count keyed '.shards | map(.rows)' | jq -c .)" = '[300,300,300,100]' ] && ok "shards are filled greedily" || not_ok "shards are filled greedily" "$(count keyed .shards)"
vectool ls "$src/keyed" --json | jq -r .key >keys_back
cmp -s keys keys_back && ok "keys come back" || not_ok "keys come back" "they differ"
vectool ls "$src/keyed" --json | jq -c .metadata >meta_back
jq -c . meta | cmp -s - meta_back && ok "metadata comes back" || not_ok "metadata comes back" "it differs"
[ "$(vectool ls -n 2 "$src/keyed" | wc -l)" = 2 ] && ok "ls -n" || not_ok "ls -n" "wrong number"
vectool ls "$src" >out
grep -qE '^keyed +1000 +32 cosine' out && grep -qE '^empty +1000 +32 dot +f16' out && ok "ls of a bucket" || not_ok "ls of a bucket" "$(cat out)"
check "keys without a last newline" put nonl base.npy --keys keys_no_newline
check "a key of 1024 bytes" put k1024 base.npy --keys keys_1024
check "numbers are kept as they were written" bash -c "vectool put '$src/exact' base.npy --metadata meta_exact -q && vectool ls --json -n 1 '$src/exact' |
	grep -qF '{\"key\":\"0\",\"metadata\":{\"big\":123456789012345678901234567890,\"tenth\":0.1,\"e\":1e300,\"text\":\"a : , b\"}}'"
check "f16 stays f16" put halves f16.npy
check "f32 to f16" put to16 base.npy --dtype f16
check "u8 becomes f32" put bytes u8.npy --metric euclidean
check "compressed" put packed base.npy --compress --seed 7
check "zero vectors under euclidean" put zeros zero.npy --metric euclidean
cat >same.py <<'PY'
import glob, subprocess, sys, io
import numpy as np
src = sys.argv[1]
def rows(index):
    out = []
    for p in sorted(glob.glob(f"{src}/{index}/shard/*/vectors.npy*")):
        data = subprocess.check_output(["zstd", "-dqc", p]) if p.endswith(".zst") else open(p, "rb").read()
        assert data.index(b"\n") == 4095
        out.append(np.load(io.BytesIO(data)))
    return np.concatenate(out)
b = np.load("base.npy")
for index, want in (("halves", np.load("f16.npy")), ("to16", b.astype("f2")), ("empty", b.astype("f2")), ("packed", b),
                    ("bytes", np.load("u8.npy").astype("f4")), ("zeros", np.load("zero.npy"))):
    got = rows(index)
    assert got.dtype == want.dtype and np.array_equal(got, want), index
PY
check "NumPy reads the rows back" /usr/bin/python3 same.py "$src"
vectool put "$src/j1" base.npy -q --seed 5 -j 1 --shard-rows 400
vectool put "$src/j7" base.npy -q --seed 5 -j 7 --shard-rows 400
for o in vectors.npy records.jsonl.zst codes.vix; do
	[ "$(cd "$src/j1/shard" && cat */$o | wc -c)" = "$(cd "$src/j7/shard" && cat */$o | wc -c)" ] &&
		[ "$(cd "$src/j1/shard" && md5sum */$o | cut -c1-32 | sort)" = "$(cd "$src/j7/shard" && md5sum */$o | cut -c1-32 | sort)" ] &&
		ok "threads do not change $o" || not_ok "threads do not change $o" "it differs"
done
check "quiet is quiet" bash -c "[ -z \"\$(vectool put '$src/quiet' base.npy -q 2>&1)\" ]"
check "no progress in a pipe" bash -c "vectool put '$src/quiet' base.npy 2>&1 >/dev/null | wc -c | grep -qx 0"
check "progress on a terminal" bash -c "script -qec 'vectool gen --rows 100000 --dim 512 big512.npy' /dev/null | grep -q 'rows/s'; rm -f big512.npy"
check "automatic keys go on" bash -c "[ \"\$(vectool ls '$src/quiet' | tail -n 1)\" = 1999 ]"
check "compressed and plain records alike in a copy" bash -c "cp -r '$src' copy && for f in copy/keyed/shard/*/*.zst; do zstd -dq --rm \$f; done && vectool ls --json copy/keyed | jq -r .key | cmp - keys"

# ---- many at once
for i in 1 2 3 4; do vectool put "$src/race" base.npy -q 2>"race$i" & done
wait
[ "$(count race '[.rows, .version]' | jq -c .)" = '[4000,4]' ] && [ "$(vectool ls "$src/race" | sort -u | wc -l)" = 4000 ] && ok "four puts at once into a new index" ||
	not_ok "four puts at once into a new index" "$(count race '[.rows, .version]' | jq -c .) $(cat race?)"
[ "$(find "$src/race/shard" -name codes.vix | wc -l)" = 4 ] && ok "puts that start over leave nothing" || not_ok "puts that start over leave nothing" "$(find "$src/race")"
for i in 1 2 3; do vectool put "$src/krace" base.npy --keys keys --if-absent -q 2>"krace$i" & done
wait
[ "$(count krace '[.rows, .version]' | jq -c .)" = '[1000,1]' ] && [ "$(grep -lE 'is there already' krace? | wc -l)" = 2 ] && ok "of three puts of the same keys one wins" ||
	not_ok "of three puts of the same keys one wins" "$(cat krace?)"
[ "$(find "$src/krace/shard" -name codes.vix | wc -l)" = 1 ] && ok "the losers leave nothing" || not_ok "the losers leave nothing" "$(find "$src/krace")"

# ---- refused
refused "dimension of an existing index" "dimension is 32.*other_dim.npy have 16" ./put keyed other_dim.npy
refused "metric of an existing index" "metric is cosine, not dot" ./put keyed base.npy --metric dot
refused "type of an existing index" "element type is f32, not f16" ./put keyed base.npy --dtype f16
refused "seed of an existing index" "seed is 7, not 8" ./put packed base.npy --seed 8
refused "keys that are there" "key \"k.y 0 .*is there already" ./put keyed base.npy --keys keys --if-absent
refused "one key of a thousand that is there" "key \"k.y 500 .*is there already" ./put keyed base.npy --keys keys_new --if-absent
check "number-like keys" bash -c "seq 1500 2499 >numbers && vectool put '$src/numbers' base.npy --keys numbers -q"
check "automatic keys below them" put numbers base.npy -q
refused "an automatic key that is there" 'key "1500" is there already' ./put numbers base.npy
for i in nan:'row 777 holds a NaN' inf:'row 3 holds an infinity' huge:'row 999 is too long' zero:'row 998 is a zero vector' \
	tiny:'' nan2:'row 20 holds a NaN' fortran:'[Ff]ortran' big:'[Bb]ig' f64:'' cube:'' empty:'holds no rows' \
	wide:'5000 elements' cut:'truncated' head:'' junk:'' absent:'No such file'; do
	n=${i%%:*}
	if [ $n = tiny ]; then check "a tiny row is no zero" put tiny tiny.npy; continue; fi
	refused "$n.npy" "$n.npy: .*${i#*:}" ./put new $n.npy
	refused "$n.npy into an index" "$n.npy" ./put keyed $n.npy
done
refused "too large for f16" "row 12 holds a number over 65504" ./put new large.npy --dtype f16
for i in twice:'line 5 and again on line 1000' empty:'line 11 is empty' long:'line 11 is longer than 1024' few:'999 lines for the 1000' \
	many:'more lines than the 1000' latin:'line 1 is not UTF-8' nul:'line 1 holds a NUL'; do
	refused "keys_${i%%:*}" "keys_${i%%:*}.*${i#*:}" ./put new base.npy --keys keys_${i%%:*}
done
for i in null:'line 8: the metadata has null' nested:'line 9: .*an object' list:'line 10: .*a list' number:'line 11: .*not an object' \
	broken:'line 12: .*not JSON' twice:'line 13: .*not JSON' large:'line 14: .*40960' null_in_list:'line 16: .*a list' few:'500 lines' many:'more lines'; do
	refused "meta_${i%%:*}" "meta_${i%%:*}.*${i#*:}" ./put new base.npy --metadata meta_${i%%:*}
done
check "keys and metadata as Windows writes them" put windows base.npy --keys keys_windows --metadata meta_windows
is "are without its line ends" "$(vectool ls "$src/windows" | sed 's/y\{1024\}/y/' | head -n 3)" "$(sed 's/\t/\\x09/' keys | sed '2s/.*/y/' | head -n 3)"
vectool import "$src/return" return.jsonl -q
refused "a key that ends so, into a file of keys" 'return.keys: a key holds a line break' vectool export "$src/return" return.npy --keys return.keys
check "keys through pipes" bash -c "vectool put '$src/pipes' base.npy -q --keys <(cat keys) --metadata <(cat meta)"
check "keys and files to import through pipes" bash -c "vectool import '$src/pipes' base.npy --check --keys - <keys --metadata <(cat meta)"
is "arrive" "$(vectool ls "$src/pipes" | md5sum)" "$(vectool ls "$src/keyed" | md5sum)"
check "get takes them" bash -c "head -n 3 keys | vectool get '$src/pipes' --keys - | wc -l | grep -qx 3"
check "delete takes them" vectool delete "$src/pipes" -q --keys <(head -n 3 keys)
refused "a key that comes twice through a pipe" 'line 5 and again on line 1000' bash -c "./put new base.npy --keys <(cat keys_twice)"
refused "a bucket that is not there" "$WORK/nowhere" vectool put "$WORK/nowhere/x" base.npy
refused "keys that are not there" "nokeys: No such file" ./put new base.npy --keys nokeys
refused "an index that is not there: stat" "no index" vectool stat "$src/nothere"
refused "an unknown verb" "there are: create" vectool frob
refused "an unknown option" "no such option: --frob" vectool put "$src/new" base.npy --frob
refused "a number that is none" "not a whole number" vectool put "$src/new" base.npy --shard-rows 1x
refused "a metric that is none" "none of cosine" vectool put "$src/new" base.npy --metric manhattan
vectool put "$src/new" >/dev/null 2>&1
[ $? = 2 ] && ok "usage is exit status 2" || not_ok "usage is exit status 2" "it is not"
for v in create put import ls stat gen; do
	vectool help $v | grep -q Example && vectool $v --help | grep -q Example && ok "help $v" || not_ok "help $v" "no example"
done

# ---- import
check "import" vectool import "$src/texts" --texts texts --embed hash:256
check "import again, with the embedder of the index" vectool import "$src/texts" --texts texts2 --embed hash:256
[ "$(find "$src/texts/embed" -type f | wc -l)" = 1 ] && [ "$(count texts '[.rows, .dim, .embedder]' | jq -c .)" = '[600,256,"hash:256"]' ] && ok "one embedder for both" ||
	not_ok "one embedder for both" "$(count texts .)"
check "import from a pipe" bash -c "cat texts | vectool import '$src/piped' --texts - --embed hash:64"
check "--skip-empty" bash -c "vectool import '$src/skipped' --texts texts_empty --embed hash:64 --skip-empty && [ \"\$(vectool ls '$src/skipped' | tr '\n' ' ')\" = 'a c ' ]"
refused "import of a text without words" 'key "b", line 2' vectool import "$src/new" --texts texts_empty --embed hash:64
refused "import without a key" "line 2 has no string .key" vectool import "$src/new" --texts texts_no_key --embed hash:64
refused "import of a key twice" 'key "a" of line 3' vectool import "$src/new" --texts texts_twice --embed hash:64
refused "import of bad metadata" 'key "b", line 2.*null' vectool import "$src/new" --texts texts_null --embed hash:64
refused "import again" "is there already" vectool import "$src/texts" --texts texts --embed hash:256
refused "import with another embedder" "embedder is hash:256, not hash:64" vectool import "$src/texts" --texts texts --embed hash:64
refused "import into an index of vectors" "embedder is none" vectool import "$src/keyed" --texts texts --embed hash:32
refused "an embedder that is none" "frob" vectool import "$src/new" --texts texts --embed frob:32
refused "import of a file that is not there" "notexts: No such file" vectool import "$src/new" --texts notexts --embed hash:64

# ---- the disk, the user
vectool gen --rows 40000 --dim 512 --seed 2 -q large512.npy
picture >before
vectool put "$src/stopped" large512.npy --leaves 1 --compress >out 2>err &
pid=$!
uploaded() { # bytes of the objects it has begun
	find /proc/$pid/fd -lname "$src/[.#]*" -exec stat -Lc %s {} + 2>/dev/null | sort -n | tail -n 1
}
for _ in $(seq 100); do [ "$(uploaded)" -gt 100000 ] 2>/dev/null && break; sleep 0.02; done
kill -INT $pid
wait $pid
rc=$?
picture >after
[ $rc = 130 ] && cmp -s before after && [ "$(wc -l <err)" = 1 ] && ok "Ctrl-C leaves nothing" || not_ok "Ctrl-C leaves nothing" "exit $rc; $(cat err); $(diff before after | head -n 3)"
mkdir small
if mount -t tmpfs -o size=20m tmpfs small 2>/dev/null; then
	CLEANUP+=("umount $WORK/small")
	fails "a full disk" "No space left" vectool put "$WORK/small/x" large512.npy --leaves 1
	[ -z "$(find small -mindepth 1)" ] && ok "a full disk: nothing is left" || not_ok "a full disk: nothing is left" "$(find small)"
	vectool gen --rows 1000 --dim 512 --seed 3 -q small512.npy
	check "put where there is room again" vectool put "$WORK/small/x" small512.npy
	fails "a disk that fills later" "No space left" vectool put "$WORK/small/x" large512.npy --leaves 1 --shard-rows 4000
	[ "$(vectool stat --json small/x | jq -c '[.rows, .version]')" = '[1000,1]' ] && [ "$(find small/x/shard -name '*.npy' | wc -l)" = 1 ] && ok "and the index is as it was" ||
		not_ok "and the index is as it was" "$(find small)"
else
	skip "a full disk" "cannot mount a tmpfs here"
fi
