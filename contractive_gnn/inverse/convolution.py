"""Blur, and blur followed by decimation: deblurring and super-resolution."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.inverse.physics import LinearPhysics, Solution
from contractive_gnn.operators import Conv2d
from contractive_gnn.operators.convolution import Padding
from contractive_gnn.remembered import Remembered


class Convolution(LinearPhysics):
    r"""``Ax``: each channel convolved with one kernel, of which every s-th row and column is kept.

    The norm is certified by the symbol of the kernel for the given size (:class:`contractive_gnn.operators.Conv2d`):
    exact for circular padding where s divides the size, an upper bound for zero padding, where A is a part of a larger
    circular convolution. The proximal step is exact for circular padding with such an s: AAᵀ is then a circular
    convolution of the small image, and ``(I + γAᵀA)⁻¹ = I − γAᵀ(I + γAAᵀ)⁻¹A``. Else conjugate gradients find it.

    Args:
        kernel: k, ``[kh, kw]`` with odd sides, centred; a convolution reads it backwards.
        size: height and width of the image.
        stride: s, whole.
        padding_mode: ``"circular"`` or ``"zeros"``.

    Shapes:
        ``[n, c, H, W]`` to ``[n, c, ⌈H/s⌉, ⌈W/s⌉]``.

    Raises:
        ValueError: for a kernel with an even side, or that reaches more than once around the image; (applied) for
            another size or precision than the kernel's.

    Example:
        >>> blur = Convolution(gaussian_kernel(1.0, 5), size=(8, 8))
        >>> blur(torch.ones(1, 1, 8, 8)).shape, round(blur.squared_norm(), 4)
        (torch.Size([1, 1, 8, 8]), 1.0)
    """

    def __init__(
        self, kernel: Tensor, *, size: tuple[int, int], stride: int = 1, padding_mode: Padding = "circular"
    ) -> None:
        super().__init__()
        if not isinstance(kernel, Tensor) or kernel.dim() != 2 or kernel.size(0) % 2 == 0 or kernel.size(1) % 2 == 0:
            shape = list(kernel.shape) if isinstance(kernel, Tensor) else type(kernel).__name__
            raise ValueError(f"kernel must be a matrix with odd sides, so that it has a centre, got {shape}")
        check_whole("stride", stride, least=1)
        self.operator = Conv2d(
            kernel.flip(0, 1)[None, None],
            size=size,
            stride=stride,
            padding=(kernel.size(0) // 2, kernel.size(1) // 2),
            padding_mode=padding_mode,
        )
        self.stride = stride
        self.closed = padding_mode == "circular" and all(length % stride == 0 for length in self.size)
        self._transfer: Remembered[tuple[Tensor, Tensor]] = Remembered()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        assert self.operator.size is not None
        return self.operator.size

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of each channel."""
        return self._each(x, self.operator)

    def adjoint(self, y: Tensor) -> Tensor:
        """Zeros between the entries, then the correlation with the kernel."""
        return self._each(y, self.operator.adjoint)

    @torch.no_grad()
    def squared_norm(self) -> float:
        """By the symbol."""
        return float(self._exact().squared_norm_bound())

    @torch.no_grad()
    def curvature(self) -> float:
        """By the symbol, rounded down; 0 with a stride."""
        return float(self._exact().lower_bound()) ** 2 * (1.0 - 2.0**-50)

    def prox(self, v: Tensor, y: Tensor, step: float) -> Solution:
        """Exact where the text of the class says so; the error is then that of double precision."""
        if not self.closed:
            return super().prox(v, y, step)
        self._check(v, self.size)
        self._check(y, self._small())
        transfer, symbol = self._transfer([self.operator.weight], self._spectra)
        rest = self._spectrum_of_rest(v.double(), y.double(), transfer) / (1.0 + step * symbol)
        spread = rest if self.stride == 1 else rest.repeat(1, 1, self.stride, self.stride)  # zeros between the entries
        columns = self.size[1] // 2 + 1
        image = v + step * torch.fft.irfft2(transfer[:, :columns].conj() * spread[..., :columns], s=self.size).to(v)
        length = rest.abs().square().sum(dim=(1, 2, 3)).div(rest[0, 0].numel()).sqrt()
        error = 64 * torch.finfo(torch.float64).eps * step * self.operator.weight.double().abs().sum() ** 2 * length
        return Solution(image, error)

    def _spectrum_of_rest(self, v: Tensor, y: Tensor, transfer: Tensor) -> Tensor:
        """Of ``y − Av``, all frequencies of the small grid."""
        seen = transfer * torch.fft.fft2(v)
        if self.stride > 1:
            seen = torch.fft.fft2(torch.fft.ifft2(seen).real[..., :: self.stride, :: self.stride])
        rest: Tensor = torch.fft.fft2(y) - seen
        return rest

    @torch.no_grad()
    def _spectra(self) -> tuple[Tensor, Tensor]:
        """What the blur multiplies each wave by, and the symbol of AAᵀ: the mean of its squares over the aliases."""
        own = self.operator
        whole = Conv2d(own.weight.double(), size=own.size, padding=own.padding, padding_mode=own.padding_mode)
        delta = torch.zeros(1, 1, *self.size, dtype=torch.float64, device=own.weight.device)
        delta[..., 0, 0] = 1.0
        transfer: Tensor = torch.fft.fft2(whole(delta))[0, 0]
        square = transfer.abs().square()
        s, (rows, columns) = self.stride, self._small()
        return transfer, square.view(s, rows, s, columns).mean(dim=(0, 2))

    def _exact(self) -> Conv2d:
        """The same operator in float64."""
        own = self.operator
        return Conv2d(
            own.weight.double(), size=own.size, stride=own.stride, padding=own.padding, padding_mode=own.padding_mode
        )

    def _small(self) -> tuple[int, int]:
        """The size of a measurement where s divides that of the image."""
        return self.size[0] // self.stride, self.size[1] // self.stride

    @staticmethod
    def _check(x: Tensor, size: tuple[int, int]) -> None:
        if x.dim() != 4 or tuple(x.shape[-2:]) != size:
            raise ValueError(f"expected a tensor [n, c, {size[0]}, {size[1]}], got {list(x.shape)}")

    def _each(self, x: Tensor, apply: Callable[[Tensor], Tensor]) -> Tensor:
        if x.dim() != 4:
            raise ValueError(f"expected a tensor [n, c, H, W], got {list(x.shape)}")
        if x.dtype != self.operator.weight.dtype:
            raise ValueError(
                f"the kernel is {self.operator.weight.dtype}, got images of {x.dtype}: convert one of them"
            )
        image = apply(x.reshape(-1, 1, *x.shape[2:]))
        return image.reshape(*x.shape[:2], *image.shape[2:])


def gaussian_kernel(deviation: float, side: int) -> Tensor:
    """``exp(−r²/2s²)`` on a grid, with the sum 1, ``[side, side]``.

    Args:
        deviation: s > 0, in pixels.
        side: odd.
    """
    check_real("deviation", deviation, above=0)
    _check_side(side)
    place = torch.arange(side, dtype=torch.float64) - side // 2
    line = torch.exp(-0.5 * (place / deviation).square())
    kernel = torch.outer(line, line)
    return (kernel / kernel.sum()).to(torch.get_default_dtype())


def motion_kernel(length: float, angle: float, side: int) -> Tensor:
    """A camera that moves along a straight line while it exposes: a segment spread over the pixels, with the sum 1.

    Args:
        length: of the segment, in pixels.
        angle: in degrees, from the horizontal, counter-clockwise.
        side: odd, at least the length.
    """
    check_real("length", length, above=0)
    check_real("angle", angle)
    _check_side(side)
    if length > side:
        raise ValueError(f"side must be at least the length {length!r}, got {side!r}")
    turn = math.radians(angle)
    along = (torch.arange(512, dtype=torch.float64) + 0.5) / 512 - 0.5  # points of the segment
    rows = side // 2 - along * (length - 1) * math.sin(turn)
    columns = side // 2 + along * (length - 1) * math.cos(turn)
    kernel = torch.zeros(side, side, dtype=torch.float64)
    row, column = rows.floor(), columns.floor()
    for down in (0, 1):
        for right in (0, 1):
            weight = (1 - (rows - row - down).abs()) * (1 - (columns - column - right).abs())
            place = ((row + down).clamp(0, side - 1).long(), (column + right).clamp(0, side - 1).long())
            kernel.index_put_(place, weight, accumulate=True)
    return (kernel / kernel.sum()).to(torch.get_default_dtype())


def _check_side(side: int) -> None:
    check_whole("side", side, least=1)
    if side % 2 == 0:
        raise ValueError(f"side must be odd, so that the kernel has a centre, got {side!r}")
