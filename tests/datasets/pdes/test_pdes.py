"""Data of equations: exact where they say so, and what another method finds."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor

from contractive_gnn.datasets.pdes import (
    PDES,
    PixelData,
    blobs,
    laplacian_symbol,
    linear_solution,
    load_pde,
    method_of_lines,
    plane_waves,
    time_step,
)
from contractive_gnn.datasets.pdes.loading import _solved
from contractive_gnn.datasets.pdes.spectral import top_third
from contractive_gnn.dynamics.pdes import FiniteDifferences, burgers, fisher, gray_scott, heat
from contractive_gnn.integrators import integrate

DOUBLE = torch.float64


def test_advection_at_two_pixels_a_step_moves_them() -> None:
    data = load_pde("advection", count=2, steps=3, size=20, dtype=DOUBLE)
    assert data.step == 0.02
    shift = data.step * 20  # pixels a step
    moved = load_pde("advection", count=2, steps=5, size=20, dtype=DOUBLE).states
    whole = round(5 * shift)
    torch.testing.assert_close(moved[:, 5], moved[:, 0].roll((whole, whole), (-2, -1)))


def test_heat_damps_each_wave_by_its_rate() -> None:
    data = load_pde("heat", count=3, steps=4, size=24, dtype=DOUBLE)
    for solution in data.states:
        transformed = torch.fft.fft2(solution[:, 0])
        place = int(transformed[0].abs().argmax())
        k, m = divmod(place, 24)
        k, m = (min(j, 24 - j) for j in (k, m))
        assert 5 <= k <= 8
        assert 5 <= m <= 8
        rate = 0.01 * 4 * math.pi**2 * (k**2 + m**2)
        ratio = float(transformed[4].flatten()[place].abs() / transformed[0].flatten()[place].abs())
        assert ratio == pytest.approx(math.exp(-rate * 4 * data.step), rel=1e-9)


@pytest.mark.filterwarnings("ignore:32 × 32 points do not resolve")
@pytest.mark.parametrize("name", ["fisher", "burgers", "gray-scott"])
def test_the_other_solutions_are_those_of_finite_differences_of_order_six(name: str) -> None:
    size, steps = 32, 2
    data = load_pde(name, count=1, steps=steps, size=size, seed=3, dtype=DOUBLE)
    given = {"spacing": 1 / size, "order": 6}
    equation = {
        "fisher": lambda: fisher((size, size), alpha=0.01, **given),  # type: ignore[arg-type]
        "burgers": lambda: burgers((size, size), viscosity=0.002, **given),  # type: ignore[arg-type]
        "gray-scott": lambda: gray_scott((size, size), **given),  # type: ignore[arg-type]
    }[name]()
    field = FiniteDifferences(equation, dtype=DOUBLE)
    end = integrate(field, data.states[0, 0], step=data.step / 32, num_steps=32 * steps, scheme="rk4")
    error = float((end - data.states[0, -1]).norm() / data.states[0, -1].norm())
    # order 6 at four points a wave is not much; of the long waves it is
    assert error < {"fisher": 0.1, "burgers": 1e-4, "gray-scott": 1e-4}[name]
    assert float((data.states[0, -1] - data.states[0, 0]).norm() / data.states[0, 0].norm()) > 5 * error


def test_the_two_ways_to_a_linear_solution_agree() -> None:
    start = plane_waves(2, (12, 14), generator=torch.Generator().manual_seed(0), waves=(1, 3))
    symbol = 0.01 * laplacian_symbol((12, 14), 0.1)
    times = [0.0, 0.2, 0.5]
    exact = linear_solution(start, symbol, times)

    def rate(u: Tensor) -> Tensor:
        return torch.fft.ifft2(symbol * torch.fft.fft2(u)).real

    torch.testing.assert_close(exact.transpose(0, 1), method_of_lines(start, rate, times), rtol=0, atol=1e-8)
    torch.testing.assert_close(exact[:, 0], start)


def test_a_solution_of_the_other_library() -> None:
    pde = pytest.importorskip("pde")
    n, alpha = 16, 0.02
    start = plane_waves(1, (n, n), generator=torch.Generator().manual_seed(0), waves=(1, 2))[0]
    grid = pde.CartesianGrid([[0, 1], [0, 1]], [n, n], periodic=True)
    equation = pde.PDE({"u": f"{alpha} * laplace(u) + u * (1 - u)"})
    theirs = equation.solve(pde.ScalarField(grid, start.numpy()), t_range=0.2, dt=0.01, backend="numpy", tracker=None)
    field = FiniteDifferences(fisher((n, n), alpha=alpha, spacing=1 / n), dtype=DOUBLE)
    ours = integrate(field, start[None], step=0.01, num_steps=20)[0]
    torch.testing.assert_close(ours, torch.as_tensor(theirs.data), rtol=1e-11, atol=1e-12)


@pytest.mark.filterwarnings("ignore:20 × 20 points do not resolve")
@pytest.mark.parametrize("name", PDES)
def test_the_same_seed_gives_the_same_data_and_another_one_other_data(name: str) -> None:
    first, again, other = (load_pde(name, count=1, steps=1, size=20, seed=seed) for seed in (0, 0, 1))
    assert first.digest == again.digest != other.digest
    assert first.name == again.name != other.name
    assert first.states.dtype == torch.float32
    assert (len(first), first.steps, first.size) == (1, 1, (20, 20))
    assert first.fields == (2 if name == "gray-scott" else 1)
    assert time_step(name, 20) == first.step


def test_parts_of_a_data_set() -> None:
    data = load_pde("heat", count=5, steps=4, size=20)
    part = data.subset(slice(1, 3), steps=2)
    assert (len(part), part.steps, part.step) == (2, 2, data.step)
    assert torch.equal(part.states, data.states[1:3, :3])
    assert data.to(DOUBLE).states.dtype == DOUBLE
    with pytest.raises(ValueError, match="steps must be from 1 to 4, got 5"):
        data.subset(slice(None), steps=5)


def test_starts_are_what_they_are_called() -> None:
    generator = torch.Generator().manual_seed(0)
    u = plane_waves(4, (16,), generator=generator, waves=(2, 2), offset=1.0)
    transformed = torch.fft.rfft(u).abs()
    assert float(transformed[:, [0, 2]].min()) > 1
    assert float(transformed[:, [1, 3, 4, 5]].max()) < 1e-9
    w = blobs(2, (24, 24), generator=generator)
    assert w.shape == (2, 2, 24, 24)
    assert float(w[:, 0].min()) >= 0.5
    assert float(w[:, 1].max()) <= 0.25
    torch.testing.assert_close(1 - w[:, 0], 2 * w[:, 1])


@pytest.mark.parametrize(
    ("name", "steps", "shows"), [("fisher", 8, None), ("burgers", 2, None), ("burgers", 12, 6), ("gray-scott", 3, None)]
)
def test_solutions_are_those_of_a_grid_twice_as_fine_until_a_warning_says_otherwise(
    name: str, steps: int, shows: int | None
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        states = load_pde(name, count=1, steps=steps, dtype=DOUBLE).states
    found = [str(warning.message) for warning in caught if warning.category is UserWarning]
    start = states[:, 0]
    fine = start
    for axis in (-2, -1):
        fine = refined(fine, axis)
    fine_states = _solved(name, fine, [k * time_step(name, 100) for k in range(steps + 1)], 1 / 200)
    error = (states - fine_states[..., ::2, ::2]).flatten(3).norm(dim=3) / states.flatten(3).norm(dim=3)
    errors = error.amax(dim=(0, 2)).tolist()
    if shows is None:
        assert not found
        assert max(errors) < 1e-7
    else:
        (message,) = found
        assert f"from step {shows} on" in message
        assert f"take a larger size, or at most {shows - 1} steps" in message
        assert max(errors[:shows]) < 1e-7 < 1e-4 < max(errors)


def refined(u: Tensor, axis: int) -> Tensor:
    """The trigonometric polynomial through the points, at twice as many."""
    n = u.size(axis)
    waves = torch.fft.rfft(u, dim=axis)
    highest = waves.narrow(axis, n // 2, 1) / 2
    waves = torch.cat([waves.narrow(axis, 0, n // 2), highest], dim=axis)
    return 2 * torch.fft.irfft(waves, n=2 * n, dim=axis)


def test_what_the_grid_does_not_resolve_from_the_start_needs_a_finer_one() -> None:
    with pytest.warns(UserWarning, match=r"16 × 16 points .* of gray-scott from step 0 on.* take a larger size$"):
        load_pde("gray-scott", count=1, steps=1, size=16)


def test_the_highest_third_is_measured_along_each_axis() -> None:
    n = 12
    x = torch.arange(n, dtype=DOUBLE) * 2 * math.pi / n
    low, high = torch.cos(4 * x), torch.cos(5 * x)
    assert float(top_third(low[:, None] * low, 2)) < 1e-15
    for u in (high[:, None] * low, low[:, None] * high):
        assert float(top_third(u, 2)) == pytest.approx(1.0)
    assert float(top_third(low + high, 1)) == pytest.approx(0.5**0.5)
    assert float(top_third(torch.zeros(3, n), 1).max()) == 0.0


def test_a_state_is_that_of_a_step_of_its_own() -> None:
    """Of Fisher's equation the solver's steps are as long as is stable: between them nothing is controlled."""
    states = load_pde("fisher", count=1, steps=12, dtype=DOUBLE).states
    for k in range(12):
        alone = _solved("fisher", states[:, k], [0.0, time_step("fisher", 100)], 1 / 100)[:, 1]
        assert float((alone - states[:, k + 1]).norm() / alone.norm()) < 1e-9


def test_blobs_that_meet_are_smooth() -> None:
    w = blobs(3, (128, 128), generator=torch.Generator().manual_seed(0), number=12)
    assert float(top_third(w[:, 1], 2).max()) < 1e-9
    assert float(w[:, 1].max()) <= 0.25


def test_the_size_is_checked_before_the_step_follows_from_it() -> None:
    for size, error in ((0, ValueError), (-3, ValueError), (7, ValueError), (20.0, TypeError), ("a", TypeError)):
        with pytest.raises(error, match="size must be"):
            load_pde("heat", count=1, steps=1, size=size)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        time_step("heat", 0)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="no data set of an equation is called 'wave'"):
        load_pde("wave", count=1, steps=1)
    with pytest.raises(ValueError, match="leave waves out"):
        load_pde("gray-scott", count=1, steps=1, waves=(1, 2))
    for waves in ((3, 2), (1, 8), (1, 2, 3)):
        with pytest.raises(ValueError, match="waves must be"):
            load_pde("heat", count=1, steps=1, size=16, waves=waves)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="count must be at least 1"):
        load_pde("heat", count=0, steps=1)
    with pytest.raises(ValueError, match="states must be"):
        PixelData(torch.ones(2, 3, 4), step=1.0, spacing=1.0, name="flat")
    with pytest.raises(ValueError, match="states must be"):
        PixelData(torch.ones(2, 1, 1, 4), step=1.0, spacing=1.0, name="still")
    with pytest.raises(ValueError, match="not finite"):
        PixelData(torch.full((1, 2, 1, 4), math.nan), step=1.0, spacing=1.0, name="blown up")
    with pytest.raises(TypeError, match="floating point tensor"):
        PixelData(torch.ones(1, 2, 1, 4, dtype=torch.long), step=1.0, spacing=1.0, name="whole")
    with pytest.raises(RuntimeError, match=r"the reference solution stopped .* take a finer grid or fewer steps"):
        method_of_lines(torch.ones(2), lambda u: u**3 * 1e3, [0.0, 1.0])


def test_heat_on_a_coarse_grid_needs_no_solver() -> None:
    """The exact solution is what finite differences approach: the error falls with the square of the distance."""
    errors = []
    for size in (32, 64):
        grid = (size, size)
        start = plane_waves(1, grid, generator=torch.Generator().manual_seed(0), waves=(1, 2))
        exact = linear_solution(start, 0.01 * laplacian_symbol(grid, 1 / size), [0.0, 0.5])[0, -1]
        field = FiniteDifferences(heat(grid, alpha=0.01, spacing=1 / size), dtype=DOUBLE)
        end = integrate(field, start, step=0.5 / 64, num_steps=64, scheme="rk4")[0]
        errors.append(float((end - exact).norm() / exact.norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)
