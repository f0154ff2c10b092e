"""Networks of gradient and sphere-preserving steps: what each half keeps, and what gradients alone come to."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics import (
    Energy,
    GradientField,
    PerceptronEnergy,
    PerceptronMatrix,
    QuadraticEnergy,
    SkewField,
    TriangularMatrix,
)
from contractive_gnn.integrators import ConvergenceError, integrate
from contractive_gnn.nn.presnov import GradientStep, PresnovNet, SphereStep
from contractive_gnn.norms import jacobian, lipschitz_at


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def net(seed: int = 0, **arguments: object) -> PresnovNet:
    torch.manual_seed(seed)
    return PresnovNet(**{"dim": 2, "width": 6, "num_blocks": 3, **arguments}).double()  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["sphere-projection", "implicit-midpoint"])
@pytest.mark.parametrize("dim", [2, 3, 5])
def test_the_sphere_half_keeps_the_norm(dim: int, scheme: str) -> None:
    model = net(dim=dim, halves=("sphere",), scheme=scheme, time=1.0)
    x = draw(20, dim)
    with torch.no_grad():
        states = model.stations(x)
    assert len(states) == 4
    for state in states:
        assert float((state.norm(dim=1) / x.norm(dim=1) - 1).abs().max()) < 1e-13
    assert float((states[-1] - x).norm(dim=1).min()) > 1e-2  # it does move


def test_the_norm_stays_over_ten_thousand_steps_and_not_without_the_projection() -> None:
    torch.manual_seed(0)
    field = SkewField(TriangularMatrix(2, 6)).double()
    x = draw(5, 2)
    with torch.no_grad():
        kept = integrate(field, x, step=0.1, num_steps=10_000, scheme="sphere-projection")
        lost = integrate(field, x, step=0.1, num_steps=1000, scheme="euler")
    assert float((kept.norm(dim=1) / x.norm(dim=1) - 1).abs().max()) < 1e-12
    assert float((lost.norm(dim=1) / x.norm(dim=1) - 1).abs().max()) > 1e-3


def test_the_gradient_half_does_not_keep_the_norm() -> None:
    x = draw(20, 2)
    with torch.no_grad():
        moved = net(halves=("gradient",))(x)
    assert float((moved.norm(dim=1) / x.norm(dim=1) - 1).abs().max()) > 1e-2


def test_the_steps_come_in_the_order_that_was_asked_for() -> None:
    model = net(num_blocks=2, halves=("sphere", "gradient", "gradient"))
    assert model.halves == ("sphere", "gradient", "gradient") * 2
    assert [isinstance(flow, GradientStep) for flow in model.flows] == [False, True, True] * 2
    assert len(model.gradient_steps()) == 4
    x = draw(7, 2)
    by_hand = x
    for flow in model.flows:
        by_hand = flow(by_hand)
    torch.testing.assert_close(model(x), by_hand, rtol=0, atol=0)
    torch.testing.assert_close(model(x.reshape(7, 1, 2)).squeeze(1), model(x))


def test_with_a_share_every_gradient_step_is_invertible_and_without_it_one_may_fold() -> None:
    steep = {"halves": ("gradient",), "num_blocks": 1, "time": 1.0, "width": 2}
    for share in (0.9, None):
        model = net(share=share, **steep)
        (step,) = model.gradient_steps()
        energy = step.field.potential
        assert isinstance(energy, PerceptronEnergy)
        with torch.no_grad():  # x − 3 tanh x along the first axis
            energy.operator.weight.copy_(torch.eye(2))
            energy.alpha.copy_(torch.tensor([-3.0, 0.1]))
            energy.bias.zero_()
        assert step.invertible() is (share is not None)
        assert model.contraction_share() == pytest.approx(share or 3.0)
        determinant = float(torch.linalg.det(jacobian(model, torch.zeros(2, dtype=torch.float64))))
        assert (determinant > 0) is (share is not None)
        line = torch.linspace(-2, 2, 401, dtype=torch.float64)
        moved = model(torch.stack([line, 0 * line], dim=1))[:, 0]
        assert bool((moved.diff() > 0).all()) is (share is not None)


def test_a_step_that_is_short_enough_is_left_alone() -> None:
    energy = QuadraticEnergy(-0.5 * torch.eye(2, dtype=torch.float64))
    step = GradientStep(GradientField(energy), step=1.0, share=0.9)
    assert float(step.step_size()) == 1.0
    assert step.invertible()
    long = GradientStep(GradientField(energy), step=3.0, share=0.9)
    assert float(long.step_size()) == pytest.approx(1.8)
    convex = GradientStep(GradientField(QuadraticEnergy(torch.eye(2, dtype=torch.float64))), step=3.0, share=0.9)
    assert float(convex.step_size()) == 3.0


def scaled(step: SphereStep, factor: float) -> None:
    """Make the field of a step ``factor`` times as fast."""
    matrix = step.field.matrix
    assert isinstance(matrix, TriangularMatrix)
    with torch.no_grad():
        matrix.outer.weight.mul_(factor)
        matrix.offset.mul_(factor)


@pytest.mark.parametrize("kind", [TriangularMatrix, PerceptronMatrix])
def test_the_constant_on_a_ball_holds(kind: type[PerceptronMatrix]) -> None:
    torch.manual_seed(0)
    step = SphereStep(SkewField(kind(3, 6)).double(), step=0.1)
    for radius in (0.1, 2.0):
        for x in draw(50, 3):
            slope = lipschitz_at(step.field, radius * x / x.norm(), norm="l2")
            assert slope <= step.field_lipschitz(radius)
    assert slope > step.field_lipschitz(0.0)  # the slope of the matrix counts


def test_the_constant_on_a_ball_is_attained_by_a_turn_whose_speed_grows() -> None:
    """``ẋ = tanh(x₁) Jx`` has the derivative ``[[0, −R], [2R, 0]]`` at (R, 0), for small R."""
    matrix = TriangularMatrix(2, 1).double()
    with torch.no_grad():
        matrix.inner.weight.copy_(torch.tensor([[1.0, 0.0]]))
        matrix.outer.weight.fill_(1.0)
        matrix.bias.zero_()
        matrix.offset.zero_()
    step = SphereStep(SkewField(matrix), step=0.1)
    x = torch.tensor([0.01, 0.0], dtype=torch.float64)
    assert lipschitz_at(step.field, x, norm="l2") == pytest.approx(step.field_lipschitz(0.01), rel=1e-3)


def test_a_short_midpoint_step_is_undone_by_the_step_back_and_a_long_one_is_not_even_solved() -> None:
    torch.manual_seed(0)
    step = SphereStep(SkewField(TriangularMatrix(2, 6)).double(), step=0.5, scheme="implicit-midpoint")
    x = draw(50, 2)
    x = x / x.norm(dim=1, keepdim=True)
    scaled(step, 1.99 / (0.5 * step.field_lipschitz(1.0)))
    assert step.invertible(1.0)
    assert not step.invertible(1.1)
    with torch.no_grad():
        there = step(x)
        back = integrate(lambda y, t: -step.field(y), there, step=0.5, num_steps=1, scheme="implicit-midpoint")
    torch.testing.assert_close(back, x, rtol=0, atol=1e-12)
    scaled(step, 20.0)
    assert not step.invertible(1.0)
    with pytest.raises(ConvergenceError, match="left a residual"), torch.no_grad():
        step(x)


def test_the_whole_is_proved_where_each_step_is() -> None:
    model = net(scheme="implicit-midpoint", share=0.5, time=0.3)
    assert model.invertible(1.0)
    assert not model.invertible(1e3)  # the matrix may change too fast there
    assert not net(scheme="sphere-projection", share=0.5, time=0.3).invertible(1.0)  # of a projection nothing is proved
    for x in draw(20, 2):
        assert float(torch.linalg.det(jacobian(model, x / x.norm()))) > 0
    steep = net(scheme="implicit-midpoint", halves=("gradient",), time=50.0)
    assert steep.contraction_share() > 1
    assert not steep.invertible(1.0)
    assert net(halves=("gradient",), time=50.0, share=0.5).invertible(1e9)  # of gradients the radius does not matter


def test_a_quarter_turn_is_four_gradient_steps_and_no_three() -> None:
    """A quarter turn is a product of four symmetric positive definite matrices, each a step of a quadratic energy.

    Not of three: with ``J = P₁P₂P₃`` the matrix ``P₁⁻¹J = P₂P₃`` would have positive eigenvalues, and its trace is that
    of a symmetric times a skew matrix, 0.
    """
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    first = torch.tensor([[8.0, -8.0], [1.0, 1.0]], dtype=torch.float64)
    x = draw(10, 2)
    y = x
    for matrix in (torch.linalg.solve(first, turn), first):
        # a matrix with distinct positive eigenvalues, VΛV⁻¹, is the product of VVᵀ and V⁻ᵀΛV⁻¹
        values, vectors = torch.linalg.eig(matrix)
        values, vectors = values.real, vectors.real
        assert float(values.min()) > 0
        back = torch.linalg.inv(vectors)
        for factor in (back.T @ torch.diag(values) @ back, vectors @ vectors.T):
            energy = QuadraticEnergy(factor - torch.eye(2, dtype=torch.float64))
            step = GradientStep(GradientField(energy), step=1.0)
            assert step.invertible()
            y = step(y)
    torch.testing.assert_close(y, x @ turn.T)
    for seed in range(5):
        positive = draw(2, 2, seed=seed)
        positive = positive @ positive.T + 0.1 * torch.eye(2, dtype=torch.float64)
        assert float(torch.linalg.solve(positive, turn).trace().abs()) < 1e-10


def test_a_commutator_of_gradient_flows_turns() -> None:
    """With ``s = √(t/n)`` it is nearer to the flow of the bracket, a rotation, for every larger n."""
    stretch = GradientField(QuadraticEnergy(torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))))
    swap = GradientField(QuadraticEnergy(torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)))
    x = draw(10, 2)
    errors = []
    for count in (25, 100, 400):
        s, y = math.sqrt(0.5 / count), x
        for _ in range(count):
            for field, sign in ((stretch, 1), (swap, 1), (stretch, -1), (swap, -1)):
                y = integrate(lambda z, t, f=field, a=sign: a * f(z), y, step=s, num_steps=1, scheme="rk4")
        # the bracket DY·X − DX·Y of two linear fields is [Y, X]
        bracket = swap.potential.matrix @ stretch.potential.matrix - stretch.potential.matrix @ swap.potential.matrix  # type: ignore[operator, union-attr]
        torch.testing.assert_close(bracket, -bracket.T)
        errors.append(float((y - x @ torch.linalg.matrix_exp(0.5 * bracket).T).abs().max()))
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2]
    assert errors[2] < 0.1


class Wave(Energy):
    """``sin(x₁ + 2x₂) + x₁x₂²``, a potential of no symmetry."""

    dim = 2

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.unbind(dim=-1)
        return (first + 2 * second).sin() + first * second.square()


class Sheared(Energy):
    """``xᵀS∇V``, ``S = e₁e₁ᵀ``: ``x₁ ∂₁V``."""

    dim = 2

    def forward(self, x: Tensor) -> Tensor:
        return x[..., 0] * Wave().gradient(x)[..., 0]


def test_every_field_is_a_gradient_and_brackets_of_gradients() -> None:
    """``2 S∇V = ∇(xᵀS∇V) − [Sx, ∇V]`` with ``[X, Y] = DY·X − DX·Y``; and ``e₁e₁ᵀ∇V = e₁ ∂₁V`` is any field along e₁."""
    s = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    linear, wave = GradientField(QuadraticEnergy(s)), GradientField(Wave())
    for x in draw(10, 2):
        bracket = jacobian(wave, x) @ linear(x) - jacobian(linear, x) @ wave(x)
        along = GradientField(Sheared())(x.requires_grad_()) - bracket
        torch.testing.assert_close(along, 2 * s @ wave(x))


def test_it_is_saved_copied_drawn_anew_and_follows_its_dtype() -> None:
    model = net()
    x = draw(4, 2)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
    other = net(seed=1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))
    other.reset_parameters()
    assert not torch.equal(other(x), model(x))
    assert model.float()(x.float()).dtype == torch.float32
    model.double()(x).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_it_is_traced_without_a_break() -> None:
    x = draw(4, 2)
    for share in (None, 0.5):
        model = net(num_blocks=1, share=share)
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize("radius", [-100.0, -1e-9, math.nan, math.inf])
@pytest.mark.parametrize("scheme", ["implicit-midpoint", "sphere-projection"])
def test_nothing_is_proved_on_a_ball_that_is_none(scheme: str, radius: float) -> None:
    torch.manual_seed(0)
    step = SphereStep(SkewField(TriangularMatrix(2, 4)).double(), step=0.9, scheme=scheme)
    for claim in (step.field_lipschitz, step.invertible):
        with pytest.raises(ValueError, match="radius must be"):
            claim(radius)
    assert step.field_lipschitz(0.0) <= step.field_lipschitz(1.0)


def test_where_a_bound_of_the_states_overflows_nothing_is_proved() -> None:
    model = net(scheme="implicit-midpoint", share=0.9)
    assert model.invertible(1e308) is False


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="halves must be a sequence of 'gradient' and 'sphere'"):
        net(halves=("gradient", "radial"))
    with pytest.raises(ValueError, match="halves must be a sequence"):
        net(halves="gradient")
    with pytest.raises(ValueError, match="halves must be a sequence"):
        net(halves=())
    with pytest.raises(ValueError, match="rk4 does not keep the norm of the sphere half"):
        net(scheme="rk4")
    with pytest.raises(ValueError, match=r"expected states of shape \[\.\.\., 2\], got \[4, 3\]"):
        net()(draw(4, 3))
    with pytest.raises(ValueError, match="dim must be at least 2"):
        net(dim=1)
    with pytest.raises(ValueError, match="share must be"):
        net(share=1.0)
    with pytest.raises(TypeError, match="field must be a GradientField"):
        GradientStep(SkewField(TriangularMatrix(2, 3)), step=0.1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="field must be a SkewField"):
        SphereStep(GradientField(Wave()), step=0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="radius must be at least 0"):
        net().invertible(-1.0)
    with pytest.raises(ValueError, match="no step is proved invertible"):
        GradientStep(GradientField(Wave()), step=0.1, share=0.5)(draw(2, 2))
