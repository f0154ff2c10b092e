"""Train a denoiser on crops of photographs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from contractive_gnn.checks import check_flag, check_real, check_whole
from contractive_gnn.datasets.images import Photographs
from contractive_gnn.nn.evaluation import evaluating
from contractive_gnn.training.batches.loop import Figures, StepResult, Task, run
from contractive_gnn.training.batches.place import place
from contractive_gnn.training.images.options import ImageLoopOptions
from contractive_gnn.training.images.psnr import psnr
from contractive_gnn.training.images.result import ImageFitResult


@dataclass(frozen=True, kw_only=True)
class DenoiserFitOptions(ImageLoopOptions):
    """The options of :func:`fit_denoiser`: those of :class:`ImageLoopOptions`, and six more.

    Attributes:
        steps: of an epoch, at least 1: an epoch is what lies between two validations, and two checkpoints.
        patch: height and width of the crops that are trained on, at least 1.
        sigma: standard deviation of the noise, in [0, 1] as the images are, such as 25/255; a pair for one that is
            drawn uniformly from there for each crop.
        loss: ``"mse"`` (mean squared error) or ``"l1"`` (mean absolute error).
        turn: whether crops are also reflected and turned by right angles.
        val_sigmas: noise of the validation, one or more, likewise.

    Raises:
        TypeError: one is of another type.
        ValueError: one is out of its range.
    """

    epochs: int = 20
    batch_size: int = 16
    max_lr: float = 5e-3
    steps: int = 250
    patch: int = 64
    sigma: float | tuple[float, float] = 25 / 255
    loss: Literal["mse", "l1"] = "mse"
    turn: bool = True
    val_sigmas: tuple[float, ...] = field(default=(25 / 255,))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("steps", self.steps, least=1)
        check_whole("patch", self.patch, least=1)
        check_flag("turn", self.turn)
        if self.loss not in ("mse", "l1"):
            raise ValueError(f"loss must be 'mse' or 'l1', got {self.loss!r}")
        low, high = self.range()
        check_real("sigma", low, least=0)
        check_real("sigma", high, above=0, most=1)
        if low > high:
            raise ValueError(f"sigma must be a pair (low, high) with low ≤ high, got {self.sigma!r}")
        if not isinstance(self.val_sigmas, tuple) or not self.val_sigmas:
            raise TypeError(f"val_sigmas must be a tuple of numbers, got {self.val_sigmas!r}")
        for sigma in self.val_sigmas:
            check_real("val_sigmas", sigma, above=0, most=1)

    def range(self) -> tuple[float, float]:
        """The least and the largest σ of the training."""
        if isinstance(self.sigma, tuple):
            if len(self.sigma) != 2:
                raise TypeError(f"sigma must be a number or a pair of numbers, got {self.sigma!r}")
            return self.sigma
        given: object = self.sigma
        if isinstance(given, list):
            raise TypeError(f"sigma must be a number or a tuple of two, got {self.sigma!r}")
        return self.sigma, self.sigma


@dataclass(frozen=True)
class DenoiserEpoch:
    """An epoch of a training.

    Attributes:
        epoch: from 1.
        loss: mean over the epoch's crops.
        val_psnr: mean over the validation photographs, in decibels, by σ; empty without any.
        seconds: wall time of the steps.
        cpu_seconds: of all threads of this process, likewise.
        judge_seconds: wall time of the validation.
    """

    epoch: int
    loss: float
    val_psnr: dict[float, float]
    seconds: float
    cpu_seconds: float
    judge_seconds: float


def fit_denoiser(
    model: nn.Module,
    train: Photographs,
    options: DenoiserFitOptions | None = None,
    *,
    val: Photographs | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> ImageFitResult[DenoiserEpoch]:
    """Train a denoiser from the weights that it has, on random crops with Gaussian noise.

    The model is left in evaluation mode with the weights of the last epoch, averaged where ``options.ema`` is given. A
    checkpoint works as in :func:`contractive_gnn.training.images.fit_images`. Every photograph is as likely as any
    other, whatever its size, and so is every place of a crop within it.

    Args:
        model: called as ``model(noisy, sigma)`` with images ``[n, c, H, W]`` and σ ``[n]``, both in [0, 1] (noisy ones
            beyond it), to denoised images of that shape. One of a single noise level, such as
            :class:`~contractive_gnn.nn.images.DnCNN`, is wrapped in :class:`~contractive_gnn.inverse.OneLevel`.
        train: photographs to learn from, such as ``load_photographs("bsds500/train")[:-20]``.
        options: see :class:`DenoiserFitOptions`; None for its defaults.
        val: photographs to judge each epoch by, whole, with the same noise each time, such as
            ``load_photographs("bsds500/train")[-20:]``.
        seed: at least 0, of crops, noise, and whatever the model draws.
        checkpoint: a file; None saves nothing.
        progress: whether a bar (without tqdm a line for each epoch) is shown.

    Raises:
        CheckpointError: the checkpoint is of another model, other photographs, options or another seed.
        FloatingPointError: a loss, a weight or an answer is not finite; the checkpoint is that of the epoch before.
        ResultsError: another run trains with this checkpoint, or its record cannot be written.
        TypeError: model, train, val or options are of another type.
        ValueError: a photograph is smaller than a crop, or the model does not keep the shape of its input.
    """
    options = DenoiserFitOptions() if options is None else options
    if not isinstance(options, DenoiserFitOptions):
        raise TypeError(f"options must be DenoiserFitOptions, got {options!r}")
    check_whole("seed", seed, least=0, below=2**63)
    check_flag("progress", progress)
    _check_photographs(train, val, options)
    _check_model(model, train, () if val is None else options.val_sigmas, options)
    loop = run(
        model,
        _task(model, train, val, options),
        options,
        seed=seed,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        progress=progress,
    )
    epochs = tuple(_epoch(record, options) for record in loop.records)
    return ImageFitResult(epochs, loop.resumed)


def _check_photographs(train: Photographs, val: Photographs | None, options: DenoiserFitOptions) -> None:
    for name, data in (("train", train), ("val", val)):
        if not isinstance(data, Photographs) and not (name == "val" and data is None):
            raise TypeError(f"{name} must be Photographs, as load_photographs gives, got {type(data).__name__}")
    for name, image in zip(train.names, train, strict=True):
        if min(image.shape[1:]) < options.patch:
            raise ValueError(
                f"{name} of {train.name} is {image.size(1)} × {image.size(2)}, smaller than a crop of {options.patch} "
                f"× {options.patch}; give a smaller patch, or leave it out"
            )
    if val is not None and val.channels != train.channels:
        raise ValueError(f"train has {train.channels} channels, val {val.channels}; load both with the same grey=…")


def _check_model(
    model: nn.Module, train: Photographs, val_sigmas: tuple[float, ...], options: DenoiserFitOptions
) -> None:
    """Ask a model for what the training and the validation will ask of it: an epoch later is late."""
    device, dtype = place(model)
    noisy = train[0][None, :, : options.patch, : options.patch].to(device, dtype)
    with torch.no_grad(), evaluating(model):
        for sigma in (*options.range(), *val_sigmas):
            try:
                denoised = model(noisy, torch.full((1,), sigma, device=device, dtype=dtype))
            except TypeError as error:
                raise TypeError(
                    f"a denoiser is called as model(noisy, sigma), and {type(model).__name__} does not take that "
                    f"({error}); wrap one of a single noise level as contractive_gnn.inverse.OneLevel(model, sigma)"
                ) from error
            _checked(denoised, noisy)


def crop(photographs: Photographs, count: int, size: int, generator: torch.Generator, *, turn: bool) -> Tensor:
    """Random squares of random photographs, ``[count, c, size, size]``; with ``turn`` in one of the eight positions."""
    crops = []
    for index in torch.randint(len(photographs), (count,), generator=generator).tolist():
        image = photographs[index]
        top, left = (int(torch.randint(extent - size + 1, (), generator=generator)) for extent in image.shape[1:])
        square = image[:, top : top + size, left : left + size]
        if turn:
            position = int(torch.randint(8, (), generator=generator))
            square = torch.rot90(square.flip(2) if position >= 4 else square, position % 4, (1, 2))
        crops.append(square)
    return torch.stack(crops)


def _task(
    model: nn.Module, train: Photographs, val: Photographs | None, options: DenoiserFitOptions
) -> Task[tuple[Tensor, Tensor, Tensor]]:
    device, dtype = place(model)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    low, high = options.range()
    loss: Callable[[Tensor, Tensor], Tensor] = mse_loss if options.loss == "mse" else l1_loss

    def batches(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for _ in range(options.steps):
            clean = crop(train, options.batch_size, options.patch, generator, turn=options.turn)
            sigma = low + (high - low) * torch.rand(options.batch_size, generator=generator)
            noise = sigma[:, None, None, None] * torch.randn(clean.shape, generator=generator)
            images = [image.to(device, dtype).to(memory_format=layout) for image in (clean, clean + noise)]
            yield images[0], images[1], sigma.to(device, dtype)

    def objective(batch: tuple[Tensor, Tensor, Tensor]) -> StepResult:
        clean, noisy, sigma = batch
        denoised = _checked(model(noisy, sigma), noisy).to(dtype)  # a loss is not computed in bfloat16
        return StepResult(loss(denoised, clean), len(clean))

    def judge(kept: nn.Module) -> Figures:
        return {} if val is None else {_key(s): mean_psnr(kept, val, sigma=s) for s in options.val_sigmas}

    def probe(asked: nn.Module) -> Tensor:
        image = train[0][None, :, : options.patch, : options.patch].to(device, dtype)
        answers: Tensor = asked(image, torch.full((1,), high, device=device, dtype=dtype))
        return answers

    return Task(
        steps=options.steps,
        batches=batches,
        objective=objective,
        judge=judge,
        probe=probe,
        identity={"train": _digest(train), "val": "None" if val is None else _digest(val)},
    )


@torch.no_grad()
def mean_psnr(model: nn.Module, photographs: Photographs, *, sigma: float, seed: int = 0) -> float:
    """The mean PSNR of denoised photographs, whole and one by one, in decibels; nothing is clipped or rounded.

    Args:
        model: called as by :func:`fit_denoiser`; put it into evaluation mode.
        photographs: the clean ones.
        sigma: standard deviation of the noise, in [0, 1].
        seed: of the noise, drawn in float32 for the photographs in their order.

    Raises:
        TypeError: photographs, sigma or seed are of another type.
        ValueError: sigma is out of range, or the model does not keep the shape of its input, or gives values that are
            not finite.
    """
    if not isinstance(photographs, Photographs):
        raise TypeError(f"photographs must be Photographs, as load_photographs gives, got {type(photographs).__name__}")
    check_real("sigma", sigma, least=0, most=1)
    check_whole("seed", seed, least=0, below=2**63)
    device, dtype = place(model)
    generator = torch.Generator().manual_seed(seed)
    ratios = []
    for clean in photographs:
        noisy = (clean + sigma * torch.randn(clean.shape, generator=generator)).to(device, dtype)[None]
        denoised = _checked(model(noisy, torch.full((1,), sigma, device=device, dtype=dtype)), noisy)
        ratios.append(psnr(denoised[0].cpu(), clean))
        if math.isnan(ratios[-1]) or ratios[-1] == -math.inf:
            raise ValueError("the denoised photographs are not finite: train the model at a lower max_lr")
    return sum(ratios) / len(ratios)


def _checked(denoised: Tensor, noisy: Tensor) -> Tensor:
    if denoised.shape != noisy.shape:
        raise ValueError(
            f"the model gives {list(denoised.shape)} for noisy images {list(noisy.shape)}; a denoiser keeps the shape"
        )
    return denoised


def _digest(data: Photographs) -> str:
    return f"{data.name} {len(data)} {data.digest[:16]}"


def _key(sigma: float) -> str:
    """What the record calls the PSNR at a σ: in 255ths, as people do."""
    return f"val_psnr_{255 * sigma:g}"


def _epoch(record: Figures, options: DenoiserFitOptions) -> DenoiserEpoch:
    figures = {name: value for name, value in record.items() if value is not None}
    return DenoiserEpoch(
        epoch=int(figures["epoch"]),
        loss=figures["loss"],
        val_psnr={sigma: figures[_key(sigma)] for sigma in options.val_sigmas if _key(sigma) in figures},
        seconds=figures["seconds"],
        cpu_seconds=figures["cpu_seconds"],
        judge_seconds=figures["judge_seconds"],
    )
