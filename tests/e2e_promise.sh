#!/bin/bash
# The promise of vecfs-formats(7): buckets written by released formats, kept in
# tests/data, are opened, searched, read, verified and written to.
#
# bucket-1: "rows" has a tree, codes of 4 bits, a checkpoint, a boundary below
# which the log was collected, rows inline, deleted and replaced ones; "texts"
# has an embedder and float16.
#
# bucket-2: "rows" has a tree and codes of version 2, of 4 bits.
. "$(dirname "$0")/e2e_lib.bash"
data=$(cd "$(dirname "$0")" && pwd)/data
cd "$WORK" || exit 1
deep() { vectool verify "$1" --deep | grep -oE '[0-9]+ rows read, sum [0-9a-f]{16}: all is well'; }

tar -xzf "$data/bucket-1.tar.gz"
is "its rows are whole" "$(deep bucket/rows)" "34 rows read, sum 643621fe2d242a9c: all is well"
is "and those of texts" "$(deep bucket/texts)" "2 rows read, sum 33d753960081f82e: all is well"
vectool export bucket/rows rows.jsonl -q --check
is "as they were, to the last digit" "$(sort rows.jsonl | md5sum | cut -d' ' -f1)" 9b0a02df884381badfc4eefaeb9e1a3c
keys() { jq -r '[.hits[].key] | join(" ")'; }
is "a query" "$(vecquery bucket/rows --key k80 -k 3 --format jsonl | keys)" "k80 k84 k89"
is "all exactly" "$(vecquery bucket/rows --key k80 -k 3 --exact --format jsonl | keys)" "k80 k84 k89"
is "a text" "$(vecquery bucket/texts --text "web server" -k 1 --format jsonl | keys)" b
is "metadata" "$(vectool get bucket/rows k5)" $'k5\t{"n":5,"even":true,"tags":["a","é"]}'
vectool gen --rows 2 --dim 8 --seed 3 -q more.npy
printf 'k1\nmore\n' >more.keys
check "it is written to" vectool put bucket/rows more.npy --keys more.keys
is "one row more" "$(vectool stat --json bucket/rows | jq .rows)" 35
vectool gen --rows 400 --dim 8 --seed 5 -q many.npy
check "a shard of today follows a tree of version 1" vectool put bucket/rows many.npy --bits 4
versions() { for f in "$@"; do od -An -tu4 -j8 -N4 "$f"; done | sort -n | uniq | xargs; }
is "beside those of version 1" "$(versions bucket/rows/shard/*/codes.vix)" "1 2"
is "a query of both" "$(vecquery bucket/rows --key k80 -k 20 --format jsonl | keys)" \
	"$(vecquery bucket/rows --key k80 -k 20 --exact --format jsonl | keys)"
check "and compacted" vectool compact bucket/rows
check "and right after it" vectool verify bucket/rows --deep

tar -xzf "$data/bucket-2.tar.gz"
is "version 2" "$(versions bucket-2/rows/shard/*/codes.vix bucket-2/rows/tree/*)" 2
is "its rows are whole" "$(deep bucket-2/rows)" "100 rows read, sum 1bf47a8ead67d3c4: all is well"
is "a query" "$(vecquery bucket-2/rows --key k80 -k 3 --format jsonl | keys)" "k80 k68 k14"

# A format that is newer than ours is refused, not guessed at.
head=$(ls bucket/texts/log | tail -1)
printf '\x02' | dd of="bucket/texts/log/$head" bs=1 seek=8 conv=notrunc status=none
fails "a newer format" 'newer|version' vectool stat bucket/texts
