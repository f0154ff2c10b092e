"""What a training on images did."""

from __future__ import annotations

from dataclasses import dataclass

from contractive_gnn.training.batches.result import BatchFitResult, Epoch


@dataclass(frozen=True)
class ImageFitResult(BatchFitResult[Epoch]):
    """What :func:`fit_images` or :func:`fit_denoiser` did; the epochs are those of either."""
