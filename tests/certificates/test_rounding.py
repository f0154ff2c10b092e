"""The slacks hold the rounding errors of every precision, and say so where they cannot."""

from __future__ import annotations

import pytest
import torch

from contractive_gnn.certificates.rounding import DTYPES, Unproved, affine_rounding, gamma, in_range, positive


@pytest.mark.parametrize("dtype", DTYPES)
def test_gamma_is_refused_where_its_denominator_vanishes(dtype: torch.dtype) -> None:
    largest = int(0.5 / torch.finfo(dtype).eps) - 1
    assert 0 < float(gamma(torch.tensor(largest), dtype)) < 1
    for terms in (largest + 1, 2 * largest + 2, 10 * largest):
        with pytest.raises(Unproved, match="rounding errors in a row cannot be bounded"):
            gamma(torch.tensor(terms), dtype)


def test_slacks_are_positive_numbers_and_sizes_are_in_range() -> None:
    for wrong in (0.0, -1e-9, float("nan"), float("inf")):
        with pytest.raises(Unproved, match="not positive and finite"):
            positive(torch.tensor([1.0, wrong]))
    in_range(torch.tensor([16_000.0]), torch.float16, "this")
    for size in (17_000.0, float("inf"), float("nan")):
        with pytest.raises(Unproved, match=r"this may reach .* beyond the range of torch\.float16"):
            in_range(torch.tensor([1.0, size]), torch.float16, "this")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 1e-4, "subnormal"])
def test_an_affine_map_errs_by_less_than_its_slack(dtype: torch.dtype, scale: float | str) -> None:
    generator = torch.Generator().manual_seed(0)
    least = (torch.finfo(dtype).tiny * torch.finfo(dtype).eps) ** 0.5
    size = least if scale == "subnormal" else scale  # a product of two is about the smallest number that there is
    small = least if scale == "subnormal" else 1.0
    weight = (small * torch.randn(40, 17, generator=generator, dtype=torch.float64)).to(dtype)
    bias = (torch.randn(40, generator=generator, dtype=torch.float64) * size * small).to(dtype)
    x = (torch.randn(50, 17, generator=generator, dtype=torch.float64) * size).to(dtype)
    exact = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
    error = (torch.nn.functional.linear(x, weight, bias).double() - exact).abs()
    slack = affine_rounding(weight.double(), bias.double(), x.double().abs(), 21, dtype)
    assert bool((error <= slack).all())
    assert float(error.max()) > 0
    if scale == "subnormal":  # a relative bound alone is too small
        relative = gamma(torch.tensor(2), dtype) * (x.double().abs() @ weight.double().abs().t() + bias.double().abs())
        assert bool((error > relative).any())
