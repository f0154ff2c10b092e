"""The numbers of a seed do not depend on what other threads do."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch
from torch import Tensor

from contractive_gnn import datasets
from contractive_gnn.attacks import Budget, get
from contractive_gnn.nn import GCNClassifier
from contractive_gnn.seeding import seeded
from contractive_gnn.training import fit, predict


def in_threads(work: Callable[[int], Tensor]) -> list[Tensor]:
    """Of the seeds 0 … 3, all at once."""
    barrier = Barrier(4)

    def started(seed: int) -> Tensor:
        barrier.wait()
        return work(seed)

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(started, range(4)))


def test_a_seed_gives_the_same_draws_in_several_threads() -> None:
    def draw(seed: int) -> Tensor:
        with seeded(seed):
            parts = [torch.rand(50) for _ in range(200)]
            with seeded(seed + 9):  # the same thread may enter again
                parts.append(torch.rand(1))
            return torch.cat([*parts, torch.rand(1)])

    before = torch.get_rng_state()
    for alone, beside in zip(map(draw, range(4)), in_threads(draw), strict=True):
        assert torch.equal(alone, beside)
    assert torch.equal(torch.get_rng_state(), before)


def test_models_are_fitted_as_if_each_were_alone() -> None:
    data = datasets.contextual_sbm(80, seed=0)

    def scores(seed: int) -> Tensor:
        model = GCNClassifier(data.num_features, 4)
        fit(model, data, seed=seed, epochs=8)
        return predict(model, data)

    for alone, beside in zip(map(scores, range(4)), in_threads(scores), strict=True):
        assert torch.equal(alone, beside)


def test_attacks_flip_the_same_edges_as_if_each_were_alone() -> None:
    data = datasets.contextual_sbm(80, seed=0)
    victim = GCNClassifier(data.num_features, 4)

    def flips(seed: int) -> Tensor:
        attack = get("whitebox-pgd", seed=seed, epochs=3, fine_epochs=0, swaps=0, candidates=100)
        return attack.run(data, Budget(flips=5), victim=victim).edge_flips

    for alone, beside in zip(map(flips, range(4)), in_threads(flips), strict=True):
        assert torch.equal(alone, beside)
