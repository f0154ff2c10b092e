"""Learned splines against what they declare, before and after training, at the knots and beyond."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn.activations import GroupHuber, Huber, Identity, LeakyReLU, Tanh
from contractive_gnn.compiled import kernels
from contractive_gnn.dynamics import GradientFlow
from contractive_gnn.operators import Conv2d
from contractive_gnn.splines import LinearSpline


def drawn(spline: LinearSpline, seed: int = 0, spread: float = 0.6) -> LinearSpline:
    """With slopes all over [0, 1], in double precision."""
    generator = torch.Generator().manual_seed(seed)
    spline = spline.double()
    with torch.no_grad():
        spline.theta.normal_(0, spread, generator=generator)
    return spline


def line(reach: float, count: int = 4001) -> Tensor:
    return torch.linspace(-3 * reach, 3 * reach, count, dtype=torch.float64)


def by_definition(spline: LinearSpline, channel: int, u: float) -> float:
    """σ(u) as the sum of what each piece adds between 0 and u."""
    slopes, knots = spline.piece_slopes()[channel].tolist(), spline.knots().tolist()
    knots[0], knots[-1] = -math.inf, math.inf
    total = 0.0
    for slope, left, right in zip(slopes, knots[:-1], knots[1:], strict=True):
        lower, upper = max(left, min(u, 0.0)), min(right, max(u, 0.0))
        total += slope * max(upper - lower, 0.0) * (1 if u > 0 else -1)
    return total


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("num_pieces", [2, 6, 16])
def test_the_value_is_what_the_pieces_add_up_to(num_pieces: int, odd: bool) -> None:
    spline = drawn(LinearSpline(3, num_pieces=num_pieces, reach=0.7, channel_axis=-1, odd=odd))
    u = torch.linspace(-2, 2, 41, dtype=torch.float64).unsqueeze(1).expand(-1, 3)
    expected = [[by_definition(spline, c, float(value)) for c, value in enumerate(row)] for row in u]
    torch.testing.assert_close(spline(u), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(spline.values(), spline(spline.knots().unsqueeze(1).expand(-1, 3)).T)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=8, max_size=8), st.floats(0.01, 10), st.booleans())
def test_no_parameter_leaves_the_declared_slopes(theta: list[float], reach: float, odd: bool) -> None:
    spline = LinearSpline(num_pieces=16 if odd else 8, reach=reach, odd=odd).double()
    with torch.no_grad():
        spline.theta.copy_(torch.tensor([theta]))
    u = line(reach)
    y = spline(u)
    secants = y.diff() / u.diff()
    assert secants.min() >= -1e-9
    assert secants.max() <= 1 + 1e-9
    assert spline(torch.zeros(1, dtype=torch.float64)).item() == 0.0
    if odd:
        torch.testing.assert_close(spline(-u), -y)


def test_a_slope_outside_the_table_is_seen() -> None:
    """The check above can fail: the same spline with a slope of 1.1 exceeds what is declared."""
    spline = drawn(LinearSpline(num_pieces=8))
    spline.piece_slopes = lambda: torch.full((1, 8), 1.1, dtype=torch.float64)  # type: ignore[method-assign]
    u = line(1.0)
    assert (spline(u).diff() / u.diff()).max() > 1.05


@pytest.mark.parametrize("plain", [False, True], ids=["compiled", "plain"])
def test_slopes_stay_inside_at_every_step_of_training(plain: bool) -> None:
    if not plain:
        pytest.importorskip("numba")
    with kernels.disabled() if plain else torch.enable_grad():
        spline = LinearSpline(2, num_pieces=8, channel_axis=-1)
        optimizer = torch.optim.Adam(spline.parameters(), lr=0.3)
        u = torch.linspace(-2, 2, 200).unsqueeze(1).expand(-1, 2)
        target = torch.stack([5 * u[:, 0], -2 * u[:, 1]], dim=1)  # steeper than 1, and falling
        for _ in range(60):
            optimizer.zero_grad()
            (spline(u) - target).square().mean().backward()
            optimizer.step()
            slopes = spline.piece_slopes()
            assert slopes.min() >= 0
            assert slopes.max() <= 1
    assert slopes[0].min() > 0.95, "the nearest slope to 5 is 1"
    assert slopes[1].max() < 0.05, "the nearest slope to −2 is 0"


@pytest.mark.parametrize("start", [Huber(0.3), Identity(), Tanh(0.4), LeakyReLU(0.3), None])
def test_it_starts_from_an_activation(start: torch.nn.Module | None) -> None:
    spline = LinearSpline(4, num_pieces=40, reach=2.0, start=start, channel_axis=-1).double()
    u = torch.linspace(-2, 2, 101, dtype=torch.float64).unsqueeze(1).expand(-1, 4)
    expected = (Huber(0.5) if start is None else start)(u)
    torch.testing.assert_close(spline(u), expected, atol=0.03, rtol=0)
    before = spline.theta.detach().clone()
    drawn(spline)
    spline.reset_parameters()
    torch.testing.assert_close(spline.theta.detach(), before)


def test_a_scale_stretches_and_keeps_the_slopes() -> None:
    spline = drawn(LinearSpline(3, num_pieces=8))
    u = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    tau = torch.tensor([0.3, 2.0], dtype=torch.float64).view(2, 1, 1, 1)
    expected = torch.stack([t * spline(row / t) for t, row in zip(tau.flatten(), u, strict=True)])
    torch.testing.assert_close(spline(u, scale=tau), expected)
    torch.testing.assert_close(spline(u, scale=0.3)[0], expected[0])
    torch.testing.assert_close(spline.potential(u, scale=tau)[1], 4.0 * spline.potential(u[1] / 2.0))
    for factor in (0.01, 100.0):
        x = line(factor).unsqueeze(1).expand(-1, 3).T.reshape(3, -1, 1)
        secants = spline(x, scale=factor).diff(dim=1) / x.diff(dim=1)
        assert secants.min() >= -1e-9
        assert secants.max() <= 1 + 1e-9


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 1, 1, 1), (3, 1, 1), (2, 3, 1, 1), (2, 3, 4, 5), (2, 1, 4, 5)])
@pytest.mark.parametrize("channels", [None, 3])
def test_every_scale_that_broadcasts_is_used(shape: tuple[int, ...], channels: int | None) -> None:
    spline = drawn(LinearSpline(channels, num_pieces=8))
    u = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    tau = 0.2 + torch.rand(shape, dtype=torch.float64)
    torch.testing.assert_close(spline(u, scale=tau), tau * spline(u / tau))
    with kernels.disabled():
        torch.testing.assert_close(spline(u, scale=tau), tau * spline(u / tau))


@pytest.mark.parametrize("scale", [None, 0.37])
def test_the_potential_is_its_integral(scale: float | None) -> None:
    spline = drawn(LinearSpline(2, num_pieces=6, reach=0.8, channel_axis=-1))
    u = torch.randn(50, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(spline.potential(u, scale=scale).sum(), u)
    torch.testing.assert_close(gradient, spline(u, scale=scale))
    assert spline.potential(torch.zeros(1, 2, dtype=torch.float64)).abs().max() == 0
    x = line(0.8).unsqueeze(1).expand(-1, 2)
    values = spline.potential(x, scale=scale)
    assert values.min() >= 0
    assert values.diff(n=2, dim=0).min() >= -1e-12, "convex"
    assert values.diff(dim=0).abs().max() < 0.02, "continuous"


@pytest.mark.parametrize("interval", [(-0.3, 0.9), (-5.0, -0.1), (0.02, 0.4), (0.0, 2.0), (-1.0, 0.0), (0.5, 0.5)])
def test_secants_are_those_of_a_fine_grid(interval: tuple[float, float]) -> None:
    spline = drawn(LinearSpline(3, num_pieces=8, channel_axis=-1), seed=2)
    z = torch.linspace(*interval, 20001, dtype=torch.float64)
    z = z[z.abs() > 1e-6].unsqueeze(1).expand(-1, 3)
    quotient = (spline(z) / z).detach()
    low, high = spline.secants(*interval)
    assert low <= quotient.min() + 1e-9
    assert high >= quotient.max() - 1e-9
    assert low == pytest.approx(float(quotient.min()), abs=1e-3)
    assert high == pytest.approx(float(quotient.max()), abs=1e-3)


def test_secants_far_out_are_the_outer_slopes() -> None:
    spline = drawn(LinearSpline(num_pieces=4))
    outer = spline.piece_slopes()[0, [0, -1]]
    low, high = spline.secants(-math.inf, math.inf)
    assert low <= outer.min()
    assert high >= outer.max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_finds_the_same_pieces(dtype: torch.dtype) -> None:
    spline = LinearSpline(3, num_pieces=16)
    u = torch.randn(2, 3, 8, 8).to(dtype)
    result = spline(u, scale=torch.full((2, 1, 1, 1), 0.5, dtype=dtype))
    assert result.dtype == dtype
    torch.testing.assert_close(result, spline(u.float(), scale=0.5).to(dtype))


def test_infinite_and_missing_entries_go_on() -> None:
    spline = LinearSpline()
    u = torch.tensor([math.nan, math.inf, -math.inf, 1e30])
    for context in (torch.no_grad(), kernels.disabled()):
        with context:
            result = spline(u)
        assert result[0].isnan()
        assert result[1] == math.inf
        assert result[2] == -math.inf
        assert 0 < result[3] < 1e30


def test_no_entries_and_all_ranks() -> None:
    assert LinearSpline()(torch.tensor(0.5)).shape == ()
    assert LinearSpline(3)(torch.ones(3, 4, 4)).shape == (3, 4, 4)
    assert LinearSpline(3)(torch.ones(0, 3, 4, 4)).shape == (0, 3, 4, 4)
    assert LinearSpline(3, channel_axis=-1)(torch.ones(3)).shape == (3,)
    assert LinearSpline(3, channel_axis=-1)(torch.ones(2, 0, 3), scale=0.5).shape == (2, 0, 3)


def test_copies_and_saved_states_agree() -> None:
    spline = drawn(LinearSpline(3))
    u = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    other = LinearSpline(3).double()
    other.load_state_dict(spline.state_dict())
    torch.testing.assert_close(other(u), spline(u))
    torch.testing.assert_close(copy.deepcopy(spline)(u), spline(u))


def test_bad_arguments_are_refused() -> None:
    for arguments, text in (
        ({"num_pieces": 7}, "even"),
        ({"num_pieces": 0}, "at least 2"),
        ({"reach": 0.0}, "positive"),
        ({"channels": 0}, "at least 1"),
        ({"channel_axis": 1}, "-3"),
        ({"start": GroupHuber()}, "entry by entry"),
        ({"odd": True, "start": LeakyReLU()}, "odd"),
    ):
        with pytest.raises(ValueError, match=text):
            LinearSpline(**arguments)
    with pytest.raises(TypeError, match="Activation"):
        LinearSpline(start="huber")  # type: ignore[arg-type]
    spline = LinearSpline(3)
    with pytest.raises(ValueError, match="3 channels on axis -3"):
        spline(torch.ones(2, 4, 5, 5))
    with pytest.raises(ValueError, match="broadcast"):
        spline(torch.ones(2, 3, 5, 5), scale=torch.ones(2))
    with pytest.raises(ValueError, match="broadcast"):
        spline(torch.ones(3, 5, 5), scale=torch.ones(2, 1, 1, 1))
    with pytest.raises(ValueError, match="positive"):
        spline(torch.ones(2, 3, 5, 5), scale=torch.tensor([1.0, 0.0]).view(2, 1, 1, 1))
    with pytest.raises(ValueError, match="positive"):
        spline(torch.ones(2, 3, 5, 5), scale=-1.0)
    with pytest.raises(TypeError, match="floating"):
        spline(torch.ones(3, 5, 5, dtype=torch.long))


def test_a_gradient_flow_takes_its_bounds_from_the_spline() -> None:
    """At the longest certified step no two images part, whatever was learned; a longer one parts them."""
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(4, 1, 3, 3, dtype=torch.float64, generator=generator)
    spline = drawn(LinearSpline(4, num_pieces=6), spread=3.0)
    flow = GradientFlow(Conv2d(kernel, size=(8, 8), padding=1, padding_mode="circular"), spline)
    assert flow.certified
    h = flow.max_step()
    for _ in range(20):
        x = torch.randn(1, 1, 8, 8, dtype=torch.float64, generator=generator, requires_grad=True)
        jacobian = torch.autograd.functional.jacobian(lambda z: z + h * flow(z), x).reshape(64, 64)
        assert torch.linalg.matrix_norm(jacobian, 2) <= 1 + 1e-12
    with torch.no_grad():
        spline.theta.fill_(30.0)  # every slope is 1: the bound is reached
    jacobian = torch.autograd.functional.jacobian(lambda z: z + 1.1 * h * flow(z), x).reshape(64, 64)
    assert torch.linalg.matrix_norm(jacobian, 2) > 1.15
