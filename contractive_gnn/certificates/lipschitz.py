r"""The certificate of a classifier with a known Lipschitz constant, on inputs without a graph."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def lipschitz_radius(scores: Tensor, *, lipschitz: float) -> Tensor:
    r"""How far an input may move in ℓ2 before the prediction can change.

    Let the map from an input to its scores be L-Lipschitz in ℓ2. The difference of two scores is ``⟨e_i − e_j, z⟩``
    with ``‖e_i − e_j‖₂ = √2``, so it is ``√2 L``-Lipschitz, and with ``z_i`` the largest score and ``z_j`` the second

    .. math:: r = \frac{z_i - z_j}{\sqrt 2\, L}

    no input closer than r is predicted otherwise (Tsuzuku, Sato, Sugiyama, NeurIPS 2018). No change of a single input
    matters to the others of its batch: the model must answer for each alone, without statistics of the batch.

    Args:
        scores: ``[n, classes]``, at least two classes. Their rounding is not allowed for: evaluate the model in float64
            where it is to be negligible.
        lipschitz: L ≥ 0, proved, in ℓ2 from one input to its scores, not to their softmax.

    Returns:
        r, ``[n]``, float64: 0 for a tie, and ``inf`` for L = 0 without one.

    Raises:
        ValueError: for scores of another shape or that are not finite, and for an L that is negative or not finite.

    Example:
        >>> import torch
        >>> lipschitz_radius(torch.tensor([[3.0, 1.0, 0.0]]), lipschitz=2.0).item()  # 2/(2√2)
        0.7071067811865475
    """
    if scores.dim() != 2 or scores.size(1) < 2 or not scores.is_floating_point():
        raise ValueError(
            f"scores must be real, of shape [n, classes] with at least two classes, got {scores.dtype} "
            f"{list(scores.shape)}"
        )
    if not bool(torch.isfinite(scores).all()):
        raise ValueError("scores must be finite, got an entry that is not: nothing is certified for it")
    if not (lipschitz >= 0 and math.isfinite(lipschitz)):
        raise ValueError(
            f"lipschitz must be a finite number of at least 0, got {lipschitz!r}: "
            "a model without a constant has no radius"
        )
    first, second = scores.double().topk(2, dim=1).values.unbind(dim=1)
    margin = first - second
    if lipschitz == 0:
        return torch.where(margin > 0, math.inf, 0.0).to(margin)
    return margin / (math.sqrt(2.0) * lipschitz)
