r"""What a field declares that its flow keeps: identities of X, and what the schemes that promise it keep of it.

A field that has parts is also their sum.

=============  ==========================  =================================================
declared       identity at every x         why
=============  ==========================  =================================================
``mass``       ``⟨X(x), 1⟩ = 0``           the derivative of ``Σx``
``norm``       ``⟨X(x), x⟩ = 0``           that of ``‖x‖²/2``
``energy``     ``⟨X(x), ∇H(x)⟩ = 0``       that of ``H(x)``, where the field says what H is
``volume``     ``trace DX(x) = 0``         Liouville; ``symplectic`` implies it
``symplectic`` ``J DX(x)`` is symmetric    ``X = J∇H``, locally
``shear``      ``DX(x) X(x) = 0``          X is constant along its own flow
=============  ==========================  =================================================

Mass and norm are those of every entry of the axes that are not among the field's
:attr:`~contractive_gnn.dynamics.VectorField.invariant_axes`: of each sample, of each channel of a graph.

A scheme promises by :meth:`~contractive_gnn.integrators.Scheme.keeps` what a step of it keeps of the field. That is
tried on steps: mass, norm and energy of ten of them, and of one the determinant of its Jacobian M and ``MᵀJM = J``.
And a short step has to go where the field points, since one that stands still keeps everything.

Each residual is relative to the sizes of its terms, so that rounding leaves about 1e-16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import get_args

import torch
from torch import Tensor

from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.integrators import SCHEMES, ConvergenceError, Invariant, Scheme, integrate
from contractive_gnn.norms import jacobian
from contractive_gnn.testing.steps import canonical

Residual = Callable[[VectorField, Tensor, float], float]
"""``(field, x, t) ↦`` how far the identity is from holding, between 0 and 1."""

SHARE = 0.2
"""Steps are so long, in units of ``1/‖DX‖`` where they begin: far from the identity, and implicit ones converge."""

STEPS = 10
"""So many of them are looked at for a drift."""

SHORT, DEVIATION = 1e-4, 1e-2
"""Where a step that is so much shorter goes, and how far from where the field points it may be, relative."""


def identities(field: VectorField) -> Iterator[tuple[str, Residual]]:
    """The identities that follow from what ``field`` declares, in words, with their residuals.

    Raises:
        ValueError: for a field that conserves something that no identity is known for.
    """
    kept = field.conserves
    if strangers := sorted(set(kept) - set(get_args(Invariant))):
        raise ValueError(
            f"{type(field).__name__} conserves {', '.join(map(repr, strangers))}, which nothing here can try; a flow "
            f"may keep {', '.join(get_args(Invariant))}"
        )
    if len(field.parts()) > 1:
        yield "is the sum of its parts: ΣX_i = X", parts
    if "mass" in kept:
        yield "keeps the mass: ⟨X, 1⟩ = 0", mass
    if "norm" in kept:
        yield "keeps the norm: ⟨X, x⟩ = 0", norm
    if "energy" in kept:
        yield "keeps the energy: ⟨X, ∇H⟩ = 0", energy
    if kept & {"volume", "symplectic"}:
        yield "keeps the volume: trace DX = 0", volume
    if "symplectic" in kept:
        yield "keeps dq ∧ dp: J DX is symmetric", symplectic
    if field.shear:
        yield "a shear: DX·X = 0", shear


def parts(field: VectorField, x: Tensor, t: float) -> float:
    """``‖ΣX_i − X‖ / Σ‖X_i‖``."""
    values = torch.stack([part(x, t) for part in field.parts()]).flatten(1)
    missing = torch.linalg.vector_norm(values.sum(dim=0) - field(x, t).flatten())
    return _share(float(missing), float(torch.linalg.vector_norm(values, dim=1).sum()))


def mass(field: VectorField, x: Tensor, t: float) -> float:
    """``max |⟨X, 1⟩| / max Σ|X_i|`` over the masses of a state."""
    return _relative(field(x, t), _axes(field, x))


def norm(field: VectorField, x: Tensor, t: float) -> float:
    """``max |⟨X, x⟩| / max Σ|X_i x_i|`` over the norms of a state."""
    return _relative(field(x, t) * x, _axes(field, x))


def energy(field: VectorField, x: Tensor, t: float) -> float:
    """``|⟨X, ∇H⟩| / Σ|X_i (∇H)_i|``.

    Raises:
        NotImplementedError: where the field does not say what H is.
    """
    with torch.enable_grad():
        y = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(field.energy(y).sum(), y, materialize_grads=True)
    return _relative(field(x, t) * slope, tuple(range(x.dim())))


def volume(field: VectorField, x: Tensor, t: float) -> float:
    """``|trace DX| / ‖DX‖_F``: the diagonal alone may be rounding."""
    matrix = jacobian(lambda y: field(y, t), x)
    size = float(torch.linalg.matrix_norm(matrix))
    return _share(abs(float(matrix.trace())), size)


def symplectic(field: VectorField, x: Tensor, t: float) -> float:
    """``‖J DX − (J DX)ᵀ‖_F / ‖DX‖_F``; infinite where the last axis has no two halves."""
    if x.dim() == 0 or x.size(-1) % 2:
        return math.inf
    matrix = jacobian(lambda y: field(y, t), x)
    turned = canonical(matrix, split=tuple(x.shape))
    size = float(torch.linalg.matrix_norm(matrix))
    return _share(float(torch.linalg.matrix_norm(turned - turned.mT)), size)


def shear(field: VectorField, x: Tensor, t: float) -> float:
    """``‖DX·X‖ / (‖DX‖_F ‖X‖)``."""
    matrix, value = jacobian(lambda y: field(y, t), x), field(x, t).flatten()
    size = float(torch.linalg.matrix_norm(matrix)) * float(torch.linalg.vector_norm(value))
    return _share(float(torch.linalg.vector_norm(matrix @ value)), size)


def promises(field: VectorField) -> Iterator[tuple[str, Residual]]:
    """What each scheme promises to keep of a field that conserves it, in words, with its residual."""
    for scheme, kept in _keepers(field):
        yield f"{scheme.name} keeps: {', '.join(sorted(kept))}", partial(stepped, scheme=scheme, kept=kept)


def directions(field: VectorField) -> Iterator[tuple[str, Residual]]:
    """That each scheme goes along the field which promises to keep something that it conserves, with its residual."""
    for scheme, kept in _keepers(field):
        if kept & field.conserves:  # a projection keeps its invariant of every field, and leaves the others' flow
            yield f"{scheme.name} follows the field", partial(deviation, scheme=scheme)


def _keepers(field: VectorField) -> Iterator[tuple[Scheme, frozenset[Invariant]]]:
    """The schemes that promise to keep something of a field that conserves something, and what."""
    if not field.conserves:
        return
    for name in SCHEMES:
        scheme = SCHEMES.get(name)
        if not scheme.lacks(field) and (kept := scheme.keeps(field)):
            yield scheme, kept


def stepped(field: VectorField, x: Tensor, t: float, *, scheme: Scheme, kept: frozenset[Invariant]) -> float:
    """The largest relative violation of what a scheme keeps, by steps that begin at x and t.

    Args:
        field: X.
        x: the state.
        t: the time.
        scheme: whose steps they are.
        kept: what it promises.

    Raises:
        ConvergenceError: where an implicit step is not solved, however short.
    """
    h = step_from(field, x, t)
    for shorter in range(6):
        try:
            return _violated(field, x, t, h=h / 4**shorter, scheme=scheme, kept=kept)
        except ConvergenceError:
            if shorter == 5:
                raise
    raise AssertionError("unreachable")


def deviation(field: VectorField, x: Tensor, t: float, *, scheme: Scheme) -> float:
    """``‖(Φ_h(x) − x)/h − X‖ / (‖X‖ + ‖DX‖‖x‖)`` of a short step, by how much it exceeds :data:`DEVIATION`."""
    matrix, value = jacobian(lambda y: field(y, t), x), field(x, t)
    slope = float(torch.linalg.matrix_norm(matrix, 2))
    h = SHORT * SHARE / max(slope, 1.0)
    moved = (integrate(field, x, step=h, num_steps=1, scheme=scheme, t0=t) - x) / h
    size = float(torch.linalg.vector_norm(value)) + slope * float(torch.linalg.vector_norm(x))
    return max(_share(float(torch.linalg.vector_norm(moved - value)), size) - DEVIATION, 0.0)


def step_from(field: VectorField, x: Tensor, t: float) -> float:
    """``0.2/‖DX(x, t)‖₂``, 1 where DX is 0."""
    size = float(torch.linalg.matrix_norm(jacobian(lambda y: field(y, t), x), 2))
    return SHARE / size if size > 0 else 1.0


def _violated(
    field: VectorField, x: Tensor, t: float, *, h: float, scheme: Scheme, kept: frozenset[Invariant]
) -> float:
    found = 0.0
    if kept & {"mass", "norm", "energy"}:
        axes = _axes(field, x)
        y = integrate(field, x, step=h, num_steps=STEPS, scheme=scheme, t0=t)
        if "mass" in kept:
            size = max(float(z.abs().sum(dim=axes).max()) for z in (x, y))
            found = max(found, _share(float((y.sum(dim=axes) - x.sum(dim=axes)).abs().max()), size))
        if "norm" in kept:
            before, after = (torch.linalg.vector_norm(z, dim=axes) for z in (x, y))
            found = max(found, _share(float((after - before).abs().max()), float(before.max())))
        if "energy" in kept:
            energies = field.energy(x), field.energy(y)
            size = max(1.0, float(energies[0].abs().max()))
            found = max(found, _share(float((energies[1] - energies[0]).abs().max()), size))
    if kept & {"volume", "symplectic"}:
        matrix = jacobian(lambda z: integrate(field, z, step=h, num_steps=1, scheme=scheme, t0=t), x)
        if "volume" in kept:  # the determinant errs by the product of the lengths of the rows (Hadamard)
            size = float(torch.linalg.vector_norm(matrix, dim=-1).log().sum().exp())
            found = max(found, _share(abs(float(torch.linalg.det(matrix)) - 1.0), max(size, 1.0)))
        if "symplectic" in kept:
            if x.size(-1) % 2:
                return math.inf
            split = tuple(x.shape)
            form = canonical(torch.eye(x.numel(), dtype=x.dtype), split=split)
            defect = matrix.mT @ canonical(matrix, split=split) - form
            size = float(torch.linalg.matrix_norm(matrix).square())
            found = max(found, _share(float(torch.linalg.matrix_norm(defect)), max(size, 1.0)))
    return found


def _axes(field: VectorField, x: Tensor) -> tuple[int, ...]:
    """Those of one invariant; of a field that does not know them the whole state has one."""
    return tuple(range(x.dim())) if field.invariant_axes is None else field.invariant_axes


def _relative(terms: Tensor, axes: tuple[int, ...]) -> float:
    """The largest sum by the largest sum of sizes: a sum of small terms may be rounding."""
    return _share(float(terms.sum(dim=axes).abs().max()), float(terms.abs().sum(dim=axes).max()))


def _share(part: float, whole: float) -> float:
    """``part/whole``, 0 of nothing; a NaN keeps no promise."""
    if math.isnan(part) or math.isnan(whole):
        return math.inf
    return part / whole if whole > 0 else 0.0
