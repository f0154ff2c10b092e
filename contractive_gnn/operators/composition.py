"""Products of operators."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from contractive_gnn.norms import L2, Norm
from contractive_gnn.operators.base import Operator, check_operators


class Composition(Operator):
    """``A₁A₂…A_k``, the last one applied first; its bound is the product of theirs, in every norm.

    The adjoint is the product of the adjoints, for the inner products that they stand for: what is applied before a
    :class:`GraphGradient` with ``degree`` must act on the last axis alone, as :class:`Dense` does. The nodes keep their
    weights then, and the product's inputs have them too.

    Args:
        operators: at least one.

    Raises:
        TypeError: for something else than an operator.
        ValueError: if there is none; if one acts on axes that the next one has weights on; (applied) for nodes with
            weights and no axis of channels.
    """

    def __init__(self, *operators: Operator) -> None:
        super().__init__()
        check_operators(operators)
        self.operators = nn.ModuleList(operators)
        self.last_axis = all(operator.last_axis for operator in operators)
        self._needs_channels = False
        for place, operator in enumerate(operators):
            self._needs_channels |= operator.weighted and place + 1 < len(operators)
            before = [other for other in operators[place + 1 :] if not other.last_axis]
            if before and operator.weighted:
                raise ValueError(
                    f"{type(operator).__name__} weights its inputs, and the adjoint of {type(before[0]).__name__} "
                    "before it is not for these weights: only operators on the last axis, as Dense, may come before it"
                )

    def forward(self, x: Tensor) -> Tensor:
        """``A₁(A₂(…x))``."""
        self._check_channels(x)
        for operator in reversed(list(self._factors())):
            x = operator(x)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """``…A₂ᵀ(A₁ᵀy)``."""
        self._check_channels(y)
        for operator in self._factors():
            y = operator.adjoint(y)
        return y

    def norm_bound(self, norm: str | Norm = "l2") -> Tensor:
        """The product of the operators' bounds: attained where their singular vectors fit together."""
        kind = self.family(norm)
        first, *others = self._factors()
        bound = first.norm_bound(kind)
        for operator in others:
            bound = bound * operator.norm_bound(kind)
        return bound

    def squared_norm_bound(self) -> Tensor:
        """The product of the operators' own."""
        first, *others = self._factors()
        bound = first.squared_norm_bound()
        for operator in others:
            bound = bound * operator.squared_norm_bound()
        return bound

    def lower_bound(self) -> Tensor:
        """The product of the operators' own: ``‖ABx‖ ≥ a‖Bx‖ ≥ ab‖x‖``, rounded down."""
        first, *others = self._factors()
        bound = first.lower_bound()
        for operator in others:
            bound = bound * operator.lower_bound()
        return bound * (1.0 - len(self.operators) * torch.finfo(bound.dtype).eps)

    @property
    def weighted(self) -> bool:
        """Whether one of them is."""
        return any(operator.weighted for operator in self._factors())

    @property
    def input_norm(self) -> Norm:
        """That of the operator with weights, if there is one."""
        return next((operator.input_norm for operator in self._factors() if operator.weighted), L2)

    def _check_channels(self, x: Tensor) -> None:
        """On one axis the last one is that of the nodes, and a matrix there has another adjoint for their weights."""
        if self._needs_channels and x.dim() < 2:
            raise ValueError(f"expected an axis of channels after that of the nodes, got {list(x.shape)}; write [n, 1]")

    def _factors(self) -> Iterator[Operator]:
        for operator in self.operators:
            assert isinstance(operator, Operator)
            yield operator
