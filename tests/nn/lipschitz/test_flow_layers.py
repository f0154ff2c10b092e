"""Flows along gradient fields of convolutions: their constants, measured by dense Jacobians after training."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from contractive_gnn.activations import LeakyReLU
from contractive_gnn.dynamics import GradientFlow
from contractive_gnn.nn.composition import Alternating
from contractive_gnn.nn.flow import Flow
from contractive_gnn.nn.lipschitz import Sequential, lipschitz, rounded_lipschitz
from contractive_gnn.nn.parametrizations import almost_orthogonal, spectral
from contractive_gnn.operators import Conv2d, Dense, Stencil
from contractive_gnn.testing import LipschitzSuite


def kernel(*shape: int) -> nn.Parameter:
    return nn.Parameter(0.5 * torch.randn(shape))


def bias(width: int) -> nn.Parameter:
    return nn.Parameter(0.1 * torch.randn(width, 1, 1))


class TestCircularFlow(LipschitzSuite):
    """Non-expansive, at the edge of its step."""

    shape = (2, 4, 4)
    tight = 1.01

    def make(self) -> nn.Module:
        operator = Conv2d(kernel(3, 2, 3, 3), size=(4, 4), padding=1, padding_mode="circular")
        return Flow(GradientFlow(operator, LeakyReLU(0.1), bias=bias(3)), num_steps=2)


class TestZeroPaddedFlow(LipschitzSuite):
    """A bound for every size."""

    shape = (2, 4, 4)
    gain_steps = 30

    def make(self) -> nn.Module:
        return Flow(GradientFlow(Conv2d(kernel(2, 2, 3, 3), padding=1), "huber", bias=bias(2)), num_steps=2)


class TestStridedFlow(LipschitzSuite):
    shape = (1, 4, 6)
    gain_steps = 30

    def make(self) -> nn.Module:
        operator = Conv2d(kernel(3, 1, 2, 2), size=(4, 6), stride=2)
        return Flow(GradientFlow(operator, LeakyReLU(0.5), mu=0.2, bias=bias(3)), num_steps=2, step=0.1)


class TestStridedCircularFlow(LipschitzSuite):
    shape = (1, 4, 4)
    gain_steps = 30

    def make(self) -> nn.Module:
        operator = Conv2d(kernel(4, 1, 3, 3), size=(4, 4), stride=2, padding=1, padding_mode="circular")
        return Flow(GradientFlow(operator, LeakyReLU(0.5)), num_steps=1)


class TestContractiveFlow(LipschitzSuite):
    """A certified lower bound of the operator makes it contract."""

    shape = (1, 4, 4)
    gain_steps = 30

    def make(self) -> nn.Module:
        operator = Conv2d(kernel(3, 1, 3, 3), size=(4, 4), padding=1, padding_mode="circular")
        return Flow(GradientFlow(operator, LeakyReLU(0.5)), num_steps=3)


class TestExpansiveFlow(LipschitzSuite):
    """It expands by 1 + h‖A‖² a step, and says so."""

    shape = (2, 4, 4)
    tight = 1.05

    def make(self) -> nn.Module:
        operator = Conv2d(kernel(2, 2, 3, 3), size=(4, 4), padding=1, padding_mode="circular")
        field = GradientFlow(operator, LeakyReLU(0.5), expansive=True)
        return Flow(field, num_steps=2, step=0.1, constrained=False)


class TestAlternating(LipschitzSuite):
    """Expansive and contracting steps, 1-Lipschitz in all."""

    shape = (2, 4, 4)
    compiles = False  # a field that does not contract is refused: a branch on a value
    gain_steps = 30

    def make(self) -> nn.Module:
        contracting = GradientFlow(
            Conv2d(kernel(2, 2, 3, 3), size=(4, 4), padding=1, padding_mode="circular"), LeakyReLU(0.5), mu=0.5
        )
        expanding = GradientFlow(Conv2d(kernel(2, 2, 3, 3), padding=1), LeakyReLU(0.5), bias=bias(2), expansive=True)
        return Alternating(contracting, expanding, num_pairs=2, bound=1.0)


class TestAlmostOrthogonalFlow(LipschitzSuite):
    """Its operator is told that its norm is at most 1, and computes none."""

    shape = (2, 4, 4)
    gain_steps = 30
    compiles = False  # its parametrisation asks how torch rounds products: a word, which no trace takes

    def make(self) -> nn.Module:
        operator = almost_orthogonal(Conv2d(kernel(3, 2, 3, 3), padding=1))
        return Flow(GradientFlow(operator, LeakyReLU(0.1), bias=bias(3)), num_steps=2)


class TestSpectralFlow(LipschitzSuite):
    shape = (2, 4, 4)
    gain_steps = 30
    compiles = False  # its bound is that of an operator, which is built at each call

    def make(self) -> nn.Module:
        operator = spectral(Conv2d(kernel(2, 2, 3, 3), padding=1, padding_mode="circular"))
        return Flow(GradientFlow(operator, LeakyReLU(0.1), bias=bias(2)), num_steps=2)


class TestLearnedSteps(LipschitzSuite):
    """Expansive and contracting steps, with a learned share of the longest one."""

    shape = (2, 4, 4)
    compiles = False  # a field that does not contract is refused: a branch on a value
    gain_steps = 15

    def make(self) -> nn.Module:
        contracting, expanding = (
            GradientFlow(
                almost_orthogonal(Conv2d(kernel(2, 2, 3, 3), padding=1)),
                LeakyReLU(0.5),
                bias=bias(2),
                mu=mu,
                expansive=not mu,
            )
            for mu in (0.5, 0.0)
        )
        return Alternating(contracting, expanding, num_pairs=2, learn_step=True)


class TestDenseFlow(LipschitzSuite):
    shape = (4,)
    tight = 1.01

    def make(self) -> nn.Module:
        return Sequential(Flow(GradientFlow(Dense(kernel(3, 4)), "tanh", bias=nn.Parameter(torch.randn(3)))))


def test_no_rounded_constant_is_claimed_where_none_is_worked_out() -> None:
    def rounded(field: GradientFlow, scheme: str = "euler") -> float:
        flow = Flow(field, num_steps=1, scheme=scheme)
        assert lipschitz(flow) <= 1.0 + 1e-6
        return rounded_lipschitz(flow, torch.bfloat16)

    matrix: Tensor = torch.ones(1, 2)
    assert 1.0 < rounded(GradientFlow(Dense(matrix))) < 1.2
    assert rounded(GradientFlow(Dense(matrix)), "heun") == math.inf
    assert rounded(GradientFlow(Stencil.gradient((4, 4)))) == math.inf
