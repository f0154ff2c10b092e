"""Pixels to channels and back."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from contractive_gnn.checks import check_whole
from contractive_gnn.nn.lipschitz.base import LipschitzModule


class SpaceToDepth(LipschitzModule):
    """Moves every block of b × b pixels into b² channels: a permutation of the entries, so an isometry.

    Channel ``c b² + i b + j`` holds the pixel (i, j) of each block of channel c. After it a convolution with stride 1
    sees as far as one with stride b before it, and works on b² times fewer pixels.

    Args:
        block: b.

    Shapes:
        ``[…, c, H, W]`` to ``[…, c b², H/b, W/b]``, where b divides H and W.

    Raises:
        TypeError: for a number that is not whole.
        ValueError: for b < 1; (called) for a size that b does not divide.

    Example:
        >>> import torch
        >>> SpaceToDepth(2)(torch.arange(4.0).view(1, 1, 2, 2)).flatten().tolist()
        [0.0, 1.0, 2.0, 3.0]
    """

    def __init__(self, block: int = 2) -> None:
        super().__init__()
        check_whole("block", block, least=1)
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Move pixels to channels."""
        if x.dim() < 3 or x.size(-1) % self.block or x.size(-2) % self.block:
            raise ValueError(
                f"expected an image [..., c, H, W] whose height and width {self.block} divides, got {list(x.shape)}: "
                "crop or pad it, or change block"
            )
        if x.numel() == 0:  # torch leaves the shape of an empty batch as it is
            *batch, channels, height, width = x.shape
            return x.reshape(*batch, channels * self.block**2, height // self.block, width // self.block)
        return functional.pixel_unshuffle(x, self.block)

    def lipschitz(self) -> float:
        """1: a permutation."""
        return 1.0

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """1: nothing is rounded."""
        return 1.0

    def extra_repr(self) -> str:
        """Show the block."""
        return f"block={self.block}"


class DepthToSpace(LipschitzModule):
    """The inverse of :class:`SpaceToDepth`: b² channels to blocks of b × b pixels, an isometry.

    Args:
        block: b.

    Shapes:
        ``[…, c b², H, W]`` to ``[…, c, bH, bW]``.

    Raises:
        TypeError: for a number that is not whole.
        ValueError: for b < 1; (called) for channels that b² does not divide.
    """

    def __init__(self, block: int = 2) -> None:
        super().__init__()
        check_whole("block", block, least=1)
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Move channels to pixels."""
        if x.dim() < 3 or x.size(-3) % self.block**2:
            raise ValueError(
                f"expected an image [..., c, H, W] whose channels {self.block**2} divides, got {list(x.shape)}"
            )
        return functional.pixel_shuffle(x, self.block)

    def lipschitz(self) -> float:
        """1: a permutation."""
        return 1.0

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """1: nothing is rounded."""
        return 1.0

    def extra_repr(self) -> str:
        """Show the block."""
        return f"block={self.block}"
