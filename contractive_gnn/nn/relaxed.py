"""Models whose gradient in edge weights hides something, and their twins that hide nothing."""

from __future__ import annotations

from torch import nn


def relaxed(model: nn.Module) -> nn.Module:
    """The module to take gradients in edge weights through: ``model.relaxed()`` where it has one, else the model.

    A model whose gradient at an absent edge vanishes although adding the edge moves its output offers a twin with the
    same parameters that hides nothing. What a flip really does is always measured on the model itself.
    """
    twin = getattr(model, "relaxed", None)
    return model if twin is None else twin()
