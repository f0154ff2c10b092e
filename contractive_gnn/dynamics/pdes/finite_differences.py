r"""The method of finite differences as a vector field: a polynomial in stencils, evaluated as it is written."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.dynamics.pdes.polynomial import AffineForm, StencilPolynomial
from contractive_gnn.dynamics.spectrum import Spectrum
from contractive_gnn.integrators import Invariant
from contractive_gnn.norms import L2
from contractive_gnn.operators import Stencil, rounding
from contractive_gnn.operators.precision import Exact


class FiniteDifferences(Exact, VectorField):
    r"""``X(u)_f = Σ_j c_j Π_k ℓ_jk(u)``, the right-hand side of a partial differential equation on a grid.

    Of a linear one the operator is known, ``X(u) = Au``, and it is ‖A‖-Lipschitz. Where A is symmetric (the heat
    equation) the eigenvalues of −A are known, hence the rate and the largest step. Where it keeps the norm it is skew:
    the rate is 0, and an Euler step of length h is ``(1 + h²‖A‖²)^½``-Lipschitz, so none contracts. Of others nothing
    is claimed: the derivative of a product grows with u.

    Mass and norm that the equation says it conserves are looked at in float64 where the field is built: ``⟨X(u), 1⟩``
    and ``⟨X(u), u⟩`` are polynomials, and one that is 0 at a random u is 0 everywhere, with probability 1. A linear
    equation that keeps the norm keeps the volume, since a skew A has no trace; of what else it says to keep nothing is
    proved, and it is not certified.

    Args:
        polynomial: the equation.
        dtype: of the kernels; None for torch's default. They are kept in float64: ``.double()`` has those, and in every
            precision kernels that sum to 0 still do, so that the mass is kept.

    Shapes:
        ``[..., fields, N₁, …, N_d]``.

    Raises:
        ValueError: for an equation that says it conserves mass or norm and does not; (called) for another shape.

    Example:
        >>> import torch
        >>> from contractive_gnn.dynamics.pdes import FiniteDifferences, heat
        >>> rod = FiniteDifferences(heat((8,), alpha=0.5))
        >>> rod(torch.eye(8)[:1]).tolist()
        [[-1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5]]
        >>> float(rod.max_step()) > 0.99  # h²/2α
        True
    """

    norm = L2
    constants: Tensor

    def __init__(self, polynomial: StencilPolynomial, *, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.polynomial = polynomial
        forms: list[AffineForm] = []
        self._products: list[tuple[int, float, tuple[int, ...]]] = []
        for product in polynomial.products:
            places = tuple(_place(form, forms) for form in product.factors)
            self._products.append((product.into, product.coefficient, places))
        self.forms, constants = polynomial.stencil(forms, torch.float64)
        self.register_buffer("constants", constants)
        self._keep("constants")
        kernel = polynomial.linear()
        self.whole: Stencil | None = None
        if kernel is not None:  # one operator, of which the constants are
            kernel = kernel[0, 0] if polynomial.fields == 1 else kernel
            self.whole = Stencil(kernel, size=polynomial.size, boundary=polynomial.boundary)
        self._check_conserved()
        self.to(dtype or torch.get_default_dtype())

    def _check_conserved(self) -> None:
        """Refuse a mass or a norm that the equation does not keep; see the class's text."""
        if self.constants.is_meta:  # as those who count parameters build it: there are no values
            return
        shape, generator = (self.polynomial.fields, *self.polynomial.size), torch.Generator().manual_seed(0)
        u = torch.randn(shape, dtype=torch.float64, device="cpu", generator=generator).to(self.constants.device)
        value = self(u)
        for name, terms in (("mass", value), ("norm", value * u)):
            change = float(terms.sum().abs())
            if name in self.conserves and change > 1e-9 * float(terms.abs().sum()):
                raise ValueError(
                    f"{self.polynomial.name} says that it conserves the {name}, which changes at the rate {change:.1e} "
                    f"at a random state with the boundary {self.polynomial.boundary!r}: leave it out of conserves"
                )

    @property
    def certified(self) -> bool:
        """Whether all that the equation says it conserves is known to be."""
        return self.conserves <= {"mass", "norm"} | ({"volume"} if self._skew else set())

    @property
    def conserves(self) -> frozenset[Invariant]:  # type: ignore[override]
        """What the equation says."""
        return self.polynomial.conserves

    @property
    def invariant_axes(self) -> tuple[int, ...]:  # type: ignore[override]
        """The fields and the grid: an invariant is one number for each sample."""
        return tuple(range(-1 - len(self.polynomial.size), 0))

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate X; the field does not depend on time."""
        z = self.forms(x) + self.constants
        axis = -1 - len(self.polynomial.size)
        sums: list[Tensor | None] = [None] * self.polynomial.fields
        for into, coefficient, places in self._products:
            term = z.select(axis, places[0])
            for place in places[1:]:
                term = term * z.select(axis, place)
            term = coefficient * term
            former = sums[into]
            sums[into] = term if former is None else former + term
        zero = torch.zeros_like(x.select(axis, 0))
        return torch.stack([zero if term is None else term for term in sums], dim=axis)

    def spectrum(self) -> Spectrum | None:
        """The interval that holds the eigenvalues of −A; None where A is not known to be symmetric."""
        if self.whole is None:
            return None
        try:
            least, most = self.whole.eigenvalue_range()
        except ValueError:
            return None
        # where constants are mapped to 0, the largest eigenvalue is 0, and what was found is its rounding
        slack = 2 * rounding(4 * self.whole.kernel.numel() + 16, most.dtype) * least.abs()
        return Spectrum(torch.where(most.abs() <= slack, torch.zeros_like(most), -most), -least)

    @property
    def _skew(self) -> bool:
        return self.whole is not None and "norm" in self.conserves  # ⟨Au, u⟩ = 0 for all u

    def rate(self) -> Tensor | float:
        """The least eigenvalue of −A; 0 for a skew A; else ``−‖A‖``; ``−inf`` where X is not linear."""
        if self._skew:
            return 0.0
        spectrum = self.spectrum()
        return -self.field_lipschitz() if spectrum is None else spectrum.least

    def max_step(self) -> Tensor | float:
        """``2/(least + most)`` by the eigenvalues of −A; 0 where they are not known, or one is negative."""
        spectrum = self.spectrum()
        return 0.0 if spectrum is None else spectrum.max_step()

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        """``max(1 − h least, h most − 1)``; ``(1 + h²‖A‖²)^½`` for a skew A; else ``1 + h‖A‖``; for every h > 0."""
        if self._skew:
            return (1.0 + torch.as_tensor(step * self.field_lipschitz()) ** 2).sqrt()
        spectrum = self.spectrum()
        return 1.0 + step * self.field_lipschitz() if spectrum is None else spectrum.lipschitz(step)

    def field_lipschitz(self) -> Tensor | float:
        """``‖A‖``; ``inf`` where X is not linear."""
        return math.inf if self.whole is None else self.whole.norm_bound()

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """A random state in float64, standard normal."""
        polynomial = self.polynomial
        return torch.randn(polynomial.fields, *polynomial.size, dtype=torch.float64, generator=generator)

    def extra_repr(self) -> str:
        """Show the equation."""
        return self.polynomial.name


def _place(form: AffineForm, forms: list[AffineForm]) -> int:
    """Where a form stands in the list, at its end where it is new."""
    for place, other in enumerate(forms):
        if form is other or (
            form.constant == other.constant
            and form.kernel.shape == other.kernel.shape
            and torch.equal(form.kernel, other.kernel)
        ):
            return place
    forms.append(form)
    return len(forms) - 1
