"""deepinv's measurements in our iterations, with bounds that are proved and not estimated."""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.extras import needs
from contractive_gnn.inverse.physics import LinearPhysics, Solution, adjoint_defect, perron_bound
from contractive_gnn.remembered import Remembered

#: padding modes of deepinv's convolutions in which no pixel is counted twice
PLAIN_PADDING = ("valid", "circular", "constant", "zeros")


class _Proved(NamedTuple):
    """What is known of a measurement of deepinv as it is now."""

    squared_norm: float
    curvature: float
    closed: bool
    reason: str


class DeepinvPhysics(LinearPhysics):
    """A linear measurement of deepinv; see :func:`from_deepinv`.

    What is proved is proved of the images of one size: an image of another size is refused. deepinv changes a
    measurement in place (``physics.update(mask=...)``): what is proved is then worked out again.

    Attributes:
        physics: deepinv's object.
        size: ``(c, H, W)`` of the images.
    """

    def __init__(self, physics: nn.Module, size: tuple[int, int, int], *, claim: float | None) -> None:
        super().__init__()
        self.physics: Any = physics
        self.size = size
        self._claim = claim
        self._proved: Remembered[_Proved] = Remembered()

    def forward(self, x: Tensor) -> Tensor:
        """``Ax``, without noise."""
        return self._call("A", self._checked(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """``Aᵀy``."""
        return self._checked(self._call("A_adjoint", y))

    def _checked(self, image: Tensor) -> Tensor:
        if tuple(image.shape[1:]) != self.size:
            raise ValueError(
                f"the measurement was handed over for images [n, {', '.join(map(str, self.size))}], this one is "
                f"{list(image.shape)}: hand it over again with the other size"
            )
        return image

    def squared_norm(self) -> float:
        """Proved where ``certified``; else what was given, or ``inf``."""
        return self._known().squared_norm

    def curvature(self) -> float:
        """Proved where ``certified``, else 0."""
        return self._known().curvature

    @property
    def certified(self) -> bool:  # type: ignore[override]  # it follows deepinv's object
        """Whether the bounds and the adjoint are proved."""
        return not self._known().reason

    @property
    def reason(self) -> str:  # type: ignore[override]
        """Why not; empty where they are."""
        return self._known().reason

    def prox(self, v: Tensor, y: Tensor, step: float) -> Solution:
        """Deepinv's closed form where it has one, else conjugate gradients; the error is measured either way."""
        if not self._known().closed:
            return super().prox(v, y, step)
        right = v + step * self.adjoint(y)
        image: Tensor = self.physics.prox_l2(v, y, step)
        left = (right - image - step * self.adjoint(self(image))).flatten(1).norm(dim=1)
        rounding = 16 * torch.finfo(right.dtype).eps * right.flatten(1).norm(dim=1)
        return Solution(image, torch.where(left <= rounding, 0.0, left))

    def _known(self) -> _Proved:
        return self._proved([*self.physics.parameters(), *self.physics.buffers()], self._prove)

    @torch.no_grad()
    def _prove(self) -> _Proved:
        most, least, closed = _bounds(self.physics, self.size)
        reason = ""
        if math.isinf(most):
            reason = f"no bound of ‖A‖² is proved for {type(self.physics).__name__} of deepinv"
            if self._claim is not None:
                most, reason = self._claim, f"{reason}: it was claimed"
        tensor = next((b for b in self.physics.buffers() if b.is_floating_point()), torch.zeros(()))
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, *self.size, generator=generator, dtype=tensor.dtype).to(tensor.device)
        y = self(x)
        other = torch.randn(y.shape, generator=generator, dtype=y.dtype).to(tensor.device)
        defect = adjoint_defect(self, x, other)
        if defect > 64 * torch.finfo(tensor.dtype).eps:
            reason = f"A_adjoint of {type(self.physics).__name__} is not the adjoint of A: off by {defect:.2g}"
        return _Proved(most, least, closed, reason)

    def _call(self, name: str, argument: Tensor) -> Tensor:
        value = getattr(self.physics, name)(argument)
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{type(self.physics).__name__}.{name} returned {type(value).__name__}; stacked measurements are not "
                "supported: use one of them"
            )
        return value.detach()


def from_deepinv(physics: nn.Module, size: tuple[int, int, int], *, squared_norm: float | None = None) -> LinearPhysics:
    r"""One of deepinv's linear measurements as a :class:`~contractive_gnn.inverse.LinearPhysics`.

    ``compute_sqnorm`` approaches ``‖A‖²`` from below, so it is not used. Proved here are, for these classes and not for
    their subclasses:

    ============================================ =========================================================
    class                                        ``‖A‖²`` is at most
    ============================================ =========================================================
    ``Denoising``, ``Inpainting``, ``MRI``       ``max m²`` of the mask: ``A = diag(m)V`` with an isometry V
    ``BlurFFT``                                  the largest squared symbol
    ``Blur``, ``Downsampling``, circular          the largest mean of the squared symbol over the aliases
    the same with a kernel ``h ≥ 0``             Perron's bound, for every padding
    the same, ``valid`` or ``zeros``             ``(Σ|h|)²`` (Young)
    ``Tomography``                               Perron's bound: the matrix has no negative entry
    ============================================ =========================================================

    The adjoint is tried with random images; where it fails, and for another class, nothing is certified.

    Args:
        physics: a ``deepinv.physics.LinearPhysics``. Its noise is not used.
        size: ``(c, H, W)`` of the images.
        squared_norm: what you claim of ``‖A‖²``, for a class without a proof. It is used as the step, not certified.

    Raises:
        MissingExtraError: deepinv is not installed.
        TypeError: for something else.
        ValueError: for a claim where there is a proof, and a size that the measurement does not take; (called) for
            images of another size.

    Example:
        >>> import deepinv
        >>> mask = (torch.rand(1, 8, 8) < 0.5).float()
        >>> physics = from_deepinv(deepinv.physics.Inpainting((1, 8, 8), mask=mask), (1, 8, 8))
        >>> physics.squared_norm(), physics.certified
        (1.0, True)
    """
    with needs("inverse", "a measurement of deepinv"):
        import deepinv
    if not isinstance(physics, deepinv.physics.LinearPhysics):
        raise TypeError(f"expected a linear measurement of deepinv, got {type(physics).__name__}")
    if not isinstance(size, tuple | list | torch.Size) or len(size) != 3:
        raise ValueError(f"size must be (channels, height, width) of the images, got {size!r}")
    for extent in size:
        check_whole("size", extent, least=1)
    size = (int(size[0]), int(size[1]), int(size[2]))
    dtype = next((b.dtype for b in physics.buffers() if b.is_floating_point()), torch.get_default_dtype())
    device = next((b.device for b in physics.buffers()), torch.device("cpu"))
    try:
        with torch.no_grad():
            physics.A(torch.zeros(1, *size, dtype=dtype, device=device))
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"{type(physics).__name__} of deepinv does not take images of size {size}: {error}") from error
    if squared_norm is not None:
        check_real("squared_norm", squared_norm, above=0)
    wrapped = DeepinvPhysics(physics, size, claim=squared_norm)
    if squared_norm is not None and wrapped.squared_norm() != squared_norm:
        raise ValueError(f"‖A‖² ≤ {wrapped.squared_norm():.6g} is proved for this measurement: leave squared_norm out")
    return wrapped


def _bounds(physics: Any, size: tuple[int, int, int]) -> tuple[float, float, bool]:
    """Bounds of ``‖A‖²`` and of the least eigenvalue of AᵀA, and whether deepinv has the proximal step in closed form.

    ``inf`` and 0 where nothing is proved.
    """
    import deepinv.physics as kinds

    kind = type(physics)
    if kind in (kinds.Denoising, kinds.Inpainting, kinds.Demosaicing, kinds.MRI, kinds.BlurFFT):
        mask = torch.as_tensor(physics.mask).abs().to(torch.float64).square()
        # the symbol of BlurFFT was computed in single precision from Σ|h| terms
        slack = 1.0 + (64 * torch.finfo(torch.float32).eps if kind is kinds.BlurFFT else 0.0)
        least = 0.0 if kind is kinds.BlurFFT else float(mask.min())
        return float(mask.max()) * slack, least, True
    if kind in (kinds.Blur, kinds.Downsampling):
        return (*_convolution_bounds(physics, size), kind is kinds.Downsampling and physics.padding == "circular")
    if kind is kinds.Tomography:
        exact = copy.deepcopy(physics).double()
        exact.dtype = torch.float64
        # the copy would keep the adjoint of the original, in single precision
        exact._auto_grad_adjoint_fn = None
        # The weights of its interpolation are rounded in single precision, at places of up to ``width`` pixels.
        slack = 1.0 + 16 * physics.img_width * torch.finfo(torch.float32).eps
        return perron_bound(_Adjoint(exact), torch.ones(1, *size, dtype=torch.float64)) * slack, 0.0, False
    return math.inf, 0.0, False


def _convolution_bounds(physics: Any, size: tuple[int, int, int]) -> tuple[float, float]:
    stride = int(getattr(physics, "factor", 1))
    if physics.filter is None:
        return 1.0, 1.0 if stride == 1 else 0.0  # rows of the identity
    kernel = physics.filter.to(torch.float64)
    found = []
    sides = kernel.shape[-2:]
    fits = all(k <= n and n % stride == 0 for k, n in zip(sides, size[1:], strict=True))
    if physics.padding == "circular" and fits:
        padded = torch.zeros(*kernel.shape[:2], *size[1:], dtype=torch.float64)
        padded[..., : sides[0], : sides[1]] = kernel
        symbol = torch.fft.fft2(padded).abs().square()
        aliases = symbol.unflatten(-2, (stride, -1)).unflatten(-1, (stride, -1)).mean(dim=(-4, -2))
        slack = 64 * kernel.numel() * torch.finfo(torch.float64).eps * float(kernel.abs().sum()) ** 2
        found.append(float(aliases.max()) + slack)
    if physics.padding in PLAIN_PADDING:
        found.append(float(kernel.abs().sum(dim=(-2, -1)).max()) ** 2)
    if bool((kernel >= 0).all()):
        exact = copy.deepcopy(physics).double()
        found.append(perron_bound(_Adjoint(exact), torch.ones(1, *size, dtype=torch.float64)))
    return min(found, default=math.inf), 0.0


class _Adjoint(nn.Module):
    """deepinv's names in ours."""

    def __init__(self, physics: nn.Module) -> None:
        super().__init__()
        self.physics: Any = physics

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.physics.A(x)
        return value.detach()

    def adjoint(self, y: Tensor) -> Tensor:
        value: Tensor = self.physics.A_adjoint(y)
        return value.detach()
