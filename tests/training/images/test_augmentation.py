"""Crops and reflections: what comes out is a moved image, and each one is moved in its own way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from contractive_gnn.training.images import Augmentation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def windows(image: Tensor, padding: int, mode: str) -> list[Tensor]:
    """Every image that a crop of this one may give."""
    _, height, width = image.shape
    padded = pad(image[None].float(), (padding,) * 4, mode=mode)[0].to(image.dtype)
    shifts = range(2 * padding + 1)
    return [padded[:, i : i + height, j : j + width] for i in shifts for j in shifts]


@pytest.mark.parametrize(("fill", "mode"), [("zeros", "constant"), ("reflect", "reflect")])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_crop_is_one_of_the_windows_of_the_padded_image(fill: str, mode: str, dtype: torch.dtype) -> None:
    images = torch.randint(1, 255, (40, 2, 4, 5)).to(dtype)
    crops = Augmentation(padding=2, fill=fill, flip=False)(images, generator())  # type: ignore[arg-type]
    assert crops.dtype == dtype
    assert crops.shape == images.shape
    found = []
    for image, crop in zip(images, crops, strict=True):
        matches = [index for index, window in enumerate(windows(image, 2, mode)) if torch.equal(window, crop)]
        assert matches
        found.append(matches[0])
    assert len(set(found)) > 10  # of 25, in 40 draws


def test_half_of_the_images_are_reflected() -> None:
    images = torch.rand(400, 1, 3, 4)
    turned = Augmentation(padding=0)(images, generator())
    flipped = (turned == images.flip(3)).flatten(1).all(dim=1)
    kept = (turned == images).flatten(1).all(dim=1)
    assert bool((flipped ^ kept).all())
    assert 160 < int(flipped.sum()) < 240


def test_the_generator_says_it_all() -> None:
    images, augment = torch.rand(20, 3, 8, 8), Augmentation()
    assert torch.equal(augment(images, generator()), augment(images, generator()))
    assert not torch.equal(augment(images, generator()), augment(images, generator(1)))
    assert torch.equal(Augmentation(padding=0, flip=False)(images, generator()), images)


def test_more_reflection_than_there_is_image_is_refused() -> None:
    augment = Augmentation(padding=4, fill="reflect")
    augment(torch.rand(2, 1, 5, 5), generator())
    with pytest.raises(ValueError, match=r"padding = 4 reflects more than images of 4 × 5 have; give at most 3"):
        augment(torch.rand(2, 1, 4, 5), generator())


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"padding": -1}, ValueError),
        ({"padding": 1.5}, TypeError),
        ({"fill": "edge"}, ValueError),
        ({"flip": 1}, TypeError),
    ],
)
def test_what_is_out_of_range_is_refused(given: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(given))):
        Augmentation(**given)  # type: ignore[arg-type]
