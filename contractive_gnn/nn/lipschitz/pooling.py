r"""Pooling, with exact constants.

Windows overlap where the stride is shorter than the window. Along one axis, with windows of k entries every s entries,
an entry lies in at most ``⌈k/s⌉`` windows, and a window meets ``n_r`` entries of the phase r, those at places
``≡ r mod s``, with ``Σ_r n_r = k``.

* **Maximum.** ``|max a − max b| ≤ |a_i − b_i|`` for some i of the window, so the squares of all outputs' changes sum to
  at most those of the inputs', each counted as often as its entry is used: ``√(⌈k/s⌉ ⌈k'/s'⌉)`` for two axes. One large
  entry attains it.
* **Length** (ℓ2 norm of a window): ``|‖a‖ − ‖b‖| ≤ ‖a − b‖``, and the same count.
* **Average.** A convolution with the constant kernel 1/k and stride s: its symbol, a row with an entry for each phase,
  is longest at the frequency 0, where it is ``√(Σ_r n_r²)/k``. It is ``1/√k`` without an overlap, and two axes
  multiply. No size has a larger constant, and large images come as near as one likes.

Entries that no window meets are dropped, which is a projection.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from contractive_gnn.checks import check_flag, whole_pair
from contractive_gnn.nn.lipschitz.base import LipschitzModule
from contractive_gnn.nn.lipschitz.rounding import rounded

Pair = tuple[int, int]


class _Pool2d(LipschitzModule):
    """Windows and their stride."""

    def __init__(self, kernel_size: int | Pair, stride: int | Pair | None = None) -> None:
        super().__init__()
        self.kernel_size = whole_pair("kernel_size", kernel_size, least=1)
        self.stride = self.kernel_size if stride is None else whole_pair("stride", stride, least=1)

    @property
    def uses(self) -> int:
        """In how many windows an entry lies at most."""
        first, second = (-(-k // s) for k, s in zip(self.kernel_size, self.stride, strict=True))
        return first * second

    def _check(self, x: Tensor) -> None:
        check_image(x)
        if any(n < k for n, k in zip(x.shape[-2:], self.kernel_size, strict=True)):
            raise ValueError(f"a window of {self.kernel_size} does not fit into an image of shape {list(x.shape)}")

    def extra_repr(self) -> str:
        """Show the windows."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


class AvgPool2d(_Pool2d):
    r"""The mean of each window times √(number of its entries): 1-Lipschitz without an overlap.

    The plain mean shrinks what it keeps by the root of the window's size; the scaled one does not, so a certificate
    loses nothing. See the module's text for the constant.

    Args:
        kernel_size: of the window, or one for each axis.
        stride: distance of the windows, by default their size: no overlap.
        scaled: False for the plain mean.

    Shapes:
        ``[n, c, H, W]`` to ``[n, c, H', W']`` with ``H' = ⌊(H − k)/s⌋ + 1``.

    Raises:
        TypeError: for what is no whole number, or two of them.
        ValueError: for one below 1; (called) for an image smaller than a window.

    Example:
        >>> AvgPool2d(2).lipschitz(), AvgPool2d(2, scaled=False).lipschitz()
        (1.0, 0.5)
        >>> round(AvgPool2d(3, stride=2).lipschitz(), 4)  # √(5/3) along either axis
        1.6667
    """

    def __init__(self, kernel_size: int | Pair, stride: int | Pair | None = None, *, scaled: bool = True) -> None:
        super().__init__(kernel_size, stride)
        check_flag("scaled", scaled)
        self.scaled = scaled

    def forward(self, x: Tensor) -> Tensor:
        """Average."""
        self._check(x)
        mean = functional.avg_pool2d(x, self.kernel_size, self.stride)
        return mean * math.sqrt(math.prod(self.kernel_size)) if self.scaled else mean

    def lipschitz(self) -> float:
        """``√(Π Σ_r n_r²/k)``, over √(window) where it is not scaled."""
        square, window = 1, math.prod(self.kernel_size)
        for k, s in zip(self.kernel_size, self.stride, strict=True):
            # of s phases, k mod s have one entry more than the others
            square *= (k % s) * (k // s + 1) ** 2 + (s - k % s) * (k // s) ** 2
        divisor = window if self.scaled else window**2
        return rooted(square, divisor)

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """Three roundings: of the mean, of its multiple, and of the gradient for each window that an entry is in."""
        terms = math.prod(self.kernel_size)
        return rounded(self.lipschitz(), self.lipschitz(), dtype, roundings=3 + self.uses, terms=terms)

    def extra_repr(self) -> str:
        """Show the windows."""
        return f"{super().extra_repr()}, scaled={self.scaled}"


class MaxPool2d(_Pool2d):
    r"""The maximum of each window: 1-Lipschitz without an overlap, else ``√(⌈k/s⌉ ⌈k'/s'⌉)``.

    Args:
        kernel_size: of the window, or one for each axis.
        stride: distance of the windows, by default their size: no overlap.
        padding: entries of −∞ at either side, at most half a window; they are never a maximum.

    Shapes:
        ``[n, c, H, W]`` to ``[n, c, H', W']`` with ``H' = ⌊(H + 2p − k)/s⌋ + 1``.

    Raises:
        TypeError: for what is no whole number, or two of them.
        ValueError: for numbers out of their range; (called) for an image smaller than a window.

    Example:
        >>> MaxPool2d(2).lipschitz(), MaxPool2d(3, stride=2).lipschitz()
        (1.0, 2.0)
    """

    def __init__(self, kernel_size: int | Pair, stride: int | Pair | None = None, *, padding: int | Pair = 0) -> None:
        super().__init__(kernel_size, stride)
        self.padding = whole_pair("padding", padding, least=0)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(f"padding must be at most half of kernel_size {self.kernel_size}, got {padding}")

    def forward(self, x: Tensor) -> Tensor:
        """Take maxima."""
        check_image(x)
        if any(n + 2 * p < k for n, p, k in zip(x.shape[-2:], self.padding, self.kernel_size, strict=True)):
            raise ValueError(f"a window of {self.kernel_size} does not fit into an image of shape {list(x.shape)}")
        return functional.max_pool2d(x, self.kernel_size, self.stride, self.padding)

    def lipschitz(self) -> float:
        """The root of how often an entry is used."""
        return rooted(self.uses, 1)

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """One rounding for each window that an entry is in, but the first: gradients add up."""
        return rounded(self.lipschitz(), self.lipschitz(), dtype, roundings=self.uses - 1)

    def extra_repr(self) -> str:
        """Show the windows."""
        return f"{super().extra_repr()}, padding={self.padding}"


class L2NormPool2d(_Pool2d):
    r"""The Euclidean norm of each window: 1-Lipschitz without an overlap, else ``√(⌈k/s⌉ ⌈k'/s'⌉)``.

    Where it has a derivative it keeps the length of gradients. At a window of zeros the gradient is 0, not NaN.

    Args:
        kernel_size: of the window, or one for each axis.
        stride: distance of the windows, by default their size: no overlap.

    Shapes:
        ``[n, c, H, W]`` to ``[n, c, H', W']``.

    Raises:
        TypeError: for what is no whole number, or two of them.
        ValueError: for one below 1; (called) for an image smaller than a window.

    Example:
        >>> import torch
        >>> L2NormPool2d((1, 2))(torch.tensor([[[[3.0, 4.0]]]])).item()
        5.0
    """

    def forward(self, x: Tensor) -> Tensor:
        """Take norms."""
        self._check(x)
        squares = functional.avg_pool2d(x.square(), self.kernel_size, self.stride, divisor_override=1)
        return _root(squares)

    def lipschitz(self) -> float:
        """The root of how often an entry is used."""
        return rooted(self.uses, 1)

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """Six roundings: of squares, sum, root, and three of the gradient; and one for each window."""
        terms = math.prod(self.kernel_size)
        return rounded(self.lipschitz(), self.lipschitz(), dtype, roundings=6 + self.uses, terms=terms)


class GlobalAvgPool2d(LipschitzModule):
    r"""The sum over all pixels over √(H W): of norm 1 for every size.

    The plain mean is ``1/√(HW)``-Lipschitz, so it shrinks with the image; with this scale an image's size does not
    matter to the constant.

    Shapes:
        ``[n, c, H, W]`` to ``[n, c]``.

    Raises:
        ValueError: (called) for another shape, or without pixels.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Average and scale."""
        check_image(x)
        return x.mean(dim=(-2, -1)) * math.sqrt(x.size(-2) * x.size(-1))

    def lipschitz(self) -> float:
        """1."""
        return 1.0

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """Four roundings, and sums of at most 4,096 pixels."""
        return rounded(1.0, 1.0, dtype, roundings=4, terms=4096)


class GlobalMaxPool2d(LipschitzModule):
    """The maximum of each channel: 1-Lipschitz.

    Shapes:
        ``[n, c, H, W]`` to ``[n, c]``.

    Raises:
        ValueError: (called) for another shape, or without pixels.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Take maxima."""
        check_image(x)
        return x.amax(dim=(-2, -1))

    def lipschitz(self) -> float:
        """1."""
        return 1.0

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """One rounding: where several pixels are the maximum the gradient is shared."""
        return rounded(1.0, 1.0, dtype, roundings=1)


class GlobalL2NormPool2d(LipschitzModule):
    """The Euclidean norm of each channel: 1-Lipschitz. At a channel of zeros the gradient is 0, not NaN.

    Shapes:
        ``[n, c, H, W]`` to ``[n, c]``.

    Raises:
        ValueError: (called) for another shape, or without pixels.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Take norms."""
        check_image(x)
        return _root(x.square().sum(dim=(-2, -1)))

    def lipschitz(self) -> float:
        """1."""
        return 1.0

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """Seven roundings, and sums of at most 4,096 pixels."""
        return rounded(1.0, 1.0, dtype, roundings=7, terms=4096)


def check_image(x: Tensor) -> None:
    """Raise ValueError unless it is a batch of images with pixels."""
    if x.dim() != 4 or 0 in x.shape[-2:]:
        raise ValueError(f"expected a batch of images [n, c, H, W], got shape {list(x.shape)}")


def rooted(numerator: int, divisor: int) -> float:
    """``√(numerator/divisor)``, rounded up unless it is exact."""
    root = math.sqrt(numerator / divisor)
    return root if root * root * divisor == numerator else root * (1.0 + 2.0**-51)


def _root(squares: Tensor) -> Tensor:
    """A root whose gradient is 0 at 0."""
    tiny = torch.finfo(squares.dtype).tiny
    return torch.where(squares < tiny, torch.zeros_like(squares), squares.clamp(min=tiny).sqrt())
