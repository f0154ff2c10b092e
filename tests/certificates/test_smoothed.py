"""Smoothing of whole models: against every graph within the budget, and just beyond it, where a class changes."""

from __future__ import annotations

from itertools import combinations, product

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from contractive_gnn import training
from contractive_gnn.certificates.smoothed import NoisyEdges, SmoothedCertificate, certify_smoothed, declares_training
from contractive_gnn.certificates.smoothing import SparseNoise
from contractive_gnn.datasets import contextual_sbm
from contractive_gnn.nn import build

PAIRS = list(combinations(range(4), 2))
NOISE = SparseNoise(add=0.2, delete=0.6)


def as_graph(bits: tuple[int, ...]) -> Data:
    edges = [pair for pair, bit in zip(PAIRS, bits, strict=True) if bit]
    one_way = torch.tensor(edges, dtype=torch.long).reshape(-1, 2).t()
    return Data(x=torch.eye(4), edge_index=torch.cat([one_way, one_way.flip(0)], dim=1))


class Threshold(nn.Module):
    """Class 1 at every node of a graph with at least so many edges."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least = least

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        above = float(edge_index.shape[1] // 2 >= self.least)
        return torch.tensor([1 - above, above]).repeat(len(x), 1)


def smoothed_class(least: int, bits: tuple[int, ...]) -> int:
    """What the smoothed classifier says, of all noisy graphs and not of a sample."""
    above = 0.0
    for noisy in product((0, 1), repeat=len(PAIRS)):
        probability = 1.0
        for bit, other in zip(bits, noisy, strict=True):
            flip = NOISE.delete if bit else NOISE.add
            probability *= flip if bit != other else 1 - flip
        above += probability * (sum(noisy) >= least)
    return int(above > 0.5)


@pytest.mark.parametrize(("least", "edges"), [(1, 0), (1, 3), (2, 0), (2, 6), (3, 0), (3, 3), (4, 6)])
def test_no_graph_within_the_budget_has_another_class(least: int, edges: int) -> None:
    bits = (1,) * edges + (0,) * (len(PAIRS) - edges)
    found = certify_smoothed(Threshold(least), as_graph(bits), noise=NOISE, samples=1000, seed=1)
    clean = smoothed_class(least, bits)
    certified = 0
    for flips in (1, 2):
        if not bool(found.certified(flips).any()):
            continue
        certified += 1
        assert found.prediction.tolist() == [clean] * 4
        for changed in combinations(range(len(PAIRS)), flips):
            other = tuple(1 - bit if k in changed else bit for k, bit in enumerate(bits))
            assert smoothed_class(least, other) == clean
    assert certified or least < 3  # of noise that drops most edges, few are left: the others are no empty test


class NoneOf(nn.Module):
    """Class 1 at every node of a graph without any of the first pairs: the worst there is against joining them."""

    def __init__(self, pairs: int) -> None:
        super().__init__()
        self.pairs = PAIRS[:pairs]

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        there = set(map(tuple, edge_index.t().tolist()))
        free = float(not any(pair in there for pair in self.pairs))
        return torch.tensor([1 - free, free]).repeat(len(x), 1)


@pytest.mark.parametrize(("flips", "delete"), [(1, 0.5), (2, 0.5**0.5), (3, 0.5 ** (1 / 3))])
def test_the_bound_is_met_at_its_edge_and_not_beyond(flips: int, delete: float) -> None:
    """After joining ``flips`` pairs the noise drops all of them with the probability delete^flips: class 1 if > ½."""
    empty, joined = as_graph((0,) * 6), as_graph((1,) * flips + (0,) * (6 - flips))
    for noise, holds in ((SparseNoise(1e-9, delete + 0.03), True), (SparseNoise(1e-9, delete - 0.03), False)):
        found = certify_smoothed(NoneOf(flips), empty, noise=noise, samples=2000, seed=0)
        after = certify_smoothed(NoneOf(flips), joined, noise=noise, choose=4000, samples=1, seed=1)
        assert found.prediction.tolist() == [1] * 4
        assert after.prediction.tolist() == [int(holds)] * 4
        assert found.certified(flips, deletions=False).tolist() == [holds] * 4


def test_a_reason_where_the_noise_can_hide_nothing() -> None:
    held = SmoothedCertificate(torch.zeros(2, dtype=torch.long), torch.full((2,), 0.995), SparseNoise(0.001, 0.6),
                               0.01, 1000, 0.0)  # fmt: skip
    assert repr(held) == f"SmoothedCertificate(2 predictions, {held.method})"
    assert held.reason(1) == ""
    assert bool(held.certified(1).all())
    assert held.reason(2).startswith("the noise p+ = 0.001, p- = 0.6 hides")
    assert not bool(held.certified(2).any())
    few = SmoothedCertificate(held.prediction, held.probability, held.noise, 0.01, 10, 0.0)
    assert "with 10 samples" in few.reason(1)
    assert held.reason(3, additions=False) == ""
    with pytest.raises(ValueError, match="expected additions, deletions or both"):
        held.certified(1, additions=False, deletions=False)


def test_a_layer_that_keeps_its_graph_reads_every_noisy_one() -> None:
    data = contextual_sbm(100, seed=0)

    class Cached(nn.Module):
        def __init__(self, cached: bool) -> None:
            super().__init__()
            self.conv = GCNConv(32, 4, cached=cached)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv(x, edge_index)

    model, other = Cached(True).eval(), Cached(False)
    other.load_state_dict(model.state_dict())
    model(data.x, data.edge_index)
    kept = certify_smoothed(model, data, samples=100, seed=3)
    fresh = certify_smoothed(other, data, samples=100, seed=3)
    assert torch.equal(kept.probability, fresh.probability)
    assert bool((kept.probability < 0.9).any())  # so the graph was not the same each time


def test_noisy_training_is_repeatable_and_refuses_what_trains_itself() -> None:
    data = contextual_sbm(120, seed=0)
    states = []
    for _ in range(2):
        model = build("gcn", data.num_features, 4)
        training.fit(NoisyEdges(model, NOISE, seed=5), data, seed=5, epochs=3)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    ensemble = build("ensemble", data.num_features, 4, members=[{"name": "gcn"}])
    assert declares_training(ensemble)
    with pytest.raises(ValueError, match="declares a training of its own; fit it on the clean graph"):
        NoisyEdges(ensemble, NOISE, seed=0)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"samples": 0}, "samples must be at least 1"),
        ({"choose": 0}, "choose must be at least 1"),
        ({"alpha": 0.0}, "alpha must be above 0 and below 1, got 0.0"),
        ({"alpha": 1.0}, "alpha must be above 0 and below 1, got 1.0"),
    ],
)
def test_options_out_of_range(options: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        certify_smoothed(Threshold(1), as_graph((1,) * 6), **options)  # type: ignore[arg-type]


def test_scores_that_are_none() -> None:
    class Lost(Threshold):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return super().forward(x, edge_index) * torch.nan

    class Flat(Threshold):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return super().forward(x, edge_index)[:, 0]

    with pytest.raises(FloatingPointError, match="scores on a noisy graph are not finite"):
        certify_smoothed(Lost(1), as_graph((1,) * 6))
    with pytest.raises(ValueError, match=r"Flat returned \[4\]; expected class scores \[4, classes\]"):
        certify_smoothed(Flat(1), as_graph((1,) * 6))


def test_a_bar_counts_the_noisy_graphs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    plain = certify_smoothed(Threshold(1), as_graph((1,) * 6), choose=3, samples=4)
    assert not capsys.readouterr().err
    shown = certify_smoothed(Threshold(1), as_graph((1,) * 6), choose=3, samples=4, progress=True)
    assert "7/7" in capsys.readouterr().err
    assert torch.equal(shown.probability, plain.probability)
    with pytest.raises(TypeError, match="progress"):
        certify_smoothed(Threshold(1), as_graph((1,) * 6), progress=1)  # type: ignore[arg-type]
