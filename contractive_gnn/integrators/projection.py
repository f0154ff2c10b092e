r"""Projection methods: a step of another scheme, and then the nearest state with the invariant of the step's start.

Where the exact flow keeps the invariant, the order is that of the other scheme (Hairer, Lubich, Wanner, *Geometric
Numerical Integration*, 2006, section IV.4). On another field the step imposes the invariant: it follows, with order 1,
the field less its part that changes the invariant. That is how a learned field is made to keep a norm.

A projected step is not proved to be contractive, whatever the field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from contractive_gnn.integrators.errors import ConvergenceError
from contractive_gnn.integrators.invariants import Invariant
from contractive_gnn.integrators.scheme import (
    Field,
    Scheme,
    Solve,
    StructuredField,
    Time,
    register_scheme,
    solver,
    title,
)


@dataclass(frozen=True)
class Projection(Scheme):
    """A step of ``inner``, projected.

    Attributes:
        inner: the scheme of the step, by name.
        dim: the axes of one invariant, such as ``(-3, -2, -1)`` for images; the others are batch axes. None: the
            field's :attr:`~contractive_gnn.dynamics.VectorField.invariant_axes`, for a plain function the last one.

    Raises:
        ValueError: on a field that does not know its axes, where ``dim`` is None, and one that keeps the invariant
            along other axes than ``dim``: the projection would follow another equation.
    """

    inner: str = "heun"
    dim: tuple[int, ...] | None = None

    @property
    def order(self) -> int:  # type: ignore[override]
        """That of the inner scheme, on a field that conserves the invariant."""
        return solver(self.inner).order

    @property
    def explicit(self) -> bool:
        """That of the inner scheme."""
        return solver(self.inner).explicit

    def lacks(self, field: Field) -> str:
        """What the inner scheme needs, and the axes of the invariant."""
        if missing := solver(self.inner).lacks(field):
            return missing
        own = field.invariant_axes if isinstance(field, StructuredField) else (-1,)
        if self.dim is None:
            unknown = f"the axes of one invariant, which {title(field)} does not know: dim=(-1,) for vectors, say, or "
            return unknown + "dim=(-3, -2, -1) for images" if own is None else ""
        kept = self.preserves & field.conserves if isinstance(field, StructuredField) else ()
        if kept and own is not None and set(own) != set(self.dim):
            return (
                f"dim={own}, the axes along which {title(field)} keeps the {', '.join(sorted(kept))}, or none: with "
                f"dim={self.dim} it would follow another equation"
            )
        return ""

    def keeps(self, field: Field) -> frozenset[Invariant]:
        """The projection's own invariant, whatever the field."""
        return self.preserves

    def advance(self, field: Field, x: Tensor, t: Time, h: Time, solve: Solve) -> Tensor:
        """The inner step, projected."""
        return self.project(solver(self.inner).advance(field, x, t, h, solve), x, self.axes(field))

    def axes(self, field: Field) -> tuple[int, ...]:
        """The axes of one invariant on this field, which has passed :meth:`check`."""
        own = field.invariant_axes if isinstance(field, StructuredField) else None
        return self.dim or own or (-1,)

    def project(self, y: Tensor, x: Tensor, dim: tuple[int, ...]) -> Tensor:
        """The state nearest to y with the invariant of x, of each entry of the axes that are not in ``dim``."""
        raise NotImplementedError(f"{type(self).__name__} must define project(y, x, dim)")


@dataclass(frozen=True)
class SphereProjection(Projection):
    r"""``x⁺ = y ‖x‖₂/‖y‖₂`` of each sample, y being the inner step.

    Attributes:
        inner: the scheme of the step, by name.
        dim: the axes of one sample: ``(-1,)`` for vectors, ``(-3, -2, -1)`` for images; None for the field's own.

    Raises:
        ConvergenceError: in a step, where y = 0 and x is not: no point of the sphere is nearest.
        ValueError: see :class:`Projection`.

    Example:
        ``integrate(field, images, step=0.1, num_steps=10, scheme=SphereProjection("rk4", dim=(-3, -2, -1)))``
    """

    name: str = "sphere-projection"

    preserves = frozenset[Invariant]({"norm"})

    def project(self, y: Tensor, x: Tensor, dim: tuple[int, ...]) -> Tensor:
        """``y ‖x‖/‖y‖``; the origin is a sphere of its own."""
        wanted, found = (torch.linalg.vector_norm(z, dim=dim, keepdim=True) for z in (x, y))
        zero = found == 0
        lost = (zero & (wanted > 0)).any()
        message = "a step ended at the origin, from where no point of the sphere is nearest: take a shorter step"
        if torch.compiler.is_compiling():  # a trace cannot branch on a value
            torch._assert_async(~lost, message)
        elif lost:
            raise ConvergenceError(message)
        projected: Tensor = y * (wanted / torch.where(zero, 1.0, found))
        return projected


@dataclass(frozen=True)
class MassProjection(Projection):
    r"""``x⁺ = y − (Σy − Σx)/d`` of each sample of d entries, y being the inner step: the linear invariant ``1ᵀx``.

    Attributes:
        inner: the scheme of the step, by name.
        dim: the axes of one sample; None for the field's own.

    Raises:
        ValueError: see :class:`Projection`.
    """

    name: str = "mass-projection"

    preserves = frozenset[Invariant]({"mass"})

    def project(self, y: Tensor, x: Tensor, dim: tuple[int, ...]) -> Tensor:
        """Take the same amount off every entry."""
        return y - (y - x).mean(dim=dim, keepdim=True)


@dataclass(frozen=True)
class LinearProjection(Projection):
    r"""``x⁺ = y − w ⟨w, y − x⟩/‖w‖²`` along the last axis, y being the inner step: the linear invariant ``⟨w, x⟩``.

    Attributes:
        inner: the scheme of the step, by name.
        dim: ``(-1,)``, or None for it.
        weights: w, one for each entry of the last axis.

    Raises:
        ValueError: for weights that are all 0 or not finite, or another axis; in a step, for a state of another length.

    Example:
        ``LinearProjection("heun", weights=(2.0, 1.0, 1.0))`` keeps the atoms where ``2 x_1 + x_2 + x_3`` counts them.
    """

    name: str = "linear-projection"
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse weights that are no direction."""
        if not any(self.weights) or not all(map(math.isfinite, self.weights)):
            raise ValueError(f"weights must be finite numbers, not all of them 0, got {self.weights}")
        if self.dim not in (None, (-1,)):
            raise ValueError(f"a linear projection acts along the last axis, dim=(-1,), got {self.dim}")

    def axes(self, field: Field) -> tuple[int, ...]:
        """The last one: the field knows nothing of w."""
        return (-1,)

    def project(self, y: Tensor, x: Tensor, dim: tuple[int, ...]) -> Tensor:
        """Take off what lies along w."""
        if x.size(-1) != len(self.weights):
            raise ValueError(
                f"{len(self.weights)} weights need states of shape [..., {len(self.weights)}], got {list(x.shape)}"
            )
        w = x.new_tensor(self.weights)
        return y - ((y - x) @ w).unsqueeze(-1) * w / (w @ w)


register_scheme(SphereProjection())
register_scheme(MassProjection())
