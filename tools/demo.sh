#!/bin/bash
# The whole of vecfs on real documents, in under two minutes: the description of
# every package that this Debian system knows becomes a vector; they are put in a
# bucket, the bucket is mounted, and the mount is searched and read.
#
#   BIN               folder of the programs (default build/bin)
#   AWS_ENDPOINT_URL  use this S3 server and the bucket $S3_BUCKET (default
#                     "test") instead of a local directory
set -euo pipefail
BIN=$(cd "${BIN:-build/bin}" && pwd)
export PATH="$BIN:$PATH"

work=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-demo-XXXXXX")
mnt=$work/mnt
quit() {
	rc=$?
	if mountpoint -q "$mnt" 2>/dev/null; then fusermount3 -u "$mnt"; fi
	rm -rf "$work"
	exit $rc
}
trap quit EXIT
trap 'exit 130' INT TERM

if [ -n "${AWS_ENDPOINT_URL:-}" ]; then
	bucket=s3://${S3_BUCKET:-test}/vecfs-demo-$$
else
	bucket=file://$work/bucket
	mkdir "$work/bucket"
fi
mkdir "$mnt"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }
run() { # show a command as one would type it, then do it
	local word line=
	for word; do
		case $word in *' '*) line+=" '$word'" ;; *) line+=" $word" ;; esac
	done
	printf '$%s\n' "$line"
	"$@"
}

# The stanzas of apt-cache, as one JSON object per package.
packages() {
	apt-cache dumpavail | awk '
	function quote(s) {
		gsub(/\\/, "\\\\", s); gsub(/"/, "\\\"", s); gsub(/\t/, " ", s)
		gsub(/[\001-\037]/, "", s)
		return "\"" s "\""
	}
	function flush(  n, i, t, tags) {
		if (name != "" && text != "" && !(name in seen)) {
			seen[name] = 1
			n = split(tag, t, /, */)
			for (i = 1; i <= n; i++)
				if (t[i] != "")
					tags = tags (tags == "" ? "" : ",") quote(t[i])
			printf "{\"key\":%s,\"text\":%s,\"metadata\":{\"section\":%s,\"priority\":%s,\"size\":%d,\"tags\":[%s]}}\n",
				quote(name), quote(name ". " text), quote(section),
				quote(priority), size, tags
		}
		name = text = section = priority = tag = field = ""
		size = 0
	}
	/^$/ { flush(); next }
	/^ / {
		if (field == "Description" && $0 != " .") text = text " " substr($0, 2)
		if (field == "Tag") tag = tag " " substr($0, 2)
		next
	}
	{ field = substr($0, 1, index($0, ":") - 1); value = substr($0, length(field) + 3) }
	field == "Package" { name = value }
	field == "Description" || field == "Description-en" { text = value; field = "Description" }
	field == "Section" { section = value }
	field == "Priority" { priority = value }
	field == "Size" { size = value }
	field == "Tag" { tag = value }
	END { flush() }'
}

say "1. Real documents: every package description that apt knows"
command -v apt-cache >/dev/null || {
	echo "demo: apt-cache is needed for its package descriptions" >&2
	exit 1
}
packages >"$work/packages.jsonl"
documents=$(wc -l <"$work/packages.jsonl")
[ "$documents" -gt 0 ] || {
	echo "demo: apt-cache knows no packages; run: apt-get update" >&2
	exit 1
}
echo "$documents documents; the first:"
head -n 1 "$work/packages.jsonl"

say "2. Into a bucket"
run vectool import "$bucket/packages" --texts "$work/packages.jsonl" --embed hash:1024
run vectool stat "$bucket/packages"

say "3. Mounted"
run vecfs "$bucket" "$mnt"
run ls -l "$mnt/packages" "$mnt/packages/live"

say "4. Searched through the mount"
for question in "play chess against the computer" "edit photos" \
	"a small fast web server" "compress files" "statistics and plots"; do
	run vecquery "$mnt/packages" --text "$question" -k 5 --format table
done
echo "more like one of them:"
run vecquery "$mnt/packages" --key gnuchess -k 5 --format table

say "5. Plain files for every other tool"
run head -n 2 "$mnt/packages/live/000.jsonl"
printf '$ jq ... live/*.jsonl | sort | uniq -c | sort -rn | head -n 3\n'
jq -r .metadata.section "$mnt"/packages/live/*.jsonl | sort | uniq -c | sort -rn | head -n 3
printf '$ python3: numpy.load("live/000.npy", mmap_mode="r")\n'
/usr/bin/python3 - "$mnt/packages/live/000.npy" <<'PY'
import sys, numpy
v = numpy.load(sys.argv[1], mmap_mode="r")
print(v.shape, v.dtype, "length of row 0:", round(float(numpy.linalg.norm(v[0])), 4))
PY

say "6. Unmounted; nothing is left"
run fusermount3 -u "$mnt"
if [ -n "${AWS_ENDPOINT_URL:-}" ]; then
	echo "the documents stay in $bucket"
fi
