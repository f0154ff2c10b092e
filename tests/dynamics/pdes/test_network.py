"""The exact network is the method of finite differences; without its biases, or with another power, it is not."""

from __future__ import annotations

import pytest
import torch

from contractive_gnn.activations import RectifiedPower
from contractive_gnn.dynamics import FIELDS, PerceptronField, VectorField
from contractive_gnn.dynamics.pdes import (
    FiniteDifferences,
    StencilPolynomial,
    advection,
    burgers,
    exact_network,
    fisher,
    gray_scott,
    heat,
    untrained_network,
)
from contractive_gnn.nn import Flow
from contractive_gnn.norms import number
from contractive_gnn.operators import Conv2d, Stencil
from contractive_gnn.operators.walls import Boundary
from contractive_gnn.testing import FieldSuite

DOUBLE = torch.float64


class TestHeatNetwork(FieldSuite):
    tries = 400

    def make(self) -> VectorField:
        return FIELDS.get("heat-network")()


class TestFisherNetwork(FieldSuite):
    """With ReLU² it claims no constant; what is left are its shapes and gradients."""

    tries = 1

    def make(self) -> VectorField:
        return exact_network(fisher((4, 3), alpha=0.1), learned=True)

    def test_claims(self) -> None:
        field = self.field()
        assert number(field.rate()) == -float("inf")
        assert number(field.field_lipschitz()) == float("inf") == number(field.lipschitz(0.1))


def equations(size: tuple[int, ...], boundary: Boundary, order: int) -> list[StencilPolynomial]:
    speed = [1.0, -2.0, 0.5][: len(size)]
    found = [
        heat(size, alpha=0.01, spacing=0.01, boundary=boundary, order=order),
        advection(size, speed=speed, spacing=0.01, boundary=boundary, order=order),
        fisher(size, alpha=0.01, spacing=0.01, boundary=boundary, order=order),
        gray_scott(size, spacing=0.01, boundary=boundary, order=order),
    ]
    return [*found, burgers(size, viscosity=0.01, spacing=0.01, order=order)] if boundary == "periodic" else found


@pytest.mark.parametrize("boundary", ["periodic", "dirichlet", "neumann"])
@pytest.mark.parametrize(("size", "order"), [((9,), 2), ((9,), 6), ((7, 8), 2), ((7, 8), 4), ((5, 6, 5), 4)])
def test_it_is_the_finite_difference_method_to_rounding(size: tuple[int, ...], order: int, boundary: Boundary) -> None:
    for equation in equations(size, boundary, order):
        differences, network = FiniteDifferences(equation, dtype=DOUBLE), exact_network(equation, dtype=DOUBLE)
        u = torch.rand(3, equation.fields, *size, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
        expected = differences(u)
        assert float((network(u) - expected).abs().max() / expected.abs().max()) < 1e-14


@pytest.mark.parametrize("order", [2, 4, 6])
def test_built_in_single_precision_it_is_exact_in_double(order: int) -> None:
    for equation in equations((9,), "periodic", order):
        network = exact_network(equation, dtype=torch.float32)
        assert {tensor.dtype for tensor in network.buffers()} == {torch.float32}
        u = torch.rand(equation.fields, 9, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
        expected = FiniteDifferences(equation, dtype=DOUBLE)(u)
        assert float((network.double()(u) - expected).abs().max() / expected.abs().max()) < 1e-14


def test_many_steps_of_it_are_those_of_the_method() -> None:
    """Three substeps a step, forty steps, as far as the paper goes."""
    equation = fisher((20, 20), alpha=0.01, spacing=0.05)
    step = 0.24 * 0.05**2 / 0.01
    flows = [
        Flow(field, num_steps=120, step=step / 3, constrained=False)
        for field in (FiniteDifferences(equation, dtype=DOUBLE), exact_network(equation, dtype=DOUBLE))
    ]
    u = torch.rand(1, 20, 20, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    one, other = (flow(u) for flow in flows)
    assert float((one - other).norm() / one.norm()) < 1e-12


@pytest.mark.parametrize(
    ("make", "channels"),
    [
        (lambda: heat((5, 5), alpha=0.1), 2),
        (lambda: advection((5, 5), speed=(1.0, 1.0)), 2),
        (lambda: fisher((5, 5), alpha=0.1), 6),
        (lambda: gray_scott((5, 5)), 18),
    ],
)
def test_it_has_as_many_channels_as_the_table_says(make: object, channels: int) -> None:
    network = exact_network(make())  # type: ignore[operator]
    assert isinstance(network.layer.operator, Stencil)
    assert network.layer.operator.kernel.size(0) == channels


def test_a_square_of_the_relu_alone_is_homogeneous_so_that_the_biases_are_needed() -> None:
    equation = fisher((5, 5), alpha=0.1)
    network = exact_network(equation, dtype=DOUBLE)
    assert network.outer is not None
    without = PerceptronField(network.layer.operator, RectifiedPower(2), outer=network.outer)
    u = torch.rand(1, 5, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(without(2 * u), 4 * without(u))
    assert float((without(u) - network(u)).abs().max()) > 0.01
    torch.testing.assert_close(network(u), FiniteDifferences(equation, dtype=DOUBLE)(u))


def test_a_missing_sign_or_another_power_is_seen() -> None:
    equation = gray_scott((5, 5))
    network = exact_network(equation, dtype=DOUBLE)
    u = torch.rand(2, 5, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    expected = FiniteDifferences(equation, dtype=DOUBLE)(u)
    squared = PerceptronField(network.layer.operator, RectifiedPower(2), outer=network.outer, bias=network.layer.bias)
    assert float((squared(u) - expected).abs().max()) > 1e-3
    assert isinstance(network.outer, Stencil)
    kernel = network.outer.kernel.clone()
    kernel[1::2] *= -1  # relu(−w)³ added, not taken away
    wrong = PerceptronField(
        network.layer.operator,
        RectifiedPower(3),
        outer=Stencil(kernel, size=(5, 5)),
        bias=network.layer.bias,
    )
    assert float((wrong(u) - expected).abs().max()) > 1e-6


def test_the_untrained_network_has_the_papers_sizes() -> None:
    for width, power, expected in ((2, 1, 102), (10, 2, 510)):
        network = untrained_network((100, 100), width=width, power=power)
        assert isinstance(network.layer.operator, Conv2d)
        assert sum(parameter.numel() for parameter in network.parameters()) == expected
    for size, boundary in (((6, 7), "periodic"), ((6, 7), "zero"), ((6, 7), "neumann"), ((9,), "dirichlet")):
        network = untrained_network(size, fields=2, width=3, boundary=boundary)  # type: ignore[arg-type]
        u = torch.randn(4, 2, *size)
        assert network(u).shape == u.shape


def test_convolutions_of_either_kind_are_the_same_network() -> None:
    fast = untrained_network((6, 7), fields=2, width=3)
    inner, outer = fast.layer.operator, fast.outer
    assert isinstance(inner, Conv2d)
    assert isinstance(outer, Conv2d)
    slow = PerceptronField(
        Stencil(inner.weight, size=(6, 7)),
        RectifiedPower(1),
        outer=Stencil(outer.weight, size=(6, 7)),
        bias=fast.layer.bias,
    )
    u = torch.randn(4, 2, 6, 7)
    torch.testing.assert_close(fast(u), slow(u))


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="taps must be odd, got 4"):
        untrained_network((8, 8), taps=4)
    with pytest.raises(ValueError, match="width must be at least 1"):
        untrained_network((8, 8), width=0)
    with pytest.raises(ValueError, match="boundary must be"):
        untrained_network((8, 8), boundary="robin")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="learned must be True or False"):
        exact_network(heat((8,), alpha=1.0), learned=1)  # type: ignore[arg-type]
