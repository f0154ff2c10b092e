"""What a classifier says about images, and how much of it is certified."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.datasets.images import ImageData
from contractive_gnn.nn.evaluation import evaluating
from contractive_gnn.nn.lipschitz.base import certified, lipschitz
from contractive_gnn.nn.parametrizations import computed_once
from contractive_gnn.training.batches.place import place
from contractive_gnn.training.images.radius import signed_radius

#: a radius that the tables of the field report, ℓ2 between images in [0, 1]
EPSILON = 36 / 255


@dataclass(frozen=True)
class ImageAccuracy:
    """Accuracy on a set of images, in percent.

    Attributes:
        clean: of the images as they are.
        certified: those that are right and stay right under any change of at most ``epsilon``; None where the model has
            no finite, proved constant.
        epsilon: ℓ2 between images in [0, 1].
        lipschitz: the constant; ``inf`` where none is known.
    """

    clean: float
    certified: float | None
    epsilon: float
    lipschitz: float


@torch.no_grad()
def image_scores(model: nn.Module, data: ImageData, *, batch_size: int = 256) -> Tensor:
    """The scores of all images in evaluation mode, ``[n, classes]``, on the CPU; each part's mode is left as it was.

    Raises:
        TypeError: the model is no module.
        ValueError: the scores have another shape, or are not finite.
    """
    check_whole("batch_size", batch_size, least=1)
    device, dtype = place(model)
    with evaluating(model), computed_once(model):
        parts = [
            model(data.floats(slice(start, start + batch_size), dtype=dtype).to(device)).cpu()
            for start in range(0, len(data), batch_size)
        ]
    scores = torch.cat(parts)
    check_scores(scores, len(data), len(data.classes))
    if not bool(torch.isfinite(scores).all()):
        raise ValueError("the model's scores are not finite: nothing can be said of it; train it at a lower max_lr")
    return scores


def image_accuracy(
    model: nn.Module, data: ImageData, *, epsilon: float = EPSILON, batch_size: int = 256
) -> ImageAccuracy:
    """Clean and certified accuracy. The rounding of the scores is not allowed for: see the certificates for that.

    Args:
        model: ``[n, c, H, W]`` in [0, 1] to scores ``[n, classes]``.
        data: images with labels.
        epsilon: at least 0.
        batch_size: images at a time.

    Raises:
        ValueError: for scores of another shape, or that are not finite.
    """
    check_real("epsilon", epsilon, least=0)
    scores = image_scores(model, data, batch_size=batch_size).double()
    constant = lipschitz(model)
    clean = scores.argmax(dim=1) == data.labels
    if constant > 0 and math.isfinite(constant) and certified(model):
        kept = clean & (signed_radius(scores, data.labels, lipschitz=constant) >= epsilon)
        share = 100.0 * float(kept.double().mean())
    else:
        share = None
    return ImageAccuracy(100.0 * float(clean.double().mean()), share, epsilon, constant)


def check_scores(scores: Tensor, images: int, classes: int) -> None:
    """Raise ValueError unless there is a score of each class for each image."""
    if list(scores.shape) != [images, classes] or not scores.is_floating_point():
        raise ValueError(
            f"the model gives {scores.dtype} {list(scores.shape)} for {images} images of {classes} classes; expected "
            f"floating point [{images}, {classes}]"
        )
