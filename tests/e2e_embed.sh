#!/bin/bash
# Texts through an API like OpenAI's: import, going on after a stop, queries; and
# every way in which such a server fails.
. "$(dirname "$0")/e2e_lib.bash"
cd "$WORK" || exit 1
b=$WORK/b
mkdir "$b"
stat() { vectool stat --json "$1" | jq -r "$2"; }

# What file "mode" says is done to each request; "asked" counts texts.  A vector
# is one of the text alone, of numbers that float32 holds: what came back can be
# checked however it was rounded.
cat >server.py <<'PY'
import hashlib, http.server, json, os, socketserver, struct, sys, threading, time
lock, seen = threading.Lock(), {}
def vector(text, dim):
    h = hashlib.shake_128(text.encode()).digest(4 * dim)
    return [(v >> 8) / 2**23 for v in struct.unpack("<%di" % dim, h)]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def say(self, status, body, headers=()):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for k, v in headers: self.send_header(k, v)
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        ask = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        mode, texts = open("mode").read().split(), ask["input"]
        with lock:
            n = seen[mode[0]] = seen.get(mode[0], 0) + 1
            open("asked", "a").write("%d %s %s %s\n" % (len(texts), ask["model"], self.path, self.headers.get("Authorization")))
        dim = 8 if mode[0] == "dim" and n > 1 else 16
        data = [{"object": "embedding", "index": i, "embedding": vector(t, dim)} for i, t in enumerate(texts)]
        good = {"object": "list", "data": data, "model": ask["model"]}
        if mode[0] == "shuffled": data.reverse()
        if mode[0] == "limit" and n % 3 == 1:
            return self.say(429, {"error": {"message": "slow down"}}, [("Retry-After", "0")])
        if mode[0] == "busy": return self.say(503, b"no\nmore", [("Retry-After", "900")])
        if mode[0] == "key" and self.headers.get("Authorization") != "Bearer " + mode[1]:
            return self.say(401, {"error": {"message": "wrong key: " + str(self.headers.get("Authorization"))}})
        if mode[0] == "long" and max(map(len, texts)) > 100:
            return self.say(400, {"error": "a text is too long"})
        if mode[0] == "nan": return self.say(200, json.dumps(good).replace("0.", "N", 1).encode())
        if mode[0] == "null": data[0]["embedding"][3] = None
        if mode[0] == "huge": data[0]["embedding"][3] = 1e39
        if mode[0] == "few": data.pop()
        if mode[0] == "twice": data[-1]["index"] = 0
        if mode[0] == "some" and len(data) > 1: data.sort(key=lambda d: d["index"] != 1); del data[1]["index"]
        if mode[0] == "page": return self.say(200, b"<html>")
        if mode[0] == "stop" and n > int(mode[1]): os._exit(0)
        if mode[0] == "cut":
            body = json.dumps(good).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:len(body) // 2])
            self.close_connection = True
            return
        if mode[0] == "hang": time.sleep(20)
        self.say(200, good)
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
s = Server(("127.0.0.1", 0), Handler)
open("port", "w").write(str(s.server_address[1]))
s.serve_forever()
PY
serve() {
	rm -f port
	/usr/bin/python3 server.py 2>/dev/null &
	server=$!
	for _ in $(seq 500); do
		[ -s port ] && break
		sleep 0.02
	done
	export url=http://127.0.0.1:$(cat port)/v1
}
again() { # after it has ended itself
	kill $server 2>/dev/null
	wait $server 2>/dev/null
	serve
}
CLEANUP+=('kill $server 2>/dev/null')
serve
mode() { echo "$*" >mode; }
texts() { awk '{n += $1} END {print n + 0}' asked; }
unset VECFS_EMBED_KEY OPENAI_API_KEY

for i in $(seq 0 199); do
	echo "{\"key\": \"k$i\", \"text\": \"text \\\"$i\\\" é\", \"metadata\": {\"n\": $i}}"
done >t.jsonl
{
	echo 'id,other,body,metadata'
	for i in $(seq 0 199); do echo "k$i,$i,\"text \"\"$i\"\" é\",\"{\"\"n\"\":$i}\""; done
} >t.csv
/usr/bin/python3 - >same.jsonl <<'PY'
import json, re
exec(open("server.py").read().split("class Handler")[0])
for i in range(200):
    print(json.dumps({"key": "k%d" % i, "vector": vector('text "%d" é' % i, 16), "metadata": {"n": i}}))
PY
mkdir bin
echo 'exec vectool import "$@" --embed "$url" --model small' >bin/embed
echo "exec vecquery $b/j --text 'text \"42\" é' -k 1 --format jsonl --embed \$url \"\$@\"" >bin/query
chmod +x bin/*
PATH=$WORK/bin:$PATH

mode shuffled
check "JSON lines" embed "$b/j" t.jsonl --embed-batch 7
is "each text is asked for once" "$(texts)" 201
is "by its model and path" "$(awk '{print $2, $3, $4}' asked | sort -u)" "small /v1/embeddings None"
check "a column of CSV, the whole URL" vectool import "$b/c" t.csv --text body --embed "$url/embeddings?x=1" --model small -q
vectool import "$b/same" same.jsonl -q
for i in j c; do
	vectool export "$b/$i" $i.jsonl -q
	vectool export "$b/same" s.jsonl -q
	is "$i: vectors, keys and metadata" "$(sort $i.jsonl | md5sum)" "$(sort s.jsonl | md5sum)"
done
is "the model is remembered" "$(stat "$b/j" '.embedder,.dim' | tr '\n' ' ')" "model:small 16 "

# ---- queries
is "a text finds itself" "$(query | jq -r '.hits[0].key')" k42
is "named by its model, too" "$(query --model small | jq -r '.hits[0].key')" k42
is "also as a line" "$(echo '{"text": "text \"7\" é", "k": 1}' | vecquery "$b/j" --stdin --embed "$url" | jq -r '.hits[0].key')" k7
fails "another model" 'embedded by the model small, not large' query --model large
fails "no URL" 'embedded by the model small; give --embed URL' vecquery "$b/j" --text x
fails "a model where none was" 'not made from texts' vecquery "$b/same" --text x --embed "$url"
fails "into an index of another model" 'its embedder is model:small, not model:large' vectool import "$b/j" t.jsonl --embed "$url" --model large
fails "into one of vectors" 'its embedder is none, not model:small' embed "$b/same" t.jsonl

# ---- keys
mode key secret
export OPENAI_API_KEY=secret
check "the key of OpenAI" embed "$b/k1" t.jsonl -q
export VECFS_EMBED_KEY=other
fails "ours goes first" '/v1/embeddings: status 401$' embed "$b/k2" t.jsonl
fails "and is no part of a message" 'status 401$' query
unset VECFS_EMBED_KEY OPENAI_API_KEY
fails "no key" 'status 401: wrong key: None' embed "$b/k2" t.jsonl

# ---- what goes wrong and ends well
mode limit
: >asked
check "not now" embed "$b/limit" t.jsonl --embed-batch 20 -q
is "all texts" "$(stat "$b/limit" .rows)" 200
mode stop 6
fails "a server that stops" 'rows [0-9]+ to [0-9]+: http://127.0.0.1:[0-9]*/v1/embeddings: ' \
	embed "$b/stop" t.jsonl --embed-batch 10 --embed-timeout 1
fails "has put nothing" 'there is no index' vectool stat "$b/stop"
again
mode stop 7
embed "$b/stop" t.jsonl --embed-batch 10 --part-rows 40 --embed-timeout 1 -q 2>err
is "parts are whole" "$(stat "$b/stop" .rows)" 40
is "and what is there is said" "$(grep -c 'the first 40 rows are in .*; go on with --resume' err)" 1
again
mode ok
: >asked
check "goes on" embed "$b/stop" t.jsonl --resume
is "without what is there" "$(texts)" 160
vectool export "$b/stop" stop.jsonl -q
is "and is the same" "$(sort stop.jsonl | md5sum)" "$(sort s.jsonl | md5sum)"

# ---- what goes wrong: one line, no rows
wrong() {
	mode $1
	fails "$1" "$2" embed "$b/wrong" t.jsonl --embed-batch 10 --embed-timeout 1 "${@:3}"
}
wrong busy '/v1/embeddings: status 503: no$'
wrong dim 't.jsonl: rows [0-9]+ to [0-9]+: .*its vectors have 8 elements, not 16'
wrong nan 'its answer is no JSON'
wrong null 'element 3 of a vector is no float32'
wrong huge 'element 3 of a vector is no float32'
wrong few '0 embeddings came for 1 text$'
wrong twice 'not numbered 0 to 9'
wrong some 'not numbered 0 to 9'
wrong page 'its answer is no JSON from byte [0-9]+ on$'
wrong cut 'embeddings: .*(closed|remaining)'
wrong hang '[Tt]imed? ?out'
sed "77s/text \\\\/$(printf 'x%.0s' $(seq 200)) \\\\/" t.jsonl >long.jsonl
mode long
fails "a text too long" 'long.jsonl: rows 70 to 79: .*status 400: a text is too long' embed "$b/wrong" long.jsonl --embed-batch 10
mode ok
sed '5s/"text": "[^,]*"/"text": " "/' t.jsonl >empty.jsonl
fails "no text" 'empty.jsonl: the text of row 4 holds no word' embed "$b/wrong" empty.jsonl --part-rows 2
: >asked
check "is passed over when that is wanted, and all is checked" embed "$b/skip" empty.jsonl --skip-empty --check --part-rows 60
is "and not asked for" "$(texts) $(stat "$b/skip" .rows)" "200 199"
vectool export "$b/skip" skip.jsonl -q
is "the others are as they were" "$(sort skip.jsonl | md5sum)" "$(sort s.jsonl | grep -v '"k4"' | md5sum)"
mv empty.jsonl kept.jsonl
check "of other runs keys and metadata are checked" bash -c \
	"embed '$b/stop' t.jsonl --resume --check | grep -q 'checked: keys and metadata of all as in the file, vectors of 0'"
sed '5s/"text"/"words"/' t.jsonl >none.jsonl
fails "no such member" 'none.jsonl: line 5 has no string "text"' embed "$b/wrong" none.jsonl
fails "no such column" 't.csv: line 1 names no column "text"' embed "$b/wrong" t.csv
printf 'key,text\na,\xff\xfe\n' >latin.csv
fails "no UTF-8" 'latin.csv: row 0: .*not UTF-8' embed "$b/wrong" latin.csv
vectool gen --rows 5 --dim 16 -q five.npy
fails "a file without texts" 'five.npy: is npy, which holds no texts' embed "$b/wrong" five.npy
fails "nobody there" 'http://127.0.0.1:1/v1/embeddings: .*onnect' \
	vectool import "$b/wrong" t.jsonl --embed http://127.0.0.1:1/v1 --model small --embed-timeout 1
fails "a key in the URL" 'not from the URL' vectool import "$b/wrong" t.jsonl --embed http://a:b@127.0.0.1/v1 --model small
fails "no model" 'needs --model' vectool import "$b/wrong" t.jsonl --embed "$url"
fails "nothing of them is there" 'there is no index' vectool stat "$b/wrong"

# ---- the built-in embedder, on columns
check "a column by the built-in one" vectool import "$b/h" t.csv --text body --embed hash:64 --part-rows 90 -q
vectool import "$b/lines" --texts t.jsonl --embed hash:64 -q
vectool export "$b/h" h.jsonl -q
vectool export "$b/lines" l.jsonl -q
is "embeds as its lines are" "$(sort h.jsonl | md5sum)" "$(sort l.jsonl | md5sum)"
is "by a text" "$(vecquery "$b/h" --text 'text "42"' -k 1 --format jsonl | jq -r '.hits[0].key')" k42
is "the embedder is remembered" "$(stat "$b/h" .embedder)" hash:64
check "nothing is left to do" vectool import "$b/h" t.csv --text body --embed hash:64 --resume
is "and nothing was done" "$(stat "$b/h" '.version,.rows' | tr '\n' ' ')" "3 200 "
echo 'k200,1,"text ""42"" é",{}' >one.csv
sed -i '1i id,other,body,metadata' one.csv
check "more, as the others were" vectool import "$b/h" one.csv --text body --embed hash:64 -q
vectool get "$b/h" k200 k42 --npy both.npy >/dev/null
is "the same text is the same vector" "$(tail -c 512 both.npy | head -c 256 | md5sum)" "$(tail -c 256 both.npy | md5sum)"
check "as they are in the file" bash -c "vectool import '$b/h' t.csv --text body --embed hash:64 --resume --check | grep -q 'checked: all as in the file$'"
cp t.csv other.csv
sed -i '9s/text/test/' other.csv
fails "another text in it" 'other.csv: row 7, key "k7", is not as it is in' vectool import "$b/h" other.csv --text body --embed hash:64 --resume --check
fails "another dimension" 'its embedder is hash:64, not hash:32' vectool import "$b/h" t.csv --text body --embed hash:32
printf 'id,text\na,some words\nb,...\n' >dots.csv
fails "no word" 'dots.csv: the text of row 1 holds no word .--skip-empty' vectool import "$b/wrong" dots.csv --embed hash:64
fails "nothing of it is there" 'there is no index' vectool stat "$b/wrong"
check "is passed over, too" bash -c "vectool import '$b/dots' dots.csv --embed hash:64 --skip-empty --check | grep -q ': 1 rows, 1 without a word passed over, .*checked: all'"
fails "not of vectors" '--skip-empty is of texts' vectool import "$b/dots" five.npy --skip-empty
