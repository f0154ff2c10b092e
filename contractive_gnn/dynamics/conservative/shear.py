r"""Half of the state moved by a function of the other half: a shear, the part that splittings are made of."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_whole
from contractive_gnn.dynamics.energy import Energy, check_energy
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.dynamics.layer import Layer
from contractive_gnn.dynamics.spectrum import smoothness
from contractive_gnn.integrators import Invariant
from contractive_gnn.norms import L2, number


class EnergyGradient(nn.Module):
    """``x ↦ ∇E(x)``, or ``−∇E(x)``.

    Args:
        energy: E.
        descent: whether to take ``−∇E``.

    Raises:
        TypeError: for something that is no energy.
    """

    def __init__(self, energy: Energy, *, descent: bool = False) -> None:
        super().__init__()
        check_energy("energy", energy)
        self.energy, self.descent = energy, descent

    def forward(self, x: Tensor) -> Tensor:
        """``±∇E(x)``."""
        slope = self.energy.gradient(x)
        return -slope if self.descent else slope

    def lipschitz(self) -> Tensor | float:
        """The largest size of an eigenvalue of the Hessian, ``inf`` where no bound of them is known."""
        return largest_size(*self.energy.curvature())


class HalfShear(VectorField):
    r"""One part of the state ``x = (u | v)`` moved by a function of the other, which stays.

    .. math::
        \dot u = f(v),\ \dot v = 0 \qquad\text{or}\qquad \dot u = 0,\ \dot v = f(u)

    DX has one block off the diagonal, so that ``trace DX = 0`` and ``DX·X = 0``: a step of any length is the exact
    flow, and keeps the volume. Where f is a gradient of an energy and the parts have the same length, Df is symmetric,
    and the step keeps the symplectic form too. With f L-Lipschitz the log norm is L/2 at most, and the step has the
    largest singular value of ``[[1, hL], [0, 1]]`` at most.

    Args:
        force: f, as for :class:`CouplingField`.
        moves: the part that moves.
        split: the length of u; None for half of the last axis.

    Shapes:
        ``[..., d]``.

    Raises:
        TypeError: for something else than a module.
        ValueError: for another part, or a length below 1; (called) where the state cannot be split so, or f gives
            another shape than the part that it moves.
    """

    shear = True

    def __init__(self, force: nn.Module, *, moves: Literal["first", "second"], split: int | None = None) -> None:
        super().__init__()
        if not isinstance(force, nn.Module):
            raise TypeError(f"force must be a module that takes one part of the state, got {type(force).__name__}")
        if moves not in ("first", "second"):
            raise ValueError(f"moves must be 'first' or 'second', got {moves!r}")
        if split is not None:
            check_whole("split", split, least=1)
        self.force, self.moves, self.split = force, moves, split

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """``(f(v) | 0)``, or ``(0 | f(u))``."""
        u, v = halves(x, self.split)
        if self.moves == "first":
            return torch.cat([pushed(self.force, v, t, like=u), torch.zeros_like(v)], dim=-1)
        return torch.cat([torch.zeros_like(u), pushed(self.force, u, t, like=v)], dim=-1)

    @property
    def conserves(self) -> frozenset[Invariant]:  # type: ignore[override]
        """The volume, and of equal halves and a gradient the symplectic form."""
        canonical = isinstance(self.force, EnergyGradient) and self.split is None
        return frozenset({"symplectic", "volume"}) if canonical else frozenset({"volume"})

    def field_lipschitz(self) -> Tensor | float:
        """L."""
        return force_lipschitz(self.force)

    def rate(self) -> Tensor | float:
        """``−L/2``: the symmetric part of ``[[0, Df], [0, 0]]``."""
        return -self.field_lipschitz() / 2

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        """``‖[[1, hL], [0, 1]]‖``, for every h."""
        return sheared(step * self.field_lipschitz())

    def anchored(self, anchor: Tensor) -> VectorField:
        """The shear whose force is anchored; itself where it has none."""
        own = halves(anchor, self.split)[1 if self.moves == "first" else 0]
        force = force_anchored(self.force, own)
        return self if force is self.force else HalfShear(force, moves=self.moves, split=self.split)

    @property
    def anchor_lipschitz(self) -> float:
        """That of the force, ``inf`` where it is one in another norm than ℓ2."""
        constant = self.force.anchor_lipschitz if isinstance(self.force, VectorField) else 0.0
        return constant if constant == 0 or self.force.norm == L2 else math.inf

    @property
    def certified(self) -> bool:
        """Whether the constants of the force are proved."""
        return force_certified(self.force)

    def extra_repr(self) -> str:
        """Show what moves."""
        return f"moves={self.moves!r}" + (f", split={self.split}" if self.split is not None else "")


def halves(x: Tensor, split: int | None) -> tuple[Tensor, Tensor]:
    """The two parts of the last axis.

    Args:
        x: ``[..., d]``.
        split: the length of the first part; None for d/2.

    Raises:
        ValueError: where there are no such parts.
    """
    length = x.size(-1) if x.dim() else 0
    if split is None and (length < 2 or length % 2):
        raise ValueError(f"a state of two halves has an even last axis, got shape {list(x.shape)}")
    if split is not None and length <= split:
        raise ValueError(f"a state of two parts, the first of length {split}, is longer: got shape {list(x.shape)}")
    first = length // 2 if split is None else split
    return x[..., :first], x[..., first:]


def pushed(force: nn.Module, x: Tensor, t: Tensor | float, *, like: Tensor) -> Tensor:
    """``f(x, t)`` of the shape of ``like``; t is given to a vector field alone."""
    value: Tensor = force(x, t) if isinstance(force, VectorField) else force(x)
    if value.shape != like.shape:
        raise ValueError(
            f"a force must give the shape of the part that it moves, {list(like.shape)}: {type(force).__name__} takes "
            f"{list(x.shape)} to {list(value.shape)}"
        )
    return value


def force_lipschitz(force: nn.Module) -> Tensor | float:
    """A Lipschitz constant of a force in ℓ2, ``inf`` where none is known: where it has one in another norm, too."""
    if isinstance(force, VectorField) and force.norm == L2:
        return force.field_lipschitz()
    if isinstance(force, EnergyGradient):
        return force.lipschitz()
    if isinstance(force, Layer) and force.operator.input_norm == L2:
        return smoothness(force.sigma, force.operator.norm_bound())
    return math.inf


def force_certified(force: nn.Module) -> bool:
    """Whether what :func:`force_lipschitz` gives is proved."""
    if isinstance(force, VectorField | Layer):
        return force.certified
    return force.energy.certified if isinstance(force, EnergyGradient) else True


def force_anchored(force: nn.Module, anchor: Tensor) -> nn.Module:
    """The force with another anchor; itself where it has none."""
    return force.anchored(anchor) if isinstance(force, VectorField) else force


def force_state(force: nn.Module, generator: torch.Generator | None) -> Tensor | None:
    """A random argument of a force in float64, None where it does not say what it takes."""
    if isinstance(force, VectorField):
        return force.state(generator=generator)
    if isinstance(force, Layer):
        return force.state(generator)
    if isinstance(force, EnergyGradient) and force.energy.dim is not None:
        return torch.randn(4, force.energy.dim, dtype=torch.float64, generator=generator)
    return None


def largest_size(*values: Tensor | float) -> Tensor | float:
    """The largest of ``|v|``; a scalar tensor where one of them is finite and a tensor."""
    sizes: list[Tensor | float] = [value.abs() if isinstance(value, Tensor) else abs(value) for value in values]
    return max(sizes, key=number)


def sheared(length: Tensor | float, like: Tensor | None = None) -> Tensor | float:
    """``‖[[1, s], [0, 1]]‖₂ = s/2 + (1 + s²/4)^½``.

    Args:
        length: s ≥ 0.
        like: the result is a scalar tensor of its dtype, on its device; None for what s is.
    """
    half = (length if like is None else torch.as_tensor(length, dtype=like.dtype, device=like.device)) / 2
    root = torch.hypot(torch.ones_like(half), half) if isinstance(half, Tensor) else math.hypot(1.0, half)
    return half + root


def moved(step: Tensor | float, growth: Tensor | float, constant: Tensor | float) -> Tensor | float:
    r"""``(1 + 2hm + h²L²)^½``, a Lipschitz constant of an Euler step of a field that is L-Lipschitz in ℓ2.

    ``‖Δx + hΔX‖² = ‖Δx‖² + 2h⟨Δx, ΔX⟩ + h²‖ΔX‖²``, with ``⟨Δx, ΔX⟩ ≤ m‖Δx‖²``.

    Args:
        step: h > 0.
        growth: m, a bound of the log norm.
        constant: L.
    """
    if number(constant) == math.inf:
        return math.inf
    return (1.0 + 2 * step * growth + (step * constant) ** 2) ** 0.5
