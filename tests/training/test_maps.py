"""A fit ends where it can, the same each time, and says when it cannot."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.datasets.maps import MAPS
from contractive_gnn.nn.presnov import PresnovNet
from contractive_gnn.training.maps import MapFitOptions, fit_map, map_error

SHORT = MapFitOptions(adam_steps=150, lbfgs_steps=100)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def small(**arguments: object) -> PresnovNet:
    torch.manual_seed(0)
    return PresnovNet(2, width=6, num_blocks=1, **arguments).double()  # type: ignore[arg-type]


def test_a_linear_map_is_found_to_rounding() -> None:
    x, matrix = draw(50, 3), draw(3, 3, seed=1)
    torch.manual_seed(0)
    model = nn.Linear(3, 3).double()
    fit = fit_map(model, x, x @ matrix.T, MapFitOptions(adam_steps=0, lbfgs_steps=100))
    assert fit.start == fit.adam > 0.1
    assert fit.final < 1e-6
    assert 0 < fit.lbfgs_steps <= 100
    error = map_error(model, x, x @ matrix.T)
    assert error.l2 == pytest.approx(fit.final)
    assert error.l2 <= error.largest <= error.l2 * 50**0.5
    assert error.least_determinant == pytest.approx(float(torch.linalg.det(matrix)), rel=1e-4)


def test_the_sphere_half_learns_the_swirl_and_the_gradients_do_not_so_soon() -> None:
    swirl = MAPS.get("swirl")
    x, test = swirl.points(150, seed=0), swirl.points(400, seed=1)
    errors = {}
    for halves in (("gradient", "sphere"), ("gradient", "gradient")):
        model = small(halves=halves)
        fit = fit_map(model, x, swirl(x), SHORT)
        assert fit.start > fit.adam > fit.final
        assert not model.training
        errors[halves[1]] = map_error(model, test, swirl(test)).l2
    assert errors["sphere"] < 0.5 * errors["gradient"]


def test_an_orientation_preserving_network_stays_away_from_the_reflection() -> None:
    """Half the radius away, somewhere: the theorem; the same steps without the condition fold, and come nearer."""
    reflection = MAPS.get("reflection")
    x, test = reflection.points(150, seed=0), reflection.points(2000, seed=1)
    largest = {}
    for share in (0.9, None):
        model = small(halves=("gradient",), share=share)
        fit_map(model, x, reflection(x), SHORT)
        assert (model.contraction_share() < 1) is (share is not None)
        error = map_error(model, test, reflection(test))
        assert (error.least_determinant > 0) is (share is not None)
        largest[share] = error.largest
    assert largest[0.9] > 0.5
    assert largest[None] < 0.25


def test_the_same_start_gives_the_same_fit() -> None:
    swirl = MAPS.get("swirl")
    x = swirl.points(50, seed=0)
    first = small()
    second = copy.deepcopy(first)
    options = MapFitOptions(adam_steps=5, lbfgs_steps=5)
    fit_map(first, x, swirl(x), options)
    fit_map(second, x, swirl(x), options)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_loss_that_is_not_finite_is_refused_wherever_it_comes_up() -> None:
    x = draw(5, 2)
    last = MapFitOptions(adam_steps=0, lbfgs_steps=5)
    for options in (SHORT, last):
        with pytest.raises(FloatingPointError, match="the loss is nan at the start"):
            fit_map(nn.Linear(2, 2).double(), x, torch.full_like(x, torch.nan), options)
    with pytest.raises(FloatingPointError, match="at step 1 of Adam; lower lr"):
        fit_map(nn.Linear(2, 2).double(), x, x.flip(1), MapFitOptions(adam_steps=3, lr=1e300))
    with pytest.raises(FloatingPointError, match="after Adam; lower lr"):
        fit_map(nn.Linear(2, 2).double(), x, x.flip(1), MapFitOptions(adam_steps=1, lr=1e300))


def test_errors_say_what_was_expected() -> None:
    x, model = draw(5, 2), small()
    with pytest.raises(ValueError, match=r"two tensors \[n, d\] of one dtype, got \[5, 2\] torch.float64 and \[4, 2\]"):
        fit_map(model, x, x[:4])
    with pytest.raises(ValueError, match="of one dtype"):
        fit_map(model, x, x.float())
    with pytest.raises(ValueError, match="no parameter that learns"):
        fit_map(nn.Identity(), x, x)
    with pytest.raises(TypeError, match="options must be MapFitOptions"):
        fit_map(model, x, x, {"lr": 0.1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Linear takes points \[5, 2\] to \[5, 1\], and their images are \[5, 2\]"):
        fit_map(nn.Linear(2, 1).double(), x, x.flip(1))
    with pytest.raises(ValueError, match="give a step of Adam or of L-BFGS at least"):
        MapFitOptions(adam_steps=0, lbfgs_steps=0)
    with pytest.raises(ValueError, match="lr must be positive"):
        MapFitOptions(lr=0.0)
    with pytest.raises(ValueError, match="points, answers and images must have one shape"):
        map_error(model, x, x[:4])
