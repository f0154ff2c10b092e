r"""A denoiser that is averaged by construction: gradient steps of learned convex potentials."""

from __future__ import annotations

import copy
import hashlib
import io
import json
from collections.abc import Sequence
from importlib import resources

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.names import unknown
from contractive_gnn.nn.images.denoising_step import DenoisingStep
from contractive_gnn.nn.images.haar import haar, inverse_haar
from contractive_gnn.nn.lipschitz.base import LipschitzModule, product

PADDINGS = ("circular", "zeros", "mirror")
#: SHA-256 of the weights that come with the package
PRETRAINED = {
    "grey": "e8c4d197e94c24e569465f46c4558f3c5486669fc4755bd4a8d814ade81cd6c5",
    "colour": "3a34cb67a7ada230929a4efa9428a0e307097dee9ca017b01c208b4829577a94",
}
ROUNDED_UP = 1.0 + 2.0**-48  # a few operations in double precision
REFERENCE = 25 / 255  # the noise level at which the splines have the scale 1 to begin with


class GradientFlowDenoiser(LipschitzModule):
    r"""A denoiser of Gaussian noise that is averaged, and so 1-Lipschitz in ℓ2, whatever its weights are.

    With the input y, the noise level σ, a grey level c and an isometry E from images to states (``EᵀE = I``)

    .. math::
        z_0 = E(y - c)/σ, \qquad z_{k+1} = z_k - h K_k^\top s_k(K_k z_k), \qquad D_σ(y) = c + σ E^\top z_m

    E fills the image up to a size that blocks divide. Each step works on one scale: scale 0 are the pixels, scale 1 the
    means and differences of blocks of 2 × 2 pixels (the orthogonal Haar transform), scale 2 those of the means of scale
    1, and so on; the differences of finer scales stay as they are. A step is a
    :class:`~contractive_gnn.nn.images.denoising_step.DenoisingStep`: K_k a convolution on the channels of its scale
    with ‖K_k‖ ≤ 1, s_k a learned monotone spline with slopes in [0, 1] and ``s_k(0) = 0`` for each filter. The spline's
    scale is ``(σ/σ_0)^γ`` with a learned γ for each filter: in units of the noise all noise levels are one, but what is
    an edge is not.

    **Averaged.** A step is α-averaged with ``α = h‖K‖²/2 < 1``; so it is next to channels that it leaves alone. A
    composition of α_i-averaged maps is ``κ/(1 + κ)``-averaged with ``κ = Σ α_i/(1 − α_i)`` (Combettes and Yamada, J.
    Math. Anal. Appl. 425, 2015, Proposition 2.5). For an isometry E and ``T = (1 − α)I + αR``,
    ``EᵀTE = (1 − α)I + αEᵀRE``, and ``EᵀRE`` is non-expansive: it is α-averaged. So is ``c + σT((y − c)/σ)``, and so is
    D where the image is mirrored: mirroring is twice an isometry. Hence for all images y, y' of one size and noise
    level

    .. math:: \|Dy - Dy'\|^2 + \frac{1 - α}{α}\,\|(y - Dy) - (y' - Dy')\|^2 \le \|y - y'\|^2

    **Fixed points.** ``D_σ(c) = c`` for the constant image c, for every σ (:meth:`fixed_point`): all biases are 0 and
    ``s(0) = 0``. So repeated application converges (Krasnosel'skii and Mann). With circular or mirrored padding and a
    (mirrored) size that the blocks divide every constant image is a fixed point, for the filters sum to 0 over the
    channels that hold means.

    Sherry, Celledoni, Ehrhardt, Murari, Owren, Schönlieb, *Designing stable neural networks using convex analysis and
    ODEs* (2023) have such steps on the pixels, with LeakyReLU.

    Args:
        channels: 1 for grey images, 3 for colour.
        scales: of each step, from the first; each 0 or more.
        filters: number of filters, and splines, of a step.
        kernel_size: of the filters, on the channels of their scale; odd.
        step: h in (0, 2): it bounds ``h‖K‖²``. At h = 1 each step is firmly non-expansive.
        num_pieces: of each spline, even.
        reach: of the splines' knots, in units of the noise, for filters with ‖K‖ = 1.
        threshold: where the splines, clips at first, begin to be flat; in these units, for all steps of a scale
            together, and a quarter of that for each scale beyond 1, where there is less noise.
        sigma_range: the noise levels that it is for, in [0, 1] as the images are; others are refused.
        padding: ``"circular"``: the image wraps around. ``"zeros"``: c stands beyond the borders. ``"mirror"``: it is
            mirrored at its borders, onto a torus of four times as many pixels; it takes four times as long. It is no
            part of the weights: set :attr:`padding` at any time.
        centre: c.

    Shapes:
        ``[n, channels, H, W]`` or ``[channels, H, W]`` to the same; sizes that blocks do not divide are filled up with
        c, and cut afterwards. With circular padding a side must have at least ``(kernel_size − 1)/2`` blocks of the
        coarsest scale.

    Raises:
        TypeError: for an argument of another type.
        ValueError: for one that is out of its range; (called) for other channels, images that are too small, a σ
            outside of the range, or a number of them other than n.

    Example:
        >>> import torch
        >>> denoiser = GradientFlowDenoiser(scales=(1, 2, 1), filters=8).eval()
        >>> noisy = torch.rand(2, 1, 33, 20)
        >>> denoiser(noisy, 25 / 255).shape, denoiser.lipschitz(), denoiser.averagedness() < 1
        (torch.Size([2, 1, 33, 20]), 1.0, True)
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        scales: Sequence[int] = (1, 1, 2, 2, 1, 1, 2, 2, 1, 1),
        filters: int = 64,
        kernel_size: int = 5,
        step: float = 1.9,
        num_pieces: int = 32,
        reach: float = 0.8,
        threshold: float = 0.15,
        sigma_range: tuple[float, float] = (4 / 255, 51 / 255),
        padding: str = "circular",
        centre: float = 0.5,
    ) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("filters", filters), ("kernel_size", kernel_size)):
            check_whole(name, value, least=1)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}: an even one would shift the image")
        if not isinstance(scales, Sequence) or not scales:
            raise ValueError(f"scales must have the scale of each step, such as (1, 2, 1), got {scales!r}")
        for scale in scales:
            check_whole("scales", scale, least=0)
        check_real("step", step, above=0, below=2)
        check_real("threshold", threshold, above=0)
        check_real("centre", centre, least=0, most=1)
        if not isinstance(sigma_range, tuple) or len(sigma_range) != 2:
            raise TypeError(f"sigma_range must be a pair (least, largest), got {sigma_range!r}")
        check_real("sigma_range", sigma_range[0], above=0, most=1)
        check_real("sigma_range", sigma_range[1], least=sigma_range[0], most=1)
        self.channels = channels
        self.kernel_size = kernel_size
        self.scales = tuple(int(scale) for scale in scales)
        self.sigma_range = (float(sigma_range[0]), float(sigma_range[1]))
        self.centre = float(centre)
        self.padding = padding
        self.steps = nn.ModuleList(
            DenoisingStep(
                channels,
                filters,
                blocks=scale > 0,
                kernel_size=kernel_size,
                step=float(step),
                num_pieces=num_pieces,
                reach=reach,
                threshold=threshold / self.scales.count(scale) / 4 ** max(scale - 1, 0),
            )
            for scale in self.scales
        )
        self.scale_powers = nn.Parameter(torch.zeros(len(self.scales), filters))

    @classmethod
    def pretrained(cls, name: str = "grey") -> GradientFlowDenoiser:
        """A trained denoiser, in single precision and evaluation mode, for noise of 5/255 to 50/255.

        It is read from the package; docs/experiments/train_denoiser.py made it from the photographs of bsds500/train.

        Args:
            name: a key of :data:`PRETRAINED`.

        Raises:
            ValueError: for an unknown name.
            OSError: the file is missing, or not the one that belongs to this release.
        """
        if name not in PRETRAINED:
            raise ValueError(unknown("pretrained denoiser", [name], PRETRAINED))
        content = resources.files("contractive_gnn.nn.images").joinpath(f"weights/{name}.npz").read_bytes()
        if hashlib.sha256(content).hexdigest() != PRETRAINED[name]:
            raise OSError(f"the weights {name!r} are not those of this release; install the package again")
        with np.load(io.BytesIO(content)) as arrays:
            arguments = json.loads(str(arrays["arguments"]))
            state = {key: torch.from_numpy(arrays[key]).float() for key in arrays.files if key != "arguments"}
        with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
            denoiser = cls(**arguments)
        denoiser.load_state_dict({**denoiser.state_dict(), **state})
        return denoiser.eval()

    @property
    def padding(self) -> str:
        """What stands beyond the borders."""
        return self._padding

    @padding.setter
    def padding(self, value: str) -> None:
        if value not in PADDINGS:
            raise ValueError(
                f"padding must be one of {PADDINGS}, got {value!r}; reflecting or repeating entries in each "
                "convolution is no isometry: for reflected borders take 'mirror'"
            )
        self._padding = value

    def reset_parameters(self) -> None:
        """Set the kernels to a frame of cosines with a little noise, and all else back to where it started."""
        for step in self.steps:
            step.reset_parameters()  # type: ignore[operator]
        nn.init.zeros_(self.scale_powers)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The denoised images.

        Args:
            x: noisy images; values beyond [0, 1] are fine.
            sigma: standard deviation of the noise, for images in [0, 1]: a number, or ``[n]``, one for each image.
        """
        if x.dim() == 3:
            return self.forward(x[None], sigma)[0]
        if x.dim() != 4 or x.size(1) != self.channels or not x.is_floating_point():
            raise ValueError(
                f"expected real images [n, {self.channels}, H, W], got {x.dtype} {list(x.shape)}: the denoiser has "
                f"channels={self.channels}"
            )
        self._check_size(x)
        level = self._noise_levels(x, sigma)
        taus = ((level / REFERENCE).log() * self.scale_powers[:, None, :, None, None].to(x.dtype)).exp()
        finer: list[Tensor] = []
        z, scale = self._extended((x - self.centre) / level), 0
        for step, place, tau in zip(self.steps, self.scales, taus, strict=True):
            z, scale, finer = _moved(z, scale, finer, place, self.channels)
            z = step(z, tau, circular=self.padding != "zeros")
        z, _, _ = _moved(z, scale, finer, 0, self.channels)
        return self.centre + level * self._cut(z, x.shape[-2:])

    def _noise_levels(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """σ as ``[n, 1, 1, 1]``."""
        if not isinstance(sigma, Tensor):
            check_real("sigma", sigma, least=self.sigma_range[0], most=self.sigma_range[1])
            return x.new_full((1, 1, 1, 1), float(sigma))
        if not sigma.is_floating_point():
            raise ValueError(f"sigma must be a real number, or [n] of them, got {sigma.dtype}")
        level = sigma.to(x).reshape(-1, 1, 1, 1)
        if level.numel() not in (1, x.size(0)):
            raise ValueError(f"sigma must be a number, or one for each of the {x.size(0)} images, got {level.numel()}")
        low, high = self.sigma_range
        # a σ at the end of the range may have been rounded
        rounding = 4 * max(torch.finfo(x.dtype).eps, torch.finfo(sigma.dtype).eps)
        if not bool(((level >= low * (1 - rounding)) & (level <= high * (1 + rounding))).all()):
            raise ValueError(f"sigma must lie in {self.sigma_range}, for images in [0, 1], got {sigma}")
        return level

    def _check_size(self, x: Tensor) -> None:
        """The coarsest blocks are what a kernel must not wrap around more than once."""
        reach = max(self.kernel_size // 2, 1) if self.padding != "zeros" else 1
        least = 2 ** max(self.scales) * (reach - 1) // (2 if self.padding == "mirror" else 1) + 1
        if min(x.shape[-2:]) < least:
            raise ValueError(
                f"with padding={self.padding!r} an image needs at least {least} pixels along either side, got "
                f"{list(x.shape)}: filters would wrap around it more than once; padding='zeros' takes any size"
            )

    def _extended(self, x: Tensor) -> Tensor:
        """``Ex``: mirrored (twice an isometry then), and filled up with zeros."""
        if self.padding == "mirror":
            x = torch.cat([x, x.flip(3)], dim=3)
            x = torch.cat([x, x.flip(2)], dim=2)
        block = 2 ** max(self.scales)
        return functional.pad(x, (0, -x.size(3) % block, 0, -x.size(2) % block))

    def _cut(self, x: Tensor, size: torch.Size) -> Tensor:
        """``Eᵀx``; the mean of the four parts where the image was mirrored."""
        height, width = size
        if self.padding != "mirror":
            return x[:, :, :height, :width]
        x = x[:, :, : 2 * height, : 2 * width]
        x = 0.5 * (x[:, :, :height] + x[:, :, height:].flip(2))
        return 0.5 * (x[:, :, :, :width] + x[:, :, :, width:].flip(3))

    def frozen(self) -> GradientFlowDenoiser:
        """A copy for inference, in evaluation mode, with kernels that are worked out once: the same numbers, sooner.

        It learns nothing more, and ``torch.compile`` traces it. Its constants are those of its kernels.
        """
        twin = copy.deepcopy(self).eval().requires_grad_(False)
        for step in twin.steps:
            step.freeze()  # type: ignore[operator]
        return twin

    @torch.no_grad()
    def averagedness(self) -> float:
        """α, proved for the kernels of the present mode, every noise level, size and padding.

        In evaluation mode it is below 1; in training mode, whose kernels follow an estimate, it may be ``inf``.
        """
        total = 0.0
        for step in self.steps:
            alpha = step.averagedness()  # type: ignore[operator]
            if not alpha < 1.0:
                return float(alpha)
            total += alpha / (1.0 - alpha)
        return total / (1.0 + total) * ROUNDED_UP

    @torch.no_grad()
    def lipschitz(self) -> float:
        """1 in evaluation mode; in training mode what is proved for its kernels, 1 or a little more."""
        return product(step.lipschitz() for step in self.steps)  # type: ignore[operator]

    def fixed_point(self, x: Tensor) -> Tensor:
        """An image of the shape of x that the denoiser does not change, at any noise level: c everywhere."""
        return torch.full_like(x, self.centre)

    def extra_repr(self) -> str:
        """Show what the steps do not."""
        low, high = self.sigma_range
        return f"{self.channels}, scales={self.scales}, sigma_range=({low:.4g}, {high:.4g}), padding={self.padding!r}"


def _moved(z: Tensor, scale: int, finer: list[Tensor], place: int, channels: int) -> tuple[Tensor, int, list[Tensor]]:
    """The state on another scale: means are split, or joined with the differences that were left behind."""
    while scale < place:
        finer = [*finer, z[:, channels:]]
        z, scale = haar(z[:, :channels]), scale + 1
    while scale > place:
        *finer, differences = finer
        z, scale = torch.cat([inverse_haar(z), differences], dim=1), scale - 1
    return z, scale, finer
