"""Fixed tensors that are known in float64, in the precision that a module works in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

_FINE = 2**10
"""How many units each tap must have, so that rounding moves it by less than a relative 2⁻¹¹."""


class Exact(nn.Module):
    """A module whose fixed tensors are kept as they were given: ``.float()`` rounds them, ``.double()`` has them again.

    A tensor that was changed since, by hand or by a state dict, is converted as torch does it.
    """

    _exact: Mapping[str, Tensor] = {}

    def _keep(self, name: str) -> None:
        """Keep a buffer in float64, unless a derivative goes through it or it has no values."""
        buffer = self._buffers[name]
        if buffer is not None and not buffer.requires_grad and not buffer.is_meta:
            self._exact = {**self._exact, name: buffer.double()}

    def _rounded(self, exact: Tensor, dtype: torch.dtype) -> Tensor:
        """A kept tensor in another precision."""
        return exact.to(dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Exact:
        former = {name: self._buffers.get(name) for name in self._exact}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in former.items():
            now = self._buffers.get(name)
            if before is None or now is None or now.dtype == before.dtype or before.is_meta or before.requires_grad:
                continue
            exact = self._exact[name].to(before.device)
            if now.is_floating_point() and torch.equal(before, self._rounded(exact, before.dtype)):
                self._buffers[name] = self._rounded(exact, now.dtype).to(now.device)
        return self


def rounded_taps(kernel: Tensor, dtype: torch.dtype, origin: Sequence[int]) -> Tensor:
    r"""Taps in another precision; those that sum to 0 do so again, where every tap is large enough.

    Rounded one by one they miss 0 by the precision, and a field with them loses the mass that it keeps. So they are
    rounded to multiples of one unit u, a power of two of which ``2^p u ≥ Σ|K|`` with p the digits: every sum of them is
    exact, and the tap at the origin is minus the sum of the others. Even kernels stay even. Kernels that sum to 0 when
    rounded one by one, odd ones, are; and so are all taps but that at the origin where one of them, as of an axis with
    a far larger spacing, is below 2¹⁰ u.

    Args:
        kernel: float64 ``[..., k₁, …, k_d]``.
        dtype: floating.
        origin: the place of i in the kernel, an index for each axis.
    """
    near = kernel.to(dtype)
    if dtype == kernel.dtype or not kernel.numel():
        return near
    axes = tuple(range(-len(origin), 0))

    def total(taps: Tensor) -> Tensor:
        return taps.sum(dim=axes, keepdim=True)

    size = total(kernel.abs())
    vanishes = total(kernel).abs() <= kernel.numel() * torch.finfo(kernel.dtype).eps * size
    misses = total(near.double()) != 0
    unit = torch.ldexp(torch.full_like(size, torch.finfo(dtype).eps / 2), torch.frexp(size).exponent)
    fine = ((kernel == 0) | (kernel.abs() >= _FINE * unit)).all(dim=axes, keepdim=True)
    taps = torch.where(fine, torch.round(kernel / unit) * unit, near.double())
    middle = taps
    for axis, o in zip(axes, origin, strict=True):
        middle = middle.narrow(axis, o, 1)
    middle.zero_()
    middle.copy_(-total(taps))
    return torch.where(vanishes & misses, taps.to(dtype), near)
