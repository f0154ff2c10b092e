"""What a victim does while it answers, beside answering."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class _GradientWatch(TorchFunctionMode):
    """Notes whether anything is computed with gradients switched on."""

    found = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found = self.found or torch.is_grad_enabled()
        return func(*args, **(kwargs or {}))


def conduct(victim: nn.Module, answer: Callable[[], object]) -> dict[str, bool]:
    """What a victim does in evaluation mode, with gradients switched off, beside answering.

    Args:
        victim: the module.
        answer: asks it once.

    Returns:
        ``changes_itself``: whether it writes its parameters or buffers, so that the next answer is another model's;
        ``computes_gradients``: whether it switches gradients on, as what optimises at test time does. A flow along the
        gradient of an energy does so too, and hides nothing; this is a reason to look, and none to doubt. Of a module
        that ``torch.compile`` made it is not known, and False.
    """
    before = _state(victim)
    compiled = any(hasattr(part, "_orig_mod") for part in victim.modules())
    with torch.no_grad():
        if compiled:
            answer()
            found = False
        else:
            with _GradientWatch() as watch:
                answer()
            found = watch.found
    after = _state(victim)
    same = len(before) == len(after) and all(
        own is now and version == latest for (own, version), (now, latest) in zip(before, after, strict=True)
    )
    return {"changes_itself": not same, "computes_gradients": found}


def _state(victim: nn.Module) -> list[tuple[Tensor, int]]:
    """The parameters and buffers, and how often each was written in place; one that is replaced is another."""
    return [(tensor, tensor._version) for tensor in (*victim.parameters(), *victim.buffers())]
