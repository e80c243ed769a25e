#!/bin/bash
# A bucket of many small indexes that nobody asks: they take no request and less
# than 1 KiB of the mount each.
. "$(dirname "$0")/e2e_lib.bash"
have_fuse || { skip idle "no FUSE here"; exit; }
cd "$WORK" || exit 1
many=1500
vectool gen --rows 5 --dim 8 --seed 1 -q few.npy

# of_mount WHAT: a line of its status in KiB
of_mount() {
	local p
	for p in $(pgrep -x vecfs); do
		tr '\0' ' ' <"/proc/$p/cmdline" | grep -qF "$WORK/mnt" &&
			awk -v w="$1:" '$1 == w {print $2}' "/proc/$p/status"
	done
}
answer() { vecquery "$WORK/mnt/i" --npy few.npy -k 1 --format jsonl | jq -c .hits; }

# ---- memory
if [ "${VF_E2E_QUERIES:-0}" = 0 ]; then
	mkdir bucket mnt
	vectool put bucket/i few.npy -q
	mount_bucket "file://$WORK/bucket" "$WORK/mnt"
	answer >alone
	few=$(of_mount RssAnon)
	umount_bucket "$WORK/mnt"
	seq -f 'i%g' $many | xargs -n 200 sh -c 'for d; do mkdir -p bucket/$d/log
		ln bucket/i/log/* bucket/$d/log/ && ln bucket/_vecfs/indexes/i bucket/_vecfs/indexes/$d; done' _
	mount_bucket "file://$WORK/bucket" "$WORK/mnt"
	answer >among
	is "one of $many is searched" "$(cat among)" "$(cat alone)"
	is "all are shown" "$(ls mnt | wc -l)" $((many + 2))
	each=$((($(of_mount RssAnon) - few) * 1024 / many))
	[ $each -lt 1024 ] && ok "an idle index takes $each bytes" || not_ok "an idle index" "takes $each bytes"
	umount_bucket "$WORK/mnt"
fi

# ---- requests
with_s3sim || { not_ok "s3sim" "does not start"; exit; }
requests() { curl -s "$AWS_ENDPOINT_URL/_sim/stats" | jq '.get + .put + .head + .list + .delete'; }
counted() { # counted URL: requests of a mount, a query and a while of nothing
	sim reset
	mount_bucket "$1" "$WORK/mnt"
	answer >/dev/null
	sleep 2.5 # names expire, heads are due
	umount_bucket "$WORK/mnt"
	requests
}
mkdir -p mnt
vectool put s3://test/a/i few.npy -q
vectool put s3://test/b/i few.npy -q
for n in $(seq 25); do vectool create "s3://test/b/i$n" --dim 8 -q; done
# A look more or less at the one in use is a matter of time; 25 would be theirs.
among=$(counted s3://test/b) alone=$(counted s3://test/a)
[ "$among" -lt $((alone + 20)) ] && ok "idle indexes cost no request" || not_ok "idle indexes cost no request" "$among, alone $alone"
