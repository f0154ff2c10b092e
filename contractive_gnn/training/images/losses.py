r"""Losses of classifiers of images: of the scores alone, or of the distance that they certify."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, multi_margin_loss, one_hot

from contractive_gnn.checks import check_real
from contractive_gnn.training.images.radius import signed_radius


class ImageLoss(ABC):
    """A mean loss of a batch. A subclass is a frozen dataclass, whose text tells one training from another.

    Attributes:
        needs_lipschitz: whether it reads the model's constant.
    """

    needs_lipschitz: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, scores: Tensor, labels: Tensor, lipschitz: float | None) -> Tensor:
        """The mean loss, a scalar.

        Args:
            scores: float ``[n, classes]``.
            labels: int64 ``[n]``.
            lipschitz: L, the certified constant of the model in ℓ2 as it was when the epoch began, from an image in
                [0, 1] to its scores: a number, so no gradient goes through it. None unless ``needs_lipschitz``.
        """


@dataclass(frozen=True)
class MarginLoss(ImageLoss):
    r"""The multi-class hinge loss: every wrong score should lie below the right one by a margin.

    .. math:: \frac{1}{C} \sum_{j \ne y} \max(0,\, m - (z_y - z_j))

    (Crammer and Singer, JMLR 2001, summed over classes; the loss of Celledoni et al., SISC 2023, with m = 0.07.) Of a
    1-Lipschitz model an image without loss has a certified radius of at least ``m/√2``.

    Args:
        margin: m > 0, in units of the scores.
    """

    margin: float = 0.07

    def __post_init__(self) -> None:
        check_real("margin", self.margin, above=0)

    def __call__(self, scores: Tensor, labels: Tensor, lipschitz: float | None) -> Tensor:
        """The mean loss."""
        return multi_margin_loss(scores, labels, margin=self.margin)


@dataclass(frozen=True)
class TemperatureCrossEntropy(ImageLoss):
    r"""Cross-entropy at a temperature, after a handicap for the right class.

    .. math:: T \cdot \mathrm{CE}\!\left(\frac{z - \sqrt 2\, \varepsilon L\, e_y}{T},\, y\right)

    A small temperature lets a model with a small constant be sure of what it says. The handicap is what an attack of
    size ε can take from a margin, so the model is trained as if each image had been attacked (the loss of Prach and
    Lampert, ECCV 2022, and of Araujo et al., ICLR 2023). With the defaults this is the plain cross-entropy.

    Args:
        temperature: T > 0, in units of the scores.
        offset: ε ≥ 0, in units of a pixel: ℓ2 between images in [0, 1].
    """

    temperature: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        check_real("temperature", self.temperature, above=0)
        check_real("offset", self.offset, least=0)

    @property
    def needs_lipschitz(self) -> bool:  # type: ignore[override]  # with an offset alone
        """Whether there is a handicap."""
        return self.offset > 0

    def __call__(self, scores: Tensor, labels: Tensor, lipschitz: float | None) -> Tensor:
        """The mean loss."""
        if self.offset > 0:
            taken = math.sqrt(2.0) * self.offset * _constant(self, lipschitz)
            scores = scores - taken * one_hot(labels, scores.size(1)).to(scores)
        return self.temperature * cross_entropy(scores / self.temperature, labels)


@dataclass(frozen=True)
class CertifiedRadiusLoss(ImageLoss):
    r"""Cross-entropy at a temperature, less a reward for the certified radius of what is right.

    .. math:: T \cdot \mathrm{CE}(z/T, y) - w \cdot \min(\max(r, 0),\, \varepsilon), \qquad
        r = \frac{z_y - \max_{j \ne y} z_j}{\sqrt 2\, L}

    (In the spirit of Zhai et al., *MACER*, ICLR 2020, with the radius of a Lipschitz constant.) An image with more
    than ε adds nothing, so the reward goes to those that are near.

    Args:
        weight: w > 0, loss for one unit of a pixel.
        radius: ε > 0, in units of a pixel: ℓ2 between images in [0, 1].
        temperature: T > 0, in units of the scores.
    """

    needs_lipschitz: ClassVar[bool] = True

    weight: float = 1.0
    radius: float = 0.5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_real("weight", self.weight, above=0)
        check_real("radius", self.radius, above=0)
        check_real("temperature", self.temperature, above=0)

    def __call__(self, scores: Tensor, labels: Tensor, lipschitz: float | None) -> Tensor:
        """The mean loss."""
        radii = signed_radius(scores, labels, lipschitz=_constant(self, lipschitz))
        reward = torch.clamp(radii, min=0.0, max=self.radius).mean()
        return self.temperature * cross_entropy(scores / self.temperature, labels) - self.weight * reward


def _constant(loss: ImageLoss, lipschitz: float | None) -> float:
    if lipschitz is None or not (lipschitz > 0 and math.isfinite(lipschitz)):
        raise ValueError(
            f"{loss} needs a model with a finite, positive Lipschitz constant, got {lipschitz!r}; train a model "
            "without one by TemperatureCrossEntropy or MarginLoss"
        )
    return lipschitz
