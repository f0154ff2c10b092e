#!/usr/bin/env bash
# torch 2.14.1: Tensor.to_dense() of a tensor that is dense already loses its tangent under torch.func.
#
# Expected: its documentation says that a strided tensor is returned as it is, so torch.func.jvp should give its tangent
# unchanged, as it does for contiguous() and positive(), and as torch.autograd.forward_ad does for to_dense() itself.
# Happens: torch.func.jvp gives a tangent of zeros with no word, jacfwd a Jacobian of zeros beside a right one from
# jacrev, and torch.func.hessian, which is forward over reverse, zeros as well.
# Source: torch/_subclasses/fake_impls.py, which registers to_dense_functorch_frontmode_impl for to_dense under every
# transform: except for Grad it enters interpreter.lower() and hands the tensor on one level down, so that what comes
# back is not of the Jvp level and has no tangent there.
# Seen:
#   func.jvp: to_dense [0.0, 0.0] contiguous [1.0, 1.0] | forward_ad: to_dense [1.0, 1.0]
#   cube of to_dense: jacfwd [[0.0, 0.0], [0.0, 0.0]] jacrev [[3.0, 0.0], [0.0, 12.0]]
#   hessian of its sum [[0.0, 0.0], [0.0, 0.0]]
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
import sys
import torch
from torch import func
from torch.autograd import forward_ad

t = torch.tensor([1.0, 2.0])


def cube(x):
    return x.to_dense().pow(3)


tangent = func.jvp(lambda x: x.to_dense(), (t,), (torch.ones(2),))[1].tolist()
other = func.jvp(lambda x: x.contiguous(), (t,), (torch.ones(2),))[1].tolist()
with forward_ad.dual_level():
    plain = forward_ad.unpack_dual(forward_ad.make_dual(t, torch.ones(2)).to_dense()).tangent.tolist()
forward, reverse = func.jacfwd(cube)(t).tolist(), func.jacrev(cube)(t).tolist()
hessian = func.hessian(lambda x: cube(x).sum())(t).tolist()
print("func.jvp: to_dense", tangent, "contiguous", other, "| forward_ad: to_dense", plain)
print("cube of to_dense: jacfwd", forward, "jacrev", reverse)
print("hessian of its sum", hessian)
zero = [[0.0, 0.0], [0.0, 0.0]]
lost = tangent == [0.0, 0.0] and forward == zero and hessian == zero
kept = other == plain == [1.0, 1.0] and reverse == [[3.0, 0.0], [0.0, 12.0]]
sys.exit(0 if lost and kept else 1)
PY
