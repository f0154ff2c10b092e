"""The ℓ∞ diffusion: its contraction factor at the edge of the step condition, and beyond."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contractive_gnn.dynamics import Diffusion
from contractive_gnn.graph import Graph


def star(leaves: int) -> Graph:
    spokes = torch.stack([torch.zeros(leaves, dtype=torch.long), torch.arange(1, leaves + 1)])
    return Graph(torch.cat([spokes, spokes.flip(0)], dim=1), torch.ones(2 * leaves, dtype=torch.float64), leaves + 1)


def random_graph(n: int, generator: torch.Generator) -> Graph:
    upper = torch.triu(torch.rand(n, n, generator=generator) < 0.4, diagonal=1).nonzero().T
    weight = torch.rand(upper.size(1), dtype=torch.float64, generator=generator) * 5
    return Graph(torch.cat([upper, upper.flip(0)], dim=1), torch.cat([weight, weight]), n)


@pytest.mark.parametrize("sigma", ["huber", "tanh", "identity"])
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), mu=st.sampled_from([0.0, 0.3, 2.0]))
def test_the_step_contracts_in_the_max_norm_at_the_edge(sigma: str, seed: int, mu: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    graph, flow = random_graph(8, generator), Diffusion(activation=sigma, mu=mu)
    h = flow.max_step(graph)
    x = torch.randn(8, 3, dtype=torch.float64, generator=generator)
    sign = torch.randint(2, (8, 3), generator=generator) * 2.0 - 1
    y = x + sign * 10 ** float(torch.randn(1, generator=generator))
    moved = x + h * flow.field(x, graph) - y - h * flow.field(y, graph)
    assert float(moved.abs().max()) <= (1 - h * flow.rate(graph)) * float((x - y).abs().max()) + 1e-12


def test_the_step_expands_beyond_its_condition() -> None:
    """A hub against all its neighbours: its own weight turns negative once h(Σp + μ) > 1."""
    graph, flow = star(200), Diffusion(activation="identity", mu=0.0)
    change = torch.full((201, 1), -1.0, dtype=torch.float64)
    change[0] = 1.0
    h = flow.max_step(graph)
    assert float((change + h * flow.field(change, graph)).abs().max()) <= 1.0
    # At 1.2 h the hub moves to |1 − 1.2·200/201| + 1.2·200/201 = 1.39 times its size.
    assert float((change + 1.2 * h * flow.field(change, graph)).abs().max()) > 1.3


def test_one_edge_moves_a_node_by_at_most_its_share_of_the_bound() -> None:
    graph, flow = star(4), Diffusion(activation="huber", mu=0.0, threshold=0.25)
    x = torch.zeros(5, 1, dtype=torch.float64)
    far = x.clone()
    far[1] = 1e6
    influence = (flow.field(far, graph) - flow.field(x, graph))[0].abs()
    assert float(influence) == pytest.approx(0.25 / 5)


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="elementwise activation with slopes of at most 1"):
        Diffusion(activation="group-mcp")
    with pytest.raises(ValueError, match="mu must be at least 0"):
        Diffusion(mu=-0.1)
