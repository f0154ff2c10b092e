"""Cosines that several similarities of one graph share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from torch import Tensor

Found = dict[tuple[Any, ...], tuple[Tensor, tuple[Tensor | None, ...]]]

found_cosines: ContextVar[Found | None] = ContextVar("found_cosines", default=None)


@contextlib.contextmanager
def sharing() -> Iterator[None]:
    """Inside the block the cosines of one graph are found once for all :class:`Similarity` of equal hyperparameters.

    A graph is known by its tensors, which must not be changed before the block ends; the block keeps nothing after it.
    What is computed again outside of it, as by ``torch.utils.checkpoint``, is not shared: put the whole block inside.
    """
    token = found_cosines.set({})
    try:
        yield
    finally:
        found_cosines.reset(token)
