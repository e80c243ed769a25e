#!/bin/bash
# vecquery --stdin: a program drives it line by line; answers come in order,
# bad lines have theirs, and the stream goes on.
. "$(dirname "$0")/e2e_lib.bash"

url=file://$WORK/bucket
mkdir "$WORK/bucket"
vectool gen --rows 3000 --dim 96 --seed 1 "$WORK/base.npy" -q &&
	vectool put "$url/v" "$WORK/base.npy" -q --bits 5 >/dev/null ||
	{ not_ok stream "cannot put"; exit; }
ask() { vecquery "$WORK/bucket/v" --stdin "$@"; }
says() { jq -se "$1" "$WORK/answers"; }

for i in $(seq 0 299); do echo "{\"key\":\"$i\",\"k\":$((i % 5 + 1))}"; done >"$WORK/lines"
check "300 lines are answered" eval 'ask <"$WORK/lines" >"$WORK/answers"'
check "in order" says '[.[].query] == [range(300)]'
check "each with its own knobs" says 'all(.[]; (.hits | length) == .query % 5 + 1)'
check "each with its own vector" says 'all(.[]; .hits[0].key == (.query | tostring))'
vecquery "$WORK/bucket/v" --key 7 -k 3 --format jsonl | jq -c '[.hits[] | [.key, .distance]]' >"$WORK/one"
check "as a query alone" says "[.[7].hits[] | [.key, .distance]][:3] == $(cat "$WORK/one")"

{
	echo '{"key":"1"}'
	echo 'no json'
	echo '{"key":"none"}'
	echo '{"key":"1","vector":[1]}'
	echo '{"vector":[1,2]}'
	echo '{"key":"1","sort":3}'
	echo '{"key":"1","k":"many"}'
	echo '{"text":"words"}'
	echo
	echo '[1]'
	head -c 5000000 /dev/zero | tr '\0' ' '
	echo
	printf '{"key":"2","max_gets":4,"on_error":"partial","rerank":"fast","probes":"all"}'
} >"$WORK/lines"
ask <"$WORK/lines" >"$WORK/answers" 2>"$WORK/err"
check "bad lines make the exit status 3" [ $? = 3 ]
check "and each has an answer" says 'length == 12'
check "which says what is wrong" says 'all(.[1:11][]; .error | length > 5)'
check "the last line is answered" says '.[11].hits[0].key == "2"'

yes '{"key":"5"}' | head -n 50 >"$WORK/lines"
check "repeated lines" eval 'ask --threads 1 <"$WORK/lines" >"$WORK/answers"'
check "are answered from memory" says '([.[].cost.repeated] | map(select(.)) | length) >= 40'
check "not without it" eval 'ask --cache 0 <"$WORK/lines" >"$WORK/answers"'
check "every one is searched for" says 'all(.[]; .cost.repeated | not)'

# A program that waits for each answer before it asks again.
coproc ASKING { ask 2>/dev/null; }
said=ok
for i in 3 1 2; do
	echo "{\"key\":\"$i\",\"k\":1}" >&"${ASKING[1]}"
	read -r -t 20 line <&"${ASKING[0]}" || said="no answer to $i"
	[ "$(jq -r '.hits[0].key' <<<"$line")" = $i ] || said="to $i: $line"
done
check "a line is answered before the next" [ "$said" = ok ]
eval "exec ${ASKING[1]}>&-"

check "the example of the library builds and finds" eval \
	'"$BIN/example" "$WORK/bucket/v" 7 | head -n 1 | grep -q " 7 "'

vecquery "$WORK/bucket/v" --key 7 -k 3 --ram 1 --format jsonl | jq -c '[.hits[] | [.key, .distance]]' >"$WORK/little"
check "codes that do not fit are read as needed" cmp "$WORK/one" "$WORK/little"

first=$(vecquery "$WORK/bucket/v" --key 7 --format jsonl | jq .version)
vectool gen --rows 50 --dim 96 --seed 2 "$WORK/more.npy" -q &&
	vectool put "$url/v" "$WORK/more.npy" -q >/dev/null
vecquery "$WORK/bucket/v" --key 7 --format jsonl --at "$first" >"$WORK/answers"
check "an old commit is shown" says ".[0].version == $first and .[0].cost.scanned == 3000"
vecquery "$WORK/bucket/v" --key 7 --format jsonl >"$WORK/answers"
check "and the newest" says ".[0].version > $first"
fails "a commit that is not there is refused" "no commit 900" \
	vecquery "$WORK/bucket/v" --key 7 --at 900
