"""The gradient on a graph: batch axes, what is kept and when it is computed, its squared bound."""

import copy

import pytest
import torch
from torch import Tensor

from contractive_gnn.graph import Graph
from contractive_gnn.norms import L2, Weighted, operator_norm
from contractive_gnn.operators import Dense, GraphGradient
from contractive_gnn.testing.graphs import battery, random_weighted
from contractive_gnn.testing.operators import OperatorSuite


class TestPlain(OperatorSuite):
    shape = (7, 2)
    l1_factor = 1.0
    l2_factor = 1.5
    linf_factor = 1.0
    lower_factor = 1.0

    def make(self) -> GraphGradient:
        return GraphGradient(random_weighted(7, seed=1))


class TestSymmetric(OperatorSuite):
    shape = (7, 2)
    l1_factor = 1.0
    l2_factor = 1.5
    linf_factor = 1.0

    def make(self) -> GraphGradient:
        return GraphGradient(random_weighted(7, seed=1), "sym", placement="inside", epsilon=0.1)


class TestDegree(OperatorSuite):
    """The nodes are weighted by their degrees: adjoint, norm and lower bound are those of that inner product."""

    shape = (7, 2)
    l1_factor = 1.0
    l2_factor = 1.5
    linf_factor = 1.0

    def make(self) -> GraphGradient:
        return GraphGradient(random_weighted(7, seed=1), "degree", epsilon=0.1)


def path(weight: Tensor) -> Graph:
    """Three nodes on a line."""
    return Graph(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), weight, 3)


def test_one_channel_needs_no_axis_and_a_batch_does() -> None:
    operator = GraphGradient(path(torch.ones(4)))
    signal = torch.tensor([1.0, 3.0, 2.0])
    assert operator(signal).tolist() == [2.0, -1.0]
    assert operator.adjoint(torch.tensor([2.0, -1.0])).tolist() == [-2.0, 3.0, -1.0]
    batch = torch.stack([signal, 2 * signal, 3 * signal])  # [3, 3]: three nodes, and not a batch
    assert operator(batch).shape == (2, 3)
    assert torch.equal(operator(batch), batch[1:] - batch[:-1])
    assert torch.equal(operator(batch.unsqueeze(-1)).squeeze(-1), torch.stack([operator(x) for x in batch]))


@pytest.mark.parametrize("shape", [(5, 4, 2), (2, 3), (4,), (3, 4, 1), ()])
def test_the_last_axis_but_one_is_that_of_the_nodes(shape: tuple[int, ...]) -> None:
    """[3, 4, 1] is a batch of three for four nodes, however many nodes there are."""
    operator = GraphGradient(path(torch.ones(4)))
    with pytest.raises(ValueError, match=r"one row for each node, \[3\] or \[..., 3, c\], got .*are a batch"):
        operator.forward(torch.ones(shape))
    if shape != (2, 3):
        with pytest.raises(ValueError, match=r"one row for each edge, \[2\] or \[..., 2, c\], got"):
            operator.adjoint(torch.ones(shape))


@pytest.mark.parametrize("use", ["forward", "adjoint", "norm_bound", "squared_norm_bound"])
@pytest.mark.parametrize("entry", [-1.0, float("nan")])
def test_bad_weights_are_refused_at_first_use(use: str, entry: float) -> None:
    weight = torch.tensor([1.0, 1.0, entry, entry])
    operator = GraphGradient(path(weight))
    arguments = {"forward": [torch.ones(3, 1)], "adjoint": [torch.ones(2, 1)]}.get(use, [])
    with pytest.raises(ValueError, match="must not be negative"):
        getattr(operator, use)(*arguments)
    if entry == -1.0:
        inside = GraphGradient(path(weight), placement="inside")
        assert float(inside.norm_bound()) == float(GraphGradient(path(weight.abs()), placement="inside").norm_bound())


def test_making_one_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[Graph] = []
    monkeypatch.setattr(Graph, "row_sum", lambda graph, values: computed.append(graph) or values)
    weight = torch.full((4,), -1.0)
    operator = GraphGradient(path(weight), "degree")  # not even a look at the signs
    assert not computed
    assert not operator._kept


def test_what_is_kept_follows_the_graph() -> None:
    weight = torch.ones(4, dtype=torch.float64)
    graph = path(weight)
    operator = GraphGradient(graph)
    assert operator.weight is operator.weight
    before = float(operator.norm_bound() ** 2)
    graph.edge_weight.mul_(4.0)  # changed in place: another graph
    assert float(operator.norm_bound() ** 2) == pytest.approx(4 * before)
    assert float(operator.squared_norm_bound()) == 16.0


def test_compiled_code_sees_weights_that_change() -> None:
    graph, x = path(torch.ones(4)), torch.tensor([[1.0], [3.0], [2.0]])
    operator = GraphGradient(graph)
    first = operator(x)
    torch._dynamo.reset()
    compiled = torch.compile(operator, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), first)
    graph.edge_weight.mul_(4.0)
    torch.testing.assert_close(compiled(x), 2 * first)
    graph.edge_weight.neg_()
    assert bool(compiled(x).isnan().all())


def test_nothing_is_kept_of_weights_that_are_differentiated() -> None:
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    operator = GraphGradient(path(weight), "sym")
    x = torch.randn(3, 2, dtype=torch.float64)
    for _ in range(2):  # the second one would fail on the first one's graph
        (gradient,) = torch.autograd.grad(operator(x).square().sum() + operator.norm_bound(), weight)
    assert bool((gradient != 0).any())
    leaf = torch.rand(4, dtype=torch.float64).requires_grad_()
    edge = Graph(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), leaf, 3)
    assert torch.autograd.gradcheck(lambda a: GraphGradient(path(a), "sym")(x), edge.edge_weight)


def test_it_moves_with_a_module_and_leaves_the_graph_alone() -> None:
    graph = path(torch.ones(4, dtype=torch.float64))
    operator = GraphGradient(graph, "degree")
    operator(torch.ones(3, 1, dtype=torch.float64))
    moved = torch.nn.Sequential(copy.deepcopy(operator), Dense(torch.eye(2))).float()
    assert moved(torch.ones(3, 2)).dtype == torch.float32
    assert graph.edge_weight.dtype == operator.weight.dtype == torch.float64
    assert operator.state_dict() == {}


@pytest.mark.parametrize("placement", ["inside", "outside"])
@pytest.mark.parametrize("normalization", ["none", "sym", "degree"])
def test_the_squared_bound_holds_on_every_graph_and_does_not_jump(normalization: str, placement: str) -> None:
    reached = 0.0
    for graph in battery().values():
        operator = GraphGradient(graph, normalization, placement=placement, epsilon=1e-9)  # type: ignore[arg-type]
        square = float(operator.squared_norm_bound())
        assert float(operator.norm_bound()) ** 2 <= square * (1 + 1e-12) + 1e-300
        units = torch.eye(graph.num_nodes, dtype=torch.float64)
        dense = operator(units)
        if normalization == "degree":
            dense = dense / operator.node_weight.sqrt()
        if dense.numel():
            reached = max(reached, float(operator_norm(dense, "l2")) ** 2 / square)
        if normalization != "none":
            assert square == 2.0
        # A candidate of an attacker, listed with weight 0.
        pair = torch.tensor([[0, graph.num_nodes - 1], [graph.num_nodes - 1, 0]])
        wider = Graph(
            torch.cat([graph.edge_index, pair], dim=1),
            torch.cat([graph.edge_weight, graph.edge_weight.new_zeros(2)]),
            graph.num_nodes,
        )
        if graph.edge_weight.numel():
            again = GraphGradient(wider, normalization, placement=placement, epsilon=1e-9)  # type: ignore[arg-type]
            assert float(again.squared_norm_bound()) == square
    assert reached > 1 - 1e-6  # attained: nothing below it would do


def test_the_weights_of_the_nodes_are_an_object() -> None:
    operator = GraphGradient(path(torch.ones(4)), "degree", epsilon=0.5)
    norm = operator.input_norm
    assert isinstance(norm, Weighted)
    assert norm.kind == "l2"
    assert norm.weight.flatten().tolist() == [1.5, 2.5, 1.5]
    x = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    assert float(norm(x)) == pytest.approx(float((norm.weight * x**2).sum().sqrt()))
    assert GraphGradient(path(torch.ones(4))).input_norm is L2


def test_arguments_are_checked() -> None:
    graph = path(torch.ones(4))
    with pytest.raises(TypeError, match=r"expected a Graph, got Tensor; build it with Graph.of"):
        GraphGradient(torch.ones(3, 3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="normalization must be"):
        GraphGradient(graph, "row")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="placement must be"):
        GraphGradient(graph, placement="under")  # type: ignore[arg-type]
    for epsilon in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="epsilon must be positive"):
            GraphGradient(graph, epsilon=epsilon)
