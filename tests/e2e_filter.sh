#!/bin/bash
# Filters end to end: the nearest of the rows that match, always min(k, matching)
# of them, by postings or by reading records; listing and deleting by filter.
. "$(dirname "$0")/e2e_lib.bash"

src=$WORK/bucket
mkdir "$src"
cd "$WORK" || exit 1
queries=${VF_E2E_QUERIES:-0}
[ "$queries" -gt 0 ] || queries=40

cat >tool.py <<'PY'
"""make BASE QUERIES N: base.npy, q.npy, meta.  check ANSWERS FILTER K [BAR]: against
every row, by a filter of our own.  same A B: the same hits."""
import json, random, sys
import numpy as np
what, args = sys.argv[1], sys.argv[2:]
def meta():
    r = random.Random(5)
    return [{"r": r.randrange(1000), "genre": r.choice("abcdefgh"), "tags": r.sample(["x", "y", "z"], r.randrange(3)),
             "price": r.randrange(10**6) / 100, "id": f"item-{i:08}"} for i in range(len(np.load("base.npy", mmap_mode="r")))]
if what == "make":
    np.save("base.npy", np.load(args[0])[:20000].astype("<f4"))
    np.save("q.npy", np.load(args[1])[:int(args[2])].astype("<f4"))
    with open("meta", "w") as f:
        for m in meta():
            f.write(json.dumps(m) + "\n")
elif what == "check":
    base, q, m, k = np.load("base.npy"), np.load("q.npy"), meta(), int(args[2])
    code = compile(args[1], "filter", "eval")
    rows = np.array([i for i, m in enumerate(m) if eval(code, {}, m)], int)
    x = base[rows]
    d = (x * x).sum(1)[None] - 2 * q @ x.T if len(rows) else np.zeros((len(q), 0))
    n = min(k, len(rows))
    want = [set(rows[np.argsort(d[i], kind="stable")[:n]].tolist()) for i in range(len(q))]
    answers = [json.loads(l) for l in open(args[0])]
    assert len(answers) == len(q)
    found = 0
    for a, w in zip(answers, want):
        have = [int(h["key"]) for h in a["hits"]]
        assert len(have) == n and not a["partial"], (len(have), n)
        assert set(have) <= set(rows.tolist())
        found += len(w & set(have))
    recall = found / (n * len(q)) if n else 1
    assert recall >= float(args[3] if len(args) > 3 else .97), recall
else:
    a, b = ([json.loads(l) for l in open(f)] for f in args)
    assert len(a) == len(b) and all(x["hits"] == y["hits"] for x, y in zip(a, b))
PY

if [ -r "$SHARED/data/sift-castle-128/base.npy" ]; then
	d=$SHARED/data/sift-castle-128
	check "a real set" /usr/bin/python3 tool.py make "$d/base.npy" "$d/queries.npy" "$queries"
else
	vectool gen --rows 20000 --dim 128 --seed 8 --queries "$queries" --queries-out g.queries.npy -q g.npy
	check "a generated set" /usr/bin/python3 tool.py make g.npy g.queries.npy "$queries"
fi
vf() { vectool "$@" -q -j 2; }
ask() { # FILTER OPTIONS...
	vecquery "$src/a" --npy q.npy --format jsonl --filter "$@" >answers
}
right() { # NAME FILTER PYTHON K [OPTIONS...]
	local name=$1 filter=$2 python=$3 k=$4
	shift 4
	check "$name" ask "$filter" -k "$k" "$@"
	check "$name: right" /usr/bin/python3 tool.py check answers "$python" "$k"
}
count() { vecquery "$src/a" --key 1 -k 10000 --no-metadata --format jsonl --filter "$@" | jq '.hits | length'; }
yields() { # WANT COMMAND...
	local want=$1 have
	shift
	have=$("$@") && [ "$have" = "$want" ] || { echo "$have, not $want"; return 1; }
}

check "put with metadata" vf put "$src/a" base.npy --metadata meta --metric euclidean --leaves 300 --bits 5 \
	--shard-rows 9000

# Else each line of many hits would be a frame to decompress.
find "$src/a" -name records.jsonl.zst -exec zstd -dq {} \;

# ---- every share, the three ways ------------------------------------------------------
right "half of the rows" '{"r":{"$lt":500}}' 'r < 500' 10
right "a tenth" '{"r":{"$gte":100,"$lt":200}}' '100 <= r < 200' 10
right "one in a hundred" '{"r":{"$in":[1,5,9,300,301,302,700,701,998,999]}}' 'r in (1,5,9,300,301,302,700,701,998,999)' 10
right "one in a thousand" '{"r":7}' 'r == 7' 10
right "fewer than k" '{"r":7}' 'r == 7' 100
right "none" '{"r":-1}' 'r == -1' 10
right "nested" '{"$or":[{"genre":"a","tags":"x"},{"price":{"$lt":50.5}},{"id":{"$startsWith":"item-0000001"}}],"r":{"$ne":3}}' \
	'(genre == "a" and "x" in tags or price < 50.5 or id.startswith("item-0000001")) and r != 3' 10
right "not in a list" '{"tags":{"$nin":["x","y"]}}' '"x" not in tags and "y" not in tags' 10
check "by postings" ask '{"genre":{"$in":["a","b"]}}' -k 20
mv answers postings
check "by records" ask '{"genre":{"$in":["a","b"]}}' -k 20 --cache-dir none
check "the same hits" /usr/bin/python3 tool.py same answers postings
check "every row scored" ask '{"genre":{"$in":["a","b"]}}' -k 20 --exact
check "every row scored: right" /usr/bin/python3 tool.py check answers 'genre in "ab"' 20 1
for rerank in fast none; do
	check "--rerank $rerank" ask '{"tags":"y"}' -k 30 --rerank $rerank
	check "--rerank $rerank: all hits" /usr/bin/python3 tool.py check answers '"y" in tags' 30 0
done
check "--hamming" ask '{"r":{"$lt":100}}' -k 30 --hamming
check "--hamming: all hits" /usr/bin/python3 tool.py check answers 'r < 100' 30 0
check "one leaf is not enough" ask '{"genre":{"$ne":"a"}}' -k 5000 --probes 1
check "one leaf is not enough: more are looked into" /usr/bin/python3 tool.py check answers 'genre != "a"' 5000 0

# ---- lines of queries -------------------------------------------------------------------
printf '%s\n' '{"key":"1","k":3,"filter":{"genre":"a"}}' '{"key":"2","filter":{"genre":{"$foo":1}}}' \
	'{"key":"1","k":3}' '{"key":"1","k":3,"filter":{"genre":"b"}}' >lines
lines() { vecquery "$src/a" --stdin --filter '{"genre":"c"}' <lines >out.jsonl; [ $? = 3 ]; }
check "--stdin takes a filter per line" lines
check "each line its own" yields '["a"] null ["c"] ["b"]' bash -c \
	"jq -c 'if .error then null else [.hits[].metadata.genre] | unique end' out.jsonl | tr '\n' ' ' | sed 's/ \$//'"
check "what is wrong is said there" yields \
	'filter: genre.$foo: there is no such operator' jq -r 'select(.error).error' out.jsonl

# ---- what changes -------------------------------------------------------------------------
n=$(jq -c 'select(.r == 5)' meta | wc -l)
check "a list by filter" yields "$n" bash -c "vectool ls '$src/a' --filter '{\"r\":5}' | wc -l"
check "metadata by filter" yields "$n" bash -c "vectool ls '$src/a' --json --filter '{\"r\":5}' | jq -c 'select(.metadata.r == 5)' | wc -l"
/usr/bin/python3 - <<'PY'
import json, numpy as np
np.save("new.npy", np.load("base.npy")[:100])
open("newmeta", "w").writelines(json.dumps({"r": 5000}) + "\n" for i in range(100))
PY
seq 50 149 >newkeys
check "a put of few rows" vf put "$src/a" new.npy --keys newkeys --metadata newmeta
check "its rows match at once" yields 100 count '{"r":5000}'
before=$(jq -c 'select(.r < 20)' meta | wc -l)
gone=$(sed -n 51,150p meta | jq -c 'select(.r < 20)' | wc -l)
check "old metadata match no more" yields $((before - gone)) count '{"r":{"$lt":20}}'
check "but in the commit before" yields "$before" count '{"r":{"$lt":20}}' --at 1
check "by records too" yields "$before" count '{"r":{"$lt":20}}' --at 1 --cache-dir none
check "a delete by filter" vf delete "$src/a" --filter '{"$or":[{"r":{"$lt":10}},{"r":5000}]}'
check "nothing is left of it" yields 0 count '{"$or":[{"r":{"$lt":10}},{"r":5000}]}'
check "the others are" yields "$(($(sed 51,150d meta | jq -c 'select(.r >= 10 and .r < 20)' | wc -l)))" \
	count '{"r":{"$lt":20}}'
check "a delete that finds nothing" vf delete "$src/a" --filter '{"r":-5}'
find "$XDG_CACHE_HOME" -name data.mdb -exec truncate -s 100000 {} +
check "a damaged catalog is made again" yields 0 count '{"r":5000}'

# ---- what is refused ------------------------------------------------------------------------
fails "an unknown operator" 'r.\$near: there is no such operator' \
	vecquery "$src/a" --key 1 --filter '{"r":{"$near":1}}'
fails "a wrong operand" 'r.\$gt: takes a number' vectool ls "$src/a" --filter '{"r":{"$gt":"1"}}'
fails "no JSON" 'no JSON object, at character' vectool delete "$src/a" --filter '{r}'
fails "keys and a filter" 'not both' vectool delete "$src/a" 17 --filter '{"r":1}'
fails "a filter on a bucket" 'no index' vectool ls "$src" --filter '{"r":1}'
check "non-filterable keys are declared" vf create "$src/b" --dim 4 --non-filterable text --non-filterable '$raw'
/usr/bin/python3 - <<'PY'
import json, numpy as np
np.save("four.npy", np.eye(4, dtype="<f4"))
open("fourmeta", "w").writelines(json.dumps({"text": "x" * 1000, "n": i}) + "\n" for i in range(4))
open("wide", "w").writelines(json.dumps({f"k{j}": 1 for j in range(51)}) + "\n" for i in range(4))
open("long", "w").writelines(json.dumps({"t": "x" * 41000}) + "\n" for i in range(4))
PY
check "their values are kept" vf put "$src/b" four.npy --metadata fourmeta
fails "a filter on one" 'text: this key of .* is not filterable' \
	vecquery "$src/b" --vector '[1,0,0,0]' --filter '{"n":1,"text":"x"}'
fails "a list by one" 'not filterable' vectool ls "$src/b" --filter '{"$and":[{"text":"x"}]}'
check "others are filterable" yields 1 bash -c \
	"vecquery '$src/b' --vector '[1,0,0,0]' --format jsonl --filter '{\"n\":{\"\$gte\":3}}' | jq '.hits|length'"
fails "declared later" 'is filterable, which --non-filterable cannot change' \
	vectool put "$src/b" four.npy -q --non-filterable n
check "import declares them too" vf import "$src/imported" four.npy --metadata fourmeta --non-filterable text
fails "and refuses filters on them" 'not filterable' vectool ls "$src/imported" --filter '{"text":"x"}'
fails "metadata of 51 keys" 'has 51 keys, more than 50' vectool put "$src/b" four.npy -q --metadata wide
fails "metadata over 40 KiB" 'more than 40960' vectool put "$src/b" four.npy -q --metadata long
