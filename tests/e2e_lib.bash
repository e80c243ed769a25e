# What the end-to-end scripts share; sourced by each.
#
#   check NAME COMMAND...   ok when the command succeeds
#   fails NAME PATTERN COMMAND...   ok when it fails with one line like PATTERN
#   skip NAME WHY
#   mount_bucket URL DIR [OPTIONS...]  umount_bucket DIR
#   with_s3 || ...          a real S3 server in the environment, or false
#   with_s3sim ARGS... || ...   a simulator;  s3_put KEY FILE   one object to it
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
is() { [ "$2" = "$3" ] && ok "$1" || not_ok "$1" "$2, not $3"; } # NAME HAVE WANT

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

until_true() { # COMMAND...: for ten seconds and more
	local i
	for i in $(seq 200); do "$@" && return 0; sleep 0.05; done
	return 1
}

mount_bucket() {
	local url=$1 dir=$2
	shift 2
	mkdir -p "$dir"
	MOUNTS+=("$dir")
	vecfs "$url" "$dir" "$@"
}
umount_bucket() { fusermount3 -u "$1"; }
is_gone() { # DIR: no mount is there, and no process serves it
	local n
	for n in $(seq 50); do
		mountpoint -q "$1" || pgrep -f "vecfs .*$1" >/dev/null || return 0
		sleep 0.1
	done
	return 1
}

have_fuse() { [ -c /dev/fuse ] && [ -r /dev/fuse ] && command -v fusermount3 >/dev/null; }

# Uses AWS_ENDPOINT_URL and S3_BUCKET when they are set, else starts a server.
with_s3() {
	[ -n "${AWS_ENDPOINT_URL:-}" ] && [ -n "${S3_BUCKET:-}" ] && return 0
	[ -x "$SHARED/s3/start-s3.sh" ] || return 1
	start_s3 light "$WORK/s3"
}

# start_s3 KIND DIR: a server of its own.  Its ports lie below those that the
# kernel gives to connections; whoever else takes one meanwhile: another.
start_s3() {
	local settings try
	for try in 1 2 3 4 5; do
		settings=$("$SHARED/s3/start-s3.sh" "$1" --data "$2" \
			--port $((10240 + RANDOM % 20480))) && break
		"$SHARED/s3/stop-s3.sh" --data "$2" --purge
		[ $try -lt 5 ] || return 1
	done
	CLEANUP+=("$SHARED/s3/stop-s3.sh --data $2 --purge 2>/dev/null")
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

# s3_put KEY FILE: an object that is of no index.
s3_put() {
	local n
	[ -e "$WORK/put.py" ] || write_put_py
	for n in $(seq 20); do # its own answers may be faults too
		/usr/bin/python3 "$WORK/put.py" "$1" "$2" 2>"$WORK/put.err" && return 0
	done
	cat "$WORK/put.err" >&2
	return 1
}
write_put_py() {
	cat >"$WORK/put.py" <<'PY'
# put.py KEY FILE: one signed PUT, for objects that are no index.
import hashlib, hmac, os, sys, time, urllib.parse, urllib.request
key, path = sys.argv[1:3]
end, bucket = os.environ["AWS_ENDPOINT_URL"], os.environ["S3_BUCKET"]
body = open(path, "rb").read()
now, host = time.gmtime(), urllib.parse.urlparse(end).netloc
stamp, day = time.strftime("%Y%m%dT%H%M%SZ", now), time.strftime("%Y%m%d", now)
digest, name = hashlib.sha256(body).hexdigest(), "/%s/%s" % (bucket, urllib.parse.quote(key))
signed = "host;x-amz-content-sha256;x-amz-date"
text = "PUT\n%s\n\nhost:%s\nx-amz-content-sha256:%s\nx-amz-date:%s\n\n%s\n%s" % (
    name, host, digest, stamp, signed, digest)
scope = day + "/us-east-1/s3/aws4_request"
to_sign = "AWS4-HMAC-SHA256\n%s\n%s\n%s" % (stamp, scope, hashlib.sha256(text.encode()).hexdigest())
k = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
for part in (day, "us-east-1", "s3", "aws4_request", to_sign):
    k = hmac.new(k, part.encode(), hashlib.sha256).digest()
auth = "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (
    os.environ["AWS_ACCESS_KEY_ID"], scope, signed, k.hex())
urllib.request.urlopen(urllib.request.Request(end + name, body, {
    "x-amz-date": stamp, "x-amz-content-sha256": digest, "Authorization": auth}, method="PUT"))
PY
}
