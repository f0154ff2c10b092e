#!/usr/bin/env bash
# orthogonium 0.0.4: the learned scaling q of its almost orthogonal convolutions has no effect.
#
# Expected: SDPBasedLipschitzResBlock and AOLConv2D rescale the outputs of their kernel by
# (Σ_j |K K*|_ij q_j/q_i)^(-1/2), as their references do (Araujo et al., ICLR 2023): q is learned, and evens out rows of
# unlike size, as it does in the library's own SDPBasedLipschitzDense.
# Happens: q and 1/q are multiplied along the same axis, so they cancel. Whatever q is, the kernel is the same, and q's
# gradient is rounding. The block's other parameter named q is never read: its gradient is None, which
# DistributedDataParallel reports as an unused parameter. The layers stay 1-Lipschitz; only what q is for is lost.
# Source: orthogonium/layers/conv/AOL/aol.py: (q_inv * ktk * q) with q and q_inv both of shape [features, 1, 1, 1].
# Seen (largest change of the output, relative, where q is drawn from a normal distribution):
#   SDPBasedLipschitzResBlock 0e+00, gradient of the other q: None
#   AOLConv2D 0e+00
#   SDPBasedLipschitzDense 0.4
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
from orthogonium.layers.conv.AOL.aol import AOLConv2D
from orthogonium.layers.conv.SLL import SDPBasedLipschitzDense, SDPBasedLipschitzResBlock


def change(layer, x, q):
    before = layer(x)
    with torch.no_grad():
        q.normal_()
    return float((layer(x) - before).abs().max() / before.abs().max())


torch.manual_seed(0)
image, vector = torch.randn(2, 4, 6, 6), torch.randn(2, 8)
block = SDPBasedLipschitzResBlock(4, 1.0)
block(image).sum().backward()
convolution, dense = AOLConv2D(4, 4, 3, padding=1), SDPBasedLipschitzDense(8, 8, 8)
found = {
    "SDPBasedLipschitzResBlock": change(block, image, block.parametrizations.kernel[0].q),
    "AOLConv2D": change(convolution, image, convolution.parametrizations.weight[0].q),
    "SDPBasedLipschitzDense": change(dense, vector, dense.q),
}
for name, value in found.items():
    more = f", gradient of the other q: {block.q.grad}" if name == "SDPBasedLipschitzResBlock" else ""
    print(f"{name} {value:.0e}{more}" if value < 1e-3 else f"{name} {value:.1f}")
first, second, third = found.values()
sys.exit(0 if first < 1e-5 and second < 1e-5 and third > 1e-2 and block.q.grad is None else 1)
PY
