"""Evaluation mode for as long as something is asked of a model."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from torch import nn

_turns: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_new_turn = threading.Lock()


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside the block the model is in evaluation mode; afterwards every part of it is in its own again.

    Of several threads that ask one model, one is inside at a time: the modes belong to the model.
    """
    with _new_turn:
        turn = _turns.setdefault(model, threading.RLock())
    with turn:
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
