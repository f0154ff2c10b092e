"""What was worked out from tensors, for as long as they stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """Keeps one value, and works it out again where a tensor that it came from has other entries.

    Weights and buffers change in many ways: a step of an optimiser, ``load_state_dict``, ``to(dtype)``, an assignment.
    Their entries are compared, so none of these has to tell.

    Example:
        >>> total, mask = Remembered(), torch.ones(3)
        >>> total([mask], lambda: float(mask.sum())), total([mask], lambda: 0.0)
        (3.0, 3.0)
        >>> total([mask.zero_()], lambda: float(mask.sum()))
        0.0
    """

    def __init__(self) -> None:
        self._kept: tuple[list[Tensor], Value] | None = None

    def __call__(self, tensors: Sequence[Tensor], make: Callable[[], Value]) -> Value:
        """The value for these tensors.

        Args:
            tensors: what it depends on.
            make: works it out.
        """
        if self._kept is None or not alike(self._kept[0], tensors):
            value = make()
            self._kept = [tensor.detach().clone() for tensor in tensors], value
        return self._kept[1]


def alike(kept: Sequence[Tensor], present: Sequence[Tensor]) -> bool:
    """Whether both are tensors of the same entries, dtypes and devices."""
    return len(kept) == len(present) and all(
        old.device == new.device and old.dtype == new.dtype and torch.equal(old, new)
        for old, new in zip(kept, present, strict=True)
    )
