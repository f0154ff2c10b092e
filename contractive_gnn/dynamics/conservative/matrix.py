r"""Matrices that depend on the state, from which fields that keep a mass or a norm are made."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch_geometric.nn.inits import reset

from contractive_gnn import activations
from contractive_gnn.activations import Activation
from contractive_gnn.checks import check_whole
from contractive_gnn.dynamics.energy import check_length
from contractive_gnn.dynamics.layer import own_operator
from contractive_gnn.dynamics.spectrum import smoothness
from contractive_gnn.operators import Dense
from contractive_gnn.seeding import drawing


class StateMatrix(nn.Module, ABC):
    """A matrix ``B(x)`` for each state x.

    Attributes:
        dim: d.
        constant: whether B does not depend on x.

    Shapes:
        ``[..., d]`` to ``[..., d, d]``: the matrix of a sample depends on that sample alone.
    """

    dim: int
    constant: bool = False

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """``B(x)``."""

    def lipschitz(self) -> Tensor | float:
        """A Lipschitz constant of B, from ℓ2 to the Frobenius norm; ``inf`` where none is known."""
        return math.inf

    @property
    def certified(self) -> bool:
        """Whether what :meth:`lipschitz` gives is proved."""
        return True

    def reset_parameters(self) -> None:
        """Draw what is learned anew: here that of the parts; a matrix with weights extends it."""
        for part in self.children():
            reset(part)


class ConstantMatrix(StateMatrix):
    """The same matrix for every state.

    Args:
        matrix: B, ``[d, d]``: an ``nn.Parameter`` is learned, another tensor is fixed.

    Raises:
        TypeError: for something else than a real floating tensor.
        ValueError: for a matrix that is not square, or has entries that are not finite; (called) for states of another
            length.
    """

    constant = True

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.operator = Dense(matrix)
        if matrix.size(0) != matrix.size(1):
            raise ValueError(f"the matrix must be square, got {list(matrix.shape)}")
        self.dim = matrix.size(0)

    def forward(self, x: Tensor) -> Tensor:
        """``B``, once for each sample."""
        check_length(x, self.dim)
        return self.operator.weight.expand(*x.shape, self.dim)

    def lipschitz(self) -> float:
        """0."""
        return 0.0


class PerceptronMatrix(StateMatrix):
    r"""A perceptron with one hidden layer that gives the entries of a matrix.

    .. math::
        \mathrm{vec}\,B(x) = C\,\sigma(Kx + b) + c

    It is ``s ‖C‖ ‖K‖``-Lipschitz in the Frobenius norm, s the largest slope of σ in size.

    Args:
        dim: d.
        width: the number of neurons.
        activation: σ, an :class:`~contractive_gnn.activations.Activation` or its name.

    Raises:
        TypeError: for sizes that are no whole numbers.
        ValueError: for sizes below 1, and an unknown activation; (called) for states of another length.
    """

    def __init__(self, dim: int, width: int, activation: str | Activation = "tanh") -> None:
        super().__init__()
        check_whole("dim", dim, least=1)
        check_whole("width", width, least=1)
        self.dim, self.width = dim, width
        self.sigma = activations.activation(activation)
        self.inner = Dense(nn.Parameter(torch.zeros(width, dim)))
        self.bias = nn.Parameter(torch.zeros(width))
        self.outer = Dense(nn.Parameter(torch.zeros(dim * dim, width)))
        self.offset = nn.Parameter(torch.zeros(dim, dim))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """``B(x)``."""
        check_length(x, self.dim)
        entries: Tensor = self.outer(self.sigma(self.inner(x) + self.bias))
        return entries.reshape(*x.shape, self.dim) + self.offset

    def lipschitz(self) -> Tensor | float:
        """``s ‖C‖ ‖K‖``."""
        return smoothness(self.sigma, self.outer.norm_bound(), self.inner.norm_bound())

    @property
    def certified(self) -> bool:
        """Whether σ is this library's own: the slopes of others are not proved here."""
        own = type(self.sigma).__module__.startswith("contractive_gnn.")
        return own and own_operator(self.inner) and own_operator(self.outer)

    def reset_parameters(self) -> None:
        """Draw K, b, C and c anew: entries of order ``d^-½``, so that ``B(x)x`` is of the order of x."""
        size = self.dim**-0.5
        with drawing(), torch.no_grad():
            self.inner.weight.normal_(std=size)
            self.bias.uniform_(-1.0, 1.0)
            self.outer.weight.normal_(std=size * self.width**-0.5)
            self.offset.normal_(std=size)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.dim}, {self.width}"


def check_matrix(value: object) -> None:
    """Raise TypeError unless ``value`` is a matrix that depends on the state."""
    if not isinstance(value, StateMatrix):
        raise TypeError(
            f"matrix must be a StateMatrix, PerceptronMatrix(dim, width) say, got {type(value).__name__}: subclass "
            "StateMatrix, with forward(x) of shape [..., d, d] for states [..., d]"
        )


def skew(matrix: StateMatrix, x: Tensor) -> Tensor:
    """``B(x) − B(x)ᵀ``, skew to the last bit.

    Args:
        matrix: B.
        x: ``[..., d]``.

    Raises:
        ValueError: where B(x) is not ``[..., d, d]``.
    """
    b: Tensor = matrix(x)
    if b.shape != (*x.shape, x.size(-1)):
        raise ValueError(
            f"a matrix of the state has shape {[*x.shape, x.size(-1)]} for states of shape {list(x.shape)}: "
            f"{type(matrix).__name__} gives {list(b.shape)}"
        )
    return b - b.mT
