"""Sorting as an activation."""

from __future__ import annotations

import torch
from torch import Tensor

from contractive_gnn.checks import check_whole
from contractive_gnn.nn.lipschitz.base import LipschitzModule


class GroupSort(LipschitzModule):
    r"""Sorts the channels of each group, in ascending order (Anil, Lucas, Grosse, ICML 2019).

    Wherever it has a derivative it is a permutation: an isometry there, so it keeps the length of every gradient.
    It is piecewise linear and continuous, hence 1-Lipschitz.

    Args:
        group_size: k, how many neighbouring channels form a group; 2 gives :class:`MaxMin`.
        dim: the axis of the channels.

    Shapes:
        ``[n, c, …]`` to the same, where k divides c.

    Raises:
        TypeError: for a number that is not whole.
        ValueError: for k < 1; (called) where k does not divide the channels.

    Example:
        >>> import torch
        >>> GroupSort(3)(torch.tensor([[2.0, 3.0, 1.0, 0.0, -1.0, 5.0]])).tolist()
        [[1.0, 2.0, 3.0, -1.0, 0.0, 5.0]]
    """

    def __init__(self, group_size: int = 2, *, dim: int = 1) -> None:
        super().__init__()
        check_whole("group_size", group_size, least=1)
        check_whole("dim", dim)
        self.group_size = group_size
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Sort each group."""
        axis = channel_axis(x, self.dim)
        if x.size(axis) % self.group_size:
            raise ValueError(
                f"groups of {self.group_size} do not divide {x.size(axis)} channels (axis {self.dim} of "
                f"{list(x.shape)}): change the width or group_size"
            )
        groups = x.reshape(*x.shape[:axis], x.size(axis) // self.group_size, self.group_size, *x.shape[axis + 1 :])
        if self.group_size == 2:  # several times faster than a sort
            first, second = groups.unbind(axis + 1)
            return torch.stack([torch.minimum(first, second), torch.maximum(first, second)], axis + 1).flatten(
                axis, axis + 1
            )
        return groups.sort(dim=axis + 1).values.flatten(axis, axis + 1)

    def lipschitz(self) -> float:
        """1: sorting never moves two vectors apart."""
        return 1.0

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """1: nothing is rounded."""
        return 1.0

    def extra_repr(self) -> str:
        """Show the groups."""
        return f"group_size={self.group_size}, dim={self.dim}"


class MaxMin(GroupSort):
    """The minimum and the maximum of each pair of neighbouring channels: :class:`GroupSort` of pairs.

    Args:
        dim: the axis of the channels.
    """

    def __init__(self, *, dim: int = 1) -> None:
        super().__init__(2, dim=dim)


class FullSort(LipschitzModule):
    """Sorts all channels: :class:`GroupSort` of one group, whatever the width.

    Args:
        dim: the axis of the channels.
    """

    def __init__(self, *, dim: int = 1) -> None:
        super().__init__()
        check_whole("dim", dim)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Sort."""
        return x.sort(dim=channel_axis(x, self.dim)).values

    def lipschitz(self) -> float:
        """1: sorting never moves two vectors apart."""
        return 1.0

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """1: nothing is rounded."""
        return 1.0

    def extra_repr(self) -> str:
        """Show the axis."""
        return f"dim={self.dim}"


def channel_axis(x: Tensor, dim: int) -> int:
    """The axis of the channels, counted from the front.

    Raises:
        ValueError: where the tensor has no such axis.
    """
    if not -x.dim() <= dim < x.dim():
        raise ValueError(f"expected a tensor with its channels on axis {dim}, got shape {list(x.shape)}")
    return dim % x.dim()
