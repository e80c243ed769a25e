#!/bin/bash
# Compaction: the same rows before and after, for get, queries, ls and a mount;
# among writers; killed at every request; without room in the scratch folder.
. "$(dirname "$0")/e2e_lib.bash"
cd "$WORK" || exit 1
src=$WORK/bucket
mkdir "$src"
rows() { vectool stat --json "$1" | jq -c '[.rows, .dead_rows, .tail_rows, (.shards | length)]'; }
keys() { seq -f "k%.0f" "$1" "$2"; }

cat >model.py <<'PY'
"""model.py [FILE.npy FIRST_KEY]... [-FIRST-LAST]... @ INDEX [PATH...]: later ones win"""
import json, subprocess, sys
import numpy as np
at = sys.argv.index("@")
parts, (index, *paths), want, i = sys.argv[1:at], sys.argv[at + 1:], {}, 0
while i < len(parts):
    if parts[i][0] == "-":
        a, b = map(int, parts[i][1:].split("-"))
        for k in range(a, b + 1): want.pop("k%d" % k, None)
        i += 1
        continue
    for n, row in enumerate(np.load(parts[i])):
        want["k%d" % (int(parts[i + 1]) + n)] = row
    i += 2
open("all.keys", "w").write("".join(k + "\n" for k in want))
run = lambda *a: subprocess.run(a, check=True, capture_output=True, text=True).stdout
assert sorted(run("vectool", "ls", index).split()) == sorted(want), "keys"
run("vectool", "get", index, "--keys", "all.keys", "--npy", "got.npy")
assert np.array_equal(np.load("got.npy"), np.array(list(want.values()))), "rows"
x, names = np.array(list(want.values())), list(want)
q = x[:8] + .05
np.save("q.npy", q)
for path in [index] * (index[:2] != "s3") + paths:
    out = run("vecquery", path, "--npy", "q.npy", "-k", "10", "--exact", "--format", "jsonl")
    for line, v in zip(out.splitlines(), q):
        d = 1 - (x @ v) / np.linalg.norm(x, axis=1) / np.linalg.norm(v)
        got = [h["distance"] for h in json.loads(line)["hits"]]
        assert abs(np.array(got) - np.sort(d)[:10]).max() < 1e-5, "distances"
        assert all(h["key"] in want for h in json.loads(line)["hits"]), "a dead row"
PY
model() { /usr/bin/python3 model.py "$@"; }

# ---- one writer, file:// -----------------------------------------------------------
vectool gen --rows 16000 --dim 64 --seed 1 -q base.npy
vectool gen --rows 300 --dim 64 --seed 2 -q few.npy
/usr/bin/python3 -c "
import numpy as np
b = np.load('base.npy')
for i in range(4): np.save(f'part{i}.npy', b[i * 4000:(i + 1) * 4000])"
for i in 0 1 2 3; do
	keys $((i * 4000)) $((i * 4000 + 3999)) >part$i.keys
	vectool put "$src/i" part$i.npy --keys part$i.keys -q --seed 3
done
keys 3900 4199 >few.keys
vectool put "$src/i" few.npy --keys few.keys -q
keys 8000 10999 >gone.keys
vectool delete "$src/i" --keys gone.keys -q
all=(base.npy 0 few.npy 3900 -8000-10999)
is "before" "$(rows "$src/i")" '[13000,3300,300,4]'
check "a dry run says what it would do" bash -c "vectool compact '$src/i' --dry-run | grep -q '13000 rows of 4 shards and the tail (300) would be written anew, along a new tree'"
is "and does nothing" "$(rows "$src/i")" '[13000,3300,300,4]'
check "mount" mount_bucket "file://$src" "$WORK/mnt"
check "compact" vectool compact "$src/i"
is "after" "$(rows "$src/i")" '[13000,0,0,1]'
is "along a tree" "$(vectool stat --json "$src/i" | jq '.tree.leaves > 400 and .tree.flat_rows == 0')" true
check "the rows are the same" model "${all[@]}" @ "$src/i"
if mountpoint -q "$WORK/mnt"; then
	sleep 1.2 # names in a mount are a second old at most
	check "and through a mount" model "${all[@]}" @ "$src/i" "$WORK/mnt/i"
	is "live/ shows one full shard" "$(ls "$WORK/mnt/i/live" | grep -c alive)" 1
	umount_bucket "$WORK/mnt"
fi
check "once is enough" bash -c "vectool compact '$src/i' | grep -q 'nothing to be done'"
check "an old version is as it was" bash -c "vecquery '$src/i' --at 4 --npy q.npy -k 3 >/dev/null 2>&1 || ! vecquery --help | grep -q -- '--at'"
keys 0 12 >thirteen.keys
vectool delete "$src/i" --keys thirteen.keys -q
is "a few dead rows are no reason" "$(vectool compact "$src/i")" "$src/i: nothing to be done"
vectool put "$src/i" few.npy --keys few.keys -q
check "a tail joins the small shard" vectool compact "$src/i" -j 1
is "in one" "$(rows "$src/i")" '[12987,0,0,1]'
check "which is right" model "${all[@]}" -0-12 @ "$src/i"
fails "not an index" "no such index" vectool compact "$src/none"

# ---- writers fold the log themselves -------------------------------------------------------
vectool gen --rows 500 --dim 1024 --seed 6 -q batch.npy
vectool create "$src/t" --dim 1024 -q
for i in $(seq 1 21); do
	keys $((i * 400)) $((i * 400 + 499)) >batch.keys
	vectool put "$src/t" batch.npy --keys batch.keys -q || not_ok "batch $i" failed
	[ $i != 5 ] || is "a log that is not too long yet" "$(rows "$src/t")" '[2100,0,2100,0]'
	[ $i != 6 ] || is "the next one folds it" "$(rows "$src/t")" '[2500,100,500,1]'
done
is "small shards that are alike are merged" "$(vectool stat --json "$src/t" | jq -c '[.rows, (.shards | length)]')" '[8500,1]'
batches=()
for i in $(seq 1 21); do batches+=(batch.npy $((i * 400))); done
check "the rows are all there" model "${batches[@]}" @ "$src/t"

# ---- and merge small shards ------------------------------------------------------------------
for i in $(seq 0 8); do
	vectool gen --rows 1000 --dim 16 --seed $((60 + i)) -q p$i.npy
	keys $((i * 900)) $((i * 900 + 999)) >p$i.keys
	vectool put "$src/p" p$i.npy --keys p$i.keys -q || not_ok "put $i" failed
done
is "every fifth put finds four alike" "$(vectool stat --json "$src/p" | jq -c '[.version, [.shards[].rows]]')" '[11,[3700,3700,1000]]'
check "stat draws what each holds" bash -c "[ \$(vectool stat '$src/p' | grep -c '\[#*x*\.*\]') = 3 ]"
batches=()
for i in $(seq 0 8); do batches+=(p$i.npy $((i * 900))); done
check "the rows are all there" model "${batches[@]}" @ "$src/p"
vectool put "$src/p" p0.npy --keys p0.keys -q
check "not when a version is asked for" vectool put "$src/p" p0.npy --keys p0.keys -q --if-version 12

# ---- recall as of one put --------------------------------------------------------------
keys 0 15999 >base.keys
vectool put "$src/one" base.npy --keys base.keys -q --seed 3
for i in 0 1 2 3; do vectool put "$src/four" part$i.npy --keys part$i.keys -q --seed 3; done
vectool compact "$src/four" -q
/usr/bin/python3 -c "
import numpy as np
np.save('qs.npy', np.load('base.npy')[::80] + np.random.default_rng(1).normal(0, .05, (200, 64)).astype('f4'))"
recall() {
	vecquery "$1" --npy qs.npy -k 10 --probes 40 --format jsonl | jq -c '[.hits[].key]' >got
	vecquery "$src/one" --npy qs.npy -k 10 --exact --format jsonl | jq -c '[.hits[].key]' >true
	paste got true | jq -s '[range(0; length; 2) as $i | (.[$i] - (.[$i] - .[$i + 1])) | length] | add / 20 | round'
}
a=$(recall "$src/one") b=$(recall "$src/four")
echo "   recall of one put $a %, of four and a compaction $b %"
check "recall within a point of one put's" [ $((a - b)) -le 1 ]

# ---- bits, halves, compression stay --------------------------------------------------------
for i in 0 1; do vectool put "$src/h" part$i.npy --keys part$i.keys -q --dtype f16 --bits 4 --compress --metric dot; done
sum() { vectool get "$src/h" k0 k4000 k7999 --json | sha256sum; }
before=$(sum)
check "compact f16, 4 bits, compressed" vectool compact "$src/h"
is "rows are the same" "$(sum)" "$before"
check "still compressed" [ -e "$src"/h/shard/*3-*/vectors.npy.zst -o -n "$(ls "$src"/h/shard/*2-*/vectors.npy.zst)" ]

# ---- damage, no room --------------------------------------------------------------------------
vectool gen --rows 3000 --dim 1024 --seed 5 -q wide.npy
for i in 0 1; do vectool put "$src/d" wide.npy -q; done
s=$(ls -d "$src"/d/shard/*0-*)
cp "$s/vectors.npy" saved
printf '\x5a\x5a' | dd of="$s/vectors.npy" bs=1 seek=$((4096 + 4096 * 17 + 5)) conv=notrunc status=none
fails "a damaged row is not handed on" "row 17 of shard .* is damaged" vectool compact "$src/d" -q
cp saved "$s/vectors.npy"
is "the index is as it was" "$(rows "$src/d")" '[6000,0,0,2]'
is "and nothing is left of it" "$(ls "$src/d/shard" | wc -l)" 2
fails "no scratch folder" "no scratch file" vectool compact "$src/d" -q --ram 64M --scratch "$WORK/none/x"
if mkdir tiny && mount -t tmpfs -o size=1m none tiny 2>/dev/null; then
	fails "a full one" "scratch file: No space" vectool compact "$src/d" -q --ram 64M --scratch tiny
	umount tiny
	is "the index is as it was" "$(rows "$src/d")" '[6000,0,0,2]'
else
	skip "a full scratch folder" "cannot mount a tmpfs"
fi

# ---- among writers, over a server with latency ----------------------------------------------------
with_s3sim --latency-ms 2 || { not_ok "s3sim" "does not start"; exit; }
url=s3://test/w
for i in 0 1; do vectool put $url part$i.npy --keys part$i.keys -q; done
for w in 0 1; do
	(
		for i in 1 2 3 4; do
			vectool gen --rows 150 --dim 64 --seed $((w * 10 + i)) -q "x$w-$i.npy"
			keys $((w * 4000 + i * 100)) $((w * 4000 + i * 100 + 149)) >"keys$w"
			vectool put $url "x$w-$i.npy" --keys "keys$w" -q --cache-dir "$WORK/c$w" || echo bad
			vectool delete $url "k$((w * 4000 + i * 500))" -q --cache-dir "$WORK/c$w" || echo bad
		done
	) >"said$w" 2>&1 &
	pids[w]=$!
done
n=0
while kill -0 "${pids[0]}" 2>/dev/null || kill -0 "${pids[1]}" 2>/dev/null; do
	vectool compact $url -q || not_ok "a compaction among writers" "exit $?"
	n=$((n + 1))
done
wait "${pids[@]}"
is "no writer failed among $n compactions" "$(cat said0 said1)" ""
want=(part0.npy 0 part1.npy 4000)
for i in 1 2 3 4; do
	for w in 0 1; do
		k=$((w * 4000 + i * 500))
		want+=("x$w-$i.npy" $((w * 4000 + i * 100)) "-$k-$k")
	done
done
check "every write is there, once" model "${want[@]}" @ $url
check "compact at last" vectool compact $url
is "into one shard" "$(vectool stat --json $url | jq -c '[.tail_rows, (.shards | length)]')" '[0,1]'
check "the same rows" model "${want[@]}" @ $url

# ---- killed at every request ------------------------------------------------------------------------
is_silent() { ! curl -s "$AWS_ENDPOINT_URL/_sim/stats" | grep -q '"silent":0'; }
sim 'set?latency_ms=0'
url=s3://test/k # a short log: few requests
for i in 0 1; do vectool put $url part$i.npy --keys part$i.keys -q; done
vectool put $url few.npy --keys few.keys -q
want=(part0.npy 0 part1.npy 4000 few.npy 3900)
n_old=$(vectool stat --json $url | jq .version) n_all=0 n_done=0
n_rows=$(vectool stat --json $url | jq .rows)
for n in $(seq 1 60); do
	sim 'reset'
	sim "set?silent_after=$n"
	vectool compact $url -q 2>/dev/null &
	pid=$!
	while kill -0 $pid 2>/dev/null && ! is_silent; do sleep 0.005; done
	is_silent || n_all=$n
	kill -9 $pid 2>/dev/null
	wait $pid 2>/dev/null
	sim 'set?silent_after=18446744073709551615'
	[ $n_all = 0 ] || break
	got=$(vectool stat --json $url | jq -c '[.rows, .version]')
	case $got in
	"[$n_rows,$n_old]") ;;
	"[$n_rows,$((n_old + 1))]")
		# Its record is the last request but the answer: another tail, go on.
		n_done=$((n_done + 1)) n_old=$((n_old + 2))
		vectool put $url few.npy --keys few.keys -q
		;;
	*) not_ok "killed after $n requests" "$got" ;;
	esac
done
check "killed at each of $n_all requests of a compaction" [ $n_all -gt 8 -a $n_all -lt 60 ]
check "of those one was after the record ($n_done)" [ $n_done = 1 ]
check "nothing is lost" model "${want[@]}" @ $url
