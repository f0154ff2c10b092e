r"""Lotka and Volterra's prey and predators, in their numbers and in the logarithms of these."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from contractive_gnn.checks import check_real
from contractive_gnn.datasets.systems.system import SYSTEMS, FloatArray, System
from contractive_gnn.dynamics import Energy, SeparableHamiltonian, VectorField
from contractive_gnn.integrators import Invariant


class ExponentialEnergy(Energy):
    """``E(u) = a u − b eᵘ``, of one coordinate.

    Args:
        linear: a.
        exponential: b.
    """

    dim = 1

    def __init__(self, linear: float, exponential: float) -> None:
        super().__init__()
        self.linear, self.exponential = linear, exponential

    def forward(self, x: Tensor) -> Tensor:
        """``[…, 1] ↦ […]``."""
        return (self.linear * x - self.exponential * x.exp()).sum(dim=-1)

    def gradient(self, x: Tensor) -> Tensor:
        """``a − b eᵘ``."""
        return self.linear - self.exponential * x.exp()

    def extra_repr(self) -> str:
        """The coefficients."""
        return f"linear={self.linear}, exponential={self.exponential}"


class LotkaVolterra(VectorField):
    r"""``ẋ = x(α − βy)``, ``ẏ = y(δx − γ)``, for positive x and y.

    It keeps ``αlog y − βy + γlog x − δx``, and a symplectic form that is not the canonical one, ``dx ∧ dy/(xy)``.
    """

    conserves = frozenset[Invariant]({"energy"})

    def __init__(self, growth: float, predation: float, death: float, gain: float) -> None:
        super().__init__()
        self.growth, self.predation, self.death, self.gain = growth, predation, death, gain

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """``[…, 2] ↦ […, 2]``."""
        prey, predators = x[..., 0], x[..., 1]
        return torch.stack(
            [prey * (self.growth - self.predation * predators), predators * (self.gain * prey - self.death)], dim=-1
        )

    def energy(self, x: Tensor) -> Tensor:
        """``αlog y − βy + γlog x − δx``, ``[…, 2] ↦ […]``."""
        prey, predators = x[..., 0], x[..., 1]
        return self.growth * predators.log() - self.predation * predators + self.death * prey.log() - self.gain * prey

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """Random numbers of prey and predators, around the equilibrium."""
        logarithms = 2 * torch.rand(4, 2, dtype=torch.float64, generator=generator) - 1
        return logarithms.exp() * torch.tensor([self.death / self.gain, self.growth / self.predation]).double()


@SYSTEMS.register("log-lotka-volterra")
def log_lotka_volterra(
    *, growth: float = 1.0, predation: float = 1.0, death: float = 1.0, gain: float = 1.0, reach: float = 1.0
) -> System:
    r"""The logarithms u and v of prey and predators, which are canonical coordinates.

    .. math:: \dot u = \alpha - \beta e^v, \qquad \dot v = \delta e^u - \gamma

    with ``q = u``, ``p = v``, ``T(v) = αv − βeᵛ`` and ``V(u) = γu − δeᵘ``.

    Args:
        growth: α > 0, of the prey.
        predation: β > 0.
        death: γ > 0, of the predators.
        gain: δ > 0.
        reach: r > 0; initial states are uniform in the square of half side r around the equilibrium.
    """
    _check(growth=growth, predation=predation, death=death, gain=gain, reach=reach)
    field = SeparableHamiltonian(ExponentialEnergy(growth, predation), ExponentialEnergy(death, gain))
    centre = np.array([math.log(death / gain), math.log(growth / predation)])

    def draw(generator: np.random.Generator, count: int) -> FloatArray:
        return centre + generator.uniform(-reach, reach, (count, 2))

    return System("log-lotka-volterra", field, ("u", "v"), draw, {"energy": field.energy}, canonical=True)


@SYSTEMS.register("lotka-volterra")
def lotka_volterra(
    *, growth: float = 1.0, predation: float = 1.0, death: float = 1.0, gain: float = 1.0, reach: float = 1.0
) -> System:
    """The numbers x of prey and y of predators: the exponentials of :func:`log_lotka_volterra`, which has the text."""
    _check(growth=growth, predation=predation, death=death, gain=gain, reach=reach)
    field = LotkaVolterra(growth, predation, death, gain)
    centre = np.array([death / gain, growth / predation])

    def draw(generator: np.random.Generator, count: int) -> FloatArray:
        numbers: FloatArray = centre * np.exp(generator.uniform(-reach, reach, (count, 2)))
        return numbers

    return System("lotka-volterra", field, ("prey", "predators"), draw, {"energy": field.energy})


def _check(**numbers: float) -> None:
    for name, value in numbers.items():
        check_real(name, value, above=0)
