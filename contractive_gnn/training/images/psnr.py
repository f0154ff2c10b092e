r"""The peak signal-to-noise ratio, by which denoisers are compared."""

from __future__ import annotations

import math

from torch import Tensor


def psnr(image: Tensor, reference: Tensor) -> float:
    r"""In decibels, of images in [0, 1], over all entries; nothing is clipped or rounded first.

    .. math:: -10 \log_{10} \frac{1}{N} \sum_i (u_i - v_i)^2

    Args:
        image: of any shape.
        reference: of the same shape.

    Returns:
        The ratio; ``inf`` for equal images.

    Raises:
        ValueError: for shapes that differ, or without entries.

    Example:
        >>> import torch
        >>> round(psnr(torch.zeros(1, 4, 4), torch.full((1, 4, 4), 0.1)), 6)
        20.0
    """
    if image.shape != reference.shape or not image.numel():
        raise ValueError(
            f"both images must have one shape, with an entry at least, got {list(image.shape)} and "
            f"{list(reference.shape)}"
        )
    error = float((image.double() - reference.double()).square().mean())
    return -10.0 * math.log10(error) if error > 0 else math.inf
