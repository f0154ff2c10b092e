"""The energy of Hénon and Heiles's system: within a band by a symplectic scheme, and drifting by an explicit one."""

from __future__ import annotations

import torch
from torch import Tensor

from contractive_gnn.dynamics import Energy, QuadraticEnergy, SeparableHamiltonian
from contractive_gnn.integrators import trajectory

STEP, STEPS, ENERGY = 0.2, 2000, 1 / 12


class Cubic(Energy):
    """``|q|²/2 + q₁²q₂ − q₂³/3``."""

    dim = 2

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.unbind(dim=-1)
        return x.square().sum(dim=-1) / 2 + a.square() * b - b**3 / 3

    def gradient(self, x: Tensor) -> Tensor:
        a, b = x.unbind(dim=-1)
        return torch.stack([a + 2 * a * b, b + a.square() - b.square()], dim=-1)


def errors(scheme: str) -> Tensor:
    """``|H(x_k) − H(x_0)|``, ``[steps, orbits]``, of orbits through ``q₁ = 0``."""
    field = SeparableHamiltonian(QuadraticEnergy(torch.eye(2, dtype=torch.float64)), Cubic())
    position, momentum = torch.tensor([[-0.2, 0.0, 0.1, 0.3], [0.1, 0.2, -0.1, 0.0]], dtype=torch.float64)
    nothing = torch.zeros_like(position)
    q = torch.stack([nothing, position], dim=-1)
    first = (2 * (ENERGY - field.potential(q)) - momentum.square()).sqrt()
    start = torch.cat([q, torch.stack([first, momentum], dim=-1)], dim=-1)
    torch.testing.assert_close(field.energy(start), torch.full((4,), ENERGY, dtype=torch.float64))
    states = torch.stack(list(trajectory(field, start, step=STEP, num_steps=STEPS, scheme=scheme)))
    return (field.energy(states) - ENERGY).abs()[1:]


def test_verlet_stays_within_its_band_and_runge_kutta_leaves_it() -> None:
    tenth = STEPS // 10
    verlet, runge_kutta = errors("stormer-verlet"), errors("rk4")
    for found in (verlet, runge_kutta):
        assert bool(torch.isfinite(found).all())
    assert bool((verlet.max(dim=0).values < 1.5e-3).all())
    assert bool((verlet[-tenth:].max(dim=0).values < 1.1 * verlet[:tenth].max(dim=0).values).all())
    assert float(verlet.max()) > 1e-4  # the band is not rounding
    assert bool((runge_kutta[-tenth:].max(dim=0).values > 7 * runge_kutta[:tenth].max(dim=0).values).all())
    means = torch.stack([block.mean(dim=0) for block in runge_kutta.split(tenth)])
    assert bool((means.diff(dim=0) > 0).all())
