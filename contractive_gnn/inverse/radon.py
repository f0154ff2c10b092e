"""Sums along lines: computed tomography with parallel beams."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from contractive_gnn.checks import check_real, check_whole, whole_pair
from contractive_gnn.inverse.physics import LinearPhysics, perron_bound
from contractive_gnn.remembered import Remembered


class Radon(LinearPhysics):
    r"""Sums over pixels along parallel lines, for a few angles.

    For the angle θ the centre (r, c) of a pixel, in pixels from the middle of the image, falls on the detector at
    ``t = c cos θ + r sin θ``; its value is shared linearly between the two nearest cells. The matrix of A thus has no
    negative entry, and its columns add up to the number of angles: ``‖A‖²`` is bounded by Perron's theorem
    (:func:`~contractive_gnn.inverse.physics.perron_bound`), within a few percent of its value.

    Args:
        size: height and width of the image, or one number for both.
        angles: in degrees; a whole number for that many in [0, 180).

    Shapes:
        images ``[n, c, H, W]``; sinograms ``[n, c, angles, cells]`` with about ``√(H² + W²)`` cells.

    Raises:
        ValueError: for no angles; (applied) for another size.
        TypeError: for a size or angles that are no numbers.
    """

    low: Tensor
    share: Tensor

    def __init__(self, size: int | tuple[int, int], angles: int | Sequence[float]) -> None:
        super().__init__()
        self.size = whole_pair("size", size, least=1)
        if isinstance(angles, int):
            check_whole("angles", angles, least=1)
            angles = [180.0 * index / angles for index in range(angles)]
        if not isinstance(angles, Sequence) or len(angles) == 0:
            raise ValueError(f"angles must be a number of angles, or at least one angle in degrees, got {angles!r}")
        for angle in angles:
            check_real("angles", angle)
        turns = torch.tensor([math.radians(angle) for angle in angles], dtype=torch.float64)
        height, width = self.size
        rows = torch.arange(height, dtype=torch.float64) - (height - 1) / 2
        columns = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
        reach = math.ceil(math.hypot(height - 1, width - 1) / 2) + 1
        self.cells = 2 * reach + 1
        place = turns.cos().view(-1, 1, 1) * columns + turns.sin().view(-1, 1, 1) * rows.view(1, -1, 1) + reach
        low = place.floor()
        self.angles = len(angles)
        offset = self.cells * torch.arange(self.angles).view(-1, 1, 1)
        self.register_buffer("low", (low.long() + offset).flatten(1))  # [angles, H·W], the lower of the two cells
        self.register_buffer("share", (place - low).flatten(1).to(torch.get_default_dtype()))  # of the upper one
        self._square: Remembered[float] = Remembered()

    def forward(self, x: Tensor) -> Tensor:
        """The sinogram."""
        if x.dim() != 4 or tuple(x.shape[-2:]) != self.size:
            raise ValueError(f"expected a tensor [n, c, {self.size[0]}, {self.size[1]}], got {list(x.shape)}")
        flat = x.reshape(-1, 1, self.low.size(1))
        share = self.share.to(x.dtype)
        out = x.new_zeros(len(flat), self.angles * self.cells)
        for index in range(self.angles):  # one angle at a time: the shares of all at once do not fit the cache
            place = self.low[index]
            upper = flat[:, 0] * share[index]
            out.index_add_(1, place, flat[:, 0] - upper).index_add_(1, place + 1, upper)
        return out.reshape(*x.shape[:2], self.angles, self.cells)

    def adjoint(self, y: Tensor) -> Tensor:
        """Back-projection."""
        if y.dim() != 4 or tuple(y.shape[-2:]) != (self.angles, self.cells):
            raise ValueError(f"expected a tensor [n, c, {self.angles}, {self.cells}], got {list(y.shape)}")
        flat = y.reshape(-1, self.angles * self.cells)
        share = self.share.to(y.dtype)
        out = y.new_zeros(len(flat), self.low.size(1))
        for index in range(self.angles):
            lower, upper = flat[:, self.low[index]], flat[:, self.low[index] + 1]
            out += lower + share[index] * (upper - lower)
        return out.reshape(*y.shape[:2], *self.size)

    @torch.no_grad()
    def squared_norm(self) -> float:
        """By Perron's theorem, computed once for the lines that the buffers hold."""
        return self._square([self.low, self.share], self._perron_bound)

    def _perron_bound(self) -> float:
        ones = self.share.new_ones(1, 1, *self.size, dtype=torch.float64)
        return perron_bound(copy.deepcopy(self).double(), ones)
