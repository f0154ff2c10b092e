r"""The orthogonal factor of a matrix, by matrix products alone."""

from __future__ import annotations

import torch
from torch import Tensor

from contractive_gnn.checks import check_whole
from contractive_gnn.nn.parametrizations import Constraint
from contractive_gnn.operators import Dense
from contractive_gnn.operators.singular import require_decomposable, rounding


def bjorck(matrix: Tensor, num_steps: int = 20) -> Tensor:
    r"""Steps ``W ← W(3I − WᵀW)/2`` from ``W/c`` with ``c ≥ ‖W‖₂`` (Björck and Bowie, SIAM J. Numer. Anal. 1971).

    A step maps every singular value s in [0, 1] to ``s(3 − s²)/2``, which is in [0, 1] again: whatever the matrix, the
    result has norm 1 at most, up to rounding. Small values grow by 1.5 a step, and near 1 the distance to it is
    squared: after 20 steps those above ``c/1000`` are 1 to rounding. A smaller one is not, and a rank that is not full
    stays so: then the result is no isometry, and no more than ``‖W‖ ≤ 1`` is true of it.

    Args:
        matrix: W, ``[…, m, n]``; for m < n the rows become orthonormal.
        num_steps: how many.
    """
    tall = matrix if matrix.size(-2) >= matrix.size(-1) else matrix.mT
    if tall.numel() == 0:
        return matrix
    # c: ‖W‖ ≤ ‖(WᵀW)⁸‖_F^{1/16}, above it by n^{1/32} at most; of unit Frobenius norm first, so nothing overflows
    tiny = torch.finfo(matrix.dtype).tiny ** 0.5
    tall = tall / torch.linalg.matrix_norm(tall, keepdim=True).clamp(min=tiny)
    power = tall.mT @ tall
    size = torch.ones_like(power[..., :1, :1])
    for step in range(4):
        length = torch.linalg.matrix_norm(power, keepdim=True).clamp(min=tiny)
        size = size * length ** (0.5 ** (step + 1))
        if step < 3:
            power = (power / length) @ (power / length)
    tall = tall / size.clamp(min=tiny)
    for _ in range(num_steps):
        tall = 1.5 * tall - 0.5 * (tall @ (tall.mT @ tall))
    result: Tensor = tall if matrix.size(-2) >= matrix.size(-1) else tall.mT
    return result


class Bjorck(Constraint):
    """A matrix of norm 1 at most, orthogonal where the steps have converged: see :func:`bjorck`.

    Args:
        num_steps: how many.

    Raises:
        TypeError: for a number that is not whole; (called) in half precision.
        ValueError: for a number below 1; (called) for a weight that is not finite.
    """

    def __init__(self, num_steps: int = 20) -> None:
        super().__init__()
        check_whole("num_steps", num_steps, least=1)
        self.num_steps = num_steps

    def forward(self, weight: Tensor) -> Tensor:
        """Take the steps."""
        require_decomposable(weight)
        return bjorck(weight, self.num_steps)

    def violation(self, weight: Tensor) -> float:
        """``‖W‖₂ − 1`` minus the slack ``8 n eps`` of the weight's dtype."""
        norm = float(Dense(weight.detach().to("cpu", torch.float64)).norm_bound())
        return norm - 1.0 - 2 * rounding(max(weight.shape), weight.dtype)

    def extra_repr(self) -> str:
        """Show the steps."""
        return f"num_steps={self.num_steps}"
