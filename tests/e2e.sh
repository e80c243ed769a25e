#!/bin/bash
# Run the end-to-end scripts, all or those named ("mount" is e2e_mount.sh), and
# count their lines: "ok NAME", "not ok NAME: why", "skip NAME: why".
#
#   BIN           folder of the programs (default build/bin)
#   VF_E2E_JOBS   how many at a time (default 3)
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
first="recall rivals_ceph rivals disk tree faults compact" # the long ones

dir=$(mktemp -d)
out=$dir/all
runner=
trap '[ -z "$runner" ] || kill -- -"$runner" 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM PIPE # a reader that ended, too

# They wait more than they work: some at a time, each shown whole, in order;
# the long ones begin first, so that none is left to run alone.
run_one() { # SCRIPT
	local to
	to=$dir/$(basename "$1")
	TIMEFORMAT='%R %U %S'
	{ time timeout --foreground 900 bash "$1" >"$to.out" 2>&1; } 2>"$to.time"
	echo $? >"$to.tmp"
	mv "$to.tmp" "$to.rc"
}
export -f run_one
export dir
for s in "${scripts[@]}"; do
	n=$(basename "$s" .sh) at=9
	[[ " $first " != *" ${n#e2e_} "* ]] || at=0
	echo "$at $s"
done | sort -s -n -k 1,1 | cut -d ' ' -f 2- >"$dir/list"
set -m # a group of its own, to be ended whole
xargs -P "${VF_E2E_JOBS:-3}" -I{} bash -c 'run_one "$1"' run_one {} <"$dir/list" &
runner=$!
set +m

for s in "${scripts[@]}"; do
	name=$(basename "$s")
	while [ ! -e "$dir/$name.rc" ] && kill -0 $runner 2>/dev/null; do sleep 0.2; done
	read -r wall user sys 2>/dev/null <"$dir/$name.time"
	echo "== ${name%.sh}, ${wall:-?} s, of them on a CPU ${user:-?} and ${sys:-?}"
	rc=$(cat "$dir/$name.rc" 2>/dev/null || echo unknown)
	cat "$dir/$name.out"
	if [ "$rc" != 0 ] && ! grep -q '^not ok' "$dir/$name.out"; then
		echo "not ok ${name%.sh}: exit status $rc" | tee -a "$dir/$name.out"
	fi
	cat "$dir/$name.out" >>"$out"
done
passed=$(grep -c '^ok ' "$out")
failed=$(grep -c '^not ok' "$out")
skipped=$(grep -c '^skip ' "$out")
[ -n "${VF_NO_SKIP:-}" ] && failed=$((failed + skipped))
echo "e2e: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
