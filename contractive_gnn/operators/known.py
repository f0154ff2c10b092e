"""Bounds that are known without a decomposition: a parametrisation promises them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast

from torch import Tensor, nn
from torch.nn.utils import parametrize

WITNESS = "witness"


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
    """The ℓ2 bound that is promised for an operator, a scalar tensor, or None.

    The last parametrisation of its weight promises it; of a weight that is not parametrised the module that
    :func:`prove_by` left there.
    """
    known: nn.Module | None
    if parametrize.is_parametrized(operator, name):
        chain = cast(nn.ModuleList, cast(nn.ModuleDict, operator.parametrizations)[name])
        known, tensors = chain[-1], [*chain.parameters(), *chain.buffers()]
    else:
        known, tensors = dict(operator.named_children()).get(WITNESS), []
    bound = known.promise(operator) if isinstance(known, KnownNorm) else None
    if bound is None or isinstance(bound, Tensor):
        return bound
    like = next(tensor for tensor in (*tensors, *operator.parameters()) if tensor.is_floating_point())
    return like.new_full((), bound)


def prove_by(operator: nn.Module, witness: KnownNorm) -> None:
    """Let a module prove the bound of an operator whose weight is not parametrised; it becomes a child of it."""
    operator.register_module(WITNESS, witness)
