#!/bin/bash
# The manual: every option of --help is in its page, and every promise of
# vecfs-failures(7) names tests that exist.
. "$(dirname "$0")/e2e_lib.bash"

root=$(cd "$(dirname "$0")/.." && pwd)
man=$root/tools/man

# "  .Dl file: name" lines, against a check or a test of that name.
promises=0 broken=()
while IFS= read -r line; do
	file=${line%%: *} name=${line#*: }
	promises=$((promises + 1))
	grep -qF "\"$name" "$root/tests/$file".{c,sh} 2>/dev/null ||
		broken+=("$file: $name;")
done < <(sed -n 's/^\.Dl \(\(test\|e2e\)_[a-z0-9_]*: .*\)/\1/p' "$man/vecfs-failures.7")
if [ "$promises" -gt 40 ] && [ ${#broken[@]} = 0 ]; then
	ok "each promise names a test"
else
	not_ok "each promise names a test" "of $promises: ${broken[*]}"
fi

# Words like --probes and -o name= of a help text.
options_of() {
	"$@" --help 2>&1 | sed '/^Example/,$d' | grep -oE -- '(^|[ ,[|(])(--[a-z][a-z-]+|-o [a-z_]+)' | grep -oE -- '--[a-z-]+|[a-z_]{2,}$' | sort -u
}

in_page() { # PAGE PROGRAM [VERB]: what the help has and the page has not
	local page=$1 o missing=()
	shift
	while IFS= read -r o; do
		[ "$o" = --help ] || [ "$o" = --version ] && continue
		grep -qE -- "(^|[^a-z_-])${o#-}([^a-z_-]|$)" "$page" || missing+=("$o")
	done < <(options_of "$@")
	[ ${#missing[@]} = 0 ] && ok "the manual has every option of $*" || not_ok "the manual has every option of $*" "${missing[*]}"
}

in_page "$man/vecfs.1" vecfs
in_page "$man/vecquery.1" vecquery
for verb in $(vectool help 2>/dev/null | sed -n 's/^  \([a-z]\{2,\}\) .*/\1/p'); do
	in_page "$man/vectool.1" vectool "$verb"
done
