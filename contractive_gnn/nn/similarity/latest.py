"""The latest result, kept while the same is asked again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from contractive_gnn.graph import transformed
from contractive_gnn.remembered import alike

CHEAP: Final = 1 << 27
"""So many bytes of a result that one pass over the features gives again are kept, to save the pass."""


class Latest:
    """The latest result, for as long as it is asked for the same tensors with the same contents.

    Args:
        largest: bytes of a tensor that is kept; a larger one is computed whenever it is asked for.
    """

    def __init__(self, largest: float = math.inf) -> None:
        self._largest = largest
        # in one piece, which several threads may read and replace: what was asked for, and what belongs to it
        self._kept: tuple[Any, tuple[Tensor | None, ...], Any, tuple[Tensor, ...], int] = (None, (), None, (), 0)

    def __call__(
        self,
        compute: Any,
        *tensors: Tensor | None,
        settings: tuple[Any, ...] = (),
        entries: Sequence[Tensor] = (),
    ) -> Any:
        """What ``compute`` gives for these tensors under these settings: kept from the last time, or computed now.

        Args:
            compute: what to do.
            *tensors: known by their identity, and by torch's count of the changes in place.
            settings: what else it follows.
            entries: weights, known by their values: they are changed in ways of which torch takes no count.
        """
        # is_compiling first: the other questions cannot be traced
        if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
            return compute()
        if any(t is not None and (t.is_inference() or transformed(t)) for t in (*tensors, *entries)):
            return compute()
        devices = {t.device.type for t in tensors if t is not None}
        narrowed = tuple(device for device in sorted(devices) if torch.is_autocast_enabled(device))
        key = (settings, narrowed, [(id(t), None if t is None else t._version) for t in tensors])
        known, _, value, copies, version = self._kept
        if key != known or not alike(copies, entries) or _version(value) != version:
            value = compute()
            if isinstance(value, Tensor) and _size(value) > self._largest:
                return value
            # the tensors, so that no id is given twice
            self._kept = key, tensors, value, tuple(t.detach().clone() for t in entries), _version(value)
        return value

    def __deepcopy__(self, memo: Any) -> Latest:
        return Latest(self._largest)

    def __reduce__(self) -> Any:
        return Latest, (self._largest,)


def _size(value: Tensor) -> int:
    """Bytes of what it stores."""
    stored = value if value.layout == torch.strided else value.values()
    return stored.numel() * stored.element_size()


def _version(value: Any) -> int:
    """How often a result was changed in place: who got it may do so."""
    return value._version if isinstance(value, Tensor) else 0
