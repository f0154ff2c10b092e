#!/usr/bin/env bash
# numpy 2.4.6: np.unique of distinct integers takes longer than np.unique that also returns where they are.
#
# Expected: np.unique(a, return_index=True) does more, so it takes longer. The notes of NumPy 2.3 say that the hash table
# that np.unique has used since then for some types is faster than sorting, and so does a comment in its source.
# Happens: of a million distinct int64 the hash table takes several times as long as the way with indices, which sorts,
# and about a hundred times as long as np.sort alone. sorted=False does not help: the time goes into the table. Codes of
# edges, u * n + v, are such integers.
# Source: numpy/lib/_arraysetops_impl.py, _unique1d: without optional outputs _unique_hash comes first.
# Seen (milliseconds, the least of five, one core of an x86-64 with AVX-512):
#   np.unique(a) 458, with sorted=False 464, with return_index=True 82, np.sort(a) 4
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
    python3 -m venv "$folder/venv"
    python="$folder/venv/bin/python"
    "$python" -m pip install --quiet numpy==2.4.6
fi
cd "$folder"
"$python" - <<'PY'
import sys
import time

import numpy as np

a = np.random.default_rng(0).integers(0, 10**9, 10**6)


def least(call):
    taken = []
    for _ in range(5):
        begin = time.process_time()
        call()
        taken.append(time.process_time() - begin)
    return 1e3 * min(taken)


plain, index = least(lambda: np.unique(a)), least(lambda: np.unique(a, return_index=True))
unsorted, sort = least(lambda: np.unique(a, sorted=False)), least(lambda: np.sort(a))
print(f"np.unique(a) {plain:.0f}, with sorted=False {unsorted:.0f}, with return_index=True {index:.0f}, np.sort(a) {sort:.0f}")
sys.exit(0 if plain > 2 * index and unsorted > 2 * index else 1)
PY
