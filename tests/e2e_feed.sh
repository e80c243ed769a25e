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
printf 'k%s\n' 2499 2500 5000 8499 >some.keys
vectool get $url --keys some.keys --npy got.npy -q
check "of the vectors that were sent" /usr/bin/python3 -c "
import numpy as n
x, got = n.load('base.npy'), n.load('got.npy')
assert n.array_equal(got, x[[2499, 0, 2500, 5999 % 3000]])"

if have_fuse && mount_bucket s3://test "$WORK/mnt"; then
	check "a fold leaves a checkpoint" [ -n "$(ls "$WORK/mnt/v/checkpoint")" ]
fi

# ---- an outcome that cannot be learned ---------------------------------------------------
mkfifo pipe
start() { # options: begin a stream whose first line is acknowledged
	: >acks
	vectool put $url - --every 20 "$@" <pipe >acks 2>said &
	pid=$!
	exec 8>pipe
	head -n 1 rows.jsonl >&8
	for _ in $(seq 400); do [ -s acks ] && return || sleep 0.05; done
	not_ok "a stream" "no acknowledgement: $(cat said)"
}
start --timeout 300
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
sed -n 2,400p rows.jsonl >&8
kill -INT $pid
wait $pid
is "interrupted" $? 130
exec 8>&-
n=$(grep -o 'committed up to line [0-9]*$' said | grep -o '[0-9]*$')
is "nothing is there but what was acknowledged" "$(jq -s last.line acks)" "$n"
is "which is whole" "$(json $url | jq .version)" "$(jq -s last.version acks)"

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
