r"""Rounding errors of a model in its own precision: what a certificate adds to the bound of the exact function.

Every operation is taken to obey ``fl(a ∘ b) = (a ∘ b)(1 + δ) + η`` with ``|δ| ≤ u`` and ``|η| ≤ τ``. Here u is the
precision ``eps`` of the dtype, twice its unit roundoff, and τ its smallest normal number, far more than an underflow
loses, even where subnormal numbers are flushed to zero. That holds as long as nothing overflows, which is checked. k
roundings in a row have the factor ``γ_k = k u/(1 − k u)`` (Higham, *Accuracy and Stability of Numerical Algorithms*,
§3.1), which means nothing unless ``k u`` is well below 1: here below 1/2.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

#: precisions in which a model may run
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
#: of the largest number of a dtype, what a bound of the numbers that occur may reach
_ROOM = 0.25


def dtype_of(unit_roundoff: float) -> torch.dtype | None:
    """The dtype with this ``eps``, None for 0: what the argument ``unit_roundoff`` of earlier versions means now.

    Raises:
        ValueError: no dtype has it.
    """
    warnings.warn("unit_roundoff is deprecated: give dtype, in which the model runs", FutureWarning, stacklevel=3)
    known = {torch.finfo(dtype).eps: dtype for dtype in DTYPES}
    if unit_roundoff and unit_roundoff not in known:
        raise ValueError(f"unit_roundoff must be the eps of a dtype, one of {sorted(known)}, got {unit_roundoff!r}")
    return known.get(unit_roundoff)


class Unproved(Exception):
    """Why nothing is proved; the certificate turns it into its ``reason``."""


def gamma(terms: Tensor, dtype: torch.dtype) -> Tensor:
    """``γ_k`` for numbers k of roundings, float64 of the shape of ``terms``.

    Raises:
        Unproved: ``k u ≥ 1/2``: too many terms for the precision.
    """
    ku = terms.double() * torch.finfo(dtype).eps
    if not bool((ku < 0.5).all()):
        raise Unproved(
            f"{int(terms.max())} rounding errors in a row cannot be bounded in {dtype}; use a model of more precision"
        )
    return ku / (1 - ku)


def in_range(size: Tensor | float, dtype: torch.dtype, what: str) -> None:
    """Make sure that numbers of at most ``size`` do not overflow, with room to spare.

    Raises:
        Unproved: they may be too large for the dtype, or are no numbers.
    """
    largest = float(size.max()) if isinstance(size, Tensor) else size
    if not largest <= _ROOM * torch.finfo(dtype).max:
        raise Unproved(f"{what} may reach {largest:.3g}, beyond the range of {dtype}: it may overflow")


def positive(slack: Tensor) -> Tensor:
    """The slack itself, once every entry is seen to be positive and finite.

    Raises:
        Unproved: one is not.
    """
    if not bool(((slack > 0) & slack.isfinite()).all()):
        raise Unproved("a slack for rounding errors is not positive and finite: the bound has lost its meaning")
    return slack


def affine_rounding(weight: Tensor, bias: Tensor | None, size: Tensor, terms: int, dtype: torch.dtype) -> Tensor:
    r"""A bound on the rounding errors of ``W x + b`` in the model's precision, ``[n, out]``.

    .. math:: \gamma_k (|W| |x| + |b|) + k \tau (1 + \max |x| + \max |W|)

    Args:
        weight: W, ``[out, in]``, float64.
        bias: b, ``[out]``, or None.
        size: a bound of ``|x|``, ``[n, in]``.
        terms: k, at least the number of products that are not 0, and 2.
        dtype: in which the model runs.

    Raises:
        Unproved: an overflow is possible, or k is too large for the precision.
    """
    absolute = weight.abs()
    reach = size @ absolute.t() if bias is None else size @ absolute.t() + bias.abs()
    most = size.max() + absolute.max() if size.numel() and absolute.numel() else reach.new_zeros(())
    in_range(torch.cat([reach.flatten(), most[None]]), dtype, "an entry of an affine map")
    lost = terms * torch.finfo(dtype).tiny * (1 + most)
    return positive(gamma(torch.tensor(terms), dtype) * reach + lost)
