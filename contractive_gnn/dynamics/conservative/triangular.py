r"""A matrix of the state with the entries above its diagonal alone, from which every skew matrix is made."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contractive_gnn.activations import Activation
from contractive_gnn.checks import check_whole
from contractive_gnn.dynamics.conservative.matrix import PerceptronMatrix
from contractive_gnn.dynamics.energy import check_length
from contractive_gnn.operators import Dense


class TriangularMatrix(PerceptronMatrix):
    r"""A perceptron with one hidden layer that gives the entries above the diagonal; the others are 0.

    .. math::
        (B(x)_{ij})_{i < j} = C\,\sigma(Kx + b) + c

    ``B − Bᵀ`` is any skew matrix, as it is of a full B, which has more than twice as many entries. B is
    ``s ‖C‖ ‖K‖``-Lipschitz in the Frobenius norm, s the largest slope of σ in size.

    Args:
        dim: d ≥ 2.
        width: the number of neurons.
        activation: σ, an :class:`~contractive_gnn.activations.Activation` or its name.

    Shapes:
        ``[..., d]`` to ``[..., d, d]``.

    Raises:
        TypeError: for sizes that are no whole numbers.
        ValueError: for a dimension below 2, a width below 1, and an unknown activation; (called) for states of another
            length.

    Example:
        >>> import torch
        >>> from contractive_gnn.dynamics import SkewField
        >>> field = SkewField(TriangularMatrix(3, 16))
        >>> field(torch.randn(5, 3)).shape
        torch.Size([5, 3])
    """

    above: Tensor

    def __init__(self, dim: int, width: int, activation: str | Activation = "tanh") -> None:
        check_whole("dim", dim, least=2)
        super().__init__(dim, width, activation)
        rows, columns = torch.triu_indices(dim, dim, offset=1)
        self.outer = Dense(nn.Parameter(torch.zeros(len(rows), width)))
        self.offset = nn.Parameter(torch.zeros(len(rows)))
        self.register_buffer("above", rows * dim + columns, persistent=False)
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """``B(x)``."""
        check_length(x, self.dim)
        entries: Tensor = self.outer(self.sigma(self.inner(x) + self.bias)) + self.offset
        matrix = entries.new_zeros(*x.shape[:-1], self.dim * self.dim).index_copy(-1, self.above, entries)
        return matrix.reshape(*x.shape, self.dim)
