#!/bin/bash
# ls in pages and segments: together they are what ls lists, each row once, of
# one version whatever is written meanwhile.
. "$(dirname "$0")/e2e_lib.bash"
cd "$WORK" || exit 1
ix=$WORK/bucket/i
mkdir bucket
vectool gen --rows 3000 --dim 8 --seed 1 -q base.npy
vectool gen --rows 40 --dim 8 --seed 2 -q few.npy
seq -f 'k%g' 0 2999 >base.keys
seq -f 'k%g' 2980 3019 >few.keys
seq 0 2999 | sed 's/.*/{"n":&}/' >base.jsonl
vectool put "$ix" base.npy --keys base.keys --metadata base.jsonl --shard-rows 1100 -q
vectool put "$ix" few.npy --keys few.keys -q
seq -f 'k%g' 0 700 >gone.keys
vectool delete "$ix" --keys gone.keys -q
vectool ls "$ix" --json >all.jsonl

# pages INDEX ARGS...: the records of all its pages; how many pages there were
pages() {
	local token=first where=$1 n=0
	shift
	while [ "$token" ] && [ $n -lt 1000 ]; do
		vectool ls "$where" --page "$token" "$@" >page || return 1
		jq -c '.vectors[]' page
		token=$(jq -r '.nextToken // empty' page)
		n=$((n + 1))
	done
	echo $n >n_pages
}
same() { cmp -s <(jq -cS . "$1") <(jq -cS . "$2"); }

pages "$ix" >got && same got all.jsonl && ok "pages are what ls lists" || not_ok "pages" "$(wc -l <got) rows"
is "of 500 rows" "$(cat n_pages)" 5
pages "$ix" -n 97 >got && same got all.jsonl && ok "small pages too" || not_ok "small pages" "$(wc -l <got) rows"
pages "$ix" --filter '{"n":{"$gte":2000}}' -n 100 >got
is "pages of a filter" "$(wc -l <got) $(tail -n 1 got | jq .metadata.n)" "980 2979"
for n in 1 3 7; do
	for i in $(seq 0 $((n - 1))); do vectool ls "$ix" --json --segment $i/$n; done >got
	same got all.jsonl && ok "$n segments" || not_ok "$n segments" "$(wc -l <got) rows"
done
for i in 0 1 2; do pages "$ix" -n 150 --segment $i/3 || break; done >got
same got all.jsonl && ok "pages of segments" || not_ok "pages of segments" "$(wc -l <got) rows"
is "more segments than rows" "$(vectool create "$WORK/bucket/o" --dim 8 -q; for i in 0 1 2; do vectool ls "$WORK/bucket/o" --segment $i/3; done | wc -l)" 0
is "the page of nothing" "$(vectool ls "$WORK/bucket/o" --page first)" '{"vectors":[]}'

# ---- written to between two pages
token=$(vectool ls "$ix" --page first -n 1000 | tee got.page | jq -r .nextToken)
vectool delete "$ix" k2500 -q
vectool compact "$ix" -q
{ jq -c '.vectors[]' got.page; vectool ls "$ix" --page "$token" -n 9999 | jq -c '.vectors[]'; } >got
same got all.jsonl && ok "pages stay at their version" || not_ok "pages stay at their version" "$(wc -l <got) rows"
vectool gc "$ix" --keep 1 --wait 0 -q
fails "a version that gc gave up" 'was collected' vectool ls "$ix" --page "$token"

# ---- what is no token
for bad in '' x 1 1.2.3 1.0.0.0.-1 99.0.0.0.1 5.0.0.0.1x 5.99.0.0.1 5.0.99999.1.1 5.0.0.7.1; do
	fails "token \"$bad\"" 'no token|was collected' vectool ls "$ix" --page "$bad"
done
version=$(vectool stat --json "$ix" | jq .version)
fails "a token into the middle of a line" 'damaged record line' vectool ls "$ix" --page "$version.0.5.3.10"
fails "a page without rows" 'a row at least' vectool ls "$ix" --page first -n 0
for bad in 1 1/ 3/3 -1/2 1/0 0/99999 a/b 1/2x; do
	fails "segment $bad" 'is not I/N' vectool ls "$ix" --segment $bad
done
fails "a page of a bucket" 'no index' vectool ls "$WORK/bucket" --page first

# ---- many indexes ----------------------------------------------------------------------------
if with_s3sim; then
	for i in $(seq 10 49); do vectool create s3://test/b/i$i --dim 8 -q; done
	sim 'set?latency_ms=20'
	sim reset
	is "indexes are told in order" "$(vectool ls s3://test/b --json | jq -r .index | xargs)" "$(seq -f i%g 10 49 | xargs)"
	waves=$(curl -s "$AWS_ENDPOINT_URL/_sim/stats" | jq .waves)
	[ "$waves" -le 20 ] && ok "and looked at together" || not_ok "indexes looked at together" "$waves rounds of GETs"
	is "no more than asked for" "$(vectool ls s3://test/b --json -n 3 | wc -l)" 3
else
	skip "many indexes" "s3sim does not start"
fi
