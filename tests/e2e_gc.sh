#!/bin/bash
# Versions given up and brought back: gc deletes what only old versions need
# and nothing else, restore makes an earlier version the newest, drop is undone
# by restore; a reader and a writer that slept across a gc go on or are refused.
. "$(dirname "$0")/e2e_lib.bash"
cd "$WORK" || exit 1
src=$WORK/bucket
mkdir "$src"
ix=$src/i

rows() { vectool stat --json "$1" | jq -c '[.rows, .version]'; }
keys() { vectool ls "$1" | sort | md5sum; }
vectors() { rm -f got.npy; vectool get "$1" --keys "$2" --npy got.npy && md5sum <got.npy; }
n_objects() { find "$src/i/$1" -type f 2>/dev/null | wc -l; }

vectool gen --rows 3000 --dim 16 --seed 1 -q base.npy
vectool gen --rows 100 --dim 16 --seed 2 -q few.npy
seq -f 'k%g' 0 2999 >base.keys
seq -f 'k%g' 2950 3049 >few.keys

# ---- restore
vectool put "$ix" base.npy --keys base.keys --leaves 8 -q # 1
vectool put "$ix" few.npy --keys few.keys -q              # 2
at2=$(keys "$ix") few2=$(vectors "$ix" few.keys)
vectool delete "$ix" k3000 k7 -q # 3
at3=$(keys "$ix")
seq -f 'k%g' 2900 2999 >some.keys
some3=$(vectors "$ix" some.keys)
[ -n "$few2" ] && [ -n "$some3" ] || not_ok "get" "nothing came"
vectool put "$ix" base.npy --keys base.keys -q # 4: few.npy's rows die
at4=$(keys "$ix")
check "restore" vectool restore "$ix" --at 2
is "the keys are those of then" "$(keys "$ix")" "$at2"
is "and the vectors" "$(vectors "$ix" few.keys)" "$few2"
is "as a new version" "$(rows "$ix")" '[3050,5]'
check "restore what was restored from" vectool restore "$ix" --at 4
is "its keys are there" "$(keys "$ix")" "$at4"
check "restore to where we are is no commit" bash -c "vectool restore '$ix' --at 4 | grep -q 'is as at'"
is "the version stays" "$(rows "$ix" | jq .[1])" 6
fails "a version to come" 'no commit 99' vectool restore "$ix" --at 99
fails "no version" '--at N is needed' vectool restore "$ix"
is "the log tells" "$(vectool log "$ix" --json -n 1 | jq .restored)" 4

# ---- drop
check "drop" vectool drop "$ix"
is "nothing is left" "$(rows "$ix")" '[0,7]'
fails "drop again" 'nothing to drop' vectool drop "$ix"
check "stat says so, and how to undo it" bash -c "vectool stat '$ix' | grep -q '^dropped (vectool restore'"
check "and ls" bash -c "vectool ls '$src' | grep -q '^i .* dropped '"
vectool gen --rows 10 --dim 24 --seed 3 -q other.npy
check "it can be made anew" vectool put "$ix" other.npy -q
check "a dropped index comes back, over another one" vectool restore "$ix" --at 3
is "as it was" "$(keys "$ix")" "$at3"
check "and is searched" vecquery "$ix" --npy few.npy -k 3
fails "names that differ in case" "name" vectool create "$src/I" --dim 16

# ---- gc: what is given up by others is there too
orphan=00000000000000000002-0123456789abcdef0123456789abcdef
late=00000000000000000099-0123456789abcdef0123456789abcdef
mkdir -p "$ix/shard/$orphan" "$ix/shard/$late" "$ix/shard/not ours"
echo x | tee "$ix/shard/$orphan/vectors.npy" "$ix/shard/$late/codes.vix" \
	"$ix/shard/not ours/x" >"$ix/tree/$orphan.vit"
all=$(find "$src" -type f | sort | md5sum)
check "dry run" vectool gc "$ix" --keep 1 --dry-run
is "deletes nothing" "$(find "$src" -type f | sort | md5sum)" "$all"
vectool stat --json "$ix" >/dev/null
check "by age, nothing is old" bash -c "vectool gc '$ix' --older-than 1h --dry-run | grep -q 'every version'"
fails "an age that is none" 'no age' vectool gc "$ix" --older-than 1y
for args in "gc $ix --older-than 1y" "restore $ix" "ls $ix --segment 3/3" "delete $ix k1 --filter {}"; do
	vectool $args 2>/dev/null
	is "a mistake of usage: ${args%% *}" $? 2
done
check "gc keeps versions" vectool gc "$ix" --keep 7 --wait 0 # 10: from 3 on
is "a kept version is whole" "$(vectool restore "$ix" --at 3 -q && keys "$ix")" "$at3"
is "that is below the boundary is refused" \
	"$(vectool restore "$ix" --at 2 2>&1 | grep -c 'was collected')" 1
[ -e "$ix/shard/$orphan" ] && [ -n "$(ls "$ix/shard/$orphan")" ] && not_ok "an upload given up" "is there" || ok "an upload given up is gone"
[ -e "$ix/tree/$orphan.vit" ] && not_ok "its tree" "is there" || ok "its tree too"
[ -e "$ix/shard/$late/codes.vix" ] && [ -e "$ix/shard/not ours/x" ] && ok "what may be needed stays" || not_ok "what may be needed stays" "gone"
# At 3, the rows of few.npy are in no shard.
is "of records below the boundary, one that holds rows of no shard is left" \
	"$(ls "$ix/log" | head -n 2 | tr -d 0 | tr '\n' ' ')" "2 3 "
if command -v script >/dev/null; then # a terminal
	script -qec "vectool gc '$ix' --keep 1 --wait 1" /dev/null >terminal
	grep -q 'on their way: 0 s' terminal && ok "gc says how long it has waited" || not_ok "gc says how long it has waited" "$(cat -v terminal)"
else
	check "gc of all but the newest" vectool gc "$ix" --keep 1 --wait 0
fi
is "keys are those of then" "$(keys "$ix")" "$at3"
rm -r "$XDG_CACHE_HOME"
is "without what was cached too" "$(keys "$ix")" "$at3"
is "and the vectors" "$(vectors "$ix" some.keys)" "$some3"
check "and searched" vecquery "$ix" --npy few.npy -k 3
check "and written to" vectool put "$ix" few.npy --keys few.keys -q
is "one boundary, one checkpoint" "$(n_objects boundary) $(n_objects checkpoint)" "1 1"
check "gc is done again" bash -c "vectool gc '$ix' --keep 1 --wait 0 && vectool gc '$ix' --keep 1 --wait 0 && vectool ls '$ix' | grep -q k3049"

# ---- an embedder: the one in use stays, one that was given up goes
for i in 1 2 3; do echo "{\"key\":\"$i\",\"text\":\"a red fox $i\"}"; done >docs.jsonl
if vectool import "$src/e" --texts docs.jsonl --embed hash:64 -q 2>err; then
	used=$(ls "$src/e/embed")
	cp "$src/e/embed/$used" "$src/e/embed/$orphan.vfe"
	cp "$src/e/embed/$used" "$src/e/embed/${late}.vfe"
	cp "$src/e/embed/$used" "$src/e/embed/other.vfe"
	for i in 1 2 3; do vectool delete "$src/e" $i -q; done
	check "gc" vectool gc "$src/e" --keep 1 --wait 0 -q
	is "an embedder given up is gone, that in use is there" "$(ls "$src/e/embed" | xargs)" \
		"$(printf '%s\n' "$used" "${late}.vfe" other.vfe | sort | xargs)"
	vectool drop "$src/e" -q
	check "gc once more" vectool gc "$src/e" --keep 1 --wait 0 -q
	[ -e "$src/e/embed/$used" ] && not_ok "that of a dropped index" "is there" || ok "that of a dropped index goes"
else
	not_ok "an embedder" "$(cat err)"
fi

# ---- a writer that slept across a gc: its uploads are void, so it uploads again
vectool put "$src/w" few.npy --keys few.keys -q
newest() { vectool stat --json "$src/w" | jq .version; }
for try in $(seq 20); do # until it is stopped between its first shard and its commit
	at=$(newest)
	vectool put "$src/w" base.npy --keys base.keys --shard-rows 50 -q 2>err &
	pid=$!
	until ls -d "$src/w/shard/$(printf %020d "$at")"-* >/dev/null 2>&1 || ! kill -0 $pid 2>/dev/null; do :; done
	kill -STOP $pid 2>/dev/null && [ "$(newest)" = "$at" ] && break
	kill -CONT $pid 2>/dev/null
	wait $pid
done
for i in 1 2; do vectool put "$src/w" few.npy --keys few.keys --shard-rows 200 -q; done
vectool gc "$src/w" --keep 1 --wait 0 -q
kill -CONT $pid
wait $pid
is "a put that slept across a gc" "$? $(grep -c 'starting over' err)" "0 1"
is "has all its rows there" "$(rows "$src/w" | jq .[0])" 3050
check "and every object" vectool verify "$src/w" --deep

# ---- deleted many at once, where the server can
if with_s3sim; then
	stat_of() { curl -s "$AWS_ENDPOINT_URL/_sim/stats" | jq ".$1"; }
	swept() { # swept KIND NAME: an index of 40 versions, all but one given up
		url="s3://test/a&b/$2" n=$(stat_of objects)
		vectool create "$url/i" --dim 2 -q
		for i in $(seq 20); do echo '{"key":"'"$i"'","vector":[1,2]}'; done |
			vectool put "$url/i" - -q >/dev/null
		for i in $(seq 12); do vectool delete "$url/i" "$i" -q; done
		before=$(keys "$url/i")
		sim "set?multi_delete=$1"
		sim reset
		check "gc, deleting many at once: $1" vectool gc "$url/i" --keep 1 --wait 0 -q
		is "nothing is lost" "$(keys "$url/i")" "$before"
		left=$(($(stat_of objects) - n))
	}
	vectool create s3://test/log/i --dim 2 -q
	for i in $(seq 20); do echo '{"key":"'"$i"'","vector":[1,2]}' | vectool put s3://test/log/i - -q >/dev/null; done
	sim 'set?latency_ms=20'
	sim reset
	is "a log that is read at once" "$(vectool stat --json s3://test/log/i | jq .version)" 21
	[ "$(stat_of max_in_flight)" -ge 8 ] && ok "has its records under way together" ||
		not_ok "records under way together" "$(stat_of max_in_flight)"
	for verb in log verify; do
		sim reset
		check "$verb of it" vectool $verb s3://test/log/i
		[ "$(stat_of waves)" -le 4 ] && ok "reads them together: $verb" ||
			not_ok "reads them together: $verb" "$(stat_of waves) rounds"
	done
	sim 'set?latency_ms=0'
	swept on on
	is "in one request" "$(stat_of post) $(stat_of delete)" "1 0"
	few=$left
	swept refused refused
	[ "$(stat_of delete)" -gt 10 ] && ok "one by one" || not_ok "one by one" "$(stat_of delete) requests"
	is "as much is gone" "$left" "$few"
	swept partial partial
	is "as much is gone, after some failed" "$left" "$few"
else
	not_ok "s3sim" "does not start"
fi

# ---- a mount that stays
if have_fuse; then
	check "mount" mount_bucket "file://$src" "$WORK/mnt"
	check "a query through it" vecquery "$WORK/mnt/i" --npy few.npy -k 1
	for i in 1 2 3; do vectool put "$ix" few.npy --keys few.keys -q; done
	vectool gc "$ix" --keep 1 --wait 0 -q
	vectool delete "$ix" k3049 -q
	sleep 1.1 # names in a mount expire
	is "a mount behind the boundary begins again" "$(vectool ls "$WORK/mnt/i" | sort | md5sum)" "$(keys "$ix")"
	umount_bucket "$WORK/mnt"
else
	skip "a mount across a gc" "no FUSE here"
fi
