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

# The other way round: what a program understands is in its help, and what the
# help explains is understood.
has_all() { # NAME HELP OPTIONS...
	local name=$1 help=$2 o missing=()
	shift 2
	for o; do
		grep -qE -- "(^|[^a-z_-])$o([^a-z_-]|$)" <<<"$help" || missing+=("$o")
	done
	[ $# -gt 0 ] && [ ${#missing[@]} = 0 ] && ok "$name" || not_ok "$name" "of $#: ${missing[*]}"
}
# Of tables like {"keys", 'k', VF_ARG_... or {"keys", required_argument
options_in() { sed -nE "s/^[[:space:]]*\{\"([a-z-]+)\", ($2).*/--\1/p" "$1"; }

for f in "$root"/tools/cmd_*.c; do
	verbs=$(sed -nE 's/^[[:space:]]*\.name = "([a-z]+)",.*/\1/p' "$f")
	help=$(for v in $verbs; do vectool help "$v"; done)
	# shellcheck disable=SC2046
	has_all "the help has every option of $(basename "$f")" "$help" $(options_in "$f" "0|'.'")
	for v in $verbs; do
		unknown=()
		for o in $(vectool help "$v" | sed -nE 's/^  (-[a-z], )?(--[a-z-]+) .*/\2/p' | sort -u); do
			timeout 10 vectool "$v" "$o" 2>&1 </dev/null | grep -q "no such option" && unknown+=("$o")
		done
		[ ${#unknown[@]} = 0 ] && ok "$v takes every option of its help" || not_ok "$v takes every option of its help" "${unknown[*]}"
	done
done
for v in put import; do
	# shellcheck disable=SC2046
	has_all "the help of $v has every option of put_options.c" "$(vectool help $v)" $(options_in "$root/tools/put_options.c" 0)
done
# shellcheck disable=SC2046
has_all "the help has every option of vecquery" "$(vecquery --help)" \
	$(options_in "$root/query/cli_args.c" "(no|required|optional)_argument")
# shellcheck disable=SC2046
has_all "the help has every option of vecfs" "$(vecfs --help 2>&1)" \
	$(sed -nE 's/^	OPT\("([a-z_-]+).*/\1/p' "$root/fs/options.c" | grep -vx debug)

# And what has an entry in a page is in the help.
all=$(vecfs --help 2>&1; vecquery --help; for v in $(vectool help | sed -nE 's/^  ([a-z]+)  .*/\1/p' | grep -vx help); do vectool help "$v"; done)
for page in vectool vecquery; do
	# shellcheck disable=SC2046
	has_all "every entry of $page.1 is an option" "$all" $(sed -nE 's/^\.It Fl (-[a-z-]+).*/-\1/p' "$man/$page.1" | sort -u)
done
