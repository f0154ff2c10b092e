"""Products: bounds, squares and lower bounds multiply, weights stay with the nodes."""

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.operators import Composition, Conv2d, Dense, GraphGradient, Stencil
from contractive_gnn.testing.graphs import random_weighted
from contractive_gnn.testing.operators import OperatorSuite


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TestMatrices(OperatorSuite):
    shape = (3,)

    def make(self) -> Composition:
        return Composition(Dense(nn.Parameter(draw(5, 4))), Dense(draw(4, 3, seed=1)))


class TestGraph(OperatorSuite):
    """The operator of the gradient flow on a graph."""

    shape = (7, 3)

    def make(self) -> Composition:
        return Composition(GraphGradient(random_weighted(7, seed=1), "sym"), Dense(nn.Parameter(draw(3, 3))))


class TestWeightedGraph(OperatorSuite):
    """The weights of the nodes belong to the product: the matrix acts on the channels."""

    shape = (7, 3)

    def make(self) -> Composition:
        return Composition(GraphGradient(random_weighted(7, seed=1), "degree"), Dense(nn.Parameter(draw(3, 3))))


class TestImages(OperatorSuite):
    shape = (1, 4, 4)

    def make(self) -> Composition:
        return Composition(
            Conv2d(draw(3, 2, 3, 3), size=(4, 4), padding=1, padding_mode="circular"),
            Conv2d(draw(2, 1, 3, 3), size=(4, 4), padding=1, padding_mode="circular"),
        )


class TestOfOne(OperatorSuite):
    shape = (6,)
    l1_factor = l2_factor = linf_factor = 1.0

    def make(self) -> Composition:
        return Composition(Stencil.laplacian((6,)))


def test_the_square_is_the_product_of_squares_bit_for_bit() -> None:
    gradient, weight = GraphGradient(random_weighted(7, seed=1)), Dense(draw(3, 3))
    expected = gradient.squared_norm_bound() * weight.norm_bound() ** 2
    assert torch.equal(Composition(gradient, weight).squared_norm_bound(), expected)
    normalised = Composition(GraphGradient(random_weighted(7, seed=1), "sym"), Dense(torch.eye(3, dtype=torch.float64)))
    assert float(normalised.squared_norm_bound()) == 2.0 * float(Dense(torch.eye(3).double()).norm_bound()) ** 2


def test_lower_bounds_multiply_and_one_of_0_leaves_0() -> None:
    tall, square = Dense(draw(5, 4)), Dense(draw(4, 4, seed=1))
    both = Composition(tall, square)
    assert float(both.lower_bound()) == pytest.approx(float(tall.lower_bound() * square.lower_bound()))
    assert float(both.lower_bound()) > 0
    assert float(Composition(square, Dense(draw(4, 5))).lower_bound()) == 0.0
    # 5 → 4 → 5: the product has a kernel, however well the outer factor is conditioned
    assert float(Composition(tall, Dense(draw(4, 5))).lower_bound()) == 0.0


def test_weights_come_from_the_factor_next_to_the_nodes_and_nothing_may_stand_between() -> None:
    gradient = GraphGradient(random_weighted(4, seed=1), "degree")
    inner = Composition(gradient, Dense(draw(2, 3)))
    assert inner.weighted
    assert inner.input_norm == gradient.input_norm
    assert Composition(Dense(draw(2, 3)), gradient).input_norm == gradient.input_norm
    assert Composition(inner, Dense(draw(3, 3))).weighted
    nodes = Stencil(torch.ones(1, 1), size=(4, 3))  # mixes nothing, but does not say so
    with pytest.raises(ValueError, match="GraphGradient weights its inputs, and the adjoint of Stencil before it"):
        Composition(gradient, nodes)
    with pytest.raises(ValueError, match="GraphGradient before it"):
        Composition(gradient, GraphGradient(random_weighted(4, seed=2)))


def test_weighted_nodes_need_an_axis_of_channels() -> None:
    """Without one the matrix would mix the nodes, and its transpose is not its adjoint for their weights."""
    gradient, square = GraphGradient(random_weighted(4, seed=1), "degree"), Dense(draw(4, 4))
    both = Composition(gradient, square)
    x = draw(4)
    y = gradient(square(x))
    back, weight = square.adjoint(gradient.adjoint(y)), gradient.node_weight
    assert float((y * y).sum()) != pytest.approx(float((weight * x * back).sum()), rel=1e-3)
    for f, argument in ((both.forward, x), (both.adjoint, y)):
        with pytest.raises(ValueError, match=r"expected an axis of channels after that of the nodes, got"):
            f(argument)
    plain = Composition(GraphGradient(random_weighted(4, seed=1)), square)
    y = plain(x)
    assert float((y * y).sum()) == pytest.approx(float((x * plain.adjoint(y)).sum()))


def test_it_needs_an_operator() -> None:
    with pytest.raises(ValueError, match="expected at least one operator, got none"):
        Composition()
