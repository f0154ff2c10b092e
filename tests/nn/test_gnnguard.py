"""GNNGuard: its weights are the paper's, pruning is exact, and what it hides from an attacker is nothing."""

import pytest
import torch
from torch import Tensor

from contractive_gnn.graph import Graph
from contractive_gnn.nn import GNNGuard
from contractive_gnn.testing.graphs import random_weighted

#: a path 0 – 1 – 2 – 3 whose last edge joins orthogonal features
PATH = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
X = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]], dtype=torch.float64)


def guard(**options: float) -> GNNGuard:
    torch.manual_seed(0)
    model = GNNGuard(3, 2, hidden_channels=4, **options)  # type: ignore[arg-type]
    return model.double().eval()


def weights(model: GNNGuard, x: Tensor, graph: Graph) -> Tensor:
    """Dense, row u holding what u hears."""
    alpha = model.importance(x, graph)
    dense = torch.diag(alpha[graph.edge_index.size(1) :])
    return dense.index_put((graph.target, graph.source), alpha[: graph.edge_index.size(1)], accumulate=True)


def test_the_weights_are_those_of_the_paper() -> None:
    """By hand: both cosines at node 1 are 1/√2, so its two neighbours share ⅔; node 3 keeps no edge."""
    found = weights(guard(), X, Graph.of(X, PATH))
    third, half = 1 / 3, 1 / 2
    expected = torch.tensor([[half, half, 0, 0], [third, third, third, 0], [0, half, half, 0], [0, 0, 0, 1.0]])
    torch.testing.assert_close(found, expected.double())


def test_neighbours_share_by_their_cosines() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    star = torch.tensor([[0, 1, 0, 2], [1, 0, 2, 0]])
    row = weights(guard(), x, Graph.of(x, star))[0]
    torch.testing.assert_close(row, torch.tensor([1 / 3, 2 / 3 * 1 / 1.6, 2 / 3 * 0.6 / 1.6], dtype=torch.float64))


def test_every_row_sums_to_one_whatever_the_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    for seed in range(5):
        graph = random_weighted(9, seed=seed)
        x = torch.randn(9, 300, dtype=torch.float64, generator=generator)
        rows = weights(guard(threshold=0.01), x, graph).sum(dim=1)
        torch.testing.assert_close(rows, torch.ones_like(rows))


def test_the_second_layer_remembers_the_first() -> None:
    """With β → 1 the pruning of the features decides alone, with β → 0 that of the hidden units."""
    model = guard()
    graph = Graph.of(X, PATH)
    for logit in (40.0, -40.0):
        torch.nn.init.constant_(model.memory, logit)
        first = weights(model, X, graph)
        hidden = (first @ model.conv1.lin(X) + model.conv1.bias).relu()
        second = first if logit > 0 else weights(model, hidden, graph)
        expected = second @ model.conv2.lin(hidden) + model.conv2.bias
        torch.testing.assert_close(model(X, PATH), expected)


def test_a_pruned_edge_and_no_edge_are_the_same_in_the_first_layer() -> None:
    model = guard()
    torch.nn.init.constant_(model.memory, 40.0)
    torch.testing.assert_close(model(X, PATH), model(X, PATH[:, :4]))


@pytest.mark.parametrize("absent", [(0, 1), (1, 2)])
def test_the_gradient_is_exact_absent_edges_included(absent: tuple[int, int]) -> None:
    """Edge (0, 1) is the only one of node 0: a first edge must have a gradient as well."""
    model = guard()
    weight = torch.ones(6, dtype=torch.float64)
    both = (PATH.min(dim=0).values == absent[0]) & (PATH.max(dim=0).values == absent[1])
    weight[both] = 0.0

    def out(t: Tensor) -> Tensor:
        return model(X, PATH, weight + t * both)

    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    slope = torch.stack([torch.autograd.grad(v, t, retain_graph=True)[0] for v in out(t).flatten()])
    step = torch.tensor(1e-6, dtype=torch.float64)
    torch.testing.assert_close(slope, ((out(step) - out(0 * step)) / step).flatten(), atol=1e-4, rtol=1e-4)
    assert bool((slope != 0).any())


def test_the_gradient_in_the_features_is_exact() -> None:
    model, x = guard(), (X + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: model(x, PATH), (x,), atol=1e-5)


def test_the_cosines_are_differentiated_when_it_is_trained() -> None:
    model = guard()
    model(X, PATH).square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in model.parameters())


@pytest.mark.parametrize("threshold", [0.0, 1.1])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold must be above 0 and at most 1"):
        GNNGuard(3, 2, threshold=threshold)
