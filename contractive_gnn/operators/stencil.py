"""Convolutions with a fixed kernel on a regular grid: the operators of finite differences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.norms import Norm
from contractive_gnn.operators.base import Operator, require_finite
from contractive_gnn.operators.singular import require_decomposable, rounding

Boundary = Literal["periodic", "zero"]


class Stencil(Operator):
    r"""``(Au)_i = Σ_t K_t u_{i+t−o}`` on a grid in one, two or three dimensions.

    Beyond the grid u repeats (``"periodic"``) or is 0 (``"zero"``). On a periodic grid a wave
    ``u_j = e^{i⟨ω, j⟩}`` is multiplied by the symbol ``K(ω) = Σ_t K_t e^{i⟨ω, t−o⟩}``, so the norm is the largest and
    the lower bound the smallest ``|K(ω)|`` over the frequencies ``ω = 2πj/N`` of the grid: both are exact. With the
    boundary value 0, two cases:

    * on every axis the kernel has one tap, or three around o with the outer ones equal (the Laplacian): the sines
      ``Π sin(ω_a i_a)`` with ``ω_a = πk_a/(N_a + 1)``, ``k_a = 1, …, N_a``, are eigenvectors with the values K(ω), and
      both bounds are exact;
    * otherwise A is a part of the periodic operator on a grid of ``N + k − 1`` points an axis, where nothing wraps
      around: the norm is at most that one's, and no lower bound is known.

    In ℓ1 and ℓ∞ the norms are exact: sums of ``|K|``.

    Args:
        kernel: K, ``[k₁, …, k_d]``; or ``[m, k₁, …, k_d]`` for m of them, whose results stand beside each other.
        size: ``(N₁, …, N_d)``, at least as large as the kernel.
        boundary: ``"periodic"`` or ``"zero"``.
        origin: o, the place of i in the kernel, an index for each axis; None for the middle, ``⌊(k − 1)/2⌋``.

    Shapes:
        ``[..., N₁, …, N_d]`` to the same, or to ``[..., m, N₁, …, N_d]``: all axes before those of the grid are a
        batch, channels too.

    Raises:
        ValueError: for a number of dimensions other than 1, 2 or 3, a kernel larger than the grid, an origin outside
            the kernel, another boundary, or entries that are not finite; (applied) for another shape.
        TypeError: if the kernel is not real and floating.

    >>> import torch
    >>> ring = Stencil.laplacian((8,))
    >>> ring(torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0])).tolist()
    [-2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    >>> round(float(ring.norm_bound()), 2)
    4.0
    """

    kernel: Tensor

    def __init__(
        self,
        kernel: Tensor,
        *,
        size: Sequence[int],
        boundary: Boundary = "periodic",
        origin: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self._hold("kernel", kernel)
        size = _grid(size)
        dimensions = len(size)
        if kernel.dim() not in (dimensions, dimensions + 1) or kernel.numel() == 0:
            raise ValueError(
                f"a grid of {dimensions} dimensions takes a kernel of that many axes, or one axis more for several "
                f"kernels, none of them empty, got shape {list(kernel.shape)}"
            )
        if boundary not in ("periodic", "zero"):
            raise ValueError(f"boundary must be 'periodic' or 'zero', got {boundary!r}")
        taps = tuple(kernel.shape[-dimensions:])
        if any(k > n for k, n in zip(taps, size, strict=True)):
            raise ValueError(f"the kernel {list(taps)} is larger than the grid {list(size)}: its ends would meet")
        place = tuple((k - 1) // 2 for k in taps) if origin is None else origin
        if not isinstance(place, Sequence) or len(place) != dimensions:
            raise ValueError(f"origin must be an index into each axis of the kernel {list(taps)}, got {origin!r}")
        for o in place:
            check_whole("origin", o)
        if not all(0 <= o < k for o, k in zip(place, taps, strict=True)):
            raise ValueError(f"origin must be an index into each axis of the kernel {list(taps)}, got {origin!r}")
        self.size = size
        self.boundary = boundary
        self.origin = tuple(map(int, place))

    @classmethod
    def laplacian(
        cls,
        size: Sequence[int],
        *,
        spacing: float | Sequence[float] = 1.0,
        boundary: Boundary = "periodic",
        dtype: torch.dtype | None = None,
    ) -> Stencil:
        """``Σ_a (u_{i+e_a} − 2u_i + u_{i−e_a})/h_a²``, which is symmetric with eigenvalues at most 0.

        Args:
            size: see :class:`Stencil`; at least 3 points an axis.
            spacing: h > 0, the distance of two points, one for all axes or one for each; in the unit of length.
            boundary: see :class:`Stencil`; ``"zero"`` is Dirichlet's condition.
            dtype: of the kernel; None for torch's default.
        """
        size = _grid(size)
        kernel = torch.zeros([3] * len(size), dtype=torch.float64)
        for axis, h in enumerate(_spacings(spacing, len(size))):
            kernel += _along(torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64) / h**2, axis, len(size), at=1)
        return cls(kernel.to(dtype or torch.get_default_dtype()), size=size, boundary=boundary)

    @classmethod
    def gradient(
        cls,
        size: Sequence[int],
        *,
        spacing: float | Sequence[float] = 1.0,
        boundary: Boundary = "periodic",
        dtype: torch.dtype | None = None,
    ) -> Stencil:
        """The forward differences ``(u_{i+e_a} − u_i)/h_a`` along all axes; on a periodic grid ``GᵀG`` is −Δ.

        Arguments are those of :meth:`laplacian`; the result has d components, ``[..., d, N₁, …, N_d]``.
        """
        size = _grid(size)
        kernels = torch.zeros([len(size), *[2] * len(size)], dtype=torch.float64)
        for axis, h in enumerate(_spacings(spacing, len(size))):
            kernels[axis] = _along(torch.tensor([-1.0, 1.0], dtype=torch.float64) / h, axis, len(size), at=0)
        return cls(kernels.to(dtype or torch.get_default_dtype()), size=size, boundary=boundary, origin=[0] * len(size))

    @classmethod
    def central_difference(
        cls,
        size: Sequence[int],
        *,
        axis: int = 0,
        spacing: float = 1.0,
        boundary: Boundary = "periodic",
        dtype: torch.dtype | None = None,
    ) -> Stencil:
        """``(u_{i+e_a} − u_{i−e_a})/2h`` along one axis, which is skew-symmetric.

        Args:
            size: as in :meth:`laplacian`.
            axis: a, counted from 0 among the axes of the grid.
            spacing: h > 0 along that axis.
            boundary: as there.
            dtype: as there.
        """
        size = _grid(size)
        check_whole("axis", axis, least=0, below=len(size))
        check_real("spacing", spacing, above=0)
        kernel = torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64) / spacing
        shape = [1] * len(size)
        shape[axis] = 3
        return cls(kernel.view(shape).to(dtype or torch.get_default_dtype()), size=size, boundary=boundary)

    def forward(self, x: Tensor) -> Tensor:
        """The differences of ``[..., N₁, …, N_d]``."""
        self._check(x, ())
        kernel = self.kernel
        d = len(self.size)
        single = kernel.dim() == d
        batch = x.shape[: x.dim() - d]
        flat = x.reshape(math.prod(batch), 1, *self.size)
        image = self._convolve(flat, kernel.unsqueeze(0) if single else kernel, self.origin)
        return image.reshape(*batch, *([] if single else [kernel.size(0)]), *self.size)

    def adjoint(self, y: Tensor) -> Tensor:
        """That of the differences, to ``[..., N₁, …, N_d]``: the kernel read backwards."""
        kernel = self.kernel
        d = len(self.size)
        components = () if kernel.dim() == d else (kernel.size(0),)
        self._check(y, components)
        batch = y.shape[: y.dim() - d - len(components)]
        flat = y.reshape(math.prod(batch), math.prod(components), *self.size)
        backwards = kernel.flip(list(range(-d, 0))).reshape(1, *flat.shape[1:2], *kernel.shape[-d:])
        origin = tuple(k - 1 - o for k, o in zip(kernel.shape[-d:], self.origin, strict=True))
        return self._convolve(flat, backwards.squeeze(0), origin, transposed=True).reshape(*batch, *self.size)

    def norm_bound(self, norm: str | Norm = "l2") -> Tensor:
        """Exact in ℓ1 and ℓ∞, and in ℓ2 up to rounding where the class's text says so."""
        kind, kernel = self.family(norm), self.kernel
        if kind == "l2":
            largest, slack = self._symbol().max(), self._slack()
            return largest * (1.0 + slack)
        require_finite(kernel)
        size = kernel.abs()
        # A point of the grid meets all of the kernel, since that is no larger than the grid.
        return size.sum() if kind == "l1" or kernel.dim() == len(self.size) else size.flatten(1).sum(1).max()

    def lower_bound(self) -> Tensor:
        """Exact up to rounding where the class's text says so, else 0."""
        if self.boundary == "zero" and not self._even():
            return self.kernel.new_zeros(())
        symbol = self._symbol()
        return (symbol.min() - self._slack() * symbol.max()).clamp(min=0.0)

    def symbol(self) -> Tensor:
        """``K(ω)`` at the frequencies of a periodic grid, complex, ``[N₁, …, N_d]`` (or ``[m, N₁, …, N_d]``).

        The frequency with index j is ``2πj/N``, as in ``torch.fft.fftn``: ``fftn(Au) = K · fftn(u)``.
        """
        d = len(self.size)
        angles = [2 * math.pi / n * torch.arange(n, dtype=torch.float64) for n in self.size]
        symbol = _waves(self.kernel.unsqueeze(0) if self.kernel.dim() == d else self.kernel, angles, self.origin)
        return symbol.squeeze(0) if self.kernel.dim() == d else symbol

    def extra_repr(self) -> str:
        """Show the grid and the kernel's shape."""
        return f"kernel={list(self.kernel.shape)}, size={list(self.size)}, boundary={self.boundary!r}"

    def _check(self, x: Tensor, components: tuple[int, ...]) -> None:
        wanted = (*components, *self.size)
        if x.dim() < len(wanted) or tuple(x.shape[x.dim() - len(wanted) :]) != wanted:
            raise ValueError(f"expected a tensor of shape [..., {', '.join(map(str, wanted))}], got {list(x.shape)}")

    def _convolve(self, x: Tensor, kernels: Tensor, origin: Sequence[int], *, transposed: bool = False) -> Tensor:
        """``[batch, 1, …]`` with ``[m, …]`` to ``[batch, m, …]``; transposed ``[batch, m, …]`` to ``[batch, 1, …]``.

        A sum of shifts. A convolution in single precision is rounded to ten bits on some devices (TF32), and of a
        difference little would be left.
        """
        taps = kernels.shape[1:]
        pad: list[int] = []
        for k, o in zip(reversed(taps), reversed(origin), strict=True):
            pad += [o, k - 1 - o]
        if any(pad):
            x = torch.nn.functional.pad(x, pad, mode="circular" if self.boundary == "periodic" else "constant")
        terms = []
        for place in itertools.product(*map(range, taps)):
            window = x
            for axis, (t, n) in enumerate(zip(place, self.size, strict=True), start=2):
                window = window.narrow(axis, t, n)
            tap = kernels
            for t in place:
                tap = tap.select(1, t)
            term = tap.view(-1, *[1] * len(taps)) * window
            terms.append(term.sum(dim=1, keepdim=True) if transposed else term)
        image = terms[0]
        for term in terms[1:]:
            image = image + term
        return image

    def _even(self) -> bool:
        """Whether every axis has one tap, or three around the origin with equal outer ones; for one kernel."""
        kernel = self.kernel.detach()
        if kernel.dim() != len(self.size):
            return False
        for axis, (k, o) in enumerate(zip(kernel.shape, self.origin, strict=True)):
            if (k, o) not in ((1, 0), (3, 1)) or not torch.equal(kernel, kernel.flip(axis)):
                return False
        return True

    def _symbol(self) -> Tensor:
        """The size of the symbol at all frequencies that the bounds need, ``[…]`` real."""
        kernel = self.kernel
        require_decomposable(kernel)
        d = len(self.size)
        kernels = kernel.unsqueeze(0) if kernel.dim() == d else kernel
        whole = torch.float64
        if self.boundary == "periodic":
            angles = [2 * math.pi / n * torch.arange(n, dtype=whole) for n in self.size]
        elif self._even():
            angles = [math.pi / (n + 1) * torch.arange(1, n + 1, dtype=whole) for n in self.size]
        else:
            lengths = [n + k - 1 for n, k in zip(self.size, kernels.shape[1:], strict=True)]
            angles = [2 * math.pi / n * torch.arange(n, dtype=whole) for n in lengths]
        size: Tensor = torch.linalg.vector_norm(_waves(kernels, angles, self.origin), dim=0)
        return size

    def _slack(self) -> float:
        """The transform errs by a few eps Σ|K|, which is at most ``(m · taps)^½`` times the largest symbol."""
        return rounding(4 * self.kernel.numel() + 16, self.kernel.dtype)


def _waves(kernels: Tensor, angles: list[Tensor], origin: Sequence[int]) -> Tensor:
    """``Σ_t K_t e^{i⟨ω, t−o⟩}`` for ω in the product of the angles, ``[m, k₁, …]`` to ``[m, S₁, …]``."""
    dtype = torch.complex128 if kernels.dtype == torch.float64 else torch.complex64
    symbol = kernels.to(dtype)
    for axis, (omega, o) in enumerate(zip(angles, origin, strict=True), start=1):
        turns = torch.outer(omega, torch.arange(kernels.size(axis), dtype=torch.float64) - o)
        waves = torch.polar(torch.ones_like(turns), turns).to(device=kernels.device, dtype=dtype)
        symbol = torch.tensordot(symbol, waves, dims=([axis], [1])).movedim(-1, axis)
    return symbol


def _along(taps: Tensor, axis: int, dimensions: int, *, at: int) -> Tensor:
    """Taps along one axis of a kernel that is as long on the others, where they stand at an index."""
    kernel = torch.zeros([len(taps)] * dimensions, dtype=taps.dtype)
    index: list[int | slice] = [at] * dimensions
    index[axis] = slice(None)
    kernel[tuple(index)] = taps
    return kernel


def _grid(size: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(size, Sequence) or not 1 <= len(size) <= 3:
        raise ValueError(f"size must be one, two or three numbers of points, one for each axis, got {size!r}")
    for n in size:
        check_whole("size", n, least=1)
    return tuple(int(n) for n in size)


def _spacings(spacing: float | Sequence[float], dimensions: int) -> list[float]:
    spacings = list(spacing) if isinstance(spacing, Sequence) else [spacing] * dimensions
    if len(spacings) != dimensions:
        raise ValueError(f"spacing must be one number, or one for each of {dimensions} axes, got {spacing!r}")
    for h in spacings:
        check_real("spacing", h, above=0)
    return [float(h) for h in spacings]
