"""Implicit midpoint: how far a step contracts in ℓ2 and in ℓ∞, where that ends, and an equation that is not solved."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn.integrators import ConvergenceError, Time, contraction_factor, integrate, solver
from contractive_gnn.norms import L2, LInf, lipschitz_adversarial, lipschitz_sampled

MIDPOINT = solver("implicit-midpoint")


def factor(step: float, rate: float, limit: float, norm: str = "l2") -> float:
    return contraction_factor(step, rate, max_euler_step=limit, scheme="implicit-midpoint", norm=norm)


def gradient_field(seed: int, rate: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    k, b = (torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((5, 4), (5,)))
    return k / torch.linalg.matrix_norm(k, 2), b


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31), h=st.floats(0.05, 60.0), rate=st.sampled_from([0.0, 0.3]))
def test_a_step_of_any_length_contracts_in_l2_as_is_declared(seed: int, h: float, rate: float) -> None:
    """``−Kᵀtanh(Kx + b) − κx`` with ``‖K‖ = 1``: Euler contracts by ``1 − hκ`` up to ``2/(1 + 2κ)``."""
    k, b = gradient_field(seed, rate)
    limit = 2 / (1 + 2 * rate)

    def step(x: Tensor) -> Tensor:
        def field(y: Tensor, t: Time) -> Tensor:
            return -torch.tanh(y @ k.T + b) @ k - rate * y

        return integrate(field, x, step=h, num_steps=1, scheme=MIDPOINT, max_euler_step=limit, tolerance=1e-10)

    x, bound = torch.zeros(4, dtype=torch.float64), factor(h, rate, limit) + 1e-6
    assert lipschitz_sampled(step, x, norm="l2", samples=20, seed=seed).value <= bound
    assert lipschitz_adversarial(step, x, norm="l2", restarts=1, steps=10, seed=seed).value <= bound


@pytest.mark.parametrize("h", [0.1, 1.0, 3.0, 40.0])
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_the_factor_in_l2_is_reached_by_a_linear_field(h: float, rate: float) -> None:
    limit = 1.0
    ends = [-rate, rate - 2 / limit]
    grown = [
        float(
            integrate(
                lambda x, t, z=z: z * x, torch.ones(1, dtype=torch.float64), step=h, num_steps=1, scheme=MIDPOINT,
                max_euler_step=limit, max_iterations=20_000,
            )
        )
        for z in ends
    ]  # fmt: skip
    assert max(map(abs, grown)) == pytest.approx(factor(h, rate, limit), abs=1e-9)


def test_an_expansive_field_grows_as_is_declared() -> None:
    def field(x: Tensor, t: Time) -> Tensor:
        return x @ torch.tensor([[0.3, 2.0], [-2.0, 0.3]], dtype=torch.float64)

    x = torch.tensor([1.0, 0.0], dtype=torch.float64)
    grown = integrate(field, x, step=0.5, num_steps=1, scheme=MIDPOINT).norm()
    assert float(grown) <= factor(0.5, -0.3, 0.0) == (1 + 0.075) / (1 - 0.075)
    assert factor(0.5, 0.3, 0.0) == 1.0  # no Lipschitz constant is known: R(−∞) = −1
    with pytest.raises(ValueError, match=r"an implicit step of 10 needs 1 \+ step·rate > 0"):
        factor(10.0, -0.3, 0.0)


def test_in_the_max_norm_twice_the_euler_step_is_the_end() -> None:
    """The upwind chain ``ẋ_i = x_{i−1} − x_i``, on which Euler is non-expansive up to step 1."""
    chain = torch.diag(torch.ones(8, dtype=torch.float64), -1) - torch.eye(9, dtype=torch.float64)

    def worst(h: float, norm: str) -> float:
        def step(x: Tensor) -> Tensor:
            return integrate(lambda x, t: chain @ x, x, step=h, num_steps=1, scheme=MIDPOINT, max_euler_step=1.0)

        return lipschitz_adversarial(step, torch.zeros(9, dtype=torch.float64), norm=norm).value

    for norm in ("linf", "l1"):
        assert worst(2.0, norm) <= factor(2.0, 0.0, 1.0, norm) + 1e-9 == 1 + 1e-9
        assert worst(2.1, norm) > 1.01
        with pytest.raises(ValueError, match=f"nothing is proved for implicit-midpoint in {norm} with step 2.1"):
            factor(2.1, 0.0, 1.0, norm)
        with pytest.raises(ValueError, match=f"rate must be at least 0 for implicit-midpoint in {norm}"):
            factor(0.1, -0.1, 1.0, norm)
    assert factor(1.0, 0.5, 0.5, "linf") == (1 - 0.25) / (1 + 0.25)
    assert worst(20.0, "l2") <= 1 + 1e-9  # in ℓ2 there is no end
    assert MIDPOINT.radius(L2) == math.inf
    assert MIDPOINT.radius(LInf) == 2


def test_a_stiff_step_that_explicit_schemes_blow_up_contracts() -> None:
    stiff = torch.tensor([-1.0, -100.0], dtype=torch.float64)
    x = torch.ones(2, dtype=torch.float64)
    y = integrate(
        lambda x, t: stiff * x, x, step=4.0, num_steps=1, scheme=MIDPOINT, max_euler_step=0.02, max_iterations=20_000
    )
    torch.testing.assert_close(y, (1 + 2 * stiff) / (1 - 2 * stiff), rtol=1e-9, atol=1e-9)
    assert float(integrate(lambda x, t: stiff * x, x, step=4.0, num_steps=1, scheme="heun").abs().max()) > 1e3


def test_an_unsolved_step_is_an_error() -> None:
    def fast(x: Tensor, t: Time) -> Tensor:
        return torch.stack([30 * x[1], -30 * x[0]])

    x = torch.tensor([1.0, 0.0], dtype=torch.float64)
    with pytest.raises(ConvergenceError, match=r"implicit midpoint with step 0\.05 left .* steps below 1/Lip"):
        integrate(fast, x, step=0.1, num_steps=1, scheme="implicit-midpoint")
    end = integrate(fast, x, step=0.05, num_steps=1, scheme="implicit-midpoint", tolerance=1e-14)
    assert float(end.norm()) == pytest.approx(1.0, abs=1e-12)
