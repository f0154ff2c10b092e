r"""Splitting methods: the flows of a field's parts, one after the other.

Let ``X = X_1 + … + X_m``. A step composes the flows ``φ_i`` of the parts, each over a part of h (Hairer, Lubich,
Wanner, *Geometric Numerical Integration*, 2006, sections II.4 and II.5):

* Lie–Trotter, order 1: ``φ_m(h) ∘ … ∘ φ_1(h)``;
* Strang, order 2: half steps of the parts 1 … m − 1, a whole one of part m, and the half steps back.

A part that is a shear (``DX_i·X_i = 0``) has the flow ``x + hX_i(x)``, to rounding. Another part is stepped by the
sub-scheme ``inner``. What every flow keeps, the step keeps: a composition of maps that keep the volume keeps it. The
energy of the whole is none of these. Where a part depends on time, its time is held at the middle of the step, which
costs no order up to 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from contractive_gnn.integrators.invariants import Invariant
from contractive_gnn.integrators.scheme import (
    Field,
    Scheme,
    Solve,
    StructuredField,
    Time,
    closed,
    register_scheme,
    solver,
    title,
    velocity,
)
from contractive_gnn.norms import Norm


@dataclass(frozen=True)
class _Held:
    """A part with its time held."""

    part: StructuredField
    time: Time

    @property
    def norm(self) -> Norm:
        return self.part.norm

    @property
    def conserves(self) -> frozenset[Invariant]:
        return self.part.conserves

    @property
    def invariant_axes(self) -> tuple[int, ...] | None:
        return self.part.invariant_axes

    @property
    def shear(self) -> bool:
        return self.part.shear

    def parts(self) -> tuple[StructuredField, ...]:
        return tuple(_Held(part, self.time) for part in self.part.parts())

    def rate(self) -> Tensor | float:
        return self.part.rate()

    def max_step(self) -> Tensor | float:
        return self.part.max_step()

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        return self.part.lipschitz(step)

    def field_lipschitz(self) -> Tensor | float:
        return self.part.field_lipschitz()

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        return self.part(x, self.time)


@dataclass(frozen=True)
class Splitting(Scheme):
    """A composition of the flows of a field's parts; a subclass says which, by :meth:`flows`.

    Attributes:
        name: its key in :data:`SCHEMES`.
        order: of convergence.
        inner: the sub-scheme, by name, for parts that are no shear.

    Raises:
        ValueError: for an unknown sub-scheme, or one of a lower order.
    """

    name: str
    order: int
    inner: str

    preserves = frozenset[Invariant]({"mass", "norm", "volume", "symplectic"})

    def __post_init__(self) -> None:
        """Refuse a sub-scheme that would spoil the order."""
        if solver(self.inner).order < self.order:
            raise ValueError(f"{self.name} has order {self.order} and needs a sub-scheme of it, got {self.inner!r}")

    def flows(self, count: int) -> list[tuple[int, float]]:
        """Which part flows for which share of h, in turn.

        Args:
            count: the number of parts.
        """
        raise NotImplementedError(f"{type(self).__name__} must define flows(count)")

    @property
    def explicit(self) -> bool:
        """That of the sub-scheme."""
        return solver(self.inner).explicit

    def lacks(self, field: Field) -> str:
        """Two parts at least, and what the sub-scheme needs of them."""
        parts = field.parts() if isinstance(field, StructuredField) else ()
        if len(parts) < 2:
            return f"a VectorField whose parts() are two or more summands, got {title(field)}, which is not split"
        missing = (solver(self.inner).lacks(part) for part in parts if not part.shear)
        return next(filter(None, missing), "")

    def advance(self, field: Field, x: Tensor, t: Time, h: Time, solve: Solve) -> Tensor:
        """One step; the field has passed :meth:`check`."""
        assert isinstance(field, StructuredField)
        parts = field.parts()
        middle = t + h / 2
        for index, share in self.flows(len(parts)):
            part, length = parts[index], h if share == 1 else share * h
            if part.shear:
                x = x + length * velocity(part, x, middle)
            else:
                x = solver(self.inner).advance(_Held(part, middle), x, middle, length, solve)
        return x

    def keeps(self, field: Field) -> frozenset[Invariant]:
        """What every part conserves and has kept by its own step."""
        if self.lacks(field):
            return frozenset()
        assert isinstance(field, StructuredField)
        kept = self.preserves
        for part in field.parts():
            kept &= closed(part.conserves) if part.shear else solver(self.inner).keeps(part)
        return closed(kept)

    def lipschitz(self, field: StructuredField, step: float) -> float:
        """The product over the parts' flows; ``inf`` where a part has another norm or no constant."""
        parts, constant = field.parts(), 1.0
        for index, share in self.flows(len(parts)):
            part = parts[index]
            if part.norm != field.norm:
                return math.inf
            own = solver("euler" if part.shear else self.inner)
            constant *= own.lipschitz(part, share * step)
        return constant


@dataclass(frozen=True)
class LieTrotter(Splitting):
    """``φ_m(h) ∘ … ∘ φ_1(h)``; sub-scheme Euler, so that a part that contracts does.

    Example:
        ``integrate(field, x, step=0.1, num_steps=10, scheme=LieTrotter(inner="implicit-midpoint"))``
    """

    name: str = "lie-trotter"
    order: int = 1
    inner: str = "euler"

    def flows(self, count: int) -> list[tuple[int, float]]:
        """Each part once."""
        return [(index, 1.0) for index in range(count)]


@dataclass(frozen=True)
class Strang(Splitting):
    """``φ_1(h/2) ∘ … ∘ φ_{m−1}(h/2) ∘ φ_m(h) ∘ φ_{m−1}(h/2) ∘ … ∘ φ_1(h/2)``; sub-scheme Heun."""

    name: str = "strang"
    order: int = 2
    inner: str = "heun"

    def flows(self, count: int) -> list[tuple[int, float]]:
        """There and back."""
        there = [(index, 0.5) for index in range(count - 1)]
        return [*there, (count - 1, 1.0), *reversed(there)]


register_scheme(LieTrotter())
register_scheme(Strang())
