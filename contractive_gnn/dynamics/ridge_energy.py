r"""Energies of ridge functions whose slope and height are learned apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contractive_gnn.activations import Activation
from contractive_gnn.checks import check_whole
from contractive_gnn.dynamics.energy import Energy, check_length, with_potential
from contractive_gnn.dynamics.layer import own_operator
from contractive_gnn.operators import Dense
from contractive_gnn.seeding import drawing


class RidgeEnergy(Energy):
    r"""A sum of ridge functions, of which the gradient's height does not depend on its slope.

    .. math::
        E(x) = \sum_i a_i\,\frac{\varphi(s_i u_i^\top x + b_i) - \varphi(b_i)}{s_i}, \qquad
        \nabla E(x) = U^\top(a \odot \sigma(s \odot Ux + b)), \qquad \varphi' = \sigma

    The same functions as :class:`~contractive_gnn.dynamics.PerceptronEnergy` has, with ``k_i = s_i u_i`` and
    ``α_i = a_i/s_i``. There the height of the gradient is ``α_i k_i``. A smooth function is approximated best by gentle
    slopes, with which that height vanishes unless α grows like ``1/k²``. Here ``s_i = 0`` is an ordinary point, a
    linear function. With the slopes of σ in ``[s_min, s_max]`` the Hessian is ``UᵀDU`` with D diagonal, of entries in
    the interval that the ``a_i s_i [s_min, s_max]`` span. In one dimension U is 1, and not learned.

    Args:
        dim: d.
        width: the number of ridge functions.
        activation: σ, an elementwise :class:`~contractive_gnn.activations.Activation` with a potential, or its name.

    Shapes:
        ``[..., d]`` to ``[...]``.

    Raises:
        TypeError: for sizes that are no whole numbers.
        ValueError: for sizes below 1, an unknown activation, one of rows, and one without a potential; (called) for
            states of another length.

    Example:
        >>> import torch
        >>> energy = RidgeEnergy(2, 16)
        >>> x = torch.randn(5, 2)
        >>> energy(x).shape, energy.gradient(x).shape
        (torch.Size([5]), torch.Size([5, 2]))
    """

    dim: int

    def __init__(self, dim: int, width: int, activation: str | Activation = "tanh") -> None:
        super().__init__()
        check_whole("dim", dim, least=1)
        check_whole("width", width, least=1)
        self.dim, self.width = dim, width
        self.sigma = with_potential(activation)
        directions = torch.ones(width, dim)
        self.operator = Dense(directions if dim == 1 else nn.Parameter(directions))
        self.height = nn.Parameter(torch.zeros(width))
        self.slope = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """``Σ a_i (φ(s_i u_iᵀx + b_i) − φ(b_i))/s_i``."""
        check_length(x, self.dim)
        z = self.operator(x)
        # where s is 0 the limit is σ(b) z; the quotient is rounded to eps/s, the limit is off by s
        small = self.slope.abs() < torch.finfo(z.dtype).eps ** 0.5
        s = torch.where(small, 1.0, self.slope)
        quotient = (self.sigma.potential(s * z + self.bias) - self.sigma.potential(self.bias)) / s
        return (self.height * torch.where(small, self.sigma(self.bias) * z, quotient)).sum(dim=-1)

    def gradient(self, x: Tensor) -> Tensor:
        """``Uᵀ(a ⊙ σ(s ⊙ Ux + b))``."""
        check_length(x, self.dim)
        return self.operator.adjoint(self.height * self.sigma(self.slope * self.operator(x) + self.bias))

    def curvature(self) -> tuple[Tensor, Tensor]:
        """See the class's text."""
        ends = torch.stack([slope * self.height * self.slope for slope in self.sigma.slopes])
        square = self.operator.squared_norm_bound()
        return ends.min().clamp(max=0) * square, ends.max().clamp(min=0) * square

    @property
    def certified(self) -> bool:
        """Whether σ is this library's own: the slopes of others are not proved here."""
        return type(self.sigma).__module__.startswith("contractive_gnn.") and own_operator(self.operator)

    def reset_parameters(self) -> None:
        """Draw all anew: the gradient of a state of order 1 is of order 1."""
        with drawing(), torch.no_grad():
            if self.dim > 1:
                self.operator.weight.normal_(std=self.dim**-0.5)
            self.height.normal_(std=self.width**-0.5)
            self.slope.uniform_(-1.0, 1.0)
            self.bias.uniform_(-1.0, 1.0)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.dim}, {self.width}"
