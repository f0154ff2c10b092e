"""Norms and log norms of operators that are known by their products alone, estimated from below."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from contractive_gnn.norms.given import name_and_weight
from contractive_gnn.norms.lebesgue import Family, entry_weights, family_of
from contractive_gnn.norms.norm import L1, Norm

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class NormEstimate:
    """An estimate from below of the norm, or log norm, of an operator known by its products alone.

    Attributes:
        value: a lower bound, up to the rounding of one product: it is attained by ``vector``.
        upper: in ℓ2, an upper bound that holds with probability at least ``1 − failure`` over the random start (exact
            arithmetic; nothing is assumed of the operator), ``inf`` where the iterations do not suffice for one. In ℓ1
            and ℓ∞, ``value`` where every column (row) was tried, else ``inf``: none is known.
        residual: in ℓ2, *some* singular value (for a log norm: eigenvalue of the symmetric part) lies within this of
            ``value``: the bound of every Ritz value, which does not say that it is the largest. None in ℓ1 and ℓ∞.
        iterations: products with the operator that were made.
        vector: ``x`` with ``‖Ax‖ = value · ‖x‖`` in ℓ1 and ℓ2, respectively ``⟦Ax, x⟧ = value · ‖x‖²``. In ℓ∞ the unit
            vector of the row (in the range) whose sum is ``value``.
    """

    value: float
    upper: float
    residual: float | None
    iterations: int
    vector: Tensor


def estimate_norm(
    matvec: Map,
    adjoint: Map,
    like: Tensor,
    *,
    norm: str | Norm = "l2",
    weight: Tensor | None = None,
    iterations: int = 40,
    failure: float = 1e-6,
    seed: int = 0,
) -> NormEstimate:
    r"""Estimate ``‖A‖`` from below, given ``x ↦ Ax`` and ``y ↦ Aᵀy``.

    ℓ2: Lanczos' method with full reorthogonalisation on ``AᵀA`` from a random start. After k steps, with probability at
    least 1 − p,

    .. math::
        \lambda_1 - \hat\lambda \le \eta\,(\lambda_1 - \lambda_d), \qquad
        \eta = \min_\epsilon\Big(\epsilon + \frac{2d}{\pi p^2\, T_{k-1}(\frac{1+\epsilon}{1-\epsilon})^2}\Big):

    take Chebyshev's polynomial of the spectrum below ``λ₁ − ε(λ₁ − λ_d)`` in the Krylov space; the start has
    ``|⟨v, u₁⟩| ≥ t = p (π/2d)^½`` with that probability. Besides, ``λ₁ ≤ λ̂ + β_{k+1}/t`` with the next entry β of the
    tridiagonal matrix T: for ``g = Qᵀu₁``, ``‖(T − λ₁)g‖ ≤ β`` and ``‖g‖ ≥ t``. ``upper`` is the smaller one's root
    (compare Kuczyński and Woźniakowski, SIAM J. Matrix Anal. Appl. 13, 1992).

    ℓ1 and ℓ∞: with at most ``iterations`` columns (rows) all of them are tried, and ``value = upper = ‖A‖``. With more,
    Hager's method (SIAM J. Sci. Stat. Comput. 5, 1984; Higham 1988) from an even and five random starts. Its value is
    the sum of one column (row), hence a lower bound, and at least ``‖Ax‖₁`` (``‖Aᵀx‖₁``) of every start x,
    ``‖x‖₁ = 1``. No share of ``‖A‖`` is guaranteed.

    Args:
        matvec: A, linear.
        adjoint: Aᵀ.
        like: a tensor of the shape, dtype and device of x; its values are not read.
        norm: a name of the package's table, or an object that is one of these, weighted or not.
        weight: w > 0 as in :func:`vector_norm`; needs A to keep the shape.
        iterations: largest number of Lanczos steps (it stores one vector each), or of Hager's steps for each start;
            with that many columns (rows) the value in ℓ1 (ℓ∞) is exact.
        failure: p, the probability with which ``upper`` may fail.
        seed: of the random starts.

    Raises:
        ValueError: for an unknown name, weights that do not fit, ``iterations < 1`` or p outside (0, 1).
    """
    name, weight = name_and_weight(norm, weight)
    kind, matvec, adjoint = _prepare(matvec, adjoint, like, name, weight, iterations, failure)
    if kind != "l2":
        # The largest row sum is the largest column sum of the adjoint.
        if kind == "linf":
            like, matvec, adjoint = matvec(torch.zeros_like(like)), adjoint, matvec
        few = like.numel() <= iterations
        estimate = _every_column(matvec, like) if few else _hager(matvec, adjoint, like, iterations, seed)
    else:
        ritz = _lanczos(lambda v: adjoint(matvec(v)), like, iterations, failure, seed)
        image = matvec(ritz.top_vector)
        value = float(torch.linalg.vector_norm(image))
        square = min(ritz.top + ritz.missed, ritz.top / (1 - ritz.eta) if ritz.eta < 1 else math.inf)
        upper = max(value, math.sqrt(square))
        residual = ritz.residual / value if value > 0 else math.sqrt(ritz.residual)
        estimate = NormEstimate(value, upper, residual, 2 * ritz.steps + 1, ritz.top_vector)
    return _in_weights(estimate, kind, like, name, weight)


def estimate_log_norm(
    matvec: Map,
    adjoint: Map,
    like: Tensor,
    *,
    norm: str | Norm = "l2",
    weight: Tensor | None = None,
    iterations: int = 40,
    failure: float = 1e-6,
    seed: int = 0,
) -> NormEstimate:
    r"""Estimate ``μ(A)`` from below, given ``x ↦ Ax`` and ``y ↦ Aᵀy`` (A keeps the shape).

    ℓ2: Lanczos' method on ``(A + Aᵀ)/2``, with the error of :func:`estimate_norm` at either end of the spectrum:
    ``upper = λ̂_max + min(η (λ̂_max − λ̂_min)/(1 − 2η), β/t)``.

    ℓ1 and ℓ∞: exact with at most ``iterations`` columns, as there. With more, Hager's method on ``A + cI``, c about
    ``2‖A‖``, where ``‖A + cI‖ = μ(A) + c``; the value is that of one column (row) of A itself, hence a lower bound, and
    no share of ``μ(A)`` is guaranteed.

    Arguments and errors are those of :func:`estimate_norm`.
    """
    name, weight = name_and_weight(norm, weight)
    kind, matvec, adjoint = _prepare(matvec, adjoint, like, name, weight, iterations, failure)
    if kind != "l2":
        if kind == "linf":
            matvec, adjoint = adjoint, matvec
        if like.numel() <= iterations:
            estimate = _every_column(matvec, like, log=True)
        else:
            size = _hager(matvec, adjoint, like, iterations, seed)
            shift = 2 * size.value
            shifted = _hager(lambda v: matvec(v) + shift * v, lambda v: adjoint(v) + shift * v, like, iterations, seed)
            value = float(L1.pairing(matvec(shifted.vector), shifted.vector))
            products = size.iterations + shifted.iterations + 1
            estimate = NormEstimate(value, math.inf, None, products, shifted.vector)
    else:
        # Either end of the spectrum may fail, so each gets half of the probability.
        ritz = _lanczos(lambda v: (matvec(v) + adjoint(v)) / 2, like, iterations, failure / 2, seed)
        value = float((ritz.top_vector * matvec(ritz.top_vector)).sum())
        missed = ritz.eta * (ritz.top - ritz.bottom) / (1 - 2 * ritz.eta) if ritz.eta < 0.5 else math.inf
        upper = max(value, ritz.top + min(missed, ritz.missed))
        estimate = NormEstimate(value, upper, ritz.residual, 2 * ritz.steps + 1, ritz.top_vector)
    return _in_weights(estimate, kind, like, name, weight)


def _prepare(
    matvec: Map, adjoint: Map, like: Tensor, name: str, weight: Tensor | None, iterations: int, failure: float
) -> tuple[Family, Map, Map]:
    """Check the arguments and move the weights into the operator."""
    kind = family_of(name)
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations!r}")
    if not 0 < failure < 1:
        raise ValueError(f"failure must be a probability between 0 and 1, got {failure!r}")
    if not like.is_floating_point() or like.numel() == 0:
        raise ValueError(f"like must be a floating tensor with entries, got {like.dtype} of shape {list(like.shape)}")
    w = entry_weights(like, name, weight)
    if w is None:
        return kind, torch.no_grad()(matvec), torch.no_grad()(adjoint)
    scale = w.sqrt() if kind == "l2" else w
    return (
        kind,
        torch.no_grad()(lambda v: scale * matvec(v / scale)),
        torch.no_grad()(lambda v: adjoint(v * scale) / scale),
    )


def _in_weights(estimate: NormEstimate, kind: Family, like: Tensor, name: str, weight: Tensor | None) -> NormEstimate:
    """Take the witness back to the operator's own coordinates."""
    w = entry_weights(like, name, weight)
    if w is None or kind == "linf":
        return estimate
    vector = estimate.vector / (w.sqrt() if kind == "l2" else w)
    return NormEstimate(estimate.value, estimate.upper, estimate.residual, estimate.iterations, vector)


@dataclass(frozen=True, eq=False)
class _Ritz:
    """The outer Ritz values of a symmetric operator, the vector of the largest, and what they may miss.

    With probability ``1 − failure`` the largest eigenvalue is at most ``top + missed``, and nearer to it than ``eta``
    times the width of the spectrum (:func:`estimate_norm`).
    """

    top: float
    bottom: float
    missed: float
    eta: float
    residual: float
    top_vector: Tensor
    steps: int


def _lanczos(operator: Map, like: Tensor, iterations: int, failure: float, seed: int) -> _Ritz:
    generator = torch.Generator().manual_seed(seed)
    # Drawn on the CPU in float64: the same start on every device.
    start = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    basis = [(start / start.norm()).to(like).flatten()]
    diagonal: list[float] = []
    off: list[float] = []
    for _ in range(min(iterations, like.numel())):
        image = operator(basis[-1].view(like.shape)).flatten()
        diagonal.append(float(basis[-1] @ image))
        known = torch.stack(basis)
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            image = image - known.mT @ (known @ image)
        scale = max(map(abs, diagonal + off))
        off.append(float(image.norm()))
        if off[-1] <= 10 * torch.finfo(like.dtype).eps * scale:
            break  # what is left of the image is rounding: the Krylov space is invariant
        basis.append(image / off[-1])
    k = len(diagonal)
    lower = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    lower += torch.diag(torch.tensor(off[: k - 1], dtype=torch.float64), -1)
    values, vectors = torch.linalg.eigh(lower)  # reads the lower triangle
    vector = (torch.stack(basis[:k]).mT @ vectors[:, -1].to(like)).view(like.shape)
    overlap = _overlap(like.numel(), failure)
    return _Ritz(
        top=float(values[-1]),
        bottom=float(values[0]),
        missed=off[-1] / overlap,
        eta=_lanczos_gap(k, overlap),
        residual=off[-1] * abs(float(vectors[-1, -1])),
        top_vector=vector / vector.norm(),
        steps=k,
    )


def _overlap(dimension: int, failure: float) -> float:
    """The t with ``P(|⟨v, u⟩| < t) ≤ failure`` for v uniform on the sphere in d dimensions.

    The density of one coordinate is at most ``(d/2π)^½`` for d ≥ 3; the formula also holds for ``P = (2/π) asin t``
    (d = 2) and ``P = 0`` (d = 1).
    """
    return min(1.0, failure * math.sqrt(math.pi / (2 * dimension)))


def _lanczos_gap(steps: int, overlap: float) -> float:
    """η of :func:`estimate_norm`: the part of the spectrum's width that the largest Ritz value may miss."""
    best = math.inf
    for index in range(1, 400):
        epsilon = 10 ** (-8 + 8 * index / 400)
        growth = (steps - 1) * math.acosh((1 + epsilon) / (1 - epsilon))
        log_chebyshev = growth + math.log1p(math.exp(-2 * growth)) - math.log(2)  # log cosh
        exponent = -2 * (math.log(overlap) + log_chebyshev)
        if exponent < 0:
            best = min(best, epsilon + math.exp(exponent))
    return best


def _every_column(matvec: Map, like: Tensor, *, log: bool = False) -> NormEstimate:
    """The ℓ1 norm, or log norm, from one product for each column; 0 of an operator that has none."""
    if like.numel() == 0:
        return NormEstimate(0.0, 0.0, None, 0, like)
    units = torch.eye(like.numel(), dtype=like.dtype, device=like.device).view(-1, *like.shape)
    columns = [matvec(unit) for unit in units]
    values = [
        L1.pairing(column, unit) if log else column.abs().sum() for column, unit in zip(columns, units, strict=True)
    ]
    value, index = torch.stack(values).max(dim=0)
    return NormEstimate(float(value), float(value), None, len(columns), units[index])


def _hager(matvec: Map, adjoint: Map, space: Tensor, iterations: int, seed: int) -> NormEstimate:
    """The largest column sum found."""
    generator = torch.Generator().manual_seed(seed)
    even = torch.full_like(space, 1.0 / space.numel())
    starts = [even]
    starts += [even * (torch.randint(2, space.shape, generator=generator) * 2 - 1).to(space) for _ in range(5)]
    value, witness, products = -math.inf, even, 0
    for x in starts:
        for _ in range(iterations):
            image = matvec(x)
            products += 1
            size = float(image.abs().sum())
            if size > value:
                value, witness = size, x
            gradient = adjoint(torch.where(image < 0, -1.0, 1.0).to(space.dtype))
            products += 1
            index = int(gradient.abs().argmax())
            if float(gradient.flatten()[index].abs()) <= float((gradient * x).sum()):
                break
            x = torch.zeros_like(space)
            x.view(-1)[index] = 1.0
    if int((witness != 0).sum()) > 1:
        # Hager's condition held at a start: ‖Ax‖ is an average over columns, and one of them reaches as much.
        gradient = adjoint(torch.where(matvec(witness) < 0, -1.0, 1.0).to(space.dtype))
        index = int(gradient.abs().argmax())
        witness = torch.zeros_like(space)
        witness.view(-1)[index] = 1.0
        value = float(matvec(witness).abs().sum())
        products += 3
    return NormEstimate(value, math.inf, None, products, witness)
