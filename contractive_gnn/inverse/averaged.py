r"""The calculus of averaged operators: what is left of non-expansiveness to make an iteration converge.

A map T of a Euclidean space is α-averaged, ``0 < α < 1``, where ``T = (1 − α)I + αR`` with a non-expansive R. The same
in one inequality (Bauschke and Combettes, *Convex Analysis and Monotone Operator Theory in Hilbert Spaces*, 2nd ed.,
Proposition 4.35): for all x and y

.. math::
    \|Tx - Ty\|^2 + \frac{1 - α}{α}\,\|(x - Tx) - (y - Ty)\|^2 \le \|x - y\|^2.

Here α = 1 stands for a map that is non-expansive and no more, α = 1/2 is firm non-expansiveness (a resolvent, a
proximal map, a projection), and α = 0 is the identity up to a constant. The quantity that adds up is ``α/(1 − α)``.
Proofs: docs/theory.md, "Averaged operators and Plug-and-Play".
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

from torch import nn

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.nn.lipschitz import LipschitzModule
from contractive_gnn.nn.plain import altered


@runtime_checkable
class AveragedModule(Protocol):
    """A module that declares how averaged it is, in the plain ℓ2 norm of one image.

    Attributes:
        certified: whether the constant is proved.
    """

    certified: bool

    def averagedness(self) -> float:
        """The smallest known α for the present weights, for every noise level; 1 where non-expansive, else ``inf``."""


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
    so is one whose constant q is below 1: that one is ``(1 + q)/2``-averaged. With a forward hook, or a method that was
    replaced on the object, nothing is proved of either.

    Raises:
        ValueError: where it declares a negative number, or none.
    """
    name = type(denoiser).__name__
    change = altered(denoiser) if isinstance(denoiser, nn.Module) else ""
    if change:
        return None, f"{name}: {change}"
    if isinstance(denoiser, AveragedModule):
        if not denoiser.certified:
            return None, f"{name} does not call its averagedness certified"
        alpha = float(denoiser.averagedness())
        if not alpha >= 0.0:
            raise ValueError(f"{name}.averagedness() must be at least 0, got {alpha!r}")
        if alpha > 1.0:
            training = isinstance(denoiser, nn.Module) and denoiser.training
            return None, f"{name} may expand" + (" in training mode: call its eval()" if training else "")
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
