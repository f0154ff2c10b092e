"""Taps that sum to 0 do in every precision, and a fixed tensor is found again in the one that it was given in."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from contractive_gnn.dynamics import PerceptronField
from contractive_gnn.operators import Dense, Stencil
from contractive_gnn.operators.precision import rounded_taps

DOUBLE = torch.float64


def exact_sum(taps: Tensor) -> float:
    return math.fsum(taps.double().flatten().tolist())


@settings(deadline=None, max_examples=60)
@given(
    order=st.sampled_from([2, 4, 6]),
    spacing=st.lists(st.floats(0.01, 0.04), min_size=1, max_size=3),
    factor=st.floats(1e-3, 1e3),
)
def test_a_laplacian_in_single_precision_sums_to_zero_in_any_order(
    order: int, spacing: list[float], factor: float
) -> None:
    exact = factor * Stencil.laplacian([7] * len(spacing), spacing=spacing, order=order, dtype=DOUBLE).kernel
    near = rounded_taps(exact, torch.float32, [order // 2] * len(spacing))
    assert near.dtype == torch.float32
    assert exact_sum(near) == 0.0
    shuffled = near.flatten()[torch.randperm(near.numel(), generator=torch.Generator().manual_seed(0))]
    assert float(shuffled.cumsum(0)[-1]) == 0.0
    assert float((near.double() - exact).abs().max()) <= 1e-5 * float(exact.abs().max())
    for axis in range(near.dim()):  # what is even stays so
        assert torch.equal(near, near.flip(axis))


@pytest.mark.parametrize("order", [2, 4, 6])
def test_an_odd_kernel_stays_odd_and_others_are_rounded_as_ever(order: int) -> None:
    odd = Stencil.central_difference((9,), spacing=0.07, order=order)
    assert exact_sum(odd.kernel) == 0.0
    assert torch.equal(odd.kernel, -odd.kernel.flip(0))
    for kernel in (torch.tensor([0.1, 0.7, 0.2], dtype=DOUBLE), torch.zeros(3, dtype=DOUBLE)):
        assert torch.equal(rounded_taps(kernel, torch.float32, [1]), kernel.float())


def test_each_kernel_of_several_is_rounded_by_itself() -> None:
    laplacian = 0.3 * Stencil.laplacian((8,), order=4, dtype=DOUBLE).kernel
    mean = torch.full((5,), 0.2, dtype=DOUBLE)
    near = rounded_taps(torch.stack([laplacian, mean]), torch.float32, [2])
    assert exact_sum(near[0]) == 0.0
    assert torch.equal(near[1], mean.float())


def test_taps_along_an_axis_with_far_larger_spacing_are_not_lost() -> None:
    exact = 0.3 * Stencil.laplacian((7, 7), spacing=(1.0, 3000.0), order=4, dtype=DOUBLE).kernel
    near = rounded_taps(exact, torch.float32, [2, 2])
    torch.testing.assert_close(near[2, [0, 1, 3, 4]].double(), exact[2, [0, 1, 3, 4]], rtol=1e-7, atol=0)


def test_a_fixed_kernel_is_found_again_in_double_precision() -> None:
    exact = Stencil.laplacian((8, 9), spacing=0.07, order=6, dtype=DOUBLE).kernel
    stencil = Stencil.laplacian((8, 9), spacing=0.07, order=6)
    saved = io.BytesIO()
    torch.save(stencil, saved)
    saved.seek(0)
    for twin in (stencil, copy.deepcopy(stencil), torch.load(saved, weights_only=False)):
        for there in (twin.half().double(), twin.float().half().to(DOUBLE)):
            assert torch.equal(there.kernel, exact)
        assert torch.equal(twin.float().kernel, rounded_taps(exact, torch.float32, [3, 3]))


def test_what_was_changed_since_or_is_learned_is_converted_as_it_is() -> None:
    changed, loaded = (Stencil.laplacian((8,), order=4) for _ in range(2))
    changed.kernel.mul_(2.0)
    loaded.load_state_dict({"kernel": torch.tensor([1.0, 0.1, 2.0, 0.3, 4.0])})
    learned = Stencil(nn.Parameter(Stencil.laplacian((8,), order=4).kernel), size=(8,))
    for stencil in (changed, loaded, learned):
        before = stencil.kernel.detach().clone()
        assert torch.equal(stencil.double().kernel, before.double())


def test_a_kernel_that_is_computed_keeps_its_gradient() -> None:
    factor = torch.tensor(0.3, requires_grad=True)
    stencil = Stencil(factor * torch.tensor([1.0, -2.0, 1.0]), size=(8,)).double()
    stencil(torch.arange(8.0, dtype=DOUBLE)).square().sum().backward()
    assert factor.grad is not None


def test_a_fixed_bias_is_found_again_in_double_precision() -> None:
    bias = torch.tensor([0.1, 0.2], dtype=DOUBLE)
    field = PerceptronField(Dense(torch.eye(2, dtype=DOUBLE)), "tanh", bias=bias).float()
    assert torch.equal(field.layer.bias, bias.float())  # type: ignore[arg-type]
    assert torch.equal(field.double().layer.bias, bias)  # type: ignore[arg-type]


def test_without_values_it_is_built_and_converted() -> None:
    with torch.device("meta"):
        stencil = Stencil(torch.empty(3), size=(8,))
    assert stencil.to_empty(device="cpu").double().kernel.dtype == DOUBLE
