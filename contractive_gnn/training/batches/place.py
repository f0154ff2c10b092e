"""Where a model computes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy


def place(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where a model's parameters are, and of which type: its inputs must be there, and of that type.

    Raises:
        TypeError: it is no module.
        ValueError: some of its parameters are not there yet.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError(f"{type(model).__name__} has lazy layers, without weights as yet: call it on an image first")
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32
