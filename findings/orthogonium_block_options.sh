#!/usr/bin/env bash
# orthogonium 0.0.4: AOCLipschitzResBlock takes padding_mode and dilation, and computes without either.
#
# Expected: padding_mode says "circular or zeros", so the two differ at the border of an image; dilation=2 spreads the
# kernel, so an output depends on inputs further away.
# Happens: the convolution runs without padding and without dilation whatever is given, so all of them answer alike, bit
# for bit; only an unknown padding_mode is refused. The border is that of a valid convolution and its transpose: an
# entry at a corner meets one of nine shifts of a 3 x 3 kernel.
# Source: orthogonium/layers/conv/SLL/sll_layer.py: AOCLipschitzResBlock.forward pads by self.padding, which is 0 for
# "circular", and calls F.conv2d with padding=0 and no dilation for both.
# Seen (largest difference from padding_mode="circular", dilation=1, with the same weights):
#   padding_mode="zeros": 0.0, dilation=2: 0.0
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
    python3 -m venv "$folder/venv"
    python="$folder/venv/bin/python"
    "$python" -m pip install --quiet torch==2.14.1 numpy==2.4.6 orthogonium==0.0.4
fi
cd "$folder"
OMP_NUM_THREADS=1 "$python" -W ignore - <<'PY'
import sys

import torch
from orthogonium.layers.conv.SLL import AOCLipschitzResBlock

torch.manual_seed(0)
x = torch.randn(2, 4, 8, 8)
first = AOCLipschitzResBlock(4, 1, 3, padding_mode="circular").eval()
found = {}
for name, options in (('padding_mode="zeros"', {"padding_mode": "zeros"}), ("dilation=2", {"dilation": 2})):
    other = AOCLipschitzResBlock(4, 1, 3, **options)
    other.load_state_dict(first.state_dict())
    found[name] = float((other.eval()(x) - first(x)).abs().max())
print(", ".join(f"{name}: {value}" for name, value in found.items()))
sys.exit(0 if set(found.values()) == {0.0} else 1)
PY
