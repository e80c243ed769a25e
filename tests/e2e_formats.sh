#!/bin/bash
# vectool import and export: every format there and back to the last bit, files
# made by NumPy and by hand, an import that goes on, and files that lie.
. "$(dirname "$0")/e2e_lib.bash"
cd "$WORK" || exit 1
b=$WORK/b
mkdir "$b"
stat() { vectool stat --json "$1" | jq -r "$2"; }

vectool gen --rows 1200 --dim 16 --seed 1 -q base.npy
seq -f 'k%g' 0 1199 >keys
seq 0 1199 | sed 's/.*/{"n": &, "s": "a \\"quoted\\", \\u00e9 é"}/' >meta
check "import npy, keys and metadata" vectool import "$b/a" base.npy --keys keys --metadata meta --check
vectool delete "$b/a" k7 -q
vectool gen --rows 5 --dim 16 --seed 9 -q few.npy
seq -f 'tail%g' 5 >few.keys
vectool put "$b/a" few.npy --keys few.keys -q
vectool export "$b/a" a.jsonl -q

# ---- there and back
for f in npz hdf5 jsonl csv; do
	check "export $f" vectool export "$b/a" "a.$f" --check
	check "import $f" vectool import "$b/a-$f" "a.$f" --check
	is "$f: as many rows" "$(stat "$b/a-$f" .rows)" 1204
	vectool export "$b/a-$f" "again-$f.jsonl" -q
	is "$f: keys, metadata and vectors" "$(sort "again-$f.jsonl" | md5sum)" "$(sort a.jsonl | md5sum)"
done
vectool import "$b/n" base.npy -q
for f in npy fvecs faiss; do
	check "export $f" vectool export "$b/n" "n.$f" --check
	check "import $f" vectool import "$b/n-$f" "n.$f" --check
done
check "keys beside a file" vectool export "$b/a" a.fvecs --keys a.keys --metadata a.meta --check
check "and with it again" vectool import "$b/a-beside" a.fvecs --keys a.keys --metadata a.meta --check
vectool import "$b/half" base.npy --dtype f16 -q
for f in npy npz; do
	check "f16: $f" vectool export "$b/half" "half.$f" --check
	vectool import "$b/half-$f" "half.$f" -q
	is "f16 stays so: $f" "$(stat "$b/half-$f" .dtype)" f16
done

# ---- files of others
/usr/bin/python3 - <<'PY'
import numpy as np, struct
x = np.load("base.npy")
assert np.array_equal(np.load("n.npy"), x)
z = np.load("a.npz")
assert z["vectors"].shape == (1204, 16) and len(z["records.jsonl"].splitlines()) == 1204
f = np.fromfile("n.fvecs", "<i4").reshape(-1, 17)
assert (f[:, 0] == 16).all() and np.array_equal(f[:, 1:].copy().view("<f4"), x)
w = np.random.default_rng(1).integers(0, 256, (300, 24))
whole = w.astype("u1")
np.save("whole.npy", whole)
np.save("double.npy", x[:50].astype("f8"))
np.save("big.npy", x[:50].astype(">f4"))
np.save("long.npy", np.full((3, 4), 2**60 + 1))
np.save("minus.npy", np.array([[1, 2, 3, 4], [5, 6, -2**40 - 1, 8]]))
np.save("most.npy", np.array([[1, 2, 3, 4], [5, 6, 7, 2**64 - 1]], "<u8"))
np.savez_compressed("packed.npz", ids=np.arange(50) * 3, x=x[:50])
np.savez("text.npz", keys=np.array(["é%d" % i for i in range(50)]), x=x[:50], y=x[:9])
with open("hand.bvecs", "wb") as o:
    for r in whole: o.write(struct.pack("<i", 24) + r.tobytes())
with open("hand.ivecs", "wb") as o:
    for r in w: o.write(struct.pack("<i", 24) + (r - 9).astype("<i4").tobytes())
def flat(kind, metric, x):
    return struct.pack("<4siqqqBi", kind, x.shape[1], len(x), 1 << 20, 1 << 20, 1, metric) + \
        struct.pack("<Q", x.size) + x.astype("<f4").tobytes()
open("l2.index", "wb").write(flat(b"IxF2", 1, x[:50]))
ids = np.arange(50) * 7 - 20
body = struct.pack("<4siqqqBi", b"IxM2", 16, 50, 1 << 20, 1 << 20, 1, 0) + flat(b"IxFI", 0, x[:50])
body += struct.pack("<Q", 50) + ids.astype("<i8").tobytes()
open("map.index", "wb").write(body)
open("cut.index", "wb").write(body[:-9])
open("ivf.index", "wb").write(b"IwFl" + body[4:])
open("liar.npy", "wb").write(open("n.fvecs", "rb").read())
open("uneven.fvecs", "wb").write(open("n.fvecs", "rb").read() + struct.pack("<if", 1, 1))
open("none.bin", "wb").write(bytes(range(1, 200)))
open("huge.npy", "wb").write(b"\x93NUMPY\1\0" + struct.pack("<H", 118) +
    (b"{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976, 16), }").ljust(117) + b"\n")
open("p.csv", "w").write("id,a,b\n" + "".join("p%d,%d,%g\r\n" % (i, i + 1, i / 7) for i in range(20)))
open("bare.csv", "w").write("".join("%d,%d,3\n" % (i + 1, i) for i in range(20)))
mark = b"\xef\xbb\xbf"
open("excel.csv", "wb").write(mark + b"1,2,3\r\n4,5,6\r\n")
open("named.csv", "wb").write(mark + b"key,a,b\r\nx,1,2\r\ny,3,4\r\n")
open("mark.jsonl", "wb").write(mark + b'{"id": "x", "values": [1, 2, 3]}\r\n')
open("uneven.csv", "w").write("key,a,b\nx,1,2\ny,1\n")
open("m.jsonl", "w").write("".join('{"id": %d, "values": [1, 2, %d]}\n' % (i, i) for i in range(9)))
open("uneven.jsonl", "w").write('{"key":"a","vector":[1,2]}\n{"key":"b","vector":[1]}\n')
open("twice.jsonl", "w").write('{"key":"a","vector":[1,2]}\n' * 2)
bad = bytearray(open("packed.npz", "rb").read()); bad[len(bad) // 2] ^= 1
open("bad.npz", "wb").write(bad)
h = bytearray(open("a.hdf5", "rb").read())
open("cut.hdf5", "wb").write(h[:3000])
PY
[ $? = 0 ] && ok "what NumPy reads of ours" || not_ok "what NumPy reads of ours" "see above"
for f in whole.npy double.npy packed.npz hand.bvecs hand.ivecs l2.index map.index p.csv bare.csv m.jsonl excel.csv named.csv mark.jsonl; do
	check "import $f" vectool import "$b/i-${f//./-}" $f --metric euclidean --check
done
is "a byte order mark is no part of a number" "$(stat "$b/i-excel-csv" .dim)" 3
is "a FAISS file brings its metric" "$(vectool import "$b/m" map.index -q; stat "$b/m" .metric)" dot
is "and its ids" "$(vectool ls "$b/m" | head -2 | tr '\n' ' ')" "-20 -13 "
check "ids of an npz" vectool get "$b/i-packed-npz" 147
check "an array by its name" vectool import "$b/t" text.npz --array x --check
check "keys of an npz" vectool get "$b/t" é49
check "whole numbers go into bvecs" vectool export "$b/i-hand-bvecs" back.bvecs
check "as they were" cmp back.bvecs hand.bvecs
vectool export "$b/i-hand-ivecs" back.ivecs -q
check "and into ivecs" cmp back.ivecs hand.ivecs
head -c 3000 /dev/urandom >half.hdf5

# ---- what is refused: one line, no file, no rows
refused() { fails "$1" "$2" vectool import "$b/refused" "${@:3}"; }
refused "a name that lies" 'liar.npy: named as npy, but its content is fvecs' liar.npy
refused "rows of unequal length" 'named as fvecs, .*unequal length' uneven.fvecs
refused "no format" 'none.bin: none of the formats' none.bin
refused "a hostile shape" 'huge.npy: is cut short' huge.npy
refused "big-endian" 'big.npy: big-endian' big.npy
refused "numbers that float32 cannot hold" 'long.npy: row 0 holds a number that float32 cannot: 1152921504606846977$' long.npy
refused "nor below zero" 'minus.npy: row 1 holds a number that float32 cannot: -1099511627777$' minus.npy
refused "nor of 64 bits without a sign" 'most.npy: row 1 holds a number that float32 cannot: 18446744073709551615$' most.npy
refused "two arrays" 'text.npz: no array "vectors"' text.npz
refused "no such array" 'text.npz: no array "w"' text.npz --array w
refused "a damaged archive" 'bad.npz: ' bad.npz
refused "a cut HDF5 file" 'cut.hdf5: a damaged HDF5 file' cut.hdf5
refused "no such data set" 'a.hdf5: nothing: no such data set' a.hdf5 --array nothing
refused "an HDF5 name that lies" 'half.hdf5: named as hdf5' half.hdf5
refused "a cut FAISS file" 'cut.index: is cut short within its ids' cut.index
refused "another index of FAISS" 'ivf.index: an index of FAISS that does not hold' ivf.index
refused "a row without a column" 'uneven.csv: line 3 has fewer columns' uneven.csv
refused "vectors of two lengths" 'uneven.jsonl: line 2 has a vector of 1 elements' uneven.jsonl
refused "a key twice" 'twice.jsonl: key "a" is of row 0 and again of row 1' twice.jsonl
refused "too few keys" 'keys: has 1200 lines for the 5 rows' few.npy --keys keys
refused "no file" 'absent.npy: No such file' absent.npy
fails "nothing of them is there" 'there is no index' vectool stat "$b/refused"
fails "keys that fvecs does not keep" 'is no row number below 1204' vectool export "$b/a" no.fvecs
fails "keys that are no ids" 'is no whole number' vectool export "$b/a" no.faiss
fails "numbers that are no bytes" 'is no byte' vectool export "$b/n" no.bvecs
fails "a name without a format" 'ends like no format' vectool export "$b/n" no.xyz
fails "a folder that is not there" 'No such file' vectool export "$b/n" not/there.npy
is "and no file is left" "$(ls -d no.* ./*part* 2>/dev/null)" ""
cp n.fvecs changed.fvecs
printf '\x7f' | dd of=changed.fvecs bs=1 seek=50003 conv=notrunc status=none
cat >compare.sh <<'SH'
cp n.fvecs one.fvecs
vectool import "$1" one.fvecs -q --resume --check && cp changed.fvecs one.fvecs &&
	! vectool import "$1" one.fvecs -q --resume --check 2>err && grep -q 'row 735, key "735", is not as it is' err
SH
check "--check finds one byte" bash compare.sh "$b/changed"

# ---- pipes
piped() { # FILE NAME [OPTIONS]: what comes through a pipe is what a file holds
	check "$2 from a pipe" bash -c 'cat "$1" | vectool import "$2" - -q --check "${@:3}"' _ "$1" "$b/pipe-$2" "${@:3}"
	is "as from the file" "$(stat "$b/pipe-$2" .rows)" 1204
}
piped a.jsonl jsonl
piped a.csv csv
piped a.npz npz
piped a.hdf5 hdf5
check "two of the shell's" vectool import "$b/two" <(head -500 a.jsonl) <(tail -n +501 a.jsonl) -q --check
is "with all rows" "$(stat "$b/two" .rows)" 1204
mkfifo fifo.npy
cat a.jsonl >fifo.npy &
refused "one with a wrong name" 'fifo.npy: named as npy, but its content is jsonl' fifo.npy
wait $!
fails "nothing comes" 'standard input: is empty' vectool import "$b/refused" - </dev/null
fails "a folder" 'is a folder' vectool import "$b/refused" .

# ---- parts, and going on
check "in parts" vectool import "$b/parts" n.fvecs --part-rows 300 --leaves 4 --check
is "a commit each" "$(stat "$b/parts" '[.rows,.version]|tostring')" '[1200,4]'
check "nothing is left to do" bash -c "vectool import '$b/parts' n.fvecs --resume --check | grep -q '0 rows, 1200 were there already'"
head -c $((68 * 500)) n.fvecs >first.fvecs
vectool import "$b/resumed" first.fvecs -q
check "goes on by number" bash -c "vectool import '$b/resumed' n.fvecs --resume --check | grep -q '700 rows, 500 were there already'"
head -500 a.jsonl >first.jsonl
vectool import "$b/keyed" first.jsonl -q
check "goes on by key" bash -c "vectool import '$b/keyed' a.jsonl --resume --check | grep -q '704 rows, 500 were there already'"
vectool import "$b/killed" n.fvecs --part-rows 10 -q 2>/dev/null &
pid=$!
for _ in $(seq 500); do
	n=$(vectool stat --json "$b/killed" 2>/dev/null | jq .rows)
	[ "${n:-0}" -ge 20 ] && break
	sleep 0.02
done
kill -9 $pid
wait $pid 2>/dev/null
check "after kill -9" vectool import "$b/killed" n.fvecs --resume --check
is "all of it, once" "$(stat "$b/killed" .rows)" 1200
