"""Feature matrices that are mostly zeros: a linear map and a dropout that take them dense or sparse."""

from __future__ import annotations

import warnings
from typing import Any, Final

import torch
import torch_geometric.nn
from torch import Tensor

from contractive_gnn.activations import Identity
from contractive_gnn.compiled import kernels, row_threads
from contractive_gnn.graph import transformed
from contractive_gnn.inputs import InputError
from contractive_gnn.seeding import drawing


class Linear(torch_geometric.nn.Linear):  # type: ignore[misc]
    """PyG's linear layer, which also takes ``x`` as a ``torch.sparse_csr`` tensor of shape ``[n, in_channels]``.

    On bag-of-words features (1 % of the entries are not zero) forward and backward cost a tenth of the dense product.
    """

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        with drawing():
            super().reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x Wᵀ + b`` of shape ``[n, out_channels]``, in the dtype of ``x`` under ``torch.autocast``, too."""
        if x.layout != torch.sparse_csr:
            return super().forward(x).to(x.dtype)  # type: ignore[no-any-return]
        weight = self.weight.t()
        if x.dtype in (torch.float16, torch.bfloat16):  # in which torch has no such product on every device
            out = product(x.float(), weight.float()).to(x.dtype)
        else:
            out = product(x, weight)
        return out if self.bias is None else out.add_(self.bias)


def product(x: Tensor, h: Tensor) -> Tensor:
    """``x h`` for ``x`` ``sparse_csr`` ``[n, d]`` and ``h`` ``[d, c]``, with a compiled gradient if there can be one.

    Either is a pass over the stored values other than 0; torch sorts those of xᵀ for each gradient, which takes longer
    than the product itself. Differentiable in both, any number of times.

    Raises:
        InputError: for other numbers of columns of x and rows of h.
    """
    if x.shape[1] != h.shape[0]:
        raise InputError(f"x has {x.shape[1]} features, the layer was built for {h.shape[0]}")
    if kernels.available(_IDENTITY, h, x):
        values, pointer, column = _stored(x)
        out: Tensor = _Product.apply(values, h, pointer, column, x.shape[1], False)
    elif x.requires_grad or transformed(h):  # derivatives that torch's product of such a matrix does not have
        values, pointer, column = _stored(x)
        out = _plain_product(values, h, pointer, column, x.shape[1], False)
    else:
        out = torch.sparse.mm(x, h)
    return out


class _Product(torch.autograd.Function):
    """``S h``, or ``Sᵀ h`` where ``transposed``, S given by what it stores and ``d`` columns."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, h: Tensor, pointer: Tensor, column: Tensor, d: int, transposed: bool
    ) -> Tensor:
        ctx.save_for_backward(values, h, pointer, column)
        ctx.d, ctx.transposed = d, transposed
        return _product(values, h, pointer, column, d, transposed)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        values, h, pointer, column = ctx.saved_tensors
        by_values = by_h = None
        if ctx.needs_input_grad[0]:
            row = _rows(pointer)
            at_row, at_column = (h, g) if ctx.transposed else (g, h)
            by_values = (at_row[row] * at_column[column]).sum(dim=1)
        if ctx.needs_input_grad[1]:
            apply = _plain_product if transformed(g) else _Product.apply  # many gradients at once come transformed
            by_h = apply(values, g, pointer, column, ctx.d, not ctx.transposed)
        return by_values, by_h, None, None, None, None


def _plain_product(values: Tensor, h: Tensor, pointer: Tensor, column: Tensor, d: int, transposed: bool) -> Tensor:
    """:class:`_Product` with tensor operations."""
    row, n = _rows(pointer), pointer.numel() - 1
    source, target, size = (row, column, d) if transposed else (column, row, n)
    return h.new_zeros(size, h.shape[1]).index_add(0, target, values.unsqueeze(-1) * h[source])


def _stored(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values, pointer and columns of a ``sparse_csr`` matrix."""
    try:
        return x.values(), x.crow_indices(), x.col_indices()
    except RuntimeError as error:
        if not torch._C._are_functorch_transforms_active():
            raise
        raise NotImplementedError(
            "torch.func does not differentiate beside sparse_csr features; give x.to_dense()"
        ) from error


def _rows(pointer: Tensor) -> Tensor:
    """The row of every stored value."""
    return torch.repeat_interleave(torch.arange(pointer.numel() - 1, device=pointer.device), pointer.diff())


def _product(values: Tensor, h: Tensor, pointer: Tensor, column: Tensor, d: int, transposed: bool) -> Tensor:
    """Threads share the rows of ``S h``, but the columns of ``Sᵀ h``: its rows are added to from everywhere."""
    from contractive_gnn.compiled import sparse_loops  # numba is imported where it is needed

    arrays = tuple(tensor.detach().contiguous().numpy() for tensor in (values, pointer, column, h))
    channels = h.shape[1]
    if not transposed:
        out = h.new_empty(pointer.numel() - 1, channels)
        row_threads.by_rows(sparse_loops.product, arrays, arrays[1], out.numpy())
        return out
    out = h.new_zeros(d, channels)
    threads = max(1, min(torch.get_num_threads(), channels // _SHARE))
    cuts = [channels * part // threads for part in range(threads + 1)]
    row_threads.in_threads(sparse_loops.transposed_product, arrays, cuts, out.numpy())
    return out


_IDENTITY: Final = Identity()
_SHARE: Final = 16
"""A thread takes at least so many columns of a product: in single precision a line of the cache."""


def dropout(x: Tensor, p: float, *, training: bool) -> Tensor:
    """Dropout of the entries of a dense or ``sparse_csr`` tensor (there: of its stored values)."""
    if not training or p == 0.0:
        return x
    if x.layout != torch.sparse_csr:
        return _dropout(x, p)
    values, pointer, column = _stored(x)
    values = _dropout(values, p)
    return torch.sparse_csr_tensor(pointer, column, values, x.shape, check_invariants=False)


def _dropout(x: Tensor, p: float) -> Tensor:
    """PyTorch's dropout, of the same draws, in half its time: it jumps on each, and no processor can tell where to."""
    if x.device.type != "cpu" or not 0 < p < 1 or torch.compiler.is_compiling() or transformed(x):
        return torch.nn.functional.dropout(x, p, training=True)
    factor = torch.empty_like(x, memory_format=torch.contiguous_format)
    draws = torch.empty(min(_DRAWS, x.numel()), dtype=torch.float64, device=x.device)
    for part in torch.split(factor.view(-1), _DRAWS):
        torch.lt(draws[: part.numel()].uniform_(), 1 - p, out=part)
    factor.div_(1 - p)
    return x * factor if x.requires_grad else factor.mul_(x)


_DRAWS: Final = 1 << 16
"""So many random numbers at a time: half a megabyte."""


def normalize_rows(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """``x diag(weight)`` with rows of length 1 (rows of zeros stay), for ``x`` ``[n, d]`` dense or ``sparse_csr``."""
    if x.layout != torch.sparse_csr:
        return unit_rows(x if weight is None else x * weight)
    values, pointer, column = _stored(x)
    values = values if weight is None else values * weight[column]
    row = _rows(pointer)
    squares = values.new_zeros(x.shape[0]).index_add(0, row, values.square())
    length = squares.masked_fill(squares == 0, 1.0).sqrt()  # a root has no derivative at 0
    values = values / length.clamp(min=torch.finfo(x.dtype).tiny)[row]
    return torch.sparse_csr_tensor(pointer, column, values, x.shape, check_invariants=False)


def unit_rows(h: Tensor) -> Tensor:
    """``h_i / max(‖h_i‖, ε)`` as ``torch.nn.functional.normalize`` has it, with all derivatives at rows of zeros too.

    The norm itself has none there, and torch's second derivative of it is not a number.
    """
    blank = (h == 0).all(dim=1, keepdim=True)
    length: Tensor = torch.linalg.vector_norm(torch.where(blank, 1.0, h), dim=1, keepdim=True)
    return h / length.masked_fill(blank, 0.0).clamp(min=_LEAST)


_LEAST: Final = 1e-12
"""The ε of ``torch.nn.functional.normalize``."""


def compress(x: Tensor, *, max_density: float = 0.2) -> Tensor:
    """``x``, dense or ``sparse_csr``, in the latter layout if at most ``max_density`` of its entries are not zero.

    Dense otherwise: dropout draws for each entry that is stored, so one matrix is to have one layout.
    """
    entries = x if x.layout == torch.strided else x.values()
    if torch.count_nonzero(entries).item() > max_density * x.shape.numel():
        return x.to_dense()
    if x.layout != torch.strided:
        return x
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return x.to_sparse_csr()
