"""What rounding adds to the norm of a Jacobian."""

from __future__ import annotations

import math

import torch

from contractive_gnn.checks import check_whole


def rounded(constant: float, magnitude: float, dtype: torch.dtype, *, roundings: int, terms: int = 0) -> float:
    r"""``L + ((1 + u)^r (1 + s)^t − 1) M``: the norm of a matrix whose entries are rounded r times.

    The entries of the evaluated matrix differ from those of W by at most ``((1 + u)^r (1 + s)^t − 1) |W|``, entry by
    entry, and the ℓ2 norm of a matrix grows with the absolute values of its entries. u is half the spacing of ``dtype``
    at 1, s that of the type that sums are kept in (float32, or ``dtype`` if it is wider).

    Args:
        constant: L ≥ ‖W‖₂.
        magnitude: M ≥ ‖|W|‖₂, the norm with the absolute values of all entries.
        dtype: of weights and results.
        roundings: r.
        terms: t, in a sum.
    """
    check_whole("roundings", roundings, least=0)
    if roundings == 0 and terms == 0:
        return constant
    own = torch.finfo(dtype).eps / 2
    sums = min(own, torch.finfo(torch.float32).eps / 2)
    return constant + math.expm1(roundings * math.log1p(own) + terms * math.log1p(sums)) * magnitude
