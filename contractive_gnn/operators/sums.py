"""Sums of operators."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from contractive_gnn.norms import Norm
from contractive_gnn.operators.base import Operator, check_operators


class Sum(Operator):
    """``A₁ + … + A_k``; its bound is the sum of theirs, in every norm.

    Args:
        operators: at least one; all between the same spaces.

    Raises:
        TypeError: for something else than an operator.
        ValueError: if there is none, or if only some of them have weighted inputs; (applied) where outputs differ in
            shape.
    """

    def __init__(self, *operators: Operator) -> None:
        super().__init__()
        check_operators(operators)
        self.operators = nn.ModuleList(operators)
        self.last_axis = all(operator.last_axis for operator in operators)
        if any(operator.weighted for operator in operators):
            norms = [operator.input_norm for operator in operators]
            if any(norm != norms[0] for norm in norms):
                raise ValueError(
                    "the adjoint of a sum needs one inner product on the inputs, got operators with "
                    f"{', '.join(map(str, norms))} of different weights"
                )

    def forward(self, x: Tensor) -> Tensor:
        """``A₁x + … + A_kx``."""
        return _added([operator(x) for operator in self._terms()])

    def adjoint(self, y: Tensor) -> Tensor:
        """``A₁ᵀy + … + A_kᵀy``."""
        return _added([operator.adjoint(y) for operator in self._terms()])

    def norm_bound(self, norm: str | Norm = "l2") -> Tensor:
        """The sum of the operators' bounds, rounded up: attained where their singular vectors agree."""
        kind = self.family(norm)
        total = _added([operator.norm_bound(kind) for operator in self._terms()])
        return total * (1.0 + self._slack(total))

    def lower_bound(self) -> Tensor:
        """``max_i (l_i − Σ_{j≠i} ‖A_j‖)``, at least 0, from their bounds, rounded down."""
        upper = [operator.norm_bound() for operator in self._terms()]
        total = _added(upper)
        slack = self._slack(total)
        margins = [
            operator.lower_bound() - (total - own) - 2 * slack * total
            for operator, own in zip(self._terms(), upper, strict=True)
        ]
        return torch.stack([margin.to(total.dtype) for margin in margins]).max().clamp(min=0.0)

    @property
    def weighted(self) -> bool:
        """Whether all of them are."""
        return next(self._terms()).weighted

    @property
    def input_norm(self) -> Norm:
        """That of each of them."""
        return next(self._terms()).input_norm

    def _slack(self, total: Tensor) -> float:
        return 2 * len(self.operators) * torch.finfo(total.dtype).eps

    def _terms(self) -> Iterator[Operator]:
        for operator in self.operators:
            assert isinstance(operator, Operator)
            yield operator


def _added(terms: list[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        if term.shape != total.shape:
            raise ValueError(
                f"the operators of a sum must have outputs of one shape, got {list(total.shape)} and {list(term.shape)}"
            )
        total = total + term
    return total
