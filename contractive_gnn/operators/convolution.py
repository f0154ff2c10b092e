"""Two-dimensional convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from contractive_gnn.checks import check_whole, whole_pair
from contractive_gnn.compiled import convolutions
from contractive_gnn.norms import Norm
from contractive_gnn.operators.base import Operator, require_finite
from contractive_gnn.operators.known import promised_norm
from contractive_gnn.operators.symbol import symbol_floor, symbol_norm

Padding = Literal["zeros", "circular"]
Size = tuple[int, int]

SAMPLES = 16  # frequencies for each degree of a symbol: the factor is 1/cos(π/16) = 1.0196 for one axis


class Conv2d(Operator):
    r"""A two-dimensional cross-correlation, as ``torch.nn.Conv2d`` without its bias.

    With stride 1 the kernel's symbol is ``K(ω) = Σ_t K_t e^{i⟨ω, t⟩}``, an ``[out, in]`` matrix for each frequency. A
    circular convolution of size N is block-diagonal in the discrete Fourier basis, so its norm is the largest
    ``‖K(2πj/N)‖₂`` (Sedghi, Gupta, Long, ICLR 2019). A convolution with zero padding is a submatrix of the circular one
    of size ``N + k − 1``, where nothing wraps around; hence the bound for a given size. For every size at once: for
    unit vectors u, v the real part of ``uᴴK(ω)v`` times a phase is a trigonometric polynomial of degree
    ``m = ⌈(k − 1)/2⌉`` in either variable; with S > 2m samples a step of them, its maximum M is at least M cos(πm/S)
    at the sample nearest to where it is attained (M. Riesz; Ehlich and Zeller 1964), so

    .. math:: \sup_ω ‖K(ω)‖_2 \le \max_j ‖K(2πj/S)‖_2 \,/\, \prod_{\text{axes}} \cos(πm/S).

    This is the bound of Araujo et al. (AAAI 2021) with the sharp factor; with S = 16m here it is 1.04 for two axes. A
    stride s first splits input and kernel into their s² phases, which are channels of a convolution with stride 1: the
    same map, but not where rows wrap around a size that s does not divide, and meet another phase there. Its rows are
    still some of those with stride 1, each once, so the bound (in ℓ1 too) is that of stride 1: up to s times the norm
    of a size that s divides. Without a size it is taken along every axis with circular padding.

    Args:
        weight: ``[out, in/groups, kh, kw]``: an ``nn.Parameter`` is learned, another tensor is fixed.
        size: height and width of the input. None: inputs of every size; :meth:`norm_bound` then holds for all sizes,
            and each method takes the size it is called for.
        stride: s, or one for each axis.
        padding: entries added at either side, or one for each axis.
        dilation: spacing of the kernel, or one for each axis.
        groups: number of blocks of channels.
        padding_mode: ``"zeros"`` or ``"circular"``; the latter needs ``2 padding ≤ dilation (k − 1)``, or it would
            repeat rows of the operator. ``"reflect"`` and ``"replicate"`` are refused: they count entries at the border
            twice, so the operator is no part of a circular one, and its norm may exceed that of the symbol.

    Shapes:
        ``[..., in, H, W]`` to ``[..., out, H', W']``.

    Raises:
        ValueError: for shapes or numbers that do not fit, or another padding mode.
        TypeError: if the weight is not real and floating, and for an option that is no whole number, or two.
    """

    weight: Tensor

    def __init__(
        self,
        weight: Tensor,
        *,
        size: Size | None = None,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        padding_mode: Padding = "zeros",
    ) -> None:
        super().__init__()
        self._hold("weight", weight)
        if weight.dim() != 4:
            raise ValueError(f"weight must have shape [out, in/groups, kh, kw], got {list(weight.shape)}")
        if min(weight.shape[2:]) < 1:
            raise ValueError(f"the kernel must have an entry along either axis, got a weight {list(weight.shape)}")
        check_whole("groups", groups)
        if groups < 1 or weight.size(0) % groups:
            raise ValueError(f"groups must divide the {weight.size(0)} output channels, got {groups!r}")
        if padding_mode not in ("zeros", "circular"):
            raise ValueError(
                f"padding_mode must be 'zeros' or 'circular', got {padding_mode!r}; the others repeat or reflect "
                "entries, and no bound is known here"
            )
        self.stride = whole_pair("stride", stride, least=1)
        self.padding = whole_pair("padding", padding, least=0)
        self.dilation = whole_pair("dilation", dilation, least=1)
        self.groups = groups
        self.padding_mode = padding_mode
        first, second = (d * (k - 1) for d, k in zip(self.dilation, weight.shape[2:], strict=True))
        self._reach = (first, second)
        for axis in range(2):
            if padding_mode == "circular" and 2 * self.padding[axis] > self._reach[axis]:
                raise ValueError(
                    f"circular padding needs 2·padding ≤ dilation·(k − 1) = {self._reach[axis]}, got padding "
                    f"{self.padding[axis]}: more would repeat rows of the operator"
                )
        self.size: Size | None = None if size is None else self._checked(whole_pair("size", size, least=1))

    def with_weight(self, weight: Tensor) -> Conv2d:
        """The operator with another kernel and the same options; a bound of this one's says nothing of it."""
        return Conv2d(
            weight,
            size=self.size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            padding_mode=self.padding_mode,
        )

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of ``[..., in, H, W]``."""
        weight = self.weight
        self._check_channels(x, weight.size(1) * self.groups)
        if self.size is not None and tuple(x.shape[-2:]) != self.size:
            raise ValueError(f"the operator is for inputs of size {self.size}, got {tuple(x.shape[-2:])}")
        return self._convolve(weight, _batched(x)).reshape(*x.shape[:-3], weight.size(0), *self._output(x.shape[-2:]))

    def adjoint(self, y: Tensor, *, size: Size | None = None) -> Tensor:
        """``[..., out, H', W']`` to ``[..., in, H, W]``.

        Args:
            y: of the shape of an output.
            size: H and W. They can be left out where the constructor had them; and with stride 1, where the shape of y
                tells them.

        Raises:
            ValueError: for a shape that is no output's, or where the size is not known.
        """
        weight = self.weight
        self._check_channels(y, weight.size(0))
        size = self._size(size)
        if size is None:
            if self.stride != (1, 1):
                raise ValueError(
                    f"the adjoint needs the size of the input: give size=(height, width); with stride {self.stride} "
                    "several sizes have outputs of one shape"
                )
            (h, w), (r, s), (p, q) = y.shape[-2:], self._reach, self.padding
            size = self._checked((h + r - 2 * p, w + s - 2 * q))
        if tuple(y.shape[-2:]) != self._output(size):
            raise ValueError(
                f"inputs of size {size} have outputs of size {self._output(size)}, got {tuple(y.shape[-2:])}"
            )
        return self._convolve_back(weight, _batched(y), size).reshape(
            *y.shape[:-3], weight.size(1) * self.groups, *size
        )

    def norm_bound(self, norm: str | Norm = "l2", *, size: Size | None = None) -> Tensor:
        """As in the class's text; in ℓ1 and ℓ∞ exact for a given size, else for inputs larger than the kernel.

        A circular convolution whose kernel wraps onto itself gets an upper bound in ℓ1 and ℓ∞ too. Where the last
        parametrisation of the kernel promises a bound in ℓ2 (:class:`~contractive_gnn.operators.KnownNorm`), it is that
        one, and nothing is computed.

        Args:
            norm: see :class:`Operator`.
            size: height and width of the input; None for that of the constructor, or for all sizes at once.
        """
        kind, size = self.family(norm), self._size(size)
        known = promised_norm(self) if kind == "l2" else None
        if known is not None:
            return known
        weight = self.weight
        if kind == "l2":
            return self._spectral_bound(weight, size)
        require_finite(weight)
        magnitude = weight.abs()
        if size is not None:
            ones = weight.new_ones(1, weight.size(1) * self.groups, *size)
            image = self._convolve(magnitude, ones)
            return (image if kind == "linf" else self._convolve_back(magnitude, torch.ones_like(image), size)).max()
        if kind == "linf":
            return magnitude.flatten(1).sum(1).max()
        # Column sums: one for every input channel and every phase of the stride.
        stride = self._aligned_stride(None)
        return self._phases(self._dilated(magnitude, None, stride), stride).sum(dim=(1, 3, 4)).max()

    def lower_bound(self, *, size: Size | None = None) -> Tensor:
        """The least ``σ_min(K(2πj/N))`` minus rounding, for a given size and enough outputs, else 0.

        It is exact for circular padding that keeps the size (``2 padding = dilation (k − 1)``) with a stride that
        divides it. With zero padding it holds where every entry meets the whole kernel,
        ``padding ≥ dilation (k − 1)``, and stride 1: that is the circular convolution of size
        ``N + dilation (k − 1)`` on inputs which are zero outside N. Other convolutions lose rows of the circular one,
        and nothing is known of what is left.

        Args:
            size: as in :meth:`norm_bound`.
        """
        weight, size = self.weight, self._size(size)
        (s, t), (r, c) = self.stride, self._reach
        if size is None or weight.size(0) // self.groups < weight.size(1) * s * t:
            return weight.new_zeros(())
        if self.padding_mode == "circular":
            whole = (2 * self.padding[0], 2 * self.padding[1]) == (r, c) and self._aligned_stride(size) == self.stride
            samples = (size[0] // s, size[1] // t)
        else:
            whole = self.padding[0] >= r and self.padding[1] >= c and self.stride == (1, 1)
            samples = (size[0] + r, size[1] + c)
        if not whole:
            return weight.new_zeros(())
        return symbol_floor(self._phases(self._dilated(weight, size, self.stride), self.stride), samples)

    def least_size(self, least: int = 1) -> Size:
        """The smallest height and width of inputs, each at least ``least``, that the kernel does not reach beyond."""
        first, second = (max(least, r + 1 - 2 * p) for r, p in zip(self._reach, self.padding, strict=True))
        return first, second

    def extra_repr(self) -> str:
        """Show the options."""
        return (
            f"{self.weight.size(1) * self.groups}, {self.weight.size(0)}, kernel_size={tuple(self.weight.shape[2:])}, "
            f"size={self.size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"groups={self.groups}, padding_mode={self.padding_mode!r}"
        )

    def _checked(self, size: Size) -> Size:
        for axis in range(2):
            if size[axis] + 2 * self.padding[axis] <= self._reach[axis]:
                raise ValueError(f"the kernel reaches beyond an input of size {size} with padding {self.padding}")
            if self.padding_mode == "circular" and self.padding[axis] > size[axis]:
                raise ValueError(f"circular padding must be at most the input's size {size}, got {self.padding}")
        return size

    def _size(self, size: Size | None) -> Size | None:
        """The size that a method is called for."""
        if size is None:
            return self.size
        pair = whole_pair("size", size, least=1)
        if self.size is not None and pair != self.size:
            raise ValueError(f"the operator is for inputs of size {self.size}, got size={size}")
        return self._checked(pair)

    def _output(self, size: Sequence[int]) -> Size:
        first, second = (
            (n + 2 * p - reach - 1) // s + 1
            for n, p, reach, s in zip(size, self.padding, self._reach, self.stride, strict=True)
        )
        return first, second

    def _check_channels(self, x: Tensor, channels: int) -> None:
        if x.dim() < 3 or x.size(-3) != channels:
            raise ValueError(f"expected a tensor of shape [..., {channels}, height, width], got {list(x.shape)}")

    def _aligned_stride(self, size: Size | None) -> Size:
        """The stride whose phases the kernel couples at any place: 1 where rows wrap around and s need not divide."""
        first, second = self.stride
        if self.padding_mode == "zeros":
            return first, second
        if size is None:  # without padding nothing wraps
            return (first if self.padding[0] == 0 else 1), (second if self.padding[1] == 0 else 1)
        divides = all(length % step == 0 for length, step in zip(size, self.stride, strict=True))
        return (first, second) if divides else (1, 1)

    def _spectral_bound(self, weight: Tensor, size: Size | None) -> Tensor:
        stride = self._aligned_stride(size)
        weight = self._phases(self._dilated(weight, size, stride), stride)
        samples, factor = [], 1.0
        for axis, step in enumerate(stride):
            k = weight.size(3 + axis)
            if size is None:
                degree = k // 2
                samples.append(max(SAMPLES * degree, 1))
                factor /= math.cos(math.pi * degree / samples[-1]) if degree else 1.0
            elif self.padding_mode == "circular":
                samples.append(size[axis] // step)
            else:
                first = -((step - 1 - self.padding[axis]) // step)
                last = (size[axis] - 1 + self.padding[axis]) // step
                samples.append(last - first + k)
        return factor * symbol_norm(weight, (samples[0], samples[1]))

    def _dilated(self, weight: Tensor, size: Size | None, stride: Size) -> Tensor:
        if self.dilation == (1, 1):
            return weight
        # Without a size and with stride 1, K(dω) takes the values of K(ω).
        if size is None and stride == (1, 1):
            return weight
        spread = weight.new_zeros(*weight.shape[:2], self._reach[0] + 1, self._reach[1] + 1)
        spread[:, :, :: self.dilation[0], :: self.dilation[1]] = weight
        return spread

    def _phases(self, weight: Tensor, stride: Size) -> Tensor:
        """The kernel between phases, ``[groups, out/groups, in/groups · s², ⌈kh/s⌉, ⌈kw/s⌉]``."""
        (s, t), (k, m) = stride, weight.shape[2:]
        weight = torch.nn.functional.pad(weight, (0, -m % t, 0, -k % s))
        out, channels, k, m = weight.shape
        weight = weight.reshape(out, channels, k // s, s, m // t, t).permute(0, 1, 3, 5, 2, 4)
        return weight.reshape(self.groups, out // self.groups, channels * s * t, k // s, m // t)

    @property
    def _simple(self) -> bool:
        """Whether a convolution is that of its kernel alone."""
        return self.stride == self.dilation == (1, 1) and self.groups == 1

    def _convolve(self, weight: Tensor, x: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode == "circular":
            (p, q), padding = padding, (0, 0)
            x = torch.nn.functional.pad(x, (q, q, p, p), mode="circular")
        if self._simple:
            return convolutions.convolve(x, weight, padding)
        return torch.nn.functional.conv2d(x, weight, None, self.stride, padding, self.dilation, self.groups)

    def _convolve_back(self, weight: Tensor, y: Tensor, size: Size) -> Tensor:
        circular = self.padding_mode == "circular"
        padded = tuple(n + 2 * p if circular else n for n, p in zip(size, self.padding, strict=True))
        padding = (0, 0) if circular else self.padding
        extra = tuple(
            n - ((m - 1) * s - 2 * p + reach + 1)
            for n, m, s, p, reach in zip(padded, y.shape[2:], self.stride, padding, self._reach, strict=True)
        )
        if self._simple:
            x = convolutions.transpose(y, weight, padding)
        else:
            # Rows that no kernel covers get zeros; conv_transpose2d takes fewer of them than the stride.
            x = torch.nn.functional.conv_transpose2d(
                y, weight, None, self.stride, padding, extra, self.groups, self.dilation
            )
        if not circular:
            return x
        for axis, (n, p) in enumerate(zip(size, self.padding, strict=True), start=2):
            index = torch.arange(p, device=x.device)
            before, core, after = x.narrow(axis, 0, p), x.narrow(axis, p, n), x.narrow(axis, p + n, p)
            x = core.index_add(axis, index + n - p, before).index_add(axis, index, after)
        return x


def _batched(x: Tensor) -> Tensor:
    """All leading axes as one."""
    return x if x.dim() == 4 else x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:])
