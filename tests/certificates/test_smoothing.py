"""The region certificate against brute force on short binary vectors, and its known closed forms."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.stats import binom, chisquare

from contractive_gnn.certificates.smoothing import (
    SparseNoise,
    certified_within,
    least_probability,
    lower_confidence,
    regions,
)

NOISES = [SparseNoise(0.1, 0.4), SparseNoise(0.3, 0.3), SparseNoise(0.01, 0.6), SparseNoise(0.0, 0.5)]


def distribution(noise: SparseNoise, x: tuple[int, ...]) -> list[float]:
    """The probability of every binary vector around x."""
    result = []
    for z in product((0, 1), repeat=len(x)):
        probability = 1.0
        for a, b in zip(x, z, strict=True):
            flip = noise.delete if a else noise.add
            probability *= flip if a != b else 1 - flip
        result.append(probability)
    return result


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("added", "deleted"), [(0, 0), (1, 0), (0, 1), (2, 1), (1, 3), (3, 2)])
@pytest.mark.parametrize("probability", [0.55, 0.8, 0.97, 0.9999])
def test_the_least_probability_is_that_of_the_worst_of_all_classifiers(
    noise: SparseNoise, added: int, deleted: int, probability: float
) -> None:
    # two entries more than differ: they must not matter
    x = (0,) * added + (1,) * deleted + (0, 1)
    perturbed = (1,) * added + (0,) * deleted + (0, 1)
    clean, moved = distribution(noise, x), distribution(noise, perturbed)
    worst = linprog(moved, A_ub=[[-weight for weight in clean]], b_ub=[-probability], bounds=(0, 1)).fun
    # the solver keeps its constraint to 1e-7, of regions that are up to 60 times as likely after the flips
    assert least_probability(noise, probability, added=added, deleted=deleted) == pytest.approx(worst, abs=1e-5)


def test_one_entry_has_its_closed_form() -> None:
    # p₊ = p₋ = β: the two outcomes have ratio (1 − β)/β; of p the likelier one takes 1 − β first
    noise, p = SparseNoise(0.2, 0.2), 0.9
    assert least_probability(noise, p, added=1, deleted=0) == pytest.approx(0.2 + (p - 0.8) / 0.2 * 0.8)


@pytest.mark.parametrize("noise", NOISES)
def test_the_regions_are_two_distributions(noise: SparseNoise) -> None:
    found = regions(noise, added=3, deleted=4)
    assert found.sum(axis=0) == pytest.approx([1, 1])


def test_a_node_is_certified_up_to_where_the_least_probability_is_a_half() -> None:
    noise = SparseNoise(0.01, 0.6)
    for p in torch.linspace(0.5, 1, 101, dtype=torch.float64).tolist():
        holds = least_probability(noise, p, added=0, deleted=3) > 0.5 + 1e-9
        assert bool(certified_within(noise, torch.tensor([p]).double(), added=0, deleted=3)) >= holds
        fails = least_probability(noise, p, added=0, deleted=3) <= 0.5
        assert not (fails and bool(certified_within(noise, torch.tensor([p]).double(), added=0, deleted=3)))
    assert not bool(certified_within(SparseNoise(0.001, 0.6), torch.ones(1).double(), added=50, deleted=0).any())


def test_the_confidence_bound_covers_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    hits = (torch.rand(4000, 200, generator=generator) < 0.9).sum(dim=1)
    low = lower_confidence(hits, 200, alpha=0.05)
    assert 0.01 < float((low > 0.9).double().mean()) < 0.06
    assert lower_confidence(torch.tensor([0, 200]), 200, alpha=0.05).tolist() == pytest.approx([0, 0.05 ** (1 / 200)])


def test_the_noise_flips_every_pair_as_often_as_it_says() -> None:
    n, noise = 30, SparseNoise(0.02, 0.4)
    pairs = torch.combinations(torch.arange(n))[::5].t()
    edge_index = torch.cat([pairs, pairs.flip(0)], dim=1)
    present = torch.zeros(n, n).index_put((edge_index[0], edge_index[1]), torch.tensor(1.0))
    mean = torch.zeros(n, n)
    generator = torch.Generator().manual_seed(0)
    for _ in range(500):
        noisy = noise.edges(edge_index, n, generator=generator)
        graph = torch.zeros(n, n).index_put((noisy[0], noisy[1]), torch.tensor(1.0), accumulate=True)
        assert float(graph.max()) == 1
        assert torch.equal(graph, graph.t())
        mean += graph / 500
    others = (1 - present) - torch.eye(n)
    assert float((mean * present).sum() / present.sum()) == pytest.approx(0.6, abs=0.01)
    assert float((mean * others).sum() / others.sum()) == pytest.approx(0.02, abs=0.002)


@pytest.mark.parametrize(("add", "delete"), [(-0.1, 0.5), (0.1, 1.0)])
def test_noise_that_is_none_is_refused(add: float, delete: float) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        SparseNoise(add, delete)


@pytest.mark.parametrize(("n", "add"), [(150, 2e-5), (150, 1e-4), (30, 0.005)])
def test_the_number_of_additions_is_binomial_where_it_is_small(n: int, add: float) -> None:
    """Means of about 0.2, 1 and 2, where a rounded normal variable is far off."""
    generator, empty = torch.Generator().manual_seed(0), torch.zeros(2, 0, dtype=torch.long)
    noise, entries, draws = SparseNoise(add, 0.0), n * (n - 1) // 2, 2000
    drawn = [noise.edges(empty, n, generator=generator).shape[1] // 2 for _ in range(draws)]
    cells = int(binom.ppf(0.98, entries, add)) + 1  # the last cell is all that is beyond
    seen = np.bincount(np.minimum(drawn, cells), minlength=cells + 1)
    expected = binom.pmf(np.arange(cells + 1), entries, add)
    expected[cells] = binom.sf(cells - 1, entries, add)
    assert chisquare(seen, draws * expected).pvalue > 1e-3
    mean, spread = entries * add, (entries * add * (1 - add)) ** 0.5
    normal = np.maximum(np.round(mean + spread * np.random.default_rng(0).standard_normal(draws)), 0).astype(int)
    wrong = np.bincount(np.minimum(normal, cells), minlength=cells + 1)
    assert chisquare(wrong, draws * expected).pvalue < 1e-6


def test_a_graph_that_is_not_simple_gets_no_noise_and_impossible_counts_no_bound() -> None:
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="directed"):
        SparseNoise(0.1, 0.1).edges(torch.tensor([[0], [1]]), 3, generator=generator)
    with pytest.raises(ValueError, match="hits"):
        lower_confidence(torch.tensor([11]), 10, alpha=0.01)
    with pytest.raises(ValueError, match="alpha"):
        lower_confidence(torch.tensor([1]), 10, alpha=1.0)
