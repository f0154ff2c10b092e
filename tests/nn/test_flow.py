"""The flow layer: its steps, its schemes, and the constant that its docstring states."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contractive_gnn import datasets
from contractive_gnn.dynamics import Diffusion, GradientFlow
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import SCHEMES, RungeKutta, solver
from contractive_gnn.nn import FlowConv

EXPLICIT = [name for name in SCHEMES if isinstance(solver(name), RungeKutta) and solver(name).explicit]


@pytest.fixture(scope="module")
def graph() -> Graph:
    data = datasets.contextual_sbm(30, classes=2, features=4, average_degree=6, seed=1)
    return Graph.of(data.x.double(), data.edge_index)


def test_euler_is_what_it_says(graph: Graph) -> None:
    flow = Diffusion(threshold=0.5)
    x = torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    once = FlowConv(flow, num_steps=1, step=0.3)(x, graph.edge_index, graph.edge_weight)
    torch.testing.assert_close(once, x + 0.3 * flow.field(x, graph, anchor=x))


@pytest.mark.parametrize("scheme", EXPLICIT)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**31))
def test_a_constrained_layer_never_expands_in_its_input(graph: Graph, scheme: str, seed: int) -> None:
    """The anchor moves with the input: 1 is the constant of the docstring for a monotone σ, in the field's norm."""
    fields = [GradientFlow(4, sigma="group-huber", mu=0.3, weight=False)]
    if scheme != "rk4":
        fields.append(Diffusion(threshold=0.5, mu=0.3))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    for field in fields:
        conv = FlowConv(field, num_steps=5, scheme=scheme)
        for _ in range(4):
            x = torch.randn(30, 4, dtype=torch.float64, generator=generator)
            change = torch.randn(30, 4, dtype=torch.float64, generator=generator).sign()
            moved = conv(x + change, graph.edge_index) - conv(x, graph.edge_index)
            size = torch.amax if field.norm == "linf" else torch.linalg.norm
            assert float(size(moved.abs())) <= float(size(change.abs())) * (1 + 1e-9)


def test_a_step_beyond_the_condition_is_cut_down(graph: Graph) -> None:
    conv = FlowConv(Diffusion(mu=1.0), step=10.0)
    assert conv.step_size(graph) == 0.5
    assert FlowConv(Diffusion(mu=1.0), step=10.0, constrained=False).step_size(graph) == 10.0


def test_errors_say_what_was_expected(graph: Graph) -> None:
    x = torch.zeros(30, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="no contractive step with rk4 on this graph"):
        FlowConv(Diffusion(), scheme="rk4")(x, graph.edge_index)
    with pytest.raises(ValueError, match="no contractive step with euler on this graph"):
        FlowConv(GradientFlow(4, sigma="group-mcp")).double()(x, graph.edge_index)
    with pytest.raises(ValueError, match="scheme must be explicit, got 'implicit-euler'"):
        FlowConv(Diffusion(), scheme="implicit-euler")
    with pytest.raises(ValueError, match="an unconstrained layer needs a step"):
        FlowConv(Diffusion(), constrained=False)
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        FlowConv(Diffusion(), num_steps=0)
