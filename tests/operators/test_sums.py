"""Sums: bounds add, a dominant summand keeps a lower bound, inner products must agree."""

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.operators import Dense, GraphGradient, Stencil, Sum
from contractive_gnn.testing.graphs import random_weighted
from contractive_gnn.testing.operators import OperatorSuite


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TestMatrices(OperatorSuite):
    shape = (3,)

    def make(self) -> Sum:
        return Sum(Dense(nn.Parameter(draw(4, 3))), Dense(draw(4, 3, seed=1)))


class TestAdvectionDiffusion(OperatorSuite):
    """A symmetric and a skew part on one grid."""

    shape = (6, 5)

    def make(self) -> Sum:
        return Sum(Stencil.laplacian((6, 5)), Stencil.central_difference((6, 5), axis=1))


class TestDominant(OperatorSuite):
    shape = (4,)
    l2_factor = lower_factor = 1.1

    def make(self) -> Sum:
        return Sum(Dense(3 * torch.eye(4)), Dense(0.1 * torch.eye(4)))


class TestWeighted(OperatorSuite):
    shape = (5, 2)

    def make(self) -> Sum:
        graph = random_weighted(5, seed=1)
        return Sum(GraphGradient(graph, "degree"), GraphGradient(graph, "degree"))


def test_the_bounds_are_attained_where_singular_vectors_agree_or_oppose() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    assert float(Sum(Dense(eye), Dense(2 * eye)).norm_bound()) == pytest.approx(3.0)
    opposed = Sum(Dense(3 * eye), Dense(-eye))  # 2·I: nothing larger is a lower bound
    assert float(opposed.lower_bound()) == pytest.approx(2.0)
    assert float(Sum(Dense(eye), Dense(-eye)).lower_bound()) == 0.0


def test_what_does_not_add_up_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one operator"):
        Sum()
    with pytest.raises(ValueError, match=r"outputs of one shape, got \[4\] and \[1\]"):
        Sum(Dense(draw(4, 3)), Dense(draw(1, 3)))(draw(3))  # would broadcast
    one, other = random_weighted(5, seed=1), random_weighted(5, seed=2)
    with pytest.raises(ValueError, match="one inner product on the inputs"):
        Sum(GraphGradient(one, "degree"), GraphGradient(other, "degree"))
    with pytest.raises(ValueError, match="one inner product on the inputs"):
        Sum(GraphGradient(one), GraphGradient(one, "degree"))
