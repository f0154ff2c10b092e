"""The measurements against their matrices."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from contractive_gnn.inverse import (
    Convolution,
    Fourier,
    Inpainting,
    LinearPhysics,
    Radon,
    adjoint_defect,
    conjugate_gradient,
    gaussian_kernel,
    motion_kernel,
    perron_bound,
)

SIZE = (8, 10)


def signed(side: int = 3) -> Tensor:
    return torch.randn(side, side, generator=torch.Generator().manual_seed(1))


def half(size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(2)) < 0.5


#: name, how it is built, and the largest factor by which its bound of the squared norm exceeds it
CASES: list[tuple[str, Callable[[], LinearPhysics], float]] = [
    ("mask", lambda: Inpainting(half()), 1.0 + 1e-12),
    ("weights", lambda: Inpainting(0.5 + torch.rand(2, *SIZE)), 1.0 + 1e-12),
    ("Fourier", lambda: Fourier(half()), 1.0 + 1e-12),
    ("Fourier, weights", lambda: Fourier(0.5 + torch.rand(SIZE)), 1.0 + 1e-12),
    ("blur", lambda: Convolution(gaussian_kernel(0.8, 5), size=SIZE), 1.0 + 1e-10),
    ("blur, signed", lambda: Convolution(signed(), size=SIZE), 1.0 + 1e-10),
    ("motion, zeros", lambda: Convolution(motion_kernel(4, 30, 5), size=SIZE, padding_mode="zeros"), 1.2),
    ("super-resolution", lambda: Convolution(gaussian_kernel(1.0, 5), size=SIZE, stride=2), 1.0 + 1e-10),
    ("stride that does not divide", lambda: Convolution(signed(), size=SIZE, stride=3), 9.0),
    ("super-resolution, zeros", lambda: Convolution(signed(5), size=SIZE, stride=2, padding_mode="zeros"), 1.5),
    ("Radon", lambda: Radon(SIZE, 5), 1.0 + 1e-3),
    ("Radon, angles", lambda: Radon(SIZE, (0.0, 45.0, 133.0)), 1.0 + 1e-3),
]
each = pytest.mark.parametrize(("build", "factor"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])


def image(*batch: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, 2, *SIZE, dtype=torch.float64, generator=generator)


def matrix(physics: LinearPhysics) -> Tensor:
    """On one image of two channels, with complex outputs as pairs."""
    eye = torch.eye(2 * SIZE[0] * SIZE[1], dtype=torch.float64).reshape(-1, 2, *SIZE)
    columns = physics(eye)
    columns = torch.view_as_real(columns) if columns.is_complex() else columns
    return columns.flatten(1).T


@each
def test_bounds_hold_and_are_close(build: Callable[[], LinearPhysics], factor: float) -> None:
    physics = build().double()
    values = torch.linalg.eigvalsh(matrix(physics).T @ matrix(physics))
    assert float(values[-1]) * (1 - 1e-12) <= physics.squared_norm() <= float(values[-1]) * factor
    assert 0 <= physics.curvature() <= float(values[0]) + 1e-12


@each
def test_the_adjoint(build: Callable[[], LinearPhysics], factor: float) -> None:
    physics = build().double()
    x = image(3)
    y = physics(image(3, seed=1))
    assert adjoint_defect(physics, x, y) < 1e-15


@each
@pytest.mark.parametrize("step", [0.3, 1e4])
def test_the_proximal_step_solves_its_equation(build: Callable[[], LinearPhysics], factor: float, step: float) -> None:
    physics = build().double()
    v = image(2, seed=1)
    y = physics(image(2)) + 0.1
    solution = physics.prox(v, y, step)
    normal = torch.eye(v[0].numel(), dtype=torch.float64) + step * matrix(physics).T @ matrix(physics)
    exact = torch.linalg.solve(normal, (v + step * physics.adjoint(y)).flatten(1).T).T.reshape(v.shape)
    away = (solution.image - exact).flatten(1).norm(dim=1)
    assert bool((away <= solution.error + 1e-9 * step).all())
    assert float(solution.error.max()) <= 1e-9 * step


@pytest.mark.parametrize("step", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("name", ["mask", "Fourier", "Fourier, weights", "blur", "super-resolution"])
def test_a_closed_form_keeps_its_digits_in_single_precision(name: str, step: float) -> None:
    """Divided too late, a large γ multiplies the rounding of AᵀAv: the error was 0.04 at γ = 1e4, and 0 was said."""
    torch.manual_seed(0)
    build = next(case[1] for case in CASES if case[0] == name)
    physics = build()
    v = image(2, seed=1).float()
    y = physics(image(2).float())
    y = y + 0.05 * torch.randn_like(y)
    wide = copy.deepcopy(physics).double()
    exact = LinearPhysics.prox(wide, v.double(), y.to(torch.complex128 if y.is_complex() else torch.float64), step)
    solution = physics.prox(v, y, step)
    assert solution.image.dtype == torch.float32
    away = (solution.image - exact.image).flatten(1).norm(dim=1)
    allowed = 64 * torch.finfo(torch.float32).eps * exact.image.flatten(1).norm(dim=1)  # what an iteration allows for
    assert bool((away <= allowed + solution.error + exact.error).all()), (away, allowed)
    assert bool((solution.error <= allowed).all())


def test_what_is_known_follows_the_buffers() -> None:
    """A measurement that is loaded is the one that was saved, in its proximal step and its norm too."""
    saved, loaded = (Convolution(gaussian_kernel(deviation, 5), size=SIZE) for deviation in (1.5, 0.4))
    v, y = image(1).float(), saved(image(1, seed=1).float())
    loaded.prox(v, y, 2.0)
    loaded.load_state_dict(saved.state_dict())
    torch.testing.assert_close(loaded.prox(v, y, 2.0).image, saved.prox(v, y, 2.0).image, rtol=0, atol=0)

    lines, same = Radon(SIZE, (0.0, 45.0, 90.0)), Radon(SIZE, (0.0, 0.0, 0.0))
    assert lines.squared_norm() != same.squared_norm()
    lines.load_state_dict(same.state_dict())
    assert lines.squared_norm() == same.squared_norm()


def test_a_proximal_step_refuses_another_size() -> None:
    for physics in (Convolution(gaussian_kernel(1.0, 3), size=SIZE, stride=2), Fourier(torch.ones(SIZE))):
        good, bad = torch.zeros(1, 1, *SIZE), torch.zeros(1, 1, 6, 6)
        for v, y in ((bad, physics(good)), (good, bad)):
            with pytest.raises(ValueError, match="expected a tensor"):
                physics.prox(v, y, 1.0)


def test_the_gradient_is_that_of_the_data_term() -> None:
    physics = Fourier(half()).double()
    x, y = image(1).requires_grad_(), physics(image(1, seed=1))
    value = 0.5 * torch.view_as_real(physics(x) - y).square().sum()
    (expected,) = torch.autograd.grad(value, x)
    torch.testing.assert_close(physics.gradient(x.detach(), y), expected)


def test_curvature_is_known_where_nothing_is_lost() -> None:
    assert Inpainting(0.5 + torch.rand(SIZE)).curvature() > 0.2
    assert Convolution(signed(), size=SIZE).curvature() > 1e-4
    assert Convolution(signed(), size=SIZE, stride=2).curvature() == 0.0


def test_what_conjugate_gradients_did_not_find_is_in_the_bound() -> None:
    generator = torch.Generator().manual_seed(0)
    square = torch.randn(40, 40, dtype=torch.float64, generator=generator)
    normal, right = square.T @ square, torch.randn(2, 40, dtype=torch.float64, generator=generator)
    exact = torch.linalg.solve(torch.eye(40, dtype=torch.float64) + normal, right.T).T
    for most in (1, 5, 200):
        found = conjugate_gradient(lambda x: x @ normal, right, step=1.0, most=most)
        away = (found.image - exact).norm(dim=1)
        assert bool((away <= found.error + 1e-12).all())
        assert (most < 200) == bool((found.error > 1e-6).all())


def test_perrons_bound_needs_entries_of_one_sign() -> None:
    blur = Convolution(gaussian_kernel(1.0, 3), size=SIZE, padding_mode="zeros").double()
    values = torch.linalg.eigvalsh(matrix(blur).T @ matrix(blur))
    ones = torch.ones(1, 2, *SIZE, dtype=torch.float64)
    few, many = perron_bound(blur, ones, rounds=2), perron_bound(blur, ones, rounds=100)
    assert float(values[-1]) <= many <= 1.01 * float(values[-1])
    assert float(values[-1]) <= few
    with pytest.raises(ValueError, match="negative entries"):
        perron_bound(Convolution(signed(), size=SIZE).double(), ones)


def test_kernels() -> None:
    assert float(gaussian_kernel(1.6, 25).sum()) == pytest.approx(1.0)
    flat = motion_kernel(5, 0, 7)
    assert float(flat[3].sum()) == pytest.approx(1.0)
    torch.testing.assert_close(motion_kernel(5, 90, 7), flat.T)
    falling = motion_kernel(7, 135, 7)
    assert float(falling[0, 0] + falling[1, 1]) > float(falling[0, 6] + falling[1, 5])
    delta = torch.zeros(1, 1, 9, 9)
    delta[..., 4, 4] = 1.0
    torch.testing.assert_close(Convolution(falling, size=(9, 9))(delta)[0, 0, 1:8, 1:8], falling)  # a convolution


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: Inpainting(torch.empty(0)), "entries"),
        (lambda: Inpainting(torch.tensor([float("nan")])), "finite"),
        (lambda: Fourier(torch.ones(3)), r"\[H, W\]"),
        (lambda: Fourier(torch.ones(4, 4))(torch.ones(1, 1, 4, 5)), "expected a tensor"),
        (lambda: Convolution(torch.ones(2, 3), size=(8, 8)), "odd sides"),
        (lambda: Convolution(torch.ones(3, 3), size=(8, 8))(torch.ones(1, 1, 8, 9)), "size"),
        (lambda: Radon((8, 8), ()), "at least one angle in degrees"),
        (lambda: Radon((8, 8), 3)(torch.ones(1, 1, 9, 9)), "expected a tensor"),
        (lambda: gaussian_kernel(1.0, 4), "odd"),
        (lambda: motion_kernel(9.0, 0.0, 7), "at least the length"),
        (lambda: adjoint_defect(Inpainting(torch.ones(2, 2)), torch.ones(1, 1, 2, 2), torch.ones(2)), "shape"),
    ],
)
def test_what_is_refused(call: Callable[[], object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        call()


def test_sizes_and_masks_that_do_not_fit() -> None:
    assert Radon(8, 2).size == (8, 8)
    with pytest.raises(TypeError, match="size must be a whole number, or two of them"):
        Radon((8, 8, 8), 2)  # type: ignore[arg-type]
    for mask in (torch.ones(5), torch.ones(3, *SIZE), torch.ones(2, 1, *SIZE)):
        with pytest.raises(ValueError, match="mask must broadcast to the shape of the images"):
            Inpainting(mask)(torch.zeros(1, 1, *SIZE))
    with pytest.raises(ValueError, match="convert one of them"):
        Convolution(gaussian_kernel(1.0, 3), size=SIZE)(image(1))


def test_the_narrowest_blur_is_none() -> None:
    assert gaussian_kernel(1e-200, 3)[1, 1] == 1.0
