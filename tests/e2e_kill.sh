#!/bin/bash
# put, delete and gc killed with -9 at each of their requests: nothing that was
# acknowledged is lost, nothing is half visible, and what was given up is
# collected.  A server that lies about conditional creation is found out.
. "$(dirname "$0")/e2e_lib.bash"
cd "$WORK" || exit 1
with_s3sim || { not_ok "s3sim" "does not start"; exit; }
url=s3://test/k
vectool gen --rows 2000 --dim 16 --seed 1 -q base.npy
vectool gen --rows 20 --dim 16 --seed 2 -q few.npy
vectool gen --rows 1500 --dim 16 --seed 3 -q many.npy
seq -f 'k%g' 0 1999 >base.keys
seq -f 'k%g' 1990 2009 >few.keys
seq -f 'k%g' 1000 2499 >many.keys
all=18446744073709551615 serial=0
version() { vectool stat --json $url | jq .version; }
digest() { vectool ls $url | sort | md5sum; }
n_objects() { curl -s "$AWS_ENDPOINT_URL/_sim/stats" | jq .objects; }
is_silent() { ! curl -s "$AWS_ENDPOINT_URL/_sim/stats" | grep -q '"silent":0'; }

# killed_at N COMMAND...: true when it ended before its N requests were over
killed_at() {
	local pid rc
	sim reset
	sim "set?silent_after=$1"
	shift
	"$@" >said 2>&1 &
	pid=$!
	while kill -0 $pid 2>/dev/null && ! is_silent; do sleep 0.005; done
	is_silent && kill -9 $pid 2>/dev/null
	wait $pid 2>/dev/null
	rc=$?
	sim "set?silent_after=$all"
	[ $rc != 137 ]
}

# each_request NAME VERB ARGS...: on an index of its own for each kill, which is
# then as it was, or as it is one commit later.
each_request() {
	local name=$1 verb=$2 n bad=0 landed=0 got before= after=
	shift 2
	for n in $(seq 1 50); do
		url=s3://test/$verb-$((++serial))
		vectool put $url base.npy --keys base.keys -q
		before=${before:-$(digest)}
		if killed_at $n vectool $verb $url "$@" -q; then break; fi
		got=$(digest)
		case $(version) in
		1) [ "$got" = "$before" ] || bad=$n ;;
		2)
			landed=$((landed + 1)) after=${after:-$got}
			[ "$got" = "$after" ] || bad=$n
			;;
		*) bad=$n ;;
		esac
	done
	[ -s said ] && bad="$n ($(cat said))"
	is "$name, killed at each of $((n - 1)) requests" "$bad" 0
	[ "$(digest)" != "$before" ] && [ "${after:-$(digest)}" = "$(digest)" ] ||
		not_ok "$name" "another outcome when it is left alone"
	[ "$n" -gt 4 ] && [ "$n" -lt 50 ] || not_ok "$name" "$n requests"
	[ $landed -ge 1 ] && [ $landed -le 3 ] || not_ok "$name" "landed $landed times"
}

each_request "few rows put" put few.npy --keys few.keys
each_request "many rows put" put many.npy --keys many.keys
each_request "rows deleted" delete k1 k1995 k599

# ---- gc: each step may be the last
url=s3://test/gc/k n_others=$(n_objects)
vectool put $url base.npy --keys base.keys -q
killed_at 6 vectool put $url many.npy --keys many.keys -q # an upload given up
vectool put $url many.npy --keys many.keys -q
vectool delete $url k395 -q
left=$(digest)
bad=0
for n in $(seq 1 150); do
	killed_at $n vectool gc $url --keep 1 --wait 0 && break
	[ "$(digest)" = "$left" ] || bad=$n
done
is "gc, killed at each of $((n - 1)) requests" "$bad" 0
[ $n -lt 150 ] && [ $n -gt 10 ] || not_ok "gc" "$n requests"
check "and left alone" vectool gc $url --keep 1 --wait 0
is "nothing is lost" "$(digest)" "$left"
rm -r "$XDG_CACHE_HOME"
check "not without what was cached either" vectool get $url k5 k1994 k400 k2 --npy got.npy
# Its own commit made what was uploaded at the head before it garbage as well.
check "once more" vectool gc $url --keep 1 --wait 0
# Left: identity, checkpoint, boundary, its record and that of the last collect.
n_shards=$(vectool stat --json $url | jq '.shards | length')
is "what was given up is collected" $(($(n_objects) - n_others)) $((5 + 3 * n_shards))

# ---- a server that lies
sim 'set?conditional=ignored'
fails "a condition that is ignored" 'created one object.*--single-writer|created twice.*--single-writer' vectool create s3://test/lie/i --dim 16
check "one writer may do without" vectool put s3://test/lie/i few.npy --keys few.keys -q --single-writer
check "and again" vectool put s3://test/lie/i base.npy --keys base.keys -q --single-writer
is "its rows" "$(vectool stat --json s3://test/lie/i | jq .rows)" 2010
sim 'set?conditional=refused'
fails "a condition that is refused" 'only if absent.*--single-writer' vectool create s3://test/no/i --dim 16
check "one writer may do without" vectool put s3://test/no/i few.npy --keys few.keys -q --single-writer
sim 'set?conditional=on'
check "an honest server" vectool create s3://test/yes/i --dim 16
