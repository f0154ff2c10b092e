"""The options of a training on images, each checked where it is given."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from contractive_gnn.training.images import (
    DenoiserFitOptions,
    ImageFitOptions,
    MarginLoss,
    TemperatureCrossEntropy,
)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"epochs": 0}, ValueError),
        ({"epochs": 1.0}, TypeError),
        ({"batch_size": 0}, ValueError),
        ({"optimiser": "lion"}, ValueError),
        ({"max_lr": 0.0}, ValueError),
        ({"max_lr": float("nan")}, ValueError),
        ({"weight_decay": -1e-4}, ValueError),
        ({"schedule": "cosine"}, ValueError),
        ({"warmup": 1.0}, ValueError),
        ({"ema": 1.0}, ValueError),
        ({"dtype": "float16"}, ValueError),
        ({"channels_last": 1}, TypeError),
        ({"threads": 0}, ValueError),
    ],
)
@pytest.mark.parametrize("kind", [ImageFitOptions, DenoiserFitOptions])
def test_what_is_out_of_range_is_refused(kind: Any, given: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(given))):
        kind(**given)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"steps": 0}, ValueError),
        ({"patch": 0}, ValueError),
        ({"sigma": 0.0}, ValueError),
        ({"sigma": 25.0}, ValueError),  # in 255ths
        ({"sigma": (0.2, 0.1)}, ValueError),
        ({"sigma": (0.1, 0.2, 0.3)}, TypeError),
        ({"loss": "huber"}, ValueError),
        ({"turn": "yes"}, TypeError),
        ({"val_sigmas": ()}, TypeError),
        ({"val_sigmas": 0.1}, TypeError),
        ({"val_sigmas": (25.0,)}, ValueError),
    ],
)
def test_what_is_out_of_range_for_a_denoiser_is_refused(given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(given))):
        DenoiserFitOptions(**given)


def test_images_are_not_changed_unless_it_is_asked_for() -> None:
    assert ImageFitOptions().augment is None


@pytest.mark.parametrize("given", [{"loss": "hinge"}, {"augment": True}])
def test_loss_and_augmentation_are_objects(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(given))):
        ImageFitOptions(**given)


def test_every_option_but_the_threads_is_part_of_the_identity() -> None:
    options = ImageFitOptions(loss=MarginLoss(0.1))
    identity = options.identity()
    assert set(identity) == {field.name for field in dataclasses.fields(options)} - {"threads"}
    assert identity["loss"] == "MarginLoss(margin=0.1)"
    assert ImageFitOptions(threads=1).identity() == ImageFitOptions().identity()
    assert ImageFitOptions(loss=TemperatureCrossEntropy(0.2)).identity() != ImageFitOptions().identity()
