r"""The ball that an attack on images may use, measured in double precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from contractive_gnn.checks import check_real

BallNorm = Literal["l2", "linf"]
#: relative excess that counts as rounding: what single precision does to a norm of thousands of entries
ROUNDING = 1e-6


@dataclass(frozen=True)
class Ball:
    r"""All images with ``‖x̃ − x‖ ≤ ε`` and entries in [0, 1].

    Args:
        norm: ``"l2"`` over all entries of an image, or ``"linf"``.
        epsilon: ε > 0, in raw pixel units: pixels run from 0 to 1.

    Raises:
        ValueError: for another norm, or an ε that is not positive and finite.
        TypeError: for an ε that is no number.

    Example:
        >>> x = torch.zeros(1, 1, 2, 2)
        >>> Ball("l2", 1.0).inside(x, torch.ones(1, 1, 2, 2)).flatten()
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """

    norm: BallNorm
    epsilon: float

    def __post_init__(self) -> None:
        if self.norm not in ("l2", "linf"):
            raise ValueError(f"norm must be 'l2' or 'linf', got {self.norm!r}")
        check_real("epsilon", self.epsilon, above=0)

    def distance(self, x: Tensor, moved: Tensor) -> Tensor:
        """``‖x̃ − x‖`` of each image, ``[n]``, float64."""
        difference = (moved.double() - x.double()).flatten(1)
        if self.norm == "l2":
            length: Tensor = torch.linalg.vector_norm(difference, dim=1)
            return length
        largest: Tensor = difference.abs().amax(dim=1)
        return largest

    def holds(self, x: Tensor, moved: Tensor) -> Tensor:
        """Whether each image is inside, ``[n]``: ``‖x̃ − x‖ ≤ ε(1 + 10⁻⁶)``, all entries in [0, 1]."""
        box = ((moved >= 0) & (moved <= 1)).flatten(1).all(dim=1)
        return box & (self.distance(x, moved) <= self.epsilon * (1 + ROUNDING))

    def inside(self, x: Tensor, moved: Tensor) -> Tensor:
        """``x̃`` itself where it is inside, else a point near it that is; of the dtype of x.

        An entry that is no number becomes that of x.

        Args:
            x: images in [0, 1].
            moved: of the same shape.
        """
        moved = torch.where(moved.isfinite(), moved.to(x.dtype), x).clamp(0, 1)
        out = ~self.holds(x, moved)
        if bool(out.any()):
            moved = moved.clone()
            moved[out] = self._nearest(x[out], moved[out])
        return moved

    def _nearest(self, x: Tensor, moved: Tensor) -> Tensor:
        """A multiple of the difference (ℓ2), or the difference clipped (ℓ∞); a little less, for the rounding of x̃."""
        rounding = torch.finfo(x.dtype).eps  # of entries of at most 1: more than half a unit in the last place
        delta = moved.double() - x.double()
        if self.norm == "linf":
            room = max(self.epsilon - rounding, 0.0)
            return (x.double() + delta.clamp(-room, room)).to(x.dtype).clamp(0, 1)
        room = max(self.epsilon - rounding * x[0].numel() ** 0.5, 0.0)
        length = torch.linalg.vector_norm(delta.flatten(1), dim=1).view(-1, *[1] * (x.dim() - 1))
        nearest: Tensor = x.double() + delta * (room / length.clamp(min=room)).nan_to_num()
        return nearest.to(x.dtype).clamp(0, 1)
