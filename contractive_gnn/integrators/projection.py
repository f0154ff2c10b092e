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
from contractive_gnn.integrators.scheme import Field, Scheme, Solve, Time, register_scheme, solver


@dataclass(frozen=True)
class Projection(Scheme):
    """A step of ``inner``, projected.

    Attributes:
        inner: the scheme of the step, by name.
        dim: the axes of one sample; the others are batch axes, and each sample has its own invariant.
    """

    inner: str = "heun"
    dim: tuple[int, ...] = (-1,)

    @property
    def order(self) -> int:  # type: ignore[override]
        """That of the inner scheme, on a field that conserves the invariant."""
        return solver(self.inner).order

    @property
    def explicit(self) -> bool:
        """That of the inner scheme."""
        return solver(self.inner).explicit

    def lacks(self, field: Field) -> str:
        """What the inner scheme needs."""
        return solver(self.inner).lacks(field)

    def keeps(self, field: Field) -> frozenset[Invariant]:
        """The projection's own invariant, whatever the field."""
        return self.preserves

    def advance(self, field: Field, x: Tensor, t: Time, h: Time, solve: Solve) -> Tensor:
        """The inner step, projected."""
        return self.project(solver(self.inner).advance(field, x, t, h, solve), x)

    def project(self, y: Tensor, x: Tensor) -> Tensor:
        """The state nearest to y with the invariant of x."""
        raise NotImplementedError(f"{type(self).__name__} must define project(y, x)")


@dataclass(frozen=True)
class SphereProjection(Projection):
    r"""``x⁺ = y ‖x‖₂/‖y‖₂`` of each sample, y being the inner step.

    Attributes:
        inner: the scheme of the step, by name.
        dim: the axes of one sample: ``(-1,)`` for vectors, ``(-3, -2, -1)`` for images.

    Raises:
        ConvergenceError: in a step, where y = 0 and x is not: no point of the sphere is nearest.

    Example:
        ``integrate(field, images, step=0.1, num_steps=10, scheme=SphereProjection("rk4", dim=(-3, -2, -1)))``
    """

    name: str = "sphere-projection"

    preserves = frozenset[Invariant]({"norm"})

    def project(self, y: Tensor, x: Tensor) -> Tensor:
        """``y ‖x‖/‖y‖``; the origin is a sphere of its own."""
        wanted, found = (torch.linalg.vector_norm(z, dim=self.dim, keepdim=True) for z in (x, y))
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
        dim: the axes of one sample.
    """

    name: str = "mass-projection"

    preserves = frozenset[Invariant]({"mass"})

    def project(self, y: Tensor, x: Tensor) -> Tensor:
        """Take the same amount off every entry."""
        return y - (y - x).mean(dim=self.dim, keepdim=True)


@dataclass(frozen=True)
class LinearProjection(Projection):
    r"""``x⁺ = y − w ⟨w, y − x⟩/‖w‖²`` along the last axis, y being the inner step: the linear invariant ``⟨w, x⟩``.

    Attributes:
        inner: the scheme of the step, by name.
        dim: ``(-1,)``.
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
        if self.dim != (-1,):
            raise ValueError(f"a linear projection acts along the last axis, dim=(-1,), got {self.dim}")

    def project(self, y: Tensor, x: Tensor) -> Tensor:
        """Take off what lies along w."""
        if x.size(-1) != len(self.weights):
            raise ValueError(
                f"{len(self.weights)} weights need states of shape [..., {len(self.weights)}], got {list(x.shape)}"
            )
        w = x.new_tensor(self.weights)
        return y - ((y - x) @ w).unsqueeze(-1) * w / (w @ w)


register_scheme(SphereProjection())
register_scheme(MassProjection())
