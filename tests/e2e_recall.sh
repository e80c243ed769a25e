#!/bin/bash
# Recall on real vectors, through a mount of a real S3 server.  The bars are
# those of an independent implementation of the same estimator.
. "$(dirname "$0")/e2e_lib.bash"

DATA=$SHARED/data
N=${VF_E2E_QUERIES:-0} # 0: all; fewer under sanitizers
SETS="cohere-4096 ada002-1536 minilm-384 glove-50 sift-castle-128 sift-5k-128 mnist-784"

[ -d "$DATA" ] || { skip recall "no ../shared/data"; exit; }
have_fuse || { skip recall "no FUSE here"; exit; }
with_s3 || { skip recall "no S3 server"; exit; }
url=s3://$S3_BUCKET/recall-$$-$RANDOM
mnt=$WORK/mnt

first_queries() { # the first N queries of a set, as a file
	if [ "$N" = 0 ]; then
		echo "$DATA/$1/queries.npy"
		return
	fi
	/usr/bin/python3 -c "import numpy as np, sys
np.save(sys.argv[2], np.load(sys.argv[1])[:$N])" "$DATA/$1/queries.npy" "$WORK/$1.q.npy"
	echo "$WORK/$1.q.npy"
}

measure() { # NAME SET METRIC BAR OPTIONS...
	local name=$1 set=$2 metric=$3 bar=$4 n
	shift 4
	vecquery "$mnt/$set-$metric" --npy "$(first_queries "$set")" -k 10 \
		--format jsonl --no-metadata "$@" >"$WORK/answers" 2>"$WORK/err" ||
		{ not_ok "$name" "$(cat "$WORK/err")"; return; }
	n=$(wc -l <"$WORK/answers")
	if said=$(/usr/bin/python3 "$HERE/recall.py" "$DATA/$set" "$metric" "$bar" \
		"$WORK/answers" ${N:+$([ "$N" = 0 ] || echo "$N")} 2>&1); then
		ok "$name"
		echo "   $set $metric: $said"
	else
		not_ok "$name" "$said"
	fi
}

for set in $SETS; do
	for metric in cosine euclidean; do
		vectool put "$url/$set-$metric" "$DATA/$set/base.npy" -q \
			--metric $metric --shard-rows 60000 >"$WORK/out" 2>&1 ||
			not_ok "put $set $metric" "$(cat "$WORK/out")"
	done
done
mount_bucket "$url" "$mnt" || { not_ok recall "no mount"; exit; }
for set in $SETS; do
	for metric in cosine euclidean; do
		measure "exact search is the ground truth: $set, $metric" \
			$set $metric exact --exact
	done
done
for bar in cohere-4096:0.999 ada002-1536:0.999 minilm-384:0.99; do
	measure "recall with 100 candidates: ${bar%:*}" ${bar%:*} cosine ${bar#*:} \
		--candidates 100
done
