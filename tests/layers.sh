#!/bin/bash
# Who may include whom: store <- index <- query, store <- fs; and across
# folders only public (P) and shared (S) headers.
set -u
cd "$(dirname "$0")/.." || exit 2

public="store/vecfs.h store/bucket.h store/state.h store/commit.h store/catalog.h store/change.h
store/cache.h index/index.h index/encoder.h query/query.h"
shared="store/listed.h store/checkpoint.h
store/npy.h store/control.h store/frames.h store/log.h store/line.h store/lock.h store/util.h
store/ranges.h store/tier_disk.h store/pressure.h store/hotset.h store/local_file.h
store/filter.h store/metadata.h store/http.h store/http_once.h store/waiter.h store/thread.h
index/topk.h index/crew.h index/lazy.h index/tree.h index/cluster.h index/kernels.h index/rowset.h
query/embed.h"

allowed() { # the folders that $1 may name
	case $1 in
	store) echo store ;;
	index) echo store index ;;
	query) echo store index query ;;
	fs) echo store fs ;;
	tools | tests | bench) echo store index query fs tools tests bench ;;
	esac
}

bad=0
while IFS=: read -r file _ include; do
	from=${file%%/*}
	header=$(sed 's/.*"\(.*\)".*/\1/' <<<"$include")
	to=${header%%/*}
	if [ "$to" = "$header" ]; then
		echo "$file: include from the root, not \"$header\""
		bad=1
	elif ! grep -qw "$to" <<<"$(allowed "$from")"; then
		echo "$file: $from may not include $header"
		bad=1
	elif [ "$from" != "$to" ] && [[ $from =~ ^(index|query|fs)$ ]] &&
		! grep -qx "$header" <<<"$(tr ' ' '\n' <<<"$public $shared")"; then
		echo "$file: $header is private to $to"
		bad=1
	fi
done < <(grep -Hn '^#include "' {store,index,query,fs,tools,tests,bench}/*.[ch] 2>/dev/null)

# Only fs knows FUSE (and the do-nothing mount it is measured against), only
# tests CUnit.
grep -ln 'fuse_lowlevel.h\|<fuse' {store,index,query,tools,bench}/*.[ch] 2>/dev/null |
	grep -vx 'bench/null_fs.c' &&
	{ echo "includes FUSE outside fs"; bad=1; }
grep -ln 'CUnit/' {store,index,query,fs,tools,bench}/*.[ch] 2>/dev/null &&
	{ echo "includes CUnit outside tests"; bad=1; }

# Apart from main.c no two files share a name.
for name in $(ls {store,index,query,fs,tools,tests,bench}/* 2>/dev/null |
	sed 's,.*/,,' | grep -vx 'main.c' | sort | uniq -d); do
	[ -n "$(find tests/data -name "$name" -print -quit)" ] && continue
	echo "$name: two files of this name"
	bad=1
done
exit $bad
