#!/bin/bash
# The same path over a real S3 server, and what a user sees when it says no.
. "$(dirname "$0")/e2e_lib.bash"

have_fuse || { skip s3 "no FUSE here"; exit; }
with_s3 || { skip s3 "no S3 server"; exit; }
url=s3://$S3_BUCKET/e2e-$$-$RANDOM mnt=$WORK/mnt
vectool gen --rows 5000 --dim 256 --seed 4 --queries 20 --queries-out "$WORK/q.npy" \
	"$WORK/base.npy" -q || { not_ok s3 "gen failed"; exit; }
mkdir "$WORK/local"

check "put to the server" vectool put "$url/v" "$WORK/base.npy" --shard-rows 2000 -q
check "put the same to a directory" vectool put "file://$WORK/local/v" "$WORK/base.npy" \
	--shard-rows 2000 -q
check "ls names the index" bash -c "vectool ls '$url' | grep -qw v"
check "stat counts rows and shards" bash -c "vectool stat --json '$url/v' | jq -e '.rows == 5000 and (.shards | length) == 3'"
check "mount" mount_bucket "$url" "$mnt"
vecquery "$mnt/v" --npy "$WORK/q.npy" --exact --format jsonl | jq -c .hits >"$WORK/1"
vecquery "$WORK/local/v" --npy "$WORK/q.npy" --exact --format jsonl | jq -c .hits >"$WORK/2"
if [ "$(wc -l <"$WORK/1")" = 20 ] && cmp -s "$WORK/1" "$WORK/2"; then
	ok "server and directory answer alike"
else
	not_ok "server and directory answer alike" "they differ"
fi
check "a second put goes on from the counter" vectool put "$url/v" "$WORK/base.npy" -q
check "the mount shows it" timeout 120 bash -c "until [ \"\$(vecquery '$mnt/v' --npy '$WORK/q.npy' --format jsonl | jq -s '.[0].version')\" = 3 ] || [ \$((++n)) -gt 50 ]; do sleep 0.2; done; [ \"\$(ls '$mnt'/v/live/*.alive.npy | wc -l)\" = 4 ]"
check "unmount" umount_bucket "$mnt"

fails "wrong secret" "SignatureDoesNotMatch" \
	env AWS_SECRET_ACCESS_KEY=wrong vectool ls "$url"
fails "unknown access key" "InvalidAccessKeyId" \
	env AWS_ACCESS_KEY_ID=nobody vectool ls "$url"
fails "no credentials" "credential" \
	env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY HOME="$WORK" vectool ls "$url"
fails "a bucket that does not exist" "NoSuchBucket" vectool ls s3://no-such-bucket-here/x
fails "an endpoint that does not answer" "127.0.0.1:9" \
	vectool ls "$url" --endpoint http://127.0.0.1:9
fails "a mount of a bucket that does not exist" "NoSuchBucket" \
	vecfs s3://no-such-bucket-here "$mnt"
fails "a mount with a wrong secret" "SignatureDoesNotMatch" \
	env AWS_SECRET_ACCESS_KEY=wrong vecfs "$url" "$mnt"
