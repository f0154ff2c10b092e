r"""Couplings: two parts of the state, each moved by a function of the other. They keep the volume."""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn

from contractive_gnn.dynamics.conservative.shear import (
    HalfShear,
    force_state,
    halves,
    largest_size,
    pushed,
)
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.integrators import Invariant
from contractive_gnn.norms import number


class CouplingField(VectorField):
    r"""Two parts of the state ``x = (u | v)``, each moved by a function of the other.

    .. math::
        \dot u = f(v), \qquad \dot v = g(u)

    DX has no block on its diagonal: ``trace DX = 0``, so the flow keeps the volume (Liouville). Explicit Runge–Kutta
    schemes do not. Its :meth:`parts` are shears, which keep it to rounding, so ``"lie-trotter"``, ``"strang"``,
    ``"symplectic-euler"`` and ``"stormer-verlet"`` do. With ``f = σ(A· + a)`` and ``g = σ(B· + b)`` these are the
    volume-preserving networks of Celledoni et al., *Dynamical systems-based neural networks*, SISC 2023, section 4.

    With f and g Lipschitz with the constants ``L_f`` and ``L_g`` in ℓ2 the field is ``max(L_f, L_g)``-Lipschitz, its
    log norm is at most ``(L_f + L_g)/2``, and an Euler step has the largest singular value of
    ``[[1, hL_f], [hL_g, 1]]`` at most. No step is known to contract.

    Args:
        first: f, which moves u: any module that takes v to the shape of u, a
            :class:`~contractive_gnn.dynamics.layer.Layer`, a :class:`~contractive_gnn.dynamics.VectorField` (which gets
            the time too, and whose anchor is the anchor's second part) or a network of your own, of which no constant
            is known.
        second: g, which moves v, likewise.
        split: the length of u; None for half of the last axis.

    Shapes:
        ``[..., d]``: u and v are parts of the last axis.

    Raises:
        TypeError: for something else than a module.
        ValueError: for a length below 1; (called) where the state cannot be split so, or a function gives another shape
            than the part that it moves.

    Example:
        >>> import torch
        >>> from contractive_gnn.dynamics.layer import Layer
        >>> from contractive_gnn.integrators import integrate
        >>> from contractive_gnn.operators import Dense
        >>> f, g = Layer(Dense(torch.randn(2, 1)), "tanh"), Layer(Dense(torch.randn(1, 2)), "tanh")
        >>> field = CouplingField(f, g, split=2)
        >>> integrate(field, torch.randn(5, 3), step=0.1, num_steps=10, scheme="strang").shape
        torch.Size([5, 3])
    """

    conserves = frozenset[Invariant]({"volume"})

    def __init__(self, first: nn.Module, second: nn.Module, *, split: int | None = None) -> None:
        super().__init__()
        self.shears = nn.ModuleList(
            [HalfShear(first, moves="first", split=split), HalfShear(second, moves="second", split=split)]
        )
        self.split = split

    @property
    def first(self) -> nn.Module:
        """F, which moves the first part."""
        return self._shear(0).force

    @property
    def second(self) -> nn.Module:
        """G, which moves the second part."""
        return self._shear(1).force

    def _shear(self, index: Literal[0, 1]) -> HalfShear:
        shear = self.shears[index]
        assert isinstance(shear, HalfShear)
        return shear

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """``(f(v) | g(u))``."""
        u, v = halves(x, self.split)
        return torch.cat([pushed(self.first, v, t, like=u), pushed(self.second, u, t, like=v)], dim=-1)

    def parts(self) -> tuple[VectorField, ...]:
        """The shear that moves u, and the one that moves v."""
        return self._shear(0), self._shear(1)

    def _constants(self) -> tuple[Tensor | float, Tensor | float]:
        return self._shear(0).field_lipschitz(), self._shear(1).field_lipschitz()

    def field_lipschitz(self) -> Tensor | float:
        """``max(L_f, L_g)``."""
        return largest_size(*self._constants())

    def rate(self) -> Tensor | float:
        """``−(L_f + L_g)/2``."""
        first, second = self._constants()
        return -(first + second) / 2

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        """The largest singular value of ``[[1, hL_f], [hL_g, 1]]``, for every h: the norm of the matrix of norms."""
        first, second = (step * constant for constant in self._constants())
        if math.inf in (number(first), number(second)):
            return math.inf
        # σ² = (N + √(N² − 4D²))/2 with N = ‖·‖_F² and the determinant D = 1 − h²L_f L_g; N² − 4D² as a product of sums
        total = 2.0 + first * first + second * second
        root = (first + second) * (4.0 + (first - second) * (first - second)) ** 0.5
        return ((total + root) / 2) ** 0.5

    def anchored(self, anchor: Tensor) -> VectorField:
        """The coupling of the anchored functions; itself where neither has an anchor."""
        parts = self.parts()
        bound = [part.anchored(anchor) for part in parts]
        if all(new is old for new, old in zip(bound, parts, strict=True)):
            return self
        field = copy.copy(self)  # of a subclass, with all that it holds beside; no trace takes a copy
        field._modules = {**self._modules, "shears": nn.ModuleList(bound)}
        return field

    @property
    def anchor_lipschitz(self) -> float:
        """The larger of theirs: each moves its own part."""
        return max(part.anchor_lipschitz for part in self.parts())

    @property
    def certified(self) -> bool:
        """Whether the constants of both functions are proved."""
        return all(part.certified for part in self.parts())

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """A random state in float64, of what the functions take.

        Raises:
            NotImplementedError: where they do not say it.
        """
        v, u = (force_state(force, generator) for force in (self.first, self.second))
        if u is None or v is None or u.shape[:-1] != v.shape[:-1]:
            return super().state(generator=generator)
        return torch.cat([u, v], dim=-1)

    def extra_repr(self) -> str:
        """Show the split."""
        return "" if self.split is None else f"split={self.split}"
