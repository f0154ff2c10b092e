"""Every activation against what it declares: slopes, bound, potential, parity; all of it in float64."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn.activations import (
    ACTIVATIONS,
    MCP,
    SCAD,
    Activation,
    Firm,
    GroupFirm,
    GroupHuber,
    GroupSoftThreshold,
    Huber,
    LeakyReLU,
    RectifiedPower,
    SoftThreshold,
    ThresholdActivation,
    activation,
)
from contractive_gnn.compiled import kernels
from contractive_gnn.dynamics import GradientFlow, PerceptronField
from contractive_gnn.operators import Dense

EVERY = [pytest.param(factory(), id=name) for name, factory in ACTIVATIONS.items()]
EVERY += [
    pytest.param(sigma, id=repr(sigma))
    for sigma in (Firm(0.3, 2.0), GroupFirm(2.0, 0.1), SCAD(0.5, 2.5), MCP(1.5), LeakyReLU(0.0))
]
ELEMENTWISE = [case for case in EVERY if not case.values[0].group]  # type: ignore[union-attr]
SCALED = [name for name, factory in ACTIVATIONS.items() if issubclass(factory, ThresholdActivation)]
PAIRS = [name for name in ACTIVATIONS if f"group-{name}" in ACTIVATIONS]


def scale(sigma: Activation) -> float:
    return sigma.threshold if isinstance(sigma, ThresholdActivation) else 1.0


def line(sigma: Activation) -> Tensor:
    """Points of one coordinate, dense near zero and far out, in units of λ."""
    fine = torch.linspace(-12.0, 12.0, 48001, dtype=torch.float64)
    far = torch.logspace(1.1, 4.0, 500, dtype=torch.float64)
    return scale(sigma) * torch.cat([-far.flip(0), fine, far]).unique()


@pytest.mark.parametrize("sigma", EVERY)
def test_secants_between_points_lie_within_the_declared_slopes_and_reach_both_ends(sigma: Activation) -> None:
    x = line(sigma)
    y = sigma(x.unsqueeze(1)).squeeze(1)
    secants = torch.cat([(y[k:] - y[:-k]) / (x[k:] - x[:-k]) for k in (1, 7, 1000, 20000)])
    low, high = sigma.slopes
    # Neighbours lie 5e-4 λ apart: the quotient's rounding is below 1e-8 (far out: 1e-12 of the quotient's size).
    assert secants.min() >= low - 1e-8
    assert secants.max() <= high + 1e-8
    assert secants.min() <= low + 1e-3
    assert secants.max() >= high - 1e-3


@pytest.mark.parametrize("sigma", EVERY)
def test_the_jacobian_is_symmetric_with_eigenvalues_within_the_slopes(sigma: Activation) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.cat([torch.linspace(0.01, 6.0, 600).unsqueeze(1) * torch.tensor([[1.0, 0.5, -0.2]]),
                        3 * torch.randn(200, 3, generator=generator)]).double() * scale(sigma)  # fmt: skip
    jacobian = torch.vmap(torch.func.jacrev(sigma))(points)
    torch.testing.assert_close(jacobian, jacobian.transpose(1, 2), msg="the Jacobian of a gradient is symmetric")
    eigenvalues = torch.linalg.eigvalsh(jacobian)
    low, high = sigma.slopes
    assert eigenvalues.min() >= low - 1e-9
    assert eigenvalues.max() <= high + 1e-9
    assert eigenvalues.min() <= low + 0.05
    assert eigenvalues.max() >= high - 0.05


@pytest.mark.parametrize("sigma", EVERY)
def test_declared_bound_holds_and_is_reached(sigma: Activation) -> None:
    x = line(sigma)
    reached = float(sigma(x.unsqueeze(1)).abs().max())
    if math.isinf(sigma.bound):
        assert reached >= 1000 * scale(sigma)
    else:
        assert 0.999 * sigma.bound <= reached <= sigma.bound * (1 + 1e-12)


@pytest.mark.parametrize("sigma", EVERY)
def test_the_potential_has_the_activation_as_its_gradient(sigma: Activation) -> None:
    generator = torch.Generator().manual_seed(1)
    d = 10 ** torch.linspace(-4, 2, 301).unsqueeze(1) * torch.randn(301, 3, generator=generator)
    d = (scale(sigma) * d.double()).requires_grad_()
    potential = sigma.potential(d)
    assert potential.shape == (d.shape[:-1] if sigma.group else d.shape)
    assert bool((potential >= 0).all())
    (gradient,) = torch.autograd.grad(potential.sum(), d)
    torch.testing.assert_close(gradient, sigma(d.detach()), rtol=1e-9, atol=1e-12)
    zero = torch.zeros(2, 3, dtype=torch.float64)
    torch.testing.assert_close(sigma.potential(zero), zero[:, 0] if sigma.group else zero)


@pytest.mark.parametrize("sigma", EVERY)
def test_the_potential_is_weakly_convex_and_no_less(sigma: Activation) -> None:
    x = scale(sigma) * torch.linspace(-12.0, 12.0, 4801, dtype=torch.float64)
    step = float(x[1] - x[0])

    def bend(rho: float) -> Tensor:
        phi = sigma.potential(x.unsqueeze(1)).flatten() + 0.5 * rho * x.square()
        return (phi[2:] - 2 * phi[1:-1] + phi[:-2]) / step**2

    # Second differences of values up to 100 λ² at steps of 5e-3 λ: rounding below 1e-8.
    assert bend(sigma.weak_convexity).min() >= -1e-8
    if sigma.weak_convexity:
        assert bend(0.95 * sigma.weak_convexity).min() <= -0.01 * sigma.weak_convexity


@pytest.mark.parametrize("sigma", EVERY)
def test_parity_and_odd_part(sigma: Activation) -> None:
    d = torch.linspace(-3.0, 3.0, 61, dtype=torch.float64).view(-1, 1)
    odd = bool(torch.allclose(sigma(-d), -sigma(d)))
    assert odd == sigma.odd
    torch.testing.assert_close(sigma.antisymmetric(-d), -sigma.antisymmetric(d))


@pytest.mark.parametrize("name", PAIRS)
def test_a_group_activation_scales_rows_by_the_elementwise_profile(name: str) -> None:
    rows = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 3
    length = rows.norm(dim=1, keepdim=True)
    single, group = activation(name), activation(f"group-{name}")
    torch.testing.assert_close(group(rows), rows / length * single(length))
    torch.testing.assert_close(group.potential(rows), single.potential(length).squeeze(1))


def test_leaky_relu_is_linear_on_an_undirected_graph() -> None:
    d = torch.linspace(-3.0, 3.0, 61)
    torch.testing.assert_close(LeakyReLU(0.2).antisymmetric(d), 0.6 * d)


@pytest.mark.parametrize(("threshold", "clip"), [(SoftThreshold, Huber), (GroupSoftThreshold, GroupHuber)])
def test_what_soft_thresholding_takes_away_is_hubers_clip(
    threshold: type[ThresholdActivation], clip: type[ThresholdActivation]
) -> None:
    d = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 2
    torch.testing.assert_close(d - threshold(0.7)(d), clip(0.7)(d))


def proximal(penalty: Tensor, grid: Tensor, d: Tensor) -> Tensor:
    """``argmin_x (x − d)²/2 + penalty(x)`` over a grid."""
    return grid[(0.5 * (grid - d.unsqueeze(1)).square() + penalty).argmin(dim=1)]


@pytest.mark.parametrize("name", ["firm", "scad"])
def test_firm_and_scad_are_the_residuals_of_the_proximal_maps_they_name(name: str) -> None:
    scale = 0.5
    grid, d = torch.linspace(0, 4, 40001).double(), torch.linspace(0, 3, 97).double()
    if name == "firm":
        kappa = 0.8
        gamma = 1 + 1 / kappa
        sigma: Activation = Firm(scale, kappa)
        penalty = torch.where(grid <= gamma * scale, scale * grid - grid.square() / (2 * gamma), gamma * scale**2 / 2)
    else:
        a = 3.7
        sigma = SCAD(scale, a)
        falling = (2 * a * scale * grid - grid.square() - scale**2) / (2 * (a - 1))
        penalty = torch.where(grid <= scale, scale * grid, falling)
        penalty = torch.where(grid <= a * scale, penalty, torch.full_like(grid, scale**2 * (a + 1) / 2))
    # The grid's spacing is 1e-4; the proximal map stretches by at most γ/(γ − 1) = 1.8, respectively (a − 1)/(a − 2).
    torch.testing.assert_close(sigma(d), d - proximal(penalty, grid, d), rtol=0, atol=2e-4)


@pytest.mark.parametrize("sigma", ELEMENTWISE)
@given(low=st.floats(-5, 5), width=st.floats(0, 5))
def test_secants_hold(sigma: Activation, low: float, width: float) -> None:
    bottom, top = sigma.secants(low, low + width)
    z = torch.linspace(low, low + width, 101, dtype=torch.float64)
    z = z[z.abs() > 1e-6]
    ratio = sigma(z) / z
    assert bool((ratio >= bottom - 1e-9).all())
    assert bool((ratio <= top + 1e-9).all())
    if isinstance(sigma, ThresholdActivation) and z.numel() == 101 and low * (low + width) > 0:
        assert ratio.min() <= bottom + 1e-9
        assert ratio.max() >= top - 1e-9


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name.startswith("group-")])
def test_the_gradient_is_finite_at_equal_nodes(name: str) -> None:
    sigma = activation(name)
    for f in (sigma, sigma.potential):
        d = torch.zeros(3, 2, requires_grad=True)
        f(d).sum().backward()
        assert d.grad is not None
        assert bool(torch.isfinite(d.grad).all())


@pytest.mark.parametrize("name", SCALED)
def test_a_learned_scale_has_a_gradient_and_keeps_the_slopes(name: str) -> None:
    fixed, learned = activation(name, threshold=0.8), activation(name, threshold=0.8, learnable=True)
    assert isinstance(learned, ThresholdActivation)
    learned = learned.double()
    d = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(learned(d), fixed(d), rtol=1e-6, atol=1e-7)  # log λ was drawn in float32
    assert torch.autograd.gradcheck(lambda log: torch.func.functional_call(learned, {"log_threshold": log}, (d,)),
                                    learned.log_threshold.detach().requires_grad_())  # fmt: skip
    optimiser = torch.optim.SGD(learned.parameters(), lr=0.05)
    before, bound = learned.threshold, learned.bound
    for _ in range(5):
        optimiser.zero_grad()
        (-learned.potential(d).sum()).backward()  # every potential grows with λ, but for the soft threshold's
        optimiser.step()
    grown = learned.threshold / before
    assert (grown < 1) == ("soft-threshold" in name)
    assert abs(grown - 1) > 0.01
    assert learned.slopes == fixed.slopes
    assert learned.bound == bound if math.isinf(bound) else math.isclose(learned.bound / bound, grown)
    x = line(learned).unsqueeze(1)
    steps = (learned(x).diff(dim=0) / x.diff(dim=0)).detach()
    assert learned.slopes[0] - 1e-8 <= steps.min() <= learned.slopes[0] + 1e-3
    assert learned.slopes[1] + 1e-8 >= steps.max() >= learned.slopes[1] - 1e-3
    assert learned(x).abs().max() <= learned.bound * (1 + 1e-12)
    twin = copy.deepcopy(learned)
    fresh = activation(name, learnable=True).double()
    fresh.load_state_dict(learned.state_dict())
    torch.testing.assert_close(twin(d), fresh(d), rtol=0, atol=0)
    learned.reset_parameters()
    assert math.isclose(learned.threshold, 0.8)


@pytest.mark.parametrize("name", ["huber", "group-huber", "group-mcp"])
def test_a_learned_scale_keeps_out_of_the_kernel_and_any_dtype(name: str) -> None:
    assert kernels.code(activation(name)) is not None
    learned = activation(name, learnable=True)
    assert kernels.code(learned) is None
    for dtype in (torch.float32, torch.float64):
        assert learned(torch.ones(2, 2, dtype=dtype)).dtype == dtype
        assert learned.double()(torch.ones(2, 2, dtype=dtype)).dtype == dtype


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(
        ValueError,
        match=r"no activation is called 'hubert'\. Did you mean 'huber'\? There are: firm, ",
    ):
        activation("hubert")
    with pytest.raises(ValueError, match="threshold must be positive, got -1"):
        activation("huber", threshold=-1)
    with pytest.raises(ValueError, match="negative_slope must be at least 0 and at most 1, got 2"):
        LeakyReLU(2)
    with pytest.raises(ValueError, match="kappa must be positive, got 0"):
        Firm(1.0, 0)
    with pytest.raises(ValueError, match=r"a must be above 2, got 2\.0"):
        SCAD(1.0, 2.0)
    with pytest.raises(ValueError, match="'identity' has no threshold, got learnable=True"):
        activation("identity", learnable=True)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_powers_of_the_relu_make_monomials(power: int) -> None:
    sigma = RectifiedPower(power)
    d = torch.linspace(-3.0, 3.0, 61, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(sigma(d) + (-1) ** power * sigma(-d), d**power)
    (gradient,) = torch.autograd.grad(sigma.potential(d).sum(), d)
    torch.testing.assert_close(gradient, sigma(d.detach()))
    assert sigma.slopes == (0.0, 1.0 if power == 1 else math.inf)


def test_powers_of_the_relu_are_taken_by_fields_that_claim_nothing_alone() -> None:
    steep = RectifiedPower(2)
    with pytest.raises(ValueError, match=r"slopes of an activation must be an interval .* of finite numbers"):
        GradientFlow(Dense(torch.eye(2)), steep)
    field = PerceptronField(Dense(torch.eye(2)), steep)
    assert field.field_lipschitz() == math.inf
    assert field.rate() == -math.inf
    with pytest.raises(ValueError, match="power must be at least 1"):
        RectifiedPower(0)
    with pytest.raises(TypeError, match="power must be a whole number"):
        RectifiedPower(1.5)  # type: ignore[arg-type]
