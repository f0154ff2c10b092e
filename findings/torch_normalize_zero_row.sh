#!/usr/bin/env bash
# torch 2.14.1: the second derivative of F.normalize is not a number at a row of zeros, and zero right beside it.
#
# Expected: rows shorter than eps are divided by eps, as documented, so around a row of zeros the function is linear:
# first derivative 1 / eps, second derivative zero. That is what rows of length 1e-14 have.
# Happens: the row of zeros has the right first derivative and a second one of nan, which turns a gradient penalty or a
# Hessian-vector product over all the rows into nan for every weight before it.
# Source: torch/nn/functional.py, normalize takes the norm and then clamp_min, whose backward hands the norm a gradient
# of zero; linalg_vector_norm_backward in torch/csrc/autograd/FunctionsManual.cpp divides by the norm and masks the
# quotient where the norm is zero. That saves the first derivative only: the quotient's own derivative is 0 / 0.
# Seen (first derivative, then the second one along (1, 0)):
#   length 0.0 first [1000000000000.0, 2000000000000.0] second [nan, nan]
#   length 1e-14 first [1000000000000.0, 2000000000000.0] second [0.0, 0.0]
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
    python3 -m venv "$folder/venv"
    python="$folder/venv/bin/python"
    "$python" -m pip install --quiet torch==2.14.1 numpy==2.4.6
fi
cd "$folder"
OMP_NUM_THREADS=1 "$python" -W ignore - <<'PY'
import math
import sys
import torch
from torch.nn.functional import normalize


def derivatives(length):
    x = torch.tensor([[length, 0.0]], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    first = torch.autograd.grad((weight * normalize(x, dim=1)).sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first[0, 0], x)[0]
    return first[0].tolist(), second[0].tolist()


found = {length: derivatives(length) for length in (0.0, 1e-14)}
for length, (first, second) in found.items():
    print("length", length, "first", first, "second", second)
finite = found[0.0][0] == found[1e-14][0] and found[1e-14][1] == [0.0, 0.0]
sys.exit(0 if finite and all(map(math.isnan, found[0.0][1])) else 1)
PY
