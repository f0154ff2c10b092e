"""The orthogonal Haar transform of blocks of 2 × 2 pixels: means and differences as channels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# rows: the mean, the difference of columns, of rows, and of diagonals; orthogonal and symmetric
_ROWS = ((0.5, 0.5, 0.5, 0.5), (0.5, -0.5, 0.5, -0.5), (0.5, 0.5, -0.5, -0.5), (0.5, -0.5, -0.5, 0.5))


def haar(x: Tensor) -> Tensor:
    """``[n, c, H, W]`` to ``[n, 4c, H/2, W/2]``, an isometry; H and W are even.

    Channels 0 … c − 1 hold twice the means of the blocks, the next c the differences of their columns, and so on.
    """
    n, c, height, width = x.shape
    blocks = functional.pixel_unshuffle(x, 2).reshape(n, c, 4, height // 2, width // 2)
    return torch.einsum("kj,ncjhw->nkchw", x.new_tensor(_ROWS), blocks).flatten(1, 2)


def inverse_haar(z: Tensor) -> Tensor:
    """``[n, 4c, H, W]`` to ``[n, c, 2H, 2W]``: the inverse of :func:`haar`, and its adjoint."""
    n, c, height, width = z.shape
    parts = z.reshape(n, 4, c // 4, height, width)
    blocks = torch.einsum("kj,nkchw->ncjhw", z.new_tensor(_ROWS), parts)
    return functional.pixel_shuffle(blocks.flatten(1, 2), 2)
