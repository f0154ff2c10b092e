"""Hamiltonian fields: what their schemes keep, and constants that are attained."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics import (
    Energy,
    HamiltonianField,
    PerceptronEnergy,
    QuadraticEnergy,
    SeparableHamiltonian,
)
from contractive_gnn.integrators import SCHEMES
from contractive_gnn.nn import Flow
from contractive_gnn.norms import lipschitz_at, log_norm_at, number
from contractive_gnn.testing import violations


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def quadratic(*diagonal: float) -> QuadraticEnergy:
    return QuadraticEnergy(torch.diag(torch.tensor(diagonal, dtype=torch.float64)))


def separable() -> SeparableHamiltonian:
    torch.manual_seed(0)
    return SeparableHamiltonian(PerceptronEnergy(2, 6), PerceptronEnergy(2, 6)).double()


class Both(Energy):
    """``T(p) + V(q)`` as one energy."""

    dim = 4

    def __init__(self, field: SeparableHamiltonian) -> None:
        super().__init__()
        self.kinetic, self.potential = field.kinetic, field.potential

    def forward(self, x: Tensor) -> Tensor:
        q, p = x.chunk(2, dim=-1)
        value: Tensor = self.kinetic(p) + self.potential(q)
        return value


def test_one_hamiltonian_in_two_ways_is_one_field() -> None:
    field = separable()
    whole, x = HamiltonianField(Both(field)), draw(5, 4)
    torch.testing.assert_close(whole(x), field(x))
    torch.testing.assert_close(whole.energy(x), field.energy(x))
    assert whole.parts() == (whole,)


SYMPLECTIC = ("symplectic-euler", "stormer-verlet", "lie-trotter", "strang", "implicit-midpoint")


def test_symplectic_schemes_say_so_and_are() -> None:
    field, x = separable(), draw(4, 4)
    promising = [name for name in SCHEMES if "symplectic" in SCHEMES.get(name).keeps(field)]
    assert set(promising) >= set(SYMPLECTIC)
    for name in promising:
        found = violations(field, x, of=["symplectic", "volume", "energy"], step=0.2, num_steps=40, scheme=name)
        assert max(found["symplectic"], found["volume"]) < 1e-12, name
        assert found["energy"] > 1e-9, f"{name} does not keep the energy to rounding"


@pytest.mark.parametrize("name", ["euler", "heun", "rk4", "implicit-euler"])
def test_other_schemes_do_not_say_so_and_are_not(name: str) -> None:
    field, x = separable(), draw(4, 4)
    assert not SCHEMES.get(name).keeps(field) & {"symplectic", "volume"}
    found = violations(field, x, of=["symplectic", "volume"], step=0.2, num_steps=40, scheme=name)
    assert found["symplectic"] > 1e-7
    assert found["volume"] > 1e-7


def test_no_form_is_kept_where_the_equation_is_not_solved() -> None:
    """The edge of the midpoint rule's promise: its tolerance."""
    whole, x = HamiltonianField(Both(separable())), draw(4, 4)
    for tolerance, within in ((1e-4, False), (None, True)):
        found = violations(
            whole, x, of=["symplectic"], step=0.2, num_steps=10, scheme="implicit-midpoint", tolerance=tolerance
        )
        assert (found["symplectic"] < 1e-12) == within


def test_the_growth_of_a_separable_field_is_attained() -> None:
    field = SeparableHamiltonian(quadratic(1.0, 2.0), quadratic(5.0, -3.0))
    x = draw(4)
    assert -number(field.rate()) == pytest.approx(2.5)  # (2 + 3)/2, of the second degree of freedom
    assert log_norm_at(field, x, norm="l2") == pytest.approx(2.5)
    assert number(field.field_lipschitz()) == pytest.approx(lipschitz_at(field, x, norm="l2")) == pytest.approx(5.0)
    for h in (0.1, 1.0):
        assert lipschitz_at(lambda y, h=h: y + h * field(y), x, norm="l2") <= number(field.lipschitz(h)) + 1e-12


def test_the_growth_of_any_field_is_attained() -> None:
    field = HamiltonianField(quadratic(5.0, -1.0))
    x = draw(2)
    assert -number(field.rate()) == pytest.approx(3.0) == pytest.approx(log_norm_at(field, x, norm="l2"))
    assert number(field.field_lipschitz()) == pytest.approx(5.0)
    turn = HamiltonianField(quadratic(1.0, 1.0))
    assert number(turn.rate()) == pytest.approx(0.0, abs=1e-12)  # a rotation grows nothing
    assert number(turn.lipschitz(0.5)) == pytest.approx(math.sqrt(1.25))


def test_nothing_is_known_of_an_energy_without_bounds() -> None:
    whole = HamiltonianField(Both(separable()))
    assert whole.rate() == -math.inf
    assert whole.lipschitz(0.1) == whole.field_lipschitz() == math.inf
    field = SeparableHamiltonian(quadratic(1.0), Quartic())
    assert number(field.rate()) == -math.inf
    assert field.lipschitz(0.1) == field.field_lipschitz() == math.inf
    with pytest.raises(ValueError, match="no contractive step"):
        Flow(whole, num_steps=2)(draw(3, 4))


class Quartic(Energy):
    def forward(self, x: Tensor) -> Tensor:
        return (x**4).sum(dim=-1)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 2 momenta, the potential 3 positions"):
        SeparableHamiltonian(quadratic(1.0, 1.0), quadratic(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="the energy takes 3 of both"):
        HamiltonianField(quadratic(1.0, 1.0, 1.0))
    with pytest.raises(TypeError, match="potential must be an energy"):
        SeparableHamiltonian(quadratic(1.0), torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="even last axis"):
        HamiltonianField(Quartic())(draw(4, 3))
    with pytest.raises(NotImplementedError, match=r"must define state\(\)"):
        HamiltonianField(Quartic()).state()
    with pytest.raises(NotImplementedError, match=r"must define state\(\)"):
        SeparableHamiltonian(Quartic(), Quartic()).state()
    with pytest.raises(ValueError, match="stormer-verlet needs"):
        Flow(HamiltonianField(Quartic()), step=0.1, scheme="stormer-verlet", constrained=False)
