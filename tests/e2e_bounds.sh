#!/bin/bash
# What a query may cost: bounds read few rows, in one round; a limit of
# requests or of time is kept, and what it leaves out is said.
. "$(dirname "$0")/e2e_lib.bash"

have_fuse || { skip bounds "no FUSE here"; exit; }
with_s3sim --port 0 --data "$WORK/sim" || { not_ok bounds "no simulator"; exit; }
mnt=$WORK/mnt
vectool gen --rows 8000 --dim 512 --seed 1 --queries 4 \
	--queries-out "$WORK/q.npy" "$WORK/base.npy" -q &&
	vectool put "s3://$S3_BUCKET/v" "$WORK/base.npy" -q --bits 5 >/dev/null ||
	{ not_ok bounds "cannot put"; exit; }

# ask OPTIONS...: cold rows, codes warm; answers and counts of requests.
# INDEX: of another index; ROWS: rows warm too
ask() {
	mountpoint -q "$mnt" && umount_bucket "$mnt"
	mount_bucket "s3://$S3_BUCKET" "$mnt" -o name_ttl_ms=60000 || return 1
	local ix=$mnt/${INDEX:-v}
	cat "$ix"/shard/*/codes.vix ${ROWS:+"$ix"/shard/*/vectors.npy} >/dev/null
	vecquery "$ix" --npy "$WORK/one.npy" -k 1 --rerank none >/dev/null # names, headers
	sim 'set?latency_ms='"${LATENCY:-30}" >/dev/null
	sim reset >/dev/null
	vecquery "$ix" --npy "$WORK/q1.npy" --format jsonl "$@" >"$WORK/answer" 2>"$WORK/err"
	local rc=$?
	stats=$(curl -sS "$AWS_ENDPOINT_URL/_sim/stats")
	sim 'set?latency_ms=0' >/dev/null
	return $rc
}
says() { jq -e "$1" "$WORK/answer"; }
stat_says() { jq -e "$1" <<<"$stats"; }
/usr/bin/python3 -c "import numpy as np, sys
q = np.load(sys.argv[1])
np.save(sys.argv[2], q[:1])
np.save(sys.argv[3], q[3:])" "$WORK/q.npy" "$WORK/q1.npy" "$WORK/one.npy"

check "a cold query" ask
echo "   $(jq -c '.cost | {rounds, gets, got, rows_read, from}' "$WORK/answer");" \
	"$(jq -c '{get, waves}' <<<"$stats")"
check "few rows are read" says '.cost.rows_read <= 20 and .bound_met'
check "in one round" says '.cost.rounds == 1'
check "its requests are those it reports" stat_says \
	".get <= $(jq .cost.gets "$WORK/answer") + 3 and .get <= 30"
check "every hit is exact" says 'all(.hits[]; .exact) and (.partial | not)'
best=$(jq -c '[.hits[].key]' "$WORK/answer")

ask --max-gets 6 # its exit status may be 3: partial
check "no more requests than allowed" stat_says '.get <= 6 + 3'
check "the answer says so" says '.cost.gets <= 6 and (.bound_met | not)'
check "fewer hits are a partial answer" says '.partial == ((.hits | length) < 10)'

LATENCY=1500 ask --max-ms 200
check "time is limited" says '.cost.ms.total < 1000 and (.bound_met | not)'
check "what did not come keeps its estimate" says 'any(.hits[]; .exact | not)'

# Records are long here: together more than is asked for on suspicion.
vectool gen --rows 600 --dim 512 --seed 2 "$WORK/few.npy" -q
/usr/bin/python3 -c "import random
random.seed(1)
for i in range(600): print('{\"t\":\"%0*x\"}' % (16384, random.getrandbits(65536)))" >"$WORK/long.jsonl"
vectool put "s3://$S3_BUCKET/m" "$WORK/few.npy" --metadata "$WORK/long.jsonl" -q ||
	not_ok bounds "cannot put"
for how in "--rerank exact" "--rerank fast" --exact "--candidates 600"; do
	INDEX=m ROWS=1 ask -k 400 $how
	check "$how: the lines of 400 hits come in one round" says '(.hits | length) == 400 and .cost.rounds == 1'
	check "$how: and were asked for at once" stat_says '.waves <= 6'
done
for how in "--rerank exact" "--rerank fast" "--rerank none" "--good-enough 9"; do
	INDEX=m ROWS=1 ask -k 40 --max-gets 4 $how
	check "$how: requests for lines are limited" stat_says '.get <= 4 + 3'
	check "$how: hits without theirs are left out" says '.partial and (.hits | length) < 40 and (.hits | length) > 0'
	LATENCY=1500 INDEX=m ROWS=1 ask -k 40 --max-ms 200 $how
	check "$how: so is the time for them" says '.cost.ms.total < 1000 and .partial'
done
fails "--exact with a limit" '--exact reads every row' vecquery "$mnt/m" --npy "$WORK/q1.npy" --exact --max-gets 5

# The codes are away too, and are under the same limits.  (Of an index that has
# a tree: others are small.)
vectool put "s3://$S3_BUCKET/w" "$WORK/base.npy" -q --leaves 256 >/dev/null ||
	not_ok bounds "cannot put"
ask_cold() {
	mountpoint -q "$mnt" && umount_bucket "$mnt"
	mount_bucket "s3://$S3_BUCKET" "$mnt" -o name_ttl_ms=60000 || return 1
	vecquery "$mnt/w" --npy "$WORK/one.npy" -k 1 --probes 1 --rerank none >/dev/null
	sim 'set?latency_ms='"${LATENCY:-0}" >/dev/null
	sim reset >/dev/null
	vecquery "$mnt/w" --npy "$WORK/q1.npy" --format jsonl --probes 200 "$@" \
		>"$WORK/answer" 2>"$WORK/err"
	stats=$(curl -sS "$AWS_ENDPOINT_URL/_sim/stats")
	sim 'set?latency_ms=0' >/dev/null
}
ask_cold
check "without a limit all leaves are scanned" says '.cost.leaves == 200 and .bound_met'
ask_cold --max-gets 1
check "a limit of requests is one of codes too" stat_says '.get <= 1 + 3'
check "leaves are left for it, and it is said" says '.cost.leaves < 200 and (.bound_met | not)'
LATENCY=1500 ask_cold --max-ms 400
check "a limit of time is one of codes too" says '.cost.ms.total < 1400 and .cost.leaves < 200'
check "and that is said" says '.bound_met | not'

ask --good-enough 2
check "nothing is at hand: the bucket is asked" says '.cost.gets > 0'
vecquery "$mnt/v" --npy "$WORK/q1.npy" --format jsonl -k 5 --good-enough 2 >"$WORK/answer"
check "what is at hand is good enough" says '.cost.gets == 0 and (.hits | length) == 5'
vecquery "$mnt/v" --npy "$WORK/q1.npy" --format jsonl >"$WORK/answer"
check "warm, nothing is asked for" says '.cost.gets == 0 and .cost.rounds == 0'
check "and the answer is the same" says "[.hits[].key] == $best"
