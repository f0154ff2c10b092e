"""Searches for the pair of points that a map moves apart the most."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from contractive_gnn.norms.given import as_norm
from contractive_gnn.norms.norm import Norm

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class LipschitzBound:
    """A lower bound of a Lipschitz constant, with the pair of points that proves it.

    Attributes:
        value: the ratio of ``x`` and ``y``, evaluated on them: a lower bound up to rounding, about
            ``eps ‖f(x)‖ / ‖x − y‖``.
        x: one point.
        y: the other.
        pairs: number of pairs that were tried.
    """

    value: float
    x: Tensor
    y: Tensor
    pairs: int


def lipschitz_sampled(
    f: Map,
    x: Tensor,
    *,
    norm: str | Norm,
    weight: Tensor | None = None,
    one_sided: bool = False,
    spread: float = 1.0,
    samples: int = 100,
    project: Map | None = None,
    seed: int = 0,
) -> LipschitzBound:
    """The largest ratio over random pairs around ``x``.

    The ratio is ``‖f(u) − f(v)‖ / ‖u − v‖``, or with ``one_sided`` that of the one-sided Lipschitz constant,
    ``⟦f(u) − f(v), u − v⟧ / ‖u − v‖²``. Differences are Gaussian, of equal size in every entry (extreme in ℓ∞), or in
    a single entry (extreme in ℓ1), of lengths between ``spread/100`` and ``10·spread``.

    Args:
        f: a map that keeps shapes: a vector field, or one step of an integrator.
        x: the point to sample around, floating.
        norm: a name of the package's table, or an object.
        weight: as in :func:`vector_norm`, for a name; None for an object that has its own.
        one_sided: which constant; the one-sided one needs a norm with a weak pairing.
        spread: standard deviation of the first point around ``x``, scale of the second one around the first.
        samples: number of pairs.
        project: maps a point into the domain of the claim (symmetric matrices, say); None for the whole space.
        seed: of the pairs.

    Raises:
        ValueError: for an unknown name, weights that do not fit, or numbers that are not positive.
    """
    norm = _checked(x, norm, weight, spread=spread, samples=samples)
    generator = torch.Generator().manual_seed(seed)
    best: LipschitzBound | None = None
    with torch.no_grad():
        for index in range(samples):
            u, v = _random_pair(x, norm, spread, project, index, generator)
            ratio = _ratio(f(v) - f(u), v - u, norm, one_sided)
            if best is None or ratio > best.value:
                best = LipschitzBound(ratio, u, v, samples)
    assert best is not None
    return best


def lipschitz_adversarial(
    f: Map,
    x: Tensor,
    *,
    norm: str | Norm,
    weight: Tensor | None = None,
    one_sided: bool = False,
    spread: float = 1.0,
    restarts: int = 6,
    steps: int = 40,
    project: Map | None = None,
    seed: int = 0,
) -> LipschitzBound:
    r"""The largest ratio found by ascent: :func:`lipschitz_sampled` with an opponent.

    Each restart takes a random pair ``(u, u + δ)``. Then δ jumps to the vector of its length that maximises the
    linearised ratio, ``argmax_{‖d‖ = ‖δ‖} ⟨∇_δ, d⟩`` (the generalised power method of Boyd 1974 and Higham 1992: on a
    linear map in ℓ2 it is power iteration, in ℓ1 and ℓ∞ Hager's method), while u follows the normalised gradient.
    Where that stalls, δ is drawn anew.
    The one-sided constant is searched for with the ratio of ``I + hf``: in ℓ1 and ℓ∞ for a small h, in ℓ2 through
    ``⟨f(u + δ) − f(u), δ⟩`` plus a multiple of ``‖δ‖²``. What is reported is the plain ratio of the best pair.

    Args:
        f: differentiable almost everywhere; otherwise as in :func:`lipschitz_sampled`.
        x: as in :func:`lipschitz_sampled`.
        norm: as there.
        weight: as there.
        one_sided: as there.
        spread: as there; u moves by at most ``spread/10`` a step.
        restarts: number of random starts.
        steps: ascent steps for each.
        project: as there.
        seed: of the starts.

    Raises:
        ValueError: as :func:`lipschitz_sampled`.
    """
    norm = _checked(x, norm, weight, spread=spread, restarts=restarts, steps=steps)
    generator = torch.Generator().manual_seed(seed)
    best: LipschitzBound | None = None
    for restart in range(restarts):
        u, v = _random_pair(x, norm, spread, project, restart, generator)
        last = -math.inf
        for step in range(steps):
            base, delta = u.requires_grad_(), (v - u).detach().requires_grad_()
            with torch.enable_grad():
                change = f(base + delta) - f(base)
                ratio = _ratio(change.detach(), delta.detach(), norm, one_sided)
                if best is None or ratio > best.value:
                    best = LipschitzBound(ratio, u.detach().clone(), v.detach().clone(), restarts * steps)
                if ratio <= last + 1e-6 * abs(last):
                    u, v = _random_pair(u.detach(), norm, spread, project, restart + step, generator, move=False)
                    last = -math.inf
                    continue
                last = ratio
                goal = _ascent_goal(change, delta, norm, one_sided)
                if not goal.requires_grad:
                    break  # f is constant here: there is nothing to climb
                move, turn = torch.autograd.grad(goal, (base, delta), allow_unused=True)
            length = float(norm(delta.detach()))
            direction = delta.detach() if turn is None else norm.dual(turn)
            reach = float(norm(direction))
            if not (reach > 0 and math.isfinite(reach)):
                break
            u = u.detach()
            if move is not None and float(move.norm()) > 0:
                u = u + 0.1 * spread * move / move.norm()
            v = u + direction * (length / reach)
            if project is not None:
                u, v = project(u), project(v)
    assert best is not None
    return best


def _checked(x: Tensor, norm: str | Norm, weight: Tensor | None, **positive: float) -> Norm:
    """The norm as an object, if all arguments fit."""
    measure = as_norm(norm, weight)
    if not x.is_floating_point() or x.numel() == 0:
        raise ValueError(f"x must be a floating tensor with entries, got {x.dtype} of shape {list(x.shape)}")
    measure.weights(x)
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value!r}")
    return measure


def _random_pair(
    x: Tensor,
    norm: Norm,
    spread: float,
    project: Map | None,
    index: int,
    generator: torch.Generator,
    *,
    move: bool = True,
) -> tuple[Tensor, Tensor]:
    """Two points whose difference is, in turn, Gaussian, of equal size everywhere, and in one entry.

    The first one lies around ``x``, or with ``move=False`` at ``x``.
    """
    gauss = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
    u = x.detach()
    if move:
        u = u + spread * torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
    if index % 3 == 0:
        d = gauss
    elif index % 3 == 1:
        d = torch.where(gauss < 0, -1.0, 1.0).to(x)
        w = norm.weights(x)
        d = d if w is None else d / w
    else:
        d = torch.zeros_like(x)
        d.view(-1)[int(torch.randint(x.numel(), (), generator=generator))] = 1.0
    length = spread * 10 ** float(torch.empty(()).uniform_(-2, 1, generator=generator))
    v = u + d * (length / float(norm(d)))
    return (u, v) if project is None else (project(u), project(v))


def _ratio(change: Tensor, delta: Tensor, norm: Norm, one_sided: bool) -> float:
    length = float(norm(delta))
    if length == 0.0:
        return -math.inf
    ratio = float(norm.pairing(change, delta)) / length**2 if one_sided else float(norm(change)) / length
    return math.inf if math.isnan(ratio) else ratio  # a map that returns NaN is bounded by nothing


def _ascent_goal(change: Tensor, delta: Tensor, norm: Norm, one_sided: bool) -> Tensor:
    """What δ climbs: convex in δ for a linear f, so that a jump to the dual vector never descends."""
    if not one_sided:
        return norm(change)
    slope = _ratio(change.detach(), delta.detach(), norm, False)
    if norm.kind == "l2":
        shift = slope * norm(delta).square()
        return norm.pairing(change, delta) + shift
    return norm(delta + change * (0.1 / max(slope, 1e-12)))
