#!/bin/bash
# How programs are called: a command line that makes no sense is status 2 and one
# line, from every program and verb, what is wrong with files or buckets is 1;
# and what is printed to a descriptor that is closed goes nowhere else.
. "$(dirname "$0")/e2e_lib.bash"
cd "$WORK" || exit 1
ix=$WORK/bucket/i
mkdir bucket
vectool gen --rows 20 --dim 8 --seed 1 -q base.npy
vectool put "$ix" base.npy -q
version=$(vectool stat --json "$ix" | jq .version)

# status WANT COMMAND...
status() {
	local want=$1 rc
	shift
	timeout 60 "$@" >out 2>err </dev/null
	rc=$?
	if [ $rc = "$want" ] && [ "$(wc -l <err)" = 1 ]; then
		ok "status $want: ${*//$WORK\//}"
	else
		not_ok "status $want: ${*//$WORK\//}" "$rc: $(cat err)"
	fi
}

for verb in put import; do
	status 2 vectool $verb "$ix" base.npy --metric foo
	status 2 vectool $verb "$ix" base.npy --dtype u8
	status 2 vectool $verb "$ix" base.npy --bits 9
done
long=$(printf '%0200d' 0)
status 2 vectool put "$ix" base.npy --every 5
status 2 vectool put "$WORK/bucket/j" base.npy --non-filterable "$long"
status 2 vectool create "$WORK/bucket/j"
status 2 vectool create "$WORK/bucket/j" --dim 8 --metric foo
status 2 vectool create "$WORK/bucket/j" --dim 8 --dtype f8
status 2 vectool create "$WORK/bucket/j" --dim 8 --non-filterable "$long"
status 2 vectool import "$ix"
status 2 vectool import "$ix" base.npy --text body
status 2 vectool import "$ix" base.npy --skip-empty
status 2 vectool import "$ix" base.npy --model m
status 2 vectool import "$ix" base.npy base.npy --keys k
status 2 vectool import "$WORK/bucket/j" --texts t
status 2 vectool import "$WORK/bucket/j" --texts t --embed hash:0
status 2 vectool import "$WORK/bucket/j" t.csv --embed http://localhost:1
status 2 vectool import "$WORK/bucket/j" t.csv --embed http://localhost:1 --model ''
status 2 vectool export "$ix" out.foo
status 2 vectool export "$ix" out.npy --format foo
status 2 vectool export "$ix" out.npy --metadata m
status 2 vectool get "$ix"
status 2 vectool delete "$ix"
status 2 vectool delete "$ix" 1 --filter '{"n": 1}'
status 2 vectool delete "$ix" --filter '{"$n": }'
status 2 vectool ls "$ix" --filter '{"$n": }'
status 2 vectool ls "$ix" --segment 9/3
status 2 vectool ls "$ix" --page x
status 2 vectool gc "$ix" --older-than 3x
status 2 vectool restore "$ix"
status 2 vectool recall "$ix"
status 2 vectool recall "$ix" --npy base.npy --keys k
status 2 vectool recall "$ix" --npy base.npy --probes 1,x
status 2 vectool recall "$ix" --npy base.npy -k 10 --candidates 5
status 2 vectool pin "$WORK" --range 5-4
status 2 vectool warm "$WORK" --rate fast
status 2 vectool top "$WORK" --interval never
status 2 vectool gen out.npy
status 2 vectool gen out.npy --rows 5 --dim 8 --queries-out q.npy
status 2 vectool stat
status 2 vectool stat "$ix" --no-such
status 2 vecquery "$ix" --filter '{"$n": }' --npy base.npy
status 2 vecquery "$ix" --npy base.npy -k 0
status 2 vecquery "$ix" --npy base.npy --key 1

status 1 vectool put "$ix" absent.npy
status 1 vectool put "$ix" base.npy --metric dot
status 1 vectool stat "$WORK/bucket/absent"
status 1 vectool pin "$WORK"
status 1 vecquery "$ix" --npy absent.npy
fails "queries through a pipe: where they can go" 'to --stdin' bash -c "vecquery '$ix' --npy <(cat base.npy)"
is "nothing was written" "$(vectool stat --json "$ix" | jq .version)" "$version"
is "nothing was made" "$(ls bucket)" "$(printf '%s\n' _vecfs i)"

# ---- closed descriptors
fails "keys that nobody can see" 'standard output: Bad file' bash -c "vectool ls '$ix' >&-"
occupied() { # PID
	local n
	for n in $(seq 200); do
		[ "$(readlink /proc/"$1"/fd/2)" = /dev/null ] && return 0
		sleep 0.02
	done
	return 1
}
mkfifo lines
for program in "vectool put $ix -" "vecquery $ix --stdin"; do
	$program <lines >out 2>&- &
	pid=$!
	exec 9>lines
	check "messages of ${program%% *} are in no file" occupied $pid
	exec 9>&-
	wait $pid
done
if have_fuse; then
	mkdir mnt
	MOUNTS+=("$WORK/mnt")
	vecfs -f "file://$WORK/bucket" mnt 2>&- &
	check "messages of vecfs are in no file" occupied $!
	check "the mount is there" bash -c "for i in \$(seq 100); do mountpoint -q mnt && exit; sleep 0.05; done; exit 1"
	umount_bucket mnt
	wait
else
	skip "messages of vecfs are in no file" "no FUSE"
fi
