#!/bin/bash
# A cold query fetches all its rows in one round: while every GET is held back,
# they are all under way at once, not one after the other.  What that means in
# milliseconds is bench/bench_cold's to say; here requests are counted.  No
# tree: with one, neighbours lie in few blocks and there is little to fetch.
. "$(dirname "$0")/e2e_lib.bash"

have_fuse || { skip cold "no FUSE here"; exit; }
with_s3sim --port 0 --data "$WORK/sim" || { not_ok cold "no simulator"; exit; }
mnt=$WORK/mnt
vectool gen --rows 20000 --dim 1024 --seed 1 --queries 1 \
	--queries-out "$WORK/q1.npy" "$WORK/base.npy" -q &&
	vectool put "s3://$S3_BUCKET/v" "$WORK/base.npy" -q --leaves 1 >/dev/null ||
	{ not_ok cold "cannot put"; exit; }
# The same query twice in one process: the first is cold, the index open.
/usr/bin/python3 -c "import numpy as np, sys
np.save(sys.argv[2], np.repeat(np.load(sys.argv[1]), 2, 0))" "$WORK/q1.npy" "$WORK/q.npy"
mount_bucket "s3://$S3_BUCKET" "$mnt" -o name_ttl_ms=60000 || { not_ok cold "no mount"; exit; }

# What opening costs, to be subtracted: the index open, no row read.
vecquery "$mnt/v" --npy "$WORK/q1.npy" -k 1 --candidates 1 >/dev/null
umount_bucket "$mnt"
mount_bucket "s3://$S3_BUCKET" "$mnt" -o name_ttl_ms=60000
vecquery "$mnt/v" --npy "$WORK/q1.npy" -k 1 --candidates 1 >/dev/null # codes are now cached
sim 'set?latency_ms=30' >/dev/null
sim reset >/dev/null
vecquery "$mnt/v" --npy "$WORK/q.npy" -k 10 --candidates 100 --format jsonl >"$WORK/answers" ||
	{ not_ok cold "query failed"; exit; }
stats=$(curl -sS "$AWS_ENDPOINT_URL/_sim/stats")
rows=$(jq -s '.[0].cost.rows_read' "$WORK/answers")
echo "   $rows rows read: $(jq -c '{get, waves, max_in_flight}' <<<"$stats");" \
	"$(jq -s '.[0].cost.ms.total - .[1].cost.ms.total | floor' "$WORK/answers") ms beyond warm"
check "100 rows are read" [ "$rows" = 100 ]
check "by at most one GET each, and few for the records" jq -e '.get >= 20 and .get <= 130' <<<"$stats"
check "in one round" jq -e '.waves <= 3 and .max_in_flight >= 30' <<<"$stats"
sim reset >/dev/null
vecquery "$mnt/v" --npy "$WORK/q.npy" -k 10 --candidates 100 >/dev/null
check "warm, the bucket is not asked for a byte" jq -e '.get == 0' <<<"$(curl -sS "$AWS_ENDPOINT_URL/_sim/stats")"
