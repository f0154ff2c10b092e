#!/usr/bin/env bash
# torch 2.14.1: on a CPU in double precision conv2d into one channel is slower than the same map by conv_transpose2d.
#
# Expected: conv2d with stride 1 is the most direct way to a convolution; conv_transpose2d with the kernel turned by
# half a turn, and channels swapped, is the same map and made for the way back, so it is no faster.
# Happens: of 10 channels into one it takes more than ten times as long, of 64 more than twenty times. From one channel
# to many it is the other way round. In single precision neither is far ahead.
# Source: aten/src/ATen/native/ConvolutionMM2d.cpp, slow_conv2d, which is chosen for doubles (oneDNN takes single
# precision): im2col writes in · k² numbers for each pixel before its matrix product. slow_conv_transpose2d in
# NaiveConvolutionTranspose2d.cpp multiplies first, and col2im then adds up out · k² numbers for each pixel.
# Seen (milliseconds, forward and backward, the least of five, one core):
#   10 to 1 float64: conv2d 220, turned 16; 64 to 1 float64: conv2d 1838, turned 64
#   1 to 10 float64: conv2d 14, turned 200; 10 to 1 float32: conv2d 28, turned 22
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
import time

import torch
from torch.nn.functional import conv2d, conv_transpose2d


def turned(x, weight):
    return conv_transpose2d(x, weight.flip(2, 3).transpose(0, 1), padding=weight.size(2) - 1)


def least(convolve, x, weight):
    taken = []
    for _ in range(6):
        begin = time.process_time()
        convolve(x, weight).sum().backward()
        taken.append(time.process_time() - begin)
    return 1e3 * min(taken[1:])


torch.set_num_threads(1)
ratios, lines = {}, []
for channels, out, dtype in (
    (10, 1, torch.float64), (64, 1, torch.float64), (1, 10, torch.float64), (10, 1, torch.float32)
):
    x = torch.randn(8, channels, 104, 104, dtype=dtype, requires_grad=True)
    weight = torch.randn(out, channels, 5, 5, dtype=dtype, requires_grad=True)
    gap = float((conv2d(x, weight) - turned(x, weight)).abs().max().detach())
    assert gap < (1e-10 if dtype == torch.float64 else 1e-2), gap
    direct, other = least(conv2d, x, weight), least(turned, x, weight)
    ratios[channels, out, dtype] = direct / other
    lines.append(f"{channels} to {out} {str(dtype)[6:]}: conv2d {direct:.0f}, turned {other:.0f}")
print("\n".join("; ".join(pair) for pair in (lines[:2], lines[2:])))
slower = ratios[10, 1, torch.float64] > 2.5 and ratios[64, 1, torch.float64] > 5
sys.exit(0 if slower and ratios[1, 10, torch.float64] < 0.5 and ratios[10, 1, torch.float32] < 2.5 else 1)
PY
