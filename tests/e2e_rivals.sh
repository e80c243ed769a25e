#!/bin/bash
# Two to eight writers at once upon one index, threads and processes, over a
# directory and a simulator that loses requests and answers: what each was told
# is what is there.  VF_SEED=N begins elsewhere.
. "$(dirname "$0")/e2e_lib.bash"
cd "$WORK" || exit 1
seed=${VF_SEED:-1}
many=8 some=4
[ "${VF_E2E_QUERIES:-0}" = 0 ] || many=3 some=2 # sanitized: slow
run() { rivals "$@" --seed "$seed"; }
check "threads, a directory" run "file://$WORK/a" c --seeds $many --faults 10
check "processes that die, a directory" run "file://$WORK/b" c --seeds $many \
	--processes --faults 10 --kills 20
with_s3sim --reset-rate 0.02 --error-rate 0.02 --seed "$seed" ||
	{ not_ok "s3sim" "does not start"; exit; }
check "threads, a server with faults" run s3://test/a c --seeds $some --faults 5
check "processes that die, a server with faults" run s3://test/b c --seeds $some \
	--processes --faults 5 --kills 10

# ---- and somebody compacts meanwhile
sim 'set?error_rate=0&reset_rate=0'
run s3://test/c c --each 24 --writers 4 --processes >told 2>&1 &
pid=$! n=0
while kill -0 $pid 2>/dev/null; do
	vectool compact "s3://test/c/s$seed" -q 2>/dev/null && n=$((n + 1))
done
wait $pid && ok "and compactions meanwhile" || not_ok "and compactions meanwhile" "$(cat told)"
[ $n -gt 0 ] && [ "$(vectool stat --json "s3://test/c/s$seed" | jq '.shards | length')" -gt 0 ] ||
	not_ok "compactions" "$n, and no shard"
