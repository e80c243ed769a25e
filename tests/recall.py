"""Compare what vecquery printed with the exact answers of a data set.

    recall.py SET_DIR METRIC MIN_RECALL ANSWERS.jsonl [QUERIES]

Prints recall@10 and exits 1 below MIN_RECALL.  With MIN_RECALL "exact" every
answer has to be the ground truth: another key only where it is as near in
double precision (a tie), and the printed distance has to be right.
"""
import json
import sys

import numpy as np

TOP = 10


def distances(metric, base, query):
    base, query = base.astype("f8"), query.astype("f8")
    if metric == "euclidean":
        return ((base - query) ** 2).sum(1)
    norm = np.linalg.norm(base, axis=1) * np.linalg.norm(query)
    return 1 - base @ query / norm


def main():
    folder, metric, bar, answers = sys.argv[1:5]
    base = np.load(folder + "/base.npy", mmap_mode="r")
    queries = np.load(folder + "/queries.npy")
    truth = np.load(f"{folder}/gt_{'l2' if metric == 'euclidean' else metric}.npy")
    lines = [json.loads(line) for line in open(answers)]
    expected = int(sys.argv[5]) if len(sys.argv) > 5 else len(queries)
    if len(lines) != expected:
        sys.exit(f"{len(lines)} answers for {expected} queries")
    hits, wrong = 0, []
    for i, line in enumerate(lines):
        ids = [int(h["key"]) for h in line["hits"]]
        if line["query"] != i or len(set(ids)) != TOP or line["partial"]:
            sys.exit(f"answer {i} is not {TOP} distinct hits: {line}")
        right = truth[i, :TOP]
        hits += len(set(ids) & set(right.tolist()))
        if bar != "exact":
            continue
        want = distances(metric, base[right], queries[i])
        have = distances(metric, base[ids], queries[i])
        said = np.array([h["distance"] for h in line["hits"]])
        scale = max(1, np.abs(want).max())
        if np.abs(have - want).max() > 3e-7 * scale:
            wrong.append((i, "another row"))
        elif np.abs(said - have).max() > 1e-5 * scale:
            wrong.append((i, "another distance"))
    recall = hits / (TOP * len(lines))
    print(f"recall@10 {recall:.4f} over {len(lines)} queries")
    if wrong:
        sys.exit(f"{len(wrong)} answers are not exact, the first: {wrong[0]}")
    if bar != "exact" and recall < float(bar):
        sys.exit(f"recall {recall:.4f} is below {bar}")


main()
