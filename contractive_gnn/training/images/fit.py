"""Train a classifier of images."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from contractive_gnn.checks import check_flag, check_whole
from contractive_gnn.datasets.images import ImageData
from contractive_gnn.nn.lipschitz.base import lipschitz
from contractive_gnn.training.batches.loop import Figures, StepResult, Task, run
from contractive_gnn.training.batches.place import place
from contractive_gnn.training.images.augmentation import Augmentation
from contractive_gnn.training.images.losses import ImageLoss, TemperatureCrossEntropy
from contractive_gnn.training.images.options import ImageLoopOptions
from contractive_gnn.training.images.result import ImageFitResult
from contractive_gnn.training.images.scoring import check_scores, image_accuracy


@dataclass(frozen=True, kw_only=True)
class ImageFitOptions(ImageLoopOptions):
    """The options of :func:`fit_images`: those of :class:`ImageLoopOptions`, and two more.

    Attributes:
        loss: an :class:`ImageLoss`.
        augment: how each training image is changed at each epoch; None for not at all. ``Augmentation()`` suits
            photographs of 32 × 32; small digits are lost where they are moved so far and mirrored.

    Raises:
        TypeError: one is of another type.
        ValueError: one is out of its range.
    """

    loss: ImageLoss = field(default_factory=TemperatureCrossEntropy)
    augment: Augmentation | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.loss, ImageLoss):
            raise TypeError(f"loss must be an ImageLoss, such as TemperatureCrossEntropy(), got {self.loss!r}")
        if self.augment is not None and not isinstance(self.augment, Augmentation):
            raise TypeError(f"augment must be an Augmentation or None, got {self.augment!r}")


@dataclass(frozen=True)
class ImageEpoch:
    """An epoch of a training.

    Attributes:
        epoch: from 1.
        loss: mean over the epoch's images, as they were trained on.
        train_accuracy: on these, in percent, with the weights changing meanwhile.
        val_accuracy: on the validation images, in percent; None without any.
        val_certified: certified at ℓ2 distance 36/255 on these, in percent; None where there is no proved constant.
        lipschitz: the model's constant; None without validation images, or where none is known.
        seconds: wall time of the steps.
        cpu_seconds: of all threads of this process, likewise.
        judge_seconds: wall time of the validation.
    """

    epoch: int
    loss: float
    train_accuracy: float
    val_accuracy: float | None
    val_certified: float | None
    lipschitz: float | None
    seconds: float
    cpu_seconds: float
    judge_seconds: float


def fit_images(
    model: nn.Module,
    train: ImageData,
    options: ImageFitOptions | None = None,
    *,
    val: ImageData | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> ImageFitResult[ImageEpoch]:
    """Train a classifier from the weights that it has.

    The model is left in evaluation mode with the weights of the last epoch, averaged where ``options.ema`` is given. No
    epoch is selected: the validation images are looked at, and change nothing. A loss that reads the model's Lipschitz
    constant is given that of the beginning of the epoch, as a number.

    With a checkpoint the training is saved after each epoch, whole or not at all, and its record is written beside, one
    epoch a line: that of ``net.pt`` in ``net.pt.jsonl``. Killed and called again with the same arguments, it goes on
    where it was, to the same weights bit for bit (on the same machine, with the same number of threads); the weights
    that learn, as the model was given, then count for nothing. What the training does not change, such as frozen
    weights and a fixed mean of the images, must be what it was. One run at a time has a checkpoint.

    Args:
        model: images ``[n, c, H, W]`` in [0, 1] to scores ``[n, classes]``; it is trained where its parameters are,
            and in their type.
        train: images to learn from.
        options: see :class:`ImageFitOptions`; None for its defaults.
        val: images to judge each epoch by; never those of a test split.
        seed: at least 0, of the order, the augmentation, and whatever the model draws. Draw the model's weights
            under a seed of your own.
        checkpoint: a file; None saves nothing.
        progress: whether a bar (without tqdm a line for each epoch) is shown.

    Raises:
        CheckpointError: the checkpoint is of another model, other data, options or another seed.
        FloatingPointError: a loss, a weight or an answer is not finite; the checkpoint is that of the epoch before.
        ResultsError: another run trains with this checkpoint, or its record cannot be written.
        TypeError: model, train, val or options are of another type.
        ValueError: the model does not fit the images, has nothing to train, or no constant where the loss needs one.

    Example:
        >>> from torch import nn
        >>> from contractive_gnn.datasets.images import load_images
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> options = ImageFitOptions(epochs=2)
        >>> result = fit_images(model, load_images("digits"), options, progress=False)
        >>> len(result.epochs)
        2
    """
    options = ImageFitOptions() if options is None else options
    if not isinstance(options, ImageFitOptions):
        raise TypeError(f"options must be ImageFitOptions, got {options!r}")
    check_whole("seed", seed, least=0, below=2**63)
    check_flag("progress", progress)
    _check_data(train, val)
    loop = run(
        model,
        _task(model, train, val, options),
        options,
        seed=seed,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        progress=progress,
    )
    epochs = tuple(ImageEpoch(**record) for record in loop.records)  # type: ignore[arg-type]
    return ImageFitResult(epochs, loop.resumed)


def _check_data(train: ImageData, val: ImageData | None) -> None:
    for name, data in (("train", train), ("val", val)):
        if not isinstance(data, ImageData) and not (name == "val" and data is None):
            raise TypeError(f"{name} must be ImageData, as load_images gives, got {type(data).__name__}")
    for what in ("shape", "classes", "white"):
        if val is not None and (theirs := getattr(val, what)) != (ours := getattr(train, what)):
            raise ValueError(
                f"{what} of train is {ours}, of val {theirs}; give a validation split of the same data, as hold_out "
                "does"
            )


def _task(
    model: nn.Module, train: ImageData, val: ImageData | None, options: ImageFitOptions
) -> Task[tuple[Tensor, Tensor]]:
    device, dtype = place(model)
    pixels, labels = train.images.to(device), train.labels.to(device)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    constant: float | None = None

    def begin(epoch: int) -> None:
        nonlocal constant
        if options.loss.needs_lipschitz:
            with torch.no_grad(), parametrize.cached():
                constant = lipschitz(model)

    def batches(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(train), generator=generator)
        for start in range(0, len(train), options.batch_size):
            chosen = order[start : start + options.batch_size].to(device)
            images = pixels[chosen]
            if options.augment is not None:
                images = options.augment(images, generator)
            yield images.to(dtype).div_(train.white).to(memory_format=layout), labels[chosen]

    def objective(batch: tuple[Tensor, Tensor]) -> StepResult:
        images, targets = batch
        scores = model(images)
        check_scores(scores, len(images), len(train.classes))
        scores = scores.to(dtype)  # a loss is not computed in bfloat16
        right = (scores.detach().argmax(dim=1) == targets).sum()
        return StepResult(options.loss(scores, targets, constant), len(images), right)

    def judge(kept: nn.Module) -> Figures:
        if val is None:
            return {"val_accuracy": None, "val_certified": None, "lipschitz": None}
        accuracy = image_accuracy(kept, val)
        known = accuracy.lipschitz if math.isfinite(accuracy.lipschitz) else None
        return {"val_accuracy": accuracy.clean, "val_certified": accuracy.certified, "lipschitz": known}

    def probe(asked: nn.Module) -> Tensor:
        answers: Tensor = asked(train.floats(slice(4), dtype=dtype).to(device))
        return answers

    return Task(
        steps=math.ceil(len(train) / options.batch_size),
        batches=batches,
        objective=objective,
        judge=judge,
        probe=probe,
        begin=begin,
        identity={"train": _digest(train), "val": "None" if val is None else _digest(val)},
    )


def _digest(data: ImageData) -> str:
    return f"{data.name} {data.digest[:16]}"
