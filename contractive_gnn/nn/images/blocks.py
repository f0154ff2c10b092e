"""What classifiers of images are made of: linear maps, gradient flows and residual blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contractive_gnn.activations import Activation
from contractive_gnn.dynamics import GradientFlow
from contractive_gnn.dynamics.layer import Layer, own_operator
from contractive_gnn.nn.composition import Alternating
from contractive_gnn.nn.flow import Flow
from contractive_gnn.nn.lipschitz import LipschitzModule
from contractive_gnn.nn.lipschitz.flows import rounded_operator
from contractive_gnn.nn.parametrizations import almost_orthogonal
from contractive_gnn.norms import number
from contractive_gnn.operators import Conv2d, Dense


class Affine(LipschitzModule):
    """``Ax + b``, as Lipschitz as A.

    Args:
        operator: A, a matrix or a convolution.
        bias: b, a parameter whose shape broadcasts to that of Ax; None for none.

    Example:
        >>> Affine(Dense(torch.eye(2)), torch.nn.Parameter(torch.ones(2)))(torch.zeros(1, 2)).tolist()
        [[1.0, 1.0]]
    """

    bias: Tensor | None

    def __init__(self, operator: Conv2d | Dense, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self.operator = operator
        self.register_parameter("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """``Ax + b``."""
        y: Tensor = self.operator(x)
        return y if self.bias is None else y + self.bias

    def lipschitz(self) -> float:
        """The norm of A by its singular values, or what is known of it where that is less.

        An almost orthogonal matrix is known to have a norm of at most 1; it often has less. This is asked for once in a
        while, not at every step.
        """
        computed = self.operator.with_weight(self.operator.weight.detach()).norm_bound()
        return min(number(computed), number(self.operator.norm_bound()))

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """Two roundings: of the weight and of Ax."""
        return rounded_operator(self.operator, self.lipschitz(), dtype)

    @property
    def certified(self) -> bool:  # type: ignore[override]  # that of A
        """Whether the bound is this library's own."""
        return own_operator(self.operator)


class Residual(nn.Module):
    """``x + Bσ(Ax + b)`` with two free operators: a residual block without any constant.

    B starts at zero, so the block starts as the identity.

    Args:
        first: A.
        second: B.
        activation: σ.
        bias: b.
    """

    def __init__(
        self, first: Conv2d | Dense, second: Conv2d | Dense, activation: Activation, bias: nn.Parameter
    ) -> None:
        super().__init__()
        self.layer = Layer(first, activation, bias=bias)
        self.operator = second

    def forward(self, x: Tensor) -> Tensor:
        """The block."""
        force: Tensor = self.operator(self.layer(x))
        return x + force


def convolution(channels_in: int, channels_out: int, kernel: int, *, constrained: bool) -> Conv2d:
    """A learned convolution that keeps the size.

    Args:
        channels_in: of an input.
        channels_out: of an output.
        kernel: odd width of the kernel.
        constrained: start from an orthogonal matrix at the centre tap, which an almost orthogonal kernel keeps as it
            is; else from weights of He's variance.
    """
    weight = torch.zeros(channels_out, channels_in, kernel, kernel)
    if constrained:
        weight[:, :, kernel // 2, kernel // 2] = nn.init.orthogonal_(torch.empty(channels_out, channels_in))
    else:
        nn.init.kaiming_normal_(weight)
    return Conv2d(nn.Parameter(weight), padding=kernel // 2)


def dense(features_in: int, features_out: int, *, constrained: bool) -> Dense:
    """A learned matrix; where it starts is as for :func:`convolution`."""
    weight = torch.empty(features_out, features_in)
    return Dense(nn.Parameter(nn.init.orthogonal_(weight) if constrained else nn.init.kaiming_normal_(weight)))


def flow(operator: Conv2d | Dense, activation: Activation) -> Flow:
    r"""One non-expansive step ``x − 2Aᵀσ(Ax + b)/s`` with A almost orthogonal, and s the largest slope of σ.

    The layer of Meunier et al. (ICML 2022), with the scaling of Araujo et al. (ICLR 2023). Its step is known: the
    bound of ‖A‖ is 1 for all weights.
    """
    return Flow(GradientFlow(almost_orthogonal(operator), activation, bias=bias_of(operator)), num_steps=1)


def alternating(
    contracting: Conv2d | Dense, expanding: Conv2d | Dense, activation: Activation, *, mu: float, learn_step: bool
) -> Alternating:
    """An expansive step and a contracting one with the pull μ towards 0, together non-expansive."""
    return Alternating(
        GradientFlow(almost_orthogonal(contracting), activation, bias=bias_of(contracting), mu=mu),
        GradientFlow(almost_orthogonal(expanding), activation, bias=bias_of(expanding), expansive=True),
        num_pairs=1,
        learn_step=learn_step,
    )


def residual(first: Conv2d | Dense, second: Conv2d | Dense, activation: Activation) -> Residual:
    """A free block that starts as the identity."""
    nn.init.zeros_(second.weight)
    return Residual(first, second, activation, bias_of(first))


def projection(operator: Conv2d | Dense, *, constrained: bool) -> Affine:
    """A linear map with a bias, of norm at most 1 where constrained."""
    return Affine(almost_orthogonal(operator) if constrained else operator, bias_of(operator))


def bias_of(operator: Conv2d | Dense) -> nn.Parameter:
    """A learned bias for the outputs of a matrix or a convolution, zero at first."""
    weight = operator.weight
    return nn.Parameter(torch.zeros(weight.size(0), *[1] * (weight.dim() - 2)))
