"""More channels, and fewer."""

from __future__ import annotations

import torch
from torch import Tensor

from contractive_gnn.checks import check_whole
from contractive_gnn.nn.lipschitz.base import LipschitzModule
from contractive_gnn.nn.lipschitz.group_sort import channel_axis


class Lift(LipschitzModule):
    """Appends channels of zeros: an isometry.

    Args:
        in_channels: of the input.
        out_channels: of the output, at least as many.

    Shapes:
        ``[n, in_channels, …]`` to ``[n, out_channels, …]``.

    Raises:
        TypeError: for a number that is not whole.
        ValueError: for fewer channels than there are; (called) for another number of channels.

    Example:
        >>> import torch
        >>> Lift(1, 3)(torch.tensor([[5.0]])).tolist()
        [[5.0, 0.0, 0.0]]
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        check_whole("in_channels", in_channels, least=1)
        check_whole("out_channels", out_channels, least=1)
        if out_channels < in_channels:
            raise ValueError(
                f"a lift needs out_channels of at least in_channels = {in_channels}, got {out_channels}; "
                "ChannelProjection drops channels"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Append zeros."""
        check_channels(x, self.in_channels)
        if self.out_channels == self.in_channels:
            return x
        zeros = x.new_zeros(x.size(0), self.out_channels - self.in_channels, *x.shape[2:])
        return torch.cat([x, zeros], dim=1)

    def lipschitz(self) -> float:
        """1: an isometry."""
        return 1.0

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """1: nothing is rounded."""
        return 1.0

    def extra_repr(self) -> str:
        """Show the widths."""
        return f"{self.in_channels}, {self.out_channels}"


class ChannelProjection(LipschitzModule):
    """Keeps the first channels and drops the others: an orthogonal projection, of norm 1.

    Args:
        in_channels: of the input.
        out_channels: of the output, at most as many.

    Shapes:
        ``[n, in_channels, …]`` to ``[n, out_channels, …]``.

    Raises:
        TypeError: for a number that is not whole.
        ValueError: for more channels than there are; (called) for another number of channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        check_whole("in_channels", in_channels, least=1)
        check_whole("out_channels", out_channels, least=1)
        if out_channels > in_channels:
            raise ValueError(
                f"a projection needs out_channels of at most in_channels = {in_channels}, got {out_channels}; "
                "Lift appends channels"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Drop channels."""
        check_channels(x, self.in_channels)
        return x[:, : self.out_channels]

    def lipschitz(self) -> float:
        """1: a projection."""
        return 1.0

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """1: nothing is rounded."""
        return 1.0

    def extra_repr(self) -> str:
        """Show the widths."""
        return f"{self.in_channels}, {self.out_channels}"


def check_channels(x: Tensor, channels: int) -> None:
    """Raise ValueError unless axis 1 has so many channels."""
    if x.size(channel_axis(x, 1)) != channels:
        raise ValueError(f"expected a tensor [n, {channels}, ...], got shape {list(x.shape)}")
