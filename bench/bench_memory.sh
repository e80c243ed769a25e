#!/bin/bash
# What the daemon takes with many shards open: queries over all of them, random
# reads and a warm-up at once, against RAM tier + 96 MiB.
#
#   SHARDS 1000   RAM 64 (MiB)   SECONDS_RUN 20
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
bin=${BIN:-$here/build/bin} shards=${SHARDS:-1000} ram=${RAM:-64}
dir=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-memory-XXXXXX")
stop() {
	kill $(jobs -p) 2>/dev/null || true
	wait
	fusermount3 -u "$dir/mnt" 2>/dev/null || fusermount3 -uz "$dir/mnt"
	while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
	rm -rf --one-file-system "$dir"
}
trap stop EXIT
mkdir "$dir/bucket" "$dir/mnt" "$dir/cache"
chmod 0700 "$dir/cache"
"$bin/vectool" gen --rows $((shards * 400)) --dim 256 --seed 5 --queries 20 --queries-out "$dir/q.npy" "$dir/base.npy" -q
"$bin/vectool" put "$dir/bucket/i" "$dir/base.npy" --shard-rows 400 -q
"$bin/vecfs" "file://$dir/bucket" "$dir/mnt" -o "ram=${ram}M,disk=$dir/cache:1G,passthrough=off"
pid=$(jq .pid "$dir/mnt/.vecfs/status.json")
end=$((SECONDS + ${SECONDS_RUN:-20}))
while [ $SECONDS -lt $end ]; do "$bin/vecquery" "$dir/mnt/i" --npy "$dir/q.npy" -k 10 >/dev/null 2>&1; done &
(
	for f in "$dir"/mnt/i/shard/*/vectors.npy; do
		exec {h}<"$f" # open until the end
	done
	while [ $SECONDS -lt $end ]; do
		dd if="$(ls -d "$dir"/mnt/i/shard/*/vectors.npy | shuf -n 1)" of=/dev/null bs=4k count=1 skip=$((RANDOM % 100)) 2>/dev/null
	done
) &
"$bin/vectool" warm "$dir/mnt/i" -q >/dev/null 2>&1 || true
while [ $SECONDS -lt $end ]; do sleep 1; done
awk -v ram="$ram" -v n="$(ls -d "$dir"/mnt/i/shard/* | wc -l)" '
	/^VmHWM/ { peak = $2 / 1024 } /^VmRSS/ { now = $2 / 1024 }
	END {
		bar = ram + 96
		printf "%d shards, ram=%dM: resident %.0f MiB, peak %.0f MiB, bar %d  %s\n", n, ram, now, peak, bar, peak <= bar ? "ok" : "MISS"
		exit peak > bar
	}' "/proc/$pid/status"
