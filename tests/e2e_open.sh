#!/bin/bash
# Opening an index through a mount: what a process that has nothing, over a mount
# that has nothing, asks of the bucket; and how old the commit may be that it
# shows.  Requests are counted, not milliseconds.
. "$(dirname "$0")/e2e_lib.bash"

have_fuse || { skip open "no FUSE here"; exit; }
with_s3sim --port 0 || { not_ok open "no simulator"; exit; }
mnt=$WORK/mnt
url=s3://$S3_BUCKET
stats() { curl -sS "$AWS_ENDPOINT_URL/_sim/stats"; }
ask() { vecquery "$mnt/v" --npy "$WORK/q.npy" -k 3 --format jsonl "$@"; }
nearest() { ask "$@" | jq -r '.hits[0].key'; }
xattr() { /usr/bin/python3 -c "import os, sys; print(os.getxattr(sys.argv[1], sys.argv[2]).decode())" "$@"; }
requests() { jq '.get + .head + .list' <<<"$(stats)"; }

# Three shards under one tree, so that what grows with shards is seen.
vectool gen --rows 6000 --dim 256 --seed 1 --queries 1 \
	--queries-out "$WORK/q.npy" "$WORK/base.npy" -q &&
	/usr/bin/python3 -c "import numpy as np, sys
a = np.load(sys.argv[1])
for i in range(3): np.save('%s/%d.npy' % (sys.argv[2], i), a[i * 2000:(i + 1) * 2000])" \
		"$WORK/base.npy" "$WORK" &&
	vectool gen --rows 60 --dim 256 --seed 2 "$WORK/many.npy" -q &&
	vectool put "$url/v" "$WORK/0.npy" -q --seed 7 --bits 5 --leaves 40 >/dev/null &&
	vectool put "$url/v" "$WORK/1.npy" -q >/dev/null &&
	vectool put "$url/v" "$WORK/2.npy" -q >/dev/null ||
	{ not_ok open "cannot put"; exit; }

# ---- all cold ------------------------------------------------------------------
mount_bucket "$url" "$mnt" -o name_ttl_ms=60000 || { not_ok open "no mount"; exit; }
sim 'set?latency_ms=200' >/dev/null # late by less is still one round
sim reset >/dev/null
ask >"$WORK/cold.json"
cost=$(stats)
sim 'set?latency_ms=0' >/dev/null
echo "   $(jq -c '{get, head, list, waves}' <<<"$cost")"
check "all cold: one LIST, no HEAD" jq -e '.list == 1 and .head == 0' <<<"$cost"
# Four; a round of which requests come late is counted twice.
check "all cold: GETs in four rounds" jq -e '.waves <= 6' <<<"$cost"
check "all cold: at most 80 requests" jq -e '.get + .list <= 80' <<<"$cost"
ask --exact >"$WORK/exact.json"
check "the answer is right" [ "$(jq -c '[.hits[].key]' "$WORK/cold.json")" = \
	"$(jq -c '[.hits[].key]' "$WORK/exact.json")" ]
sim reset >/dev/null
ask --fresh 60000 >"$WORK/again.json"
check "again, by another process: the bucket is asked nothing" [ "$(requests)" = 0 ]
check "and the answer is the same" [ "$(jq -c '.hits' "$WORK/again.json")" = "$(jq -c '.hits' "$WORK/cold.json")" ]

# What is at hand spares requests and changes no answer: codes by leaf, without
# their extra bits, against codes with all of them; then some rows too.
umount_bucket "$mnt"
mount_bucket "$url" "$mnt" -o name_ttl_ms=60000
keys() { vecquery "$mnt/v" --npy "$WORK/many.npy" -k 10 --format jsonl; }
keys >"$WORK/cold.json"
cat "$mnt"/v/shard/*/codes.vix >/dev/null
keys >"$WORK/warm.json"
check "queries read fewer rows where extra bits are at hand" [ \
	"$(jq -s 'map(.cost.rows_read) | add' "$WORK/warm.json")" -lt \
	"$(jq -s 'map(.cost.rows_read) | add' "$WORK/cold.json")" ]
check "and have the same answers" cmp <(jq -c .hits "$WORK/cold.json") <(jq -c .hits "$WORK/warm.json")

# ---- how old a commit may be -----------------------------------------------------
/usr/bin/python3 -c "import numpy as np, sys
np.save(sys.argv[2], np.load(sys.argv[1]))" "$WORK/q.npy" "$WORK/new.npy"
echo new >"$WORK/keys"
vectool put "$url/v" "$WORK/new.npy" --keys "$WORK/keys" -q >/dev/null || not_ok put "failed"
sim reset >/dev/null
check "--fresh 60000: the commit that the mount knows" [ "$(nearest --fresh 60000)" != new ]
check "without a request" [ "$(requests)" = 0 ]
check "--fresh 0 asks for a newer one" [ "$(nearest --fresh 0)" = new ]
check "which the mount then knows" [ "$(nearest --fresh 60000)" = new ]
check "user.vecfs.head says so" [ "$(xattr "$mnt/v" user.vecfs.head | cut -d' ' -f1)" = 4 ]
check "and user.vecfs.head.0" [ "$(xattr "$mnt/v" user.vecfs.head.0 | cut -d' ' -f1)" = 4 ]
fails "--fresh wants a number" "fresh takes milliseconds" \
	vecquery "$mnt/v" --npy "$WORK/q.npy" --fresh soon
check "the state is a file of the mount" [ "$(ls "$mnt/.vecfs/state")" = v ]
fails "of indexes only" "No such file" cat "$mnt/.vecfs/state/w"

# ---- rows in no shard, too many for a checkpoint to carry ----------------------------
/usr/bin/python3 -c "import numpy as np, sys
np.save(sys.argv[1], np.random.default_rng(1).standard_normal((1500, 256), 'f4'))" "$WORK/tail.npy"
vectool create "$url/t" --dim 256 >/dev/null &&
	vectool put "$url/t" "$WORK/tail.npy" -q >/dev/null || not_ok tail "cannot put"
check "a tail is searched from what the mount knows" \
	[ "$(vecquery "$mnt/t" --key 7 -k 1 --format jsonl | jq -r '.hits[0].key')" = 7 ]

# ---- a process that goes on ------------------------------------------------------------
umount_bucket "$mnt"
mount_bucket "$url" "$mnt" -o name_ttl_ms=60000
sim reset >/dev/null
codes=$(cat "$mnt"/v/shard/*/codes.vix | wc -c)
umount_bucket "$mnt"
mount_bucket "$url" "$mnt" -o name_ttl_ms=60000
sim reset >/dev/null
mkfifo "$WORK/in" "$WORK/answers"
vecquery "$mnt/v" --stdin <"$WORK/in" >"$WORK/answers" 2>/dev/null &
goes_on=$!
exec 8>"$WORK/in" 9<"$WORK/answers"
echo '{"key":"1","k":1,"probes":1}' >&8
read -r -t 60 line <&9
check "its first answer needs few of the codes" [ "$(jq -r '.hits[0].key' <<<"$line")" = 1 ]
for i in $(seq 300); do
	[ "$(jq .bytes_out <<<"$(stats)")" -ge "$codes" ] && break
	sleep 0.1
done
check "it reads the others on its own" [ "$(jq .bytes_out <<<"$(stats)")" -ge "$codes" ]
exec 8>&-
check "and ends when its lines do" wait $goes_on
exec 9<&-
umount_bucket "$mnt"
mount_bucket "$url" "$mnt" -o name_ttl_ms=60000
ask --fresh 60000 >/dev/null

# ---- without the bucket -----------------------------------------------------------
sim 'set?error_rate=1' >/dev/null
check "the bucket fails: what is known is shown" [ "$(nearest --fresh 60000)" = new ]
umount_bucket "$mnt"
