"""What is declared to be conserved, broken on purpose: the falsifier must find every fault."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.dynamics import (
    FIELDS,
    CenteredField,
    CouplingField,
    HamiltonianField,
    PerceptronEnergy,
    QuadraticEnergy,
    SeparableHamiltonian,
    ShearField,
    VectorField,
)
from contractive_gnn.dynamics.conservative import EnergyGradient, HalfShear
from contractive_gnn.dynamics.conservative.shear import halves, pushed
from contractive_gnn.integrators import (
    SCHEMES,
    ConvergenceError,
    Invariant,
    MassProjection,
    RungeKutta,
    Scheme,
    SphereProjection,
    Splitting,
    register_scheme,
)
from contractive_gnn.registry import temporary
from contractive_gnn.testing import verify_field
from contractive_gnn.testing.conservation import identities, promises, step_from, stepped

SHEAR, COUPLING, SKEW, MASS = (
    importlib.import_module(f"contractive_gnn.dynamics.conservative.{name}")
    for name in ("shear", "coupling", "skew", "mass")
)


def claims_the_form(self: RungeKutta) -> frozenset[Invariant]:
    return frozenset({"mass", "symplectic"})


def claims_the_norm(self: RungeKutta) -> frozenset[Invariant]:
    return frozenset({"mass", "norm"})


def without_sign(self: EnergyGradient, x: Tensor) -> Tensor:
    return self.energy.gradient(x)


def left_out(self: Scheme, y: Tensor, x: Tensor) -> Tensor:
    return y


def symmetric(matrix: nn.Module, x: Tensor) -> Tensor:
    b = matrix(x)
    return b + b.mT


def with_the_mean(self: CenteredField, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
    return self.field(x, t)


def divided_by_one_more(self: CenteredField, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
    value = self.field(x, t)
    return value - value.sum(dim=-1, keepdim=True) / (value.size(-1) + 1)


def with_its_own_part(force: nn.Module, x: Tensor, t: Tensor | float, *, like: Tensor) -> Tensor:
    return pushed(force, x, t, like=like) + 0.01 * like


def not_across(self: ShearField) -> Tensor:
    return self.push


def all_at_the_start(self: Splitting, field: VectorField, x: Tensor, t: float, h: float, solve: object) -> Tensor:
    moved = x
    for index, share in self.flows(len(field.parts())):
        moved = moved + share * h * field.parts()[index](x, t)
    return moved


def by_its_own_half(self: HalfShear, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
    u, v = halves(x, self.split)
    if self.moves == "first":
        return torch.cat([pushed(self.force, u, t, like=u), torch.zeros_like(v)], dim=-1)
    return torch.cat([torch.zeros_like(u), pushed(self.force, v, t, like=v)], dim=-1)


def both_signs_one(self: HamiltonianField, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
    by_q, by_p = halves(self.hamiltonian.gradient(x), None)
    return torch.cat([by_p, by_q], dim=-1)


def unturned(self: HamiltonianField, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
    return self.hamiltonian.gradient(x)


def another_energy(self: PerceptronEnergy, x: Tensor) -> Tensor:
    return self.operator.adjoint(self.alpha.abs() * self.sigma(self.operator(x) + self.bias))


def no_gradient(self: PerceptronEnergy, x: Tensor) -> Tensor:
    return (self.alpha * self.sigma(self.operator(x) + self.bias)) @ self.operator.weight.flip(0)


def half_of(method: Any) -> Any:
    return lambda *arguments: 0.5 * method(*arguments)


MUTATIONS: dict[str, tuple[str, Any, str, Any, str]] = {
    "Euler taken for symplectic": ("separable-hamiltonian", RungeKutta, "preserves", property(claims_the_form), "kept"),
    "Runge–Kutta taken for a rotation": ("rotation", RungeKutta, "preserves", property(claims_the_norm), "kept"),
    "the sign of the force": ("separable-hamiltonian", EnergyGradient, "forward", without_sign, "conserved"),
    "projection on the sphere left out": ("skew-field", SphereProjection, "project", left_out, "kept"),
    "projection on the mass left out": ("skew-field", MassProjection, "project", left_out, "kept"),
    "symmetric for skew, norm": ("skew-field", SKEW, "skew", symmetric, "conserved"),
    "symmetric for skew, mass": ("mass-field", MASS, "skew", symmetric, "conserved"),
    "the mean is left": ("centred-perceptron", CenteredField, "forward", with_the_mean, "conserved"),
    "the mean of one entry more": ("centred-perceptron", CenteredField, "forward", divided_by_one_more, "conserved"),
    "a part that moves itself": ("coupling-field", COUPLING, "pushed", with_its_own_part, "conserved"),
    "directions that are not across": ("shear-field", ShearField, "directions", property(not_across), "conserved"),
    "directions in a sum": ("sum-of-shears", ShearField, "directions", property(not_across), "conserved"),
    "parts at the step's start": ("separable-hamiltonian", Splitting, "advance", all_at_the_start, "kept"),
    "parts at the start, volume": ("coupling-field", Splitting, "advance", all_at_the_start, "kept"),
    "a half pushed by itself": ("separable-hamiltonian", HalfShear, "forward", by_its_own_half, "kept"),
    "one sign of two, any H": ("hamiltonian-field", HamiltonianField, "forward", both_signs_one, "conserved"),
    "a gradient for a Hamiltonian": ("hamiltonian-field", HamiltonianField, "forward", unturned, "conserved"),
    "the gradient of another energy": ("gradient-modules", PerceptronEnergy, "gradient", another_energy, "conserved"),
    "a force that is no gradient": ("hamiltonian-field", PerceptronEnergy, "gradient", no_gradient, "conserved"),
    "half the growth": (
        "separable-hamiltonian", SeparableHamiltonian, "rate", half_of(SeparableHamiltonian.rate), "rate"
    ),
    "half the constant": (
        "coupling-field", CouplingField, "field_lipschitz", half_of(CouplingField.field_lipschitz), "field"
    ),
    "half the growth of a shear": ("shear-field", ShearField, "rate", half_of(ShearField.rate), "rate"),
}  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_promise_is_found(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, owner, attribute, wrong, kind = MUTATIONS[mutation]
    monkeypatch.setattr(owner, attribute, wrong)
    verdict = verify_field(name, FIELDS.get(name), tries=400)
    assert verdict.word == "BROKEN"
    broken = {claim.kind: finding.value for claim, finding in reversed(verdict.broken)}
    assert kind in broken
    print(f"{mutation}: {broken}")


def test_a_scheme_of_ones_own_is_tried_where_it_promises() -> None:
    class Forgetful(SphereProjection):
        def project(self, y: Tensor, x: Tensor) -> Tensor:
            return y

    with temporary():
        register_scheme(Forgetful(name="forgetful-of-a-test"))
        verdict = verify_field("skew-field", FIELDS.get("skew-field"), tries=100)
    assert {claim.what for claim, _ in verdict.broken} == {"forgetful-of-a-test keeps: norm"}
    assert verify_field("skew-field", FIELDS.get("skew-field"), tries=100).word == "holds"


def test_what_is_tried_of_a_hamiltonian_field() -> None:
    field = FIELDS.get("separable-hamiltonian")()
    assert [what.split(":")[0] for what, _ in identities(field)] == [
        "keeps the energy",
        "keeps the volume",
        "keeps dq ∧ dp",
    ]
    kept = {what.split(" keeps: ")[0]: what.split(" keeps: ")[1] for what, _ in promises(field)}
    assert kept["stormer-verlet"] == kept["implicit-midpoint"] == "symplectic, volume"
    assert "rk4" not in kept
    assert list(promises(FIELDS.get("perceptron")())) == []


class Odd(VectorField):
    """Calls itself symplectic in three dimensions."""

    conserves = frozenset[Invariant]({"symplectic"})

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        return torch.zeros_like(x)

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(3, dtype=torch.float64, generator=generator)


def test_no_form_lives_on_an_odd_number_of_entries() -> None:
    verdict = verify_field("odd", Odd, tries=20)
    assert verdict.word == "BROKEN"
    assert verdict.broken[0][0].what.startswith("keeps dq ∧ dp")


class Steep(VectorField):
    """Flat where one looks, and too steep beside it for any step of those that are tried."""

    conserves = frozenset[Invariant]({"mass"})

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        push = 1.0 + 1e9 * torch.relu(x[..., :1] - 0.3)
        return torch.cat([push, -push], dim=-1)


def test_an_implicit_step_that_is_never_solved_says_so() -> None:
    x = torch.tensor([0.3, 0.4], dtype=torch.float64)
    assert step_from(Steep(), x, 0.0) == 1.0  # its derivative is 0
    midpoint = SCHEMES.get("implicit-midpoint")
    with pytest.raises(ConvergenceError, match="implicit midpoint"):
        stepped(Steep(), x, 0.0, scheme=midpoint, kept=frozenset({"mass"}))
    turn = SeparableHamiltonian(QuadraticEnergy(torch.eye(1)), QuadraticEnergy(torch.eye(1))).double()
    assert stepped(turn, x, 0.0, scheme=midpoint, kept=frozenset({"symplectic", "volume", "norm"})) < 1e-13
    assert stepped(turn, x, 0.0, scheme=SCHEMES.get("rk4"), kept=frozenset({"norm"})) > 1e-8
