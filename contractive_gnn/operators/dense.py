"""A matrix."""

from __future__ import annotations

from torch import Tensor

from contractive_gnn.norms import Norm
from contractive_gnn.operators.base import Operator, require_finite
from contractive_gnn.operators.known import promised_norm
from contractive_gnn.operators.singular import largest_singular_value, smallest_singular_value


class Dense(Operator):
    """``x ↦ xWᵀ`` on the last dimension, as ``torch.nn.Linear`` without its bias; other dimensions are a batch.

    Args:
        weight: W, ``[out, in]``: an ``nn.Parameter`` is learned, another tensor is fixed.

    Shapes:
        ``[..., in]`` to ``[..., out]``.

    Raises:
        ValueError: if W is no matrix, or has entries that are not finite; (applied) for another last dimension.
        TypeError: if W is not real and floating.

    >>> import torch
    >>> operator = Dense(torch.tensor([[3.0, 4.0]]))
    >>> operator(torch.ones(2, 2)).tolist()
    [[7.0], [7.0]]
    >>> round(float(operator.norm_bound()), 4)
    5.0
    """

    last_axis = True
    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self._hold("weight", weight)
        if weight.dim() != 2:
            raise ValueError(f"weight must have shape [out, in], got {list(weight.shape)}")

    def with_weight(self, weight: Tensor) -> Dense:
        """The operator with another W; a bound of this one's says nothing of it."""
        return Dense(weight)

    def forward(self, x: Tensor) -> Tensor:
        """``xWᵀ``."""
        weight = self.weight
        _check_last(x, weight.size(1))
        return x @ weight.t()

    def adjoint(self, y: Tensor) -> Tensor:
        """``yW``."""
        weight = self.weight
        _check_last(y, weight.size(0))
        return y @ weight

    def norm_bound(self, norm: str | Norm = "l2") -> Tensor:
        """ℓ2: ``‖W‖₂ (1 + rounding)``; ℓ1 and ℓ∞ exact, the largest column and row sum.

        In ℓ1 and ℓ∞ the batch is one vector too: the bound is the same. Where the last parametrisation of W promises a
        bound in ℓ2 (:class:`~contractive_gnn.operators.KnownNorm`), it is that one, and nothing is computed.
        """
        kind = self.family(norm)
        known = promised_norm(self) if kind == "l2" else None
        if known is not None:
            return known
        weight = self.weight
        if weight.numel() == 0:
            return weight.sum()
        if kind == "l2":
            return largest_singular_value(weight)
        require_finite(weight)
        return weight.abs().sum(dim=0 if kind == "l1" else 1).max()

    def lower_bound(self) -> Tensor:
        """``σ_min(W) − rounding · ‖W‖₂`` where W has at least as many rows as columns, else 0."""
        return smallest_singular_value(self.weight)

    def extra_repr(self) -> str:
        """Show the shape."""
        return f"{self.weight.size(1)}, {self.weight.size(0)}"


def _check_last(x: Tensor, channels: int) -> None:
    if x.dim() == 0 or x.size(-1) != channels:
        raise ValueError(f"expected a tensor of shape [..., {channels}], got {list(x.shape)}")
