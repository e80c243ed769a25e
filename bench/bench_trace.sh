#!/bin/bash
# Replacement policies on a recorded trace: which blocks of vectors.npy the
# candidates of queries lie in, the queries asked again as often as is usual
# (Zipf) or in sessions of neighbours, then bench_policy on that.
#
#   ROWS 100000   QUERIES 2000 of the same distribution   ASKED 20000 times
#   ZIPF 0.9      of the queries' popularity              ROW_BYTES 4096
#   INDEX, NPY    an index and its queries of your own, keys the row numbers
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
bin=${BIN:-$here/build/bin}
dir=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-trace-XXXXXX")
trap 'rm -rf "$dir"' EXIT

if [ -z "${INDEX:-}" ]; then
	INDEX=$dir/bucket/i NPY=$dir/q.npy
	mkdir "$dir/bucket"
	"$bin/vectool" gen --rows "${ROWS:-100000}" --dim 256 --seed 5 --queries "${QUERIES:-2000}" \
		--queries-out "$NPY" "$dir/base.npy" -q
	"$bin/vectool" put "$INDEX" "$dir/base.npy" -q
fi
"$bin/vecquery" "$INDEX" --npy "$NPY" -k 100 --rerank none --no-metadata --format jsonl |
	jq -r '[.hits[].key] | join(" ")' >"$dir/rows"

# Popularity by rank; ranks are dealt to queries at random.
awk -v asked="${ASKED:-20000}" -v s="${ZIPF:-0.9}" -v per="$((65536 / ${ROW_BYTES:-4096}))" '
	{ rows[NR] = $0 }
	END {
		srand(7)
		for (i = 1; i <= NR; i++) order[i] = i
		for (i = NR; i > 1; i--) { j = 1 + int(rand() * i); t = order[i]; order[i] = order[j]; order[j] = t }
		for (i = 1; i <= NR; i++) sum += i ^ -s
		for (i = 1; i <= NR; i++) at[i] = at[i - 1] + i ^ -s / sum
		for (n = 0; n < asked; n++) {
			u = rand(); lo = 1; hi = NR
			while (lo < hi) { mid = int((lo + hi) / 2); if (at[mid] < u) lo = mid + 1; else hi = mid }
			split("", seen)
			k = split(rows[order[lo]], row, " ")
			for (i = 1; i <= k; i++) {
				b = int(row[i] / per)
				if (!(b in seen)) { seen[b] = 1; print b }
			}
		}
	}' "$dir/rows" >"$dir/trace"
echo "$(wc -l <"$dir/trace") reads of $(sort -u "$dir/trace" | wc -l) blocks by ${ASKED:-20000} queries"
"$bin/bench_policy" --trace "$dir/trace"
