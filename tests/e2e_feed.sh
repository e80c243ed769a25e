#!/bin/bash
# put -: a stream whose log is folded beside it; an outcome that cannot be
# learned; an index that is not there; a signal; queries under a compaction.
. "$(dirname "$0")/e2e_lib.bash"
cd "$WORK" || exit 1
json() { vectool stat --json "$@"; }

# lines FILE.npy FIRST_KEY COUNT
cat >lines.py <<'PY'
import json, sys
import numpy as np
x = np.load(sys.argv[1])
for i in range(int(sys.argv[3])):
    n = i % len(x)
    print('{"key":"k%d","metadata":{"n":%d},"vector":%s}' % (
        int(sys.argv[2]) + i, i, json.dumps([float(e) for e in x[n]])))
PY
lines() { /usr/bin/python3 lines.py "$@"; }
vectool gen --rows 3000 --dim 1024 --seed 1 -q base.npy
seq -f 'k%g' 0 2999 >base.keys

with_s3sim --latency-ms 5 || { not_ok "s3sim" "does not start"; exit; }
url=s3://test/v
vectool put $url base.npy --keys base.keys --bits 4 --leaves 8 -q

# ---- folded while it goes on ----------------------------------------------------------
lines base.npy 2500 6000 >rows.jsonl # 36 MB of vectors
check "a long stream" eval 'vectool put $url - <rows.jsonl >acks'
is "acknowledges every line, in order" "$(jq -sc '[last.line, (map(.rows) | add), (map(.replaced) | add), (map(.line) | . == sort)]' acks)" '[6000,6000,500,true]'
is "all rows are there" "$(json $url | jq .rows)" 8500
check "the log was folded meanwhile" [ "$(json $url | jq '.shards | length')" -gt 1 ]
is "into shards of as many bits as there were" "$(json $url | jq '[.shards[] | .codes.stored / .rows > 512] | all')" true
sim reset >/dev/null
sim 'set?latency_ms=300' >/dev/null # longer than it takes to ask
vectool log $url -n 8 >history
sim 'set?latency_ms=5' >/dev/null
is "the log is told, the newest first" "$(awk '{ print $1 }' history | sort -rn | cmp - <(awk '{ print $1 }' history) && wc -l <history)" 8
check "its records are asked for all at once" [ "$(curl -sS "$AWS_ENDPOINT_URL/_sim/stats" | jq .max_in_flight)" -ge 6 ]
printf 'k%s\n' 2499 2500 5000 8499 >some.keys
vectool get $url --keys some.keys --npy got.npy -q
check "of the vectors that were sent" /usr/bin/python3 -c "
import numpy as n
x, got = n.load('base.npy'), n.load('got.npy')
assert n.array_equal(got, x[[2499, 0, 2500, 5999 % 3000]])"

if have_fuse && mount_bucket s3://test "$WORK/mnt"; then
	check "a fold leaves a checkpoint" [ -n "$(ls "$WORK/mnt/v/checkpoint")" ]
fi

mkfifo pipe
start() { # options: begin a stream whose first line is acknowledged
	: >acks
	vectool put $url - --every 20 "$@" <pipe >acks 2>said &
	pid=$!
	exec 8>pipe
	head -n 1 rows.jsonl >&8
	[ -z "${again:-}" ] || head -n 1 rows.jsonl >&8 # which ends the first group
	until_true test -s acks && return
	not_ok "a stream" "no acknowledgement: $(cat said)"
}

# ---- rows that wait --------------------------------------------------------------------------
# What came while a commit took its time is one shard, not records to be folded.
again=1 start --every 3600000
sim reset >/dev/null
sim 'set?latency_ms=60000' >/dev/null
tail -n +2 rows.jsonl >&8 # all that waits is read meanwhile
sim 'set?latency_ms=5' >/dev/null
exec 8>&-
wait $pid
is "rows that waited are put" $? 0
is "all of them, over those of their keys" "$(jq -sc '[last.line, (map(.rows) | add), (map(.replaced) | add)]' acks)" '[6001,6001,6001]'
check "many in one commit, which no record could hold" [ "$(jq -s 'map(.rows) | max' acks)" -gt 4096 ]
is "each key once" "$(json $url | jq .rows)" 8500
check "and has its vector" eval 'vectool get $url --keys some.keys --npy got2.npy -q && cmp got.npy got2.npy'
check "nothing is damaged" vectool verify $url -q
# One record per group: no other path ends the tail then.
check "rows that must be new" eval 'lines base.npy 9000 2600 | vectool put $url - --if-absent -q'
is "are folded out of their records" "$(json $url | jq -c '[.rows, .tail_rows < 2600]')" '[11100,true]'

# ---- an outcome that cannot be learned ---------------------------------------------------
start --timeout 2000 # time for its own start, too
sim 'set?error_rate=1' >/dev/null
sed -n 2,3p rows.jsonl >&8
wait $pid
is "an unknown outcome has its exit status" $? 4
sim 'set?error_rate=0' >/dev/null
exec 8>&-
check "which names the lines" grep -q "whether lines 2 to [23] are there is unknown" said
check "and the nonce" grep -q "unknown (nonce [0-9a-f]\{32\})" said

# ---- a signal ---------------------------------------------------------------------------------
start
# Queries of this machine come before a merge, which nobody waits for.
nices() { awk '{ sub(/.*\) /, ""); print $17 }' /proc/$pid/task/*/stat | sort -n | uniq -c | xargs; }
one_is_idle() { [ "$(nices | grep -o '1 19$')" = "1 19" ]; }
mine=$(awk '{ sub(/.*\) /, ""); print $17 }' /proc/self/stat)
[ "$mine" = 19 ] && skip "who merges is idle" "so are we" ||
	check "who merges has the lowest priority, nobody else" until_true one_is_idle
sed -n 2,400p rows.jsonl >&8
kill -INT $pid
wait $pid
is "interrupted" $? 130
exec 8>&-
n=$(grep -o 'committed up to line [0-9]*$' said | grep -o '[0-9]*$')
is "nothing is there but what was acknowledged" "$(jq -s last.line acks)" "$n"
is "which is whole" "$(json $url | jq .version)" "$(jq -s last.version acks)"

# Nobody waits for a server that is silent; of a commit on its way nothing is known.
start
sim reset >/dev/null
sim 'set?latency_ms=50000' >/dev/null
sed -n 2p rows.jsonl >&8
until [ "$(curl -sS "$AWS_ENDPOINT_URL/_sim/stats" | jq .put)" -gt 0 ]; do sleep 0.05; done
SECONDS=0
kill -INT $pid
wait $pid
is "interrupted while the server is silent" "$? $((SECONDS < 25))" "4 1"
exec 8>&-
sim reset >/dev/null
vectool compact $url -q 2>/dev/null &
pid=$!
until [ "$(curl -sS "$AWS_ENDPOINT_URL/_sim/stats" | jq '.head + .list + .get')" -gt 0 ]; do sleep 0.05; done
SECONDS=0
kill -INT $pid
wait $pid
is "so is a compaction" "$? $((SECONDS < 25))" "130 1"
sim 'set?latency_ms=5' >/dev/null

# ---- a compaction, queries meanwhile ----------------------------------------------------------
# An answer names its commit; the same question about it later has the same answer.
vectool gen --rows 1 --dim 1024 --seed 5 -q q.npy
if ! mountpoint -q "$WORK/mnt"; then
	skip "queries under a compaction" "no FUSE here"
else
	sleep 1.2 # names in a mount are a second old at most
	question() { vecquery "$WORK/mnt/v" --npy q.npy -k 10 --exact --format jsonl "$@"; }
	hits() { jq -c '[.version, [.hits[] | [.key, .distance]]]'; }
	vectool compact $url -q &
	pid=$!
	while kill -0 $pid 2>/dev/null; do question || echo bad; done >answers
	wait $pid
	is "a compaction under queries" $? 0
	question >>answers # and one after it
	is "queries see one commit or the other" "$(hits <answers | sort -u | wc -l)" \
		"$(jq .version answers | sort -u | wc -l)"
	is "of the same rows" "$(jq -c '[.hits[].key]' answers | sort -u | wc -l)" 1
	first=$(jq -s .[0].version answers)
	is "which an old commit still has" "$(question --at "$first" | hits)" "$(head -n 1 answers | hits)"
	umount_bucket "$WORK/mnt"
fi

# ---- no index ---------------------------------------------------------------------------------
fails "an index that is not there" "no index; make it: vectool create" vectool put s3://test/none -
