#!/bin/bash
# Writers at once against Ceph's gateway, which is killed and started again
# meanwhile: nothing that was acknowledged is lost.  VF_S3_KIND=ceph keeps the
# objects on disk, VF_SEED=N and VF_SEEDS=N choose the runs.
. "$(dirname "$0")/e2e_lib.bash"
cd "$WORK" || exit 1
[ -x "$SHARED/s3/start-s3.sh" ] || { skip "writers against Ceph" "no ../shared here"; exit; }
seed=${VF_SEED:-1} seeds=${VF_SEEDS:-1} s3=$WORK/s3
start_s3 "${VF_S3_KIND:-light}" "$s3" || { not_ok "Ceph" "does not start"; exit; }

# The gateway alone: what it had not stored is lost with it.
restart_gateway() {
	local pid
	pid=$(cat "$s3/run/client.rgw.pid")
	kill -9 "$pid"
	while kill -0 "$pid" 2>/dev/null && ! grep -qs '^State:.Z' "/proc/$pid/status"; do sleep 0.02; done
	setsid radosgw -f -c "$s3/ceph.conf" -n client.rgw </dev/null >>"$s3/log/again.out" 2>&1 &
	echo $! >"$s3/run/client.rgw.pid"
	disown
	until curl -s -o /dev/null "$AWS_ENDPOINT_URL" || [ $((++tries)) -gt 600 ]; do sleep 0.1; done
}

rivals "s3://$S3_BUCKET/rivals" c --seed "$seed" --seeds "$seeds" --processes --writers 4 \
	--each 16 --kills 5 >told 2>&1 &
pid=$! n=0 tries=0
while kill -0 $pid 2>/dev/null; do
	sleep 0.$((3 + RANDOM % 7))
	restart_gateway
	n=$((n + 1))
done
wait $pid && ok "writers are told the truth by a gateway killed $n times" ||
	not_ok "writers and a gateway killed $n times" "$(cat told)"
cat told
[ $n -gt 0 ] || not_ok "the gateway" "was never killed"
