"""How far an image may move before the largest score can change, by the differences of the last weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def pairwise_radius(scores: Tensor, head: Tensor, *, lipschitz: float) -> Tensor:
    r"""The certified radius in ℓ2 of scores ``z = Wφ(x) + b`` with an L-Lipschitz body φ.

    The difference of two scores is ``⟨w_i − w_j, φ(x)⟩`` plus a constant, so it is ``L‖w_i − w_j‖``-Lipschitz: with i
    the predicted class

    .. math:: r = \min_{j \ne i} \frac{z_i - z_j}{L\,\|w_i - w_j\|_2}.

    That is never less than ``(z_i − z_j)/(√2 L‖W‖₂)`` of :func:`contractive_gnn.certificates.lipschitz_radius`, for
    ``‖w_i − w_j‖ = ‖Wᵀ(e_i − e_j)‖ ≤ √2‖W‖``.

    Args:
        scores: ``[n, classes]``, at least two classes. Their rounding is not allowed for: evaluate the model in float64
            where it is to be negligible.
        head: W, ``[classes, features]``.
        lipschitz: L ≥ 0 of the body, proved.

    Returns:
        r, ``[n]``, float64: 0 for a tie, ``inf`` where nothing can change the prediction.

    Raises:
        ValueError: for shapes that do not fit, entries that are not finite, and an L that is negative or not finite.

    Example:
        >>> head = torch.tensor([[1.0, 0.0], [0.5, 0.0]])
        >>> round(pairwise_radius(torch.tensor([[3.0, 1.0]]), head, lipschitz=2.0).item(), 6)
        2.0
    """
    if scores.dim() != 2 or scores.size(1) < 2 or not scores.is_floating_point():
        raise ValueError(f"scores must be real, [n, classes] with two classes or more, got {list(scores.shape)}")
    if head.dim() != 2 or head.size(0) != scores.size(1):
        raise ValueError(f"head must be [{scores.size(1)}, features], a row for each class, got {list(head.shape)}")
    if not bool(torch.isfinite(scores).all() and torch.isfinite(head).all()):
        raise ValueError("scores and head must be finite, got an entry that is not: nothing is certified")
    if not (lipschitz >= 0 and math.isfinite(lipschitz)):
        raise ValueError(
            f"lipschitz must be a finite number of at least 0, got {lipschitz!r}: "
            "a model without a constant has no radius"
        )
    exact, rows = scores.detach().double(), head.detach().double()
    # Differences, not a product of Gram's kind: nothing cancels. The last factor is for the rounding of the sum.
    apart = torch.linalg.vector_norm(rows[:, None] - rows[None], dim=2) * (1.0 + (rows.size(1) + 4) * 2.0**-52)
    first, predicted = exact.max(dim=1)
    margin, change = first[:, None] - exact, lipschitz * apart[predicted]
    radii = torch.where(change > 0, margin / change, torch.where(margin > 0, math.inf, 0.0).to(margin))
    return radii.scatter(1, predicted[:, None], math.inf).amin(dim=1)
