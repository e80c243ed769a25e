# What the end-to-end scripts share; sourced by each.
#
#   check NAME COMMAND...   ok when the command succeeds
#   fails NAME PATTERN COMMAND...   ok when it fails with one line like PATTERN
#   skip NAME WHY
#   mount_bucket URL DIR [OPTIONS...]  umount_bucket DIR
#   with_s3 || ...          a real S3 server in the environment, or false
set -u
: "${BIN:?folder of the programs}"
export PATH="$BIN:$PATH"
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SHARED=$HERE/../../shared
WORK=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-e2e-XXXXXX")
MOUNTS=()
CLEANUP=()
FAILED=0
export XDG_CACHE_HOME=$WORK/cache

finish() {
	local m c
	for m in "${MOUNTS[@]}"; do
		mountpoint -q "$m" && { fusermount3 -u "$m" || fusermount3 -uz "$m"; }
	done
	for c in "${CLEANUP[@]}"; do eval "$c"; done
	rm -rf "$WORK"
	exit $FAILED
}
trap finish EXIT
trap 'exit 130' INT TERM

ok() { echo "ok $1"; }
not_ok() {
	echo "not ok $1: $2"
	FAILED=1
}
skip() { echo "skip $1: $2"; }

check() {
	local name=$1
	shift
	if "$@" >"$WORK/out" 2>"$WORK/err"; then
		ok "$name"
	else
		not_ok "$name" "exit $? of: $* ($(tail -n 3 "$WORK/err" "$WORK/out" | tr '\n' ' '))"
	fi
}

fails() {
	local name=$1 pattern=$2 rc n
	shift 2
	timeout 60 "$@" >"$WORK/out" 2>"$WORK/err" </dev/null
	rc=$?
	n=$(wc -l <"$WORK/err")
	if [ $rc = 0 ] || [ $rc -ge 124 ]; then
		not_ok "$name" "exit status $rc of: $*"
	elif ! grep -qE -- "$pattern" "$WORK/err"; then
		not_ok "$name" "stderr is: $(cat "$WORK/err")"
	elif [ "$n" != 1 ]; then
		not_ok "$name" "$n lines on stderr: $(cat "$WORK/err")"
	else
		ok "$name"
	fi
}

mount_bucket() {
	local url=$1 dir=$2
	shift 2
	mkdir -p "$dir"
	MOUNTS+=("$dir")
	vecfs "$url" "$dir" "$@"
}
umount_bucket() { fusermount3 -u "$1"; }

have_fuse() { [ -c /dev/fuse ] && [ -r /dev/fuse ] && command -v fusermount3 >/dev/null; }

# Uses AWS_ENDPOINT_URL and S3_BUCKET when they are set, else starts a server.
with_s3() {
	[ -n "${AWS_ENDPOINT_URL:-}" ] && [ -n "${S3_BUCKET:-}" ] && return 0
	[ -x "$SHARED/s3/start-s3.sh" ] || return 1
	local port settings
	port=$((20000 + RANDOM % 20000))
	settings=$("$SHARED/s3/start-s3.sh" light --port $port --data "$WORK/s3") || return 1
	CLEANUP+=("$SHARED/s3/stop-s3.sh --data $WORK/s3 --purge")
	eval "$settings"
}

# A simulator with latency and faults; its settings go into the environment.
with_s3sim() {
	coproc SIM { exec s3sim --exit-with-parent "$@"; }
	local line
	IFS= read -r line <&"${SIM[0]}" || return 1
	CLEANUP+=("kill $SIM_PID 2>/dev/null")
	eval "$line"
}
sim() { curl -sS -X POST "$AWS_ENDPOINT_URL/_sim/$1"; }
