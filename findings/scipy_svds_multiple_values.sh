#!/usr/bin/env bash
# scipy 1.17.1: sparse.linalg.svds passes over copies of a multiple singular value and returns smaller ones as if next.
#
# Expected: the k largest singular values, to the default tolerance of machine precision, or ArpackNoConvergence.
# Happens: for matrices with one 1 in each row, whose singular values are the square roots of the columns' counts and so
# often equal, a copy of one is sometimes missed, and a smaller value stands at the end of the list instead. Nothing
# warns, and each value that is returned is a singular value, so no residual shows it. solver="propack" does so too.
# Source: scipy/sparse/linalg/_eigen/_svds.py, svds calls eigsh on the normal matrix: a Lanczos iteration from a single
# starting vector, which meets further copies of a value by rounding only, and stops once k have converged.
# Seen (how many of the 60 matrices have a wrong value may depend on the machine's arithmetic):
#   arpack 14 of 60 wrong; (seed, largest error of a value): (0, 0.3178) (3, 0.3178) (5, 0.3178) (8, 0.3178)
#   propack 10 of 60 wrong; (seed, largest error of a value): (16, 0.3178) (24, 0.3178) (28, 0.3178) (32,
#     0.3178)
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
    python3 -m venv "$folder/venv"
    python="$folder/venv/bin/python"
    "$python" -m pip install --quiet scipy==1.17.1 numpy==2.4.6
fi
cd "$folder"
OMP_NUM_THREADS=1 "$python" -W error - <<'PY'
import sys
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

rows, columns, k = 100, 60, 15
wrong = {"arpack": [], "propack": []}
for seed in range(60):
    column = np.random.default_rng(seed).integers(0, columns, rows)
    matrix = csr_array((np.ones(rows), (np.arange(rows), column)), shape=(rows, columns))
    exact = np.sort(np.linalg.svd(matrix.toarray(), compute_uv=False))[-k:]
    assert np.allclose(exact**2, np.sort(np.bincount(column, minlength=columns))[-k:])
    for solver, misses in wrong.items():
        values = np.sort(svds(matrix, k=k, return_singular_vectors=False, solver=solver, rng=0))
        if abs(values - exact).max() > 1e-6:
            misses.append((seed, round(float(abs(values - exact).max()), 4)))
for solver, misses in wrong.items():
    print(solver, len(misses), "of 60 wrong; (seed, largest error of a value):", *misses[:4])
sys.exit(0 if all(wrong.values()) else 1)
PY
