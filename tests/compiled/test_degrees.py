"""Weights over degrees against tensor operations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from contractive_gnn.compiled import kernels
from contractive_gnn.compiled.degrees import over_degrees
from contractive_gnn.graph import Graph

EDGES = torch.tensor([[0, 1, 2, 2, 1, 3, 0], [1, 0, 1, 2, 2, 0, 1]])  # a self-loop, a lone direction, an edge twice


def weights() -> Tensor:
    return torch.tensor([1.0, 0.0, 2.0, 5.0, 0.5, 3.0, 0.25], dtype=torch.float64)


def test_values_and_gradients_are_those_of_tensor_operations() -> None:
    weight = weights().requires_grad_()
    found = over_degrees(Graph(EDGES, weight, 5), 0.1)
    with kernels.disabled():
        expected = over_degrees(Graph(EDGES, weight, 5), 0.1)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)
    upstream = torch.linspace(-1, 2, 7, dtype=torch.float64)
    slopes = [torch.autograd.grad(out, weight, upstream)[0] for out in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-13, atol=1e-15)
    single = over_degrees(Graph(EDGES, weights().float(), 5), 0.1)
    torch.testing.assert_close(single.double(), expected.detach(), rtol=1e-6, atol=0)


def test_it_is_differentiated_twice() -> None:
    def of(weight: Tensor) -> Tensor:
        return over_degrees(Graph(EDGES, weight, 5), 0.1)

    weight = weights().requires_grad_()
    assert torch.autograd.gradcheck(of, (weight,))
    assert torch.autograd.gradgradcheck(of, (weight,))


def test_an_index_that_is_no_node_is_refused() -> None:
    with pytest.raises(IndexError, match="from 0 to 1, got 0 to 2"):
        over_degrees(Graph(EDGES[:, :5], weights()[:5], 2), 0.1)
