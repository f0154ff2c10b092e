"""Orthogonal and spectral layers: what is exact, what is at most 1, and what is refused."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import parametrize

from contractive_gnn.nn.lipschitz import OrthogonalConv2d, OrthogonalLinear, SpectralConv2d, SpectralLinear
from contractive_gnn.nn.lipschitz.bjorck import bjorck
from contractive_gnn.nn.lipschitz.weights import applied, exact
from contractive_gnn.nn.parametrizations import check
from contractive_gnn.operators import Conv2d
from contractive_gnn.testing import measured_lipschitz, raise_gain, singular_values


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (2, 6, 4), (1, 1)])
def test_bjorck_finds_the_orthogonal_factor(shape: tuple[int, ...]) -> None:
    matrix = draw(*shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(bjorck(matrix, 40), left @ right, rtol=0, atol=1e-10)
    for scale in (1e-30, 1e30):
        torch.testing.assert_close(bjorck(scale * matrix, 40), left @ right, rtol=0, atol=1e-10)


def test_bjorck_stays_within_norm_1_where_it_has_not_converged() -> None:
    """The bound needs no convergence; the isometry does."""
    matrix = torch.diag(torch.tensor([1.0, 1e-2, 1e-8, 0.0], dtype=torch.float64))
    for steps in (1, 5, 20):
        values = torch.linalg.svdvals(bjorck(matrix, steps))
        assert float(values[0]) <= 1.0 + 1e-12
        assert float(values[-1]) == 0.0
    assert float(values[1]) == pytest.approx(1.0)
    assert float(values[2]) < 1e-3
    layer = OrthogonalLinear(4, 4, bias=False)
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(matrix)  # type: ignore[union-attr, operator]
    assert layer.lipschitz() <= 1.0 + 1e-5
    assert layer.defect() == pytest.approx(1.0, abs=1e-5)  # it says that it is no isometry
    assert bjorck(torch.zeros(3, 2)).tolist() == torch.zeros(3, 2).tolist()


@pytest.mark.parametrize("method", ["bjorck", "cayley"])
@pytest.mark.parametrize(("inputs", "outputs"), [(4, 4), (3, 6), (6, 3)])
def test_a_linear_layer_is_orthogonal_after_training_too(method: str, inputs: int, outputs: int) -> None:
    layer = OrthogonalLinear(inputs, outputs, method=method)  # type: ignore[arg-type]
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(30):
        optimiser.zero_grad()
        (layer(torch.randn(8, inputs)) - 3.0).square().mean().backward()
        optimiser.step()
    assert layer.defect() < 1e-4
    assert layer.lipschitz() == pytest.approx(1.0, abs=1e-5)
    assert all(value <= 0 for value in check(layer).values())


@pytest.mark.parametrize("size", [(3, 3), (4, 7), (8, 2)])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_block_convolution_is_an_isometry_at_every_size(size: tuple[int, int], kernel: int) -> None:
    layer = OrthogonalConv2d(2, 3, kernel, bias=False).double()
    values = singular_values(layer, draw(1, 2, *size))
    torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-6)
    assert layer.defect() < 1e-5


def test_an_uneven_number_of_channels_is_no_less_orthogonal() -> None:
    for inputs, outputs in ((1, 1), (3, 3), (1, 5), (5, 1)):
        for options in ({}, {"method": "cayley", "size": (4, 4)}):
            layer = OrthogonalConv2d(inputs, outputs, 3, **options)  # type: ignore[arg-type]
            assert layer.defect() < 1e-4
            assert abs(layer.lipschitz() - 1.0) < 1e-4


def test_zero_padding_loses_what_leaves_and_never_exceeds_1() -> None:
    layer = OrthogonalConv2d(3, 3, 3, padding_mode="zeros").double()
    values = singular_values(layer, draw(1, 3, 5, 5))
    assert float(values.max()) <= 1.0 + 1e-9
    assert float(values.min()) < 0.9


def test_reflected_borders_exceed_1_with_the_same_kernel() -> None:
    """Why they are refused: trained for it, an orthogonal kernel reaches far above 1."""

    class Reflected(OrthogonalConv2d):
        def forward(self, x: Tensor) -> Tensor:
            return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), self.weight, self.bias)

    layer = Reflected(2, 2, 3).double()
    gain = raise_gain(layer, draw(2, 2, 4, 4), steps=20)
    assert layer.lipschitz() < 1.0 + 1e-6  # that of the circular one
    assert gain.ratio > 1.3
    for kind in (OrthogonalConv2d, SpectralConv2d):
        with pytest.raises(ValueError, match="count entries near the border twice"):
            kind(2, 2, 3, padding_mode="reflect")  # type: ignore[arg-type]


def test_a_cayley_kernel_is_orthogonal_at_its_own_size_and_at_no_other() -> None:
    layer = OrthogonalConv2d(2, 2, 3, method="cayley", size=(4, 4), bias=False).double()
    kernel = exact(layer)
    assert kernel.shape == (2, 2, 4, 4)
    x = draw(1, 2, 4, 4)
    flipped = kernel.flip(-1, -2)  # a convolution, where torch's is a cross-correlation
    wrapped = functional.pad(x, (3, 0, 3, 0), mode="circular")
    torch.testing.assert_close(layer(x), functional.conv2d(wrapped, flipped))
    wrong = Conv2d(kernel, size=(6, 6), padding=1, padding_mode="circular")
    assert float(wrong.norm_bound()) > 1.05  # what would be claimed for a larger image
    with pytest.raises(ValueError, match=r"for images of size \(4, 4\)"):
        layer(draw(1, 2, 6, 6))


def test_the_norm_is_that_of_the_weights_at_hand() -> None:
    layer = OrthogonalConv2d(2, 2, 3)
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    x = torch.randn(1, 2, 5, 5)
    fast = layer(x)
    assert layer.lipschitz() < 1.0 + 1e-5
    with torch.no_grad():
        layer.weight.mul_(1.5)
        assert layer.lipschitz() == pytest.approx(1.5, rel=0.06)
        assert layer.lipschitz() >= 1.5 * (1 - 1e-6)
        layer.weight.div_(1.5)
    torch.testing.assert_close(layer(x), fast)


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 2}, {"groups": 2}])
def test_a_spectral_convolution_has_norm_1_at_most(padding_mode: str, options: dict[str, int]) -> None:
    for size in (None, (6, 6)):
        padding = options.get("dilation", 1)
        layer = SpectralConv2d(2, 4, 3, padding=padding, padding_mode=padding_mode, size=size, **options).double()  # type: ignore[arg-type]
        found = measured_lipschitz(layer, draw(1, 2, 6, 6))
        assert found <= layer.lipschitz() <= 1.0
        assert found > (0.99 if size and padding_mode == "circular" else 0.6)
        assert all(value <= 0 for value in check(layer).values())


def test_words_and_sizes_of_a_spectral_convolution() -> None:
    assert SpectralConv2d(1, 1, (3, 5), padding="same").padding == (1, 2)
    assert SpectralConv2d(1, 1, 3, dilation=2, padding="same").padding == (2, 2)
    with pytest.raises(ValueError, match="to be even"):
        SpectralConv2d(1, 1, 2, padding="same")
    with pytest.raises(ValueError, match="or 'same'"):
        SpectralConv2d(1, 1, 3, padding="valid")
    with pytest.raises(ValueError, match="circular padding needs"):
        SpectralConv2d(1, 1, 3, padding=2, padding_mode="circular")
    with pytest.raises(ValueError, match="bound must be positive"):
        SpectralConv2d(1, 1, 3, bound=0.0)
    with pytest.raises(ValueError, match=r"for images of size \(4, 4\)"):
        SpectralConv2d(1, 1, 3, padding=1, size=(4, 4))(torch.zeros(1, 1, 5, 5))


def test_a_weight_of_zeros_stays_zero() -> None:
    layer = SpectralLinear(3, 3, bias=False)
    with torch.no_grad():
        layer.parametrizations.weight.original.zero_()  # type: ignore[union-attr, operator]
    assert layer(torch.ones(1, 3)).tolist() == [[0.0, 0.0, 0.0]]
    assert layer.lipschitz() == 0.0


LAYERS = {
    "linear, spectral": lambda: (SpectralLinear(6, 6), (6,)),
    "linear, Björck": lambda: (OrthogonalLinear(6, 6), (6,)),
    "linear, Cayley": lambda: (OrthogonalLinear(6, 6, method="cayley"), (6,)),
    "convolution, spectral": lambda: (SpectralConv2d(4, 4, 3, padding="same"), (4, 5, 5)),
    "convolution, blocks": lambda: (OrthogonalConv2d(4, 4, 3), (4, 5, 5)),
    "convolution, Cayley": lambda: (OrthogonalConv2d(4, 4, 3, method="cayley", size=(5, 5)), (4, 5, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_kernel_is_not_rounded_by_autocast(name: str) -> None:
    layer, shape = LAYERS[name]()
    before = applied(layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(applied(layer), before)
        assert applied(layer).dtype == torch.float32
        assert layer(torch.randn(2, *shape)).isfinite().all()


@pytest.mark.parametrize("name", LAYERS)
def test_copies_and_precision(name: str) -> None:
    layer, shape = LAYERS[name]()
    x = torch.randn(2, *shape)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    with pytest.raises(TypeError, match=r"take[s]? float32 or float64"):
        copy.deepcopy(layer).bfloat16()(x.bfloat16())


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="method must be 'bjorck' or 'cayley'"):
        OrthogonalLinear(2, 2, method="exp")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="in_features must be at least 1"):
        SpectralLinear(0, 2)
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        OrthogonalConv2d(2, 2, 4)
    with pytest.raises(ValueError, match="method must be 'block' or 'cayley'"):
        OrthogonalConv2d(2, 2, 3, method="soc")  # type: ignore[arg-type]
    for options in ({}, {"size": (4, 4), "padding_mode": "zeros"}):
        with pytest.raises(ValueError, match="orthogonal for one size with circular padding"):
            OrthogonalConv2d(2, 2, 3, method="cayley", **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="size must be a whole number, or two of them"):
        OrthogonalConv2d(2, 2, 3, size=(4, 4, 4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected a batch of images \[n, 2, H, W\]"):
        OrthogonalConv2d(2, 2, 3)(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="wraps more than once"):
        OrthogonalConv2d(2, 2, 5)(torch.zeros(1, 2, 1, 4))
    with pytest.raises(NotImplementedError, match="cannot be assigned"):
        OrthogonalConv2d(2, 2, 3).weight = torch.zeros(2, 2, 3, 3)
