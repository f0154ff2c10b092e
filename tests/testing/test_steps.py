"""What is measured of steps: known values, and what cannot be measured."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics import (
    ConstantMatrix,
    Diffusion,
    MassField,
    PerceptronMatrix,
    QuadraticEnergy,
    SeparableHamiltonian,
    SkewField,
    VectorField,
)
from contractive_gnn.dynamics.pdes import FiniteDifferences, advection, untrained_network
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import Invariant
from contractive_gnn.testing import sample_jacobians, symplectic_defect, violations, volume_defect
from contractive_gnn.testing.steps import CHUNK, drift


def spring() -> SeparableHamiltonian:
    one = torch.eye(1, dtype=torch.float64)
    return SeparableHamiltonian(QuadraticEnergy(one), QuadraticEnergy(one))


def start(*numbers: float) -> Tensor:
    return torch.tensor([numbers], dtype=torch.float64)


def test_a_spring_by_euler_grows_by_one_plus_h_squared() -> None:
    h = 0.1
    found = violations(
        spring(), start(1.0, 0.0), of=["volume", "symplectic", "norm", "energy"], step=h, num_steps=3, scheme="euler"
    )
    assert found["volume"] == pytest.approx(h**2)
    assert found["symplectic"] == pytest.approx(h**2)  # MᵀJM = det(M) J in the plane
    assert found["norm"] == pytest.approx((1 + h**2) ** 1.5 - 1)
    assert found["energy"] == pytest.approx(0.5 * ((1 + h**2) ** 3 - 1))  # of 1/2: not above 1, so absolute


def test_the_form_and_the_volume_are_two_things() -> None:
    """In four dimensions a map may keep the volume and not the form."""
    stretch = torch.diag(torch.tensor([2.0, 0.5, 1.0, 1.0], dtype=torch.float64))
    assert float(volume_defect(stretch)) == 0
    assert float(symplectic_defect(stretch)) == pytest.approx(1.0)
    canonical = torch.diag(torch.tensor([2.0, 1.0, 0.5, 1.0], dtype=torch.float64))
    assert float(symplectic_defect(canonical)) == 0
    assert symplectic_defect(torch.stack([stretch, canonical])).shape == (2,)


def test_a_sample_of_a_grid_is_the_whole_grid() -> None:
    moved = FiniteDifferences(advection((6, 5), speed=(1.0, 0.5), spacing=0.2), dtype=torch.float64)
    u = torch.rand(3, 1, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    options = {"of": ["mass", "norm", "volume"], "step": 0.01, "num_steps": 20}
    found = violations(moved, u, scheme="implicit-midpoint", **options)
    assert max(found.values()) < 1e-12
    lost = violations(moved, u, scheme="euler", **options)
    assert lost["mass"] < 1e-13
    assert min(lost["norm"], lost["volume"]) > 1e-3
    with pytest.raises(ValueError, match="the form is that of vectors"):
        violations(moved, u, of=["symplectic"], step=0.01, num_steps=1, scheme="euler")
    with pytest.raises(ValueError, match="set the field's invariant_axes"):
        violations(untrained_network((6, 5)).double(), u, of=["norm"], step=0.01, num_steps=1, scheme="euler")


@pytest.mark.parametrize("name", ["mass", "norm", "energy", "volume", "symplectic"])
def test_what_is_not_finite_keeps_nothing(name: Invariant) -> None:
    found = violations(spring(), start(math.nan, 1.0), of=[name], step=0.1, num_steps=2, scheme="strang")
    assert found[name] == math.inf


def test_more_steps_than_a_chunk_are_all_measured() -> None:
    """The last step counts, wherever the chunks end."""
    for count in (1, CHUNK - 1, CHUNK, CHUNK + 1):
        found = violations(spring(), start(1.0, 0.0), of=["norm"], step=1e-3, num_steps=count, scheme="euler")
        assert found["norm"] == pytest.approx((1 + 1e-6) ** (count / 2) - 1)
    found = violations(spring(), start(1.0, 0.0), of=["volume"], step=0.1, num_steps=CHUNK + 1, scheme="stormer-verlet")
    assert found["volume"] < 1e-14


def test_every_sample_is_measured() -> None:
    matrix = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    field, states = SkewField(ConstantMatrix(matrix)), torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    found = violations(field, states, of=["norm"], step=0.1, num_steps=1, scheme="euler")
    assert found["norm"] == pytest.approx(math.sqrt(1.01) - 1)
    assert violations(field, states, of=["norm"], step=0.1, num_steps=50, scheme="sphere-projection")["norm"] < 1e-14


def test_mass_is_relative_to_the_sizes_of_the_entries() -> None:
    states, begin = torch.tensor([[100.0, -98.0]]), torch.tensor([[100.0, -99.0]])
    assert float(drift(spring(), "mass", states, begin)) == pytest.approx(1 / 199)
    torch.manual_seed(0)
    field = MassField(PerceptronMatrix(3, 8)).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    assert violations(field, x, of=["mass"], step=0.05, num_steps=200, scheme="rk4")["mass"] < 1e-13
    assert violations(field, x, of=["norm"], step=0.05, num_steps=200, scheme="rk4")["norm"] > 1e-3


def test_a_state_that_overflows_keeps_nothing() -> None:
    found = violations(spring(), start(1.0, 0.0), of=["norm"], step=1e200, num_steps=4, scheme="euler")
    assert found["norm"] == math.inf


def test_jacobians_of_samples() -> None:
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    found = sample_jacobians(lambda y: y.square() + y.roll(1, dims=-1), x)
    assert found.shape == (2, 3, 4, 4)
    shift = torch.eye(4, dtype=torch.float64).roll(1, dims=0)
    torch.testing.assert_close(found, torch.diag_embed(2 * x) + shift)


class Late(VectorField):
    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        return (1 + t) * x


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="depends on time"):
        violations(Late(), start(1.0, 0.0), of=["volume"], step=0.1, num_steps=3, scheme="euler")
    x = torch.zeros(2, 2, dtype=torch.float64)
    on_graph = Diffusion().on(Graph.of(x, torch.tensor([[0, 1], [1, 0]])), x)
    with pytest.raises(TypeError, match="moves all nodes of its graph as one"):
        violations(on_graph, x, of=["mass"], step=0.1, num_steps=3, scheme="euler")
    with pytest.raises(NotImplementedError, match=r"Late must define energy\(x\)"):
        violations(Late(), start(1.0, 0.0), of=["energy"], step=0.1, num_steps=3, scheme="euler")
    with pytest.raises(ValueError, match="square matrices of an even size, got shape \\[3, 3\\]"):
        symplectic_defect(torch.eye(3))
    with pytest.raises(ValueError, match="a state has a mass, a norm and an energy, got 'volume'"):
        drift(spring(), "volume", start(1.0, 0.0), start(1.0, 0.0))
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        violations(spring(), start(1.0, 0.0), of=["norm"], step=0.1, num_steps=0, scheme="euler")
