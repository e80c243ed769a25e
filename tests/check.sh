#!/bin/bash
# All tests: unit beside end-to-end.  The last line is the sum of both.
set -u
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
unit=
trap '[ -z "$unit" ] || kill "$unit" 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM PIPE

${WRAP:-} "$BIN/unit" >"$dir/unit" 2>&1 &
unit=$!
"$here/e2e.sh" 2>&1 | tee "$dir/e2e"
wait $unit
unit_rc=$?
unit=
cat "$dir/unit"

sum() { sed -n "s/^\(unit\|e2e\): .*\b\([0-9][0-9]*\) $1.*/\2/p" "$dir/unit" "$dir/e2e" | paste -sd+ | bc_; }
bc_() { local e; read -r e; echo $((${e:-0})); }
passed=$(sum passed) failed=$(sum failed) skipped=$(sum skipped)
# A run that died before it could count has failed.
grep -q '^unit: ' "$dir/unit" || failed=$((failed + 1))
[ "$unit_rc" = 0 ] || [ "$failed" -gt 0 ] || failed=1
grep -q '^e2e: ' "$dir/e2e" || failed=$((failed + 1))
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
