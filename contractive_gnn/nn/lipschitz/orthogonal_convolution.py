r"""Convolutions that keep lengths.

The symbol of a kernel (see :class:`~contractive_gnn.operators.Conv2d`) is a matrix ``K(ω)`` for each frequency. A
circular convolution is orthogonal where all of them are. Two ways to such a kernel:

* **Block**: a product of short kernels, ``P + (I − P) e^{iω}`` along one axis, with an orthogonal projector P, and one
  orthogonal matrix (Li, Haque, Anil, Lucas, Grosse, Jacobsen, NeurIPS 2019; Xiao et al., ICML 2018). For a projector
  ``(P + (I − P)z)*(P + (I − P)z) = P + |z|²(I − P) = I``, at every frequency, so for every size.
* **Cayley**: Cayley's map of the skew-Hermitian part of a free kernel's symbol, at the frequencies of one size
  (Trockman and Kolter, ICLR 2021). The kernel is as large as the image.

**What is exact.** With circular padding and ``out ≥ in`` the layer is an isometry, up to what
:meth:`OrthogonalConv2d.defect` measures; with ``out < in`` its adjoint is one, and the layer has norm 1. With zero
padding, which keeps the size, it is a submatrix of a circular convolution on a larger image: its norm is 1 at most, and
what leaves at the border is lost, so it is no isometry. Reflected or repeated borders are refused: they count entries
twice, and the norm exceeds 1.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from contractive_gnn.checks import check_flag, check_whole, whole_pair
from contractive_gnn.nn.lipschitz.base import LipschitzModule
from contractive_gnn.nn.lipschitz.bjorck import bjorck
from contractive_gnn.nn.lipschitz.rounding import rounded
from contractive_gnn.nn.lipschitz.weights import applied, exact
from contractive_gnn.operators import Conv2d, rounding
from contractive_gnn.operators.convolution import Padding, Size
from contractive_gnn.operators.singular import largest_singular_value, require_decomposable

Method = Literal["block", "cayley"]


class OrthogonalConv2d(LipschitzModule):
    r"""A convolution with an orthogonal symbol, stride 1, that keeps the size. See the module's text for what is exact.

    For a stride use :class:`.SpaceToDepth` before it, which loses nothing.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: k, odd.
        method: ``"block"`` for a k × k kernel that is orthogonal at every size; ``"cayley"`` for a kernel as large as
            the image, made of k × k free numbers for each pair of channels.
        size: height and width of all inputs, or one number for both; ``"cayley"`` needs them.
        padding_mode: ``"circular"``, or ``"zeros"`` with ``"block"``.
        bias: whether one is learned; it does not count.
        num_steps: of :func:`.bjorck` for ``"block"``.

    Shapes:
        ``[n, in, H, W]`` to ``[n, out, H, W]``.

    Raises:
        TypeError: for an argument of another type; (called) in half precision.
        ValueError: for an unknown method, numbers out of their range, and options that do not go together; (called) for
            an image of another shape.

    Example:
        >>> import torch
        >>> layer, x = OrthogonalConv2d(4, 4, 3, bias=False), torch.randn(1, 4, 8, 8)
        >>> bool((layer(x).norm() - x.norm()).abs() < 1e-4)
        True
    """

    weight: Tensor
    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        method: Method = "block",
        size: int | Size | None = None,
        padding_mode: Padding = "circular",
        bias: bool = True,
        num_steps: int = 20,
    ) -> None:
        super().__init__()
        check_whole("in_channels", in_channels, least=1)
        check_whole("out_channels", out_channels, least=1)
        check_whole("kernel_size", kernel_size, least=1)
        check_whole("num_steps", num_steps, least=1)
        check_flag("bias", bias)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that the size is kept, got {kernel_size}")
        if method not in ("block", "cayley"):
            raise ValueError(f"method must be 'block' or 'cayley', got {method!r}")
        if padding_mode not in ("circular", "zeros"):
            raise ValueError(
                f"padding_mode must be 'circular' or 'zeros', got {padding_mode!r}: the others count entries near the "
                "border twice, and the norm exceeds that of the kernel's symbol"
            )
        size = None if size is None else whole_pair("size", size, least=1)
        if method == "cayley" and (size is None or padding_mode != "circular"):
            raise ValueError(
                f"method='cayley' is orthogonal for one size with circular padding: give size=(height, width), got "
                f"size={size}, padding_mode={padding_mode!r}; method='block' takes any"
            )
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.method, self.size, self.padding_mode = method, size, padding_mode
        weight = torch.empty(out_channels, in_channels, kernel_size, kernel_size)
        nn.init.normal_(weight, std=1.0 / (kernel_size * math.sqrt(in_channels)))
        self.weight = nn.Parameter(weight)
        if bias:
            reach = 1.0 / (kernel_size * math.sqrt(in_channels))
            self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-reach, reach))
        else:
            self.register_parameter("bias", None)
        if method == "block":
            parametrize.register_parametrization(self, "weight", BlockKernel(num_steps))
        else:
            assert size is not None
            parametrize.register_parametrization(self, "weight", CayleyKernel(size), unsafe=True)  # another shape

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        if x.dim() != 4 or x.size(1) != self.in_channels:
            raise ValueError(f"expected a batch of images [n, {self.in_channels}, H, W], got shape {list(x.shape)}")
        if self.size is not None and tuple(x.shape[-2:]) != self.size:
            raise ValueError(f"the layer is for images of size {self.size}, got shape {list(x.shape)}")
        weight = applied(self)
        if self.method == "cayley":
            y = _fourier_convolution(x, weight)
            return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1)
        reach = self.kernel_size // 2
        if self.padding_mode == "zeros":
            return functional.conv2d(x, weight, self.bias, padding=reach)
        if min(x.shape[-2:]) < reach:
            raise ValueError(f"a kernel of {self.kernel_size} wraps more than once around an image {list(x.shape)}")
        return functional.conv2d(functional.pad(x, (reach,) * 4, mode="circular"), weight, self.bias)

    def lipschitz(self) -> float:
        """A certified norm of the kernel as it is applied: 1 up to rounding, and up to what is not orthogonal yet."""
        weight = exact(self)
        if self.method == "cayley":
            return _symbol_norm(weight)
        near = math.sqrt(1.0 + _defect(weight))
        if near < 1.001:  # the other bound is up to 4 % too large, and takes many times as long
            return near
        return min(near, float(Conv2d(weight, **self._options()).norm_bound()))  # type: ignore[arg-type]

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """Two roundings, of the kernel and of the result; Fourier transforms are kept in float32 at least."""
        weight = exact(self)
        if self.method == "cayley":
            magnitude = float(weight.abs().sum(dim=(-2, -1)).square().sum().sqrt())
            terms = 16 * (weight.size(0) + weight.size(1)) + 64 * int(math.log2(weight[0, 0].numel()) + 1)
        else:
            magnitude = float(Conv2d(weight.abs(), **self._options()).norm_bound())  # type: ignore[arg-type]
            terms = max(weight.size(0), weight.size(1)) * self.kernel_size**2
        return rounded(self.lipschitz(), magnitude, dtype, roundings=2, terms=terms)

    def defect(self) -> float:
        r"""An upper bound of ``‖K(ω)*K(ω) − I‖₂`` (``K(ω)K(ω)* − I`` for out < in) at all frequencies that matter.

        With circular padding the layer is an isometry up to it: ``‖f(x) − f(y)‖ ≥ √(1 − defect) ‖x − y‖`` for
        ``out ≥ in``.
        """
        weight = exact(self)
        if self.method == "block":
            return _defect(weight)
        symbol = torch.fft.rfft2(weight).movedim((0, 1), (-2, -1))
        tall = symbol if symbol.size(-2) >= symbol.size(-1) else symbol.mH
        rest = tall.mH @ tall - torch.eye(tall.size(-1), dtype=tall.dtype)
        slack = rounding(sum(weight.shape), torch.float64) * float(symbol.abs().square().sum(dim=(-2, -1)).max())
        return float(torch.linalg.matrix_norm(rest, 2).max()) + slack

    def extra_repr(self) -> str:
        """Show the options."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, method={self.method!r}, "
            f"size={self.size}, padding_mode={self.padding_mode!r}"
        )

    def _options(self) -> dict[str, object]:
        return {"size": self.size, "padding": self.kernel_size // 2, "padding_mode": self.padding_mode}


class BlockKernel(nn.Module):
    r"""A k × k kernel that is orthogonal at every frequency, as a product of ``2(k − 1)`` blocks and one matrix.

    The projectors are ``UUᵀ`` for a matrix U with about half as many orthonormal columns as there are channels, by
    :func:`.bjorck`. While its steps have not converged the singular values d of ``UUᵀ`` lie in [0, 1], and so
    ``|d + (1 − d)z| ≤ 1``: the norm is 1 at most all the same. Blocks act on the wider side; their axes alternate, and
    every second pair begins with the other projector, so the kernel is centred.

    Args:
        num_steps: of :func:`.bjorck`.
    """

    def __init__(self, num_steps: int = 20) -> None:
        super().__init__()
        self.num_steps = num_steps
        self._drawn = False

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the free matrices.

        Raises:
            NotImplementedError: for a kernel that is assigned: not every one is such a product.
        """
        if self._drawn:
            raise NotImplementedError(
                "an orthogonal kernel cannot be assigned: load a state_dict, or set the free matrices "
                "parametrizations.weight.original0 and original1"
            )
        self._drawn = True
        out_channels, in_channels, k, _ = weight.shape
        width = max(out_channels, in_channels)
        matrix = torch.empty(out_channels, in_channels, dtype=weight.dtype, device=weight.device)
        nn.init.orthogonal_(matrix)
        frames = weight.new_empty(2 * (k - 1), width, width // 2)
        for frame in frames:
            if frame.numel():
                nn.init.orthogonal_(frame)
        return matrix, frames

    def forward(self, matrix: Tensor, frames: Tensor) -> Tensor:
        """``[out, in]`` and ``[2(k − 1), width, width // 2]`` to ``[out, in, k, k]``."""
        for tensor in (matrix, frames):
            require_decomposable(tensor)
        matrix = bjorck(matrix, self.num_steps)
        frames = bjorck(frames, self.num_steps)
        projectors = frames @ frames.mT
        identity = torch.eye(projectors.size(-1), dtype=matrix.dtype, device=matrix.device)
        wide = matrix.size(0) < matrix.size(1)
        kernel = (identity if wide else matrix)[:, :, None, None]
        for index, projector in enumerate(projectors):
            first, second = projector, identity - projector
            if (index // 2) % 2:
                first, second = second, first
            before, after = _times(first, kernel), _times(second, kernel)
            # one entry longer along one axis
            left, right = ((0, 1), (1, 0)) if index % 2 else ((0, 0, 0, 1), (0, 0, 1, 0))
            kernel = functional.pad(before, left) + functional.pad(after, right)
        return _times(matrix, kernel) if wide else kernel


class CayleyKernel(nn.Module):
    r"""A kernel ``[out, in, H, W]`` with an orthogonal symbol at the frequencies of one size, from a free k × k one.

    With the symbol's upper square block U and the rest V (for ``out ≥ in``), ``A = U − U* + V*V`` has a positive
    semidefinite Hermitian part, so ``I + A`` is invertible, and ``Q = ((I + A)⁻¹(I − A), −2V(I + A)⁻¹)`` has
    ``Q*Q = I`` (Trockman and Kolter 2021, appendix). One step of Björck's mends what a badly conditioned system lost.

    Args:
        size: height and width.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def forward(self, weight: Tensor) -> Tensor:
        """``[out, in, k, k]`` to ``[out, in, H, W]``."""
        require_decomposable(weight)
        height, width = self.size
        k = weight.size(-1)
        # the kernel's centre at the origin, wrapped where it is larger than the image
        rows, columns = ((torch.arange(k, device=weight.device) - k // 2) % n for n in self.size)
        place = (rows[:, None] * width + columns[None, :]).flatten()
        spread = weight.new_zeros(*weight.shape[:2], height * width).index_add(2, place, weight.flatten(2))
        symbol = torch.fft.rfft2(spread.view(*weight.shape[:2], height, width)).movedim((0, 1), (-2, -1))
        wide = symbol.size(-2) < symbol.size(-1)
        tall = symbol.mH if wide else symbol
        n = tall.size(-1)
        upper, lower = tall[..., :n, :], tall[..., n:, :]
        identity = torch.eye(n, dtype=tall.dtype, device=tall.device)
        skew = upper - upper.mH + lower.mH @ lower
        inverse = torch.linalg.inv(identity + skew)
        factor = torch.cat([inverse @ (identity - skew), -2.0 * lower @ inverse], dim=-2)
        factor = 1.5 * factor - 0.5 * factor @ (factor.mH @ factor)
        factor = (factor.mH if wide else factor).movedim((-2, -1), (0, 1))
        kernel: Tensor = torch.fft.irfft2(factor, s=self.size)
        return kernel


def _times(matrix: Tensor, kernel: Tensor) -> Tensor:
    """A matrix times each tap."""
    return (matrix @ kernel.flatten(1)).reshape(-1, *kernel.shape[1:])


def _fourier_convolution(x: Tensor, kernel: Tensor) -> Tensor:
    """A circular convolution with a kernel as large as the image, in float32 at least."""
    wide = torch.promote_types(x.dtype, torch.float32)
    if len(x) == 0:  # no transform takes an empty batch
        return x.new_empty(0, len(kernel), *x.shape[-2:])
    with torch.autocast(x.device.type, enabled=False):
        symbol = torch.fft.rfft2(kernel.to(wide))
        image = torch.einsum("oihw,nihw->nohw", symbol, torch.fft.rfft2(x.to(wide)))
        y: Tensor = torch.fft.irfft2(image, s=x.shape[-2:])
    return y.to(x.dtype)


def _symbol_norm(kernel: Tensor) -> float:
    """The largest ``‖K(ω)‖₂`` at the frequencies of a kernel ``[out, in, H, W]`` in float64, rounding allowed for."""
    symbol = torch.fft.rfft2(kernel).movedim((0, 1), (-2, -1)).flatten(0, 1)
    largest = int(torch.linalg.matrix_norm(symbol, 2).argmax())
    return float(largest_singular_value(symbol[largest], extra=kernel[0, 0].numel()))


def _defect(kernel: Tensor) -> float:
    r"""``sup_ω ‖K(ω)*K(ω) − I‖₂ ≤ Σ_d ‖R_d‖_F`` with the lags ``R_d = Σ_t K_tᵀ K_{t+d} − δ_d I``, in float64.

    ``K(ω)*K(ω) = Σ_{s,t} K_sᵀ K_t e^{i⟨ω, t − s⟩}``. For ``out < in`` the same of ``K(ω)K(ω)*``.
    """
    tall = kernel if kernel.size(0) >= kernel.size(1) else kernel.transpose(0, 1)
    taps = tall.transpose(0, 1)
    reach = (kernel.size(-2) - 1, kernel.size(-1) - 1)
    lags = functional.conv2d(taps, taps, padding=reach)  # [in, in, 2k − 1, 2k − 1]
    energy = float(lags[:, :, reach[0], reach[1]].diagonal().max())
    lags[:, :, reach[0], reach[1]] -= torch.eye(len(taps), dtype=kernel.dtype)
    # an entry is a sum of products of two columns of K, and is rounded by at most terms · eps · ‖column‖²
    slack = lags.numel() * tall[:, 0].numel() * torch.finfo(kernel.dtype).eps * max(energy, 1.0)
    return float(torch.linalg.matrix_norm(lags.movedim((0, 1), (-2, -1))).sum()) * (1.0 + 1e-12) + slack
