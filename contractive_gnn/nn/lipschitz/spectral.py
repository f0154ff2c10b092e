"""Layers that are divided by a certified bound of their norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from contractive_gnn.checks import check_flag, check_real, check_whole, whole_pair
from contractive_gnn.nn.lipschitz.base import LipschitzModule
from contractive_gnn.nn.lipschitz.linear import ConstrainedLinear
from contractive_gnn.nn.lipschitz.rounding import rounded
from contractive_gnn.nn.lipschitz.weights import applied, exact
from contractive_gnn.nn.parametrizations import Spectral
from contractive_gnn.operators import Conv2d, rounding
from contractive_gnn.operators.convolution import Padding, Size
from contractive_gnn.operators.singular import largest_singular_value

Pair = tuple[int, int]


class SpectralNormalisation(Spectral):
    r"""``W ↦ bound · W/‖W‖₂`` with the certified upper bound of :class:`~contractive_gnn.nn.parametrizations.Spectral`.

    Unlike that one it also stretches a weight that is shorter. A weight of zeros stays zero.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """Scale the whole weight."""
        bound = largest_singular_value(weight) if self.kernel is None else self.operator(weight).norm_bound()
        norm = bound * (1.0 + 2 * rounding(sum(weight.shape), weight.dtype))
        return weight * (self.bound / norm.clamp(min=torch.finfo(weight.dtype).tiny ** 0.5))


class SpectralLinear(ConstrainedLinear):
    r"""``x ↦ cWxᵀ/‖W‖₂ + b``: a linear layer of norm c.

    The norm is the largest singular value with its rounding, and no power iteration's estimate, which is a lower bound.
    Singular values other than the largest are free. The bias does not count.

    Args:
        in_features: of the input.
        out_features: of the output.
        bias: whether one is learned.
        bound: c > 0.

    Shapes:
        ``[…, in]`` to ``[…, out]``.

    Raises:
        TypeError: for an argument of another type; (called) in half precision.
        ValueError: for a number out of its range.

    Example:
        >>> layer = SpectralLinear(8, 4)
        >>> 0.999 < layer.lipschitz() <= 1.0
        True
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, bound: float = 1.0) -> None:
        check_whole("in_features", in_features, least=1)
        check_whole("out_features", out_features, least=1)
        check_flag("bias", bias)
        check_real("bound", bound, above=0)
        super().__init__(in_features, out_features, bias)
        parametrize.register_parametrization(self, "weight", SpectralNormalisation(bound))


class SpectralConv2d(LipschitzModule, nn.Conv2d):
    r"""A convolution of norm c at most: its kernel is divided by a certified bound of its norm.

    The bound is that of :class:`~contractive_gnn.operators.Conv2d`: without a size it holds for every size and both
    padding modes, and is up to 4 % above the largest norm for a 3 × 3 kernel; with a size and circular padding it is
    that of the size, exactly. It is not the norm of the kernel as a matrix, which may be k times too small. The bias
    does not count.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: k, or one for each axis.
        stride: s, or one for each axis.
        padding: entries at either side, or one for each axis; ``"same"`` for ``dilation (k − 1)/2``.
        dilation: spacing of the kernel, or one for each axis.
        groups: number of blocks of channels.
        bias: whether one is learned.
        padding_mode: ``"zeros"`` or ``"circular"``. ``"reflect"`` and ``"replicate"`` are refused: an entry near the
            border counts twice, so the layer's norm exceeds that of the kernel's symbol.
        size: height and width of all inputs, or one number for both, for a sharper bound; None for any.
        bound: c > 0.

    Shapes:
        ``[n, in, H, W]`` to ``[n, out, H', W']``.

    Raises:
        TypeError: for an argument of another type; (called) in half precision.
        ValueError: for numbers out of their range or that do not fit; (called) for an image of another size.

    Example:
        >>> import torch
        >>> layer = SpectralConv2d(3, 8, 3, padding=1)
        >>> layer(torch.randn(2, 3, 10, 10)).shape, layer.lipschitz() <= 1.0
        (torch.Size([2, 8, 10, 10]), True)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Padding = "zeros",
        size: int | Size | None = None,
        bound: float = 1.0,
    ) -> None:
        check_whole("in_channels", in_channels, least=1)
        check_whole("out_channels", out_channels, least=1)
        check_flag("bias", bias)
        check_real("bound", bound, above=0)
        if padding_mode not in ("zeros", "circular"):
            raise ValueError(
                f"padding_mode must be 'zeros' or 'circular', got {padding_mode!r}: the others count entries near the "
                "border twice, and the norm exceeds that of the kernel's symbol"
            )
        kernel_size = whole_pair("kernel_size", kernel_size, least=1)
        if isinstance(padding, str):
            padding = same(padding, kernel_size, whole_pair("dilation", dilation, least=1))
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
        )
        self.size = None if size is None else whole_pair("size", size, least=1)
        constraint = SpectralNormalisation(
            bound,
            kernel={
                "size": self.size,
                "stride": self.stride,
                "padding": self.padding,
                "dilation": self.dilation,
                "groups": groups,
                "padding_mode": padding_mode,
            },
        )
        constraint.operator(self.weight)  # refuses what it has no bound for
        parametrize.register_parametrization(self, "weight", constraint)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        if x.dim() != 4 or x.size(1) != self.in_channels:
            raise ValueError(f"expected a batch of images [n, {self.in_channels}, H, W], got shape {list(x.shape)}")
        if self.size is not None and tuple(x.shape[-2:]) != self.size:
            raise ValueError(f"the layer is for images of size {self.size}, got shape {list(x.shape)}")
        y: Tensor = self._conv_forward(x, applied(self), self.bias)
        return y

    def lipschitz(self) -> float:
        """The certified norm of the kernel as it is applied; at most c."""
        return float(self._operator(exact(self)).norm_bound())

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """Two roundings: of the kernel and of the result."""
        weight = exact(self)
        magnitude = float(self._operator(weight.abs()).norm_bound())
        terms = max(weight.size(0), weight.size(1)) * weight[0, 0].numel()
        return rounded(self.lipschitz(), magnitude, dtype, roundings=2, terms=terms)

    def _operator(self, weight: Tensor) -> Conv2d:
        return Conv2d(
            weight,
            size=self.size,
            stride=self.stride,  # type: ignore[arg-type]  # two numbers
            padding=self.padding,  # type: ignore[arg-type]  # never a word here
            dilation=self.dilation,  # type: ignore[arg-type]  # two numbers
            groups=self.groups,
            padding_mode=self.padding_mode,  # type: ignore[arg-type]  # one of the two
        )


def same(padding: str, kernel_size: Pair, dilation: Pair = (1, 1)) -> Pair:
    """The padding that keeps the size with stride 1.

    Raises:
        ValueError: for another word, and where no equal padding at either side keeps it.
    """
    if padding != "same":
        raise ValueError(f"padding must be a number, two of them or 'same', got {padding!r}")
    first, second = (d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True))
    if first % 2 or second % 2:
        raise ValueError(f"'same' needs dilation (k − 1) to be even, got kernel_size {kernel_size}; give numbers")
    return first // 2, second // 2
