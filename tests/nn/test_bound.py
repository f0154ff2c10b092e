"""The coupled bound: never exceeded by flips, features, or both; and exceeded once a part of it is left out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from contractive_gnn import datasets
from contractive_gnn.attacks.base import flip_edges
from contractive_gnn.dynamics import Diffusion, Dynamics, GradientAscent, GraphGradientFlow, ImplicitFlow
from contractive_gnn.graph import Graph
from contractive_gnn.inputs import InputError
from contractive_gnn.nn import CSGNN, AlternatingConv, EquilibriumConv, FlowConv, FlowGNN, Linear, build
from contractive_gnn.nn.bound import CoupledBound, compose
from contractive_gnn.nn.parametrizations import linf, orthogonal, spectral
from contractive_gnn.norms import vector_norm

MODELS: dict[str, dict[str, Any]] = {
    "degree, linf": {},
    "A kept": {"adjacency": "fixed"},
    "inside, A kept": {"adjacency": "fixed", "placement": "inside"},
    "sym, W learned": {"normalization": "sym", "learn_weight": True, "num_layers": 3},
    "degree, W learned": {"learn_weight": True, "num_layers": 3},
    "group": {"activation": "group-huber", "num_layers": 3},
    "fast adjacency": {"adjacency_step": 0.5, "num_layers": 4},
    "tanh, max-outside": {"adjacency": "max-outside", "adjacency_step": 0.5, "activation": "tanh", "num_layers": 4},
    "ecsgnn": {"adjacency": "unconstrained", "adjacency_step": 0.5, "num_layers": 4},
    "published adjacency": {"adjacency": "published", "adjacency_step": 0.5, "num_layers": 4},
}


def model_of(name: str, features: int, classes: int, seed: int = 0) -> CSGNN:
    torch.manual_seed(seed)
    model = CSGNN(features, classes, hidden_channels=8, **MODELS[name]).double().eval()
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
    model = CSGNN(5, 2, hidden_channels=4, num_layers=1, adjacency="fixed", threshold=5.0).double().eval()
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
        bound = CSGNN(5, 2, hidden_channels=4, **options).double().lipschitz(x, edge_index)  # type: ignore[arg-type]
        assert not bound.certified
        assert reason in bound.reason
        assert bound.structure_here == float("inf")


@pytest.mark.parametrize("name", ["linf-diffusion", "gradient-flow", "implicit-flow", "gradient-flow-degree"])
def test_flow_models_have_it_too(name: str) -> None:
    x, edge_index = graph()
    torch.manual_seed(0)
    model = build(name, 5, 2, hidden_channels=4).double().eval()
    bound = model.lipschitz(x, edge_index)  # type: ignore[operator]
    assert bound.certified, bound.reason
    assert 0 < largest_share(model, x, edge_index, bound) <= 1 + 1e-9  # type: ignore[arg-type]


def test_a_field_without_constants_gives_no_bound() -> None:
    x, edge_index = graph()
    model = build("gradient-flow-unnormalised", 5, 2, hidden_channels=4).double()
    bound = model.lipschitz(x, edge_index)  # type: ignore[operator]
    assert not bound.certified
    assert bound.reason == "the field's step follows the graph"
    assert bound.change(features=1.0) < float("inf") == bound.change(flips=1)


def test_heavy_edges_count_by_their_weight() -> None:
    """Deleting an edge of weight 9 changes A by 18, not by 2."""
    x, edge_index = graph()
    half = edge_index.size(1) // 2
    weight = torch.full((2 * half,), 9.0, dtype=torch.float64)
    for model in (build("linf-diffusion", 5, 2, hidden_channels=4), CSGNN(5, 2, hidden_channels=4, adjacency="fixed")):
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
        bound = CSGNN(5, 2, hidden_channels=4, **options).double().lipschitz(x, edge_index, weight)  # type: ignore[arg-type]
        assert not bound.certified
        assert "weights 0 and 1" in bound.reason


def test_arguments_are_checked() -> None:
    bound = compose([], [], norm="linf", encoder=2.0, decoder=3.0, certified=True, reason="")
    assert (bound.features, bound.structure, bound.change(features=0.5, flips=7)) == (6.0, 0.0, 3.0)
    for wrong in ({"flips": -1}, {"features": -0.1}, {"features": math.nan}, {"features": math.inf}):
        with pytest.raises(ValueError, match="must not be negative, nor infinite"):
            bound.change(**wrong)  # type: ignore[arg-type]
    for wrong in ({"flips": True}, {"flips": 1.0}, {"flips": math.nan}, {"features": True}, {"features": "1"}):
        with pytest.raises(TypeError, match="must be a"):
            bound.change(**wrong)  # type: ignore[arg-type]


BAD_GRAPHS = {
    "one orientation": (lambda edges: (edges[:, edges[0] < edges[1]], None), "the graph is directed"),
    "an edge twice": (lambda edges: (torch.cat([edges, edges[:, :1]], dim=1), None), "is there twice"),
    "a self-loop": (lambda edges: (torch.cat([edges, torch.zeros(2, 1, dtype=torch.long)], dim=1), None), "self-loop"),
    "signs": (lambda edges: (edges, -torch.ones(edges.size(1), dtype=torch.float64)), "negative"),
    "a NaN": (lambda edges: (edges, torch.full((edges.size(1),), math.nan, dtype=torch.float64)), "not finite"),
    "asymmetric weights": (
        lambda edges: (edges, torch.linspace(1, 2, edges.size(1), dtype=torch.float64)),
        "asymmetric",
    ),
}


@pytest.mark.parametrize("what", BAD_GRAPHS)
def test_no_bound_is_given_on_a_graph_outside_the_proof(what: str) -> None:
    x, edge_index = graph()
    make, message = BAD_GRAPHS[what]
    edges, weight = make(edge_index)
    for name in ("csgnn", "linf-diffusion", "gradient-flow", "robust"):
        with pytest.raises(InputError, match=message):
            build(name, 5, 2, hidden_channels=4).double().lipschitz(x, edges, weight)  # type: ignore[operator]
    bare = Graph.of(x, edges, weight)
    alternating = AlternatingConv(GraphGradientFlow(5, mu=0.5), GradientAscent(5)).double()
    for layer in (FlowConv(Diffusion()), EquilibriumConv(Diffusion(mu=0.5)), alternating):
        with pytest.raises(InputError, match=message):
            layer.lipschitz(bare)  # type: ignore[operator]


def test_no_bound_is_given_for_values_that_are_not_finite() -> None:
    x, edge_index = graph()
    for name in ("csgnn", "linf-diffusion", "robust"):
        model = build(name, 5, 2, hidden_channels=4).double()
        with pytest.raises(InputError, match="not finite"):
            model.lipschitz(x / 0, edge_index)  # type: ignore[operator]
        with torch.no_grad():
            model.encoder.weight[0, 0] = math.nan  # type: ignore[union-attr,index,operator]
        with pytest.raises(ValueError, match=r"parameter encoder\.weight has entries that are not finite"):
            model.lipschitz(x, edge_index)  # type: ignore[operator]


class Doubled(FlowGNN):
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return 2 * super().forward(x, edge_index, edge_weight)


class Steeper(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


def hook_the_model(model: nn.Module) -> None:
    model.register_forward_hook(lambda module, arguments, out: 2 * out)


def hook_the_encoder(model: nn.Module) -> None:
    model.encoder.register_forward_pre_hook(lambda module, arguments: (2 * arguments[0],))  # type: ignore[union-attr,operator]


def another_encoder(model: nn.Module) -> None:
    model.encoder = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 4)).double()


def a_steeper_encoder(model: nn.Module) -> None:
    model.encoder = Steeper(5, 4).double()


def another_forward(model: nn.Module) -> None:
    model.forward = lambda *arguments: 0.0  # type: ignore[method-assign,assignment]


def another_parametrisation(model: nn.Module) -> None:
    nn.utils.parametrizations.weight_norm(model.encoder)  # type: ignore[arg-type]


def half_precision(model: nn.Module) -> None:
    model.encoder.bfloat16()  # type: ignore[union-attr,operator]


CHANGES = {
    hook_the_model: "forward hook", hook_the_encoder: "forward hook", another_encoder: "in the place of Linear",
    a_steeper_encoder: "in the place of Linear", another_forward: "was replaced",
    another_parametrisation: "parametrisation whose constants", half_precision: "rounding",
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["csgnn", "linf-diffusion", "robust-provable"])
def test_a_model_that_was_changed_has_no_constants(name: str, change: Callable[[nn.Module], None]) -> None:
    x, edge_index = graph()
    model = build(name, 5, 2, hidden_channels=4).double()
    change(model)
    bound = model.lipschitz(x, edge_index)  # type: ignore[operator]
    assert not bound.certified
    assert CHANGES[change] in bound.reason
    assert bound.change(features=0.1) == bound.change(flips=1) == math.inf


@pytest.mark.parametrize("name", ["csgnn", "linf-diffusion", "robust-provable"])
def test_features_of_another_precision_are_refused(name: str) -> None:
    x, edge_index = graph()
    model = build(name, 5, 2, hidden_channels=4).double()
    with pytest.raises(ValueError, match=r"got x in torch\.float16, but its parameter"):
        model.lipschitz(x.half(), edge_index)  # type: ignore[operator]


def test_a_subclass_has_no_constants_and_our_own_parametrisations_keep_them() -> None:
    x, edge_index = graph()
    own = Doubled(5, 2, FlowConv(Diffusion()), hidden_channels=4, space="class").double()
    assert "Doubled stands in the place of FlowGNN" in own.lipschitz(x, edge_index).reason
    model = build("linf-diffusion", 5, 2, hidden_channels=4).double().eval()
    spectral(linf(model.encoder, bound=0.5))  # type: ignore[type-var,arg-type]
    orthogonal(model.decoder)  # type: ignore[arg-type]
    bound = model.lipschitz(x, edge_index)  # type: ignore[operator]
    assert bound.certified, bound.reason
    assert 0 < largest_share(model, x, edge_index, bound) <= 1 + 1e-9  # type: ignore[arg-type]


PAIRS = torch.triu_indices(5, 5, offset=1)


def every_graph(weight: float) -> tuple[Tensor, Tensor]:
    """All 1,024 graphs of 5 nodes as one: graph number g has pair b where bit b of g is set."""
    member = (torch.arange(1024).unsqueeze(1) >> torch.arange(10)) & 1
    number, pair = member.nonzero().T
    edges = PAIRS[:, pair] + 5 * number
    return torch.cat([edges, edges.flip(0)], dim=1), torch.full((2 * edges.size(1),), weight, dtype=torch.float64)


def attack_exhaustively(
    model: nn.Module, x: Tensor, weight: float, clean: Sequence[int], shrink: float = 1.0
) -> tuple[float, int]:
    """The largest change over its bound, over every graph and every number of flips, and how often it is above 1.

    ``shrink`` scales what the influence of a layer saturates at.
    """
    edges, weights = every_graph(weight)
    every = torch.arange(1024)
    with torch.no_grad():
        scores = model(x.repeat(1024, 1), edges, weights).view(1024, 5, -1)
    worst, broken = 0.0, 0
    for number in clean:
        own = [bit for bit in range(10) if number >> bit & 1]
        pairs = torch.cat([PAIRS[:, own], PAIRS[:, own].flip(0)], dim=1)
        bound = model.lipschitz(x, pairs, torch.full((2 * len(own),), weight, dtype=torch.float64))  # type: ignore[operator]
        assert bound.certified, bound.reason
        layers = tuple(replace(layer, root=shrink * layer.root, limit=shrink * layer.limit) for layer in bound.layers)
        bound = replace(bound, layers=layers, heaviest=weight)
        flips = ((every ^ number).unsqueeze(1) >> torch.arange(10) & 1).sum(dim=1)
        for count in range(1, 11):
            found = max(float(vector_norm(moved, bound.norm)) for moved in (scores - scores[number])[flips == count])
            share = found / bound.change(flips=count)
            worst, broken = max(worst, share), broken + (share > 1 + 1e-9)
    return worst, broken


def flow_model(field: Dynamics, steps: int) -> FlowGNN:
    torch.manual_seed(1)
    model = FlowGNN(4, 4, FlowConv(field, num_steps=steps), hidden_channels=4, space="class").double().eval()
    with torch.no_grad():
        for part in (model.encoder, model.decoder):
            part.weight.copy_(torch.eye(4))
            part.bias.zero_()
    return model


FIELDS: dict[str, Callable[[], Dynamics]] = {
    "diffusion": lambda: Diffusion(activation="huber", mu=0.3),
    "diffusion, linear": lambda: Diffusion(activation="identity", mu=0.3),
    "diffusion, redescending": lambda: Diffusion(activation="log-sum", mu=0.3),
    "divided by degrees, linf": lambda: GraphGradientFlow(
        4, activation="tanh", normalization="degree", learn_weight=False, mu=0.1, epsilon=0.5
    ),
    "divided by degrees, l2": lambda: GraphGradientFlow(4, activation="huber", normalization="degree", mu=0.1),
    "group, l2": lambda: GraphGradientFlow(
        4, activation="group-huber", normalization="degree", learn_weight=False, mu=0.1
    ),
    "sym": lambda: GraphGradientFlow(4, activation="tanh", mu=0.1),
    "implicit": lambda: ImplicitFlow(4),
}


@pytest.mark.parametrize("weight", [1.0, 40.0])
@pytest.mark.parametrize("field", FIELDS)
def test_no_graph_of_five_nodes_exceeds_the_saturated_bound(field: str, weight: float) -> None:
    x = 6 * torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for steps in (1, 3):
        worst, broken = attack_exhaustively(flow_model(FIELDS[field](), steps), x, weight, range(0, 1024, 93))
        assert 0 < worst <= 1 + 1e-9
        assert broken == 0


@pytest.mark.parametrize("field", ["diffusion", "diffusion, linear", "divided by degrees, linf"])
def test_with_a_limit_of_four_fifths_it_is_exceeded(field: str) -> None:
    """One node between two sides: all its edges go from the one to the other."""
    x = 9 * torch.tensor([0.5, 1.0, 1.0, 0.0, 0.0], dtype=torch.float64).unsqueeze(1).expand(5, 4).contiguous()
    star = [bit for bit, (i, j) in enumerate(PAIRS.T.tolist()) if i == 0 and j in (1, 2)]
    clean = [sum(1 << bit for bit in star)]
    model = flow_model(FIELDS[field](), 1)
    worst, _ = attack_exhaustively(model, x, 40.0, clean)
    assert 0.8 < worst <= 1 + 1e-9
    assert attack_exhaustively(model, x, 40.0, clean, shrink=0.8)[1] > 0


def test_the_root_is_attained_where_a_heavy_edge_hid_two_light_ones() -> None:
    """Path 2–0–1–3: without its middle edge both ends are pulled the other way. A root of four fifths is too small."""
    flow = GraphGradientFlow(
        4, activation="group-huber", normalization="degree", learn_weight=False, epsilon=0.01
    ).double()
    edges = torch.tensor([[2, 0, 1, 0, 1, 3], [0, 1, 3, 2, 0, 1]])
    weight = torch.tensor([1.0, 40.0, 1.0, 1.0, 40.0, 1.0], dtype=torch.float64)
    before, after = (Graph(edges, w, 4) for w in (weight, weight.masked_fill(weight == 40.0, 0.0)))
    x = 9 * torch.tensor([0.0, 1.0, -1.0, 2.0], dtype=torch.float64).unsqueeze(1).expand(4, 4).contiguous()
    moved = float(flow.size(flow.field(x, after) - flow.field(x, before), before))
    root, limit = flow.structure_saturation(before)
    assert 0.9 * root < moved / math.sqrt(80.0) <= root
    assert 0.5 * limit < moved <= limit


@pytest.mark.parametrize("name", ["degree, linf", "A kept", "degree, W learned", "fast adjacency", "sym, W learned"])
def test_the_saturated_bound_grows_in_both_arguments_and_is_never_above_the_linear_one(name: str) -> None:
    x, edge_index = graph()
    bound = model_of(name, 5, 2).lipschitz(x, edge_index)
    for size in (0.0, 0.1, 3.0):
        last = 0.0
        for flips in (0, 1, 2, 3, 7, 20, 91, 10**6):
            changed = bound.change(features=size, flips=flips)
            assert last <= changed <= bound.features * size + 2 * flips * bound.structure_here
            assert bound.change(features=size / 2, flips=flips) <= changed
            last = changed
    if name == "sym, W learned":  # nothing is known beyond the linear bound
        assert bound.change(flips=91) == pytest.approx(182 * bound.structure_here, rel=1e-12)
    else:
        assert bound.change(flips=91) < 0.5 * 182 * bound.structure_here


@pytest.mark.usefixtures("real_data")
def test_on_cora_no_random_perturbation_exceeds_it() -> None:
    data = datasets.load("cora")
    torch.manual_seed(0)
    model = CSGNN(data.num_features, 7, hidden_channels=16).double().eval()
    bound = model.lipschitz(data.x.double(), data.edge_index)
    assert bound.certified
    assert 0 < largest_share(model, data.x.double(), data.edge_index, bound, tries=30) <= 1 + 1e-9
