#!/bin/bash
# vectool recall: the table, its JSON, its plots; true rows found or given.
. "$(dirname "$0")/e2e_lib.bash"

cd "$WORK" || exit
mkdir b
cat >recall <<END
#!/bin/bash
exec vectool recall "$WORK/b/\$1" --npy base.queries.npy -q --json "\${@:2}"
END
chmod +x recall
PATH=$PATH:$WORK
vectool gen --rows 12000 --dim 64 --seed 5 --queries 40 -q base.npy
/usr/bin/python3 -c "
import numpy as np
b, q = np.load('base.npy'), np.load('base.queries.npy')
gt = np.argsort(-(q @ b.T), axis=1, kind='stable')[:, :20]
np.save('gt.npy', gt.astype('i4')); np.save('gt8.npy', gt)
n = np.full((len(q), 1), 20, '<i4')
np.hstack([n, gt.astype('<i4')]).tofile('gt.ivecs')
np.save('other.npy', gt[::-1].astype('i4')); np.save('short.npy', gt[:5].astype('i4'))
np.save('far.npy', np.full_like(gt, 10**9))
open('keys', 'w').writelines(f'k{i}\n' for i in range(len(b)))"
for i in index keyed; do
	vectool put "$WORK/b/$i" base.npy -q --seed 3 --leaves 120 \
		$([ $i = keyed ] && echo --keys keys) || not_ok put "$i"
done
sweep=(--probes 2,30,all --candidates bounds,100)
recall index "${sweep[@]}" --gt gt.npy >given
costs() { jq -c 'del(.p50_ms, .p95_ms)' "$@"; }

check "a line for each setting" [ "$(wc -l <given)" = 6 ]
check "all leaves hold nearly all of the true rows" \
	jq -es 'all(.[] | select(.probes == "all"); .recall > 0.94 and .scanned == 12000)' given
check "few leaves hold fewer" jq -es '.[0].recall < .[1].recall and .[1].recall > 0.7' given
check "so many candidates are read" jq -es '.[5].rows_read == 100 and .[5].candidates == 100' given
costs given >want
for gt in gt8.npy gt.ivecs; do
	check "the same by $gt" bash -c "$(declare -f costs)
		recall index ${sweep[*]} --gt $gt | costs | cmp - want"
done
check "the same when it finds them itself" bash -c "$(declare -f costs)
	recall index ${sweep[*]} | costs | cmp - want"
check "the same with keys" bash -c "$(declare -f costs)
	recall keyed ${sweep[*]} --gt gt.npy --keys keys | costs | cmp - want"
check "a truth of other queries is not found" bash -c "
	recall index --probes all --gt other.npy | jq -es 'all(.recall < 0.5)'"
check "the table" bash -c "vectool recall '$WORK/b/index' --npy base.queries.npy --gt gt.npy -k 5 --queries 7 |
	grep -q '7 queries, recall of the nearest 5' "
if command -v gnuplot >/dev/null; then
	check "plots are drawn" recall index --probes 2,30 --gt gt.npy --svg "it's"
	check "three of them" bash -c "for f in scanned read ms; do grep -q '</svg>' \"it's/\$f.svg\" || exit 1; done"
else
	skip "plots are drawn" "no gnuplot"
fi
mkdir bin && ln -s "$(command -v vectool)" bin
fails "no plots without gnuplot" "there is no gnuplot" env PATH="$WORK/bin" \
	vectool recall "$WORK/b/index" --npy base.queries.npy --gt gt.npy -q --probes 2 --json --svg plots
fails "no queries given" "npy QUERIES is needed" vectool recall "$WORK/b/index"
fails "a truth of too few queries" "for 40 queries" recall index --gt short.npy
fails "a truth of too few rows" "for 40 queries" recall index --gt gt.npy -k 21
fails "a row that has no key" "beyond the lines" recall keyed --gt far.npy --keys keys
fails "a truth that is no numbers" "not .npy of" recall index --gt base.npy
head -c 1000 gt.npy >cut.npy
head -c 1001 gt.ivecs >cut.ivecs
fails "a truth cut short" "cut short" recall index --gt cut.npy
fails "an .ivecs cut short" "cut short" recall index --gt cut.ivecs
fails "a list that is none" "is a list such as" recall index --gt gt.npy --probes 1,,2
fails "candidates below k" "is below -k" recall index --gt gt.npy --candidates 5
