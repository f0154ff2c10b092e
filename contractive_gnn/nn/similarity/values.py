"""The values of tensors, as constants to whatever torch.func does with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack


def of_values(compute: Callable[..., Any], *tensors: Tensor) -> Any:
    """What ``compute`` makes of the tensors' values, a constant to whatever torch.func does with them.

    Raises:
        NotImplementedError: under ``torch.func.vmap`` over one of them, which has no one value.
    """
    if torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active():
        return compute(*tensors)
    with temporarily_clear_interpreter_stack():
        return compute(*map(_value, tensors))


def _value(tensor: Tensor) -> Tensor:
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        if torch._C._functorch.is_batchedtensor(tensor):
            raise NotImplementedError(
                "the similarity finds the singular vectors of one graph at a time, and torch.func.vmap gave it many; "
                "call the model for each graph in a loop instead, and torch.stack the results"
            )
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor
