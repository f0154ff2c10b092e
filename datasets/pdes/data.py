"""Solutions of partial differential equations on a grid, as a data set."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from contractive_gnn.checks import check_real


@dataclass(frozen=True, eq=False)
class PixelData:
    """Solutions at the points of a grid and at equal distances of time.

    Attributes:
        states: floating point ``[solutions, times, fields, N₁, …, N_d]``, finite; the first time is the start.
        step: δt > 0, between two times, in the unit of time.
        spacing: δx > 0, between two points, in the unit of length.
        name: of the equation, with how the solutions were drawn.

    Raises:
        TypeError: for states that are not floating point.
        ValueError: for another number of axes, fewer than two times, no solution, values that are not finite, and
            distances that are not positive.
    """

    states: Tensor
    step: float
    spacing: float
    name: str

    def __post_init__(self) -> None:
        check_real("step", self.step, above=0)
        check_real("spacing", self.spacing, above=0)
        if not (isinstance(self.states, Tensor) and self.states.is_floating_point()):
            raise TypeError(f"states must be a floating point tensor, got {self.states!r}")
        if self.states.dim() not in (4, 5, 6) or 0 in self.states.shape or self.states.size(1) < 2:
            raise ValueError(
                "states must be [solutions, times, fields, N₁, …] with two times or more and a grid of one to three "
                f"axes, got {list(self.states.shape)}"
            )
        if not bool(torch.isfinite(self.states).all()):
            raise ValueError(f"the solutions of {self.name} are not finite: one of them blew up")

    def __len__(self) -> int:
        """The number of solutions."""
        return self.states.size(0)

    @property
    def steps(self) -> int:
        """How many steps there are after the start."""
        return self.states.size(1) - 1

    @property
    def fields(self) -> int:
        """How many values there are at a point."""
        return self.states.size(2)

    @property
    def size(self) -> tuple[int, ...]:
        """``(N₁, …, N_d)``."""
        return tuple(self.states.shape[3:])

    @property
    def digest(self) -> str:
        """SHA-256 of the states: another one for other data."""
        values = self.states.detach().cpu().contiguous()
        return hashlib.sha256(values.numpy().tobytes()).hexdigest()

    def to(self, dtype: torch.dtype) -> PixelData:
        """The same in another precision."""
        return replace(self, states=self.states.to(dtype))

    def subset(self, which: slice, *, steps: int | None = None) -> PixelData:
        """Some of the solutions, and with ``steps`` so many of their steps.

        Args:
            which: of the solutions.
            steps: at least 1 and at most those that there are; None for all.

        Raises:
            ValueError: there are fewer steps, or no solution is left.
        """
        if steps is not None and not 1 <= steps <= self.steps:
            raise ValueError(f"steps must be from 1 to {self.steps}, got {steps!r}")
        return replace(self, states=self.states[which, : None if steps is None else steps + 1])
