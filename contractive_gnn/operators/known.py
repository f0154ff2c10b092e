"""Bounds that are known without a decomposition: a parametrisation promises them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast

from torch import Tensor, nn
from torch.nn.utils import parametrize


class KnownNorm(nn.Module, ABC):
    """A parametrisation that keeps the operator norm of a weight below a bound: base class.

    Registered last on the weight of a :class:`Dense` or a :class:`Conv2d`, it tells the operator its ℓ2 bound, which is
    then not computed.
    """

    @abstractmethod
    def promise(self, operator: nn.Module) -> float | Tensor | None:
        """An upper bound of ``max ‖Ax‖₂/‖x‖₂`` for the operator whose weight this module makes.

        It holds for the weight as rounded, and for every input that the operator takes. None where nothing is promised
        for this operator: for a stride or groups that the parametrisation was not made for, say.
        """


def promised_norm(operator: nn.Module, name: str = "weight") -> Tensor | None:
    """The ℓ2 bound that the last parametrisation of an operator's weight promises, a scalar tensor, or None."""
    if not parametrize.is_parametrized(operator, name):
        return None
    chain = cast(nn.ModuleList, cast(nn.ModuleDict, operator.parametrizations)[name])
    last = chain[-1]
    bound = last.promise(operator) if isinstance(last, KnownNorm) else None
    if bound is None or isinstance(bound, Tensor):
        return bound
    free = next(tensor for tensor in (*chain.parameters(), *chain.buffers()) if tensor.is_floating_point())
    return free.new_full((), bound)
