"""The own fields of the library hold what they declare; without a hypothesis of the proof a pair breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics import FIELDS, GradientFlow, PerceptronField, SumField, VectorField, registered_fields
from contractive_gnn.dynamics.spectrum import Spectrum
from contractive_gnn.norms import number
from contractive_gnn.testing import FieldSuite, verify_field

OWN = [name for name in FIELDS if FIELDS.get(name).__module__ == registered_fields.__name__]
TRIES = 2000


# where the largest step is attained: σ has its steepest slope at small states, in every direction
SHARP = {"matrix-flow", "convolution-flow", "sum-of-flows"}


@pytest.mark.parametrize("name", OWN)
class TestRegistered(FieldSuite):
    """The conformance suite, for each of them."""

    tries = TRIES

    @pytest.fixture(autouse=True)
    def _named(self, name: str) -> None:
        self.name, self.sharp = name, name in SHARP

    def make(self) -> VectorField:
        return FIELDS.get(self.name)()


def scaled(method: Callable[..., Any], factor: float) -> Callable[..., Any]:
    return lambda *arguments: factor * method(*arguments)


def monotone_rate(self: GradientFlow) -> float:
    return self.mu


def stretched(self: Spectrum, step: float) -> Tensor:
    return torch.as_tensor(1.0 - step * self.least)  # as if no step were too long


def of_the_norm(self: GradientFlow) -> Spectrum:
    """The lower bound taken for the norm: a flow of an operator that no direction escapes."""
    square = self.operator.squared_norm_bound()
    return Spectrum(self.mu + self.sigma.slopes[0] * square, square + self.mu)


def smallest_step(self: SumField) -> float:
    return min(number(field.max_step()) for field in self.parts())


def largest_alone(self: SumField) -> float:
    return max(number(field.field_lipschitz()) for field in self.parts())


MUTATIONS: dict[str, tuple[str, type, str, Any]] = {
    "step bound times 1.2": ("convolution-flow", Spectrum, "max_step", scaled(Spectrum.max_step, 1.2)),
    "step bound times 1.2 (sum)": ("sum-of-flows", SumField, "max_step", scaled(SumField.max_step, 1.2)),
    "the smallest step for the sum": ("sum-of-flows", SumField, "max_step", smallest_step),
    "slopes below 0 forgotten": ("matrix-flow-redescending", GradientFlow, "rate", monotone_rate),
    "no step is too long": ("matrix-flow", Spectrum, "lipschitz", stretched),
    "the norm for the lower bound": ("matrix-flow-contracting", GradientFlow, "spectrum", of_the_norm),
    "ascent bound times 0.8": (
        "convolution-ascent", GradientFlow, "field_lipschitz", scaled(GradientFlow.field_lipschitz, 0.8)
    ),
    "perceptron's bound times 0.8": (
        "convolution-perceptron", PerceptronField, "field_lipschitz", scaled(PerceptronField.field_lipschitz, 0.8)
    ),
    "the largest summand for the sum": ("sum-of-flows", SumField, "field_lipschitz", largest_alone),
}  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_wrong_condition_is_found(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, owner, attribute, wrong = MUTATIONS[mutation]
    monkeypatch.setattr(owner, attribute, wrong)
    assert verify_field(name, FIELDS.get(name), tries=TRIES).word == "BROKEN"
