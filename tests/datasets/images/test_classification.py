"""Labelled images: their checks, floats, digests, and the validation split."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from contractive_gnn.datasets.errors import InvalidImagesError, UnknownSplitError
from contractive_gnn.datasets.images import ImageData, hold_out
from contractive_gnn.inputs import InputError


def some(n: int = 12, **changes: Any) -> ImageData:
    images = torch.arange(n * 2 * 3 * 3, dtype=torch.int64).view(n, 2, 3, 3).remainder(200).to(torch.uint8)
    given: dict[str, Any] = {
        "images": images,
        "labels": torch.arange(n) % 3,
        "classes": ("a", "b", "c"),
        "name": "some/train",
    }
    return ImageData(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"images": torch.zeros(12, 2, 3, 3)}, r"images are torch.float32 \[12, 2, 3, 3\]; expected uint8"),
        ({"images": torch.zeros(12, 3, 3, dtype=torch.uint8)}, r"expected uint8 \[n, c, H, W\]"),
        ({"images": torch.zeros(0, 2, 3, 3, dtype=torch.uint8)}, "at least one"),
        ({"labels": torch.zeros(11, dtype=torch.int64)}, r"expected int64 \[12\]"),
        ({"labels": torch.zeros(12)}, "labels are torch.float32"),
        ({"labels": torch.full((12,), 3)}, "labels run from 3 to 3, but there are 3 classes"),
        ({"labels": torch.full((12,), -1)}, "labels run from -1"),
        ({"white": 16}, "the largest pixel is 199 where white is 16"),
        ({"white": 0}, "white in 1 … 255"),
        ({"images": torch.zeros(12, 2, 3, 3, dtype=torch.uint8).numpy()}, "images are a ndarray; expected a torch.Ten"),
        ({"labels": [0] * 12}, "labels are a list; expected a torch.Tensor"),
        ({"classes": 3}, "classes are 3; expected a tuple with the name of each"),
    ],
)
def test_what_is_no_set_of_images_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidImagesError, match=complaint) as error:
        some(**changes)
    assert isinstance(error.value, InputError)


def test_floats_are_pixels_over_white() -> None:
    data = some()
    assert torch.equal(data.floats(), data.images.float() / 255)
    assert torch.equal(data.floats([3, 1]), data.images[[3, 1]].float() / 255)
    assert data.floats(slice(2, 4), dtype=torch.float64).dtype == torch.float64
    grey = some(images=torch.full((12, 2, 3, 3), 16, dtype=torch.uint8), white=16)
    assert bool((grey.floats() == 1).all())
    assert len(data) == 12
    assert data.shape == (2, 3, 3)


def test_a_subset_keeps_images_and_labels_together() -> None:
    data = some()
    part = data.subset(torch.tensor([5, 0]), name="part")
    assert torch.equal(part.images, data.images[[5, 0]])
    assert part.labels.tolist() == [2, 0]
    assert (part.name, data.subset([1]).name) == ("part", "some/train")


def test_the_digest_tells_images_labels_shapes_and_white_apart() -> None:
    data = some()
    moved = data.images.clone()
    moved[0, 0, 0, 0] += 1
    others = [
        some(images=moved),
        some(labels=(torch.arange(12) + 1) % 3),
        some(images=data.images.reshape(12, 2, 1, 9)),
        some(white=254),
    ]
    assert some().digest == data.digest
    assert len({data.digest, *(other.digest for other in others)}) == 5


def test_hold_out_takes_the_same_share_of_every_class() -> None:
    labels = torch.tensor([0] * 50 + [1] * 31 + [2] * 19)
    data = some(100, labels=labels)
    train, val = hold_out(data, 10)
    assert (len(train), len(val)) == (90, 10)
    assert val.labels.bincount().tolist() == [5, 3, 2]
    assert (train.name, val.name) == ("some/train-10", "some/val-10")
    every = torch.cat([train.images, val.images]).flatten(1)
    assert len(torch.unique(every, dim=0)) == len(torch.unique(data.images.flatten(1), dim=0))


def test_hold_out_depends_on_the_seed_and_is_the_same_for_ever() -> None:
    data = some(60, images=torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1))
    _, val = hold_out(data, 6)
    assert val.images.flatten().tolist() == [3, 4, 34, 41, 47, 54]
    assert hold_out(data, 6, seed=1)[1].images.flatten().tolist() != val.images.flatten().tolist()


@pytest.mark.parametrize("count", [0, 12, -1])
def test_hold_out_leaves_images_on_both_sides(count: int) -> None:
    with pytest.raises(UnknownSplitError, match=f"count = {count} given; expected 1 to 11 of the 12 images"):
        hold_out(some(), count)


def test_types_that_are_almost_right() -> None:
    assert some(classes=["a", "b", "c"]).classes == some().classes  # two loads of one set are one set
    with pytest.raises(TypeError, match=r"white must be a whole number, got 255.0 \(float\)"):
        some(white=255.0)
    with pytest.raises(TypeError, match="data must be ImageData, as load_images gives, got Tensor"):
        hold_out(some().floats(), 3)  # type: ignore[arg-type]
