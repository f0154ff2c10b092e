"""Orthogonal layers: their constants, measured by dense Jacobians after training that tries to raise them."""

from __future__ import annotations

import torch
from torch import nn

from contractive_gnn.nn.lipschitz import (
    OrthogonalConv2d,
    OrthogonalLinear,
)
from contractive_gnn.testing import LipschitzSuite


class TestBjorckLinear(LipschitzSuite):
    shape = (4,)
    tight = 1.0 + 1e-9

    def make(self) -> nn.Module:
        return OrthogonalLinear(4, 6)


class TestWideBjorckLinear(LipschitzSuite):
    shape = (6,)
    compiles = False  # it does, as the other one
    tight = 1.0 + 1e-9

    def make(self) -> nn.Module:
        return OrthogonalLinear(6, 3)


class TestCayleyLinear(LipschitzSuite):
    shape = (4,)
    compiles = False  # a tensor that is too large is scaled down: a branch on a value
    tight = 1.0 + 1e-9
    isometry = True

    def make(self) -> nn.Module:
        return OrthogonalLinear(4, 4, method="cayley")


class TestBlockConvolution(LipschitzSuite):
    shape = (2, 4, 4)
    compiles = False  # it does, in a quarter of a minute; see below
    tight = 1.0 + 1e-6
    gain_steps = 30

    def make(self) -> nn.Module:
        return OrthogonalConv2d(2, 3, 3)


class TestWideBlockConvolution(LipschitzSuite):
    shape = (3, 4, 3)
    compiles = False  # it does, in a quarter of a minute; see below
    tight = 1.0 + 1e-6
    gain_steps = 30

    def make(self) -> nn.Module:
        return OrthogonalConv2d(3, 2, 3)


class TestBlockConvolutionWithZeros(LipschitzSuite):
    shape = (2, 4, 4)
    compiles = False  # it does, in a quarter of a minute; see below
    tight = 1.01
    gain_steps = 30

    def make(self) -> nn.Module:
        return OrthogonalConv2d(2, 2, 3, padding_mode="zeros")


class TestCayleyConvolution(LipschitzSuite):
    shape = (2, 4, 5)
    tight = 1.0 + 1e-6
    isometry = True

    def make(self) -> nn.Module:
        return OrthogonalConv2d(2, 3, 3, method="cayley", size=(4, 5))


class TestWideCayleyConvolution(LipschitzSuite):
    shape = (3, 4, 4)
    compiles = False  # it does, as the other one
    tight = 1.0 + 1e-6

    def make(self) -> nn.Module:
        return OrthogonalConv2d(3, 2, 3, method="cayley", size=(4, 4))


def test_blocks_compile() -> None:
    layer, x = OrthogonalConv2d(2, 3, 3, num_steps=1), torch.randn(1, 2, 4, 4)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
