"""What fields keep after a short training, over ten thousand steps; a plain network beside each does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.dynamics import (
    CenteredField,
    CouplingField,
    HamiltonianField,
    MassField,
    PerceptronEnergy,
    PerceptronField,
    PerceptronMatrix,
    QuadraticEnergy,
    SeparableHamiltonian,
    ShearField,
    SkewField,
    SumField,
    VectorField,
)
from contractive_gnn.dynamics.layer import Layer
from contractive_gnn.integrators import Invariant, integrate
from contractive_gnn.nn import Flow
from contractive_gnn.operators import Dense
from contractive_gnn.testing import violations

STEP = 0.1
DRIFT, LOCAL = 1e-12, 1e-12


def drawn(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) / shape[-1] ** 0.5)


def perceptron(dim: int) -> PerceptronField:
    return PerceptronField(Dense(drawn(8, dim)), "tanh", outer=Dense(drawn(8, dim)), bias=drawn(8))


def epidemic(x: Tensor, t: Tensor | float) -> Tensor:
    susceptible, infected, _ = x.unbind(dim=-1)
    caught, cured = 2.0 * susceptible * infected, 0.5 * infected
    return torch.stack([-caught, caught - cured, cured], dim=-1)


def body(x: Tensor, t: Tensor | float) -> Tensor:
    return torch.linalg.cross(x, x / x.new_tensor([1.0, 2.0, 3.0]))


def pendulum(x: Tensor, t: Tensor | float) -> Tensor:
    q, p = x.chunk(2, dim=-1)
    return torch.cat([p, -q.sin()], dim=-1)


def vortices(x: Tensor, t: Tensor | float) -> Tensor:
    """Without divergence, in three dimensions (Arnold, Beltrami and Childress)."""
    a, b, c = x.unbind(dim=-1)
    return torch.stack([c.sin() + b.cos(), a.sin() + c.cos(), b.sin() + a.cos()], dim=-1) / 2


def coupling() -> CouplingField:
    return CouplingField(
        Layer(Dense(drawn(1, 1)), "tanh", bias=drawn(1)), Layer(Dense(drawn(1, 1)), "tanh", bias=drawn(1))
    )


def normal(count: int, dim: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, dim, dtype=torch.float64, generator=generator)


def shares(count: int, dim: int, generator: torch.Generator) -> Tensor:
    """Of a population: not negative, of sum 1."""
    x = torch.rand(count, dim, dtype=torch.float64, generator=generator)
    return x / x.sum(dim=-1, keepdim=True)


@dataclass(frozen=True)
class Case:
    """A field to train, on what, and what its scheme keeps over how many steps of how many orbits."""

    make: Callable[[], VectorField]
    truth: Callable[[Tensor, Tensor | float], Tensor]
    keeps: tuple[Invariant, ...]
    scheme: str
    dim: int
    steps: int = 10_000
    orbits: int = 1
    tolerance: float | None = None
    start: Callable[[int, int, torch.Generator], Tensor] = normal


def spring_and_more() -> SeparableHamiltonian:
    return SeparableHamiltonian(QuadraticEnergy(drawn(1, 1)), PerceptronEnergy(1, 8))


CASES = {
    "mass": Case(lambda: MassField(PerceptronMatrix(3, 8)), epidemic, ("mass",), "heun", 3, start=shares),
    "mass, centred": Case(lambda: CenteredField(perceptron(3)), epidemic, ("mass",), "heun", 3, start=shares),
    "norm": Case(lambda: SkewField(PerceptronMatrix(3, 8)), body, ("norm",), "sphere-projection", 3),
    "volume": Case(coupling, pendulum, ("volume",), "strang", 2),
    # the implicit step of a learned field, and two splittings of many parts: as many steps, of many orbits at once
    "volume, in three dimensions": Case(
        lambda: SumField(*(ShearField(3) for _ in range(6))), vortices, ("volume",), "strang", 3, 200, 50
    ),
    "symplectic form": Case(spring_and_more, pendulum, ("symplectic", "volume"), "stormer-verlet", 2),
    "symplectic form, any H": Case(
        lambda: HamiltonianField(PerceptronEnergy(2, 8)),
        pendulum,
        ("symplectic", "volume"),
        "implicit-midpoint",
        2,
        200,
        50,
        1e-15,
    ),
}


def trained(field: VectorField, case: Case, scheme: str) -> VectorField:
    """The field after a short training on pairs of states, one step apart."""
    generator = torch.Generator().manual_seed(1)
    layer = Flow(field, step=STEP, num_steps=1, constrained=False, scheme=scheme).double()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    for _ in range(60):
        x = case.start(64, case.dim, generator)
        y = integrate(case.truth, x, step=STEP, num_steps=1, scheme="rk4")
        loss = (layer(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    field.requires_grad_(False)
    return field


@pytest.mark.parametrize("name", CASES)
def test_ten_thousand_steps_after_training(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    field = trained(case.make(), case, case.scheme)
    plain = trained(perceptron(case.dim), case, "euler")
    x = case.start(case.orbits, case.dim, torch.Generator().manual_seed(2))
    found = violations(
        field, x, of=case.keeps, step=STEP, num_steps=case.steps, scheme=case.scheme, tolerance=case.tolerance
    )
    beside = violations(plain, x, of=case.keeps, step=STEP, num_steps=case.steps, scheme="euler")
    print(f"{name}: {found}; a plain network {beside}")
    for invariant, value in found.items():
        assert value <= (DRIFT if invariant in ("mass", "norm") else LOCAL)
        assert beside[invariant] > 1e-3
