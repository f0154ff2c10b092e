"""Two-dimensional convolutions: any batch axes, sizes at call, lower bounds."""

from typing import Any

import pytest
import torch
from torch import nn

from contractive_gnn.nn.parametrizations import spectral
from contractive_gnn.norms import operator_norm
from contractive_gnn.operators import Conv2d
from contractive_gnn.testing.operators import OperatorSuite


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def matrix(operator: Conv2d, *shape: int) -> torch.Tensor:
    units = torch.eye(torch.Size(shape).numel(), dtype=torch.float64).view(-1, *shape)
    return operator(units).detach().flatten(1).t()


class TestZeroPadding(OperatorSuite):
    shape = (2, 4, 5)
    l1_factor = 1.0
    l2_factor = 1.4
    linf_factor = 1.0

    def make(self) -> Conv2d:
        return Conv2d(nn.Parameter(draw(3, 2, 3, 3)), size=(4, 5), padding=1)


class TestFullZeroPadding(OperatorSuite):
    shape = (2, 4, 3)
    l1_factor = 1.0
    l2_factor = 1.4
    linf_factor = 1.0

    def make(self) -> Conv2d:
        return Conv2d(draw(3, 2, 2, 3), size=(4, 3), padding=(1, 2))


class TestCircular(OperatorSuite):
    shape = (2, 4, 5)
    l1_factor = 1.0
    l2_factor = 1.0
    linf_factor = 1.0
    lower_factor = 1.0

    def make(self) -> Conv2d:
        return Conv2d(nn.Parameter(draw(3, 2, 3, 3)), size=(4, 5), padding=1, padding_mode="circular")


class TestStrided(OperatorSuite):
    """Four phases of one channel to five channels."""

    shape = (1, 4, 6)
    l1_factor = 1.0
    l2_factor = 1.0
    linf_factor = 1.0
    lower_factor = 1.0

    def make(self) -> Conv2d:
        return Conv2d(draw(5, 1, 3, 3), size=(4, 6), padding=1, stride=2, padding_mode="circular")


class TestGrouped(OperatorSuite):
    shape = (4, 4, 4)
    l1_factor = 1.0
    l2_factor = 1.0
    linf_factor = 1.0
    lower_factor = 1.0

    def make(self) -> Conv2d:
        return Conv2d(draw(4, 2, 3, 3), size=(4, 4), padding=1, groups=2, padding_mode="circular")


class TestAnySize(OperatorSuite):
    shape = (2, 6, 7)
    l1_factor = 1.0
    l2_factor = 1.5
    linf_factor = 1.0

    def make(self) -> Conv2d:
        return Conv2d(nn.Parameter(draw(2, 2, 3, 3)), padding=1)


@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("padding", [0, 1])
def test_with_stride_1_an_output_tells_the_size_of_its_input(mode: str, padding: int) -> None:
    weight = draw(3, 2, 3, 3)
    unbound = Conv2d(weight, padding=padding, padding_mode=mode)  # type: ignore[arg-type]
    for size in ((4, 5), (7, 3)):
        bound = Conv2d(weight, size=size, padding=padding, padding_mode=mode)  # type: ignore[arg-type]
        y = bound(draw(2, *size))
        assert torch.equal(unbound.adjoint(y), bound.adjoint(y))
        for norm in ("l1", "l2", "linf"):
            assert torch.equal(unbound.norm_bound(norm, size=size), bound.norm_bound(norm))
        assert torch.equal(unbound.lower_bound(size=size), bound.lower_bound())


def test_with_a_larger_stride_the_size_is_given_at_the_call() -> None:
    operator = Conv2d(draw(3, 2, 3, 3), stride=2, padding=1)
    outputs = [operator(draw(2, *size)) for size in ((6, 6), (5, 6))]
    assert outputs[0].shape == outputs[1].shape  # why it has to be given
    assert operator.adjoint(outputs[0], size=(6, 6)).shape == (2, 6, 6)
    assert operator.adjoint(outputs[1], size=(5, 6)).shape == (2, 5, 6)
    with pytest.raises(ValueError, match="several sizes have outputs of one shape"):
        operator.adjoint(outputs[0])
    with pytest.raises(ValueError, match=r"inputs of size \(8, 6\) have outputs of size \(4, 3\), got \(3, 3\)"):
        operator.adjoint(outputs[0], size=(8, 6))
    with pytest.raises(ValueError, match=r"the operator is for inputs of size \(6, 6\), got size=\(5, 6\)"):
        Conv2d(draw(3, 2, 3, 3), size=(6, 6)).norm_bound(size=(5, 6))


def test_the_lower_bound_is_claimed_only_where_no_row_is_lost() -> None:
    """An orthogonal kernel has the bound 1 on a circle; with zero padding, with a stride or without padding, 0."""
    shift = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    shift[0, 0, 0, 1] = 1.0  # moves an image down by one row
    circular = {"padding": 1, "padding_mode": "circular"}
    kept = Conv2d(shift, size=(4, 4), **circular)  # type: ignore[arg-type]
    assert float(kept.lower_bound()) == pytest.approx(1.0)
    assert float(torch.linalg.svdvals(matrix(kept, 1, 4, 4))[-1]) == pytest.approx(1.0)
    for options in (
        {"padding": 1},  # the last row is lost
        {"padding_mode": "circular"},
        {**circular, "stride": 2},
        {"padding": 2, "stride": 2},
    ):
        operator = Conv2d(shift, size=(4, 4), **options)  # type: ignore[arg-type]
        values = torch.linalg.svdvals(matrix(operator, 1, 4, 4))
        assert len(values) < 16 or float(values[-1]) < 1e-12
        assert float(operator.lower_bound()) == 0.0
    full = Conv2d(shift, size=(4, 4), padding=2)
    assert float(full.lower_bound()) == pytest.approx(1.0)
    assert float(Conv2d(shift, **circular).lower_bound()) == 0.0  # type: ignore[arg-type]  # of no size: unknown


def test_a_kernel_that_wraps_onto_itself_has_the_lower_bound_of_what_it_becomes() -> None:
    for seed in range(5):
        operator = Conv2d(draw(2, 2, 5, 3, seed=seed), size=(3, 3), padding=(2, 1), padding_mode="circular")
        least = float(torch.linalg.svdvals(matrix(operator, 2, 3, 3))[-1])
        assert float(operator.lower_bound()) == pytest.approx(least, rel=1e-9)
        assert float(operator.norm_bound()) == pytest.approx(float(operator_norm(matrix(operator, 2, 3, 3), "l2")))


def test_reflection_may_exceed_the_symbol() -> None:
    """Why reflected and repeated entries are refused: at a border they count twice."""
    kernel = torch.tensor([[[[1.0, 1.0, 0.0]]]], dtype=torch.float64)
    layer = torch.nn.Conv2d(1, 1, (1, 3), padding=(0, 1), padding_mode="replicate", bias=False).double()
    layer.weight.data.copy_(kernel)
    units = torch.eye(2, dtype=torch.float64).view(2, 1, 1, 2)
    repeated = layer(units).detach().flatten(1).t()
    circular = Conv2d(kernel, padding=(0, 1), padding_mode="circular", size=(1, 2))
    assert float(operator_norm(repeated, "l2")) > 1.1 * float(circular.norm_bound())
    for mode in ("reflect", "replicate"):
        with pytest.raises(ValueError, match=f"got '{mode}'; the others repeat or reflect entries"):
            Conv2d(kernel, padding_mode=mode)  # type: ignore[arg-type]


def test_shapes_are_checked() -> None:
    operator = Conv2d(torch.ones(3, 2, 3, 3), padding=1)
    with pytest.raises(ValueError, match=r"shape \[..., 2, height, width\], got \[4, 5, 5\]"):
        operator(torch.ones(4, 5, 5))
    with pytest.raises(ValueError, match=r"shape \[..., 3, height, width\], got \[5, 5\]"):
        operator.adjoint(torch.ones(5, 5))
    with pytest.raises(TypeError, match="weight must be a real floating tensor"):
        Conv2d(torch.ones(1, 1, 3, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="entries that are not finite"):
        Conv2d(torch.full((1, 1, 3, 3), float("nan")))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"stride": (1, 2, 3)}, TypeError, r"stride must be a whole number, or two of them, got \(1, 2, 3\)"),
        ({"padding": "same"}, TypeError, "padding must be a whole number, or two of them, got 'same'"),
        ({"stride": 1.5}, TypeError, "stride must be a whole number"),
        ({"dilation": (1, 1.5)}, TypeError, "dilation must be a whole number"),
        ({"padding": (0, -1)}, ValueError, "padding must be at least 0"),
        ({"size": (4,)}, TypeError, "size must be a whole number, or two of them"),
        ({"groups": 1.0}, TypeError, "groups must be a whole number"),
    ],
)
def test_an_option_that_is_no_pair_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Conv2d(draw(2, 2, 3, 3), **options)
    with pytest.raises(ValueError, match="an entry along either axis"):
        Conv2d(draw(2, 2, 0, 3))
    assert Conv2d(draw(2, 2, 3, 3), size=torch.Size((4, 5)), stride=[1, 2]).stride == (1, 2)  # type: ignore[arg-type]


def test_another_kernel_keeps_the_options_and_no_bound() -> None:
    """Also where the kernel is parametrised: the other operator is fixed, and its bound is its own."""
    first = spectral(
        Conv2d(
            nn.Parameter(torch.randn(4, 1, 3, 3)), size=(7, 6), stride=(1, 2), padding=1, dilation=(1, 2), groups=2,
            padding_mode="circular",
        )
    )  # fmt: skip
    weight = 3 * torch.randn(4, 1, 3, 3)
    other = first.with_weight(weight)
    assert type(other) is Conv2d
    assert not list(other.parameters())
    x = torch.randn(2, 2, 7, 6)
    with torch.no_grad():
        assert other(x).shape == first(x).shape
        expected = Conv2d(
            weight, size=(7, 6), stride=(1, 2), padding=1, dilation=(1, 2), groups=2, padding_mode="circular"
        )
        assert torch.equal(other(x), expected(x))
        assert torch.equal(other.norm_bound(), expected.norm_bound())
        assert other.norm_bound() > 1.0 >= first.norm_bound()
