"""The library's own fields without a graph, as ``contractive-gnn verify`` tries them: small, with random parameters."""

from __future__ import annotations

import torch
from torch import nn

from contractive_gnn.activations import Huber, LeakyReLU
from contractive_gnn.dynamics.conservative import (
    CenteredField,
    ConstantMatrix,
    CouplingField,
    HamiltonianField,
    MassField,
    PerceptronMatrix,
    SeparableHamiltonian,
    ShearField,
    SkewField,
    TriangularMatrix,
)
from contractive_gnn.dynamics.energy import PerceptronEnergy, QuadraticEnergy, SumEnergy
from contractive_gnn.dynamics.fields import register_field
from contractive_gnn.dynamics.gradient_field import GradientField
from contractive_gnn.dynamics.gradient_flow import GradientFlow
from contractive_gnn.dynamics.layer import Layer
from contractive_gnn.dynamics.perceptron import PerceptronField
from contractive_gnn.dynamics.sum_field import SumField
from contractive_gnn.operators import Conv2d, Dense
from contractive_gnn.seeding import drawing


def _drawn(*shape: int) -> nn.Parameter:
    with drawing():
        return nn.Parameter(torch.randn(shape) / max(shape[-1], 1) ** 0.5)


def _convolution(out: int) -> Conv2d:
    return Conv2d(_drawn(out, 2, 3, 3), size=(4, 4), padding=1, padding_mode="circular")


@register_field("matrix-flow")
def _() -> GradientFlow:
    return GradientFlow(Dense(_drawn(2, 3)), "huber", bias=_drawn(2), mu=0.2)


@register_field("matrix-flow-contracting")
def _() -> GradientFlow:
    # a tall matrix has a lower bound, and the slopes are at least 1/2: it contracts without a fidelity
    return GradientFlow(Dense(_drawn(5, 3)), LeakyReLU(0.5), bias=_drawn(5))


@register_field("matrix-flow-redescending")
def _() -> GradientFlow:
    return GradientFlow(Dense(_drawn(2, 2)), "group-mcp", mu=3.0)


@register_field("convolution-flow")
def _() -> GradientFlow:
    return GradientFlow(_convolution(3), Huber(5.0), bias=_drawn(3, 1, 1))


@register_field("convolution-ascent")
def _() -> GradientFlow:
    return GradientFlow(_convolution(3), LeakyReLU(0.5), bias=_drawn(3, 1, 1), expansive=True)


@register_field("perceptron")
def _() -> PerceptronField:
    return PerceptronField(Dense(_drawn(4, 2)), "tanh", outer=Dense(_drawn(4, 2)), bias=_drawn(4))


@register_field("convolution-perceptron")
def _() -> PerceptronField:
    return PerceptronField(_convolution(2), Huber(5.0), bias=_drawn(2, 1, 1))


@register_field("sum-of-flows")
def _() -> SumField:
    first, second = (GradientFlow(Dense(_drawn(2, 2)), "identity", mu=mu) for mu in (0.1, 0.5))
    return SumField(first, second)


@register_field("sum-of-fields")
def _() -> SumField:
    descent = GradientFlow(Dense(_drawn(3, 2)), "huber", mu=2.0)
    ascent = GradientFlow(Dense(_drawn(3, 2)), "tanh", expansive=True)
    return SumField(descent, ascent, PerceptronField(Dense(_drawn(2, 2)), "tanh"))


@register_field("separable-hamiltonian")
def _() -> SeparableHamiltonian:
    return SeparableHamiltonian(QuadraticEnergy(_drawn(2, 2)), PerceptronEnergy(2, 3))


@register_field("gradient-modules")
def _() -> SeparableHamiltonian:
    # a convex kinetic energy with kinks, and a potential with a spring
    spring = SumEnergy(QuadraticEnergy(torch.eye(1)), PerceptronEnergy(1, 3, "log-sum"))
    return SeparableHamiltonian(PerceptronEnergy(1, 3, "softsign"), spring)


@register_field("hamiltonian-field")
def _() -> HamiltonianField:
    return HamiltonianField(PerceptronEnergy(4, 5))


@register_field("coupling-field")
def _() -> CouplingField:
    first, second = Layer(Dense(_drawn(2, 1)), "tanh", bias=_drawn(2)), Layer(Dense(_drawn(1, 2)), "tanh")
    return CouplingField(first, second, split=2)


@register_field("coupling-anchored")
def _() -> CouplingField:
    # functions with an anchor each, of a graph's flow say
    flows = (GradientFlow(Dense(_drawn(2, 2)), "huber", mu=0.3) for _ in range(2))
    return CouplingField(*flows)


@register_field("shear-field")
def _() -> ShearField:
    return ShearField(3, 2)


@register_field("sum-of-shears")
def _() -> SumField:
    return SumField(*(ShearField(3) for _ in range(3)))


@register_field("skew-field")
def _() -> SkewField:
    return SkewField(PerceptronMatrix(3, 4))


@register_field("rotation")
def _() -> SkewField:
    return SkewField(ConstantMatrix(_drawn(3, 3)))


@register_field("mass-field")
def _() -> MassField:
    return MassField(PerceptronMatrix(3, 4))


@register_field("centred-perceptron")
def _() -> CenteredField:
    return CenteredField(PerceptronField(Dense(_drawn(4, 3)), "tanh", outer=Dense(_drawn(4, 3)), bias=_drawn(4)))


@register_field("energy-gradient")
def _() -> GradientField:
    return GradientField(PerceptronEnergy(3, 5))


@register_field("skew-triangular")
def _() -> SkewField:
    return SkewField(TriangularMatrix(3, 4))
