"""Seeded communities: the fixed points of their formula, what they withstand, and where that ends."""

import numpy as np
import pytest
import torch
from torch import Tensor

from contractive_gnn import datasets
from contractive_gnn.attacks.base import flip_edges
from contractive_gnn.nn.communities import seeded_communities


def dense(edge_index: Tensor, labels: Tensor, known: Tensor, *, k: int, coupling: float, steps: int) -> np.ndarray:
    """The docstring in NumPy."""
    n = len(labels)
    a = np.zeros((n, n))
    a[tuple(edge_index.numpy())] = 1
    d = a.sum(axis=1)
    b = a - np.outer(d, d) / d.sum()
    f = np.full((n, k), 1 / k)
    f[known.numpy()] = np.eye(k)[labels[known].numpy()]
    for held in (known.numpy(), np.zeros(n, dtype=bool)):
        for _ in range(steps):
            z = np.exp(coupling * k / (d + 1)[:, None] * (b @ f))
            f = np.where(held[:, None], f, 0.5 * f + 0.5 * z / z.sum(axis=1, keepdims=True))
    return f


def misled(share: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two blocks, and ``share`` of one seed's edges again as new edges from it to the other block."""
    data = datasets.contextual_sbm(400, classes=2, average_degree=16, homophily=0.85, seed=1)
    rng = np.random.default_rng(0)
    seeds = data.train_mask.nonzero().squeeze(1)
    added = []
    for seed in seeds.tolist():
        others = ((data.y != data.y[seed]) & ~data.train_mask).nonzero().squeeze(1).numpy()
        linked = set(data.edge_index[1, data.edge_index[0] == seed].tolist())
        free = np.array([o for o in others if o not in linked])
        added += [(min(seed, o), max(seed, o)) for o in rng.choice(free, round(share * len(linked)), replace=False)]
    flips = torch.tensor(sorted(set(added))).reshape(-1, 2).t()
    return flip_edges(data.edge_index, flips, num_nodes=400), data.y, data.train_mask


def test_the_flow_is_the_docstrings() -> None:
    data = datasets.contextual_sbm(80, classes=3, average_degree=8, seed=4)
    f = seeded_communities(data.edge_index, data.y, data.train_mask, num_classes=3, coupling=1.5, max_steps=40)
    expected = dense(data.edge_index, data.y, data.train_mask, k=3, coupling=1.5, steps=40)
    np.testing.assert_allclose(f.numpy(), expected, atol=1e-4)


def accuracy(share: float) -> tuple[float, float]:
    """At the unlabelled nodes, and at the seeds."""
    edge_index, y, known = misled(share)
    right = seeded_communities(edge_index, y, known, num_classes=2).argmax(dim=1) == y
    return float(right[~known].float().mean()), float(right[known].float().mean())


def test_most_seeds_may_be_in_the_wrong_place_as_long_as_their_edges_are_not_outvoted() -> None:
    assert accuracy(0.0) > (0.97, 0.9)
    unlabelled, seeds = accuracy(0.6)
    assert seeds < 0.6 < 0.95 < unlabelled
    assert accuracy(1.0)[0] < 0.1  # outvoted: the communities are there, under each other's names


def test_published_metattack_moves_the_seeds_and_not_the_communities(real_data: None) -> None:
    for budget in (0.05, 0.1, 0.15, 0.2, 0.25):
        data = datasets.load_attacked("polblogs", "metattack", budget)
        right = (
            seeded_communities(data.edge_index, data.y, data.train_mask, num_classes=2).argmax(dim=1) == data.y
        ).float()
        assert float(right[data.test_mask].mean()) > 0.945
        assert float(right[data.train_mask].mean()) < 0.6


def test_only_the_seeds_labels_are_read() -> None:
    data = datasets.contextual_sbm(100, classes=4, average_degree=8, seed=0)
    hidden = torch.where(data.train_mask, data.y, 0)
    a, b = (seeded_communities(data.edge_index, y, data.train_mask, num_classes=4) for y in (data.y, hidden))
    assert torch.equal(a, b)


def test_a_node_without_neighbours_is_undecided_and_loops_are_none() -> None:
    edge_index = torch.tensor([[0, 1, 2, 3, 0, 4], [1, 0, 3, 2, 0, 4]])
    y, known = torch.tensor([0, 0, 1, 1, 0]), torch.tensor([True, False, True, False, False])
    f = seeded_communities(edge_index, y, known, num_classes=2)
    torch.testing.assert_close(f[4], torch.full((2,), 0.5))
    assert f[:4].argmax(dim=1).tolist() == [0, 0, 1, 1]
    torch.testing.assert_close(f, seeded_communities(edge_index[:, :4], y, known, num_classes=2))


def test_errors_say_what_was_expected() -> None:
    edge_index, y = torch.tensor([[0, 1], [1, 0]]), torch.tensor([0, 1])
    known = torch.tensor([True, True])
    with pytest.raises(ValueError, match="num_classes must be at least 2, got 1"):
        seeded_communities(edge_index, y, known, num_classes=1)
    with pytest.raises(ValueError, match="coupling must be positive, got 0"):
        seeded_communities(edge_index, y, known, num_classes=2, coupling=0)
    with pytest.raises(ValueError, match="known must select at least one node"):
        seeded_communities(edge_index, y, ~known, num_classes=2)
