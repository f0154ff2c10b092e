"""A dynamics on a graph: a vector field that says what the dynamics says there, and knows nothing else."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics import Diffusion, Dynamics, GraphGradientFlow, HamiltonianFlow, ImplicitFlow, OnGraph
from contractive_gnn.graph import Graph
from contractive_gnn.norms import L2, lipschitz_adversarial, number
from contractive_gnn.testing.claims import randomised
from contractive_gnn.testing.graphs import battery, complete_bipartite, random_weighted

GRAPH = random_weighted(7, seed=3)
MADE: dict[str, Callable[[], Dynamics]] = {
    "gradient flow": lambda: GraphGradientFlow(4, mu=0.4),
    "degree": lambda: GraphGradientFlow(4, mu=0.4, normalization="degree"),
    "unnormalised": lambda: GraphGradientFlow(4, activation="group-huber", normalization="none"),
    "diffusion": Diffusion,
    "hamiltonian": lambda: HamiltonianFlow(4, mu=0.2),
    "implicit": lambda: ImplicitFlow(4),
}


def made(name: str) -> Dynamics:
    torch.manual_seed(0)
    return randomised(MADE[name](), seed=2)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", MADE)
def test_it_says_what_the_dynamics_says_on_its_graph(name: str) -> None:
    dynamics, x, anchor = made(name), draw(7, 4), draw(7, 4, seed=1)
    field = dynamics.on(GRAPH, anchor)
    assert torch.equal(field(x), dynamics.field(x, GRAPH, anchor=anchor))
    assert torch.equal(dynamics.on(GRAPH)(x), dynamics.field(x, GRAPH))
    assert torch.equal(dynamics.on(GRAPH).anchored(anchor)(x), field(x))
    assert number(field.rate()) == number(dynamics.rate(GRAPH))
    assert number(field.max_step()) == number(dynamics.max_step(GRAPH))
    for h in (0.1, 1.0, 10.0):
        assert number(field.lipschitz(h)) == number(dynamics.lipschitz(GRAPH, h))
    assert field.anchor_lipschitz == dynamics.anchor_lipschitz
    assert field.certified
    assert torch.equal(field.norm(x), dynamics.size(x, GRAPH))
    step = min(0.1, number(field.max_step()) or 0.1)
    expected = dynamics.euler(x, GRAPH, step=step, num_steps=3, anchor=anchor)
    assert torch.equal(field.euler(x, step=step, num_steps=3), expected)


def test_it_is_not_certified_where_the_dynamics_is_not() -> None:
    class Guess(Diffusion):
        @property
        def certified(self) -> bool:
            return False

    assert not Guess().on(GRAPH).certified


@pytest.mark.parametrize("name", ["gradient flow", "diffusion", "implicit"])
@pytest.mark.parametrize("graph", ["K3,3", "star of 6", "heavy weights"])
def test_its_own_constant_is_that_of_the_field(name: str, graph: str) -> None:
    dynamics, on = made(name), battery()[graph]
    field, n = dynamics.on(on), on.num_nodes
    bound = number(field.field_lipschitz())
    weight = dynamics.norm_weight(on)
    found = lipschitz_adversarial(field, draw(n, 4), norm=dynamics.norm, weight=weight, restarts=4, steps=20)
    assert 0 < found.value <= bound * (1 + 1e-9)


def test_its_own_constant_is_attained_by_a_linear_flow_on_a_regular_graph() -> None:
    """−2x along the sign vector of K3,3 with all degrees equal: ``L = 2`` up to ε, as far as 0 steps contract."""
    field = GraphGradientFlow(1, activation="identity", learn_weight=False, epsilon=1e-9).on(complete_bipartite(3, 3))
    found = lipschitz_adversarial(field, draw(6, 1), norm="l2", restarts=4, steps=40)
    assert found.value == pytest.approx(number(field.field_lipschitz()), rel=1e-6)
    assert found.value > 0.99 * 2.0


def test_an_expansion_has_no_constant_of_its_own() -> None:
    assert HamiltonianFlow(4).on(GRAPH).field_lipschitz() == float("inf")


def test_training_moves_its_constants() -> None:
    """What is computed from learned weights is asked for anew: an old step would not contract."""
    dynamics = GraphGradientFlow(4, normalization="none").double()
    field = dynamics.on(GRAPH)
    before = number(field.max_step())
    with torch.no_grad():
        assert dynamics.weight is not None
        dynamics.weight.mul_(2.0)
    assert number(field.max_step()) == pytest.approx(before / 4)
    for _ in range(2):  # no graph of an earlier backward pass is kept
        step = field.max_step()
        assert isinstance(step, Tensor)
        step.backward()  # type: ignore[no-untyped-call]


def test_its_graph_is_no_part_of_its_state_and_moves_with_it() -> None:
    field = GraphGradientFlow(4, mu=0.3).on(Graph.of(draw(7, 4).float(), GRAPH.edge_index), draw(7, 4).float())
    assert set(field.state_dict()) == {"dynamics.weight"}
    wide = field.double()
    assert wide.graph.edge_weight.dtype == torch.float64
    assert wide.graph is wide.graph
    assert wide(draw(7, 4)).dtype == torch.float64
    for twin in (copy.deepcopy(wide), pickle.loads(pickle.dumps(wide))):
        assert torch.equal(twin(draw(7, 4)), wide(draw(7, 4)))
        assert twin.graph is twin.graph


def test_it_is_differentiable_by_weights_and_anchor() -> None:
    weight, anchor = GRAPH.edge_weight.clone().requires_grad_(), draw(7, 4, seed=1).requires_grad_()
    field = Diffusion(mu=0.5).on(Graph(GRAPH.edge_index, weight, 7), anchor)
    by_weight, by_anchor = torch.autograd.grad(field(draw(7, 4)).square().sum(), (weight, anchor))
    assert bool((by_weight != 0).any())
    assert bool((by_anchor != 0).any())


def test_a_state_needs_an_anchor_to_be_drawn() -> None:
    with pytest.raises(ValueError, match=r"Diffusion.*has no anchor.*dynamics.on\(graph, x\)"):
        Diffusion().on(GRAPH).state()
    assert Diffusion().on(GRAPH, draw(7, 3)).state().shape == (7, 3)


def test_it_is_made_inside_compiled_code() -> None:
    dynamics, x = GraphGradientFlow(4, mu=0.3, normalization="degree").double(), draw(7, 4)

    def f(y: Tensor, weight: Tensor) -> Tensor:
        field: OnGraph = dynamics.on(Graph(GRAPH.edge_index, weight, 7), y)
        return field(y) if field.norm.kind == "l2" else y

    torch._dynamo.reset()
    compiled = torch.compile(f, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, GRAPH.edge_weight), f(x, GRAPH.edge_weight))


def test_without_weights_its_norm_is_the_plain_one() -> None:
    assert GraphGradientFlow(4).on(GRAPH).norm == L2
    assert str(GraphGradientFlow(4, normalization="degree").on(GRAPH).norm) == "l2-degree"
