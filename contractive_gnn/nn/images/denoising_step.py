r"""One step of a denoiser: a gradient step of a learned convex potential, on channels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from contractive_gnn.activations import Huber
from contractive_gnn.compiled.convolutions import convolve, transpose
from contractive_gnn.nn.images.haar import haar
from contractive_gnn.operators.singular import require_decomposable, rounding
from contractive_gnn.operators.symbol import waves
from contractive_gnn.remembered import Remembered
from contractive_gnn.splines import LinearSpline

SAMPLES = 24  # frequencies for each degree of the symbol, along either axis: a bound within 1.8 % of the square
LEAST_SAMPLES = 48
NOISE = 0.05  # of the first kernels, as a part of their deviation: it tells the steps of a scale apart
TORUS = 16  # pixels along either side of the torus on which training estimates the norm


class DenoisingStep(nn.Module):
    r"""``z ↦ z − h Kᵀσ_τ(Kz)``: an explicit Euler step along the gradient flow of a convex potential of ``Kz``.

    K is a convolution with stride 1 that keeps the size, σ a learned monotone spline for each of its filters, with
    slopes in [0, 1], and ``σ_τ(u) = τσ(u/τ)`` is σ on another scale, one for each filter and image.

    For two states there is a diagonal S with entries in [0, 1] such that the step maps their difference d to
    ``(I − hKᵀSK)d``, and ``0 ≤ hKᵀSK ≤ h‖K‖²``. With ``α = h‖K‖²/2`` it is ``(1 − α)I + αR``, where
    ``R = I − (h/α)KᵀSK`` is symmetric with eigenvalues in [−1, 1]: for ``h‖K‖² < 2`` the step is α-averaged, at
    ``h‖K‖² = 2`` it is non-expansive and no more, and beyond it expands.

    K is ``W/b``, with a free weight W. In evaluation mode b is a proved bound of ‖W‖ (:func:`squared_gain`). In
    training mode it is an estimate of ‖W‖ by the power method, which has a gradient: K may then have a norm above 1.
    :meth:`averagedness` and :meth:`lipschitz` are proved in either mode, for the kernel that the mode has.

    Args:
        channels: c, of the image. The filters sum to 0 over each of the first c channels of z, which hold means, so
            that σ sees no constant.
        filters: number of σ.
        blocks: whether z holds the Haar transform of blocks of 2 × 2, 4c channels; else the c channels of the pixels.
        kernel_size: k, odd.
        step: h in (0, 2).
        num_pieces: of each σ.
        reach: r of each σ, in the units of ``z``.
        threshold: λ, of the clips that the σ are at first.

    Shapes:
        ``[n, 4c or c, H, W]`` to the same; H and W at least ``(k − 1)/2``.
    """

    _probe: Tensor
    _fixed: Tensor | None

    def __init__(
        self,
        channels: int,
        filters: int,
        *,
        blocks: bool,
        kernel_size: int,
        step: float,
        num_pieces: int,
        reach: float,
        threshold: float,
    ) -> None:
        super().__init__()
        self.step = step
        self.image_channels = channels
        channels = 4 * channels if blocks else channels
        self.weight = nn.Parameter(torch.empty(filters, channels, kernel_size, kernel_size))
        self.sigma = LinearSpline(filters, num_pieces=num_pieces, reach=reach, start=Huber(threshold))
        self.register_buffer("_probe", torch.empty(1, channels, TORUS, TORUS))
        self.register_buffer("_fixed", None, persistent=False)
        self._known: Remembered[float] = Remembered()
        self._scaled: Remembered[float] = Remembered()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set W to a frame of cosines with a little noise, scaled to norm 1, and σ to a clip."""
        nn.init.normal_(self.weight, std=NOISE)
        nn.init.normal_(self._probe)
        self.sigma.reset_parameters()
        with torch.no_grad():
            frame = cosines(self.weight, self.image_channels)
            self.weight.mul_(frame.std()).add_(frame)
            for _ in range(20):
                estimate = self._estimate()
            self.weight.div_(estimate)

    def kernel(self) -> Tensor:
        """K, ``[filters, channels, k, k]``."""
        if self._fixed is not None:
            return self._fixed
        weight = self._centred()
        if self.training:
            return weight / self._norm(weight, self._probe)
        return weight * self._scale()

    def forward(self, z: Tensor, tau: Tensor, *, circular: bool) -> Tensor:
        """The step.

        Args:
            z: the state.
            tau: τ > 0, ``[n, filters, 1, 1]``.
            circular: wrap around at the borders; else zeros stand beyond them.
        """
        if (
            self.training and self._fixed is None and torch.is_grad_enabled()
        ):  # an answer without a gradient changes nothing
            self._estimate()
        kernel = self.kernel().to(z.dtype)
        force = _convolve_back(self.sigma(_convolve(z, kernel, circular), scale=tau), kernel, circular)
        return z - self.step * force

    @torch.no_grad()
    def freeze(self) -> None:
        """Keep the present K, whatever becomes of W: no kernel is worked out at a call. Loading a W renews it."""
        self._fixed = self.kernel().detach().clone()

    def _load_from_state_dict(self, *arguments: Any, **named: Any) -> None:
        """Load, and keep the K of the weights that were loaded where one was kept."""
        super()._load_from_state_dict(*arguments, **named)
        if self._fixed is not None:
            self._fixed = None
            self.freeze()

    def averagedness(self) -> float:
        """``α = h‖K‖²/2``, with a proved bound of ‖K‖ that holds for every size; ``inf`` where that is above 1."""
        alpha = 0.5 * self.step * self.gain()
        return alpha if alpha <= 1.0 else math.inf

    def lipschitz(self) -> float:
        """``max(1, h‖K‖² − 1)``, likewise."""
        return max(1.0, self.step * self.gain() * (1.0 + 2.0**-50) - 1.0)

    @torch.no_grad()
    def gain(self) -> float:
        """A proved bound of ``‖K‖²``, for the entries of K as the forward pass has them in the weight's precision."""
        kernel = self.kernel()
        return self._known([kernel], lambda: squared_gain(kernel))

    @torch.no_grad()
    def _scale(self) -> float:
        """``1/b``; b is worked out again where W has changed."""
        return self._scaled([self.weight], self._safe_scale)

    def _safe_scale(self) -> float:
        weight = self._centred().detach()
        bound = math.sqrt(squared_gain(weight))
        # the product W/b is rounded once: its norm is then at most 1 even so
        slack = 1.0 + 2.0 * math.sqrt(weight[0].numel()) * torch.finfo(weight.dtype).eps
        return 1.0 / (bound * slack) if bound > 0 else 0.0

    def _centred(self) -> Tensor:
        """W without what it makes of a constant image."""
        smooth, other = self.weight[:, : self.image_channels], self.weight[:, self.image_channels :]
        return torch.cat([smooth - smooth.mean((2, 3), keepdim=True), other], dim=1)

    @torch.no_grad()
    def _estimate(self) -> Tensor:
        """‖W‖ after one more step of the power method, from where the last one ended."""
        weight = self._centred()
        image = _convolve_back(_convolve(self._probe, weight, True), weight, True)
        self._probe.copy_(image / image.norm().clamp(min=torch.finfo(image.dtype).tiny))
        return self._norm(weight, self._probe)

    @staticmethod
    def _norm(weight: Tensor, probe: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(_convolve(probe, weight, True))
        return norm.clamp(min=torch.finfo(weight.dtype).tiny)

    def extra_repr(self) -> str:
        """Show the sizes."""
        filters, channels, k, _ = self.weight.shape
        return f"{channels}, {filters}, kernel_size={k}, step={self.step:g}"


def cosines(like: Tensor, channels: int) -> Tensor:
    """The smoothest waves of a discrete cosine transform but the constant: what a denoiser starts from.

    On blocks they are those of n × n pixels with ``n = 2(k − 1)`` (2k for k ≤ 3), in the Haar transform. All n² − 1 of
    them are a tight frame on what is left of an image without its local mean. Of colour images each filter takes one
    mixture of the channels: grey, and two differences. What is too much stays 0.

    Args:
        like: a kernel ``[filters, channels or 4 channels, k, k]``.
        channels: of the image.
    """
    filters, width, k, _ = like.shape
    blocks = width == 4 * channels
    n = k if not blocks else 2 * k if k <= 3 else 2 * (k - 1)
    place = torch.arange(n, dtype=torch.float64)
    waves_ = torch.cos(math.pi * (place[None] + 0.5) * place[:, None] / n)
    waves_ /= waves_.norm(dim=1, keepdim=True)
    order = sorted(((a, b) for a in range(n) for b in range(n)), key=lambda pair: pair[0] ** 2 + pair[1] ** 2)[1:]
    planes = torch.stack([torch.outer(waves_[a], waves_[b]) for a, b in order])
    mixtures = torch.linalg.qr(torch.cat([torch.ones(channels, 1), torch.eye(channels)[:, 1:]], dim=1).double()).Q.T
    mixed = torch.einsum("pij,mc->pmcij", planes, mixtures).flatten(0, 1)[:filters]
    kernel = haar(mixed) if blocks else mixed
    frame = torch.zeros_like(like, dtype=torch.float64)
    frame[: len(kernel), :, : kernel.size(2), : kernel.size(3)] = kernel
    return frame.to(like)


def squared_gain(kernel: Tensor) -> float:
    r"""An upper bound of ``‖K‖²`` in ℓ2 for a convolution with circular or zero padding, at every size of the image.

    ``‖K‖² ≤ sup_ω λ_max(K(ω)ᴴK(ω))`` with the symbol K(ω). Each ``vᴴK(ω)ᴴK(ω)v`` is a trigonometric polynomial of
    degree ``m = k − 1`` in either variable, so its supremum is at most the maximum over S > 2m samples on either axis,
    divided by ``cos(πm/S)²`` (Ehlich and Zeller 1964; :class:`~contractive_gnn.operators.Conv2d` tells the same of K).
    Zero padding is a part of a larger circular convolution.

    Args:
        kernel: ``[filters, channels, k, k]``; it is taken to double precision.

    Returns:
        the bound, with rounding allowed for; 0 for a kernel of zeros.

    Raises:
        ValueError: for entries that are not finite.
    """
    kernel = kernel.detach().double().cpu()
    require_decomposable(kernel)
    if not bool(kernel.any()):
        return 0.0
    filters, channels, k, _ = kernel.shape
    degree = k - 1
    samples = max(LEAST_SAMPLES, SAMPLES * degree)
    rows = waves(samples, samples, k, kernel)
    columns = waves(samples, samples // 2 + 1, k, kernel)
    largest = 0.0
    partial = torch.einsum("oikl,bl->oikb", kernel.to(columns.dtype), columns)
    for row in rows:  # one row of frequencies at a time: the whole grid would take gigabytes
        symbol = torch.einsum("oikb,k->boi", partial, row)
        gram = symbol.mH @ symbol if channels <= filters else symbol @ symbol.mH
        largest = max(largest, float(torch.linalg.eigvalsh(gram)[:, -1].max()))
    # the transform and the product err by a few (k² + filters + channels) eps of Σ|K|², which is at most that many
    # times the largest eigenvalue
    size = k * k * max(filters, channels) + filters + channels
    return largest * (1.0 + rounding(size, torch.float64)) / math.cos(math.pi * degree / samples) ** 2


def _convolve(z: Tensor, kernel: Tensor, circular: bool) -> Tensor:
    reach = kernel.size(-1) // 2
    if circular:
        return convolve(functional.pad(z, [reach] * 4, mode="circular"), kernel, (0, 0))
    return convolve(z, kernel, (reach, reach))


def _convolve_back(y: Tensor, kernel: Tensor, circular: bool) -> Tensor:
    """The adjoint. It wraps its few channels around, where the many of y would have to be padded."""
    reach = kernel.size(-1) // 2
    if not circular or not reach:
        return transpose(y, kernel, (reach, reach))
    z = transpose(y, kernel, (0, 0))
    for axis, sides in ((2, (0, 0)), (3, ())):
        size = z.size(axis) - 2 * reach
        before, core, after = torch.split(z, [reach, size, reach], dim=axis)
        rest = size - reach
        z = core + functional.pad(before, (*sides, rest, 0)) + functional.pad(after, (*sides, 0, rest))
    return z
