"""The weight of a layer as it is applied."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def applied(layer: nn.Module, name: str = "weight") -> Tensor:
    """The weight, worked out in its own precision under ``torch.autocast`` too.

    Autocast would round the products that a parametrisation is made of: an orthogonal kernel of width 16 has norm 1.04
    then. The kernel is exact to its own rounding here, and only what it is applied to is rounded.
    """
    parameter = next(layer.parameters())
    with torch.autocast(parameter.device.type, enabled=False):
        weight: Tensor = getattr(layer, name)
    return weight


def exact(layer: nn.Module, name: str = "weight") -> Tensor:
    """The weight as it is applied, in float64, without a gradient: what bounds are worked out from."""
    with torch.no_grad():
        return applied(layer, name).to("cpu", torch.float64)
