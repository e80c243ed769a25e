#!/bin/bash
# What an answer says that it cost is what the bucket was asked for: cold, with
# some of it in the disk tier, with some in memory, and when all is at hand.
. "$(dirname "$0")/e2e_lib.bash"

have_fuse || { skip cost "no FUSE here"; exit; }
with_s3sim || { not_ok cost "no simulator"; exit; }
mnt=$WORK/mnt
mkdir -m 0700 "$WORK/disk"
vectool gen --rows 20000 --dim 256 --seed 1 --queries 12 --queries-out "$WORK/q.npy" "$WORK/base.npy" -q &&
	vectool put "s3://$S3_BUCKET/v" "$WORK/base.npy" --bits 5 -q || { not_ok cost "cannot put"; exit; }
/usr/bin/python3 - "$WORK/q.npy" >"$WORK/queries" <<'PY'
import json, sys
import numpy as np
for x in np.load(sys.argv[1]):
    print(json.dumps({"vector": [float(v) for v in x]}))
PY
mount_it() { mount_bucket "s3://$S3_BUCKET" "$mnt" -o "name_ttl_ms=60000,hedge=0,ram=64M,disk=$WORK/disk:256M"; }
gets() { curl -sS "$AWS_ENDPOINT_URL/_sim/stats" | jq .get; }
# Queries FIRST..LAST in one process, "told made" of each but the first, with
# which the index is opened.  Codes do not fit: nobody reads them beside.
ask() ( # FIRST LAST FILE; a process has one coprocess
	local line before answer first=1 pid
	coproc Q { exec vecquery "$mnt/v" --stdin --no-metadata -k 10 --ram 1M; }
	pid=$Q_PID
	while IFS= read -r line; do
		before=$(gets)
		echo "$line" >&"${Q[1]}"
		IFS= read -r answer <&"${Q[0]}"
		[ $first = 1 ] || echo "$(jq .cost.gets <<<"$answer") $(($(gets) - before))"
		first=0
	done < <(sed -n "$1,$2p" "$WORK/queries") >"$3"
	exec {Q[1]}>&-
	wait "$pid"
	echo "   told and made: $(tr '\n' ',' <"$3")"
)
is_honest() { awk '$1 != $2 { bad = 1 } END { exit bad || NR != 5 }' "$1"; } # FILE
made() { awk '{ n += $2 } END { print n + 0 }' "$1"; }

mount_it || { not_ok cost "no mount"; exit; }
ask 1 6 "$WORK/cold"
check "cold queries ask the bucket" [ "$(made "$WORK/cold")" -gt 0 ]
check "and say how often" is_honest "$WORK/cold"
ask 1 6 "$WORK/warm"
check "what is in memory is no request" is_honest "$WORK/warm"
umount_bucket "$mnt"
until_true is_gone "$mnt"
mount_it || { not_ok cost "no second mount"; exit; }
ask 1 6 "$WORK/disk_hits"
check "nor what is in the disk tier" [ "$(made "$WORK/disk_hits")" = 0 ]
check "and no answer says that it is" is_honest "$WORK/disk_hits"
ask 6 11 "$WORK/mixed"
check "of both, what the bucket was asked for counts" is_honest "$WORK/mixed"
umount_bucket "$mnt"
