#!/usr/bin/env bash
# torch 2.14.1: forward mode over forward mode takes the derivative that an autograd.Function gives for a constant.
#
# Expected: with save_for_forward and a jvp of differentiable operations, as torch's notes on extending torch.func ask,
# derivatives of any order, as reverse over forward and forward over reverse give.
# Happens: torch.func.jvp of torch.func.jvp, and jacfwd of jacfwd, give a second derivative of 0 with no word.
# Source: torch/_functorch/autograd_function.py, generate_single_level_function, whose jvp calls the Function's with what
# was saved; pytorch issue 197867, open.
# Seen:
#   x³ at 2: forward over forward 12.0, forward over reverse 12.0, reverse over forward 12.0
#   the same as a Function: forward over forward 0.0, forward over reverse 12.0, reverse over forward 12.0
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
from torch.func import grad, jvp


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g

    @staticmethod
    def jvp(ctx, tangent):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * tangent


def forward(f):
    return lambda x: jvp(f, (x,), (torch.ones(()),))[1]


x, found = torch.tensor(2.0), []
for name, f in (("x³ at 2", lambda x: x**3), ("the same as a Function", Cube.apply)):
    values = [float(d(x)) for d in (forward(forward(f)), forward(grad(f)), grad(forward(f)))]
    print(f"{name}: forward over forward {values[0]}, forward over reverse {values[1]}, reverse over forward {values[2]}")
    found.append(values)
sys.exit(0 if found == [[12.0, 12.0, 12.0], [0.0, 12.0, 12.0]] else 1)
PY
