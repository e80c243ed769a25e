#!/bin/bash
# All tests: unit, then end-to-end.  The last line is the sum of both.
set -u
here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp)
trap 'rm -f "$out"' EXIT

${WRAP:-} "$BIN/unit" 2>&1 | tee "$out"
unit_rc=${PIPESTATUS[0]}
"$here/e2e.sh" 2>&1 | tee -a "$out"

sum() { sed -n "s/^\(unit\|e2e\): .*\b\([0-9][0-9]*\) $1.*/\2/p" "$out" | paste -sd+ | bc_; }
bc_() { local e; read -r e; echo $((${e:-0})); }
passed=$(sum passed) failed=$(sum failed) skipped=$(sum skipped)
# A run that died before it could count has failed.
grep -q '^unit: ' "$out" || failed=$((failed + 1))
[ "$unit_rc" = 0 ] || [ "$failed" -gt 0 ] || failed=1
grep -q '^e2e: ' "$out" || failed=$((failed + 1))
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
