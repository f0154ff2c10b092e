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
    blocks = functional.pixel_unshuffle(x, 2).unflatten(1, (-1, 4))
    return torch.einsum("kj,ncjhw->nkchw", x.new_tensor(_ROWS), blocks).flatten(1, 2)


def inverse_haar(z: Tensor) -> Tensor:
    """``[n, 4c, H, W]`` to ``[n, c, 2H, 2W]``: the inverse of :func:`haar`, and its adjoint."""
    blocks = torch.einsum("kj,nkchw->ncjhw", z.new_tensor(_ROWS), z.unflatten(1, (4, -1)))
    return functional.pixel_shuffle(blocks.flatten(1, 2), 2)
