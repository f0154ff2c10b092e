r"""Polynomials in stencils: what is left of a partial differential equation once space is a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.integrators import Invariant
from contractive_gnn.operators import Stencil
from contractive_gnn.operators.walls import Boundary


@dataclass(frozen=True, eq=False)
class AffineForm:
    r"""``ℓ(u)_i = c + Σ_f Σ_t K_{f,t} u_{f, i+t−o}``, one number at each point of the grid.

    Attributes:
        kernel: K, ``[fields, k₁, …, k_d]`` with an odd number of taps an axis, o in the middle; real.
        constant: c.

    Raises:
        ValueError: for an even number of taps.
        TypeError: for a kernel that is not real and floating.
    """

    kernel: Tensor
    constant: float = 0.0

    def __post_init__(self) -> None:
        check_real("constant", self.constant)
        if not (isinstance(self.kernel, Tensor) and self.kernel.is_floating_point()):
            raise TypeError(f"kernel must be a real floating tensor, got {self.kernel!r}")
        if self.kernel.dim() < 2 or any(k % 2 == 0 for k in self.kernel.shape[1:]):
            raise ValueError(
                f"kernel must be [fields, k₁, …] with an odd number of taps on each axis, got {list(self.kernel.shape)}"
            )

    def widened(self, taps: Sequence[int]) -> Tensor:
        """The kernel in float64 with zeros around it, ``[fields, *taps]``."""
        pad = []
        for wanted, k in zip(reversed(list(taps)), reversed(self.kernel.shape[1:]), strict=True):
            pad += [(wanted - k) // 2] * 2
        return torch.nn.functional.pad(self.kernel.double(), pad)

    def plus(self, other: AffineForm, factor: float = 1.0) -> AffineForm:
        """``ℓ + factor · ℓ'``."""
        taps = [max(pair) for pair in zip(self.kernel.shape[1:], other.kernel.shape[1:], strict=True)]
        return AffineForm(self.widened(taps) + factor * other.widened(taps), self.constant + factor * other.constant)

    def size(self) -> float:
        """``|c| + Σ|K|``, the most it reaches where no value of u is larger than 1."""
        return abs(self.constant) + float(self.kernel.double().abs().sum())


@dataclass(frozen=True, eq=False)
class Product:
    """``coefficient · Π ℓ_k(u)``, which is added to the derivative of one field.

    Attributes:
        into: the field, counted from 0.
        coefficient: a number.
        factors: one or more.
    """

    into: int
    coefficient: float
    factors: tuple[AffineForm, ...]

    def __post_init__(self) -> None:
        check_whole("into", self.into, least=0)
        check_real("coefficient", self.coefficient)
        if not self.factors:
            raise ValueError("a product needs at least one factor, got none")


@dataclass(frozen=True, eq=False)
class StencilPolynomial:
    r"""``u̇_f = Σ_j c_j Π_k ℓ_jk(u)`` over the products into f: a partial differential equation on a grid.

    Attributes:
        name: of the equation.
        size: ``(N₁, …, N_d)``.
        boundary: of the grid, see :mod:`contractive_gnn.operators.walls`.
        fields: how many values there are at a point.
        products: all of them.
        conserves: what the exact flow keeps; :class:`~contractive_gnn.dynamics.pdes.FiniteDifferences` looks at it.

    Shapes:
        a state is ``[..., fields, N₁, …, N_d]``.

    Raises:
        ValueError: for products that do not fit the fields, kernels that do not fit the grid, or something unknown
            that it conserves.
    """

    name: str
    size: tuple[int, ...]
    boundary: Boundary
    fields: int
    products: tuple[Product, ...]
    conserves: frozenset[Invariant] = frozenset()

    def __post_init__(self) -> None:
        check_whole("fields", self.fields, least=1)
        if not self.products:
            raise ValueError(f"{self.name} needs at least one product, got none")
        if strangers := sorted(set(self.conserves) - set(get_args(Invariant))):
            raise ValueError(f"{self.name} may conserve {', '.join(get_args(Invariant))}, got {', '.join(strangers)}")
        for product in self.products:
            if product.into >= self.fields:
                raise ValueError(f"{self.name} has {self.fields} fields, and a product goes into field {product.into}")
            for form in product.factors:
                if form.kernel.size(0) != self.fields or form.kernel.dim() != 1 + len(self.size):
                    raise ValueError(
                        f"{self.name} needs kernels [{self.fields}, k₁, …] with {len(self.size)} axes of the grid, got "
                        f"{list(form.kernel.shape)}"
                    )

    @property
    def degree(self) -> int:
        """The largest number of factors."""
        return max(len(product.factors) for product in self.products)

    def taps(self) -> tuple[int, ...]:
        """The taps of the widest kernel along each axis."""
        shapes = [form.kernel.shape[1:] for product in self.products for form in product.factors]
        return tuple(max(lengths) for lengths in zip(*shapes, strict=True))

    def stencil(self, forms: Sequence[AffineForm], dtype: torch.dtype | None = None) -> tuple[Stencil, Tensor]:
        """Several forms as one operator to ``[m, N₁, …]``, and their constants, ``[m, 1, …, 1]``.

        The operator keeps the kernels in float64, and those that sum to 0 do in every precision, see
        :class:`~contractive_gnn.operators.Stencil`.
        """
        taps = self.taps()
        dtype = dtype or torch.get_default_dtype()
        kernels = torch.stack([form.widened(taps) for form in forms])
        constants = torch.tensor([form.constant for form in forms], dtype=torch.float64).to(dtype)
        return (
            Stencil(kernels, size=self.size, boundary=self.boundary).to(dtype),
            constants.view(-1, *[1] * len(self.size)),
        )

    def linear(self) -> Tensor | None:
        """The kernel ``[fields, fields, k₁, …]`` where every product is one form without a constant; else None."""
        taps = self.taps()
        kernel = torch.zeros(self.fields, self.fields, *taps, dtype=torch.float64)
        for product in self.products:
            if len(product.factors) > 1 or product.factors[0].constant:
                return None
            kernel[product.into] += product.coefficient * product.factors[0].widened(taps)
        return kernel


def point(size: Sequence[int], *, field: int = 0, fields: int = 1, shift: Sequence[int] | None = None) -> AffineForm:
    """``u_{field, i+shift}``, the value at a point near i.

    Args:
        size: of the grid, for its number of dimensions.
        field: which one.
        fields: how many there are.
        shift: of each axis; None for the point i itself.
    """
    shift = [0] * len(size) if shift is None else list(shift)
    taps = [2 * abs(s) + 1 for s in shift]
    kernel = torch.zeros(fields, *taps, dtype=torch.float64)
    place = (field, *(k // 2 + s for k, s in zip(taps, shift, strict=True)))
    kernel[place] = 1.0
    return AffineForm(kernel)


def of_stencil(stencil: Stencil, *, field: int = 0, fields: int = 1, factor: float = 1.0) -> AffineForm:
    """``factor · A u_field`` for a stencil of one kernel with its origin in the middle.

    Raises:
        ValueError: for another stencil.
    """
    taps = stencil.kernel.shape
    if stencil.kernel.dim() != len(stencil.size) or any(
        k % 2 == 0 or o != k // 2 for k, o in zip(taps, stencil.origin, strict=True)
    ):
        raise ValueError(f"expected one kernel with an odd number of taps and its origin in the middle, got {stencil}")
    kernel = torch.zeros(fields, *taps, dtype=torch.float64)
    kernel[field] = factor * stencil.kernel.detach().double()
    return AffineForm(kernel)
