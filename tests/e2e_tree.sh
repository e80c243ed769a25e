#!/bin/bash
# A put of many rows orders them by leaf and queries look into some leaves: the
# rows are all there, the answers the same however they were put.
. "$(dirname "$0")/e2e_lib.bash"

src=$WORK/bucket
mkdir "$src" "$WORK/scratch"
cd "$WORK" || exit 1
vectool gen --rows 16000 --dim 256 --seed 8 --queries 60 --queries-out q.npy -q base.npy ||
	{ not_ok tree "gen failed"; exit; }
for i in $(seq 0 15999); do echo "key $i"; done >keys
for i in $(seq 0 15999); do echo "{\"n\":$i,\"t\":\"$((i % 13))\"}"; done >meta

cat >tool.py <<'PY'
"""same INDEX BASE ROWS: every row with its key and metadata, in leaf order.
recall JSONL: of ten, against all of base.npy; prints the mean of rows scanned."""
import json, subprocess, sys
import numpy as np
what, args = sys.argv[1], sys.argv[2:]
if what == "same":
    base, seen, moved = np.load(args[1]), set(), 0
    stat = subprocess.run(["vectool", "stat", "--json", args[0]], capture_output=True, check=True).stdout
    for shard in [args[0] + "/shard/" + s["name"] for s in json.loads(stat)["shards"]]:
        x = np.load(shard + "/vectors.npy", mmap_mode="r")
        text = subprocess.run(["zstd", "-dqc", shard + "/records.jsonl.zst"], capture_output=True, check=True).stdout
        lines = text.decode().splitlines()
        assert len(lines) == len(x)
        for row, line in zip(x, lines):
            r = json.loads(line)
            i = int(r["key"].split()[-1])
            assert np.array_equal(row, base[i % len(base)]) and i not in seen, i
            assert not r["metadata"] or r["metadata"] == {"n": i, "t": str(i % 13)}
            moved += i != len(seen)
            seen.add(i)
    assert seen == set(range(int(args[2]))) and moved
else:
    base, q = np.load("base.npy"), np.load("q.npy")
    truth = np.argsort(-q @ (base / np.linalg.norm(base, axis=1, keepdims=True)).T, axis=1)[:, :10]
    answers = [json.loads(l) for l in open(args[0])]
    hits = sum(len({int(h["key"].split()[-1]) for h in a["hits"]} & set(t.tolist())) for a, t in zip(answers, truth))
    print(f"{hits / truth.size:.4f} {sum(a['cost']['scanned'] for a in answers) / len(answers):.0f}")
PY

vf() { vectool "$@" -q -j 2; }
recall() { # INDEX OPTIONS...: recall and rows scanned
	vecquery "$src/$1" --npy q.npy -k 10 --format jsonl "${@:2}" >answers &&
		/usr/bin/python3 tool.py recall answers
}
tree() { vectool stat --json "$src/$1" | jq -r ".tree.$2"; }
same() { /usr/bin/python3 tool.py same "$@"; }

check "put by leaf" vf put "$src/a" base.npy --keys keys --metadata meta --seed 3
check "its rows, keys and metadata are all there" same "$src/a" base.npy 16000
check "stat shows leaves and their balance" bash -c \
	"vectool stat '$src/a' | grep -q '^tree  *505 leaves, .*vit' && vectool stat '$src/a' | grep -q 'balance 1'"
check "leaves hold all rows" [ "$(tree a 'mean * 505 | round')" = 16000 ]
check "few rows make no tree" bash -c "
	vectool gen --rows 900 --dim 256 --seed 2 -q few.npy && vectool put '$src/few' few.npy -q &&
	vectool stat '$src/few' | grep -q '^tree  *none'"

# ---- the same bytes whatever the machine --------------------------------------------
sums() { cat "$src/$1"/shard/*/"$2" | sha256sum; }
check "put on one thread" vectool put "$src/j1" base.npy -q -j 1 --seed 3 --shard-rows 6000
check "put on five, through scratch files" \
	vectool put "$src/j5" base.npy -q -j 5 --seed 3 --shard-rows 6000 --ram 64M --scratch "$WORK/scratch"
for f in vectors.npy records.jsonl.zst; do
	a=$(for s in "$src"/j1/shard/*; do sha256sum <"$s/$f"; done | sort)
	b=$(for s in "$src"/j5/shard/*; do sha256sum <"$s/$f"; done | sort)
	check "both wrote the same $f" [ -n "$a" -a "$a" = "$b" ]
done
check "nothing is left in the scratch folder" [ -z "$(ls -A "$WORK/scratch")" ]
vectool gen --rows 20000 --dim 1024 --seed 8 -q large.npy
check "more rows than memory may hold" \
	vectool put "$src/large" large.npy -q -j 2 --ram 64M --scratch "$WORK/scratch" --leaves 200
check "are all there" same "$src/large" large.npy 20000
rm -rf "$src/large" large.npy
fails "a scratch folder that is not there" "no scratch file" \
	bash -c "vectool gen --rows 20000 --dim 1024 --seed 8 -q large.npy &&
	vectool put '$src/no' large.npy -q --ram 64M --scratch '$WORK/none'"
check "and nothing was left of that put" [ ! -e "$src/no" -o -z "$(find "$src/no" -type f 2>/dev/null)" ]
rm -f large.npy

# ---- shards ------------------------------------------------------------------------------
first=$(recall a --probes 60)
for rows in 4000 1000; do
	check "put in shards of $rows" vectool put "$src/s$rows" base.npy -q -j 2 --seed 3 --shard-rows $rows
	check "there are several" [ "$(ls "$src/s$rows/shard" | wc -l)" -ge $((16000 / rows)) ]
	check "recall and rows scanned do not depend on shards: $rows" [ "$(recall s$rows --probes 60)" = "$first" ]
done
echo "   60 of 505 leaves: $first; all: $(recall a --probes all); default: $(recall a)"
check "60 leaves hold most of the nearest" bash -c "set -- $first; [ \${1/./} -ge 8000 ] && [ \$2 -lt 4000 ]"

# ---- rows that come in cluster order -------------------------------------------------------
# The first tenth makes the tree, of clusters that the others are not in.  A query
# then scans 3.2 times the rows for the same recall, most of whose time is not scanning.
/usr/bin/python3 - <<'PY'
import numpy as np
x = np.load("base.npy")
u = x / np.linalg.norm(x, axis=1, keepdims=True)
order = np.argsort(np.argmax(u @ u[:100].T, axis=1), kind="stable")
for i, rows in enumerate(np.array_split(order, 10)):
    np.save(f"part{i}.npy", x[rows])
    open(f"part{i}.keys", "w").write("".join(f"key {r}\n" for r in rows))
PY
for i in 0 1 2 3 4 5 6 7 8 9; do
	first_only=$([ $i -gt 0 ] || echo --seed 3 --leaves 505)
	# shellcheck disable=SC2086 # options
	vf put "$src/ordered" part$i.npy --keys part$i.keys $first_only || not_ok ordered "put $i failed"
done
ordered=$(recall ordered --probes 16)
check "ten puts in cluster order find what one put does" [ "${ordered% *}" \> "${first% *}" ]
check "in at most four times its rows: ${ordered#* } for ${first#* }" [ "${ordered#* }" -le $((4 * ${first#* })) ]
check "all leaves hold all of them" bash -c "set -- $(recall a --probes all --candidates 200); { [ \$1 = 1.0000 ] || [ \${1/./} -ge 9950 ]; } && [ \$2 = 16000 ]"
check "by default .95 are found" bash -c "set -- $(recall a); { [ \$1 = 1.0000 ] || [ \${1/./} -ge 9500 ]; }"
check "of a larger index some 40 000 rows are scanned by default" bash -c "vectool gen --rows 52000 --dim 16 --seed 2 --queries 20 --queries-out q52.npy -q more.npy &&
	vectool put '$src/more' more.npy -q --seed 3 && rm more.npy &&
	vecquery '$src/more' --npy q52.npy --format jsonl | jq -es 'map(.cost.scanned) | add / length | 36000 < . and . < 46000'"

# Rows without structure: half of all leaves had half of the nearest, and lists
# that were cut had half of those.
/usr/bin/python3 -c "import numpy as np
r = np.random.default_rng(4)
np.save('flat.npy', r.standard_normal((80000, 192)).astype('<f4'))
np.save('qflat.npy', r.standard_normal((20, 192)).astype('<f4'))"
check "rows without structure are put" vf put "$src/flat" flat.npy --seed 3 --bits 5
rm flat.npy
flat() { vecquery "$src/flat" --npy qflat.npy --format jsonl --no-metadata "$@"; }
flat --exact >exact
among() { # FILE: the share of the exact ten
	jq -s '[.[].hits[].key]' exact | jq --slurpfile a "$1" '[_nwise(10)] as $e |
		[range($e | length) as $i | ($a[$i].hits | map(.key)) as $h | $e[$i][] | select(IN($h[]))] | length / 200'
}
flat >found
check "they are looked for in all leaves: $(among found)" jq -en "$(among found) >= .93"
check "and the answer says so" jq -es "all(.cost.scans == 2 and .cost.leaves == $(tree flat leaves) and
	.cost.candidates > 300 and .cost.rows_read < 80)" found
flat --probes 300 >found
check "in no more leaves than asked for" jq -es 'all(.cost.leaves == 300 and .cost.scans == 2 and .cost.candidates > 300)' found
for limit in "--max-gets 5000" "--max-ms 60000"; do
	flat $limit >found
	check "a limit leaves it at that: $limit" jq -es 'all(.cost.scans == 1 and .cost.candidates == 300 and .cost.scanned < 50000)' found
done
flat --candidates 300 >found
check "and a list as long as asked for" jq -es 'all(.cost.candidates == 300)' found

check "the exact search knows no leaves" bash -c "set -- $(recall a --exact); [ \$1 = 1.0000 ]"
check "plain Hamming scans all" bash -c "set -- $(recall a --hamming --candidates 1000); [ \${1#?.} -ge 0 ] && [ \$2 = 16000 ]"
fails "no probes" "takes a number" vecquery "$src/a" --npy q.npy --probes 0
fails "more results than can be" "-k takes a number from 1 to 10000" vecquery "$src/a" --npy q.npy -k 20000
fails "tables of --stdin" "no --format table" vecquery "$src/a" --stdin --format table
fails "an embedder, and no text" "are for --text" vecquery "$src/a" --npy q.npy --model m
fails "a commit that is old and new" "no --fresh" vecquery "$src/a" --npy q.npy --at 1 --fresh 5
printf '%s\n' '{"key":"key 3","k":20000}' '{"key":"key 3","exact":true,"max_ms":5}' "{\"vector\":[$(seq -s, 256 | sed 's/[0-9]*/0/g')]}" |
	vecquery "$src/a" --stdin >answers 2>errors
is "lines of --stdin are told what is wrong" "$(jq -r .error answers | grep -nE 'k takes a number from 1 to 10000|exact reads every row|the query is zero' | wc -l) $(wc -l <errors)" "3 0"

# ---- puts that follow ----------------------------------------------------------------------
/usr/bin/python3 -c "
import numpy as np
b = np.load('base.npy')
for i in range(8): np.save(f'part{i}.npy', b[i * 2000:(i + 1) * 2000])
np.save('rest.npy', b[500:]); np.save('start.npy', b[:500]);
np.save('same.npy', np.repeat(b[:1, :16], 12000, 0)); np.save('q16.npy', np.load('q.npy')[:, :16])"
check "a first put that asks for a tree" vectool put "$src/parts" part0.npy -q --leaves 505 --seed 3
for i in 1 2 3 4 5 6 7; do
	vectool put "$src/parts" part$i.npy -q || not_ok "put of part $i" failed
done
check "eight puts are one index" same "$src/parts" base.npy 16000
check "all follow one tree" [ "$(ls "$src/parts/tree" | wc -l)" = 1 -a "$(tree parts flat_rows)" = 0 ]
check "and are searched through it" bash -c "set -- $(recall parts --probes 100); [ \${1/./} -ge 8500 ] && [ \$2 -lt 12000 ]"
fails "a second tree" "has a tree of" vectool put "$src/parts" part1.npy -q --leaves 10
check "a small put" vectool put "$src/mixed" start.npy -q --seed 3
check "then a large one, which brings the tree" vectool put "$src/mixed" rest.npy -q
check "rows from before are in no leaf" [ "$(tree mixed flat_rows)" = 500 ]
check "and are found" bash -c "set -- $(recall mixed); [ \${1/./} -ge 9500 ]"
check "rows that are all equal" vectool put "$src/same" same.npy -q
check "are found" bash -c "vecquery '$src/same' --npy q16.npy -k 3 --format jsonl | jq -es 'all(.hits | length == 3)'"
/usr/bin/python3 -c "
import numpy as np
b = np.load('base.npy')[:12000, :16]
np.save('own.npy', b[100:160])
b[7] *= 1e5
np.save('far.npy', b)"
check "one row in a wrong unit, far from all others" vectool put "$src/far" far.npy -q --metric euclidean --seed 3
check "hides none of them" bash -c "vecquery '$src/far' --npy own.npy -k 1 --format jsonl | jq -r '.hits[0].key' | diff - <(seq 100 159)"
check "and leaves none of the leaves empty" [ "$(vectool stat --json "$src/far" | jq '.tree.used * 10 >= .tree.leaves * 9')" = true ]
check "the same without a tree" vectool put "$src/farflat" far.npy -q --metric euclidean --leaves 1
check "codes tell rows apart" bash -c "vecquery '$src/farflat' --npy own.npy -k 1 --rerank none --format jsonl | jq -r '.hits[0].key' | diff - <(seq 100 159)"
for metric in euclidean dot; do
	check "put under $metric" vectool put "$src/$metric" base.npy -q --metric $metric --dtype f16 --bits 4 --seed 3
	check "recall under $metric" bash -c "set -- $(recall $metric --probes 256); [ \${1/./} -ge 8800 -a \$2 -lt 10000 ]"
	check "by codes alone under $metric" bash -c "set -- $(recall $metric --rerank fast); [ \${1/./} -ge 8500 ]"
done

# ---- puts that outgrow the tree of the first ---------------------------------------------------
vectool gen --rows 60000 --dim 16 --seed 9 --queries 60 --queries-out q16.npy -q b16.npy
vectool gen --rows 10 --dim 16 --seed 5 -q few16.npy
/usr/bin/python3 -c "
import numpy as np
b = np.load('b16.npy')
for i in range(6): np.save(f'more{i}.npy', b[i * 10000:(i + 1) * 10000])"
shards() { vectool stat --json "$src/$1" | jq '.shards | length'; }
for i in 0 1 2 3; do vectool put "$src/grown" more$i.npy -q || not_ok "put of part $i" failed; done
is "four puts, four shards, the tree of the first" "$(shards grown) $(tree grown leaves)" "4 400"
fails "a put that is refused changes nothing" "dim" vectool put "$src/grown" base.npy -q
is "which it has not" "$(shards grown) $(tree grown leaves)" "4 400"
check "a few rows more" vectool put "$src/grown" few16.npy -q
is "change nothing either" "$(tree grown leaves)" 400
for i in 4 5; do vectool put "$src/grown" more$i.npy -q || not_ok "put of part $i" failed; done
is "the fifth makes one shard of four, and a tree for what will come" "$(shards grown) $(tree grown leaves)" "3 2530"
check "all rows are there, whole" bash -c \
	"vectool verify --deep '$src/grown' -q && [ \$(vectool stat --json '$src/grown' | jq .rows) = 60010 ]"
check "and found along it" bash -c \
	"vectool recall '$src/grown' --npy q16.npy --probes 256 --candidates 50 --json -q | jq -es 'all(.recall >= .95 and .scanned < 20000)'"

# ---- damage --------------------------------------------------------------------------------
t=$(ls "$src"/s4000/tree/*)
cp "$t" tree.saved
printf '\x5a' | dd of="$t" bs=1 seek=5000 conv=notrunc status=none
fails "a damaged tree" "damaged" vecquery "$src/s4000" --npy q.npy
fails "nor is it followed" "checksum is wrong" vectool put "$src/s4000" part0.npy -q --if-version 1
cp "$(ls "$src"/s1000/tree/*)" "$t"
fails "another index's tree" "another tree" vecquery "$src/s4000" --npy q.npy
rm "$t"
fails "a missing tree" "\.vit: No such file" vecquery "$src/s4000" --npy q.npy
cp tree.saved "$t"
check "its own again" recall s4000
