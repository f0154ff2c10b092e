"""The iterations: what is certified happens, and what is not does not have to."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.inverse import (
    ADMM,
    ConvergenceError,
    Convolution,
    DouglasRachford,
    Fourier,
    Inpainting,
    LinearPhysics,
    ProximalGradient,
    Radon,
    RepeatedDenoising,
    Run,
    composed,
    gaussian_kernel,
    motion_kernel,
)
from contractive_gnn.nn.lipschitz import LipschitzModule

Make = Callable[..., nn.Module]
SIZE = (12, 12)
METHODS = (ProximalGradient, DouglasRachford, ADMM)
methods = pytest.mark.parametrize("method", METHODS)


def seen(part: float = 0.6) -> Tensor:
    return torch.rand(SIZE, generator=torch.Generator().manual_seed(2)) < part


PHYSICS: dict[str, Callable[[], LinearPhysics]] = {
    "inpainting": lambda: Inpainting(seen()),
    "MRI": lambda: Fourier(seen()),
    "deblurring": lambda: Convolution(gaussian_kernel(1.2, 7), size=SIZE),
    "motion": lambda: Convolution(motion_kernel(5, 30, 5), size=SIZE, padding_mode="zeros"),
    "super-resolution": lambda: Convolution(gaussian_kernel(1.0, 5), size=SIZE, stride=2),
    "CT": lambda: Radon(SIZE, 8),
}
each = pytest.mark.parametrize("physics", PHYSICS.values(), ids=PHYSICS.keys())


def images(count: int = 2) -> Tensor:
    """Discs of a few grey values, in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    place = 12 * torch.rand(count, 2, 1, 1, dtype=torch.float64, generator=generator)
    inside = (rows - place[:, 0]) ** 2 + (columns - place[:, 1]) ** 2 < 20
    return (0.1 + 0.7 * inside.double()).unsqueeze(1)


def measured(physics: LinearPhysics, x: Tensor, noise: float = 0.03) -> Tensor:
    y = physics(x)
    return y + noise * torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))


def below(run: Run) -> bool:
    """Whether every residual is below the bound of its step and none rises, up to the errors of the steps."""
    falls = run.residuals[1:] <= run.residuals[:-1] + 2 * run.error
    return bool(falls.all()) and bool((run.residuals.max(dim=1).values <= run.bounds()).all())


@each
@methods
def test_what_is_certified_happens(
    physics: Callable[[], LinearPhysics], method: type[ProximalGradient], smoothed: Make
) -> None:
    operator = physics().double()
    x = images()
    y = measured(operator, x)
    step = None if method is ProximalGradient else 1.0 / operator.squared_norm()
    run = method(operator, smoothed(SIZE), sigma=0.05, step=step).run(y, steps=300, start=torch.full_like(x, 0.5))
    certificate = run.certificate
    assert certificate.certified
    assert "Brouwer" in certificate.fixed_point
    assert below(run)
    assert float(run.residuals[-1].max()) < 0.02 * float(run.residuals[0].max())
    assert math.isfinite(certificate.distance)
    assert run.error < 1e-8
    if operator.curvature() == 0:
        start = 0.5 * math.sqrt(x[0].numel()) if method is not ADMM else 0.0
        assert certificate.distance >= start
    better = (run.image - x).square().mean() < (operator.adjoint(y) - x).square().mean()
    assert bool(better)


@methods
def test_the_methods_agree_on_the_minimiser(method: type[ProximalGradient]) -> None:
    """With a proximal map as the denoiser there is one problem, ``½‖mx − y‖² + σ‖x‖₁``, and its solution is known."""

    class Soft(nn.Module):
        certified = True

        def averagedness(self) -> float:
            return 0.5

        def forward(self, x: Tensor, sigma: float) -> Tensor:
            return x.sign() * (x.abs() - sigma).clamp(min=0)

    mask = 0.5 + torch.rand(SIZE, dtype=torch.float64)
    y = torch.randn(1, 1, *SIZE, dtype=torch.float64)
    run = method(Inpainting(mask), Soft(), sigma=0.1, step=0.4, box=None).run(y, steps=400)
    assert run.certificate.certified  # AᵀA ≥ m > 0
    solution = (mask * y).sign() * ((mask * y).abs() - 0.1 / 0.4).clamp(min=0) / mask.square()
    torch.testing.assert_close(run.image, solution, rtol=0, atol=1e-9)


def test_the_averagedness_of_the_step(smoothed: Make) -> None:
    physics, denoiser = Inpainting(seen()), smoothed(SIZE, 0.7)
    certificate = ProximalGradient(physics, denoiser, sigma=0.1, step=1.5).certificate()
    assert certificate.averagedness == pytest.approx(composed(0.75, 0.7, 0.5))
    assert DouglasRachford(physics, denoiser, sigma=0.1, beta=1.4).certificate().averagedness == pytest.approx(0.7)
    assert ADMM(physics, denoiser, sigma=0.1).certificate().averagedness == 0.5
    text = str(certificate)
    assert "0.75-averaged" in text
    assert "converges to a fixed point" in text
    assert "Smoothed: 0.7-averaged, projected on [0, 1]" in text


# Steps at the edge and beyond


def test_the_step_at_its_edge_turns_for_ever_and_beyond_it_diverges(linear: Make) -> None:
    """With ``A = I``, ``y = 0`` and the identity as the denoiser, the step is the multiplication by ``1 − γ``."""
    physics, identity = Inpainting(torch.ones(2, 2)).double(), linear(torch.eye(4, dtype=torch.float64), alpha=0.0)
    y = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    start = torch.ones_like(y)

    def run(step: float) -> Run:
        return ProximalGradient(physics, identity, sigma=0.1, step=step, box=None).run(y, steps=200, start=start)

    inside, edge, beyond = run(1.99), run(2.0), run(2.0002)
    assert inside.certificate.certified
    assert float(inside.image.norm()) < 0.3 * float(start.norm())
    assert not edge.certificate.certified
    assert "not averaged" in edge.certificate.reason
    assert float(edge.residuals[-1]) == pytest.approx(float(edge.residuals[0]))
    assert not beyond.certificate.certified
    assert not beyond.certificate.monotone
    assert "beyond 2/‖A‖² = 2" in beyond.certificate.reason
    assert bool((beyond.residuals[1:] > beyond.residuals[:-1]).all())


def test_douglas_and_rachford_at_the_edge_of_their_relaxation(linear: Make) -> None:
    """Two reflections at lines through 0: at β = 2 the state turns, below it converges."""
    angle = 0.3
    line = torch.tensor([[math.cos(angle)], [math.sin(angle)]], dtype=torch.float64)
    projection = linear(line @ line.T, alpha=0.5)
    physics = Inpainting(torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    y, start = torch.zeros(1, 1, 1, 2, dtype=torch.float64), torch.ones(1, 1, 1, 2, dtype=torch.float64)

    def run(beta: float) -> Run:
        method = DouglasRachford(physics, projection, sigma=None, step=1e9, beta=beta, box=None)
        return method.run(y, steps=300, start=start)

    assert float(run(2.0).residuals[-1]) > 0.99 * float(run(2.0).residuals[0])
    assert float(run(1.5).residuals[-1]) < 1e-3 * float(run(1.5).residuals[0])
    assert run(1.5).certificate.averagedness == 0.75
    assert not run(2.0).certificate.certified
    assert "not averaged" in run(2.0).certificate.reason
    with pytest.raises(ValueError, match="beta must be above 0 and at most 2"):
        run(2.1)


# Existence of a fixed point


@methods
def test_an_averaged_denoiser_without_a_fixed_point_runs_away_and_the_box_holds_it(
    method: type[ProximalGradient], linear: Make
) -> None:
    """``D(x) = x + 0.01`` is averaged for every α > 0. Nothing is measured of some pixels, and nothing holds them."""
    drift = linear(torch.eye(144, dtype=torch.float64), 0.01, alpha=0.5)
    physics = Inpainting(seen()).double()
    y = physics(images(1))
    free = method(physics, drift, sigma=0.1, step=1.0, box=None).run(y, steps=2000)
    assert free.certificate.averagedness is not None
    assert free.certificate.averagedness < 1
    assert free.certificate.monotone
    assert not free.certificate.certified
    assert "no fixed point is known" in free.certificate.reason
    assert free.certificate.bound(10) == math.inf
    assert float(free.residuals[-1]) > 0.05  # it never comes to rest
    assert float(free.image.max()) > 15
    assert bool((free.residuals[1:] <= free.residuals[:-1] + 2 * free.error).all())
    held = method(physics, drift, sigma=0.1, step=1.0).run(y, steps=2000)
    assert held.certificate.certified
    assert below(held)
    assert float(held.residuals[-1]) < 1e-8
    assert float(held.image.max()) <= 1.2


def test_a_denoiser_with_a_bias_has_a_fixed_point_in_the_box(smoothed: Make) -> None:
    class Biased(nn.Module):
        certified = True

        def __init__(self) -> None:
            super().__init__()
            self.inner = smoothed(SIZE)

        def averagedness(self) -> float:
            return 0.5

        def forward(self, x: Tensor, sigma: float) -> Tensor:
            return self.inner(x + 0.3 * images(1), sigma)  # type: ignore[no-any-return]

    run = RepeatedDenoising(Biased(), sigma=0.1).run(images(1), steps=500)
    assert run.certificate.certified
    assert below(run)
    free = RepeatedDenoising(Biased(), sigma=0.1, box=None).run(images(1), steps=500)
    assert not free.certificate.certified
    assert float(free.image.max()) > 10


def test_repeated_denoising_with_a_known_fixed_point(smoothed: Make) -> None:
    method = RepeatedDenoising(smoothed(SIZE), sigma=0.1, box=None)
    unknown = method.run(images(), steps=5)
    assert not unknown.certificate.certified
    grey = torch.full((1, 1, *SIZE), 0.4)
    run = method.run(images(), steps=50, fixed_point=grey)
    assert run.certificate.fixed_point == "it was given, and tried"
    assert run.certificate.distance == pytest.approx(float((images() - 0.4).flatten(1).norm(dim=1).max()), rel=1e-6)
    assert run.certificate.certified
    assert below(run)
    with pytest.raises(ValueError, match="fixed_point is none: the denoiser changes it"):
        method.run(images(), fixed_point=images())


@methods
def test_a_contraction_needs_no_box(method: type[ProximalGradient], linear: Make) -> None:
    rotation = torch.linalg.qr(torch.randn(144, 144, dtype=torch.float64))[0]
    physics = Inpainting(0.6 + 0.4 * torch.rand(SIZE, dtype=torch.float64))
    denoiser = linear(rotation, 0.1, alpha=1.0)
    run = method(physics, denoiser, sigma=0.1, step=1.0, box=None).run(physics(images()), steps=300)
    certificate = run.certificate
    assert certificate.certified
    assert certificate.contraction < 1
    assert "Banach" in certificate.fixed_point
    assert below(run)
    assert bool((run.residuals[1:] <= certificate.contraction * run.residuals[:-1] + 2 * run.error).all())
    assert certificate.bound(100) < 0.1 * certificate.bound(0)
    start = run.residuals[0].max() / (1 - certificate.contraction)
    assert certificate.distance <= float(start) * (1 + 1e-9)


def test_a_contracting_denoiser_makes_up_for_a_long_step() -> None:
    class Half(LipschitzModule):
        def lipschitz(self) -> float:
            return 0.5

        def forward(self, x: Tensor, sigma: float) -> Tensor:
            return 0.5 * x + 0.1

    physics = Inpainting(torch.ones(SIZE)).double()
    run = ProximalGradient(physics, Half(), sigma=0.1, step=2.5, box=None).run(images(), steps=100)
    assert run.certificate.certified
    assert run.certificate.contraction == pytest.approx(0.75)
    assert below(run)


# Trying to break the certificate


def worst_rise(method: ProximalGradient, y: Tensor, start: Tensor) -> float:
    """The largest ratio of the second residual to the first that ascent over the start and the measurement finds."""
    y, start = y.clone().requires_grad_(), start.clone().requires_grad_()
    optimizer = torch.optim.Adam([y, start], lr=0.03, maximize=True)
    best = 0.0
    for _ in range(80):
        first = method._next(start, method._stages(start, y))
        second = method._next(first, method._stages(first, y))
        ratio = (second - first).norm() / (first - start).norm()
        best = max(best, float(ratio.detach()))
        optimizer.zero_grad()
        ratio.backward()
        optimizer.step()
    return best


@methods
def test_ascent_does_not_make_the_residual_rise(
    method: type[ProximalGradient], smoothed: Make, linear: Make, silent: Make
) -> None:
    physics = Convolution(gaussian_kernel(1.2, 7), size=SIZE).double()
    y, start = physics(images(1)), 0.1 + 0.8 * torch.rand(1, 1, *SIZE, dtype=torch.float64)
    for denoiser in (smoothed(SIZE), linear(torch.linalg.qr(torch.randn(144, 144).double())[0], alpha=1.0)):
        assert worst_rise(method(physics, denoiser, sigma=0.02, step=1.0), y, start) <= 1 + 1e-9
    assert worst_rise(method(physics, silent(), sigma=0.02, step=1.0), y, start) > 1.5


@methods
def test_a_wrong_declaration_is_found_and_named(method: type[ProximalGradient], linear: Make) -> None:
    stretching = linear(1.3 * torch.eye(144, dtype=torch.float64), alpha=0.5)
    physics = Inpainting(seen(0.2)).double()
    with pytest.raises(ConvergenceError, match=r"denoiser moved two states .* Linear: 0\.5-averaged"):
        method(physics, stretching, sigma=0.1, step=1.0, box=None).run(physics(images(1)), start=images(1))


def test_a_wrong_norm_is_found_and_named(smoothed: Make) -> None:
    class Wrong(Inpainting):
        def squared_norm(self) -> float:
            return 0.3 * super().squared_norm()

    physics = Wrong(torch.ones(SIZE)).double()
    method = ProximalGradient(physics, smoothed(SIZE), sigma=0.01, box=None)
    with pytest.raises(ConvergenceError, match="data step moved two states"):
        method.run(physics(images(1)), steps=50, start=1 - images(1))


def test_a_state_that_is_not_finite(silent: Make, linear: Make) -> None:
    physics = Inpainting(seen(0.2)).double()
    y = physics(images(1))
    run = ProximalGradient(physics, silent(), sigma=0.1, box=None).run(y, steps=1000, start=1 - images(1))
    assert "not finite" in run.stopped
    assert len(run.residuals) < 1000
    nan = linear(math.nan * torch.eye(144, dtype=torch.float64), alpha=0.5)
    with pytest.raises(ConvergenceError, match="not finite"):
        ProximalGradient(physics, nan, sigma=0.1, box=None).run(y)


# Denoisers and measurements without a proof


@methods
def test_a_denoiser_without_a_proof_runs_uncertified(method: type[ProximalGradient], silent: Make) -> None:
    physics = Inpainting(seen()).double()
    run = method(physics, silent(), sigma=0.1, step=1.0).run(physics(images()), steps=20)
    assert not run.certificate.certified
    assert not run.certificate.monotone
    assert "Silent has no proved Lipschitz constant" in run.certificate.reason
    assert run.certificate.averagedness is None
    assert bool((run.bounds() == math.inf).all())


def test_a_relaxation_beyond_what_is_proved_is_not_certified(linear: Make) -> None:
    turn = linear(-torch.eye(144, dtype=torch.float64), alpha=1.0)
    physics = Inpainting(seen())
    assert ProximalGradient(physics, turn, sigma=0.1).certificate().certified  # by (I + D)/2
    assert not ProximalGradient(physics, turn, sigma=0.1, relaxation=1.0).certificate().certified
    assert DouglasRachford(physics, turn, sigma=0.1).certificate().certified
    assert not DouglasRachford(physics, turn, sigma=0.1, relaxation=0.6).certificate().certified


@pytest.mark.parametrize("method", [ProximalGradient, DouglasRachford])
def test_a_measurement_without_a_proof(method: type[ProximalGradient], smoothed: Make) -> None:
    class Claimed(Inpainting):
        certified, reason = False, "its norm was claimed"

    certificate = method(Claimed(seen()), smoothed(SIZE), sigma=0.1).certificate()
    assert not certificate.certified
    assert "its norm was claimed" in certificate.reason


# The calls


def test_a_run_can_be_watched_and_stopped(smoothed: Make) -> None:
    physics = Inpainting(seen()).double()
    found: list[tuple[int, Tensor]] = []
    method = ProximalGradient(physics, smoothed(SIZE), sigma=0.02)
    run = method.run(physics(images()), steps=500, tolerance=1e-3, track=lambda k, x: found.append((k, x)))
    assert len(found) == len(run.residuals) < 500
    assert [k for k, _ in found] == list(range(len(found)))
    assert torch.equal(found[-1][1], run.image)
    assert bool((run.relative[-1] <= 1e-3).all())
    assert "at most 0.001" in run.stopped
    assert torch.equal(method(physics(images()), steps=len(found)), run.image)


@methods
def test_images_of_a_batch_do_not_meet(method: type[ProximalGradient], smoothed: Make) -> None:
    physics = Convolution(motion_kernel(5, 30, 5), size=SIZE, padding_mode="zeros").double()
    y = measured(physics, images(3))
    together = method(physics, smoothed(SIZE), sigma=0.05, step=1.0).run(y, steps=20)
    alone = method(physics, smoothed(SIZE), sigma=0.05, step=1.0).run(y[1:2], steps=20)
    torch.testing.assert_close(together.image[1:2], alone.image, rtol=0, atol=1e-10)
    torch.testing.assert_close(together.residuals[:, 1], alone.residuals[:, 0], rtol=0, atol=1e-10)


@methods
def test_single_precision(method: type[ProximalGradient], smoothed: Make) -> None:
    physics = Fourier(seen())
    y = measured(physics, images().float())
    run = method(physics, smoothed(SIZE).float(), sigma=0.05, step=1.0).run(y, steps=500)
    assert run.image.dtype == torch.float32
    assert run.certificate.certified
    assert below(run)
    assert float(run.relative[-1].max()) < 1e-4


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda p, d: ProximalGradient(d, d, sigma=0.1), TypeError, "LinearPhysics"),
        (lambda p, d: ProximalGradient(p, lambda x, s: x, sigma=0.1), TypeError, "module called as"),
        (lambda p, d: ProximalGradient(p, d, sigma=-0.1), ValueError, "sigma"),
        (lambda p, d: ProximalGradient(p, d, sigma=0.1, step=0.0), ValueError, "step"),
        (lambda p, d: ProximalGradient(p, d, sigma=0.1, relaxation=1.5), ValueError, "weight"),
        (lambda p, d: ProximalGradient(p, d, sigma=0.1, box=(1, 0)), ValueError, "box"),
        (lambda p, d: ProximalGradient(Inpainting(torch.zeros(SIZE)), d, sigma=0.1), ValueError, "give step"),
        (lambda p, d: ProximalGradient(p, d, sigma=0.1).run(images(), steps=0), ValueError, "steps"),
        (lambda p, d: ProximalGradient(p, d, sigma=0.1).run(math.nan * images()), ValueError, "not finite"),
        (lambda p, d: ProximalGradient(p, d, sigma=0.1).run(images(), start=images(1)), ValueError, "shape"),
        (lambda p, d: ADMM(p, d, sigma=0.1).run(images(), dual=images(1)), ValueError, "dual"),
        (lambda p, d: RepeatedDenoising(3, sigma=0.1), TypeError, "module called as"),
    ],
)
def test_what_is_refused(
    call: Callable[[LinearPhysics, nn.Module], object], error: type[Exception], word: str, smoothed: Make
) -> None:
    with pytest.raises(error, match=word):
        call(Inpainting(seen()), smoothed(SIZE))


@pytest.mark.parametrize("method", [ProximalGradient, DouglasRachford, ADMM])
def test_what_cannot_be_iterated_is_refused_and_no_operator_blamed(
    method: type[ProximalGradient], smoothed: Make
) -> None:
    iteration = method(Fourier(torch.ones(8, 8)), smoothed((8, 8)), sigma=0.1)
    y = torch.fft.fft2(torch.rand(2, 1, 8, 8, dtype=torch.float64), norm="ortho")
    with pytest.raises(ValueError, match="start has entries that are not finite"):
        iteration.run(y, start=torch.full((2, 1, 8, 8), math.nan))
    with pytest.raises(ValueError, match="y must hold at least one image"):
        iteration.run(y[:0])
    with pytest.raises(ValueError, match="y must hold at least one image of floating numbers"):
        iteration.run(torch.ones(1, 1, 8, 8, dtype=torch.long))
    with pytest.raises(TypeError, match="start must be a tensor"):
        iteration.run(y, start=[0.0])  # type: ignore[arg-type]
    for tolerance in (-1.0, math.nan):
        with pytest.raises(ValueError, match="tolerance must be"):
            iteration.run(y, tolerance=tolerance)


def test_repeated_denoising_refuses_the_same_and_forgets_a_fixed_point(smoothed: Make) -> None:
    iteration = RepeatedDenoising(smoothed((8, 8)), sigma=0.1, box=None)
    with pytest.raises(ValueError, match="x has entries that are not finite"):
        iteration.run(torch.full((1, 1, 8, 8), math.inf))
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    before = iteration.certificate().certified
    assert iteration.run(x, fixed_point=torch.zeros(1, dtype=torch.float64), steps=2).certificate.certified
    assert iteration.certificate().certified == before
