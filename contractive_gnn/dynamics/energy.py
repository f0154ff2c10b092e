r"""Energies: functions of the state with one value a sample, and their gradients.

A mechanical system is written by its energies, and its field is made of their gradients. What is declared beside the
value is where the eigenvalues of the Hessian lie, from which the constants of such a field follow.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch_geometric.nn.inits import reset

from contractive_gnn import activations
from contractive_gnn.activations import Activation
from contractive_gnn.checks import check_whole
from contractive_gnn.dynamics.layer import own_operator
from contractive_gnn.graph import transformed
from contractive_gnn.operators import Dense
from contractive_gnn.seeding import drawing


class Energy(nn.Module, ABC):
    r"""A function ``E: ℝᵈ → ℝ``, one value for each sample.

    A subclass defines :meth:`forward`. It overrides :meth:`gradient` where it has a closed form, which is faster, and
    :meth:`curvature` where it can prove a bound.

    Attributes:
        dim: d, the length of the last axis; None for any.

    Shapes:
        ``[..., d]`` to ``[...]``: the value of a sample depends on that sample alone.

    Example:
        >>> import torch
        >>> class Bowl(Energy):
        ...     def forward(self, x):
        ...         return x.square().sum(dim=-1) ** 2
        >>> Bowl().gradient(torch.tensor([[1.0, 2.0], [0.0, 1.0]])).tolist()
        [[20.0, 40.0], [0.0, 4.0]]
    """

    dim: int | None = None

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """``E(x)``, of the shape of x without its last axis."""

    def gradient(self, x: Tensor) -> Tensor:
        """``∇E(x)``, of the shape of x; here by automatic differentiation, and differentiable again.

        Raises:
            ValueError: where :meth:`forward` gives something else than one value a sample, or its value does not
                depend on x.
        """
        if torch.compiler.is_compiling() or transformed(x):
            slope: Tensor = torch.func.grad(lambda y: self._values(y).sum())(x)
            return slope
        again = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            y = x if x.requires_grad else (x.clone() if x.is_inference() else x.detach()).requires_grad_()
            total = self._values(y).sum()
            if not total.requires_grad:
                raise ValueError(f"the value of {type(self).__name__} does not depend on the state: it has no gradient")
            (slope,) = torch.autograd.grad(total, y, create_graph=again, materialize_grads=True)
        return slope

    def _values(self, x: Tensor) -> Tensor:
        value: Tensor = self(x)
        if value.shape != x.shape[:-1]:
            raise ValueError(
                f"an energy has one value a sample: {type(self).__name__} takes {list(x.shape)} to "
                f"{list(x.shape[:-1])}, got {list(value.shape)}"
            )
        return value

    def curvature(self) -> tuple[Tensor | float, Tensor | float]:
        """``(low, high)``: the eigenvalues of ``∇²E`` lie between them everywhere; here nothing is known.

        Of an energy whose gradient has kinks, the slopes of ``∇E`` between any two points.
        """
        return -math.inf, math.inf

    @property
    def certified(self) -> bool:
        """Whether what :meth:`curvature` gives is proved."""
        return True

    def reset_parameters(self) -> None:
        """Draw what is learned anew: here that of the parts; an energy with weights extends it."""
        for part in self.children():
            reset(part)


class QuadraticEnergy(Energy):
    r"""``E(x) = xᵀMx/2``: the kinetic energy of a mass matrix, or a spring.

    Args:
        matrix: M, ``[d, d]``: an ``nn.Parameter`` is learned, another tensor is fixed. Of a matrix that is not
            symmetric the symmetric part counts.

    Shapes:
        ``[..., d]`` to ``[...]``.

    Raises:
        ValueError: for a matrix that is not square, or has entries that are not finite; (called) for states of another
            length.
        TypeError: for something else than a real floating tensor.

    Example:
        ``QuadraticEnergy(torch.eye(2))`` is ``‖x‖²/2``.
    """

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.operator = Dense(matrix)
        if matrix.size(0) != matrix.size(1):
            raise ValueError(f"the matrix of a quadratic energy must be square, got {list(matrix.shape)}")
        self.dim = matrix.size(0)

    @property
    def matrix(self) -> Tensor:
        """``(M + Mᵀ)/2``."""
        weight = self.operator.weight
        return (weight + weight.T) / 2

    def forward(self, x: Tensor) -> Tensor:
        """``xᵀMx/2``."""
        check_length(x, self.dim)
        return (x * self.gradient(x)).sum(dim=-1) / 2

    def gradient(self, x: Tensor) -> Tensor:
        """``Mx``."""
        check_length(x, self.dim)
        return x @ self.matrix

    def curvature(self) -> tuple[Tensor, Tensor]:
        """The least and the largest eigenvalue, with what rounding leaves of them."""
        values = torch.linalg.eigvalsh(self.matrix)
        slack = 4 * len(values) * torch.finfo(values.dtype).eps * values.abs().max()
        return values[0] - slack, values[-1] + slack

    @property
    def certified(self) -> bool:
        """Whether the matrix is held as it is, or by what the library knows."""
        return own_operator(self.operator)


class PerceptronEnergy(Energy):
    r"""A perceptron with one hidden layer whose gradient is one too, the *gradient module*.

    .. math::
        E(x) = \sum_i \alpha_i\,\varphi(k_i^\top x + b_i), \qquad \nabla E(x) = K^\top(\alpha \odot \sigma(Kx + b)),
        \qquad \varphi' = \sigma

    (Jin et al., *SympNets*, Neural Networks 2020, whose gradient modules approximate every gradient on a compact set.)
    With the slopes of σ in ``[s_min, s_max]`` the Hessian is ``KᵀDK`` with D diagonal, of entries in the interval that
    the ``α_i [s_min, s_max]`` span: its eigenvalues lie in ``[min(0, low D) ‖K‖², max(0, high D) ‖K‖²]``.

    Args:
        dim: d.
        width: the number of neurons.
        activation: σ, an elementwise :class:`~contractive_gnn.activations.Activation` with a potential, or its name.

    Shapes:
        ``[..., d]`` to ``[...]``.

    Raises:
        TypeError: for sizes that are no whole numbers.
        ValueError: for sizes below 1, an unknown activation, one of rows, and one without a potential; (called) for
            states of another length.

    Example:
        >>> import torch
        >>> energy = PerceptronEnergy(2, 16)
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
        self.operator = Dense(nn.Parameter(torch.zeros(width, dim)))
        self.alpha = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """``Σ α_i φ(k_iᵀx + b_i)``."""
        return (self.alpha * self.sigma.potential(self.operator(x) + self.bias)).sum(dim=-1)

    def gradient(self, x: Tensor) -> Tensor:
        """``Kᵀ(α ⊙ σ(Kx + b))``."""
        return self.operator.adjoint(self.alpha * self.sigma(self.operator(x) + self.bias))

    def curvature(self) -> tuple[Tensor, Tensor]:
        """See the class's text."""
        ends = torch.stack([slope * self.alpha for slope in self.sigma.slopes])
        square = self.operator.squared_norm_bound()
        return ends.min().clamp(max=0) * square, ends.max().clamp(min=0) * square

    @property
    def certified(self) -> bool:
        """Whether σ is this library's own: the slopes of others are not proved here."""
        return type(self.sigma).__module__.startswith("contractive_gnn.") and own_operator(self.operator)

    def reset_parameters(self) -> None:
        """Draw K, α and b anew: ``Kx`` of order 1 for a state of order 1, and the gradient too."""
        with drawing(), torch.no_grad():
            self.operator.weight.normal_(std=self.dim**-0.5)
            self.alpha.normal_(std=self.width**-0.5)
            self.bias.uniform_(-1.0, 1.0)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.dim}, {self.width}"


class SumEnergy(Energy):
    """``E = E₁ + … + E_k``.

    Args:
        energies: at least one, all of states of the same length.

    Raises:
        TypeError: for something that is no energy.
        ValueError: without an energy, and for lengths that differ.

    Example:
        ``SumEnergy(QuadraticEnergy(torch.eye(2)), PerceptronEnergy(2, 16))``: a spring, and what is learned.
    """

    def __init__(self, *energies: Energy) -> None:
        super().__init__()
        if not energies:
            raise ValueError("a sum needs at least one energy, got none")
        for energy in energies:
            check_energy("a summand", energy)
        lengths = {energy.dim: None for energy in energies if energy.dim is not None}  # in their order
        if len(lengths) > 1:
            raise ValueError(f"the summands take states of different lengths: {', '.join(map(str, lengths))}")
        self.dim = next(iter(lengths), None)
        self.energies = nn.ModuleList(energies)

    def _summands(self) -> list[Energy]:
        return [energy for energy in self.energies if isinstance(energy, Energy)]

    def forward(self, x: Tensor) -> Tensor:
        """``Σ E_i(x)``."""
        values: list[Tensor] = [energy(x) for energy in self._summands()]
        return sum(values[1:], start=values[0])

    def gradient(self, x: Tensor) -> Tensor:
        """``Σ ∇E_i(x)``, each in its own way."""
        first, *others = (energy.gradient(x) for energy in self._summands())
        return sum(others, start=first)

    def curvature(self) -> tuple[Tensor | float, Tensor | float]:
        """The sums of theirs (Weyl)."""
        lows, highs = zip(*(energy.curvature() for energy in self._summands()), strict=True)
        return sum(lows[1:], start=lows[0]), sum(highs[1:], start=highs[0])

    @property
    def certified(self) -> bool:
        """Whether what each of them declares is proved."""
        return all(energy.certified for energy in self._summands())


def check_energy(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is an energy.

    Args:
        name: how the message calls it.
        value: what was given.
    """
    if not isinstance(value, Energy):
        raise TypeError(
            f"{name} must be an energy of contractive_gnn.dynamics, got {type(value).__name__}: subclass Energy, with "
            "forward(x) of shape [...] for states [..., d]"
        )


def with_potential(activation: str | Activation) -> Activation:
    """The σ of an energy of neurons.

    Raises:
        ValueError: for an unknown name, an activation of rows, and one without a potential.
    """
    sigma = activations.activation(activation)
    if sigma.group:
        raise ValueError(f"an energy of neurons takes an elementwise activation, got {sigma}, one of rows")
    if type(sigma).potential is Activation.potential:
        raise ValueError(f"{type(sigma).__name__} must define potential(), the φ with φ' = σ")
    return sigma


def check_length(x: Tensor, dim: int | None) -> None:
    """Raise ValueError unless x is ``[..., dim]``."""
    if x.dim() == 0 or x.size(-1) != dim:
        raise ValueError(f"expected a state of shape [..., {dim}], got {list(x.shape)}")
