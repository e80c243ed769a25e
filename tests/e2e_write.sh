#!/bin/bash
# Rows replaced, deleted and got by key, over file:// and a simulated S3: what
# died is in no answer, no listing and no live/ of a mount; several writers at
# once; writers killed with -9 at any moment.
. "$(dirname "$0")/e2e_lib.bash"
cd "$WORK" || exit 1
src=$WORK/bucket
mkdir "$src"

vectool gen --rows 2000 --dim 16 --seed 1 -q base.npy
vectool gen --rows 100 --dim 16 --seed 2 -q few.npy
vectool gen --rows 900 --dim 16 --seed 3 -q many.npy
seq -f 'k%g' 0 1999 >base.keys
seq -f 'k%g' 1950 2049 >few.keys
seq -f 'k%g' 0 2 1798 >many.keys
rows() { vectool stat --json "$1" | jq -c '[.rows, .dead_rows, .tail_rows, (.shards | length)]'; }

# ---- one writer
vectool put "$src/i" base.npy --keys base.keys -q
check "few rows go into the log" vectool put "$src/i" few.npy --keys few.keys
is "replaced rows died" "$(rows "$src/i")" '[2050,50,100,1]'
check "many become a shard" vectool put "$src/i" many.npy --keys many.keys
is "rows of both" "$(rows "$src/i")" '[2050,950,100,2]'
check "delete" vectool delete "$src/i" k1 k2049 k1951
is "deleted rows died" "$(rows "$src/i")" '[2047,951,98,2]'
check "delete again: nothing to do" bash -c "vectool delete '$src/i' k1 k2049 | grep -q '0 rows deleted, 2 keys'"
is "and no commit" "$(vectool stat --json "$src/i" | jq .version)" 4
is "a key given twice is one key" "$(vectool delete "$src/i" k1 k1 nobody nobody)" "0 rows deleted, 2 keys were not there: version 4 of $src/i"
for verb in get delete; do
	vectool $verb "$src/i" 2>err
	is "$verb without keys is a mistake of usage" "$? $(cat err)" "2 vectool: no keys: name some, or --keys FILE"
done
vectool log "$src/i" --json >log
is "the log tells" "$(jq -c '[.inline,.deleted,.died]' log | tr -d '\n')" '[0,3,3][0,0,900][100,0,50][0,0,0]'
is "ls shows the living" "$(vectool ls "$src/i" | sort -u | wc -l)" 2047
fails "get of a deleted key" 'no key "k1"' vectool get "$src/i" k3 k1
fails "--if-absent" 'k1950" is there already' vectool put "$src/i" few.npy --keys few.keys --if-absent
fails "--if-version" 'is at version 4, not 3' vectool put "$src/i" few.npy --keys few.keys --if-version 3
fails "a key that is none" "operand 2: the key is empty" vectool get "$src/i" ""

cat >model.py <<'PY'
import json, subprocess, sys
import numpy as np
index, want = sys.argv[1], {}
for name in ("base", "few", "many"):
    want.update(zip(open(name + ".keys").read().split(), np.load(name + ".npy")))
for k in ("k1", "k2049", "k1951"):
    del want[k]
open("all.keys", "w").write("".join(k + "\n" for k in want))
run = lambda *a: subprocess.run(a, check=True, capture_output=True, text=True).stdout
run("vectool", "get", index, "--keys", "all.keys", "--npy", "got.npy")
assert np.array_equal(np.load("got.npy"), np.array(list(want.values())))
some = [json.loads(l) for l in run("vectool", "get", index, "k0", "k2000", "--json").splitlines()]
assert [s["key"] for s in some] == ["k0", "k2000"]
for s in some:
    assert np.array_equal(np.array(s["vector"], "f4"), want[s["key"]])
q = np.load("base.npy")[:4]
np.save("q.npy", q)
x, keys = np.array(list(want.values())), list(want)
for path in [index] + sys.argv[2:]:
    for mode in ([], ["--exact"]):
        out = run("vecquery", path, "--npy", "q.npy", "-k", "2047", "--format", "jsonl", *mode)
        for line, v in zip(out.splitlines(), q):
            hits = [h["key"] for h in json.loads(line)["hits"]]
            assert sorted(hits) == sorted(keys)
            d = 1 - (x @ v) / np.linalg.norm(x, axis=1) / np.linalg.norm(v)
            assert abs(d[[keys.index(h) for h in hits[:10]]] - np.sort(d)[:10]).max() < 1e-5
PY
check "get and queries agree with the model" /usr/bin/python3 model.py "$src/i"
rm -r "$XDG_CACHE_HOME/vecfs"
check "without its catalog too" /usr/bin/python3 model.py "$src/i"
cp -r "$XDG_CACHE_HOME/vecfs" sound
for damage in truncate dd; do
	rm -r "$XDG_CACHE_HOME/vecfs" && cp -r sound "$XDG_CACHE_HOME/vecfs"
	for db in "$XDG_CACHE_HOME"/vecfs/catalog-*/data.mdb; do
		case $damage in
		truncate) truncate -s 20000 "$db" ;;
		dd) dd if=/dev/zero bs=4096 seek=2 count=60 conv=notrunc status=none of="$db" ;;
		esac
	done
	check "a damaged catalog is built again ($damage)" bash -c "vectool get '$src/i' k3 && vectool delete '$src/i' k1"
done
check "and is right" /usr/bin/python3 model.py "$src/i"
if have_fuse; then
	check "mount" mount_bucket "file://$src" "$WORK/mnt"
	check "and through a mount" /usr/bin/python3 model.py "$src/i" "$WORK/mnt/i"
	check "live/ shows who lives" /usr/bin/python3 -c "
import numpy, glob
alive = [numpy.load(p) for p in sorted(glob.glob('mnt/i/live/*.alive.npy'))]
rows = [numpy.load(p) for p in sorted(glob.glob('mnt/i/live/[0-9]*[0-9].npy'))]
assert [len(a) for a in alive] == [len(r) for r in rows] == [2000, 900]
assert sum(a.sum() for a in alive) == 2047 - 98 and not alive[0][0] and alive[0][3] and not alive[0][1951]"
	umount_bucket "$WORK/mnt"
else
	skip "live/ of a mount" "no FUSE here"
fi

# ---- a stream ---------------------------------------------------------------
/usr/bin/python3 -c "
import json, numpy as np
x = np.load('base.npy')[:1500]
with open('rows.jsonl', 'w') as f:
    for i, v in enumerate(x):
        f.write(json.dumps({'key': 'k%d' % (98 if i == 1499 else i % 1400), 'metadata': {'n': i}, 'vector': [float(e) for e in v]}) + '\n')
np.save('streamed.npy', np.concatenate([x[1400:1498], x[1499:], x[99:1400]]))"
seq -f 'k%g' 0 1399 >streamed.keys
vectool create "$src/s" --dim 16 -q
vectool put "$src/s" - <rows.jsonl >acks || not_ok "a stream" "exit $?"
is "a stream is committed in groups" "$(jq -sc '[last.line, (map(.rows) | add), (map(.replaced) | add), length > 2]' acks)" '[1500,1500,100,true]'
vectool get "$src/s" --keys streamed.keys --npy got.npy
check "later lines win" /usr/bin/python3 -c "import numpy as n; assert n.array_equal(n.load('got.npy'), n.load('streamed.npy'))"
is "metadata too" "$(vectool get "$src/s" k7)" $'k7\t{"n":1407}'
{ head -n 3 rows.jsonl && echo '{"key":"bad","vector":[1,2]}' && sed -n 1390,1391p rows.jsonl; } >bad.jsonl
vectool create "$src/b" --dim 16 -q
vectool put "$src/b" - <bad.jsonl >acks 2>err
is "a bad line ends it" "$? $(cat err)" "1 vectool: standard input: line 4 has a vector of 2 numbers, not 16
vectool: warning: $src/b: committed up to line 3"
is "what came before is there" "$(rows "$src/b") $(cat acks)" '[3,0,3,0] {"line":3,"rows":3,"replaced":0,"version":2}'
vectool put "$src/b" - --on-error skip <bad.jsonl >acks 2>err
is "or is passed over" "$? $(vectool stat --json "$src/b" | jq .rows) $(grep -c 'passed over' err)" "0 5 1"
for bad in 'no json' '[]' '{"key":1}' '{"key":"","vector":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1]}' \
	'{"key":"z","vector":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}' '{"key":"z","vector":"x"}' \
	'{"key":"z","metadata":{"a":{}},"vector":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1]}' \
	'{"key":"z","vector":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1]e-3}' \
	'{"key":"z","vector":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,"1"]}'; do
	echo "$bad" | vectool put "$src/b" - >out 2>err && not_ok "a bad line" "$bad"
	grep -q "line 1 " err || not_ok "a bad line" "$bad: $(cat err)"
done
is "none of them is there" "$(vectool stat --json "$src/b" | jq .version)" 3
mkfifo pipe
vectool put "$src/b" - --every 50 <pipe >acks 2>err &
pid=$!
exec 8>pipe
sed -n 1390,1393p rows.jsonl >&8
until_true test -s acks
is "rows do not wait for more" "$(jq -c '[.line, .rows]' acks)" '[4,4]'
printf '{"key":"half' >&8
kill -INT $pid
wait $pid
is "interrupted, half a line is nothing" "$? $(cat err)" "130 vectool: interrupted; $src/b: committed up to line 4"
exec 8>&-
mkfifo keys.pipe
vectool get "$src/b" --keys keys.pipe >out 2>err &
pid=$!
exec 8>keys.pipe
echo k0 >&8
kill -INT $pid
wait $pid
is "interrupted while keys are read" "$? $(cat err)" "130 vectool: interrupted"
exec 8>&-
fails "a stream into nothing" "no index; make it" vectool put "$src/nothing" -
fails "a stream with --keys" "only --every" vectool put "$src/b" - --keys base.keys

# ---- many writers, over a server with latency
with_s3sim --latency-ms 1 || { not_ok "s3sim" "does not start"; exit; }
url=s3://test/w
pids=()
vectool create $url --dim 16 -q
for w in 1 2 3; do
	(
		for i in 1 2 3 4; do
			seq -f "w$w-%g" $((i * 10)) $((i * 10 + 99)) >"keys$w"
			echo shared >>"keys$w"
			vectool gen --rows 101 --dim 16 --seed $((w * 10 + i)) -q "x$w.npy"
			vectool put $url "x$w.npy" --keys "keys$w" -q --cache-dir "$WORK/c$w" || echo bad
			vectool delete $url "w$w-$((i * 10))" -q --cache-dir "$WORK/c$w" || echo bad
		done
	) >"said$w" 2>&1 &
	pids+=($!)
done
wait "${pids[@]}" # not for the simulator
is "no writer failed" "$(cat said?)" ""
# Each has 130 keys but the four it deleted, and one is shared.
is "writers at once" "$(vectool stat --json $url | jq -c '[.rows, .version]')" '[379,25]'
is "each key once" "$(vectool ls $url | sort | uniq -d | wc -l)" 0

# ---- killed at any moment, then gone on with
vectool gen --rows 600 --dim 16 --seed 9 -q shard.npy
seq -f 'w1-%g' 0 599 >shard.keys
n_killed=0
for ms in 05 15 25 35 50 70; do
	vectool put $url shard.npy --keys shard.keys -q 2>/dev/null &
	pid=$!
	sleep 0.0$ms
	kill -9 $pid 2>/dev/null
	wait $pid 2>/dev/null
	[ $? = 137 ] && n_killed=$((n_killed + 1))
	n=$(vectool stat --json $url | jq .rows)
	[ "$n" = 379 ] || [ "$n" = 853 ] || not_ok "killed after $ms ms" "$n rows"
done
[ $n_killed -gt 0 ] && ok "killed $n_killed times, nothing is half done" || skip "kill -9" "puts were too quick"
check "and the next one works" vectool put $url shard.npy --keys shard.keys
is "with all rows" "$(vectool stat --json $url | jq .rows)" 853
