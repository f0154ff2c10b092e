r"""Hamiltonian fields of a state ``(q | p)``, separable and not."""

from __future__ import annotations

import torch
from torch import Tensor

from contractive_gnn.dynamics.conservative.coupling import CouplingField
from contractive_gnn.dynamics.conservative.shear import EnergyGradient, halves, largest_size, moved
from contractive_gnn.dynamics.energy import Energy, check_energy
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.integrators import Invariant
from contractive_gnn.norms import number


class SeparableHamiltonian(CouplingField):
    r"""The Hamiltonian field of ``H(q, p) = T(p) + V(q)``.

    .. math::
        \dot q = \nabla T(p), \qquad \dot p = -\nabla V(q)

    The flow keeps the energy H, the symplectic form ``dq ∧ dp`` and the volume. Its :meth:`parts` are two shears, each
    of them symplectic: ``"symplectic-euler"`` and ``"stormer-verlet"`` keep the form to rounding, and the energy within
    a band over long times (Hairer, Lubich, Wanner, *Geometric Numerical Integration*, 2006, chapters VI and IX). No
    explicit Runge–Kutta scheme does.

    With the eigenvalues of ``∇²T`` in ``[t_0, t_1]`` and those of ``∇²V`` in ``[v_0, v_1]`` the symmetric part of DX is
    ``(∇²T − ∇²V)/2`` off the diagonal: the log norm is ``m = max(t_1 − v_0, v_1 − t_0)/2`` at most, the field is
    ``L = max(|t_i|, |v_i|)``-Lipschitz, and an Euler step is ``(1 + 2hm + h²L²)^½``-Lipschitz.

    Args:
        kinetic: T.
        potential: V.

    Shapes:
        ``(q | p)``, ``[..., 2d]``.

    Raises:
        TypeError: for something that is no energy.
        ValueError: for energies of states of different lengths; (called) for an odd last axis.

    Example:
        >>> import torch
        >>> from contractive_gnn.dynamics import PerceptronEnergy, QuadraticEnergy
        >>> from contractive_gnn.nn import Flow
        >>> field = SeparableHamiltonian(QuadraticEnergy(torch.eye(2)), PerceptronEnergy(2, 16))
        >>> layer = Flow(field, scheme="stormer-verlet", step=0.1, num_steps=4, constrained=False)
        >>> layer(torch.randn(5, 4)).shape
        torch.Size([5, 4])
    """

    conserves = frozenset[Invariant]({"energy", "symplectic", "volume"})

    def __init__(self, kinetic: Energy, potential: Energy) -> None:
        check_energy("kinetic", kinetic)
        check_energy("potential", potential)
        if None not in (kinetic.dim, potential.dim) and kinetic.dim != potential.dim:
            raise ValueError(
                f"positions and momenta have the same length: the kinetic energy takes {kinetic.dim} momenta, the "
                f"potential {potential.dim} positions"
            )
        super().__init__(EnergyGradient(kinetic), EnergyGradient(potential, descent=True))

    @property
    def kinetic(self) -> Energy:
        """T."""
        assert isinstance(self.first, EnergyGradient)
        return self.first.energy

    @property
    def potential(self) -> Energy:
        """V."""
        assert isinstance(self.second, EnergyGradient)
        return self.second.energy

    def energy(self, x: Tensor) -> Tensor:
        """``T(p) + V(q)``, ``[...]``."""
        q, p = halves(x, None)
        value: Tensor = self.kinetic(p) + self.potential(q)
        return value

    def rate(self) -> Tensor | float:
        """``−m``."""
        t_low, t_high = self.kinetic.curvature()
        v_low, v_high = self.potential.curvature()
        return -max(t_high - v_low, v_high - t_low, key=number) / 2

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        """``(1 + 2hm + h²L²)^½``, for every h."""
        return moved(step, -self.rate(), self.field_lipschitz())

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """A random state in float64, standard normal.

        Raises:
            NotImplementedError: where no energy says how long a state is.
        """
        length = self.kinetic.dim or self.potential.dim
        if length is None:
            return VectorField.state(self, generator=generator)
        return torch.randn(4, 2 * length, dtype=torch.float64, generator=generator)


class HamiltonianField(VectorField):
    r"""The Hamiltonian field of any H.

    .. math::
        \dot q = \nabla_p H(q, p), \qquad \dot p = -\nabla_q H(q, p)

    The flow keeps H, the symplectic form and the volume. It cannot be split; ``"implicit-midpoint"`` keeps the form, to
    the tolerance that its equation is solved to. Where ``H = T(p) + V(q)`` take :class:`SeparableHamiltonian`.

    With the eigenvalues of ``∇²H`` in ``[l, u]`` the field is ``max(|l|, |u|)``-Lipschitz. Its log norm is at most
    ``(u − l)/2``, since a multiple of the identity adds a skew matrix to ``J∇²H``.

    Args:
        energy: H, of states of an even length.

    Shapes:
        ``(q | p)``, ``[..., 2d]``.

    Raises:
        TypeError: for something that is no energy.
        ValueError: for an energy of states of an odd length; (called) for an odd last axis.

    Example:
        ``integrate(HamiltonianField(PerceptronEnergy(4, 16)), x, step=0.1, num_steps=10, scheme="implicit-midpoint")``
    """

    conserves = frozenset[Invariant]({"energy", "symplectic", "volume"})

    def __init__(self, energy: Energy) -> None:
        super().__init__()
        check_energy("energy", energy)
        if energy.dim is not None and energy.dim % 2:
            raise ValueError(f"positions and momenta have the same length: the energy takes {energy.dim} of both")
        self.hamiltonian = energy

    def energy(self, x: Tensor) -> Tensor:
        """``H(q, p)``, ``[...]``."""
        value: Tensor = self.hamiltonian(x)
        return value

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """``(∇_p H | −∇_q H)``; the field does not depend on time."""
        by_q, by_p = halves(self.hamiltonian.gradient(x), None)
        return torch.cat([by_p, -by_q], dim=-1)

    def field_lipschitz(self) -> Tensor | float:
        """``max(|l|, |u|)``."""
        return largest_size(*self.hamiltonian.curvature())

    def rate(self) -> Tensor | float:
        """``−(u − l)/2``."""
        low, high = self.hamiltonian.curvature()
        return -(high - low) / 2

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        """``(1 + 2hm + h²L²)^½`` with ``m = (u − l)/2``, for every h."""
        return moved(step, -self.rate(), self.field_lipschitz())

    @property
    def certified(self) -> bool:
        """Whether the bounds of the Hessian are proved."""
        return self.hamiltonian.certified

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """A random state in float64, standard normal.

        Raises:
            NotImplementedError: where the energy does not say how long a state is.
        """
        length = self.hamiltonian.dim
        if length is None:
            return super().state(generator=generator)
        return torch.randn(4, length, dtype=torch.float64, generator=generator)
