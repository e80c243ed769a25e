#!/bin/bash
# The disk tier under everything that may happen to it, its program and its
# bucket: what was read stays at hand, and no wrong byte is ever given.
#
#   VF_E2E_PARTS  which parts ("cuts flips"), all when unset
#   VF_E2E_CUTS   how often the program is killed in mid-fill (12)
#   VF_E2E_SEED   of all that is drawn at random
#   VF_E2E_FAULTS settings of s3sim that hold throughout ("error_rate=0.05")
. "$(dirname "$0")/e2e_lib.bash"

have_fuse || { skip disk "no FUSE here"; exit; }
with_s3sim --port 0 --data "$WORK/sim" || { not_ok disk "no simulator"; exit; }
url=s3://$S3_BUCKET mnt=$WORK/mnt src=$WORK/src
seed=${VF_E2E_SEED:-1}
RANDOM=$seed
mkdir -p "$src/more"

faults() { sim "set?latency_ms=0&error_rate=0&reset_rate=0&${VF_E2E_FAULTS:-}" >/dev/null; }
faults

head -c 12345678 /dev/urandom >"$src/big"
head -c 70000 /dev/urandom >"$src/small"
for i in 0 1 2 3; do head -c $((5000000 + i * 77777)) /dev/urandom >"$src/more/$i"; done
for f in big small more/0 more/1 more/2 more/3; do
	s3_put $f "$src/$f" || { not_ok disk "cannot put $f"; exit; }
done

# ---- helpers

enter() { # DISK [OPTIONS]: a small RAM tier, and every read through the daemon
	mount_bucket "$url" "$mnt" -o "disk=$1,ram=4M,name_ttl_ms=100,passthrough=off,rewarm=0${2:+,$2}"
}
daemon() { jq .pid "$mnt/.vecfs/status.json"; }
# PID: the program has ended, and let go of its cache.  Whoever is to reap it
# may take a second for that; a zombie holds nothing.
gone() {
	timeout 60 bash -c "while grep -q '^State:.[^ZX]' /proc/$1/status 2>/dev/null; do sleep 0.02; done"
}
leave() {
	local pid
	pid=$(daemon) || return 1
	timeout 20 bash -c "until fusermount3 -u '$mnt' 2>/dev/null; do sleep 0.05; done" && gone "$pid"
}
crash() {
	local pid
	pid=$(daemon) || return 1
	kill -9 "$pid"
	gone "$pid"
	fusermount3 -uz "$mnt"
}
number() { jq -r ".$1" "$mnt/.vecfs/status.json"; }
gets() { curl -sS "$AWS_ENDPOINT_URL/_sim/stats" | jq .get; }
same() { # FILE...: right to the last byte
	local f
	for f; do timeout 120 cmp "$src/$f" "$mnt/$f" || return 1; done
}
# What was read is written behind: wait until nothing more comes.
written() {
	local a=-1 b
	while b=$(number disk.writes) && [ "$a" != "$b" ]; do
		a=$b
		sleep 0.3
	done
}
same_at_once() { # the same, by readers side by side
	local f p pids=() rc=0
	for f; do
		same "$f" &
		pids+=($!)
	done
	for p in "${pids[@]}"; do wait "$p" || rc=1; done
	return $rc
}
all=(big small more/0 more/1 more/2 more/3)

# ---- restart

part_restart() {
	local d=$WORK/restart n
	check "mount with a disk tier" enter "$d:256M"
	check "the first reading asks the bucket" same "${all[@]}"
	# what went past the small RAM tier is read again, to be kept
	same "${all[@]}"
	check "unmount" leave
	sim reset >/dev/null
	check "mount again" enter "$d:256M"
	check "the same bytes" same "${all[@]}"
	n=$(gets)
	[ "$n" = 0 ] && ok "from the disk: 0 GETs" || not_ok "from the disk: 0 GETs" "$n GETs"
	check "and they are counted" jq -e '.cache.disk_hits > 400 and .disk.damaged == 0' "$mnt/.vecfs/status.json"
	check "a second program is refused the same cache" refuses "another program" "$d:256M"
	leave
}

# refuses PATTERN DISK: one line, no mount
refuses() {
	mkdir -p "$WORK/other"
	timeout 60 vecfs "$url" "$WORK/other" -o "disk=$2" 2>"$WORK/said" && return 1
	grep -qE "$1" "$WORK/said" && [ "$(wc -l <"$WORK/said")" = 1 ] || {
		cat "$WORK/said" >&2
		return 1
	}
	! mountpoint -q "$WORK/other"
}

# ---- another bucket in the same cache

part_other() {
	local d=$WORK/other-bucket n
	head -c 300000 /dev/urandom >"$src/twin"
	s3_put one/x "$src/twin"
	s3_put two/x "$src/twin" # the same key, size and ETag as seen from the URLs
	enter "$d:64M" && same small && leave
	for n in one two; do
		sim reset >/dev/null
		check "mount $n" mount_bucket "$url/$n" "$mnt" -o "disk=$d:64M,ram=4M"
		check "right bytes of $n" timeout 60 cmp "$src/twin" "$mnt/x"
		written
		[ "$(gets)" -gt 0 ] && ok "$n is asked for its own" || not_ok "$n is asked for its own" "0 GETs"
		leave
	done
	sim reset >/dev/null
	mount_bucket "$url/one/" "$mnt" -o "disk=$d:64M,ram=4M"
	check "the first again" timeout 60 cmp "$src/twin" "$mnt/x"
	[ "$(gets)" = 0 ] && ok "is still there" || not_ok "is still there" "$(gets) GETs"
	leave
}

# ---- kill -9 in mid-fill

part_cuts() {
	local d=$WORK/cuts n=${VF_E2E_CUTS:-12} i f n_wrong=0 n_down=0 asked=0 blocks
	enter "$d:1G" && same big && same big && leave ||
		{ not_ok "cuts" "cannot prepare"; return; }
	blocks=$(((12345678 + 65535) / 65536))
	for ((i = 0; i < n; i++)); do
		f=more/$((RANDOM % 4)) # a new version: there is something to fill
		head -c $((4000000 + RANDOM * 50)) /dev/urandom >"$src/$f"
		s3_put $f "$src/$f"
		enter "$d:1G" || { n_down=$((n_down + 1)); continue; }
		/usr/bin/python3 -c "import os, sys
for f in sys.argv[1:]:
    with open(f, 'rb') as h:
        while h.read(1 << 20): pass" "$mnt/$f" "$mnt/more/$((RANDOM % 4))" 2>/dev/null &
		sleep "0.$(printf %03d $((RANDOM % 400)))"
		crash
		wait $! 2>/dev/null
		enter "$d:1G" || { n_down=$((n_down + 1)); continue; }
		sim reset >/dev/null
		same big || n_wrong=$((n_wrong + 1))
		asked=$((asked + $(number cache.fetched_bytes) / 65536))
		same "${all[@]}" || n_wrong=$((n_wrong + 1))
		if [ $((RANDOM % 2)) = 0 ]; then leave; else crash; fi
	done
	echo "   $n cuts (seed $seed): $asked of $((n * blocks)) committed blocks asked for again"
	[ $n_down = 0 ] && ok "the mount comes up after every kill" || not_ok "the mount comes up after every kill" "$n_down times not"
	[ $n_wrong = 0 ] && ok "no wrong byte after kill -9" || not_ok "no wrong byte after kill -9" "$n_wrong times"
	[ $((asked * 100)) -le $((n * blocks)) ] && ok "what was committed hits" || not_ok "what was committed hits" "$asked of $((n * blocks)) blocks did not"
}

# ---- damage

flip() { # FILE OFFSET
	local byte
	byte=$(od -An -tu1 -j "$2" -N 1 "$1")
	printf "\\x$(printf %02x $((byte ^ (1 << RANDOM % 8))))" |
		dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

part_flips() {
	local d=$WORK/flips f n=0 len at n_wrong=0 n_down=0 damaged=0
	# A warm-up repeats what a busy writer dropped: every block is there.
	enter "$d:256M" && same "${all[@]}" && vectool warm -q "${all[@]/#/$mnt/}" && leave ||
		{ not_ok "flips" "cannot prepare"; return; }
	while read -r f; do
		len=$(stat -c %s "$f")
		for ((at = RANDOM % 65536 % len; at < len; at += 65536 * 16)); do
			flip "$f" $at
			n=$((n + 1))
		done
	done < <(find "$d/data" -type f)
	enter "$d:256M"
	check "flipped bytes in every data file are not given" same "${all[@]}"
	damaged=$(number disk.damaged)
	[ "$damaged" = $n ] && ok "each is counted: $n" || not_ok "each is counted" "$damaged of $n"
	check "and fetched again" jq -e '.cache.fetches > 0' "$mnt/.vecfs/status.json"
	leave
	# a block fetched again while its damaged copy was still being taken away
	# is not kept at once, but the next time
	enter "$d:256M"
	same "${all[@]}" || n_wrong=1
	leave
	sim reset >/dev/null
	enter "$d:256M"
	same "${all[@]}" || n_wrong=1
	[ "$n_wrong" = 0 ] && [ "$(gets)" = 0 ] && ok "then all is whole again" || not_ok "then all is whole again" "$(gets) GETs"
	leave
	cp -a "$d" "$WORK/whole"
	len=$(stat -c %s "$d/index/data.mdb")
	for ((i = 0; i < 16; i++)); do
		rm -rf "$d"
		cp -a "$WORK/whole" "$d"
		# half of them where the first pages are
		at=$(((RANDOM * 32768 + RANDOM) % (i % 2 ? len : 16384)))
		flip "$d/index/data.mdb" $at
		enter "$d:256M" 2>"$WORK/said" || { n_down=$((n_down + 1)); echo "   byte $at: $(cat "$WORK/said")"; continue; }
		same "${all[@]}" || { n_wrong=$((n_wrong + 1)); echo "   byte $at of the index"; }
		leave || { n_down=$((n_down + 1)); fusermount3 -uz "$mnt"; }
	done
	[ $n_wrong = 0 ] && ok "flipped bytes in the index give no wrong byte" || not_ok "flipped bytes in the index give no wrong byte" "$n_wrong times"
	[ $n_down = 0 ] && ok "and the mount comes up" || not_ok "and the mount comes up" "$n_down times not"
}

# ---- the directory

part_dir() {
	local d=$WORK/dir
	enter "$d:256M"
	same big
	rm -rf "$d"
	check "the directory removed under the mount: reads go on" same "${all[@]}" "${all[@]}"
	written
	check "and the mount ends as usual" leave
	check "the next one makes it anew" enter "$d:256M"
	same "${all[@]}"
	mv "$d" "$d.away"
	mkdir -m 700 "$d"
	cp -a "$d.away/." "$d/"
	check "the directory replaced under the mount" same "${all[@]}" "${all[@]}"
	leave
	check "the replacement is as good" enter "$d:256M"
	check "and gives right bytes" same "${all[@]}"
	leave
	chmod 0755 "$d"
	check "a directory open to others is refused" refuses "chmod 0700" "$d:256M"
	chmod 0700 "$d"
	if chown nobody "$d" 2>/dev/null; then
		check "another user's directory is refused" refuses "belong to you" "$d:256M"
	fi
	: >"$WORK/file"
	check "a file instead of a directory is refused" refuses "[Nn]ot a directory" "$WORK/file:256M"
	check "a size that is too small is refused" refuses "disk=" "$d.away:1M"
}

# ---- full, read-only, the limit

part_full() {
	local d=$WORK/tmpfs
	mkdir "$d"
	mount -t tmpfs -o size=6m,mode=700 tmpfs "$d" 2>/dev/null || { skip "a full disk" "cannot mount a tmpfs here"; return; }
	CLEANUP+=("umount -l $d")
	check "mount over a disk smaller than it was told" enter "$d:64M"
	check "a full disk: reads go on" same "${all[@]}" "${all[@]}"
	written
	check "and it is known" jq -e '.disk.errors > 0 or .disk.writes_dropped > 0' "$mnt/.vecfs/status.json"
	if mount -o remount,ro "$d" 2>/dev/null; then
		check "a disk become read-only: reads go on" same "${all[@]}" "${all[@]}"
		mount -o remount,rw "$d"
	else
		echo "   read-only under the mount: not while files are open there (unit tests inject it)"
	fi
	check "room again: reads go on" bash -c "mount -o remount,size=64m '$d'"
	same "${all[@]}"
	check "unmount" leave
	mount -o remount,ro "$d"
	check "a read-only disk is refused at the start" refuses "[Rr]ead-only" "$d:64M"
	mount -o remount,rw "$d"
	check "and taken when it can be written" enter "$d:64M"
	check "right bytes after all that" same "${all[@]}"
	leave
}

part_limit() {
	local d=$WORK/limit most=0 n=0 evicted=0 memory=0 i f
	for i in 1 2 3 4; do # each time no page is in the kernel's cache
		enter "$d:16M"
		for f in "${all[@]}" "${all[@]}"; do
			same "$f" || not_ok "reading with a small disk" "wrong bytes in $f"
			n=$(du -sk "$d" | cut -f 1)
			[ "$n" -gt $most ] && most=$n
		done
		written
		evicted=$((evicted + $(number disk.evictions)))
		n=$(awk '/^VmHWM/ {print $2}' "/proc/$(daemon)/status")
		[ "$n" -gt $memory ] && memory=$n
		leave
		n=$(du -sk "$d" | cut -f 1)
		[ "$n" -gt $most ] && most=$n
	done
	[ $evicted -gt 0 ] && ok "the small disk was filled" || not_ok "the small disk was filled" "nothing left it"
	[ $most -le 16384 ] && [ $most -gt 4096 ] && ok "the limit is kept" || not_ok "the limit is kept" "$most KiB of 16384"
	case $BIN in
	*san-*) echo "   memory: not looked at, a sanitizer takes its own" ;;
	*) [ $memory -le $(((4 + 96) * 1024)) ] && ok "memory: the RAM tier and 96 MiB" || not_ok "memory: the RAM tier and 96 MiB" "$memory KiB" ;;
	esac
}

# ---- an object overwritten

cat >"$WORK/storm.py" <<'PY'
# storm.py FILE OLD GO: fault pages of a mapping at random; each is the old
# version's, or the access fails.  Touches GO when it has begun.
import mmap, os, random, sys, threading
path, old, go = sys.argv[1:4]
want = open(old, "rb").read()
pid = []
for k in range(4):
    child = os.fork()
    if child:
        pid.append(child)
        continue
    f = os.open(path, os.O_RDONLY)
    m = mmap.mmap(f, 0, prot=mmap.PROT_READ)
    m.madvise(mmap.MADV_RANDOM)
    r = random.Random(k)
    for i in range(3000):
        if i == 20:
            open(go + str(k), "w").close()
        off = r.randrange(0, len(want) // 4096) * 4096
        if m[off:off + 4096] != want[off:off + 4096]:
            os._exit(3)
    os._exit(0)
ends = [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in pid]
print("   ends of the readers of old mappings:", ends)
sys.exit(any(e not in (0, -7) for e in ends))  # -7: SIGBUS
PY
cat >"$WORK/opens.py" <<'PY'
# opens.py FILE OLD NEW: open and read until the new version shows.
import sys, time
path, old, new = sys.argv[1], open(sys.argv[2], "rb").read(), open(sys.argv[3], "rb").read()
seen = 0
for i in range(2000):
    try:
        got = open(path, "rb").read()
    except OSError:
        continue
    if got != old and got != new:
        sys.exit("a mix of versions")
    if got == new:
        seen += 1
        if seen == 5:
            sys.exit(0)
    elif seen:
        sys.exit("the old version came back")
    time.sleep(0.02)
sys.exit("the new version never showed")
PY

part_overwrite() {
	local d=$WORK/overwrite i storm
	enter "$d:256M" "read_ahead=0"
	head -c 20000000 /dev/urandom >"$src/a"
	for i in 1 2 3; do
		head -c 20000000 /dev/urandom >"$src/b"
		s3_put changing "$src/a"
		check "version $i is read" timeout 60 bash -c "until cmp -s '$src/a' '$mnt/changing'; do sleep 0.1; done"
		leave
		# all of it cached, nothing, a part
		[ $i != 1 ] && rm -rf "$d"
		enter "$d:256M" "read_ahead=0"
		[ $i = 3 ] && head -c 15000000 "$mnt/changing" >"$WORK/part"
		rm -f "$WORK"/go*
		timeout 120 /usr/bin/python3 "$WORK/storm.py" "$mnt/changing" "$src/a" "$WORK/go" >"$WORK/storm.out" 2>&1 &
		storm=$!
		for _ in $(seq 500); do [ -e "$WORK/go0" ] && [ -e "$WORK/go3" ] && break; sleep 0.01; done
		s3_put changing "$src/b"
		check "new opens get version $i or the next, whole" timeout 120 /usr/bin/python3 "$WORK/opens.py" "$mnt/changing" "$src/a" "$src/b"
		wait $storm && ok "old mappings see old bytes or an error" || not_ok "old mappings see old bytes or an error" "$(cat "$WORK/storm.out")"
		grep ends "$WORK/storm.out"
		mv "$src/b" "$src/a"
	done
	leave
}

# ---- the bucket fails

part_errors() {
	local d=$WORK/errors
	sim "set?error_rate=0.2&reset_rate=0.2&seed=$seed" >/dev/null
	check "mount beside a server that fails" enter "$d:256M"
	check "a fifth of errors and of resets: right bytes" same_at_once "${all[@]}" "${all[@]}"
	faults
	leave
	rm -rf "$d"
	sim "set?latency_ms=20&error_rate=0.2&reset_rate=0.2&seed=$seed" >/dev/null
	check "the same with hedged fetches" enter "$d:256M" "hedge=50,read_ahead=0"
	check "right bytes" same_at_once "${all[@]}" "${all[@]}"
	echo "   $(number cache.fetches) fetches, $(number cache.hedges) hedges, $(number cache.hedges_won) of them first"
	check "at most one in twenty was asked for again" jq -e '.cache.hedges * 20 <= .cache.fetches' "$mnt/.vecfs/status.json"
	faults
	leave
}

# refused_in_time FILE: an error, not a hang
refused_in_time() {
	timeout 60 head -c 1000000 "$1" >/dev/null 2>&1
	local rc=$?
	[ $rc != 0 ] && [ $rc != 124 ]
}

part_gone() {
	local d=$WORK/gone
	check "mount with timeout_ms=2000" enter "$d:256M" "timeout_ms=2000,read_ahead=0"
	same big small && same big small
	written
	exec 7<"$mnt/big" 8<"$mnt/more/2" 9<"$mnt/more/3"
	kill -STOP "$SIM_PID"
	check "the bucket hangs: what is cached is served" timeout 60 cmp "$src/big" /dev/fd/7
	check "what is not fails" refused_in_time /dev/fd/8
	check "look-ups fail" refused_in_time "$mnt/no-such-name"
	kill -CONT "$SIM_PID"
	check "the bucket is back: so are its bytes" same "${all[@]}"
	exec 7<"$mnt/big"
	{ kill -9 "$SIM_PID" && wait "$SIM_PID"; } 2>/dev/null
	check "the bucket is gone: what is cached is served" timeout 60 cmp "$src/big" /dev/fd/7
	check "look-ups fail then too" refused_in_time "$mnt/more/never"
	exec 7<&- 8<&- 9<&-
	check "unmount without a bucket" leave
}

for part in ${VF_E2E_PARTS:-restart other cuts flips dir full limit overwrite errors gone}; do
	echo "-- $part"
	part_$part
done
