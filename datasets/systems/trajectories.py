"""Trajectories at equally spaced times."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.datasets.errors import InvalidTrajectoriesError


@dataclass(frozen=True, eq=False)
class Trajectories:
    """States of several trajectories at the times 0, δ, 2δ, ….

    Attributes:
        states: float64 or float32 ``[n, times, *shape]`` with n ≥ 1 and times ≥ 2; a state has any shape: ``[d]`` for a
            system of ordinary equations, ``[c, H, W]`` for pixels.
        step: δ > 0, the time between two states.
        name: of the set.
        noise: standard deviation of what was added to each entry.

    Raises:
        InvalidTrajectoriesError: states of another shape or type, or that are not finite.
        ValueError: a step that is not positive, or a negative noise.

    Example:
        >>> import torch
        >>> circle = torch.linspace(0, 6, 7, dtype=torch.float64)[None, :, None]
        >>> data = Trajectories(torch.cat([circle.cos(), circle.sin()], dim=2), step=1.0, name="circle")
        >>> data.windows(3).shape
        torch.Size([5, 3, 2])
    """

    states: Tensor
    step: float
    name: str
    noise: float = 0.0

    def __post_init__(self) -> None:
        states = self.states
        if not isinstance(states, Tensor) or states.dtype not in (torch.float32, torch.float64):
            given = states.dtype if isinstance(states, Tensor) else type(states).__name__
            raise InvalidTrajectoriesError(f"states are {given}; expected a tensor of float64 or float32")
        if states.dim() < 3 or states.size(1) < 2 or not states.numel():
            raise InvalidTrajectoriesError(
                f"states have shape {list(states.shape)}; expected [n, times, *shape] with at least two times; of a "
                "single trajectory [times, d] give states[None]"
            )
        if not bool(torch.isfinite(states).all()):
            raise InvalidTrajectoriesError(f"states of {self.name} are not finite: the solution blew up, or data lack")
        check_real("step", self.step, above=0)
        check_real("noise", self.noise, least=0)

    def __len__(self) -> int:
        return len(self.states)

    @property
    def num_steps(self) -> int:
        """How many steps a trajectory has: one less than its times."""
        return self.states.size(1) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        """That of a state."""
        return tuple(self.states.shape[2:])

    @property
    def times(self) -> Tensor:
        """``0, δ, 2δ, …``, float64 ``[times]``."""
        return self.step * torch.arange(self.states.size(1), dtype=torch.float64)

    def subset(self, indices: Tensor | Sequence[int] | slice, *, name: str | None = None) -> Trajectories:
        """The chosen trajectories, under a name of their own where one is given."""
        return replace(self, states=self.states[indices], name=self.name if name is None else name)

    def first(self, num_steps: int) -> Trajectories:
        """The first ``num_steps`` steps of each."""
        check_whole("num_steps", num_steps, least=1, below=self.num_steps + 1)
        return replace(self, states=self.states[:, : num_steps + 1])

    def windows(self, times: int) -> Tensor:
        """All pieces of so many states in a row, ``[n · (T − times + 1), times, *shape]``; a view where torch can.

        Raises:
            ValueError: a trajectory is shorter than that.
        """
        check_whole("times", times, least=1)
        if times > self.states.size(1):
            raise ValueError(
                f"windows of {times} states wanted, but a trajectory of {self.name} has {self.states.size(1)}: give "
                "longer trajectories or a shorter window"
            )
        return self.states.unfold(1, times, 1).movedim(-1, 2).flatten(0, 1)

    def noisy(self, noise: float, *, seed: int) -> Trajectories:
        """With independent Gaussian noise of that standard deviation added to each entry; the step is exact.

        Raises:
            ValueError: the trajectories have noise already.
        """
        check_real("noise", noise, least=0)
        check_whole("seed", seed, least=0)
        if self.noise:
            raise ValueError(f"{self.name} has noise of {self.noise} already; add the whole of it at once")
        if noise == 0:
            return self
        drawn = torch.randn(self.states.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        return replace(self, states=self.states + (noise * drawn).to(self.states), noise=float(noise))

    def deviation(self) -> float:
        """The root mean square distance of a state's entries from their mean over all trajectories and times."""
        rows = self.states.double().flatten(0, 1)
        return math.sqrt(float((rows - rows.mean(dim=0)).square().mean()))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of states, shape and step, in hexadecimal."""
        sha = hashlib.sha256(f"{self.step!r} {self.states.dtype} {list(self.states.shape)}".encode())
        sha.update(self.states.detach().cpu().contiguous().numpy().data)
        return sha.hexdigest()
