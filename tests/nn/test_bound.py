"""The coupled bound: never exceeded by flips, features, or both; and exceeded once a part of it is left out."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn import datasets
from contractive_gnn.attacks.base import flip_edges
from contractive_gnn.nn import CSGNN, build
from contractive_gnn.nn.bound import CoupledBound, compose
from contractive_gnn.norms import vector_norm

MODELS: dict[str, dict[str, Any]] = {
    "degree, linf": {},
    "A kept": {"adjacency": "fixed"},
    "inside, A kept": {"adjacency": "fixed", "placement": "inside"},
    "sym, W learned": {"normalization": "sym", "weight": True, "num_layers": 3},
    "degree, W learned": {"weight": True, "num_layers": 3},
    "group": {"sigma": "group-huber", "num_layers": 3},
    "fast adjacency": {"adjacency_step": 0.5, "num_layers": 4},
    "tanh, max-outside": {"adjacency": "max-outside", "adjacency_step": 0.5, "sigma": "tanh", "num_layers": 4},
    "ecsgnn": {"adjacency": "unconstrained", "adjacency_step": 0.5, "num_layers": 4},
    "published adjacency": {"adjacency": "published", "adjacency_step": 0.5, "num_layers": 4},
}


def model_of(name: str, features: int, classes: int, seed: int = 0) -> CSGNN:
    torch.manual_seed(seed)
    model = CSGNN(features, classes, hidden=8, **MODELS[name]).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # away from where they start
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def graph(n: int = 14, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.triu(torch.rand(n, n, generator=generator) < 0.3, diagonal=1).nonzero().T
    x = torch.randn(n, 5, dtype=torch.float64, generator=generator)
    return x, torch.cat([pairs, pairs.flip(0)], dim=1)


def largest_share(model: CSGNN, x: Tensor, edge_index: Tensor, bound: CoupledBound, tries: int = 60) -> float:
    """The largest change over its bound: flips anywhere and at one node, features, both."""
    generator = torch.Generator().manual_seed(0)
    n, worst = len(x), 0.0
    with torch.no_grad():
        clean = model(x, edge_index)
        for attempt in range(tries):
            count = int(torch.randint(1, 6, (), generator=generator))
            pairs = torch.randint(n, (2, count), generator=generator)
            if attempt % 2:
                pairs[0] = attempt % n
            pairs = pairs.sort(dim=0).values
            pairs = pairs[:, pairs[0] != pairs[1]].unique(dim=1)
            change = torch.randn(x.shape, dtype=x.dtype, generator=generator).sign() * (attempt % 3) * 0.1
            moved = model(x + change, flip_edges(edge_index, pairs, num_nodes=n)) - clean
            allowed = bound.change(features=float(vector_norm(change, bound.norm)), flips=pairs.size(1))
            if allowed > 0:
                worst = max(worst, float(vector_norm(moved, bound.norm)) / allowed)
    return worst


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=2)
@given(seed=st.integers(0, 2**31))
def test_nothing_moves_the_output_further(name: str, seed: int) -> None:
    x, edge_index = graph(seed=seed)
    model = model_of(name, 5, 2, seed)
    bound = model.lipschitz(x, edge_index)
    assert bound.certified, bound.reason
    assert bound.structure_here <= bound.structure * (1 + 1e-12)
    assert len(bound.layers) == model.num_layers
    assert largest_share(model, x, edge_index, bound) <= 1 + 1e-9


def test_the_bound_of_one_step_is_within_a_factor_of_ten() -> None:
    x, edge_index = graph()
    torch.manual_seed(0)
    model = CSGNN(5, 2, hidden=4, num_layers=1, adjacency="fixed", threshold=5.0).double().eval()
    bound = model.lipschitz(x, edge_index)
    share = largest_share(model, x, edge_index, bound, tries=300)
    assert 0.1 < share <= 1 + 1e-9


def test_the_bound_of_the_trajectory_is_tighter_where_states_are_near() -> None:
    x, edge_index = graph()
    model = model_of("A kept", 5, 2)
    with torch.no_grad():
        model.encoder.weight *= 0.01
        model.encoder.bias *= 0.01
    bound = model.lipschitz(x, edge_index)
    assert bound.structure_here < 0.2 * bound.structure


def test_sym_is_bounded_at_a_state_only() -> None:
    x, edge_index = graph()
    bound = model_of("sym, W learned", 5, 2).lipschitz(x, edge_index)
    assert bound.certified
    assert bound.structure == float("inf")
    assert bound.structure_here < float("inf")


def test_what_cannot_be_proved_says_so() -> None:
    x, edge_index = graph()
    for options, reason in (
        ({"placement": "inside"}, "inside σ and move"),
        ({"normalization": "none"}, "follows the degrees"),
    ):
        bound = CSGNN(5, 2, hidden=4, **options).double().lipschitz(x, edge_index)  # type: ignore[arg-type]
        assert not bound.certified
        assert reason in bound.reason
        assert bound.structure_here == float("inf")


@pytest.mark.parametrize("name", ["linf-diffusion", "gradient-flow", "implicit-flow", "gradient-flow-degree"])
def test_flow_models_have_it_too(name: str) -> None:
    x, edge_index = graph()
    torch.manual_seed(0)
    model = build(name, 5, 2, hidden=4).double().eval()
    bound = model.lipschitz(x, edge_index)  # type: ignore[operator]
    assert bound.certified, bound.reason
    assert 0 < largest_share(model, x, edge_index, bound) <= 1 + 1e-9  # type: ignore[arg-type]


def test_a_field_without_constants_gives_no_bound() -> None:
    x, edge_index = graph()
    model = build("gradient-flow-unnormalised", 5, 2, hidden=4).double()
    bound = model.lipschitz(x, edge_index)  # type: ignore[operator]
    assert not bound.certified
    assert bound.reason == "the field's step follows the graph"
    assert bound.change(features=1.0) < float("inf") == bound.change(flips=1)


def test_heavy_edges_count_by_their_weight() -> None:
    """Deleting an edge of weight 9 changes A by 18, not by 2."""
    x, edge_index = graph()
    half = edge_index.size(1) // 2
    weight = torch.full((2 * half,), 9.0, dtype=torch.float64)
    for model in (build("linf-diffusion", 5, 2, hidden=4), CSGNN(5, 2, hidden=4, adjacency="fixed")):
        model = model.double().eval()
        bound = model.lipschitz(x, edge_index, weight)
        assert bound.certified
        assert bound.heaviest == 9.0
        for edge in range(half):
            kept = torch.ones(2 * half, dtype=torch.bool)
            kept[[edge, edge + half]] = False
            with torch.no_grad():
                moved = model(x, edge_index[:, kept], weight[kept]) - model(x, edge_index, weight)
            assert float(vector_norm(moved, bound.norm)) <= bound.change(flips=1) * (1 + 1e-9)


def test_other_weights_are_not_taken_for_0_and_1() -> None:
    x, edge_index = graph()
    weight = torch.full((edge_index.size(1),), 5.0, dtype=torch.float64)
    for options in ({"adjacency": "fixed", "placement": "inside"}, {}):
        bound = CSGNN(5, 2, hidden=4, **options).double().lipschitz(x, edge_index, weight)  # type: ignore[arg-type]
        assert not bound.certified
        assert "weights 0 and 1" in bound.reason


def test_arguments_are_checked() -> None:
    bound = compose([], [], norm="linf", encoder=2.0, decoder=3.0, certified=True, reason="")
    assert (bound.features, bound.structure, bound.change(features=0.5, flips=7)) == (6.0, 0.0, 3.0)
    with pytest.raises(ValueError, match="must not be negative"):
        bound.change(flips=-1)


@pytest.mark.usefixtures("real_data")
def test_on_cora_no_random_perturbation_exceeds_it() -> None:
    data = datasets.load("cora")
    torch.manual_seed(0)
    model = CSGNN(data.num_features, 7, hidden=16).double().eval()
    bound = model.lipschitz(data.x.double(), data.edge_index)
    assert bound.certified
    assert 0 < largest_share(model, data.x.double(), data.edge_index, bound, tries=30) <= 1 + 1e-9
