r"""Activations σ that declare what the bounds need: their slopes, their bound and their parity.

For an elementwise σ the slopes are ``[s_min, s_max]`` with ``s_min ≤ (σ(a) − σ(b)) / (a − b) ≤ s_max``; for a group
activation, which scales a whole row by a function of its Euclidean norm, they bound the eigenvalues of its (symmetric)
Jacobian. ``bound`` is ``sup |σ|`` (the row norm for a group activation), ``inf`` where σ is unbounded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Activation(nn.Module):
    """Base class of the activations.

    Attributes:
        slopes: ``(s_min, s_max)``, the interval that holds every slope of σ.
        bound: ``sup |σ|``, ``math.inf`` where there is none.
        odd: whether ``σ(−d) = −σ(d)``.
        group: whether σ acts on rows (last dimension) instead of entries.
    """

    slopes: tuple[float, float]
    bound: float = math.inf
    odd: bool = True
    group: bool = False

    def forward(self, d: Tensor) -> Tensor:
        """Apply σ to ``d`` of any shape (``[..., channels]`` for a group activation)."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def secants(self, low: float, high: float) -> tuple[float, float]:
        """The range of ``σ(z)/z`` over ``0 ≠ z ∈ [low, high]``, or an interval that holds it."""
        return self.slopes

    def antisymmetric(self, d: Tensor) -> Tensor:
        r"""The odd part ``(σ(d) − σ(−d)) / 2``, which has the same slopes and bound.

        An edge difference has no sign of its own: on an undirected graph the sum over both orientations of an edge
        sees only the odd part of σ. A LeakyReLU becomes linear there, with slope ``(1 + negative_slope) / 2``.
        """
        if self.odd:
            return self(d)  # type: ignore[no-any-return]
        return 0.5 * (self(d) - self(-d))  # type: ignore[no-any-return]


class Identity(Activation):
    """``σ(d) = d``: the linear diffusion."""

    slopes = (1.0, 1.0)

    def forward(self, d: Tensor) -> Tensor:
        """Return ``d`` unchanged."""
        return d


class LeakyReLU(Activation):
    r"""``σ(d) = max(d, a·d)`` with ``0 ≤ a ≤ 1``; slopes ``[a, 1]``, unbounded, not odd.

    Args:
        negative_slope: ``a``; 0 gives the ReLU.
    """

    odd = False

    def __init__(self, negative_slope: float = 0.2) -> None:
        super().__init__()
        if not 0.0 <= negative_slope <= 1.0:
            raise ValueError(f"negative_slope must lie in [0, 1], got {negative_slope!r}")
        self.negative_slope = float(negative_slope)
        self.slopes = (self.negative_slope, 1.0)

    def forward(self, d: Tensor) -> Tensor:
        """Apply the leaky rectifier entry by entry."""
        return torch.nn.functional.leaky_relu(d, self.negative_slope)

    def secants(self, low: float, high: float) -> tuple[float, float]:
        """Exact: one slope on either side of zero."""
        return (self.negative_slope if low < 0 else 1.0, 1.0 if high > 0 else self.negative_slope)

    def extra_repr(self) -> str:
        """Show the slope."""
        return f"negative_slope={self.negative_slope}"


class ThresholdActivation(Activation):
    """An activation with one scale λ, from which on it no longer grows; by default also its bound.

    Args:
        threshold: λ > 0, in the units of ``d`` (of ``‖d‖₂`` for a group activation).

    Raises:
        ValueError: if λ is not positive and finite.
    """

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        if not (threshold > 0 and math.isfinite(threshold)):
            raise ValueError(f"threshold must be a positive finite number, got {threshold!r}")
        self.threshold = float(threshold)
        self.bound = self.threshold

    def extra_repr(self) -> str:
        """Show the threshold."""
        return f"threshold={self.threshold}"


class Tanh(ThresholdActivation):
    r"""``σ(d) = λ tanh(d/λ)``: slopes ``[0, 1]``, bound ``λ``.

    Args:
        threshold: λ, in the units of ``d``.
    """

    slopes = (0.0, 1.0)

    def forward(self, d: Tensor) -> Tensor:
        """Apply the scaled tanh entry by entry."""
        return self.threshold * torch.tanh(d / self.threshold)

    def secants(self, low: float, high: float) -> tuple[float, float]:
        """``σ(z)/z`` falls with ``|z|``, from 1 at zero."""
        reach = max(abs(low), abs(high))
        return (self.threshold * math.tanh(reach / self.threshold) / reach if reach > 0 else 1.0, 1.0)


class Huber(ThresholdActivation):
    r"""``σ(d) = clip(d, −λ, λ)``, the gradient of Huber's loss: slopes ``[0, 1]``, bound ``λ``.

    Args:
        threshold: λ, in the units of ``d``.
    """

    slopes = (0.0, 1.0)

    def forward(self, d: Tensor) -> Tensor:
        """Clip entry by entry."""
        return d.clamp(-self.threshold, self.threshold)

    def secants(self, low: float, high: float) -> tuple[float, float]:
        """``σ(z)/z`` falls with ``|z|``, from 1 at zero."""
        reach = max(abs(low), abs(high))
        return (min(1.0, self.threshold / reach) if reach > 0 else 1.0, 1.0)


class GroupHuber(ThresholdActivation):
    r"""``σ(d) = d · min(1, λ/‖d‖₂)`` per row, the projection on a ball: slopes ``[0, 1]``, row-norm bound ``λ``.

    Args:
        threshold: λ, in the units of ``‖d‖₂``.
    """

    slopes = (0.0, 1.0)
    group = True

    def forward(self, d: Tensor) -> Tensor:
        """Shorten every row to length at most λ."""
        return d * (self.threshold / _row_norm(d)).clamp(max=1.0)


class GroupMCP(ThresholdActivation):
    r"""``σ(d) = d (1 − ‖d‖₂/λ)₊`` per row, the gradient of the minimax concave penalty (Zhang 2010).

    Redescending: an edge whose ends differ by λ or more has no influence at all. The radial profile
    ``φ(r) = r(1 − r/λ)₊`` has ``φ' ∈ [−1, 1]`` and ``φ/r ∈ [0, 1]``, so the slopes are ``[−1, 1]`` and the row-norm
    bound ``λ/4``. It is RUNG's unbiased aggregation (Hou et al., NeurIPS 2024).

    Args:
        threshold: λ, in the units of ``‖d‖₂``.
    """

    slopes = (-1.0, 1.0)
    group = True

    def __init__(self, threshold: float = 4.0) -> None:
        super().__init__(threshold)
        self.bound = self.threshold / 4.0

    def forward(self, d: Tensor) -> Tensor:
        """Shrink every row by ``(1 − ‖d‖/λ)₊``."""
        return d * (1.0 - _row_norm(d) / self.threshold).clamp(min=0.0)


def _row_norm(d: Tensor) -> Tensor:
    # The tiny floor keeps the gradient of the norm finite at a zero row (every edge between equal nodes).
    return d.square().sum(dim=-1, keepdim=True).clamp(min=torch.finfo(d.dtype).tiny).sqrt()


ACTIVATIONS: dict[str, type[Activation]] = {
    "identity": Identity,
    "leaky-relu": LeakyReLU,
    "tanh": Tanh,
    "huber": Huber,
    "group-huber": GroupHuber,
    "group-mcp": GroupMCP,
}


def activation(sigma: str | Activation, *, threshold: float | None = None) -> Activation:
    """Return an activation given by name or as an object.

    Args:
        sigma: a key of :data:`ACTIVATIONS`, or an object, which is returned as it is.
        threshold: λ of a named activation that has one; None takes its default.

    Raises:
        ValueError: if the name is unknown, or a threshold is given to an activation that takes none.
    """
    if isinstance(sigma, Activation):
        if threshold is not None:
            raise ValueError(f"threshold belongs to an activation given by name; {sigma} has its own")
        return sigma
    if sigma not in ACTIVATIONS:
        raise ValueError(
            f"unknown activation {sigma!r}; expected one of {', '.join(ACTIVATIONS)} or an Activation object"
        )
    factory = ACTIVATIONS[sigma]
    if threshold is None:
        return factory()
    if not issubclass(factory, ThresholdActivation):
        raise ValueError(f"the activation {sigma!r} has no threshold, got threshold={threshold!r}")
    return factory(threshold)
