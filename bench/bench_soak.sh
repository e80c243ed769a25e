#!/bin/bash
# Everything that may happen to the disk tier, with a server that fails and is
# slow all the while: 200 kills in mid-fill, then every part of
# tests/e2e_disk.sh with new seeds until the time is over.
#
#   SOAK_SECONDS  600        SOAK_CUTS  200        SOAK_SEED  1
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
export BIN=${BIN:-$here/build/bin}
export VF_E2E_FAULTS="error_rate=0.05&reset_rate=0.05&latency_ms=2"
seed=${SOAK_SEED:-1}
end=$((SECONDS + ${SOAK_SECONDS:-600}))
out=$(mktemp)
trap 'rm -f "$out"' EXIT

VF_E2E_SEED=$seed VF_E2E_CUTS=${SOAK_CUTS:-200} VF_E2E_PARTS=cuts \
	bash "$here/tests/e2e_disk.sh" | tee -a "$out"
while [ $SECONDS -lt $end ]; do
	seed=$((seed + 1))
	echo "== seed $seed"
	VF_E2E_SEED=$seed bash "$here/tests/e2e_disk.sh" | tee -a "$out"
done
echo "soak: $(grep -c '^ok ' "$out") passed, $(grep -c '^not ok ' "$out") failed"
! grep -q '^not ok ' "$out"
