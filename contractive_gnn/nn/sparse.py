"""Feature matrices that are mostly zeros: a linear map and a dropout that take them dense or sparse."""

from __future__ import annotations

import warnings

import torch
import torch_geometric.nn
from torch import Tensor


class Linear(torch_geometric.nn.Linear):  # type: ignore[misc]
    """PyG's linear layer, which also takes ``x`` as a ``torch.sparse_csr`` tensor of shape ``[n, in_channels]``.

    On bag-of-words features (1 % of the entries are not zero) forward and backward cost a tenth of the dense product.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x Wᵀ + b`` of shape ``[n, out_channels]``."""
        if x.layout != torch.sparse_csr:
            return super().forward(x)  # type: ignore[no-any-return]
        out: Tensor = torch.sparse.mm(x, self.weight.t())
        return out if self.bias is None else out + self.bias


def dropout(x: Tensor, p: float, *, training: bool) -> Tensor:
    """Dropout of the entries of a dense or ``sparse_csr`` tensor (there: of its stored values)."""
    if not training or p == 0.0:
        return x
    if x.layout != torch.sparse_csr:
        return torch.nn.functional.dropout(x, p, training=True)
    values = torch.nn.functional.dropout(x.values(), p, training=True)
    return torch.sparse_csr_tensor(x.crow_indices(), x.col_indices(), values, x.shape, check_invariants=False)


def normalize_rows(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """``x diag(weight)`` with rows of length 1 (rows of zeros stay), for ``x`` ``[n, d]`` dense or ``sparse_csr``."""
    if x.layout != torch.sparse_csr:
        return torch.nn.functional.normalize(x if weight is None else x * weight, dim=1)
    values = x.values() if weight is None else x.values() * weight[x.col_indices()]
    row = torch.repeat_interleave(torch.arange(x.shape[0], device=x.device), x.crow_indices().diff())
    length = values.new_zeros(x.shape[0]).index_add(0, row, values.square()).sqrt()
    values = values / length.clamp(min=torch.finfo(x.dtype).tiny)[row]
    return torch.sparse_csr_tensor(x.crow_indices(), x.col_indices(), values, x.shape, check_invariants=False)


def compress(x: Tensor, *, max_density: float = 0.2) -> Tensor:
    """Return ``x`` as a ``sparse_csr`` tensor where at most ``max_density`` of its entries are non-zero, else ``x``."""
    if x.layout != torch.strided or torch.count_nonzero(x).item() > max_density * x.numel():
        return x
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return x.to_sparse_csr()
