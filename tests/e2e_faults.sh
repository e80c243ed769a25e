#!/bin/bash
# Queries while things fail: a bucket that refuses every fifth GET, bodies and
# objects cut short, a mount that dies.  An error or the right answer, in bounded
# time.
. "$(dirname "$0")/e2e_lib.bash"

have_fuse || { skip faults "no FUSE here"; exit; }
with_s3sim --port 0 --data "$WORK/sim" || { not_ok faults "no simulator"; exit; }
mnt=$WORK/mnt
vectool gen --rows 6000 --dim 256 --seed 1 --queries 40 \
	--queries-out "$WORK/q.npy" "$WORK/base.npy" -q &&
	vectool put "s3://$S3_BUCKET/v" "$WORK/base.npy" -q --bits 5 --leaves 64 >/dev/null ||
	{ not_ok faults "cannot put"; exit; }
keys() { jq -c '[.hits[].key]' "$1"; }
remount() {
	mountpoint -q "$mnt" && umount_bucket "$mnt"
	mount_bucket "s3://$S3_BUCKET" "$mnt" -o name_ttl_ms=60000
}
# A fixed count of rows: bounds follow what is at hand, which differs here.
ask() { timeout 60 vecquery "$mnt/v" --npy "$WORK/q.npy" --format jsonl --probes all --candidates 100; }

right_or_said() { # NAME: of the last query, which ended with $rc
	if [ $rc = 0 ]; then
		check "$1: the answers are right" cmp <(keys "$WORK/right") <(keys "$WORK/got")
	else
		check "$1: an error that is said, in time" test $rc -lt 3 -a -s "$WORK/said"
	fi
}

remount && ask >"$WORK/right" || { not_ok faults "cannot search"; exit; }

remount
sim 'set?error_rate=0.2&seed=3' >/dev/null
ask >"$WORK/got" 2>"$WORK/said"
rc=$?
sim 'set?error_rate=0' >/dev/null
right_or_said "a failing bucket"
ask >"$WORK/got"
check "the bucket is well again, and so are the answers" \
	cmp <(keys "$WORK/right") <(keys "$WORK/got")

remount
sim 'set?wrong=short&n=5' >/dev/null
ask >"$WORK/got" 2>"$WORK/said"
rc=$?
sim 'set?wrong=none' >/dev/null
right_or_said "bodies cut short"

# Objects of a shard, and what the log leads to, cut in two.
remount
for object in $(cd "$mnt" && echo v/shard/*/vectors.npy v/shard/*/codes.vix v/tree/* v/log/*1); do
	remount
	cat "$mnt/$object" >"$WORK/whole"
	head -c $(($(stat -c %s "$WORK/whole") / 2)) "$WORK/whole" >"$WORK/half"
	check "${object##*/} is cut" s3_put "$object" "$WORK/half"
	remount
	ask >"$WORK/got" 2>"$WORK/said"
	rc=$?
	check "${object##*/} in half: an error that names it" bash -c \
		"[ $rc = 1 ] && [ \$(wc -l <'$WORK/said') = 1 ] && grep -qF '${object##*/}: ' '$WORK/said'"
	s3_put "$object" "$WORK/whole"
done
remount
ask >"$WORK/got"
check "whole again, the answers are right" cmp <(keys "$WORK/right") <(keys "$WORK/got")

# A mount whose process dies with rows on their way: no hang, no crash.
remount
sim 'set?latency_ms=300' >/dev/null
pid=$(jq -r '.pid // empty' "$mnt/.vecfs/status.json" 2>/dev/null)
if [ -n "$pid" ]; then
	ask >"$WORK/got" 2>"$WORK/said" &
	query=$!
	sleep 1
	kill -9 "$pid"
	wait $query
	rc=$?
	check "the mount dies: an error that is said, no signal" \
		test $rc = 1 -a -s "$WORK/said"
	sim 'set?latency_ms=0' >/dev/null
	fusermount3 -u "$mnt" 2>/dev/null
	remount && ask >"$WORK/got"
	check "another mount answers" cmp <(keys "$WORK/right") <(keys "$WORK/got")
else
	skip "the mount dies" "its process is not told"
fi
