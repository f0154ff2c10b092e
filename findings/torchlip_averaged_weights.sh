#!/usr/bin/env bash
# deel-torchlip 1.0.5: averaged or assigned parameters have no effect on a spectral layer in evaluation.
#
# Expected: a layer in evaluation computes with its parameters. So the moving average of a network's parameters (torch's
# AveragedModel) gives the averaged network, and assigning parameters gives the network with these.
# Happens: the Björck step keeps the weight of the last pass in training as a buffer, and reads nothing but this buffer
# in evaluation. AveragedModel averages parameters and copies buffers (its default), so the averaged network answers in
# evaluation bit for bit as the last, not averaged one does: averaging does nothing, without a warning. Parameters that
# are assigned in evaluation do nothing either. One pass in training puts both right. Without Björck steps
# (eps_bjorck=None) the parameters count.
# Source: deel/torchlip/utils/bjorck_norm.py: _BjorckNorm.forward returns self._w_bjorck where it is not training.
# Seen (largest difference of outputs in evaluation):
#   SpectralLinear: averaged from last 0.0, after one pass in training 1.4011, assigned from before 0.0
#   SpectralConv2d: averaged from last 0.0, after one pass in training 0.3910, assigned from before 0.0
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
    python3 -m venv "$folder/venv"
    python="$folder/venv/bin/python"
    "$python" -m pip install --quiet torch==2.14.1 numpy==2.4.6 deel-torchlip==1.0.5
fi
cd "$folder"
OMP_NUM_THREADS=1 "$python" -W ignore - <<'PY'
import sys

import torch
from deel import torchlip
from torch.optim.swa_utils import AveragedModel

surprised = True
for build, shape in (
    (lambda: torchlip.SpectralLinear(8, 8, bias=False), (16, 8)),
    (lambda: torchlip.SpectralConv2d(4, 4, 3, padding=1, bias=False), (16, 4, 6, 6)),
):
    torch.manual_seed(0)
    layer, x = build(), torch.randn(shape)
    target = torch.randn_like(layer(x))
    averaged = AveragedModel(layer)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    for _ in range(20):
        optimiser.zero_grad()
        (layer(x) - target).square().mean().backward()
        optimiser.step()
        layer(x)  # so that the buffer is that of these parameters
        averaged.update_parameters(layer)
    last = layer.eval()(x)
    still = float((averaged.eval()(x) - last).abs().max())
    averaged.train()(x)
    moved = float((averaged.eval()(x) - last).abs().max())
    with torch.no_grad():
        layer.parametrizations.weight.original.normal_()
    assigned = float((layer(x) - last).abs().max())
    print(
        f"{type(build()).__name__.removeprefix('Parametrized')}: averaged from last {still}, after one pass in "
        f"training {moved:.4f}, assigned from before {assigned}"
    )
    surprised = surprised and still == 0.0 and moved > 1e-2 and assigned == 0.0
sys.exit(0 if surprised else 1)
PY
