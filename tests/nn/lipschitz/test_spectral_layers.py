"""Spectral layers and combinations: their constants, measured by dense Jacobians after training that raises them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from contractive_gnn.nn.lipschitz import (
    ConvexCombination,
    Lift,
    MaxMin,
    MaxPool2d,
    OrthogonalConv2d,
    OrthogonalLinear,
    Sequential,
    SpaceToDepth,
    SpectralConv2d,
    SpectralLinear,
    Standardise,
)
from contractive_gnn.testing import LipschitzSuite


class TestSpectralLinear(LipschitzSuite):
    shape = (6,)
    tight = 1.001

    def make(self) -> nn.Module:
        return SpectralLinear(6, 4)


class TestSpectralLinearWithABound(LipschitzSuite):
    shape = (3,)
    compiles = False  # it does, as the other one
    tight = 1.001

    def make(self) -> nn.Module:
        return SpectralLinear(3, 5, bias=False, bound=0.3)


class TestSpectralConvolution(LipschitzSuite):
    shape = (2, 5, 5)
    compiles = False  # its bound is that of an operator, which is built at each call
    tight = 1.25  # the bound is that of any size

    def make(self) -> nn.Module:
        return SpectralConv2d(2, 3, 3, padding="same")


class TestCircularSpectralConvolution(LipschitzSuite):
    shape = (2, 4, 4)
    compiles = False  # its bound is that of an operator, which is built at each call
    tight = 1.001

    def make(self) -> nn.Module:
        return SpectralConv2d(2, 2, 3, padding=1, padding_mode="circular", size=(4, 4))


class TestStridedSpectralConvolution(LipschitzSuite):
    shape = (2, 6, 6)
    compiles = False  # its bound is that of an operator, which is built at each call
    tight = 1.3

    def make(self) -> nn.Module:
        return SpectralConv2d(2, 4, 3, stride=2, padding=1, bound=2.0)


class TestGroupedSpectralConvolution(LipschitzSuite):
    shape = (4, 5, 4)
    compiles = False  # its bound is that of an operator, which is built at each call
    tight = 1.4

    def make(self) -> nn.Module:
        return SpectralConv2d(4, 4, 3, padding="same", dilation=1, groups=2, padding_mode="circular")


class TestConvexCombination(LipschitzSuite):
    shape = (4,)

    def make(self) -> nn.Module:
        return ConvexCombination(SpectralLinear(4, 4, bound=2.0), 0.3, learned=True)


class TestNet(LipschitzSuite):
    """One of each, behind each other: constants multiply, and biases do not count."""

    shape = (1, 4, 4)
    compiles = False  # it does, in a quarter of a minute; see below
    gain_steps = 30

    def make(self) -> nn.Module:
        return Sequential(
            Standardise([0.5], [0.5]),
            SpaceToDepth(2),
            Lift(4, 6),
            OrthogonalConv2d(6, 6, 3),
            MaxMin(),
            MaxPool2d(2),
            nn.Flatten(),
            SpectralLinear(6, 3),
        )


def test_a_constant_follows_the_weights() -> None:
    """Nothing is kept: it is that of the weights at the time of the question."""
    layer = SpectralConv2d(1, 1, 3, padding="same")
    torch.nn.utils.parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    first = layer.lipschitz()
    with torch.no_grad():
        layer.weight.mul_(3.0)
    assert layer.lipschitz() > 2.99 * first


@pytest.mark.parametrize("layer", [SpectralConv2d(1, 1, 3, padding="same"), OrthogonalLinear(4, 4, method="cayley")])
def test_what_does_not_compile_does_with_its_weight_fixed(layer: nn.Module) -> None:
    x = torch.randn(1, 1, 4, 4)
    expected = layer(x)
    torch.nn.utils.parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)
