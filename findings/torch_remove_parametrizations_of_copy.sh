#!/usr/bin/env bash
# torch 2.14.1: removing the parametrisation of a deep copy takes it from the original too, which then has no weight.
#
# Expected: copy.deepcopy of a parametrised module is supported, and a copy is independent: remove_parametrizations on
# the copy makes its weight plain (for export, or for fast inference) and leaves the original as it is.
# Happens: registering a parametrisation gives the module a class of its own, which holds the weight as a property. The
# deep copy is of this same class. remove_parametrizations deletes the property from the class: the original, still
# parametrised, raises AttributeError at its next forward pass. Every copy shares the class, so any of them breaks all.
# Source: torch/nn/utils/parametrize.py: default_deepcopy makes self.__new__(self.__class__), and remove_parametrizations
# does delattr(module.__class__, tensor_name).
# Seen:
#   orthogonal: one class for both True; original after: AttributeError '…' object has no attribute 'weight'
#   spectral_norm: one class for both True; original after: AttributeError '…' object has no attribute 'weight'
#   weight_norm: one class for both True; original after: AttributeError '…' object has no attribute 'weight'
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
import copy
import sys

import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm
from torch.nn.utils.parametrize import remove_parametrizations

surprised = True
for parametrised in (orthogonal, spectral_norm, weight_norm):
    original = parametrised(nn.Linear(3, 3)).eval()
    original(torch.ones(1, 3))
    copied = copy.deepcopy(original)
    shared = type(copied) is type(original)
    remove_parametrizations(copied, "weight")
    try:
        original(torch.ones(1, 3))
        after = "works"
    except AttributeError as error:
        after = f"AttributeError {error}"
    print(f"{parametrised.__name__}: one class for both {shared}; original after: {after}")
    surprised = surprised and shared and "no attribute 'weight'" in after
sys.exit(0 if surprised else 1)
PY
