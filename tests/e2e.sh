#!/bin/bash
# Run the end-to-end scripts, all or those named ("mount" is e2e_mount.sh), and
# count their lines: "ok NAME", "not ok NAME: why", "skip NAME: why".
#
#   BIN           folder of the programs (default build/bin)
#   VF_NO_SKIP=1  a skipped check is a failure: for machines that have it all
set -u
here=$(cd "$(dirname "$0")" && pwd)
export BIN=${BIN:-build/bin}
BIN=$(cd "$BIN" && pwd) || exit 2

scripts=()
if [ $# -gt 0 ]; then
	for n in "$@"; do scripts+=("$here/e2e_$n.sh"); done
else
	scripts=("$here"/e2e_*.sh)
fi

out=$(mktemp)
trap 'rm -f "$out"' EXIT
broken=0
for s in "${scripts[@]}"; do
	echo "== $(basename "$s" .sh)"
	timeout 900 bash "$s" 2>&1 | tee -a "$out"
	rc=${PIPESTATUS[0]}
	if [ "$rc" != 0 ] && ! tail -n 400 "$out" | grep -q '^not ok'; then
		echo "not ok $(basename "$s" .sh): exit status $rc" | tee -a "$out"
	fi
done
passed=$(grep -c '^ok ' "$out")
failed=$(grep -c '^not ok' "$out")
skipped=$(grep -c '^skip ' "$out")
[ -n "${VF_NO_SKIP:-}" ] && failed=$((failed + skipped))
echo "e2e: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
