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
    Dynamics,
    HamiltonianField,
    HamiltonianFlow,
    PerceptronEnergy,
    QuadraticEnergy,
    SeparableHamiltonian,
    ShearField,
    VectorField,
)
from contractive_gnn.dynamics.conservative import EnergyGradient, HalfShear
from contractive_gnn.dynamics.conservative.shear import halves, pushed
from contractive_gnn.graph import Graph
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
from contractive_gnn.testing import claims, verify_field, verify_one
from contractive_gnn.testing.conservation import directions, identities, promises, step_from, stepped
from contractive_gnn.testing.graphs import cycle

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


def left_out(self: Scheme, y: Tensor, x: Tensor, dim: tuple[int, ...]) -> Tensor:
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
        def project(self, y: Tensor, x: Tensor, dim: tuple[int, ...]) -> Tensor:
            return y

    with temporary():
        register_scheme(Forgetful(name="forgetful-of-a-test"))
        verdict = verify_field("skew-field", FIELDS.get("skew-field"), tries=100)
    assert {claim.what for claim, _ in verdict.broken} == {"forgetful-of-a-test keeps: norm"}
    assert verify_field("skew-field", FIELDS.get("skew-field"), tries=100).word == "holds"


def test_what_is_tried_of_a_hamiltonian_field() -> None:
    field = FIELDS.get("separable-hamiltonian")()
    assert [what.split(":")[0] for what, _ in identities(field)] == [
        "is the sum of its parts",
        "keeps the energy",
        "keeps the volume",
        "keeps dq ∧ dp",
    ]
    kept = dict(what.split(" keeps: ") for what, _ in promises(field))
    assert "stormer-verlet follows the field" in [what for what, _ in directions(field)]
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


class Sink(VectorField):
    """Keeps nothing, whatever it declares."""

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        return -x

    def energy(self, x: Tensor) -> Tensor:
        return x.square().sum(dim=-1)

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(4, 3, dtype=torch.float64, generator=generator)


class AlongTheWrongAxis(Sink):
    """One sum for a column of all samples, where each sample has to have its own."""

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        return x - x.mean(dim=-2, keepdim=True)


class BetweenSamples(Sink):
    """Turns two samples into each other: the norm of both together stays."""

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        return torch.stack([x[1], -x[0], x[3], -x[2]])


@pytest.mark.parametrize(
    ("field", "kept"),
    [(Sink, "mass"), (Sink, "energy"), (Sink, "volume"), (AlongTheWrongAxis, "mass"), (BetweenSamples, "norm")],
)
def test_each_sample_has_an_invariant_of_its_own(field: type[Sink], kept: Invariant) -> None:
    own = type("Own", (field,), {"conserves": frozenset({kept})})
    assert verify_field("own", own, tries=40).word == "BROKEN"
    if field is not Sink:  # all samples together keep it
        whole = type("Whole", (own,), {"invariant_axes": (-2,) if kept == "mass" else (-2, -1)})
        assert verify_field("whole", whole, tries=40).word == "holds"


def test_what_cannot_be_tried_is_refused() -> None:
    strange = type("Strange", (Sink,), {"conserves": frozenset({"volumne"})})
    with pytest.raises(ValueError, match="'volumne', which nothing here can try; a flow may keep mass, norm"):
        verify_field("strange", strange, tries=20)
    silent = type("Silent", (Sink,), {"conserves": frozenset({"energy"}), "energy": VectorField.energy})
    with pytest.raises(NotImplementedError, match="Silent must define energy"):
        verify_field("silent", silent, tries=20)


class Mixing(Dynamics):
    """Moves one channel into the other one: the sum of both stays, of neither."""

    norm, conserves, anchor_lipschitz = "l2", frozenset[Invariant]({"mass"}), 0.0

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        return torch.stack([-x[:, 0], x[:, 0]], dim=1)

    def rate(self, graph: Graph) -> float:
        return -2.0

    def max_step(self, graph: Graph) -> float:
        return 0.0


class Losing(Mixing):
    """Says which energy it keeps, and does not."""

    conserves = frozenset[Invariant]({"energy"})

    def energy(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None) -> Tensor:
        return x.square().sum()


@pytest.mark.parametrize("dynamics", [Mixing, Losing])
def test_channels_and_energies_on_a_graph_are_tried(dynamics: type[Mixing]) -> None:
    assert "conserved" in {claim.kind for claim, _ in verify_one("own", dynamics, tries=40).broken}
    assert [claim.what for claim, _ in claims(HamiltonianFlow(2).double(), cycle(5)) if "energy" in claim.what]


class LostSign(SeparableHamiltonian):
    """The force of its second part has the wrong sign; that of the field is right."""

    def parts(self) -> tuple[VectorField, ...]:
        return super().parts()[0], HalfShear(EnergyGradient(self.potential), moves="second")


def test_parts_are_the_field() -> None:
    verdict = verify_field("lost", lambda: LostSign(QuadraticEnergy(torch.eye(1)), PerceptronEnergy(1, 4)), tries=100)
    assert "is the sum of its parts: ΣX_i = X" in {claim.what for claim, _ in verdict.broken}


class Lazy(Scheme):
    """Stands still, which keeps everything."""

    name, order, preserves = "lazy-of-a-test", 8, frozenset[Invariant]({"mass", "norm", "symplectic", "energy"})

    def advance(self, field: Any, x: Tensor, t: Any, h: Any, solve: Any) -> Tensor:
        return x


class Overcorrected(SphereProjection):
    """Keeps the energy of the spring by going nowhere near the flow: half of the way."""

    def advance(self, field: Any, x: Tensor, t: Any, h: Any, solve: Any) -> Tensor:
        return super().advance(field, x, t, h / 2, solve)


@pytest.mark.parametrize(
    ("scheme", "field"), [(Lazy(), "separable-hamiltonian"), (Overcorrected(name="over-of-a-test"), "skew-field")]
)
def test_a_scheme_that_goes_elsewhere_is_found(scheme: Scheme, field: str) -> None:
    with temporary():
        register_scheme(scheme)
        verdict = verify_field(field, FIELDS.get(field), tries=100)
    assert {claim.what for claim, _ in verdict.broken} == {f"{scheme.name} follows the field"}


def test_an_energy_that_a_scheme_promises_is_tried() -> None:
    class Careless(RungeKutta):
        preserves = frozenset[Invariant]({"energy"})

    with temporary():
        register_scheme(Careless("careless-of-a-test", 1, ((0.0,),), (1.0,), 0.0, 0.0))
        verdict = verify_field("spring", FIELDS.get("separable-hamiltonian"), tries=100)
    assert {claim.what for claim, _ in verdict.broken} == {"careless-of-a-test keeps: energy"}


def test_an_implicit_step_that_is_never_solved_says_so() -> None:
    x = torch.tensor([0.3, 0.4], dtype=torch.float64)
    assert step_from(Steep(), x, 0.0) == 1.0  # its derivative is 0
    midpoint = SCHEMES.get("implicit-midpoint")
    with pytest.raises(ConvergenceError, match="implicit midpoint"):
        stepped(Steep(), x, 0.0, scheme=midpoint, kept=frozenset({"mass"}))
    turn = SeparableHamiltonian(QuadraticEnergy(torch.eye(1)), QuadraticEnergy(torch.eye(1))).double()
    assert stepped(turn, x, 0.0, scheme=midpoint, kept=frozenset({"symplectic", "volume", "norm"})) < 1e-13
    assert stepped(turn, x, 0.0, scheme=SCHEMES.get("rk4"), kept=frozenset({"norm"})) > 1e-8
