r"""The correlation of a kernel's rows with each other: a bound of its norm from sums of absolute values.

Let ``K(ω) = Σ_t K_t e^{i⟨ω, t⟩}`` be the symbol of a kernel and ``R(t) = Σ_s K_{s+t} K_sᵀ`` its correlation, an
``[out, out]`` matrix for each tap t. Then ``K(ω)K(ω)* = Σ_t R(t) e^{i⟨ω, t⟩}``, whose entries are at most
``M_ij = Σ_t |R_ij(t)|`` for every ω. M is symmetric and has no negative entry, so for each vector p > 0

.. math:: \|K(ω)\|_2^2 \le ρ(M) \le \max_i (Mp)_i/p_i \qquad \text{for all } ω

(Collatz 1942). A convolution with zero padding, at every size, with any stride, is a part of the one of stride 1 on the
infinite lattice; a circular one of size N has the norm of its symbol at the N-th roots of unity, also where the kernel
wraps onto itself. Neither exceeds ``sup_ω ‖K(ω)‖₂``. A matrix is a kernel with one tap.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 128  # products that are summed in one go: the longer the sum, the larger its rounding


def correlation_sums(kernel: Tensor) -> Tensor:
    """``M_ij = Σ_t |R_ij(t)|``, ``[groups, out, in, kh, kw]`` to ``[groups, out, out]``; differentiable."""
    groups, out, channels, height, width = kernel.shape
    taps = kernel.permute(0, 3, 4, 1, 2).reshape(groups, height * width, out, channels).contiguous()
    sums: Tensor = _CorrelationSums.apply(taps, width)
    return sums


def weighted_sums(kernel: Tensor, p: Tensor) -> Tensor:
    """An upper bound of ``(Mp)_i/p_i``, ``[groups, out]``, rounding included; see the module's text.

    A product of length n that is computed in any order errs by at most ``n u/(1 − n u)`` times the sum of its absolute
    values (Higham 2002, section 3.1), u the unit roundoff. These sums add up to ``(BBᵀp)_i/p_i`` with
    ``B_ic = Σ_s |K_s|_ic``, which costs nothing beside M.

    Args:
        kernel: ``[groups, out, in, kh, kw]``, in float32 or float64.
        p: positive, ``[groups, out]``.
    """
    if kernel.dtype != torch.float64 and not exact_products():
        return weighted_sums(kernel.double(), p.double()).to(kernel.dtype) * (1.0 + 2 * torch.finfo(kernel.dtype).eps)
    with torch.autocast(kernel.device.type, enabled=False):  # likewise
        return _weighted_sums(kernel, p)


def exact_products() -> bool:
    """Whether a product of matrices in float32 is one: torch may be told to round their entries to ten bits or fewer.

    There are two ways to tell it, and asking in the way that was not used may be an error.
    """
    try:
        if torch.get_float32_matmul_precision() != "highest":
            return False
    except RuntimeError:
        return False
    backends = (torch.backends, torch.backends.mkldnn, torch.backends.cuda.matmul)
    chosen = [getattr(backend, "fp32_precision", "ieee") for backend in backends]
    chosen.append(getattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision", "ieee"))
    return all(precision in ("ieee", "none") for precision in chosen)


def _weighted_sums(kernel: Tensor, p: Tensor) -> Tensor:
    _, out, channels, height, width = kernel.shape
    unit = torch.finfo(kernel.dtype).eps / 2
    terms = min(channels, BLOCK) + -(-channels // BLOCK) * height * width  # of the longest sum of products
    sums = torch.einsum("gij,gj->gi", correlation_sums(kernel), p) / p
    rows = kernel.detach().abs().sum(dim=(3, 4))
    absolute = torch.einsum("gic,gjc,gj->gi", rows, rows, p.detach()) / p.detach()
    # What is made of the sums, a kernel scaled by their roots say, rounds a few times more.
    slack = 1.01 * unit * (terms + 16)
    relative = 1.01 * unit * (out + 4 * height * width + 16)
    return (sums + slack * absolute) * (1.0 + 2 * relative)


class _CorrelationSums(torch.autograd.Function):
    """Sums for ``[groups, taps, out, in]``, whose taps are those of a kernel of the given width, row by row."""

    @staticmethod
    def forward(ctx: Any, taps: Tensor, width: int) -> Tensor:
        groups, count, out, _ = taps.shape
        index = {shift: number for number, shift in enumerate(_shifts(count, width))}
        correlation = taps.new_zeros(len(index), groups, out, out)
        for first, second, shift in _pairs(count, width):
            for part, other in zip(_blocks(taps[:, second]), _blocks(taps[:, first]), strict=True):
                correlation[index[shift]].baddbmm_(part, other.mT)
        sign = correlation.sign().to(torch.int8)
        magnitude = correlation.abs_()
        half = magnitude[1:].sum(dim=0)
        ctx.save_for_backward(taps, sign)
        ctx.width = width
        return magnitude[0] + half + half.mT

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        taps, sign = ctx.saved_tensors
        count = taps.size(1)
        index = {shift: number for number, shift in enumerate(_shifts(count, ctx.width))}
        both = grad + grad.mT  # R(−t) is the transpose of R(t)
        slopes = [sign[number].to(grad.dtype) * both for number in range(len(index))]
        result = [torch.zeros_like(taps[:, 0]) for _ in range(count)]
        for first, second, shift in _pairs(count, ctx.width):
            slope = slopes[index[shift]]
            result[second] = torch.baddbmm(result[second], slope, taps[:, first])
            if first != second:
                result[first] = torch.baddbmm(result[first], slope.mT, taps[:, second])
        return torch.stack(result, dim=1), None


def _blocks(matrix: Tensor) -> tuple[Tensor, ...]:
    return torch.split(matrix, BLOCK, dim=-1)


def _pairs(count: int, width: int) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Pairs of taps, the second not before the first, and the shift between them."""
    for first in range(count):
        for second in range(first, count):
            yield first, second, (second // width - first // width, second % width - first % width)


def _shifts(count: int, width: int) -> list[tuple[int, int]]:
    """The shifts of all pairs, zero first; of each and its negative there is one."""
    return list(dict.fromkeys(shift for _, _, shift in _pairs(count, width)))
