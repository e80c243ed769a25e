#!/bin/bash
# Names of one folder are looked up beside each other: each may wait for the
# bucket.
. "$(dirname "$0")/e2e_lib.bash"

have_fuse || { skip lookup "no FUSE here"; exit; }
with_s3sim --port 0 || { not_ok lookup "no simulator"; exit; }
mnt=$WORK/mnt
vectool gen --rows 64 --dim 8 --seed 1 -q "$WORK/x.npy"
for i in 1 2 3 4 5 6; do
	vectool put "s3://$S3_BUCKET/i$i" "$WORK/x.npy" -q >/dev/null || not_ok lookup "cannot put"
done
mount_bucket "s3://$S3_BUCKET" "$mnt" -o name_ttl_ms=0 || not_ok lookup "cannot mount"

# Many at once, of folders that are there and of names that are not: each is
# answered as it is.
all() { find "$mnt" -mindepth 1 -path "$mnt/.vecfs" -prune -o -print | sort; }
walk() { # NAMES
	local n
	for n in 1 2 3; do
		[ "$(all)" = "$1" ] || return 1
		! stat "$mnt/i$n/no-such" >/dev/null 2>&1 || return 1
		[ "$(cat "$mnt"/i*/live/000.jsonl | wc -l)" = 384 ] || return 1
	done
}
walks() {
	local names i pids=() bad=0
	names=$(all)
	[ "$(wc -l <<<"$names")" -gt 60 ] || return 1
	for i in 1 2 3 4 5 6; do walk "$names" & pids+=($!); done
	for i in "${pids[@]}"; do wait "$i" || bad=1; done
	[ $bad = 0 ]
}
check "six walks beside each other see the same" walks

# The server holds back every answer: all six are asked for all the same.  A slow
# machine has 25 s for that.
look() {
	stat "$mnt/i1" >/dev/null
	sim 'set?latency_ms=30000' >/dev/null
	sim reset >/dev/null
	for i in 1 2 3 4 5 6; do stat "$mnt/i1/none-$i" >/dev/null 2>&1 & done
	for i in $(seq 250); do
		asked=$(curl -sS "$AWS_ENDPOINT_URL/_sim/stats" | jq '.head + .list')
		[ "$asked" -lt 6 ] || return 0
		sleep 0.1
	done
	return 1
}
check "six names are asked for at once" look
{ kill -9 "$SIM_PID"; wait "$SIM_PID"; } 2>/dev/null
fusermount3 -uz "$mnt"
