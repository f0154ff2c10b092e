"""Gradient fields: their constants hold, and one step is invertible exactly as far as it is said to be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.dynamics import Energy, GradientField, PerceptronEnergy, QuadraticEnergy
from contractive_gnn.integrators import integrate
from contractive_gnn.norms import jacobian, lipschitz_at, log_norm_at, number
from contractive_gnn.operators import Dense
from contractive_gnn.testing import FieldSuite, verify_field


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def perceptron(seed: int = 0, dim: int = 3, width: int = 6) -> PerceptronEnergy:
    torch.manual_seed(seed)
    return PerceptronEnergy(dim, width).double()


class Steep(Energy):
    """Nothing is known of its Hessian."""

    dim = 2

    def forward(self, x: Tensor) -> Tensor:
        return x.square().sum(dim=-1).square()


class TestAscent(FieldSuite):
    """Of either sign: it expands and contracts."""

    def make(self) -> GradientField:
        return GradientField(PerceptronEnergy(3, 5))


class TestDescent(FieldSuite):
    """A convex bowl: its descent contracts, and the largest step is the largest."""

    sharp = True

    def make(self) -> GradientField:
        return GradientField(QuadraticEnergy(torch.diag(torch.tensor([0.5, 1.0, 3.0]))), descent=True)


@pytest.mark.parametrize("descent", [False, True])
def test_its_constants_hold(descent: bool) -> None:
    for seed in range(4):
        field = GradientField(perceptron(seed), descent=descent)
        x = draw(3, seed=seed)
        assert log_norm_at(field, x, norm="l2") <= -number(field.rate()) + 1e-12
        assert lipschitz_at(field, x, norm="l2") <= number(field.field_lipschitz()) + 1e-12
        for h in (0.1, 3.0):
            step = lipschitz_at(lambda y, h=h, field=field: y + h * field(y), x, norm="l2")
            assert step <= number(field.lipschitz(h)) + 1e-12


def test_a_descent_has_the_signs_of_the_ascent_turned() -> None:
    energy = QuadraticEnergy(torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64)))
    up, down = GradientField(energy), GradientField(energy, descent=True)
    assert number(up.rate()) == pytest.approx(-3.0)
    assert number(up.max_step()) == 0.0
    assert number(down.rate()) == pytest.approx(1.0)
    assert number(down.max_step()) == pytest.approx(2 / 4)
    assert number(down.lipschitz(1.0)) == pytest.approx(2.0)
    x = draw(5, 2)
    assert torch.equal(down(x), -up(x))


def test_a_shorter_step_is_invertible_and_a_longer_one_turns_back() -> None:
    """Along an axis the step ``x − h tanh x`` has the slope 1 − h at 0: beyond h = 1 three points have one image."""
    energy = PerceptronEnergy(2, 2).double()
    with torch.no_grad():
        energy.operator.weight.copy_(torch.eye(2))
        energy.alpha.copy_(torch.tensor([-1.0, 5.0]))  # the second one expands, as far as it likes
        energy.bias.zero_()
    field = GradientField(energy)
    longest = number(field.invertible_step())
    assert longest == pytest.approx(1.0)
    assert longest * number(field.field_lipschitz()) == pytest.approx(5.0)  # no contraction argument reaches it
    line = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    x = torch.stack([line, torch.zeros_like(line)], dim=1)
    for h, folds in ((0.99 * longest, False), (1.5 * longest, True)):
        moved = (x + h * field(x))[:, 0]
        assert bool((moved.diff() < 0).any()) is folds
        assert (number(torch.linalg.det(jacobian(lambda y, h=h: y + h * field(y), x[3000]))) < 0) is folds


@pytest.mark.parametrize("seed", range(3))
def test_every_step_below_it_keeps_the_orientation_and_has_a_symmetric_jacobian(seed: int) -> None:
    field = GradientField(perceptron(seed, dim=2))
    h = 0.99 * number(field.invertible_step())
    for x in draw(50, 2, seed=seed):
        matrix = jacobian(lambda y: y + h * field(y), x)
        torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-12)
        assert number(torch.linalg.eigvalsh(matrix)[0]) > 0


def test_neither_two_steps_nor_the_flow_of_one_field_are_gradients() -> None:
    first, second = (GradientField(perceptron(seed, dim=2)) for seed in (0, 1))
    x = draw(2)

    def asymmetry(matrix: Tensor) -> float:
        return number((matrix - matrix.T).norm() / matrix.norm())

    def two(y: Tensor) -> Tensor:
        y = y + 0.5 * first(y)
        return y + 0.5 * second(y)

    def flow(y: Tensor) -> Tensor:
        return integrate(first, y, step=0.02, num_steps=100, scheme="rk4")

    assert asymmetry(jacobian(lambda y: y + 0.5 * first(y), x)) < 1e-14
    assert asymmetry(jacobian(two, x)) > 1e-3
    assert asymmetry(jacobian(flow, x)) > 1e-3


def ends(field: GradientField) -> list[float]:
    low, high = field.potential.curvature()
    return [number(low), number(high)]


#: of a descent or an ascent
MUTATIONS: dict[str, tuple[bool, str, Callable[[GradientField], object]]] = {
    "the signs of a descent for an ascent": (False, "curvature", lambda field: (-ends(field)[1], -ends(field)[0])),
    "what expands is forgotten": (False, "rate", lambda field: 0.0),
    "0.8 of the constant": (False, "field_lipschitz", lambda field: 0.8 * max(map(abs, ends(field)))),
    "1.2 of the largest step": (True, "max_step", lambda field: 1.2 * 2 / sum(ends(field))),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_wrong_condition_is_found(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    descent, name, wrong = MUTATIONS[mutation]

    def make() -> GradientField:
        bowl = torch.diag(torch.tensor([0.5 if descent else -0.5, 1.0, 2.0]))
        return GradientField(QuadraticEnergy(bowl), descent=descent)

    assert verify_field("bowl", make, tries=800).word == "holds"
    monkeypatch.setattr(GradientField, name, wrong)
    assert verify_field("bowl", make, tries=800).word == "BROKEN"


def test_of_an_unknown_hessian_nothing_is_claimed() -> None:
    field = GradientField(Steep())
    assert number(field.field_lipschitz()) == float("inf")
    assert number(field.rate()) == -float("inf")
    assert field.max_step() == 0.0
    assert number(field.lipschitz(0.1)) == float("inf")
    assert number(field.invertible_step()) == 0.0
    torch.testing.assert_close(field(torch.ones(2)), torch.tensor([8.0, 8.0]))


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(TypeError, match="energy must be an energy"):
        GradientField(nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="descent"):
        GradientField(perceptron(), descent=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="energy"):
        GradientField(Dense(draw(2, 2)))  # type: ignore[arg-type]
