#!/bin/bash
# One flipped byte anywhere in an index gives an error or the right answer, never
# a wrong one, a crash or a hang.
. "$(dirname "$0")/e2e_lib.bash"

src=$WORK/bucket
mkdir "$src"
vectool gen --rows 60 --dim 16 --seed 5 --queries 3 --queries-out "$WORK/q.npy" \
	"$WORK/base.npy" -q || { not_ok damage "gen failed"; exit; }
vectool put "file://$src/p" "$WORK/base.npy" -q >/dev/null &&
	vectool put "file://$src/z" "$WORK/base.npy" -q --compress >/dev/null ||
	{ not_ok damage "put failed"; exit; }

ask() { timeout 20 vecquery "$1" --npy "$WORK/q.npy" -k 5 --exact --format jsonl; }
# Which byte of which file: every STEP-th, so that headers, rows, padding, tables
# and tails are all met.
for index in p z; do
	ask "$src/$index" | jq -c .hits >"$WORK/right"
	wrong=0 refused=0 same=0
	while read -r f; do
		len=$(stat -c %s "$f")
		step=$((len / 40 + 1))
		for ((at = 0; at < len; at += step)); do
			cp -p "$f" "$WORK/kept"
			byte=$(od -An -tu1 -j $at -N 1 "$f")
			printf "\\x$(printf %02x $((byte ^ 0x40)))" |
				dd of="$f" bs=1 seek=$at conv=notrunc status=none
			ask "$src/$index" >"$WORK/answer" 2>"$WORK/err"
			rc=$?
			if [ $rc = 1 ]; then
				refused=$((refused + 1))
			elif [ $rc = 0 ] && jq -c .hits "$WORK/answer" | cmp -s - "$WORK/right"; then
				same=$((same + 1))
			else
				wrong=$((wrong + 1))
				echo "   byte $at of $f: exit status $rc"
			fi
			cp -p "$WORK/kept" "$f"
		done
	done < <(find "$src/$index" "$src/_vecfs/indexes/$index" -type f | sort)
	echo "   $index: $refused refused, $same harmless, $wrong wrong"
	if [ $wrong = 0 ] && [ $refused -gt 100 ]; then
		ok "a flipped byte is never a wrong answer: $index"
	else
		not_ok "a flipped byte is never a wrong answer: $index" "$wrong wrong, $refused refused"
	fi
done
