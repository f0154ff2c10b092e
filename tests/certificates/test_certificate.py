"""Certificates against all perturbations of small graphs, and what is certified about which models."""

from __future__ import annotations

from itertools import combinations, pairwise, product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn import nn
from contractive_gnn.certificates import FeatureBudget, FlipBudget, certify, encoder, radii
from contractive_gnn.certificates.encoder import encoder_bounds
from contractive_gnn.dynamics import Diffusion
from contractive_gnn.nn import FlowConv, FlowGNN, linf_diffusion

N, D, CLASSES = 6, 5, 3
PAIRS = list(combinations(range(N), 2))


def example(seed: int) -> tuple[Tensor, Tensor]:
    """Binary features and the edges of a graph of six nodes."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(N, D, generator=generator) < 0.5).float()
    present = torch.rand(len(PAIRS), generator=generator) < 0.4
    pairs = torch.tensor([pair for pair, there in zip(PAIRS, present, strict=True) if there]).view(-1, 2).t()
    return x, torch.cat([pairs, pairs.flip(0)], dim=1)


def graphs_within(edge_index: Tensor) -> list[Tensor]:
    """Every graph that differs in at most one edge at every node."""
    there = {tuple(sorted(edge)) for edge in edge_index.t().tolist()}
    changes: list[set[tuple[int, int]]] = [set()]
    for pair in PAIRS:
        changes += [{*change, pair} for change in changes if not any(set(pair) & set(other) for other in change)]
    graphs = []
    for change in changes:
        pairs = torch.tensor(sorted(there ^ change), dtype=torch.long).view(-1, 2).t()
        graphs.append(torch.cat([pairs, pairs.flip(0)], dim=1))
    assert len(graphs) == 76
    return graphs


def model_of(seed: int, **arguments: Any) -> FlowGNN:
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"hidden_channels": 8, "num_steps": 3, "mu": 0.3, "threshold": 0.1, **arguments}
    return linf_diffusion(D, CLASSES, **settings).eval()


def unchanged(model: FlowGNN, inputs: list[tuple[Tensor, Tensor]], prediction: Tensor) -> Tensor:
    """The nodes whose prediction is the same for all of the inputs."""
    same = torch.ones(N, dtype=torch.bool)
    with torch.no_grad():
        for x, edge_index in inputs:
            same &= model(x, edge_index).argmax(dim=1) == prediction
    return same


def certified_and_unchanged(seed: int, space: str) -> tuple[int, int]:
    """How many predictions are certified, and how many stay under every flip; all of the former must."""
    model, (x, edge_index) = model_of(seed, space=space), example(seed)
    found = certify(model, x, edge_index, flips=FlipBudget.uniform(1, N))
    held = unchanged(model, [(x, graph) for graph in graphs_within(edge_index)], found.prediction)
    assert bool((held | ~found.certified).all())
    return int(found.certified.sum()), int(held.sum())


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), space=st.sampled_from(["class", "hidden"]))
def test_no_certified_prediction_changes_under_any_flip_at_every_node(seed: int, space: str) -> None:
    certified_and_unchanged(seed, space)


@pytest.mark.parametrize("space", ["class", "hidden"])
def test_most_of_what_does_not_change_is_certified(space: str) -> None:
    certified, stays = map(sum, zip(*(certified_and_unchanged(seed, space) for seed in range(5)), strict=True))
    # the certificate is not empty, and there is something for it to be wrong about
    assert stays * (0.85 if space == "class" else 0.5) < certified <= stays < 5 * N


def with_flipped_features(seed: int) -> tuple[int, int]:
    """As :func:`certified_and_unchanged`, with one entry of every row flipped too."""
    model, (x, edge_index) = model_of(seed, threshold=0.02), example(seed)
    found = certify(model, x, edge_index, flips=FlipBudget.uniform(1, N), features=FeatureBudget(flips=1))
    inputs = []
    generator = torch.Generator().manual_seed(seed)
    for graph in graphs_within(edge_index):
        for _ in range(4):
            entry = torch.randint(0, D, (N, 1), generator=generator)
            flip = torch.zeros(N, D).scatter(1, entry, 1.0)
            inputs.append(((x - flip).abs(), graph))
    held = unchanged(model, inputs, found.prediction)
    assert bool((held | ~found.certified).all())
    return int(found.certified.sum()), int(held.sum())


@settings(max_examples=5)
@given(seed=st.integers(0, 2**31))
def test_no_certified_prediction_changes_under_flipped_features_and_edges(seed: int) -> None:
    with_flipped_features(seed)


def test_with_flipped_features_some_predictions_are_certified_and_some_change() -> None:
    certified, stays = map(sum, zip(*map(with_flipped_features, range(4)), strict=True))
    assert 0 < certified <= stays < 4 * N


@pytest.mark.parametrize("space", ["class", "hidden"])
@pytest.mark.parametrize("budget", [FeatureBudget(flips=1), FeatureBudget(linf=0.1)])
def test_features_alone(space: str, budget: FeatureBudget) -> None:
    certified = stays = 0
    for seed in range(4):
        model, (x, edge_index) = model_of(seed, space=space, threshold=0.02), example(seed)
        found = certify(model, x, edge_index, features=budget)
        if budget.flips:  # one entry of every node
            inputs = [
                ((x - torch.nn.functional.one_hot(torch.tensor(entries), D)).abs(), edge_index)
                for entries in product(range(D), repeat=3)
                for entries in [(*entries, *entries[::-1])]
            ]
        else:
            generator = torch.Generator().manual_seed(seed)
            signs = 2.0 * torch.randint(0, 2, (200, N, D), generator=generator) - 1
            inputs = [(x + budget.linf * sign, edge_index) for sign in signs]
        held = unchanged(model, inputs, found.prediction)
        assert bool((held | ~found.certified).all())
        certified, stays = certified + int(found.certified.sum()), stays + int(held.sum())
    assert 0 < certified <= stays


def test_the_first_layer_is_bounded_exactly() -> None:
    model, (x, _) = model_of(0, space="hidden"), example(0)
    box = encoder_bounds([model.encoder], x, FeatureBudget(flips=2), rectify_last=True)
    rows = [flip for size in range(3) for flip in combinations(range(D), size)]
    changed = x.repeat(len(rows), 1, 1)
    for index, row in enumerate(rows):
        changed[index, :, list(row)] = 1 - changed[index, :, list(row)]
    with torch.no_grad():
        out = model.encoder(changed).relu()
    torch.testing.assert_close(box.upper, out.amax(0))
    torch.testing.assert_close(box.lower, out.amin(0))


@pytest.mark.parametrize("flips", [1, 3, 40])
def test_the_largest_gains_are_found_without_looking_at_all(flips: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_CHUNK", 200)  # several parts
    generator = torch.Generator().manual_seed(flips)
    x = (torch.rand(60, 30, generator=generator) < torch.linspace(0, 0.3, 60)[:, None]).double()  # a first row of zeros
    layer = torch.nn.Linear(30, 4).double()
    with torch.no_grad():
        layer.weight.copy_(torch.rand(4, 30, generator=generator) + 0.1)  # whatever a row has, its best is taken
        box = encoder_bounds([layer], x, FeatureBudget(flips=flips), rectify_last=False)
        gains = ((1 - 2 * x)[:, None, :] * layer.weight).sort(dim=2, descending=True).values[:, :, :flips]
        losses = ((2 * x - 1)[:, None, :] * layer.weight).sort(dim=2, descending=True).values[:, :, :flips]
        torch.testing.assert_close(box.upper, layer(x) + gains.clamp(min=0).sum(dim=2))
        torch.testing.assert_close(box.lower, layer(x) - losses.clamp(min=0).sum(dim=2))
    assert encoder_bounds([layer], x[:0], FeatureBudget(flips=flips), rectify_last=False).upper.shape == (0, 4)


def test_no_budget_certifies_all_clear_predictions_with_their_own_margins() -> None:
    model, (x, edge_index) = model_of(0), example(0)
    found = certify(model, x, edge_index)
    top = model(x, edge_index).topk(2, dim=1).values
    assert bool(found.certified.all())
    torch.testing.assert_close(found.margin.float(), top[:, 0] - top[:, 1], atol=1e-4, rtol=0)
    assert found.accuracy(found.prediction, torch.ones(N, dtype=torch.bool)) == 100


def test_a_larger_budget_never_certifies_more() -> None:
    model, (x, edge_index) = model_of(1), example(1)
    margins = [certify(model, x, edge_index, flips=FlipBudget.uniform(r, N)).margin for r in range(4)]
    for less, more in pairwise(margins):
        assert bool((more <= less + 1e-9).all())
    both = certify(model, x, edge_index, flips=FlipBudget.uniform(2, N)).margin
    for restricted in ({"additions": False}, {"deletions": False}):
        budget = FlipBudget.uniform(2, N, **restricted)
        assert bool((certify(model, x, edge_index, flips=budget).margin >= both - 1e-9).all())


def test_radii_are_the_budgets_at_which_the_certificate_ends() -> None:
    model, (x, edge_index) = model_of(1), example(1)
    found = radii(model, x, edge_index, most=3)
    for r in range(4):
        assert torch.equal(certify(model, x, edge_index, flips=FlipBudget.uniform(r, N)).certified, found >= r)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.build("csgnn", D, CLASSES, hidden_channels=4), "CSGNN is not a FlowGNN"),
        (nn.build("gcn", D, CLASSES, hidden_channels=4), "GCNClassifier is not a FlowGNN"),
        (nn.build("gradient-flow", D, CLASSES, hidden_channels=4), "not for GraphGradientFlow"),
        (FlowGNN(D, CLASSES, FlowConv(Diffusion(), scheme="heun")), "not for 'heun'"),
        (FlowGNN(D, CLASSES, FlowConv(Diffusion(activation="mcp", mu=2.5))), "monotone activation"),
        (FlowGNN(D, CLASSES, FlowConv(Diffusion(mu=0.5), step=0.9, constrained=False)), "a step of 0.9 is beyond"),
    ],
)
def test_about_other_models_nothing_is_certified_and_the_result_says_why(model: torch.nn.Module, reason: str) -> None:
    found = certify(model, *example(0), flips=FlipBudget.uniform(1, N))
    assert reason in found.reason
    assert not bool(found.certified.any())
    assert repr(found) == f"Certificate(0 of {N} predictions certified, reason={found.reason!r})"
    assert bool((radii(model, *example(0), most=2) == -1).all())


def test_flipped_entries_need_binary_features() -> None:
    x, edge_index = example(0)
    with pytest.raises(ValueError, match="features of 0 and 1"):
        certify(model_of(0), 0.5 * x, edge_index, features=FeatureBudget(flips=1))


def test_one_flip_in_the_whole_graph_is_less_than_one_at_every_node() -> None:
    capped = certified = stays = 0
    for seed in range(6):
        model, (x, edge_index) = model_of(seed), example(seed)
        there = {tuple(sorted(edge)) for edge in edge_index.t().tolist()}
        graphs = []
        for pair in PAIRS:
            pairs = torch.tensor(sorted(there ^ {pair}), dtype=torch.long).view(-1, 2).t()
            graphs.append(torch.cat([pairs, pairs.flip(0)], dim=1))
        found = certify(model, x, edge_index, flips=FlipBudget.uniform(1, N, total=1))
        held = unchanged(model, [(x, graph) for graph in graphs], found.prediction)
        assert bool((held | ~found.certified).all())
        at_every_node = certify(model, x, edge_index, flips=FlipBudget.uniform(1, N))
        assert bool((found.margin >= at_every_node.margin).all())
        capped += int(at_every_node.certified.sum())
        certified, stays = certified + int(found.certified.sum()), stays + int(held.sum())
    assert capped <= certified <= stays
    assert certified > 0
