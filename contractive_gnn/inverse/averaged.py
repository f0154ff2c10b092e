r"""The calculus of averaged operators: what is left of non-expansiveness to make an iteration converge.

A map T of a Euclidean space is α-averaged, ``0 < α < 1``, where ``T = (1 − α)I + αR`` with a non-expansive R. The same
in one inequality (Bauschke and Combettes, *Convex Analysis and Monotone Operator Theory in Hilbert Spaces*, 2nd ed.,
Proposition 4.35): for all x and y

.. math::
    \|Tx - Ty\|^2 + \frac{1 - α}{α}\,\|(x - Tx) - (y - Ty)\|^2 \le \|x - y\|^2.

Here α = 1 stands for a map that is non-expansive and no more, α = 1/2 is firm non-expansiveness (a resolvent, a
proximal map, a projection), and α = 0 is the identity up to a constant. The quantity that adds up is ``α/(1 − α)``.
Proofs are in docs/theory.md, section 8.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.nn.lipschitz import LipschitzModule


@runtime_checkable
class AveragedModule(Protocol):
    """A module that declares how averaged it is, in the plain ℓ2 norm of one image.

    Attributes:
        certified: whether the constant is proved.
    """

    certified: bool

    def averagedness(self) -> float:
        """The smallest known α in [0, 1] for the present weights, for every noise level; 1 where non-expansive."""


def composed(*alphas: float) -> float:
    """The averagedness of a composition: ``κ = Σ_i α_i/(1 − α_i)``, ``α = κ/(1 + κ)``.

    For two maps it is ``(α₁ + α₂ − 2α₁α₂)/(1 − α₁α₂)`` (Ogura and Yamada 2002), for m of them Proposition 2.5 of
    Combettes and Yamada, *Compositions and convex combinations of averaged nonexpansive operators*, J. Math. Anal.
    Appl. 425 (2015). The order does not matter. One map that is only non-expansive leaves no more than that.

    Args:
        alphas: each in [0, 1]; none for the identity.

    Raises:
        ValueError: for a number outside [0, 1].

    Example:
        >>> round(composed(0.5, 0.5), 4)  # two projections
        0.6667
        >>> composed(0.5, 1.0)
        1.0
    """
    total = 0.0
    for alpha in alphas:
        check_real("averagedness", alpha, least=0, most=1)
        total += alpha / (1.0 - alpha) if alpha < 1.0 else math.inf
    if math.isinf(total):
        return 1.0
    # rounded up: every operation errs by at most half a unit in the last place
    return min(1.0, total / (1.0 + total) * (1.0 + (len(alphas) + 4) * 2.0**-52))


def relaxed(alpha: float, weight: float) -> float:
    """The averagedness ``λα`` of ``(1 − λ)I + λT``, for an α-averaged T and ``0 ≤ λ ≤ 1/α``; 1 at most.

    With λ = 1/2 and a non-expansive T (α = 1) it is the mean ``(I + T)/2``, which is firmly non-expansive. With λ = 2
    and α ≤ 1/2 it is the reflection ``2T − I``, which is non-expansive.

    Args:
        alpha: α in [0, 1].
        weight: λ.

    Raises:
        ValueError: for numbers out of their range: beyond λ = 1/α the map may expand.

    Example:
        >>> relaxed(1.0, 0.5), relaxed(0.5, 2.0)
        (0.5, 1.0)
    """
    check_real("averagedness", alpha, least=0, most=1)
    check_real("weight", weight, least=0)
    if alpha * weight > 1.0:
        raise ValueError(
            f"weight must be at most 1/averagedness = {1.0 / alpha:.6g}, got {weight!r}: beyond it (1 − λ)I + λT may "
            "expand"
        )
    return alpha * weight


def gradient_step(step: float, smoothness: float) -> float:
    """The averagedness ``γL/2`` of ``x − γ∇f(x)``, for a convex f whose gradient is L-Lipschitz.

    By the theorem of Baillon and Haddad ∇f/L is firmly non-expansive (Bauschke and Combettes, Proposition 4.39). At
    ``γ = 2/L`` the step is non-expansive and not averaged, beyond it expands: it is refused there.

    Args:
        step: γ > 0.
        smoothness: L > 0, or 0 for a linear f.

    Raises:
        ValueError: for numbers out of their range, and ``γL > 2``.

    Example:
        >>> gradient_step(1.0, 1.0)
        0.5
    """
    check_real("step", step, above=0)
    check_real("smoothness", smoothness, least=0)
    alpha = 0.5 * step * smoothness
    if alpha > 1.0:
        raise ValueError(f"step must be at most 2/L = {2.0 / smoothness:.6g}, got {step!r}: beyond it the step expands")
    return alpha


def residual_bound(alpha: float, distance: float, k: int, *, error: float = 0.0) -> float:
    r"""An upper bound of ``‖x_{k+1} − x_k‖`` for ``x_{k+1} = Tx_k`` with an α-averaged T that has a fixed point x*.

    .. math::
        \|x_{k+1} - x_k\| \le \sqrt{\frac{α}{(1 - α)(k + 1)}}\;\|x_0 - x^*\|

    Add the inequality of the module's text with ``y = x*`` over the first k + 1 steps; residuals do not increase
    (Bauschke and Combettes, Theorem 5.15). Where each step is computed with an error of at most e, the distance becomes
    ``‖x_0 − x*‖ + (k + 1)e``, and ``(2k + 1)e`` is added.

    Args:
        alpha: α in [0, 1].
        distance: ``‖x_0 − x*‖``, or an upper bound of it.
        k: which step, from 0.
        error: e, of each step, in the same norm.

    Returns:
        the bound, ``inf`` where α = 1 and T is not the identity.
    """
    check_real("averagedness", alpha, least=0, most=1)
    check_whole("k", k, least=0)
    if alpha == 1.0 or math.isinf(distance):
        return math.inf
    factor = math.sqrt(alpha / ((1.0 - alpha) * (k + 1)))
    return factor * (distance + (k + 1) * error) + ((2 * k + 1) * error if error else 0.0)


def averagedness_of(denoiser: object) -> tuple[float | None, str]:
    """The proved averagedness of a denoiser and the reason for it; None, with the reason why, where none is proved.

    A module that declares it (:class:`AveragedModule`) is believed where it is ``certified``. A
    :class:`~contractive_gnn.nn.lipschitz.LipschitzModule` with a certified constant of at most 1 is non-expansive, and
    so is one whose constant q is below 1: that one is ``(1 + q)/2``-averaged.

    Raises:
        ValueError: where it declares a number outside [0, 1].
    """
    name = type(denoiser).__name__
    if isinstance(denoiser, AveragedModule):
        if not denoiser.certified:
            return None, f"{name} does not call its averagedness certified"
        alpha = float(denoiser.averagedness())
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"{name}.averagedness() must lie in [0, 1], got {alpha!r}")
        return alpha, f"{name}: {alpha:.6g}-averaged" if alpha < 1 else f"{name}: non-expansive"
    if isinstance(denoiser, LipschitzModule):
        constant = denoiser.lipschitz()
        if denoiser.certified and constant <= 1.0:
            return 0.5 * (1.0 + constant), f"{name}: {constant:.6g}-Lipschitz"
        said = "certified" if denoiser.certified else "not certified"
        return None, f"{name} has the Lipschitz constant {constant:.6g}, {said}: at most 1 is needed, and a proof"
    return None, f"{name} has no proved Lipschitz constant"


def lipschitz_of(denoiser: object) -> float:
    """The proved Lipschitz constant of a denoiser, ``inf`` where none is; 1 for an averaged one that says no more."""
    if isinstance(denoiser, LipschitzModule):
        return denoiser.lipschitz() if denoiser.certified else math.inf
    return math.inf if averagedness_of(denoiser)[0] is None else 1.0


class Denoiser(nn.Module):
    """A denoiser made of another one; it is called in the same way, ``denoiser(x, sigma)``.

    Args:
        inner: the other one, called as ``inner(x, sigma)``.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        if not isinstance(inner, nn.Module):
            raise TypeError(f"expected a denoiser, a module called as denoiser(x, sigma), got {type(inner).__name__}")
        self.inner = inner

    @property
    def certified(self) -> bool:
        """Whether the averagedness of the other one is proved."""
        return averagedness_of(self.inner)[0] is not None

    def _averagedness(self) -> float:
        alpha, reason = averagedness_of(self.inner)
        if alpha is None:
            raise ValueError(f"no averagedness is known: {reason}")
        return alpha


class Relaxed(Denoiser):
    """``(1 − λ)x + λD(x)``, λα-averaged for an α-averaged D: :func:`relaxed`.

    Args:
        inner: D.
        weight: λ in (0, 1].
    """

    def __init__(self, inner: nn.Module, weight: float = 0.5) -> None:
        super().__init__(inner)
        check_real("weight", weight, above=0, most=1)
        self.weight = float(weight)

    def forward(self, x: Tensor, sigma: float | Tensor | None) -> Tensor:
        """The mean of x and D(x), with weights."""
        return torch.lerp(x, self.inner(x, sigma), self.weight)

    def averagedness(self) -> float:
        """``λα``."""
        return relaxed(self._averagedness(), self.weight)


class Clipped(Denoiser):
    """``P(D(x))`` with the projection P on the box ``[low, high]`` in every pixel; P is firmly non-expansive.

    Args:
        inner: D.
        box: low and high, in the units of the pixels.
    """

    def __init__(self, inner: nn.Module, box: tuple[float, float] = (0.0, 1.0)) -> None:
        super().__init__(inner)
        self.box = check_box(box)

    def forward(self, x: Tensor, sigma: float | Tensor | None) -> Tensor:
        """D(x), clipped."""
        return self.inner(x, sigma).clamp(*self.box)  # type: ignore[no-any-return]

    def averagedness(self) -> float:
        """``composed(α, 1/2)``."""
        return composed(self._averagedness(), 0.5)


class Resolvent(Denoiser):
    """``J = (I + N)/2`` with ``N = P ∘ (2E − I)`` and ``E = (1 − λ)I + λD``: a firmly non-expansive denoiser.

    Douglas and Rachford's iteration and the alternating direction method take a resolvent, that is a firmly
    non-expansive map. D is α-averaged; with ``λα ≤ 1/2`` the reflection ``2E − I`` is non-expansive, and so is N. Where
    the reflection stays inside the box, or without one, J is E, and D itself for λ = 1. For a D that is only
    non-expansive, E is the mean ``(I + D)/2``.

    Args:
        inner: D.
        weight: λ in (0, 1]; None for the largest that is proved to do, ``min(1, 1/(2α))``, and 1 where no α is known.
        box: of the projection P, in the units of the pixels; None for no projection.
    """

    def __init__(
        self, inner: nn.Module, weight: float | None = None, *, box: tuple[float, float] | None = (0.0, 1.0)
    ) -> None:
        super().__init__(inner)
        alpha = averagedness_of(inner)[0]
        if weight is None:
            weight = 1.0 if alpha is None or alpha <= 0.5 else 0.5 / alpha
        check_real("weight", weight, above=0, most=1)
        self.weight = float(weight)
        self.box = None if box is None else check_box(box)

    def reflected(self, x: Tensor, sigma: float | Tensor | None) -> Tensor:
        """``N(x) = P(x + 2λ(D(x) − x))``."""
        image = x + 2.0 * self.weight * (self.inner(x, sigma) - x)
        return image if self.box is None else image.clamp(*self.box)

    def forward(self, x: Tensor, sigma: float | Tensor | None) -> Tensor:
        """``(x + N(x))/2``."""
        return 0.5 * (x + self.reflected(x, sigma))

    @property
    def certified(self) -> bool:
        """Whether D is proved to be α-averaged with ``λα ≤ 1/2``."""
        alpha = averagedness_of(self.inner)[0]
        return alpha is not None and alpha * self.weight <= 0.5

    def averagedness(self) -> float:
        """1/2."""
        if not self.certified:
            raise ValueError(f"no averagedness is known: {self.doubt()}")
        return 0.5

    def doubt(self) -> str:
        """Why it is not certified; empty where it is."""
        if self.certified:
            return ""
        alpha, reason = averagedness_of(self.inner)
        if alpha is None:
            return reason
        return f"the weight {self.weight:.6g} times the averagedness {alpha:.6g} of the denoiser is above 1/2"


def check_box(box: object) -> tuple[float, float]:
    """``(low, high)`` as floats.

    Raises:
        TypeError: it is no pair of numbers.
        ValueError: low is not below high, or one is not finite.
    """
    if not isinstance(box, (tuple, list)) or len(box) != 2:
        raise TypeError(f"box must be a pair (low, high) of numbers, got {box!r}")
    low, high = box
    check_real("box[0]", low)
    check_real("box[1]", high, above=float(low))
    return float(low), float(high)
