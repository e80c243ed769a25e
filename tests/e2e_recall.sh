#!/bin/bash
# Recall on real vectors, through a mount of a real S3 server.  The bars are
# those of an independent implementation of the same estimator.
. "$(dirname "$0")/e2e_lib.bash"

DATA=$SHARED/data
N=${VF_E2E_QUERIES:-0} # 0: all; fewer under sanitizers
SETS="cohere-4096 ada002-1536 minilm-384 glove-50 sift-castle-128 sift-5k-128 mnist-784"
# A sanitizer looks at the code, not at the recall: it sees all of it here too.
[ "$N" = 0 ] || SETS="minilm-384 sift-5k-128"

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

wide="cohere-4096 ada002-1536 minilm-384" # sets with 5 bits
options() { # SET: what put takes besides; seeded, so that figures repeat
	case " $wide " in
	*" $1 "*) echo --seed 7 --bits 5 ;;
	*) echo --seed 7 ;;
	esac
}

bar() { # BAR: it is meant for all queries; a few may well miss it
	[ "$N" = 0 ] && echo "$1" || echo 0.85
}
among() { # SET: is it measured?
	case " $SETS " in *" $1 "*) ;; *) false ;; esac
}
no_row_read() { # in the last answers
	jq -se 'all(.cost.rows_read == 0 and all(.hits[]; .exact | not))' \
		"$WORK/answers"
}

for set in $SETS; do
	for metric in cosine euclidean; do
		vectool put "$url/$set-$metric" "$DATA/$set/base.npy" -q \
			--metric $metric --shard-rows 60000 $(options $set) >"$WORK/out" 2>&1 ||
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
for set in $SETS; do
	measure "the knobs as they come: $set" $set cosine $(bar .95)
done
for bar in cohere-4096:0.999 ada002-1536:0.999 minilm-384:0.99; do
	among ${bar%:*} || continue
	measure "recall with 100 candidates: ${bar%:*}" ${bar%:*} cosine ${bar#*:} \
		--candidates 100
done
# By estimates alone: what FAISS's RaBitQ finds with 5 bits, less .005.
for bar in cohere-4096:.9840 ada002-1536:.9840 minilm-384:.9720; do
	among ${bar%:*} || continue
	measure "recall by 5 bits, no row read: ${bar%:*}" ${bar%:*} cosine \
		$(bar ${bar#*:}) --candidates 100 --rerank fast
	check "and no row was read: ${bar%:*}" no_row_read
done
# The 1 bit of RaBitQ, so many rows read of each query; bars likewise.
for bar in cohere-4096:10:.8960 cohere-4096:15:.9863 cohere-4096:20:.9920 \
	ada002-1536:10:.8825 ada002-1536:15:.9765 ada002-1536:20:.9920 \
	minilm-384:20:.9475 minilm-384:50:.9890 \
	glove-50:50:.947 glove-50:100:.985; do
	IFS=: read -r set rows least <<<"$bar"
	among $set || continue
	measure "recall by 1 bit and $rows rows: $set" $set cosine \
		$(bar $least) --candidates $rows
done
! among cohere-4096 ||
	measure "plain Hamming finds less: cohere-4096" cohere-4096 cosine 0.7 \
		--candidates 20 --hamming
