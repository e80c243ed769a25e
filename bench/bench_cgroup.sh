#!/bin/bash
# Queries while daemon, query program and page cache share a cgroup: 2 GiB for
# each million rows, then half of it, then a quarter.  The bucket (s3sim, 30 ms)
# is outside; rows are in the disk tier, which was warmed before.
#
#   ROWS 1000000   QUERIES 400   TMPDIR /tmp (13 GB for a million rows)
#   KEEP           folder of bench_query --keep, of so many rows and twice so
#                  many queries, to be used instead
#
# Needs root, for the cgroup.  Bars: p50 2 ms and p99 8 ms within the first; p50
# at most doubled by each halving; no failure.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
bin=${BIN:-$here/build/bin} rows=${ROWS:-1000000} queries=${QUERIES:-400}
export PATH=$bin:$PATH
dir=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-cgroup-XXXXXX")
group=
stop() {
	[ -z "$group" ] || unmount
	kill "$sim" 2>/dev/null || true
	rm -rf --one-file-system "$dir"
}
unmount() {
	fusermount3 -u "$dir/mnt" 2>/dev/null || fusermount3 -uz "$dir/mnt" || true
	while [ -n "$(cat "$group/cgroup.procs")" ]; do sleep 0.1; done
	rmdir "$group" || true
	group=
}
make_group() { # BYTES: of both versions of cgroups
	if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
		group=/sys/fs/cgroup/vecfs-bench-$$
		echo +memory >/sys/fs/cgroup/cgroup.subtree_control
		mkdir "$group"
		echo "$1" >"$group/memory.max"
	else
		group=/sys/fs/cgroup/memory/vecfs-bench-$$
		mkdir "$group"
		echo "$1" >"$group/memory.limit_in_bytes"
	fi
}
within() { (echo "$BASHPID" >"$group/cgroup.procs" && exec "$@"); }

mkdir -p "$dir/mnt" "$dir/cache" "$dir/bucket"
chmod 0700 "$dir/cache"
coproc SIM { exec s3sim --exit-with-parent --data "${KEEP:-$dir}/bucket"; }
sim=$SIM_PID
trap stop EXIT
IFS= read -r line <&"${SIM[0]}"
eval "$line"
url=s3://$S3_BUCKET
if [ -z "${KEEP:-}" ]; then
	vectool gen --rows "$rows" --dim 1024 --seed 1 --queries $((2 * queries)) --queries-out "$dir/queries.npy" "$dir/base.npy" -q
	vectool put "$url/big" "$dir/base.npy" --bits 5 --seed 1 -q
	rm "$dir/base.npy"
fi
/usr/bin/python3 - "$dir" "${KEEP:-$dir}/queries.npy" "$queries" <<'PY'
import json, sys
import numpy as np
d, n = sys.argv[1], int(sys.argv[3])
q = np.load(sys.argv[2], mmap_mode="r")[:2 * n]
for name, part in ("warm", q[:n]), ("new", q[n:]):
    with open(f"{d}/{name}.jsonl", "w") as f:
        for x in part:
            f.write(json.dumps({"vector": [float(v) for v in x]}) + "\n")
PY
# One after the other: what comes together is answered together, and a query's
# time is then that of all.
cat >"$dir/ask.py" <<'PY'
import sys
with open(sys.argv[1], "w") as to, open(sys.argv[2]) as answers:
    for name in sys.argv[3:]:
        for line in open(name):
            to.write(line)
            to.flush()
            answer = answers.readline()
            if not answer:
                sys.exit(1)
            sys.stdout.write(answer)
PY
mkfifo "$dir/to" "$dir/from"
options() { echo "name_ttl_ms=60000,ram=$(($1 / 8 >> 20))M,disk=$dir/cache:$((rows * 6 / 1000 + 512))M"; }
vecfs "$url" "$dir/mnt" -o "$(options $((2 << 30)))"
vectool warm "$dir/mnt/big" -q
fusermount3 -u "$dir/mnt"
while pgrep -f "vecfs .*$dir/mnt" >/dev/null; do sleep 0.1; done
curl -sS -X POST "$AWS_ENDPOINT_URL/_sim/set?latency_ms=30" >/dev/null

limit=$(((2 << 30) / 1000 * rows / 1000)) before=0 rc=0
for part in 1 2 4; do
	make_group $((limit / part))
	within vecfs "$url" "$dir/mnt" -o "$(options $((limit / part)))"
	sync
	echo 3 >/proc/sys/vm/drop_caches
	within vecquery "$dir/mnt/big" --stdin --threads 1 --no-metadata --ram $((limit / part / 4 >> 20))M <"$dir/to" >"$dir/from" &
	query=$!
	/usr/bin/python3 "$dir/ask.py" "$dir/to" "$dir/from" "$dir/warm.jsonl" "$dir/new.jsonl" >"$dir/answers" || rc=1
	wait $query || rc=1
	unmount
	if [ "$(wc -l <"$dir/answers")" -lt $((2 * queries)) ]; then
		echo "$((limit / part >> 20)) MiB: $(wc -l <"$dir/answers") answers of $((2 * queries))  MISS"
		rc=1
		continue
	fi
	tail -n "$queries" "$dir/answers" | jq -s -r --argjson before "$before" --argjson mib $((limit / part >> 20)) '
		(map(.cost.ms.total) | sort) as $ms | ($ms[length / 2 | floor]) as $p50 | ($ms[length * 99 / 100 | floor]) as $p99 |
		(if any(.[]; .error or .partial or .cost.repeated) then "MISS: failures"
		elif $before == 0 and ($p50 > 2 or $p99 > 8) then "MISS"
		elif $before > 0 and $p50 > 2 * $before then "MISS" else "ok" end) as $verdict |
		"\($mib) MiB: p50 \($p50) ms, p99 \($p99) ms, \(map(.cost.rows_read) | add / length) rows read, \(map(.cost.gets) | add) GETs  \($verdict)\n\($p50)"' >"$dir/said"
	head -n 1 "$dir/said"
	grep -q MISS "$dir/said" && rc=1
	before=$(tail -n 1 "$dir/said")
done
exit $rc
