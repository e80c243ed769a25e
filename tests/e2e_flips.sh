#!/bin/bash
# vectool verify --deep names every object of which any byte is another, or which
# is gone: the kept bucket of e2e_promise.sh has one object of each kind.
. "$(dirname "$0")/e2e_lib.bash"
tar -xzf "$(cd "$(dirname "$0")" && pwd)/data/bucket-1.tar.gz" -C "$WORK"
for index in rows texts; do
	check "whole: $index" vectool verify "$WORK/bucket/$index" --deep
	check "each flipped byte is named: $index" flips "$WORK/bucket" "$index" "${VF_FLIPS_STEP:-5}"
	check "and whole again: $index" vectool verify "$WORK/bucket/$index" --deep
done
