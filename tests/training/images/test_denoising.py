"""Training denoisers: crops, noise, the ratio, and resuming."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.datasets.images import Photographs
from contractive_gnn.inverse import OneLevel
from contractive_gnn.nn.images import DnCNN
from contractive_gnn.training.images import (
    CheckpointError,
    DenoiserFitOptions,
    fit_denoiser,
    mean_psnr,
    psnr,
)
from contractive_gnn.training.images.denoising import crop


class Smoothing(nn.Module):
    """Minus a learned filter of the image, as strong as the noise; it keeps what it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
        self.calls: list[tuple[Tensor, Tensor]] = []

    def forward(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        if self.training:
            self.calls.append((noisy, sigma))
        return noisy - 10 * sigma[:, None, None, None] * self.filter(noisy)  # type: ignore[no-any-return]


@pytest.fixture
def ramps() -> Photographs:
    """Six smooth grey images of different sizes."""
    images = []
    for index in range(6):
        height, width = 20 + index, 30 - index
        rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)[None]
        images.append(((rows + index * columns) / (1 + index))[None])
    return Photographs(tuple(images), tuple(f"{index}.png" for index in range(6)), "ramps")


def options(**given: Any) -> DenoiserFitOptions:
    return DenoiserFitOptions(**{"epochs": 2, "steps": 15, "batch_size": 4, "patch": 16, "max_lr": 0.05, **given})


def test_the_ratio() -> None:
    clean = torch.rand(1, 5, 5)
    assert psnr(clean + 0.1, clean) == pytest.approx(20.0, abs=1e-4)
    assert psnr(clean, clean) == math.inf
    with pytest.raises(ValueError, match=r"one shape, .* got \[1, 5, 5\] and \[5, 5\]"):
        psnr(clean, clean[0])


@pytest.mark.parametrize("turn", [False, True])
def test_crops_are_squares_of_the_photographs_from_everywhere(turn: bool) -> None:
    image = torch.arange(7 * 9, dtype=torch.float32).view(1, 7, 9) / 63
    photographs = Photographs((image,), ("a",), "one")
    crops = crop(photographs, 400, 4, torch.Generator().manual_seed(0), turn=turn)
    assert crops.shape == (400, 1, 4, 4)
    squares = {}
    for top in range(4):
        for left in range(6):
            square = image[0, top : top + 4, left : left + 4]
            for position in range(8 if turn else 1):
                turned = torch.rot90(square.flip(1) if position >= 4 else square, position % 4)
                squares[tuple(turned.flatten().tolist())] = (top, left, position)
    found = {squares[tuple(one.flatten().tolist())] for one in crops}
    assert len(squares) == 24 * (8 if turn else 1)
    assert len(found) > 0.8 * len(squares)


def test_it_learns_and_says_what_it_did(ramps: Photographs, tmp_path: Path) -> None:
    model, sigmas = Smoothing(), (0.05, 0.1)
    before = mean_psnr(model, ramps[4:], sigma=0.1)
    result = fit_denoiser(
        model, ramps[:4], options(val_sigmas=sigmas), val=ramps[4:], checkpoint=tmp_path / "x.pt", progress=False
    )
    assert [epoch.epoch for epoch in result.epochs] == [1, 2]
    assert tuple(result.epochs[-1].val_psnr) == sigmas
    assert result.epochs[-1].val_psnr[0.1] == mean_psnr(model, ramps[4:], sigma=0.1) > before + 2
    assert not model.training
    lines = [json.loads(line) for line in (tmp_path / "x.pt.jsonl").read_text().splitlines()]
    assert lines[1]["val_psnr_25.5"] == result.epochs[1].val_psnr[0.1]


def test_the_noise_is_of_the_sigma_that_the_model_is_told(ramps: Photographs) -> None:
    flat = Photographs((torch.full((1, 40, 40), 0.5),), ("flat",), "flat")
    model = Smoothing()
    fit_denoiser(model, flat, options(sigma=(0.0, 0.2), patch=32, steps=30), progress=False)
    noisy = torch.cat([one for one, _ in model.calls])
    sigma = torch.cat([one for _, one in model.calls])
    measured = (noisy - 0.5).flatten(1).std(dim=1)
    assert len(sigma) == 2 * 30 * 4
    assert float((measured / sigma - 1).abs().max()) < 0.15  # 1,024 pixels
    assert 0 <= float(sigma.min()) < 0.02
    assert 0.18 < float(sigma.max()) <= 0.2


def test_the_validation_has_the_same_noise_each_time(ramps: Photographs) -> None:
    still = nn.Identity()
    still.forward = lambda noisy, sigma: noisy  # type: ignore[method-assign, assignment]
    first = mean_psnr(still, ramps, sigma=0.1)
    assert first == mean_psnr(still, ramps, sigma=0.1) == pytest.approx(20.0, abs=0.3)
    assert first != mean_psnr(still, ramps, sigma=0.1, seed=1)


def test_a_run_goes_on_bit_for_bit(ramps: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contractive_gnn.training.batches import loop

    def fit(checkpoint: Path | None = None, **given: Any) -> tuple[nn.Module, int]:
        torch.manual_seed(0)
        model = Smoothing()
        result = fit_denoiser(model, ramps, options(**given), val=ramps, checkpoint=checkpoint, progress=False)
        return model, result.resumed

    whole, _ = fit()
    path, save = tmp_path / "x.pt", loop.save_checkpoint

    def stop(*arguments: Any, **named: Any) -> None:
        save(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(path)
    resumed, epochs = fit(path)
    assert epochs == 1
    assert torch.equal(whole.filter.weight, resumed.filter.weight)  # type: ignore[union-attr, arg-type]
    with pytest.raises(CheckpointError, match=r"sigma: 0.098\d* there, 0.2 here"):
        fit(path, sigma=0.2)


def test_losses_differ(ramps: Photographs) -> None:
    losses = {}
    for loss in ("mse", "l1"):
        torch.manual_seed(0)
        losses[loss] = fit_denoiser(Smoothing(), ramps, options(loss=loss, epochs=1, steps=1), progress=False)
    assert losses["l1"].epochs[0].loss > 3 * losses["mse"].epochs[0].loss > 0


def test_what_does_not_fit_is_refused(ramps: Photographs) -> None:
    colours = Photographs((torch.zeros(3, 20, 20),), ("c",), "colours")
    for given, error, words in (
        ({"train": list(ramps)}, TypeError, "train must be Photographs"),
        ({"val": list(ramps)}, TypeError, "val must be Photographs"),
        ({"val": colours}, ValueError, "train has 1 channels, val 3; load both with the same grey"),
        ({"options": options(patch=21)}, ValueError, r"0.png of ramps is 20 × 30, smaller than a crop of 21 × 21"),
        ({"options": {"epochs": 1}}, TypeError, "options must be DenoiserFitOptions"),
        ({"model": Halving()}, ValueError, r"the model gives \[1, 1, 16, 8\] for noisy images \[1, 1, 16, 16\]"),
    ):
        call = {"model": Smoothing(), "train": ramps, "options": options(), "progress": False, **given}
        with pytest.raises(error, match=words):
            fit_denoiser(**call)  # type: ignore[arg-type]


class Halving(nn.Module):
    """Half of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        return self.scale * noisy[..., :8]


def test_a_psnr_is_not_measured_by_what_is_no_noise_and_no_photographs(ramps: Photographs) -> None:
    for sigma in (25, -0.1, math.nan):
        with pytest.raises(ValueError, match="sigma must be at least 0 and at most 1"):
            mean_psnr(Smoothing(), ramps, sigma=sigma)
    with pytest.raises(TypeError, match="photographs must be Photographs, as load_photographs gives, got Tensor"):
        mean_psnr(Smoothing(), torch.rand(2, 1, 20, 20), sigma=0.1)  # type: ignore[arg-type]
    model = Smoothing()
    torch.nn.init.constant_(model.filter.weight, 3e38)
    with pytest.raises(ValueError, match="the denoised photographs are not finite"):
        mean_psnr(model, ramps, sigma=0.1)


def test_what_the_model_does_not_take_is_refused_before_the_training(ramps: Photographs) -> None:
    network = DnCNN(depth=3, channels=4)
    with pytest.raises(TypeError, match=r"called as model\(noisy, sigma\), and DnCNN does not take that .*OneLevel"):
        fit_denoiser(network, ramps, options(), progress=False)
    level = options(sigma=0.1, val_sigmas=(0.1,))
    assert math.isfinite(fit_denoiser(OneLevel(network, 0.1), ramps, level, val=ramps, progress=False).epochs[-1].loss)
    before = [parameter.clone() for parameter in network.parameters()]
    with pytest.raises(ValueError, match=r"DnCNN was trained for sigma = 0\.1 alone"):
        fit_denoiser(OneLevel(network, 0.1), ramps, options(sigma=0.1, val_sigmas=(0.2,)), val=ramps, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    with pytest.raises(TypeError, match="sigma must be a number or a tuple of two"):
        options(sigma=[0.1, 0.2])
