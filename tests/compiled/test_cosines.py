"""The compiled refinement of cosines against tensor operations in float64: any graph, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from contractive_gnn.compiled import cosines, kernels
from contractive_gnn.compiled.cosines import Diffusion, refined_cosines
from contractive_gnn.graph import Graph
from contractive_gnn.nn.similarity.weights import _refined

NODES = 40
DIFFUSIONS = [Diffusion(3, 4, 0.8, 0.1), Diffusion(0, 4, 0.8, 0.1), Diffusion(1, 1, 0.3, 0.1), Diffusion(2, 2, 0, 0.1)]


def plain(edge_index: Tensor, how: Diffusion) -> Any:
    return lambda z, a: _refined(z, Graph(edge_index, a, len(z)), how)


def problem(kind: str, *, blank: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, weights of which a third are 0, and edges."""
    generator = torch.Generator().manual_seed(0)
    ends = torch.randint(NODES, (2, 150), generator=generator)
    ends = ends[:, ends[0] < ends[1]].unique(dim=1)
    edge_index = ends if kind == "directed" else torch.cat([ends, ends.flip(0)], dim=1)
    if kind == "loops":
        edge_index = torch.cat([edge_index, torch.tensor([[3, 7], [3, 7]])], dim=1)
    if kind == "twice":
        edge_index = torch.cat([edge_index, edge_index[:, :9]], dim=1)
    edge_index = edge_index[:, torch.randperm(edge_index.shape[1], generator=generator)].contiguous()
    weight = torch.rand(edge_index.shape[1], dtype=torch.float64, generator=generator)
    weight[::3] = 0.0
    z = torch.randn(NODES, 6, dtype=torch.float64, generator=generator)
    if blank:
        z[5] = 0.0
    return z, weight, edge_index


@pytest.mark.parametrize("how", DIFFUSIONS)
@pytest.mark.parametrize("kind", ["undirected", "directed", "loops", "twice"])
def test_values_and_gradients_are_those_of_tensor_operations(kind: str, how: Diffusion) -> None:
    z, weight, edges = problem(kind)
    z.requires_grad_()
    weight.requires_grad_()
    with kernels.disabled():
        expected = plain(edges, how)(z, weight)
        upstream = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        slopes = torch.autograd.grad(expected, [z, weight], upstream, materialize_grads=True)
    found = refined_cosines(z, weight, edges, how, plain(edges, how))
    for one, other in zip(torch.autograd.grad(found, [z, weight], upstream), slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    for tensors in ((z.detach(), weight.detach()), (z.detach(), weight)):
        again = refined_cosines(*tensors, edges, how, plain(edges, how))
        torch.testing.assert_close(again, expected, rtol=0, atol=1e-14)
    (alone,) = torch.autograd.grad(again, weight, upstream)  # with no gradient by z to find
    torch.testing.assert_close(alone, slopes[1], rtol=1e-10, atol=1e-12)


def test_rows_without_a_direction_have_cosine_0_and_a_gradient_by_the_weights() -> None:
    how = DIFFUSIONS[0]
    z, weight, edges = problem("undirected", blank=True)
    weight.requires_grad_()
    found = refined_cosines(z, weight, edges, how._replace(rounds=0), plain(edges, how))
    assert bool((found[(edges == 5).any(dim=0)] == 0).all())
    with kernels.disabled():
        (expected,) = torch.autograd.grad(plain(edges, how)(z, weight).square().sum(), weight)
    (slope,) = torch.autograd.grad(refined_cosines(z, weight, edges, how, plain(edges, how)).square().sum(), weight)
    torch.testing.assert_close(slope, expected, rtol=1e-10, atol=1e-12)


def test_an_edge_without_a_positive_cosine_has_a_gradient_of_0_whatever_its_weight() -> None:
    how = Diffusion(1, 2, 0.8, 0.1)
    z, weight, edges = problem("undirected")
    weight.requires_grad_()
    apart = refined_cosines(z, weight, edges, how._replace(rounds=0), plain(edges, how)) < 0
    (slope,) = torch.autograd.grad(refined_cosines(z, weight, edges, how, plain(edges, how)).sum(), weight)
    assert bool((slope[apart] == 0).all())
    assert bool((slope[~apart] != 0).any())


def test_single_precision_is_near_double() -> None:
    how = DIFFUSIONS[0]
    z, weight, edges = problem("undirected")
    single = weight.float().requires_grad_()
    found = refined_cosines(z.float(), single, edges, how, plain(edges, how))
    weight.requires_grad_()
    expected = refined_cosines(z, weight, edges, how, plain(edges, how))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
    (slope,) = torch.autograd.grad(found.square().sum(), single)
    (reference,) = torch.autograd.grad(expected.square().sum(), weight)
    torch.testing.assert_close(slope.double(), reference, rtol=1e-4, atol=1e-5)


def test_second_derivatives_and_many_gradients_at_once_go_through_the_plain_formula() -> None:
    how = Diffusion(1, 2, 0.8, 0.1)
    z, weight, edges = problem("undirected")
    weight = (weight + 0.5).requires_grad_()

    def cosine(weight: Tensor) -> Tensor:
        return refined_cosines(z, weight, edges, how, plain(edges, how))

    some = torch.arange(0, edges.shape[1], 17)

    def part(values: Tensor) -> Tensor:
        return cosine(weight.detach().index_copy(0, some, values))[some]

    given = weight.detach()[some].requires_grad_()
    assert torch.autograd.gradgradcheck(part, (given,))
    out = cosine(weight)
    upstream = torch.eye(out.numel(), dtype=torch.float64)[:3]
    (many,) = torch.autograd.grad(out, weight, upstream, is_grads_batched=True, retain_graph=True)
    for row, one in zip(many, upstream, strict=True):
        torch.testing.assert_close(row, torch.autograd.grad(out, weight, one, retain_graph=True)[0])


def test_what_is_no_number_stays_so() -> None:
    z, weight, edges = problem("undirected")
    z[0, 0] = torch.nan
    touched = (edges == 0).any(dim=0)
    found = refined_cosines(z, weight, edges, DIFFUSIONS[1], plain(edges, DIFFUSIONS[1]))
    assert bool(found[touched].isnan().all())
    assert not bool(found[~touched].isnan().any())


def test_threads_share_the_work_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    how = DIFFUSIONS[0]
    z, weight, edges = problem("loops")
    weight.requires_grad_()
    alone = refined_cosines(z, weight, edges, how, plain(edges, how))
    (slope,) = torch.autograd.grad(alone.sum(), weight)
    monkeypatch.setattr("contractive_gnn.compiled.row_threads.SHARE", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = refined_cosines(z, weight, edges, how, plain(edges, how))
        (shared,) = torch.autograd.grad(together.sum(), weight)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(together, alone)
    assert torch.equal(shared, slope)


def test_an_index_that_is_no_node_is_refused() -> None:
    z, weight, edges = problem("undirected")
    edges[0, 0] = NODES
    assert cosines.available(z, weight)
    with pytest.raises(IndexError, match="must hold node indices from 0 to 39"):
        refined_cosines(z, weight, edges, DIFFUSIONS[0], plain(edges, DIFFUSIONS[0]))
