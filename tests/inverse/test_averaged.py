"""The calculus of averaged operators: every formula holds, is reached, and fails beyond its edge."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.inverse import (
    Clipped,
    Relaxed,
    Resolvent,
    averagedness_of,
    composed,
    gradient_step,
    relaxed,
    residual_bound,
)
from contractive_gnn.nn.lipschitz import LipschitzModule


def circle(alpha: float, count: int = 721) -> Tensor:
    """The boundary of the α-averaged multiplications by a complex number: the disc around 1 − α with radius α."""
    return (1 - alpha) + alpha * torch.polar(
        torch.ones(count, dtype=torch.float64), torch.linspace(0, 2 * math.pi, count, dtype=torch.float64)
    )


@pytest.mark.parametrize(("first", "second"), itertools.product((0.1, 0.5, 0.9), repeat=2))
def test_a_composition_is_as_averaged_as_the_formula_says_and_no_more(first: float, second: float) -> None:
    alpha = composed(first, second)
    assert alpha == pytest.approx((first + second - 2 * first * second) / (1 - first * second), rel=1e-12)
    products = torch.outer(circle(first), circle(second)).flatten()
    assert float(((products - (1 - alpha)).abs() / alpha).max()) <= 1 + 1e-9
    less = 0.97 * alpha
    assert float(((products - (1 - less)).abs() / less).max()) > 1


def test_compositions_of_many() -> None:
    assert composed() == 0.0
    assert composed(0.3) == pytest.approx(0.3)
    assert [composed(*[0.5] * m) for m in (1, 2, 5)] == pytest.approx([m / (m + 1) for m in (1, 2, 5)])
    assert composed(0.2, 0.7, 0.4) == pytest.approx(composed(composed(0.4, 0.2), 0.7), rel=1e-12)
    assert composed(0.2, 1.0) == 1.0
    with pytest.raises(ValueError, match="at most 1"):
        composed(1.2)


def test_two_maps_that_are_only_non_expansive_turn_for_ever() -> None:
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    x = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for _ in range(100):
        x = quarter @ (quarter @ x)
    assert float(x.norm()) == pytest.approx(1.0)
    assert composed(1.0, 1.0) == 1.0


def test_relaxation_and_reflection_at_their_edge() -> None:
    assert relaxed(1.0, 0.5) == 0.5  # the mean with the identity
    assert relaxed(0.5, 2.0) == 1.0  # the reflection of a firmly non-expansive map
    points = circle(0.4)
    assert float((1 + 2.5 * (points - 1)).abs().max()) <= 1 + 1e-12
    assert float((1 + 2.501 * (points - 1)).abs().max()) > 1
    with pytest.raises(ValueError, match=r"at most 1/averagedness = 2\.5"):
        relaxed(0.4, 2.501)


def test_a_gradient_step_at_its_edge() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    hessian = matrix.T @ matrix
    smoothness = float(torch.linalg.matrix_norm(hessian, 2))
    for part in (0.1, 0.5, 1.0):
        step = part * 2 / smoothness
        alpha = gradient_step(step, smoothness * (1 - 1e-12))
        assert alpha == pytest.approx(part)
        nonexpansive = torch.eye(4, dtype=torch.float64) - step * hessian / alpha
        assert float(torch.linalg.matrix_norm(nonexpansive, 2)) <= 1 + 1e-9
    beyond = torch.eye(4, dtype=torch.float64) - 1.0001 * 2 / smoothness * hessian
    assert float(torch.linalg.matrix_norm(beyond, 2)) > 1
    with pytest.raises(ValueError, match="expands"):
        gradient_step(1.0001 * 2 / smoothness, smoothness)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8])
def test_the_bound_of_the_residual_holds_and_is_of_the_right_size(alpha: float) -> None:
    """Multiplications by the numbers of the disc have the fixed point 0, and the distance 1 from 1."""
    factors = circle(alpha, 200_001)
    for k in (0, 1, 10, 100):
        residuals = (factors - 1).abs() * factors.abs() ** k
        bound = residual_bound(alpha, 1.0, k)
        assert float(residuals.max()) <= bound + 1e-12
        assert k == 0 or float(residuals.max()) > 0.6 * bound


def test_the_bound_of_the_residual_with_errors() -> None:
    alpha, error = 0.5, 0.01
    factor = circle(alpha)[3]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        x = torch.ones((), dtype=torch.complex128)
        for k in range(60):
            angle = 2 * math.pi * float(torch.rand((), generator=generator))
            after = factor * x + error * torch.polar(torch.tensor(1.0), torch.tensor(angle)).to(x)
            residual = float((after - x).abs())
            assert residual <= residual_bound(alpha, 1.0, k, error=error)
            x = after
    assert residual > residual_bound(alpha, 1.0, 10_000)  # without the error it would not hold for ever


def test_no_bound_without_averagedness_or_a_distance() -> None:
    assert residual_bound(1.0, 1.0, 5) == math.inf
    assert residual_bound(0.5, math.inf, 5) == math.inf


class Constant(LipschitzModule):
    def __init__(self, constant: float, *, certified: bool = True) -> None:
        super().__init__()
        self.constant, self.certified = constant, certified

    def lipschitz(self) -> float:
        return self.constant


def test_what_is_believed_of_a_denoiser(linear: Callable[..., nn.Module]) -> None:
    eye = torch.eye(2)
    assert averagedness_of(linear(eye, alpha=0.3))[0] == 0.3
    assert averagedness_of(Constant(0.6))[0] == 0.8
    for module, word in (
        (linear(eye, alpha=0.3, certified=False), "does not call"),
        (Constant(1.0001), "at most 1 is needed"),
        (Constant(0.5, certified=False), "not certified"),
        (nn.Identity(), "no proved"),
        (linear(eye, alpha=math.inf), r"may expand in training mode: call its eval()"),
        (linear(eye, alpha=1.2).eval(), "may expand"),
    ):
        alpha, reason = averagedness_of(module)
        assert alpha is None
        assert word in reason
    for wrong in (-0.1, math.nan):
        with pytest.raises(ValueError, match="at least 0"):
            averagedness_of(linear(eye, alpha=wrong))


def firm_excess(denoiser: nn.Module, alpha: float, size: tuple[int, ...], seed: int) -> float:
    """What ascent finds of ``‖Dx − Dy‖² + (1 − α)/α ‖(x − Dx) − (y − Dy)‖²`` relative to ``‖x − y‖²``."""
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(1, *size, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    optimizer = torch.optim.Adam([x, y], lr=0.05, maximize=True)
    best = 0.0
    for _ in range(150):
        a, b = denoiser(x, 0.1), denoiser(y, 0.1)
        left = (a - b).square().sum() + (1 - alpha) / alpha * ((x - a) - (y - b)).square().sum()
        ratio = left / (x - y).square().sum()
        best = max(best, float(ratio.detach()))
        optimizer.zero_grad()
        ratio.backward()
        optimizer.step()
    return best


@pytest.mark.parametrize("box", [None, (0.0, 1.0), (0.4, 0.6)])
def test_a_resolvent_is_firmly_non_expansive(box: tuple[float, float] | None, linear: Callable[..., nn.Module]) -> None:
    rotation = torch.linalg.qr(torch.randn(9, 9, dtype=torch.float64))[0]
    resolvent = Resolvent(linear(rotation, 0.1, alpha=1.0), box=box)
    assert resolvent.weight == 0.5
    assert resolvent.averagedness() == 0.5
    assert max(firm_excess(resolvent, 0.5, (1, 3, 3), seed) for seed in range(3)) <= 1 + 1e-9


def test_a_resolvent_beyond_its_edge_is_neither_certified_nor_firm(linear: Callable[..., nn.Module]) -> None:
    turn = -torch.eye(4, dtype=torch.float64)
    beyond = Resolvent(linear(turn, alpha=1.0), 0.51, box=None)
    assert not beyond.certified
    assert "above 1/2" in beyond.doubt()
    with pytest.raises(ValueError, match="above 1/2"):
        beyond.averagedness()
    assert firm_excess(beyond, 0.5, (1, 2, 2), 0) > 1.001
    assert firm_excess(Resolvent(linear(turn, alpha=1.0), 0.5, box=None), 0.5, (1, 2, 2), 0) <= 1 + 1e-9


def test_a_resolvent_of_a_firm_denoiser_is_that_denoiser(smoothed: Callable[..., nn.Module]) -> None:
    denoiser = smoothed((6, 6))
    resolvent = Resolvent(denoiser)
    assert resolvent.weight == 1.0
    x = 0.3 + 0.4 * torch.rand(2, 1, 6, 6, dtype=torch.float64)  # its reflection stays inside the box
    torch.testing.assert_close(resolvent(x, 0.05), denoiser(x, 0.05), rtol=0, atol=1e-12)


def test_clipped_and_relaxed(smoothed: Callable[..., nn.Module]) -> None:
    clipped = Clipped(Relaxed(smoothed((6, 6)), 0.6), (0.2, 0.8))
    assert clipped.averagedness() == pytest.approx(composed(0.3, 0.5))
    x = torch.rand(1, 1, 6, 6, dtype=torch.float64)
    assert float(clipped(x, 0.1).min()) >= 0.2
    assert firm_excess(clipped, clipped.averagedness(), (1, 6, 6), 0) <= 1 + 1e-9
    assert firm_excess(clipped, 0.2, (1, 6, 6), 0) > 1  # it is no more averaged than that
    with pytest.raises(ValueError, match="no averagedness is known: Identity"):
        Clipped(nn.Identity()).averagedness()


@pytest.mark.parametrize(("box", "error"), [((1.0, 0.0), ValueError), ((0.0, math.inf), ValueError), (0.5, TypeError)])
def test_a_box_that_is_none(box: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="box"):
        Clipped(nn.Identity(), box)  # type: ignore[arg-type]


def test_a_hook_leaves_nothing_proved() -> None:
    class Half(nn.Module):
        certified = True

        def averagedness(self) -> float:
            return 0.5

        def forward(self, x: Tensor, sigma: float) -> Tensor:
            return x

    denoiser = Half()
    assert averagedness_of(denoiser)[0] == 0.5
    handle = denoiser.register_forward_hook(lambda module, arguments, out: 3 * out)
    for part in (denoiser, Clipped(denoiser), Relaxed(denoiser)):
        alpha, reason = averagedness_of(part)
        assert alpha is None
        assert "hook" in reason
    handle.remove()
    assert averagedness_of(denoiser)[0] == 0.5
