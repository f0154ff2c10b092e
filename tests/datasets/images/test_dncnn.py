"""The published weights of DnCNN, the right way round."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from contractive_gnn.datasets import fetch
from contractive_gnn.datasets.errors import MissingFileError, UnknownDatasetError
from contractive_gnn.datasets.images import dncnn_weights, load_photographs, sources


def denoised(noisy: Tensor, weights: tuple[tuple[Tensor, Tensor], ...]) -> Tensor:
    x = noisy
    for layer, (weight, bias) in enumerate(weights):
        x = conv2d(x if layer == 0 else x.relu(), weight, bias, padding=1)
    return noisy - x


def decibels(image: Tensor, clean: Tensor) -> float:
    return -10 * float((image - clean).square().mean().log10())


@pytest.mark.usefixtures("real_images")
def test_the_weights_give_the_published_ratio() -> None:
    """33.06 dB on the second image of Set12 ("house") at σ = 25."""
    clean = load_photographs("set12")[1][None]
    noisy = clean + 25 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    weights = dncnn_weights(25)
    assert len(weights) == 17
    assert [list(weights[layer][0].shape) for layer in (0, 1, 16)] == [[64, 1, 3, 3], [64, 64, 3, 3], [1, 64, 3, 3]]
    with torch.no_grad():
        assert decibels(denoised(noisy, weights), clean) == pytest.approx(33.06, abs=0.12)
        one = [*weights]
        one[8] = (weights[8][0].transpose(2, 3), weights[8][1])  # a single layer the other way round
        assert decibels(denoised(noisy, tuple(one)), clean) < 32  # 31.07


@pytest.mark.usefixtures("real_images")
def test_the_axes_of_the_file_are_turned() -> None:
    """No PSNR tells the two apart, since photographs were turned in training: the file's format does (HDF5)."""
    file = "images/dncnn/sigma15.npz"
    with np.load(io.BytesIO(sources.read_pinned(file, root=None))) as archive:
        stored = archive["w5"]
    weight, _ = dncnn_weights(15)[5]
    assert weight.is_contiguous()
    assert np.array_equal(weight.numpy(), stored.transpose(0, 1, 3, 2))
    assert not np.array_equal(weight.numpy(), stored)


@pytest.mark.parametrize("sigma", [50, 25 / 255, True, "25", 25.0])
def test_other_noise_is_refused(sigma: object) -> None:
    with pytest.raises(UnknownDatasetError, match="expected 15 or 25, in 255ths"):
        dncnn_weights(sigma)  # type: ignore[arg-type]


def test_a_folder_in_the_place_of_the_file_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv(fetch.ENVIRONMENT_VARIABLE, raising=False)
    (tmp_path / "images/dncnn/sigma25.npz").mkdir(parents=True)
    with pytest.raises(MissingFileError, match=r"images/dncnn/sigma25.npz is in none of: root"):
        dncnn_weights(25, root=tmp_path)
