"""What a graph works out once."""

import dataclasses

import pytest
import torch

from contractive_gnn.dynamics import Diffusion
from contractive_gnn.graph import Graph

EDGES = torch.tensor([[0, 1, 1, 2, 2], [1, 0, 2, 1, 2]])


def graph(weight: torch.Tensor) -> Graph:
    return Graph(EDGES, weight, 3)


def test_degrees_leave_self_loops_out_and_are_computed_once() -> None:
    known = graph(torch.tensor([1.0, 1.0, 2.0, 2.0, 9.0]))
    degree = known.row_sum(known.edge_weight)
    assert torch.equal(degree, torch.tensor([1.0, 3.0, 2.0]))
    assert known.row_sum(known.edge_weight) is degree
    assert known.row_sum(known.edge_weight.clone()) is not degree


def test_other_weights_have_other_degrees() -> None:
    known = graph(torch.ones(5))
    known.row_sum(known.edge_weight)
    heavier = dataclasses.replace(known, edge_weight=2 * known.edge_weight)
    assert torch.equal(heavier.row_sum(heavier.edge_weight), torch.tensor([2.0, 4.0, 2.0]))


def test_weights_can_be_differentiated_again_and_again() -> None:
    weight = torch.ones(5, dtype=torch.float64, requires_grad=True)
    flow, known, x = Diffusion(), graph(weight), torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    first = torch.autograd.grad(flow.field(x, known).square().sum(), weight)
    second = torch.autograd.grad(flow.field(x, known).square().sum(), weight)
    assert torch.equal(first[0], second[0])


def test_nothing_is_remembered_from_inference_mode() -> None:
    known = graph(torch.ones(5))
    with torch.inference_mode():
        known.row_sum(known.edge_weight)
    x = torch.ones(3, 1, requires_grad=True)
    (x * known.row_sum(known.edge_weight).unsqueeze(1)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None


def test_weights_changed_in_place_are_other_weights() -> None:
    weight = torch.ones(5)
    known = graph(weight)
    known.row_sum(weight)
    weight.mul_(3)
    assert torch.equal(known.row_sum(weight), torch.tensor([3.0, 6.0, 3.0]))


class Halved(Diffusion):
    """A diffusion of half the rate; its base class has another transition matrix on the same graph."""

    def transition(self, graph: Graph) -> torch.Tensor:
        return super().transition(graph) / 2


def test_two_fields_on_one_graph_have_their_own_weights() -> None:
    known, x = graph(torch.ones(5)), torch.tensor([[0.0], [1.0], [3.0]])
    whole, half = Diffusion(activation="identity", mu=0.0), Halved(activation="identity", mu=0.0)
    half.__class__.__qualname__ = Diffusion.__qualname__  # a name says nothing about what a class computes
    torch.testing.assert_close(2 * half.field(x, known), whole.field(x, known))


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4)])
def test_only_a_matrix_has_one_row_for_each_node(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"x must have shape \[n, channels\], one row for each node, got"):
        Graph.of(torch.ones(shape), EDGES)


def test_nothing_is_remembered_from_a_transformation() -> None:
    known = graph(torch.ones(5))

    def f(x: torch.Tensor) -> torch.Tensor:
        return (x * known.row_sum(known.edge_weight)).sum()

    x = torch.ones(3)
    expected = torch.tensor([1.0, 2.0, 1.0])
    assert torch.equal(torch.func.grad(f)(x), expected)
    degree = known.row_sum(known.edge_weight)
    assert torch.equal(degree, expected)
    assert known.row_sum(known.edge_weight) is degree
    assert torch.equal(torch.func.grad(f)(x), expected)
    assert torch.equal(torch.func.jacfwd(f)(x), expected)
    assert known.row_sum(known.edge_weight) is degree


def test_compiled_code_reads_weights_of_one_dtype_in_reverse_mode_alone() -> None:
    weight, x = torch.ones(5), torch.ones(3, 1)
    assert graph(weight).serves(x)
    assert graph(weight.requires_grad_()).serves(x)
    assert not graph(weight).serves(x.double())
    with torch.autograd.forward_ad.dual_level():
        assert not graph(torch.autograd.forward_ad.make_dual(weight.detach(), weight.detach())).serves(x)
    seen: list[bool] = []

    def total(given: torch.Tensor) -> torch.Tensor:
        seen.append(graph(given).serves(x))
        return given.sum()

    torch.func.grad(total)(weight.detach())
    assert seen == [False]


class Learned(Diffusion):
    """A diffusion whose transition matrix is learned: its derivative is not one of the graph's weights."""

    def __init__(self) -> None:
        super().__init__(mu=0.0)
        self.share = torch.nn.Parameter(torch.tensor(0.5))

    def transition(self, graph: Graph) -> torch.Tensor:
        return self.share * super().transition(graph)


def test_another_transition_keeps_its_forward_derivative() -> None:
    flow, known, x = Learned(), graph(torch.ones(5)), torch.tensor([[0.0], [1.0], [3.0]])

    def moved(share: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(_Field(flow, known), {"flow.share": share}, (x,))  # type: ignore[no-any-return]

    value, tangent = torch.func.jvp(moved, (torch.tensor(0.5),), (torch.tensor(1.0),))
    torch.testing.assert_close(tangent, 2 * value)


class _Field(torch.nn.Module):
    def __init__(self, flow: Diffusion, graph: Graph) -> None:
        super().__init__()
        self.flow, self.graph = flow, graph

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.flow.field(x, self.graph)
