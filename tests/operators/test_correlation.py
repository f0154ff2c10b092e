"""Sums of correlations against the convolution of the kernel with itself, and the bound that they give."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from contractive_gnn.operators import Conv2d
from contractive_gnn.operators.correlation import correlation_sums, exact_products, weighted_sums


def kernel(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("shape", [(1, 5, 4, 3, 3), (1, 3, 300, 1, 1), (2, 3, 2, 2, 3), (1, 4, 1, 5, 1)])
def test_the_sums_are_those_of_the_whole_correlation(shape: tuple[int, ...]) -> None:
    weight = kernel(*shape)
    height, width = shape[3:]
    whole = torch.stack(
        [
            torch.nn.functional.conv2d(part, part, padding=(height - 1, width - 1)).abs().sum(dim=(2, 3))
            for part in weight
        ]
    )
    torch.testing.assert_close(correlation_sums(weight), whole)


@pytest.mark.parametrize("shape", [(1, 4, 3, 3, 2), (2, 2, 3, 1, 1)])
def test_first_and_second_derivatives(shape: tuple[int, ...]) -> None:
    weight = kernel(*shape).requires_grad_()
    assert torch.autograd.gradcheck(correlation_sums, weight)
    assert torch.autograd.gradgradcheck(correlation_sums, weight)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("p", ["ones", "random"])
def test_every_vector_bounds_the_norm_of_the_symbol(seed: int, p: str) -> None:
    weight = kernel(5, 4, 3, 3, seed=seed)
    vector = torch.ones(1, 5).double() if p == "ones" else kernel(1, 5, seed=seed).exp()
    bound = float(weighted_sums(weight[None], vector).max().sqrt())
    for padding_mode in ("zeros", "circular"):
        for size in (1, 2, 3, 7):  # a circular kernel wraps onto itself at size 1 and 2
            operator = Conv2d(weight, padding=1, padding_mode=padding_mode)
            assert float(operator.norm_bound(size=(size, size))) <= bound


def test_a_kernel_that_attains_it() -> None:
    """Entries of one sign: at frequency 0 no sum cancels, so the bound by Perron's vector is the norm."""
    weight = kernel(3, 3, 3, 3).abs()
    perron = torch.linalg.eigh(correlation_sums(weight[None])[0]).eigenvectors[:, -1].abs()[None]
    attained = float(torch.linalg.matrix_norm(weight.sum(dim=(2, 3)), 2))
    assert float(weighted_sums(weight[None], perron).max().sqrt()) == pytest.approx(attained, rel=1e-9)


@pytest.mark.parametrize("channels", [3, 200])
def test_single_precision_is_never_below_the_exact_sums(channels: int) -> None:
    weight = kernel(1, 24, channels, 3, 3, dtype=torch.float32)
    ones = torch.ones(1, 24)
    exact = correlation_sums(weight.double()).sum(dim=2)
    single = weighted_sums(weight, ones).double()
    assert bool((single >= exact).all())
    assert bool((single <= exact * 1.01).all())


def test_reduced_precision_of_products_does_not_reach_the_sums() -> None:
    weight, ones = kernel(1, 16, 16, 3, 3, dtype=torch.float32), torch.ones(1, 16)
    exact = correlation_sums(weight.double()).sum(dim=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert bool((weighted_sums(weight, ones).double() >= exact).all())
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        sums = weighted_sums(weight, ones).double()
    finally:
        torch.set_float32_matmul_precision(before)
    assert bool((sums >= exact).all())
    torch.testing.assert_close(sums, exact, rtol=1e-6, atol=0)


@pytest.mark.skipif(
    not hasattr(torch.backends.mkldnn, "matmul"), reason="this torch has one way to set the precision of products"
)
def test_both_ways_to_ask_for_rounded_products_are_seen() -> None:
    assert exact_products()
    program = (  # torch cannot go back from a mixture of both ways
        "import torch\n"
        "from contractive_gnn.operators.correlation import exact_products\n"
        "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'\n"
        "assert not exact_products()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
