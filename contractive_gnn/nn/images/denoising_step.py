r"""One step of a denoiser: a gradient step of a learned convex potential, on channels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from contractive_gnn.compiled.convolutions import convolve, transpose
from contractive_gnn.operators.singular import require_decomposable, rounding
from contractive_gnn.operators.symbol import waves
from contractive_gnn.splines import LinearSpline

SAMPLES = 24  # frequencies for each degree of the symbol, along either axis: a bound within 1.8 % of the square
LEAST_SAMPLES = 48
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
        channels: of z.
        filters: number of σ.
        kernel_size: odd.
        step: h in (0, 2).
        smooth_channels: the first so many channels hold local means: the filters sum to 0 over them, so that σ sees
            no constant.
        num_pieces: of each σ.
        reach: r of each σ, in the units of ``z``.

    Shapes:
        ``[n, channels, H, W]`` to the same; H and W at least ``(kernel_size − 1)/2``.
    """

    _probe: Tensor

    def __init__(
        self,
        channels: int,
        filters: int,
        *,
        kernel_size: int,
        step: float,
        smooth_channels: int,
        num_pieces: int,
        reach: float,
    ) -> None:
        super().__init__()
        self.step = step
        self.smooth_channels = smooth_channels
        self.weight = nn.Parameter(torch.empty(filters, channels, kernel_size, kernel_size))
        self.sigma = LinearSpline(filters, num_pieces=num_pieces, reach=reach)
        self.register_buffer("_probe", torch.empty(1, channels, TORUS, TORUS))
        self._known: tuple[Tensor, float] | None = None
        self._scaled: tuple[Tensor, float] | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W from a normal distribution, scaled to norm 1, and set σ to a clip."""
        nn.init.normal_(self.weight)
        nn.init.normal_(self._probe)
        self.sigma.reset_parameters()
        with torch.no_grad():
            for _ in range(20):
                estimate = self._estimate()
            self.weight /= estimate

    def kernel(self) -> Tensor:
        """K, ``[filters, channels, k, k]``."""
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
        if self.training and torch.is_grad_enabled():  # an answer without a gradient changes nothing
            self._estimate()
        kernel = self.kernel().to(z.dtype)
        force = _convolve_back(self.sigma(_convolve(z, kernel, circular), scale=tau), kernel, circular)
        return z - self.step * force

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
        if self._known is None or not _equal(self._known[0], kernel):
            self._known = (kernel.clone(), squared_gain(kernel))
        return self._known[1]

    @torch.no_grad()
    def _scale(self) -> float:
        """``1/b``; b is worked out again where W has changed."""
        if self._scaled is None or not _equal(self._scaled[0], self.weight):
            weight = self._centred().detach()
            bound = math.sqrt(squared_gain(weight))
            # the product W/b is rounded once: its norm is then at most 1 even so
            slack = 1.0 + 2.0 * math.sqrt(weight[0].numel()) * torch.finfo(weight.dtype).eps
            self._scaled = (self.weight.detach().clone(), 1.0 / (bound * slack) if bound > 0 else 0.0)
        return self._scaled[1]

    def _centred(self) -> Tensor:
        """W without what it makes of a constant image."""
        smooth, other = self.weight[:, : self.smooth_channels], self.weight[:, self.smooth_channels :]
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
        return _convolve(probe, weight, True).norm().clamp(min=torch.finfo(weight.dtype).tiny)

    def extra_repr(self) -> str:
        """Show the sizes."""
        filters, channels, k, _ = self.weight.shape
        return f"{channels}, {filters}, kernel_size={k}, step={self.step:g}"


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
        before, core = z.narrow(axis, 0, reach), z.narrow(axis, reach, size)
        after = z.narrow(axis, reach + size, reach)
        rest = size - reach
        z = core + functional.pad(before, (*sides, rest, 0)) + functional.pad(after, (*sides, 0, rest))
    return z


def _equal(kept: Tensor, present: Tensor) -> bool:
    return kept.device == present.device and kept.dtype == present.dtype and torch.equal(kept, present)
