"""The symbol of a convolution: what it does to a wave."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from contractive_gnn.operators.singular import largest_singular_value, require_decomposable, smallest_singular_value


def symbol_norm(weight: Tensor, samples: tuple[int, int]) -> Tensor:
    """The largest ``‖K(ω)‖₂`` over a grid of frequencies, for a kernel ``[groups, out, in, kh, kw]``."""
    if weight.numel() == 0:
        return weight.sum()
    symbol = _symbol(weight, samples)
    with torch.no_grad():
        largest = int(torch.linalg.svdvals(symbol)[:, 0].argmax())
    # The gradient of a maximum is that of the one that attains it. The transform errs by at most eps Σ|K|, which is
    # eps (kh kw min(out, in))^½ times the largest singular value: within the slack.
    return largest_singular_value(symbol[largest], extra=weight.size(-2) * weight.size(-1))


def symbol_floor(weight: Tensor, samples: tuple[int, int]) -> Tensor:
    """A lower bound of ``‖K(ω)x‖/‖x‖`` over a grid of frequencies, for a kernel ``[groups, out, in, kh, kw]``."""
    if weight.numel() == 0:
        return weight.new_zeros(())
    # As in symbol_norm the transform errs by a part of the largest singular value over all frequencies, and the
    # smallest one is moved by as much.
    symbol = _symbol(weight, samples)
    slack = symbol_norm(weight, samples) * (4 * weight.size(-2) * weight.size(-1) * torch.finfo(weight.dtype).eps)
    return (smallest_singular_value(symbol) - slack).clamp(min=0.0)


def _symbol(weight: Tensor, samples: tuple[int, int]) -> Tensor:
    """``K(ω)``, ``[groups · frequencies, out, in]``."""
    k, m = weight.shape[-2:]
    # Real kernels: K(−ω) is the conjugate of K(ω), so half of the frequencies will do.
    rows = waves(samples[0], samples[0], k, weight)
    columns = waves(samples[1], samples[1] // 2 + 1, m, weight)
    require_decomposable(weight)
    symbol = torch.einsum("goikl,ak,bl->gaboi", weight.to(rows.dtype), rows, columns).flatten(0, 2)
    require_decomposable(symbol)
    return symbol


def waves(samples: int, count: int, length: int, like: Tensor) -> Tensor:
    """``exp(2πi jt/S)`` for ``j < count``, ``t < length``; exact arguments, so that nothing drifts with t."""
    turns = torch.outer(torch.arange(count), torch.arange(length)) % samples
    angle = turns.to(torch.float64) * (2 * math.pi / samples)
    real = torch.polar(torch.ones_like(angle), angle)
    return real.to(device=like.device, dtype=torch.complex128 if like.dtype == torch.float64 else torch.complex64)
