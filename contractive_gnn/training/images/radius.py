r"""The certified radius of an image, as training measures it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def signed_radius(scores: Tensor, labels: Tensor, *, lipschitz: float) -> Tensor:
    r"""How far each image may move in ℓ2 before the model can be wrong about it; negative where it is wrong already.

    .. math:: r = \frac{z_y - \max_{j \ne y} z_j}{\sqrt 2\, L}

    (Tsuzuku, Sato, Sugiyama, NeurIPS 2018; :func:`contractive_gnn.certificates.lipschitz.lipschitz_radius` is the
    certificate of a prediction, without labels.) Differentiable in the scores. Rounding is not allowed for.

    Args:
        scores: ``[n, classes]``, at least two classes.
        labels: int64 ``[n]``.
        lipschitz: L > 0, proved, from an image in [0, 1] to its scores.

    Returns:
        ``[n]``, in the units of a pixel: ℓ2 between images in [0, 1].
    """
    own = scores.gather(1, labels[:, None])
    other = scores.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    return (own.squeeze(1) - other) / (math.sqrt(2.0) * lipschitz)
