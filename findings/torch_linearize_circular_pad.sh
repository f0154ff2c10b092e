#!/usr/bin/env bash
# torch 2.14.1: torch.func.linearize gives wrong derivatives, without a word, where a circular padding is a factor.
#
# Expected: linearize(f, w)[1](v) is jvp(f, (w,), (v,))[1], as its documentation says; at most it is faster when it is
# called again. Of f(w) = w pad(x) it is v pad(x).
# Happens: with circular padding the factor pad(x) is memory that nothing was written to: the answer differs from jvp's,
# and from run to run. With constant or reflecting padding both agree, and so do vjp and jvp with each. A network of
# convolutions with padding_mode="circular" is such an f.
# Source: torch/_functorch/eager_transforms.py, linearize folds what does not depend on the tangents; circular padding
# (aten::_pad_circular) writes slices into a tensor that it made empty.
# Seen (largest difference from jvp, over the largest entry of jvp's; the last one varies, and may be nan):
#   constant 0, reflect 0, circular 0.96
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
    python3 -m venv "$folder/venv"
    python="$folder/venv/bin/python"
    "$python" -m pip install --quiet torch==2.14.1 numpy
fi
cd "$folder"
"$python" -W ignore - <<'PY'
import sys

import torch
from torch.func import jvp, linearize
from torch.nn.functional import pad

torch.manual_seed(0)
x = 1 + torch.rand(2, 1, 6, 6, dtype=torch.float64)
w, v = torch.rand((), dtype=torch.float64), torch.rand((), dtype=torch.float64)


def difference(mode):
    def f(w):
        return w * pad(x, (1, 1, 1, 1), mode=mode)

    exact, found = jvp(f, (w,), (v,))[1], linearize(f, w)[1](v)
    return float((exact - found).abs().max() / exact.abs().max())


found = {mode: difference(mode) for mode in ("constant", "reflect", "circular")}
for mode, value in found.items():
    print(f"{mode} {value:.2g}")
right = [mode for mode, value in found.items() if value < 1e-12]
sys.exit(right != ["constant", "reflect"])
PY
