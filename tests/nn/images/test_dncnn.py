"""DnCNN: the network is the paper's, and the authors' weights give the published figures."""

import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.nn.images.dncnn import DnCNN
from contractive_gnn.nn.lipschitz.base import Sequential, certified, lipschitz


def small(depth: int = 3, channels: int = 4) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    widths = [1, *[channels] * (depth - 1), 1]
    return [
        (torch.randn(after, before, 3, 3, generator=generator) / 3, torch.randn(after, generator=generator))
        for before, after in itertools.pairwise(widths)
    ]


def test_the_authors_size() -> None:
    assert sum(parameter.numel() for parameter in DnCNN().parameters()) == 555_137


def test_it_takes_the_estimated_noise_away() -> None:
    layers, x = small(), torch.rand(2, 1, 9, 7)
    noise = x
    for number, (weight, bias) in enumerate(layers):
        noise = nn.functional.conv2d(noise, weight, bias, padding=1)
        noise = noise.relu() if number < 2 else noise
    network = DnCNN.from_layers(layers)
    torch.testing.assert_close(network(x), x - noise)
    torch.testing.assert_close(network(x[0]), network(x)[0])
    assert not network.training


def test_stored_arrays_have_columns_before_rows(tmp_path: Path) -> None:
    layers = small()
    file = tmp_path / "weights.npz"
    stored = {f"w{i}": weight.transpose(2, 3).numpy() for i, (weight, _) in enumerate(layers)}
    np.savez(file, **stored, **{f"b{i}": bias.numpy() for i, (_, bias) in enumerate(layers)})
    x = torch.rand(1, 1, 8, 8)
    with np.load(file) as arrays:
        torch.testing.assert_close(DnCNN.from_arrays(arrays)(x), DnCNN.from_layers(layers)(x))


def test_it_claims_no_constant() -> None:
    network = DnCNN(3, 4)
    assert lipschitz(network) == math.inf
    assert not certified(network)
    assert not Sequential(nn.ReLU(), network).certified


def test_it_learns() -> None:
    torch.manual_seed(0)
    network, clean = DnCNN(3, 8), torch.full((4, 1, 12, 12), 0.5)
    noisy = clean + 0.1 * torch.randn(clean.shape)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (network(noisy) - clean).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.5 * (noisy - clean).square().mean()


def test_what_is_no_dncnn_is_refused() -> None:
    layers = small()
    with pytest.raises(ValueError, match="at least two pairs"):
        DnCNN.from_layers(layers[:1])
    with pytest.raises(ValueError, match=r"w1 must have shape \[4, 4, 3, 3\]"):
        DnCNN.from_layers([layers[0], layers[2], layers[2]])
    with pytest.raises(ValueError, match="b2 has entries that are not finite"):
        DnCNN.from_layers([*layers[:2], (layers[2][0], torch.full((1,), math.nan))])
    with pytest.raises(ValueError, match="w0, b0"):
        DnCNN.from_arrays({"w0": np.zeros((4, 1, 3, 3)), "b1": np.zeros(4)})
    with pytest.raises(ValueError, match="at least 2"):
        DnCNN(1)
    with pytest.raises(ValueError, match=r"\[n, 1, H, W\]"):
        DnCNN(3, 4)(torch.rand(1, 3, 8, 8))


def data(name: str) -> Path:
    path = Path(os.environ.get("CONTRACTIVE_GNN_DATA", "")) / "images" / name
    if not path.exists():
        pytest.skip(f"images/{name} is not in $CONTRACTIVE_GNN_DATA")
    return path


@pytest.mark.parametrize(
    ("sigma", "published"), [(15, (32.61, 34.97, 33.30, 32.20)), (25, (30.18, 33.06, 30.87, 29.41))]
)
def test_the_authors_weights_give_the_published_figures(sigma: int, published: tuple[float, ...]) -> None:
    """Their table of Set12, on its first images; docs/experiments/denoising.py has all, and BSD68."""
    reader = pytest.importorskip("PIL.Image", reason="reading photographs needs pillow, of the extra 'images'")
    with np.load(data(f"dncnn/sigma{sigma}.npz")) as arrays:
        network = DnCNN.from_arrays(arrays)
    files = sorted(data("set12").glob("*.png"))[: len(published)]
    for seed, (file, figure) in enumerate(zip(files, published, strict=True)):
        image = torch.from_numpy(np.array(reader.open(file))).float()[None] / 255
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            denoised = network(image + sigma / 255 * noise).clamp(0, 1)
        found = -10 * math.log10((denoised - image).square().mean())
        assert found == pytest.approx(figure, abs=0.15), file.name  # another draw of the noise
