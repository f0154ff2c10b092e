r"""Norms, log norms and Lipschitz constants: exact, estimated from below with a stated error, and searched for.

Every function takes the name of a norm and, optionally, positive weights w:

================================ ============================= =======================================================
name                             ‖x‖, over all entries of x    log norm of a matrix A
================================ ============================= =======================================================
``"l1"``, ``"vec-l1"``           ``Σ w_i |x_i|``               ``max_j (a_jj + Σ_{i≠j} |a_ij| w_i / w_j)``
``"l2"``, ``"l2-degree"``        ``(Σ w_i x_i²)^½``            ``λ_max`` of the symmetric part of ``W^½ A W^-½``
``"linf"``, ``"vec-linf"``       ``max w_i |x_i|``             ``max_i (a_ii + Σ_{j≠i} |a_ij| w_i / w_j)``
================================ ============================= =======================================================

The names with ``vec-`` say that x is a matrix; ``"l2-degree"`` cannot do without weights, one for each node. In ℓ2 the
weights stand under the square, as in ``xᵀPx``, and a log norm or an operator norm also takes a positive definite matrix
P there. The log norm is ``μ(A) = lim_{h→0+} (‖I + hA‖ − 1)/h``; a field X contracts at rate κ iff ``μ(DX) ≤ −κ``
everywhere (Bullo, *Contraction Theory for Dynamical Systems*, chapters 2 and 3; Davydov, Jafarpour, Bullo,
*Non-Euclidean contraction theory for robust nonlinear stability*, 2022).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Family = Literal["l1", "l2", "linf"]
Map = Callable[[Tensor], Tensor]

NORMS: dict[str, Family] = {
    "l1": "l1",
    "vec-l1": "l1",
    "l2": "l2",
    "l2-degree": "l2",
    "linf": "linf",
    "vec-linf": "linf",
}


def family(norm: str) -> Family:
    """Which of ℓ1, ℓ2 and ℓ∞ a norm's name stands for.

    Raises:
        ValueError: if the name is unknown.
    """
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; expected one of {', '.join(NORMS)}")
    return NORMS[norm]


def number(value: Tensor | float) -> float:
    """A constant that may be a scalar tensor, as a number without a gradient."""
    return float(value.detach()) if isinstance(value, Tensor) else float(value)


def vector_norm(x: Tensor, norm: str, *, weight: Tensor | None = None) -> Tensor:
    """``‖x‖`` over all entries of ``x``, a scalar tensor.

    Args:
        x: of any shape.
        norm: a name of the module's table.
        weight: w > 0, of the shape of ``x`` or ``[x.size(0)]``: one weight for each row; or of two axes or more that
            broadcast to ``x``, ``[n, 1]`` for states ``[..., n, c]``.

    Raises:
        ValueError: for an unknown name, or weights that are missing, not positive or of another shape.
    """
    kind, w = family(norm), _entry_weights(x, norm, weight)
    if x.numel() == 0:
        return x.new_zeros(())
    if kind == "l2":
        euclidean: Tensor = torch.linalg.vector_norm(x if w is None else x * w.sqrt())
        return euclidean
    size = x.abs() if w is None else w * x.abs()
    return size.sum() if kind == "l1" else size.max()


def weak_pairing(u: Tensor, v: Tensor, norm: str, *, weight: Tensor | None = None) -> Tensor:
    r"""``⟦u, v⟧ = ‖v‖ · lim_{h→0+} (‖v + hu‖ − ‖v‖)/h``, a scalar tensor.

    ℓ2: the inner product; ℓ1: ``‖v‖ (Σ w_i sign(v_i) u_i + Σ_{v_i = 0} w_i |u_i|)``; ℓ∞: the largest ``w_i² u_i v_i``
    where ``w_i |v_i| = ‖v‖`` (Bullo, *Contraction Theory*, chapter 2, in its maximal form). A field X has the one-sided
    Lipschitz constant ``sup ⟦X(x) − X(y), x − y⟧ / ‖x − y‖²``.

    Args:
        u: of any shape.
        v: of the same shape.
        norm: a name of the module's table.
        weight: as in :func:`vector_norm`.

    Raises:
        ValueError: as :func:`vector_norm`, and if the shapes differ.
    """
    if u.shape != v.shape:
        raise ValueError(f"u and v must have the same shape, got {list(u.shape)} and {list(v.shape)}")
    kind, w = family(norm), _entry_weights(v, norm, weight)
    if v.numel() == 0:
        return v.new_zeros(())
    if kind == "l2":
        return (u * v if w is None else w * u * v).sum()
    if w is not None:
        u, v = w * u, w * v
    if kind == "l1":
        return v.abs().sum() * torch.where(v == 0, u.abs(), v.sign() * u).sum()
    size = v.abs()
    return torch.where(size == size.max(), u * v, -math.inf).max()


def log_norm(a: Tensor, norm: str, *, weight: Tensor | None = None) -> Tensor:
    """``μ(A)``, as in the module's table; differentiable.

    Args:
        a: ``[..., d, d]``.
        norm: a name of the module's table.
        weight: ``[d]``, positive, or for ℓ2 a symmetric positive definite ``[d, d]``: P in ``‖x‖² = xᵀPx``.

    Returns:
        ``[...]``.

    Raises:
        ValueError: for an unknown name, a matrix that is not square, or weights that do not fit.
    """
    kind, a = family(norm), _unweighted(a, norm, weight)
    if kind == "l2":
        eigenvalues: Tensor = torch.linalg.eigvalsh((a + a.mT) / 2)
        return eigenvalues[..., -1]
    own = a.diagonal(dim1=-2, dim2=-1)
    others = (a - torch.diag_embed(own)).abs().sum(dim=-2 if kind == "l1" else -1)
    return (own + others).amax(dim=-1)


def operator_norm(a: Tensor, norm: str, *, weight: Tensor | None = None) -> Tensor:
    """``‖A‖ = max ‖Ax‖/‖x‖``: largest column sum (ℓ1), largest singular value (ℓ2), largest row sum (ℓ∞).

    Arguments, result and errors are those of :func:`log_norm`; without weights ``a`` may be ``[..., m, d]``.
    """
    kind, a = family(norm), _unweighted(a, norm, weight, square=False)
    if kind == "l2":
        largest: Tensor = torch.linalg.matrix_norm(a, 2)
        return largest
    return a.abs().sum(dim=-2 if kind == "l1" else -1).amax(dim=-1)


def jacobian(f: Map, x: Tensor) -> Tensor:
    """``Df(x)`` of a map that keeps shapes, as the matrix ``[d, d]`` of the flattened ``x`` (d entries).

    Row by row, with one backward pass each: it asks nothing of ``f`` but a gradient (``torch.func.jacrev`` would need
    a batching rule of every operator in it).
    """
    with torch.enable_grad():
        rows: Tensor = torch.autograd.functional.jacobian(f, x.detach())  # type: ignore[no-untyped-call]
    return rows.reshape(x.numel(), x.numel())


def lipschitz_at(f: Map, x: Tensor, *, norm: str, weight: Tensor | None = None) -> float:
    """``‖Df(x)‖``: exact at ``x`` where f is differentiable, hence a lower bound of its Lipschitz constant."""
    return float(operator_norm(jacobian(f, x), norm, weight=_flat(x, norm, weight)))


def log_norm_at(f: Map, x: Tensor, *, norm: str, weight: Tensor | None = None) -> float:
    """``μ(Df(x))``: exact at ``x``, hence a lower bound of the one-sided Lipschitz constant."""
    return float(log_norm(jacobian(f, x), norm, weight=_flat(x, norm, weight)))


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
    norm: str = "l2",
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
        norm: a name of the module's table.
        weight: w > 0 as in :func:`vector_norm`; needs A to keep the shape.
        iterations: largest number of Lanczos steps (it stores one vector each), or of Hager's steps for each start;
            with that many columns (rows) the value in ℓ1 (ℓ∞) is exact.
        failure: p, the probability with which ``upper`` may fail.
        seed: of the random starts.

    Raises:
        ValueError: for an unknown name, weights that do not fit, ``iterations < 1`` or p outside (0, 1).
    """
    kind, matvec, adjoint = _prepare(matvec, adjoint, like, norm, weight, iterations, failure)
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
    return _in_weights(estimate, kind, like, norm, weight)


def estimate_log_norm(
    matvec: Map,
    adjoint: Map,
    like: Tensor,
    *,
    norm: str = "l2",
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
    kind, matvec, adjoint = _prepare(matvec, adjoint, like, norm, weight, iterations, failure)
    if kind != "l2":
        if kind == "linf":
            matvec, adjoint = adjoint, matvec
        if like.numel() <= iterations:
            estimate = _every_column(matvec, like, log=True)
        else:
            size = _hager(matvec, adjoint, like, iterations, seed)
            shift = 2 * size.value
            shifted = _hager(lambda v: matvec(v) + shift * v, lambda v: adjoint(v) + shift * v, like, iterations, seed)
            value = float(weak_pairing(matvec(shifted.vector), shifted.vector, "l1"))
            products = size.iterations + shifted.iterations + 1
            estimate = NormEstimate(value, math.inf, None, products, shifted.vector)
    else:
        # Either end of the spectrum may fail, so each gets half of the probability.
        ritz = _lanczos(lambda v: (matvec(v) + adjoint(v)) / 2, like, iterations, failure / 2, seed)
        value = float((ritz.top_vector * matvec(ritz.top_vector)).sum())
        missed = ritz.eta * (ritz.top - ritz.bottom) / (1 - 2 * ritz.eta) if ritz.eta < 0.5 else math.inf
        upper = max(value, ritz.top + min(missed, ritz.missed))
        estimate = NormEstimate(value, upper, ritz.residual, 2 * ritz.steps + 1, ritz.top_vector)
    return _in_weights(estimate, kind, like, norm, weight)


@dataclass(frozen=True)
class SumNorm:
    r"""``‖(F | A)‖ = ‖F‖ + ω ‖A‖`` of a coupled state ``[n, c + n]``: features beside a square matrix.

    Attributes:
        first: name of the norm of F.
        second: name of the norm of A.
        scale: ω > 0.
    """

    first: str
    second: str
    scale: float

    def __call__(self, x: Tensor) -> Tensor:
        """The norm, a scalar tensor."""
        f, a = self._blocks(x)
        return vector_norm(f, self.first) + self.scale * vector_norm(a, self.second)

    def dual(self, gradient: Tensor) -> Tensor:
        """A maximiser of ``⟨gradient, d⟩`` over a ball: all of it lies in the block that gains more by its length."""
        blocks = self._blocks(gradient)
        steps = [_dual(g, name, None) for g, name in zip(blocks, (self.first, self.second), strict=True)]
        gains = [
            float((g * d).sum() / (scale * vector_norm(d, name)).clamp(min=torch.finfo(g.dtype).tiny))
            for g, d, name, scale in zip(blocks, steps, (self.first, self.second), (1.0, self.scale), strict=True)
        ]
        loser = gains.index(min(gains))
        steps[loser] = torch.zeros_like(steps[loser])
        return torch.cat(steps, dim=1)

    @staticmethod
    def _blocks(x: Tensor) -> tuple[Tensor, Tensor]:
        columns = x.size(1) - x.size(0)
        return x[:, :columns], x[:, columns:]


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
    norm: str | SumNorm,
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
        norm: a name of the module's table, or a :class:`SumNorm`.
        weight: as in :func:`vector_norm`; None for a :class:`SumNorm`.
        one_sided: which constant; the one-sided one needs a name.
        spread: standard deviation of the first point around ``x``, scale of the second one around the first.
        samples: number of pairs.
        project: maps a point into the domain of the claim (symmetric matrices, say); None for the whole space.
        seed: of the pairs.

    Raises:
        ValueError: for an unknown name, weights that do not fit, or numbers that are not positive.
    """
    _check_search(x, norm, weight, spread=spread, samples=samples)
    generator = torch.Generator().manual_seed(seed)
    best: LipschitzBound | None = None
    with torch.no_grad():
        for index in range(samples):
            u, v = _random_pair(x, norm, weight, spread, project, index, generator)
            ratio = _ratio(f(v) - f(u), v - u, norm, weight, one_sided)
            if best is None or ratio > best.value:
                best = LipschitzBound(ratio, u, v, samples)
    assert best is not None
    return best


def lipschitz_adversarial(
    f: Map,
    x: Tensor,
    *,
    norm: str | SumNorm,
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
    _check_search(x, norm, weight, spread=spread, restarts=restarts, steps=steps)
    generator = torch.Generator().manual_seed(seed)
    best: LipschitzBound | None = None
    for restart in range(restarts):
        u, v = _random_pair(x, norm, weight, spread, project, restart, generator)
        last = -math.inf
        for step in range(steps):
            base, delta = u.requires_grad_(), (v - u).detach().requires_grad_()
            with torch.enable_grad():
                change = f(base + delta) - f(base)
                ratio = _ratio(change.detach(), delta.detach(), norm, weight, one_sided)
                if best is None or ratio > best.value:
                    best = LipschitzBound(ratio, u.detach().clone(), v.detach().clone(), restarts * steps)
                if ratio <= last + 1e-6 * abs(last):
                    u, v = _random_pair(
                        u.detach(), norm, weight, spread, project, restart + step, generator, move=False
                    )
                    last = -math.inf
                    continue
                last = ratio
                goal = _ascent_goal(change, delta, norm, weight, one_sided)
                if not goal.requires_grad:
                    break  # f is constant here: there is nothing to climb
                move, turn = torch.autograd.grad(goal, (base, delta), allow_unused=True)
            length = float(_size(delta.detach(), norm, weight))
            direction = delta.detach() if turn is None else _dual(turn, norm, weight)
            reach = float(_size(direction, norm, weight))
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


# --------------------------------------------------------------------------------------------------- weights


def _checked(weight: Tensor, *, what: str) -> Tensor:
    if not bool((weight > 0).all()) or not bool(torch.isfinite(weight).all()):
        raise ValueError(f"{what} must be positive and finite, got values from {weight.min():g} to {weight.max():g}")
    return weight


def _needs_weight(norm: str, weight: Tensor | None) -> None:
    if norm == "l2-degree" and weight is None:
        raise ValueError("the norm 'l2-degree' weights every node by its degree: pass weight")


def _entry_weights(x: Tensor, norm: str, weight: Tensor | None) -> Tensor | None:
    """The weights in a shape that broadcasts to ``x``."""
    _needs_weight(norm, weight)
    if weight is None:
        return None
    w = weight.to(x)
    if weight.shape != x.shape and weight.shape != x.shape[:1]:
        # [n, 1] and the like: for the last axes of x, those before them are a batch
        pairs = zip(reversed(weight.shape), reversed(x.shape), strict=False)
        if not (1 < weight.dim() <= x.dim() and all(a in (1, b) for a, b in pairs)):
            raise ValueError(
                f"weight must have the shape of x, {list(x.shape)}, or one entry for each row, got {list(weight.shape)}"
            )
        return _checked(w, what="weight")
    return _checked(w if w.shape == x.shape else w.view(-1, *[1] * (x.dim() - 1)), what="weight")


def _flat(x: Tensor, norm: str, weight: Tensor | None) -> Tensor | None:
    """One weight for each entry of the flattened ``x``."""
    w = _entry_weights(x, norm, weight)
    return None if w is None else w.expand_as(x).reshape(-1)


def _unweighted(a: Tensor, norm: str, weight: Tensor | None, *, square: bool = True) -> Tensor:
    """The matrix whose unweighted (log) norm is the weighted one of ``a``."""
    _needs_weight(norm, weight)
    if a.dim() < 2 or ((square or weight is not None) and a.size(-1) != a.size(-2)):
        raise ValueError(f"expected a square matrix [..., d, d], got shape {list(a.shape)}")
    if weight is None:
        return a
    d, weight = a.size(-1), weight.to(a)
    if weight.shape == (d,):
        w = _checked(weight, what="weight")
        w = w.sqrt() if NORMS[norm] == "l2" else w
        return w.unsqueeze(1) * a / w
    if NORMS[norm] == "l2" and weight.shape == (d, d):
        lower, failed = torch.linalg.cholesky_ex(weight)
        if bool(failed) or not torch.allclose(weight, weight.mT):
            raise ValueError("a matrix weight must be symmetric positive definite")
        # xᵀPx = ‖Lᵀx‖², so A becomes Lᵀ A L⁻ᵀ.
        solved: Tensor = torch.linalg.solve_triangular(lower, (lower.mT @ a).mT, upper=False)
        return solved.mT
    raise ValueError(
        f"weight must have shape [{d}] (or [{d}, {d}] in l2) to match the matrix, got {list(weight.shape)}"
    )


# ------------------------------------------------------------------------------------------ operators by products


def _prepare(
    matvec: Map, adjoint: Map, like: Tensor, norm: str, weight: Tensor | None, iterations: int, failure: float
) -> tuple[Family, Map, Map]:
    """Check the arguments and move the weights into the operator."""
    kind = family(norm)
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations!r}")
    if not 0 < failure < 1:
        raise ValueError(f"failure must be a probability between 0 and 1, got {failure!r}")
    if not like.is_floating_point() or like.numel() == 0:
        raise ValueError(f"like must be a floating tensor with entries, got {like.dtype} of shape {list(like.shape)}")
    w = _entry_weights(like, norm, weight)
    if w is None:
        return kind, torch.no_grad()(matvec), torch.no_grad()(adjoint)
    scale = w.sqrt() if kind == "l2" else w
    return (
        kind,
        torch.no_grad()(lambda v: scale * matvec(v / scale)),
        torch.no_grad()(lambda v: adjoint(v * scale) / scale),
    )


def _in_weights(estimate: NormEstimate, kind: Family, like: Tensor, norm: str, weight: Tensor | None) -> NormEstimate:
    """Take the witness back to the operator's own coordinates."""
    w = _entry_weights(like, norm, weight)
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
        weak_pairing(column, unit, "l1") if log else column.abs().sum()
        for column, unit in zip(columns, units, strict=True)
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


# ------------------------------------------------------------------------------------------------ pairs of points


def _check_search(x: Tensor, norm: str | SumNorm, weight: Tensor | None, **positive: float) -> None:
    if isinstance(norm, SumNorm):
        if weight is not None:
            raise ValueError("a SumNorm has its own weight: pass weight=None")
    else:
        family(norm)
        _entry_weights(x, norm, weight)
    if not x.is_floating_point() or x.numel() == 0:
        raise ValueError(f"x must be a floating tensor with entries, got {x.dtype} of shape {list(x.shape)}")
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value!r}")


def _name(norm: str | SumNorm) -> str:
    if isinstance(norm, SumNorm):
        raise ValueError("a one-sided Lipschitz constant needs a norm of the module's table, got a SumNorm")
    return norm


def _size(x: Tensor, norm: str | SumNorm, weight: Tensor | None) -> Tensor:
    return norm(x) if isinstance(norm, SumNorm) else vector_norm(x, norm, weight=weight)


def _random_pair(
    x: Tensor,
    norm: str | SumNorm,
    weight: Tensor | None,
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
        w = None if isinstance(norm, SumNorm) else _entry_weights(x, norm, weight)
        d = d if w is None else d / w
    else:
        d = torch.zeros_like(x)
        d.view(-1)[int(torch.randint(x.numel(), (), generator=generator))] = 1.0
    length = spread * 10 ** float(torch.empty(()).uniform_(-2, 1, generator=generator))
    v = u + d * (length / float(_size(d, norm, weight)))
    return (u, v) if project is None else (project(u), project(v))


def _ratio(change: Tensor, delta: Tensor, norm: str | SumNorm, weight: Tensor | None, one_sided: bool) -> float:
    length = float(_size(delta, norm, weight))
    if length == 0.0:
        return -math.inf
    if one_sided:
        ratio = float(weak_pairing(change, delta, _name(norm), weight=weight)) / length**2
    else:
        ratio = float(_size(change, norm, weight)) / length
    return math.inf if math.isnan(ratio) else ratio  # a map that returns NaN is bounded by nothing


def _ascent_goal(change: Tensor, delta: Tensor, norm: str | SumNorm, weight: Tensor | None, one_sided: bool) -> Tensor:
    """What δ climbs: convex in δ for a linear f, so that a jump to the dual vector never descends."""
    if not one_sided:
        return _size(change, norm, weight)
    slope = _ratio(change.detach(), delta.detach(), norm, weight, False)
    if family(_name(norm)) == "l2":
        shift = slope * _size(delta, norm, weight).square()
        return weak_pairing(change, delta, _name(norm), weight=weight) + shift
    return _size(delta + change * (0.1 / max(slope, 1e-12)), norm, weight)


def _dual(gradient: Tensor, norm: str | SumNorm, weight: Tensor | None) -> Tensor:
    """A maximiser of ``⟨gradient, d⟩`` over a ball of the norm, of any length."""
    if isinstance(norm, SumNorm):
        return norm.dual(gradient)
    kind, w = NORMS[norm], _entry_weights(gradient, norm, weight)
    if kind == "l2":
        return gradient if w is None else gradient / w
    if kind == "linf":
        return gradient.sign() if w is None else gradient.sign() / w
    gain = (gradient if w is None else gradient / w).flatten()
    index = int(gain.abs().argmax())
    unit = torch.zeros_like(gain)
    unit[index] = gain[index].sign()
    return unit.view_as(gradient)


class Norm(ABC):
    """A norm of a whole state, as an object: what a claim is made in.

    Two are equal where they measure every state alike. ``name`` is that of the module's table, or says how it is made.
    """

    name: str
    kind: Family | None
    """ℓ1, ℓ2 or ℓ∞, weighted or not; None for another one. Only ``"l2"`` is the norm of an inner product."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """``‖x‖``, a scalar tensor."""

    @abstractmethod
    def dual(self, gradient: Tensor) -> Tensor:
        """A maximiser of ``⟨gradient, d⟩`` over a ball of the norm, of any length."""

    def pairing(self, u: Tensor, v: Tensor) -> Tensor:
        """The weak pairing ``⟦u, v⟧``, see :func:`weak_pairing`.

        Raises:
            ValueError: where it is not known.
        """
        raise ValueError(f"no weak pairing is known for {self}")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Plain(Norm):
    """ℓ1, ℓ2 or ℓ∞ of all entries, none of them weighted; under one of the names of the module's table."""

    name: str

    def __post_init__(self) -> None:
        """Refuse an unknown name, and one that cannot do without weights."""
        _needs_weight(self.name, None)

    @property
    def kind(self) -> Family:  # type: ignore[override]
        """Which of the three."""
        return family(self.name)

    def __call__(self, x: Tensor) -> Tensor:
        """``‖x‖``."""
        return vector_norm(x, self.name)

    def dual(self, gradient: Tensor) -> Tensor:
        """See :class:`Norm`."""
        return _dual(gradient, self.name, None)

    def pairing(self, u: Tensor, v: Tensor) -> Tensor:
        """See :class:`Norm`."""
        return weak_pairing(u, v, self.name)


L1, L2, LInf = Plain("l1"), Plain("l2"), Plain("linf")


@dataclass(frozen=True, eq=False)
class Weighted(Norm):
    """A norm whose entries, or rows, are weighted: ``Weighted(L2, degree)`` is ``(Σ_i d_i ‖x_i‖²)^½``.

    Attributes:
        base: the norm without the weights.
        weight: w > 0, of the shape of the state or ``[n]``, one for each row.
        name: ``"l2-degree"`` where the weights are degrees.
    """

    base: Plain
    weight: Tensor
    name: str = ""

    def __post_init__(self) -> None:
        """Name it."""
        if not self.name:
            object.__setattr__(self, "name", f"weighted {self.base}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Weighted) or self.kind != other.kind or self.weight.shape != other.weight.shape:
            return False
        return self.weight is other.weight or bool((self.weight == other.weight).all())

    def __hash__(self) -> int:
        return hash((self.kind, self.weight.shape))

    @property
    def kind(self) -> Family:  # type: ignore[override]
        """That of the base."""
        return self.base.kind

    def __call__(self, x: Tensor) -> Tensor:
        """``‖x‖``."""
        return vector_norm(x, self.base.name, weight=self.weight)

    def dual(self, gradient: Tensor) -> Tensor:
        """See :class:`Norm`."""
        return _dual(gradient, self.base.name, self.weight)

    def pairing(self, u: Tensor, v: Tensor) -> Tensor:
        """See :class:`Norm`."""
        return weak_pairing(u, v, self.base.name, weight=self.weight)


def as_norm(norm: str | Norm, weight: Tensor | None = None) -> Norm:
    """A norm given by name, or as an object.

    Args:
        norm: a name of the module's table, or an object, which is returned.
        weight: for a name.

    Raises:
        ValueError: for an unknown name, or weights that are missing.
    """
    if isinstance(norm, Norm):
        return norm
    if weight is None:
        return Plain(norm)
    return Weighted(Plain(family(norm)), weight, norm)
