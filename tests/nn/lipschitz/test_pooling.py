"""Pooling: the constants are exact, and beyond their conditions they fail."""

import math

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.nn.lipschitz import (
    AvgPool2d,
    GlobalAvgPool2d,
    GlobalL2NormPool2d,
    GlobalMaxPool2d,
    L2NormPool2d,
    MaxPool2d,
)
from contractive_gnn.testing import measured_lipschitz


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


WINDOWS = [((1, 1), (1, 1)), ((2, 2), (2, 2)), ((3, 3), (2, 2)), ((3, 2), (1, 3)), ((4, 3), (3, 1)), ((2, 2), (3, 5))]


@pytest.mark.parametrize(("kernel", "stride"), WINDOWS)
def test_an_average_has_the_norm_of_its_symbol_at_the_frequency_0(
    kernel: tuple[int, int], stride: tuple[int, int]
) -> None:
    for scaled in (True, False):
        pool = AvgPool2d(kernel, stride, scaled=scaled)
        norms = [measured_lipschitz(pool, torch.zeros(1, 1, n, n + 1)) for n in (6, 18)]
        assert all(norm <= pool.lipschitz() * (1 + 1e-12) for norm in norms)
        # larger images come nearer, and there is no overlap to wait for where the stride is long
        overlap = kernel[0] > stride[0] or kernel[1] > stride[1]
        assert norms[1] >= pool.lipschitz() * (0.93 if overlap else 1 - 1e-12)


def spike(kernel: tuple[int, int], stride: tuple[int, int], *, high: float = 5.0) -> Tensor:
    """One entry above all others, at the place that most windows meet."""
    x = torch.zeros(1, 1, 24, 24, dtype=torch.float64)
    rows, columns = (12 // s * s + (k - 1) % s for k, s in zip(kernel, stride, strict=True))
    x[..., rows, columns] = high
    return x


@pytest.mark.parametrize(("kernel", "stride"), WINDOWS)
@pytest.mark.parametrize("kind", [MaxPool2d, L2NormPool2d])
def test_one_large_entry_attains_the_constant(
    kind: type[MaxPool2d] | type[L2NormPool2d], kernel: tuple[int, int], stride: tuple[int, int]
) -> None:
    pool = kind(kernel, stride)
    x = spike(kernel, stride)
    y = x * 2  # twice as high: each window that meets it moves by as much
    found = float((pool(y) - pool(x)).norm() / (y - x).norm())
    assert found == pytest.approx(pool.lipschitz(), rel=1e-12)
    assert pool.lipschitz() == pytest.approx(
        math.sqrt(math.prod(math.ceil(k / s) for k, s in zip(kernel, stride, strict=True)))
    )


def test_padding_of_a_maximum_changes_nothing() -> None:
    x = -1.0 - draw(2, 2, 5, 5).abs()
    assert torch.equal(MaxPool2d(3, 2, padding=1)(x), nn.MaxPool2d(3, 2, padding=1)(x))
    assert MaxPool2d(3, 2, padding=1).lipschitz() == MaxPool2d(3, 2).lipschitz() == 2.0
    assert measured_lipschitz(MaxPool2d(3, 2, padding=1), x) <= 2.0


def test_the_average_of_torch_that_leaves_out_padding_exceeds_it() -> None:
    """Why there is no padding here: its corner divides by fewer entries than a window has."""
    torch_one = nn.AvgPool2d(3, 3, padding=1, count_include_pad=False)
    assert measured_lipschitz(torch_one, torch.zeros(1, 1, 4, 4)) > AvgPool2d(3, scaled=False).lipschitz() * 1.2


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8)])
def test_global_pools_have_norm_1_at_every_size(size: tuple[int, int]) -> None:
    x = draw(1, 2, *size)
    for pool in (GlobalAvgPool2d(), GlobalMaxPool2d(), GlobalL2NormPool2d()):
        assert pool(x).shape == (1, 2)
        assert measured_lipschitz(pool, x) == pytest.approx(1.0)
        assert pool.lipschitz() == 1.0
    torch.testing.assert_close(GlobalAvgPool2d()(x), x.sum(dim=(2, 3)) / math.sqrt(size[0] * size[1]))
    torch.testing.assert_close(GlobalL2NormPool2d()(x), x.flatten(2).norm(dim=2))


def test_a_length_of_zero_has_the_gradient_zero() -> None:
    for pool in (L2NormPool2d(2), GlobalL2NormPool2d()):
        for dtype in (torch.float32, torch.float64):
            x = torch.zeros(1, 1, 4, 4, dtype=dtype, requires_grad=True)
            pool(x).sum().backward()
            assert x.grad is not None
            assert not bool(x.grad.any())


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="kernel_size must be at least 1"):
        AvgPool2d(0)
    with pytest.raises(TypeError, match="stride must be a whole number"):
        MaxPool2d(2, 1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="two of them"):
        L2NormPool2d((1, 2, 3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most half"):
        MaxPool2d(3, padding=2)
    with pytest.raises(TypeError, match="scaled must be True or False"):
        AvgPool2d(2, scaled="no")  # type: ignore[arg-type]
    for pool in (AvgPool2d(3), MaxPool2d(3), L2NormPool2d(3)):
        with pytest.raises(ValueError, match="does not fit into an image"):
            pool(draw(1, 1, 2, 5))
        with pytest.raises(ValueError, match="batch of images"):
            pool(draw(1, 4, 4))
    with pytest.raises(ValueError, match="batch of images"):
        GlobalMaxPool2d()(draw(1, 2, 0, 3))
