r"""Activations σ that declare what the bounds need: slopes, bound, parity, and the potential they are the gradient of.

For an elementwise σ the slopes are ``[s_min, s_max]`` with ``s_min ≤ (σ(a) − σ(b)) / (a − b) ≤ s_max``; for a group
activation, which scales a whole row by a function of its Euclidean norm, they bound the eigenvalues of its (symmetric)
Jacobian. ``bound`` is ``sup |σ|`` (the row norm for a group activation), ``inf`` where σ is unbounded. The potential φ,
``∇φ = σ``, is convex where ``s_min ≥ 0`` and otherwise ``−s_min``-weakly convex.

Those with a scale λ have the form ``σ(d) = d w(r/λ)``, with ``r = |d|`` entry by entry, or ``r = ‖d‖₂`` row by row in
the group version. One weight w and its primitive ``P(s) = ∫₀ˢ t w(t) dt``, in units of λ, thus give both versions and
the potential ``φ(d) = λ² P(r/λ)``. The slopes of either are those of ``s w(s)``, for w(s) is a mean of them:

================== ================================ ===================== ======= ==================
name               ``s w(s) = σ/λ``                 slopes                bound   falls to 0 at
================== ================================ ===================== ======= ==================
``tanh``           ``tanh s``                       ``[0, 1]``            λ
``softsign``       ``s/(1 + s)``                    ``[0, 1]``            λ
``huber``          ``min(s, 1)``                    ``[0, 1]``            λ
``soft-threshold`` ``(s − 1)₊``                     ``[0, 1]``            ∞
``log-sum``        ``s/(1 + s²)``                   ``[−1/8, 1]``         λ/2     ∞
``mcp``            ``s(1 − s)₊``                    ``[−1, 1]``           λ/4     λ
``firm``           ``min(s, (1 − κ(s − 1))₊)``      ``[−κ, 1]``           λ       ``(1 + 1/κ)λ``
``scad``           ``min(s, 1, (a − s)₊/(a − 2))``  ``[−1/(a − 2), 1]``   λ       ``aλ``
================== ================================ ===================== ======= ==================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_flag, check_real, check_whole
from contractive_gnn.names import unknown
from contractive_gnn.registry import Registry


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

    def potential(self, d: Tensor) -> Tensor:
        """φ with ``∇φ = σ`` and ``φ(0) = 0``: one value an entry, or one a row, ``[...]``, for a group activation."""
        raise NotImplementedError(f"{type(self).__name__} must define potential")

    @property
    def weak_convexity(self) -> float:
        """``ρ = max(0, −s_min)``: the potential plus ``ρ‖d‖²/2`` is convex."""
        return max(0.0, -self.slopes[0])

    def secants(self, low: float, high: float) -> tuple[float, float]:
        """The range of ``σ(z)/z`` over ``0 ≠ z ∈ [low, high]``, or an interval that holds it.

        For a group activation z is the signed length of the row along a fixed direction.
        """
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

    def potential(self, d: Tensor) -> Tensor:
        """``d²/2``."""
        return 0.5 * d.square()


class LeakyReLU(Activation):
    r"""``σ(d) = max(d, a·d)`` with ``0 ≤ a ≤ 1``; slopes ``[a, 1]``, unbounded, not odd.

    Args:
        negative_slope: ``a``; 0 gives the ReLU.
    """

    odd = False

    def __init__(self, negative_slope: float = 0.2) -> None:
        super().__init__()
        check_real("negative_slope", negative_slope, least=0, most=1)
        self.negative_slope = float(negative_slope)
        self.slopes = (self.negative_slope, 1.0)

    def forward(self, d: Tensor) -> Tensor:
        """Apply the leaky rectifier entry by entry."""
        if self.negative_slope == 0.0:  # half the time of a leaky one's gradient
            return torch.relu(d)
        return torch.nn.functional.leaky_relu(d, self.negative_slope)

    def potential(self, d: Tensor) -> Tensor:
        """``d σ(d)/2``."""
        return 0.5 * d * self.forward(d)

    def secants(self, low: float, high: float) -> tuple[float, float]:
        """Exact: one slope on either side of zero."""
        return (self.negative_slope if low < 0 else 1.0, 1.0 if high > 0 else self.negative_slope)

    def extra_repr(self) -> str:
        """Show the slope."""
        return f"negative_slope={self.negative_slope}"


class RectifiedPower(Activation):
    r"""``σ(d) = max(d, 0)^p``, the ReLU and its powers: slopes ``[0, 1]`` for p = 1, else ``[0, ∞)``; not odd.

    Powers make polynomials exactly: ``d^p = σ(d) + (−1)^p σ(−d)``. Beyond p = 1 no Lipschitz constant is known, and
    only fields that claim none take it. It has no name among :data:`ACTIVATIONS`, whose slopes are finite.

    Args:
        power: p, at least 1.

    Raises:
        TypeError: for a power that is no whole number.
        ValueError: for one below 1.
    """

    odd = False

    def __init__(self, power: int = 1) -> None:
        super().__init__()
        check_whole("power", power, least=1)
        self.power = int(power)
        self.slopes = (0.0, 1.0 if self.power == 1 else math.inf)

    def forward(self, d: Tensor) -> Tensor:
        """Apply it entry by entry."""
        rectified = torch.relu(d)
        return rectified if self.power == 1 else rectified**self.power

    def potential(self, d: Tensor) -> Tensor:
        """``max(d, 0)^{p+1}/(p + 1)``."""
        return torch.relu(d) ** (self.power + 1) / (self.power + 1)

    def extra_repr(self) -> str:
        """Show the power."""
        return f"power={self.power}"


class ThresholdActivation(Activation):
    r"""``σ(d) = d w(r/λ)`` with one scale λ; ``r = |d|``, or ``r = ‖d‖₂`` over the last dimension where ``group``.

    A subclass gives the weight w, its primitive P (see the module's table), the slopes, and the bound in units of λ.

    Args:
        threshold: λ > 0, in the units of ``d`` (of ``‖d‖₂`` for a group activation).
        learnable: make ``log λ`` a parameter (``log_threshold``), which keeps λ positive. The slopes do not depend on
            λ; the bound follows it. Such an activation takes the message-passing path: the compiled kernel has no
            gradient with respect to λ.

    Attributes:
        unit_bound: ``sup |σ| / λ``.

    Raises:
        ValueError: if λ is not positive and finite.
    """

    unit_bound: float = 1.0

    def __init__(self, threshold: float = 1.0, *, learnable: bool = False) -> None:
        super().__init__()
        check_real("threshold", threshold, above=0)
        check_flag("learnable", learnable)
        self.learnable = learnable
        self._start = float(threshold)
        if learnable:
            self.log_threshold = nn.Parameter(torch.empty(()))
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set a learned λ back to where it started."""
        if self.learnable:
            nn.init.constant_(self.log_threshold, math.log(self._start))

    @property
    def scale(self) -> Tensor | float:
        """λ as the forward pass takes it: a scalar tensor with a gradient where it is learned."""
        return self.log_threshold.exp() if self.learnable else self._start

    @property
    def threshold(self) -> float:
        """The value of λ."""
        return float(self.log_threshold.detach().exp()) if self.learnable else self._start

    @property
    def bound(self) -> float:  # type: ignore[override]  # it follows a learned λ
        """``sup |σ|`` at the present λ."""
        return self.unit_bound * self.threshold

    def weight(self, s: Tensor) -> Tensor:
        """``w(s)``, monotone in ``s ≥ 0``."""
        raise NotImplementedError(f"{type(self).__name__} must define weight")

    def primitive(self, s: Tensor) -> Tensor:
        """``P(s) = ∫₀ˢ t w(t) dt`` for ``s ≥ 0``."""
        raise NotImplementedError(f"{type(self).__name__} must define primitive")

    def forward(self, d: Tensor) -> Tensor:
        """Scale every entry (or row) by ``w(r/λ)``."""
        return d * self.weight((_row_norm(d) if self.group else d.abs()) / self.scale)

    def potential(self, d: Tensor) -> Tensor:
        """``λ² P(r/λ)``."""
        scale = self.scale
        return scale**2 * self.primitive((_row_norm(d).squeeze(-1) if self.group else d.abs()) / scale)

    def secants(self, low: float, high: float) -> tuple[float, float]:
        """Exact up to rounding: w is monotone, so its range lies between its values at either end."""
        near = 0.0 if low <= 0.0 <= high else min(abs(low), abs(high))
        ends = torch.tensor([near, max(abs(low), abs(high))], dtype=torch.float64) / self.threshold
        bottom, top = sorted(self.weight(ends).tolist())
        return bottom, top

    def extra_repr(self) -> str:
        """Show the threshold."""
        return f"threshold={self.threshold:.6g}" + (", learnable=True" if self.learnable else "")


class Tanh(ThresholdActivation):
    r"""``σ(d) = λ tanh(d/λ)``: slopes ``[0, 1]``, bound ``λ``; ``φ = λ² log cosh(d/λ)``."""

    slopes = (0.0, 1.0)

    def forward(self, d: Tensor) -> Tensor:
        """Apply the scaled tanh entry by entry."""
        scale = self.scale
        return scale * torch.tanh(d / scale)

    def weight(self, s: Tensor) -> Tensor:
        """``tanh(s)/s``."""
        s = s.clamp(min=1e-9)  # there the quotient is 1 in every precision
        return torch.tanh(s) / s

    def primitive(self, s: Tensor) -> Tensor:
        """``log cosh s``, without overflow."""
        return s + torch.nn.functional.softplus(-2.0 * s) - math.log(2.0)


class Softsign(ThresholdActivation):
    r"""``σ(d) = λd/(λ + |d|)``: slopes ``[0, 1]``, bound ``λ``, which it only approaches."""

    slopes = (0.0, 1.0)

    def weight(self, s: Tensor) -> Tensor:
        """``1/(1 + s)``."""
        return 1.0 / (1.0 + s)

    def primitive(self, s: Tensor) -> Tensor:
        """``s − log(1 + s)``."""
        return s - torch.log1p(s)


class GroupSoftsign(Softsign):
    """:class:`Softsign` of every row's norm."""

    group = True


class Huber(ThresholdActivation):
    r"""``σ(d) = clip(d, −λ, λ)``, the gradient of Huber's loss: slopes ``[0, 1]``, bound ``λ``.

    It is what soft-thresholding takes away, ``d − soft_λ(d)``: see :class:`SoftThreshold`.
    """

    slopes = (0.0, 1.0)

    def forward(self, d: Tensor) -> Tensor:
        """Clip entry by entry (shorten every row to length λ)."""
        if self.group:
            return super().forward(d)
        scale = self.scale
        return d.clamp(-scale, scale)  # type: ignore[arg-type]  # either two numbers or two tensors

    def weight(self, s: Tensor) -> Tensor:
        """``1/max(s, 1)``."""
        return 1.0 / s.clamp(min=1.0)

    def primitive(self, s: Tensor) -> Tensor:
        """``s²/2`` up to 1, then ``s − 1/2``."""
        inner = s.clamp(max=1.0)
        return inner * (s - 0.5 * inner)


class GroupHuber(Huber):
    r"""``σ(d) = d · min(1, λ/‖d‖₂)`` per row, the projection on a ball: slopes ``[0, 1]``, row-norm bound ``λ``."""

    group = True


class SoftThreshold(ThresholdActivation):
    r"""``soft_λ(d) = sign(d) (|d| − λ)₊``, the proximal map of ``λ|·|``: slopes ``[0, 1]``, unbounded.

    Its residual ``d − soft_λ(d)`` is the clip at λ, :class:`Huber` (Moreau's decomposition). φ is half the squared
    distance from ``[−λ, λ]``.
    """

    slopes = (0.0, 1.0)
    unit_bound = math.inf

    def weight(self, s: Tensor) -> Tensor:
        """``(1 − 1/s)₊``."""
        return 1.0 - 1.0 / s.clamp(min=1.0)

    def primitive(self, s: Tensor) -> Tensor:
        """``(s − 1)₊²/2``."""
        return 0.5 * (s - 1.0).clamp(min=0.0).square()


class GroupSoftThreshold(SoftThreshold):
    """:class:`SoftThreshold` of every row's norm, the proximal map of ``λ‖·‖₂``; its residual is GroupHuber's."""

    group = True


class LogSum(ThresholdActivation):
    r"""``σ(d) = d/(1 + (d/λ)²)``, the gradient of the log-sum (Cauchy's, Lorentz's) penalty ``λ²/2 log(1 + (d/λ)²)``.

    ``σ' = (1 − s²)/(1 + s²)²`` with ``s = d/λ`` is least, −1/8, at ``s² = 3``: slopes ``[−1/8, 1]``. The bound is
    ``λ/2``, at ``s = 1``. Redescending, but the influence of an edge never vanishes.
    """

    slopes = (-0.125, 1.0)
    unit_bound = 0.5

    def weight(self, s: Tensor) -> Tensor:
        """``1/(1 + s²)``."""
        return 1.0 / (1.0 + s.square())

    def primitive(self, s: Tensor) -> Tensor:
        """``log(1 + s²)/2``."""
        return 0.5 * torch.log1p(s.square())


class GroupLogSum(LogSum):
    """:class:`LogSum` of every row's norm."""

    group = True


class MCP(ThresholdActivation):
    r"""``σ(d) = d (1 − |d|/λ)₊``, whose weight is the derivative of the minimax concave penalty (Zhang 2010).

    Redescending: an edge whose ends differ by λ or more has no influence at all. ``r(1 − r/λ)₊`` has slopes
    ``[−1, 1]`` and the bound ``λ/4``; ``φ = r²/2 − r³/(3λ)`` up to λ, and constant from there.

    This is a weight of ``d``, not the penalty's own gradient, ``sign(d) (1 − |d|/λ)₊``, which jumps at zero; that one,
    kept continuous by a slope of 1 around zero, is :class:`Firm`.
    """

    slopes = (-1.0, 1.0)
    unit_bound = 0.25

    def __init__(self, threshold: float = 4.0, *, learnable: bool = False) -> None:
        super().__init__(threshold, learnable=learnable)

    def weight(self, s: Tensor) -> Tensor:
        """``(1 − s)₊``."""
        return (1.0 - s).clamp(min=0.0)

    def primitive(self, s: Tensor) -> Tensor:
        """``s²/2 − s³/3``, constant from 1 on."""
        inner = s.clamp(max=1.0)
        return inner.square() * (0.5 - inner / 3.0)


class GroupMCP(MCP):
    r"""``σ(d) = d (1 − ‖d‖₂/λ)₊`` per row: slopes ``[−1, 1]``, row-norm bound ``λ/4``.

    RUNG (Hou et al., NeurIPS 2024) takes the edge weights ``(1/‖d‖₂ − 1/λ)₊`` instead, whose force ``d/‖d‖₂ − d/λ`` has
    length 1 at zero: :class:`GroupFirm` is its version with bounded slopes.
    """

    group = True


class Firm(ThresholdActivation):
    r"""``d`` up to λ, then down with slope −κ, to 0 at ``(1 + 1/κ)λ``: slopes ``[−κ, 1]``, bound λ.

    The residual ``d − firm(d)`` of the firm threshold (Gao and Bruce 1997) with ``γ = 1 + 1/κ``: the gradient of the
    Moreau envelope of the minimax concave penalty ``λ|d| − d²/(2γ)`` (Zhang 2010).

    Args:
        threshold: λ.
        kappa: κ > 0.
        learnable: whether λ is learned.
    """

    def __init__(self, threshold: float = 1.0, kappa: float = 0.5, *, learnable: bool = False) -> None:
        super().__init__(threshold, learnable=learnable)
        check_real("kappa", kappa, above=0)
        self.kappa = float(kappa)
        self.slopes = (-self.kappa, 1.0)

    def weight(self, s: Tensor) -> Tensor:
        """``min(s, (1 − κ(s − 1))₊)/s``."""
        outer = s.clamp(min=1.0)
        return (1.0 - self.kappa * (outer - 1.0)).clamp(min=0.0) / outer

    def primitive(self, s: Tensor) -> Tensor:
        """``s²/2`` up to 1, then a concave parabola, then constant."""
        inner, beyond = s.clamp(max=1.0), (s - 1.0).clamp(0.0, 1.0 / self.kappa)
        return 0.5 * inner.square() + beyond * (1.0 - 0.5 * self.kappa * beyond)

    def extra_repr(self) -> str:
        """Show the threshold and the slope."""
        return f"{super().extra_repr()}, kappa={self.kappa}"


class GroupFirm(Firm):
    """:class:`Firm` of every row's norm."""

    group = True


class SCAD(ThresholdActivation):
    r"""``d`` up to λ, then λ up to 2λ, then down linearly to 0 at ``aλ``: slopes ``[−1/(a − 2), 1]``, bound λ.

    The residual ``d − prox(d)`` of the smoothly clipped absolute deviation (Fan and Li 2001), hence the gradient of its
    Moreau envelope: their penalty's derivative ``min(λ, (aλ − |d|)₊/(a − 1))`` itself jumps at zero. It is Hampel's
    three-part function with the corners λ, 2λ and aλ.

    Args:
        threshold: λ.
        a: a > 2, by default Fan and Li's 3.7.
        learnable: whether λ is learned.
    """

    def __init__(self, threshold: float = 1.0, a: float = 3.7, *, learnable: bool = False) -> None:
        super().__init__(threshold, learnable=learnable)
        check_real("a", a, above=2)
        self.a = float(a)
        self.slopes = (-1.0 / (self.a - 2.0), 1.0)

    def weight(self, s: Tensor) -> Tensor:
        """``min(s, 1, (a − s)₊/(a − 2))/s``."""
        return ((self.a - s) / (self.a - 2.0)).clamp(0.0, 1.0) / s.clamp(min=1.0)

    def primitive(self, s: Tensor) -> Tensor:
        """``s²/2``, then linear, then a concave parabola, then constant."""
        inner, flat = s.clamp(max=1.0), (s - 1.0).clamp(0.0, 1.0)
        falling = (s - 2.0).clamp(0.0, self.a - 2.0)
        return 0.5 * inner.square() + flat + falling * (1.0 - 0.5 * falling / (self.a - 2.0))

    def extra_repr(self) -> str:
        """Show the threshold and the shape."""
        return f"{super().extra_repr()}, a={self.a}"


class GroupSCAD(SCAD):
    """:class:`SCAD` of every row's norm."""

    group = True


def _row_norm(d: Tensor) -> Tensor:
    # The tiny floor keeps the gradient of the norm finite at a zero row (every edge between equal nodes).
    return d.square().sum(dim=-1, keepdim=True).clamp(min=torch.finfo(d.dtype).tiny).sqrt()


ACTIVATIONS: Registry[type[Activation]] = Registry("activation")

_Class = TypeVar("_Class", bound=type[Activation])


def register(name: str) -> Callable[[_Class], _Class]:
    """Class decorator: let an activation be given by name, as ``activation="my-activation"`` or in a preset.

    Args:
        name: lower-case words joined by hyphens.

    Raises:
        ValueError: if the name is taken by other code, or has other characters.
        TypeError: if it is no subclass of :class:`Activation`: nothing would say its slopes, of which bounds are made.
    """
    add = ACTIVATIONS.register(name)

    def checked(cls: _Class) -> _Class:
        if not (isinstance(cls, type) and issubclass(cls, Activation)):
            raise TypeError(f"the activation {name!r} must be a subclass of Activation, got {cls!r}")
        return add(cls)

    return checked


_OURS: Mapping[str, type[Activation]] = {
    "identity": Identity,
    "leaky-relu": LeakyReLU,
    "tanh": Tanh,
    "softsign": Softsign,
    "huber": Huber,
    "soft-threshold": SoftThreshold,
    "log-sum": LogSum,
    "mcp": MCP,
    "firm": Firm,
    "scad": SCAD,
    "group-softsign": GroupSoftsign,
    "group-huber": GroupHuber,
    "group-soft-threshold": GroupSoftThreshold,
    "group-log-sum": GroupLogSum,
    "group-mcp": GroupMCP,
    "group-firm": GroupFirm,
    "group-scad": GroupSCAD,
}
for _name, _activation in _OURS.items():
    ACTIVATIONS.register(_name)(_activation)


def activation(sigma: str | Activation, *, threshold: float | None = None, learnable: bool = False) -> Activation:
    """Return an activation given by name or as an object.

    Args:
        sigma: a key of :data:`ACTIVATIONS`, or an object, which is returned as it is.
        threshold: λ of a named activation that has one; None takes its default.
        learnable: learn the λ of a named activation that has one.

    Raises:
        ValueError: if the name is unknown, or a threshold is given to an activation that takes none.
    """
    if isinstance(sigma, Activation):
        if threshold is not None or learnable:
            raise ValueError(f"threshold belongs to an activation given by name; {sigma} has its own")
        return sigma
    if not isinstance(sigma, str) or sigma not in ACTIVATIONS:
        raise ValueError(f"{unknown('activation', [sigma], ACTIVATIONS)}; or give an Activation object")
    factory = ACTIVATIONS.get(sigma)
    if not issubclass(factory, ThresholdActivation):
        if threshold is not None or learnable:
            given = "learnable=True" if threshold is None else f"threshold={threshold!r}"
            raise ValueError(f"the activation {sigma!r} has no threshold, got {given}")
        return factory()
    return factory(learnable=learnable) if threshold is None else factory(threshold, learnable=learnable)
