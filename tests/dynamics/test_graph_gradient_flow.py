"""The ℓ2 gradient flow: it is a gradient, it contracts at the edge of its condition, and not beyond it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn.activations import activation
from contractive_gnn.dynamics import GraphGradientFlow
from contractive_gnn.graph import Graph

NORMALIZATIONS = ("none", "sym", "degree")
PLACEMENTS = ("inside", "outside")


def random_graph(n: int, generator: torch.Generator) -> Graph:
    upper = torch.triu(torch.rand(n, n, generator=generator) < 0.4, diagonal=1).nonzero().T
    weight = torch.rand(upper.size(1), dtype=torch.float64, generator=generator) * 2
    return Graph(torch.cat([upper, upper.flip(0)], dim=1), torch.cat([weight, weight]), n)


def complete_bipartite(m: int) -> Graph:
    left, right = torch.meshgrid(torch.arange(m), torch.arange(m, 2 * m), indexing="ij")
    upper = torch.stack([left.flatten(), right.flatten()])
    return Graph(torch.cat([upper, upper.flip(0)], dim=1), torch.ones(2 * m * m, dtype=torch.float64), 2 * m)


def size(flow: GraphGradientFlow, graph: Graph, x: Tensor) -> float:
    if flow.normalization == "degree":
        x = x * flow.degree(graph).sqrt().unsqueeze(-1)
    return float(x.norm())


def step_ratio(flow: GraphGradientFlow, graph: Graph, h: float, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        moved = x + h * flow.field(x, graph) - y - h * flow.field(y, graph)
    return size(flow, graph, moved) / size(flow, graph, x - y)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("normalization", ["none", "sym"])
def test_the_field_is_minus_the_gradient_of_its_potential(placement: str, normalization: str) -> None:
    generator = torch.Generator().manual_seed(0)
    graph = random_graph(7, generator)
    sigma = activation("huber", threshold=0.5)
    flow = GraphGradientFlow(3, activation=sigma, placement=placement, normalization=normalization, mu=0.3).double()
    x = torch.randn(7, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    a = graph.edge_weight.unsqueeze(1)
    scale = flow.degree(graph).rsqrt().unsqueeze(1) if normalization == "sym" else torch.ones(7, 1).double()
    z = (x * scale) @ flow.weight
    d = z[graph.target] - z[graph.source]
    d = a * d if placement == "inside" else d
    huber = torch.where(d.abs() <= 0.5, d.square() / 2, 0.5 * d.abs() - 0.125)
    # Each edge stands in both orientations, hence the half.
    potential = (huber if placement == "inside" else a * huber).sum() / 2 + 0.15 * x.square().sum()
    (gradient,) = torch.autograd.grad(potential, x)
    torch.testing.assert_close(flow.field(x, graph), -gradient)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("sigma", ["tanh", "huber", "group-huber", "leaky-relu", "identity"])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31), mu=st.sampled_from([0.0, 0.1, 1.0]))
def test_the_step_contracts_at_the_edge_of_its_condition(
    placement: str, normalization: str, sigma: str, seed: int, mu: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    graph = random_graph(8, generator)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        flow = GraphGradientFlow(
            3, activation=sigma, placement=placement, normalization=normalization, mu=mu, epsilon=0.01
        )
        flow = flow.double()
    h = float(flow.max_step(graph).detach())
    if not math.isfinite(h) or h > 1e6:  # no edge was drawn
        return
    assert flow.certified
    x = torch.randn(8, 3, dtype=torch.float64, generator=generator)
    y = x + torch.randn(8, 3, dtype=torch.float64, generator=generator) * 10 ** float(
        torch.randn(1, generator=generator)
    )
    assert step_ratio(flow, graph, h, x, y) <= 1 - h * float(flow.rate(graph)) + 1e-12


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_the_step_expands_beyond_its_condition(normalization: str) -> None:
    """On a complete bipartite graph the bound of ‖G‖² is attained, by the vector that separates the two sides."""
    graph = complete_bipartite(3)
    flow = GraphGradientFlow(
        1, activation="identity", normalization=normalization, learn_weight=False, epsilon=1e-9
    ).double()
    x = torch.tensor([1.0] * 3 + [-1.0] * 3, dtype=torch.float64).unsqueeze(1)
    h = float(flow.max_step(graph).detach())
    assert step_ratio(flow, graph, h, x, -x) == pytest.approx(1.0, abs=1e-8)
    assert step_ratio(flow, graph, 1.2 * h, x, -x) > 1.39


def test_the_printed_step_condition_lacks_the_graph() -> None:
    """h = 2/‖W‖² satisfies the condition as printed in the paper, and expands eleven times."""
    graph = complete_bipartite(3)
    flow = GraphGradientFlow(1, activation="identity", normalization="none", learn_weight=False).double()
    x = torch.tensor([1.0] * 3 + [-1.0] * 3, dtype=torch.float64).unsqueeze(1)
    assert step_ratio(flow, graph, 2.0, x, -x) == pytest.approx(11.0)


def test_a_redescending_activation_is_declared_expansive_until_the_fidelity_outweighs_it() -> None:
    graph = complete_bipartite(2)
    weak = GraphGradientFlow(2, activation="group-mcp", mu=0.5, learn_weight=False)
    strong = GraphGradientFlow(2, activation="group-mcp", mu=2.5, learn_weight=False)
    assert weak.rate(graph) == pytest.approx(0.5 - 2.0)
    assert weak.max_step(graph) == 0.0
    assert strong.rate(graph) == pytest.approx(0.5)
    assert strong.max_step(graph) > 0


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_the_largest_eigenvalue_is_below_its_bound(seed: int) -> None:
    graph = random_graph(9, torch.Generator().manual_seed(seed))
    for placement in PLACEMENTS:
        flow = GraphGradientFlow(
            1, activation="identity", placement=placement, normalization="none", learn_weight=False
        ).double()
        laplacian = torch.stack([-flow.field(e.unsqueeze(1), graph).squeeze(1) for e in torch.eye(9).double()])
        assert float(torch.linalg.eigvalsh(laplacian)[-1]) <= flow.gradient_norm_squared(graph) + 1e-9


def test_an_absent_edge_has_a_gradient_only_where_weights_stand_outside() -> None:
    graph = complete_bipartite(2)
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for placement, masked in (("inside", True), ("outside", False)):
        weight = torch.zeros_like(graph.edge_weight, requires_grad=True)
        flow = GraphGradientFlow(
            2, activation="tanh", placement=placement, normalization="none", learn_weight=False
        ).double()
        (gradient,) = torch.autograd.grad(flow.field(x, Graph(graph.edge_index, weight, 4))[0, 0], weight)
        assert bool((gradient == 0).all()) == masked


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="placement must be 'inside' or 'outside', got 'above'"):
        GraphGradientFlow(2, placement="above")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="normalization must be"):
        GraphGradientFlow(2, normalization="row")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mu must be at least 0"):
        GraphGradientFlow(2, mu=-1)


@pytest.mark.parametrize(("placement", "weight"), [("outside", 1e-8), ("inside", 1e-4)])
def test_tiny_weights_do_not_cancel_against_epsilon(placement: str, weight: float) -> None:
    graph = Graph(torch.tensor([[0, 1], [1, 0]]), torch.full((2,), weight), 2)
    flow = GraphGradientFlow(1, activation="identity", placement=placement, normalization="none", learn_weight=False)
    x = torch.tensor([[1.0], [-1.0]])
    moved = x + flow.max_step(graph) * flow.field(x, graph)
    assert float(moved.norm()) <= float(x.norm()) * (1 + 1e-5)
