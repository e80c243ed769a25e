#!/bin/bash
# vectool verify --deep names every object of which any byte is another, or which
# is gone: the kept bucket of e2e_promise.sh has one object of each kind.  So it
# does of a copy of what a mount shows, whose records have no checksum as a whole.
. "$(dirname "$0")/e2e_lib.bash"
tar -xzf "$(cd "$(dirname "$0")" && pwd)/data/bucket-1.tar.gz" -C "$WORK"
vectool gen --rows 40 --dim 8 --seed 3 -q "$WORK/few.npy"
vectool put "$WORK/bucket/packed" "$WORK/few.npy" --compress -q
cp -r "$WORK/bucket" "$WORK/plain"
find "$WORK/plain" -name '*.zst' -exec zstd -dq --rm {} +
for bucket in bucket plain; do
	step=${VF_FLIPS_STEP:-5}
	[ $bucket = bucket ] || step=$((8 * step))
	for index in rows texts packed; do
		check "whole: $bucket/$index" vectool verify "$WORK/$bucket/$index" --deep
		check "each flipped byte is named: $bucket/$index" flips "$WORK/$bucket" "$index" "$step"
		check "and whole again: $bucket/$index" vectool verify "$WORK/$bucket/$index" --deep
	done
done
