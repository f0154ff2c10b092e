#!/usr/bin/env bash
# torch 2.14.1: an operator of torch.library.custom_op drops forward-mode tangents without a word.
#
# Expected: an operator with a backward formula (register_autograd) and no forward-mode one raises under forward mode,
# as a torch.autograd.Function without jvp does.
# Happens: it raises only where an input also requires grad. Otherwise the output has no tangent in forward_ad, and
# torch.func.jvp and jacfwd take that for a derivative of zero, where reverse mode has the right one.
# Source: torch/_library/autograd.py, make_autograd_impl: the generated Function is entered only if some input requires
# grad; the other branch runs the operator below autograd, where tangents are not looked at.
# Seen:
#   forward_ad: tangent None | with requires_grad: NotImplementedError
#   func.jvp [0.0, 0.0] func.jacfwd [[0.0, 0.0], [0.0, 0.0]] | reverse mode [[2.0, 0.0], [0.0, 4.0]]
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
from torch import Tensor, func
from torch.autograd import forward_ad

@torch.library.custom_op("findings::square", mutates_args=())
def square(x: Tensor) -> Tensor:
    return x * x

def keep(ctx, inputs, output):
    ctx.save_for_backward(inputs[0])

square.register_autograd(lambda ctx, g: 2 * g * ctx.saved_tensors[0], setup_context=keep)
t, one = torch.tensor([1.0, 2.0]), torch.ones(2)

def tangent(requires_grad):
    with forward_ad.dual_level():
        try:
            dual = forward_ad.make_dual(t.clone().requires_grad_(requires_grad), one)
            return forward_ad.unpack_dual(square(dual)).tangent
        except NotImplementedError as error:
            return type(error).__name__

without, with_grad = tangent(False), tangent(True)
jvp, forward = func.jvp(square, (t,), (one,))[1].tolist(), func.jacfwd(square)(t).tolist()
reverse = torch.autograd.functional.jacobian(square, t).tolist()
print("forward_ad: tangent", without, "| with requires_grad:", with_grad)
print("func.jvp", jvp, "func.jacfwd", forward, "| reverse mode", reverse)
silent = without is None and jvp == [0.0, 0.0] and forward == [[0.0, 0.0], [0.0, 0.0]]
sys.exit(0 if silent and with_grad == "NotImplementedError" and reverse == [[2.0, 0.0], [0.0, 4.0]] else 1)
PY
