"""The three classifiers of Celledoni et al. (SISC 2023), rebuilt at their size from the text of the paper.

Stages of 32, 64 and 128 channels with max pooling between them, four convolutions of 3 × 3 in each, two substeps a
convolution with shared weights, LeakyReLU of slope 0.5, some 0.9 million parameters. The spectral norm is one power
step a training pass: an estimate from below, so nothing is certified. What the text leaves open is chosen here: the
step is 1 for a substep where it is not learned, channels are raised by a 1 × 1 convolution, and pixels are standardised
within the network.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu

Kind = Literal["unconstrained", "nonexpansive", "switching"]
SUBSTEPS, SLOPE = 2, 0.5


class EstimatedStep(nn.Module):
    """A convolution divided by one power step's estimate of its norm, in steps of one of three kinds.

    ``descent`` is ``x − hAᵀσ(Ax + b)``, ``ascent`` is ``x + hσ(Ax + b)``, and ``free`` is the latter without division.

    Args:
        kind: of the step.
        channels: of the image.
        size: of the image.
        learn_step: whether h is learned; from 1.
    """

    vector: Tensor

    def __init__(
        self, kind: Literal["descent", "ascent", "free"], channels: int, size: int, *, learn_step: bool = False
    ) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(nn.Conv2d(channels, channels, 3).weight.detach())
        self.bias = nn.Parameter(torch.zeros(channels))
        self.step = nn.Parameter(torch.ones(()), requires_grad=learn_step)
        self.register_buffer("vector", torch.randn(1, channels, size, size))

    def kernel(self) -> Tensor:
        """The weight, divided by the estimate; one power step of training."""
        if self.kind == "free":
            return self.weight
        if self.training:
            with torch.no_grad():
                image = conv_transpose2d(conv2d(self.vector, self.weight, padding=1), self.weight, padding=1)
                self.vector.copy_(image / image.norm())
        return self.weight / conv2d(self.vector, self.weight, padding=1).norm()

    def forward(self, x: Tensor) -> Tensor:
        """Two substeps."""
        kernel = self.kernel()
        for _ in range(SUBSTEPS):
            force = leaky_relu(conv2d(x, kernel, self.bias, padding=1), SLOPE)
            if self.kind == "descent":
                x = x - self.step / SUBSTEPS * 2 * conv_transpose2d(force, kernel, padding=1)
            else:
                x = x + self.step / SUBSTEPS * force
        return x


class AuthorsNetwork(nn.Module):
    """Scores of images of 32 × 32 pixels.

    Args:
        kind: ``"unconstrained"`` has free steps; ``"nonexpansive"`` only descents; ``"switching"`` an ascent and a
            descent in turn, with learned steps.
    """

    mean: Tensor

    def __init__(self, kind: Kind, *, num_classes: int = 10) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor((0.4914, 0.4822, 0.4465)).view(-1, 1, 1))
        layers: list[nn.Module] = []
        width, size = 3, 32
        for wide in (32, 64, 128):
            layers.append(nn.Conv2d(width, wide, 1))
            width = wide
            for index in range(4):
                if kind == "unconstrained":
                    layers.append(EstimatedStep("free", width, size))
                elif kind == "nonexpansive":
                    layers.append(EstimatedStep("descent", width, size))
                else:
                    step = "descent" if index % 2 else "ascent"
                    layers.append(EstimatedStep(step, width, size, learn_step=True))
            layers.append(nn.MaxPool2d(2))
            size = size // 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * size * size, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[n, 3, 32, 32]`` in [0, 1] to scores ``[n, classes]``."""
        scores: Tensor = self.layers((x - self.mean) / 0.25)
        return scores
