#!/bin/bash
# make install into an empty folder, and a program built from what is there.
set -eu
make=$1 root=$(cd "$(dirname "$0")/.." && pwd) dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
$make -s -C "$root" install PREFIX="$dir/usr"
cd "$dir"
PATH=$dir/usr/bin:$PATH
cp "$root/tools/example.c" .
export PKG_CONFIG_PATH=$dir/usr/lib/pkgconfig
# shellcheck disable=SC2046
${CC:-cc} -o example example.c $(pkg-config --cflags --libs vecfs)
vectool gen --rows 20 --dim 8 --seed 1 -q base.npy
mkdir bucket
vectool put bucket/v base.npy -q
./example bucket/v 7 | head -n 1 | grep -q ' 7 '
echo "installed; the example builds and finds"
