"""Models whose own gradient in edge weights hides something, and the surrogates that hide nothing."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod

from torch import nn


class HasGradientSurrogate(ABC):
    """A model with a twin of the same parameters through which an attack sees what adding an absent edge does.

    What a flip really does is always measured on the model itself.
    """

    @abstractmethod
    def gradient_surrogate(self) -> nn.Module:
        """The twin, with the forward of the model; the model itself where it hides nothing."""

    def relaxed(self) -> nn.Module:
        """The old name of :meth:`gradient_surrogate`, for one release."""
        _warn(type(self).__name__)
        return self.gradient_surrogate()


def gradient_surrogate(model: nn.Module) -> nn.Module:
    """The module to take gradients in edge weights through: the surrogate of ``model``, or itself where it has none."""
    if isinstance(model, HasGradientSurrogate):
        return model.gradient_surrogate()
    if callable(twin := getattr(model, "relaxed", None)):  # a model written for the last release
        _warn(type(model).__name__)
        found: nn.Module = twin()
        return found
    return model


def _warn(model: str) -> None:
    warnings.warn(
        f"{model}.relaxed() is called gradient_surrogate() now: let the class inherit "
        "contractive_gnn.nn.surrogate.HasGradientSurrogate; the old name goes with the next release",
        DeprecationWarning,
        stacklevel=3,
    )
