"""What every linear operator has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from contractive_gnn.norms import L2, Family, Norm, Plain, family


class Operator(nn.Module, ABC):
    r"""A linear map A between spaces of tensors.

    A subclass defines :meth:`forward`, :meth:`adjoint` and :meth:`norm_bound`, and overrides :meth:`lower_bound` where
    it can prove one. Bounds are of A in exact arithmetic; what was computed on the way to them is allowed for.

    The ℓ2 bounds and the adjoint are those of the inner product of :attr:`input_norm` on the inputs, and of the plain
    one, ``Σ y_i y'_i``, on the outputs.

    Attributes:
        last_axis: whether A acts on the last axis alone, and treats all other axes as a batch.
    """

    last_axis: bool = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make it a module before its ``__init__`` runs: in releases before 0.2 that had nothing to call."""
        operator = super().__new__(cls)
        nn.Module.__init__(operator)
        return operator

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """``Ax``; leading axes are a batch."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """``Aᵀy``, with ``⟨Ax, y⟩ = ⟨x, Aᵀy⟩``; leading axes are a batch."""

    @abstractmethod
    def norm_bound(self, norm: str | Norm = "l2") -> Tensor:
        """An upper bound of ``max ‖Ax‖/‖x‖``, a scalar tensor; ``inf`` where none is known.

        Args:
            norm: ℓ1, ℓ2 or ℓ∞ over all entries of x and of Ax, by name or as an object; or :attr:`input_norm`.

        Raises:
            ValueError: for an unknown norm, or another one with weights.
        """

    def squared_norm_bound(self) -> Tensor:
        """An upper bound of ``max ‖Ax‖²/‖x‖²`` in ℓ2, a scalar tensor.

        It need not be the square of :meth:`norm_bound`: an operator overrides it where it knows the square without a
        root, or to have a bound that does not jump with what the operator is made of.
        """
        return self.norm_bound() ** 2

    def lower_bound(self) -> Tensor:
        """A lower bound of ``min ‖Ax‖/‖x‖`` in ℓ2 over all inputs ``x ≠ 0``, a scalar tensor; here 0."""
        like = next((t for t in (*self.parameters(), *self.buffers()) if t.is_floating_point()), None)
        return torch.zeros(()) if like is None else like.new_zeros(())

    @property
    def input_norm(self) -> Norm:
        """The ℓ2 norm of the inputs to which the adjoint and the ℓ2 bounds belong; here the plain one."""
        return L2

    @property
    def weighted(self) -> bool:
        """Whether :attr:`input_norm` has weights."""
        return self.input_norm is not L2

    def _hold(self, name: str, weight: Tensor) -> None:
        """Keep a weight: an ``nn.Parameter`` is learned, another tensor is fixed and follows the module as a buffer."""
        if not isinstance(weight, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(weight).__name__}")
        if not weight.is_floating_point():
            raise TypeError(
                f"{name} must be a real floating tensor, got {weight.dtype}; convert integers with .float(), and "
                "write a complex operator with its real and imaginary parts as channels"
            )
        if not weight.is_meta and not torch.compiler.is_compiling():
            require_finite(weight)
        if isinstance(weight, nn.Parameter):
            self.register_parameter(name, weight)
        else:
            self.register_buffer(name, weight)

    def family(self, norm: str | Norm) -> Family:
        """Which of ℓ1, ℓ2 and ℓ∞ a bound is asked in: what :meth:`norm_bound` begins with.

        ``"l2-degree"`` is ℓ2 for an operator whose inputs are weighted, and for one on the last axis, which leaves the
        weights of the nodes alone.

        Raises:
            ValueError: for a norm in which no bound is known.
        """
        if isinstance(norm, Plain):
            norm = norm.name
        if isinstance(norm, str):
            kind = family(norm)
            if norm != "l2-degree" or self.weighted or self.last_axis:
                return kind
        elif norm == self.input_norm:
            return "l2"
        own = self.input_norm
        known = "l1, l2 and linf" if own is L2 else f"l1, l2 and linf, and in its own {own}"
        raise ValueError(f"{type(self).__name__} has bounds in {known}, not in {norm}")


def check_operators(operators: Sequence[object]) -> None:
    """Raise unless there is an operator, and nothing else.

    Raises:
        ValueError: there is none.
        TypeError: one of them is no operator.
    """
    if not operators:
        raise ValueError("expected at least one operator, got none")
    for operator in operators:
        if not isinstance(operator, Operator):
            raise TypeError(f"expected operators of contractive_gnn.operators, got {described(operator)}")


def described(value: object) -> str:
    """What was given in the place of an operator, and what to write instead where that is known."""
    if isinstance(value, nn.Conv2d | nn.Linear):
        kind = "Conv2d" if isinstance(value, nn.Conv2d) else "Dense"
        return f"torch.nn.{type(value).__name__}: write contractive_gnn.operators.{kind}(module.weight)"
    return type(value).__name__


def require_finite(weight: Tensor) -> None:
    """Raise ValueError for an entry that is infinite or not a number: no bound would hold."""
    # a trace cannot branch on a value: there NaN goes on into the bound
    if not torch.compiler.is_compiling() and not bool(torch.isfinite(weight.detach()).all()):
        raise ValueError("the weight has entries that are not finite, or overflow: nothing bounds its norm")
