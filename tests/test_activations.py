import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contractive_gnn.activations import ACTIVATIONS, Activation, LeakyReLU, activation

EVERY = [pytest.param(factory(), id=name) for name, factory in ACTIVATIONS.items()]
ELEMENTWISE = [case for case in EVERY if not case.values[0].group]  # type: ignore[union-attr]


@pytest.mark.parametrize("sigma", EVERY)
def test_declared_slopes_hold_and_are_reached(sigma: Activation) -> None:
    # The eigenvalues of the symmetrised Jacobian at many points, of rows with two channels.
    generator = torch.Generator().manual_seed(0)
    points = torch.cat([torch.linspace(0.01, 6.0, 200).unsqueeze(1) * torch.tensor([[1.0, 0.5]]),
                        3 * torch.randn(200, 2, generator=generator)]).double()  # fmt: skip
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
    rows = torch.linspace(-40.0, 40.0, 4001, dtype=torch.float64).unsqueeze(1)
    reached = float(sigma(rows).abs().max())
    if math.isinf(sigma.bound):
        assert reached >= 30.0
    else:
        assert 0.999 * sigma.bound <= reached <= sigma.bound * (1 + 1e-12)


@pytest.mark.parametrize("sigma", EVERY)
def test_parity_and_odd_part(sigma: Activation) -> None:
    d = torch.linspace(-3.0, 3.0, 61, dtype=torch.float64).view(-1, 1)
    odd = bool(torch.allclose(sigma(-d), -sigma(d)))
    assert odd == sigma.odd
    torch.testing.assert_close(sigma.antisymmetric(-d), -sigma.antisymmetric(d))


def test_leaky_relu_is_linear_on_an_undirected_graph() -> None:
    d = torch.linspace(-3.0, 3.0, 61)
    torch.testing.assert_close(LeakyReLU(0.2).antisymmetric(d), 0.6 * d)


@pytest.mark.parametrize("sigma", ELEMENTWISE)
@given(low=st.floats(-5, 5), width=st.floats(0, 5))
def test_secants_hold(sigma: Activation, low: float, width: float) -> None:
    bottom, top = sigma.secants(low, low + width)
    z = torch.linspace(low, low + width, 101, dtype=torch.float64)
    z = z[z.abs() > 1e-6]
    ratio = sigma(z) / z
    assert bool((ratio >= bottom - 1e-9).all())
    assert bool((ratio <= top + 1e-9).all())


def test_the_gradient_is_finite_at_equal_nodes() -> None:
    for name in ("group-huber", "group-mcp"):
        d = torch.zeros(3, 2, requires_grad=True)
        activation(name)(d).sum().backward()
        assert d.grad is not None
        assert bool(torch.isfinite(d.grad).all())


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="unknown activation 'relu6'; expected one of identity"):
        activation("relu6")
    with pytest.raises(ValueError, match="threshold must be a positive finite number, got -1"):
        activation("huber", threshold=-1)
    with pytest.raises(ValueError, match=r"negative_slope must lie in \[0, 1\], got 2"):
        LeakyReLU(2)
