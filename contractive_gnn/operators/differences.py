"""Weights of central finite differences."""

from __future__ import annotations

import torch
from torch import Tensor

#: by derivative and order: the taps to the right of the middle, times 180
_RIGHT: dict[int, dict[int, tuple[int, ...]]] = {
    1: {2: (90,), 4: (120, -15), 6: (135, -27, 3)},
    2: {2: (180,), 4: (240, -15), 6: (270, -27, 2)},
}
ORDERS = (2, 4, 6)


def central_weights(derivative: int, order: int) -> Tensor:
    r"""The weights w of ``Σ_s w_s u(x + sh) = h^m u^{(m)}(x) + O(h^{m+p})``, ``s = −p/2, …, p/2``, in float64.

    (Fornberg, *Generation of finite difference formulas on arbitrarily spaced grids*, Math. Comp. 51, 1988, table 1.)
    Those of the first derivative are odd in s, those of the second one even; each tap to the right is that to the left,
    to the last bit, with its sign turned for the first derivative.

    Args:
        derivative: m, 1 or 2.
        order: p, 2, 4 or 6.

    Raises:
        ValueError: for other numbers.

    >>> central_weights(2, 2).tolist()
    [1.0, -2.0, 1.0]
    """
    if derivative not in _RIGHT:
        raise ValueError(f"derivative must be 1 or 2, got {derivative!r}")
    check_order(order)
    right = torch.tensor(_RIGHT[derivative][order], dtype=torch.float64) / 180.0
    middle = -2.0 * sum(_RIGHT[derivative][order]) / 180.0 if derivative == 2 else 0.0
    left = right.flip(0) if derivative == 2 else -right.flip(0)
    return torch.cat([left, torch.tensor([middle], dtype=torch.float64), right])


def check_order(order: object) -> None:
    """Raise ValueError unless the order is one that there are weights for."""
    if isinstance(order, bool) or order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(map(str, ORDERS))}, got {order!r}")
