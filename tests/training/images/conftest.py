"""Small images, and a model with a known constant."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from contractive_gnn.datasets.images import ImageData
from contractive_gnn.nn.lipschitz import Sequential


class Halved(nn.Module):
    """A linear layer that the library knows no constant of, with dropout before it."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.drop(self.norm(x)).flatten(1))  # type: ignore[no-any-return]


@pytest.fixture
def stripes() -> ImageData:
    """Images of 4 × 4 with a bright row, column or diagonal, and noise: three classes, 96 images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 120, (96, 1, 4, 4), generator=generator)
    labels = torch.arange(96) % 3
    for index, label in enumerate(labels.tolist()):
        place = index // 3 % 4
        if label == 0:
            images[index, 0, place] = 250
        elif label == 1:
            images[index, 0, :, place] = 250
        else:
            images[index, 0, range(4), range(4)] = 250
    return ImageData(images.to(torch.uint8), labels, ("row", "column", "diagonal"), "stripes/train")


@pytest.fixture
def draw() -> type[Halved]:
    """The class of a model with dropout and running statistics."""
    return Halved


@pytest.fixture
def flattened() -> Sequential:
    """A 1-Lipschitz model without parameters: the scores are the first three pixels of images of one row."""
    return Sequential(nn.Flatten())
