"""Convolutions with a fixed kernel on a regular grid: the operators of finite differences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.norms import Norm
from contractive_gnn.operators.base import Operator, require_finite
from contractive_gnn.operators.differences import central_weights, check_order
from contractive_gnn.operators.precision import Exact, rounded_taps
from contractive_gnn.operators.singular import require_decomposable, rounding
from contractive_gnn.operators.walls import (
    REFLECTING,
    Boundary,
    angles,
    check_boundary,
    extend,
    fold,
    ring,
    wall_matrices,
)


class Stencil(Exact, Operator):
    r"""``(Au)_i = Σ_t K_t u_{i+t−o}`` on a grid in one, two or three dimensions.

    Beyond the grid u repeats (``"periodic"``), is 0 (``"zero"``), or is reflected (``"dirichlet"`` and ``"neumann"``,
    see :mod:`contractive_gnn.operators.walls`). A wave ``u_j = e^{i⟨ω, j⟩}`` is multiplied by the symbol
    ``K(ω) = Σ_t K_t e^{i⟨ω, t−o⟩}``, an ``[out, in]`` matrix where there are several components. So on a periodic grid
    the norm is the largest and the lower bound the smallest singular value of K(ω) over the frequencies ``ω = 2πj/N``
    of the grid: both are exact. With walls, on an axis with N points:

    * ``"neumann"``: let the kernel of each output be even or odd about o along each axis, the same for all inputs. Then
      the cosines ``cos ω(i + 1/2)``, ``ω = πk/N``, ``k = 0, …, N − 1``, are mapped to cosines or sines of the same
      frequency, which are orthogonal: both bounds are exact.
    * ``"dirichlet"``: with even kernels the sines ``sin ω(i + 1)``, ``ω = πk/(N + 1)``, ``k = 1, …, N``, are mapped to
      themselves: both bounds are exact. With odd ones too the norm is at most the largest singular value there, for the
      image of an odd sequence is odd or even.
    * ``"zero"``: the same sines where there is one kernel, with one tap or three even ones on each axis: then it is
      ``"dirichlet"``. Else A is a part of the periodic operator on a grid of ``N + k − 1`` points an axis, where
      nothing wraps around: the norm is at most that one's, and no lower bound is known.
    * other kernels behind walls that reflect: along each axis a reflected sequence has √2 times the norm, on a ring of
      twice the length, so the norm is at most √2 times that of the ring for each axis, and at most ``(‖A‖₁‖A‖_∞)^½``
      (Riesz and Thorin). The smaller one is taken, and no lower bound is known.

    In ℓ1 and ℓ∞ the norms are exact: sums of ``|K|``, and next to walls that reflect of what falls together there.

    A fixed kernel is kept as it was given: ``.float()`` rounds it so that taps that sum to 0 still do
    (:func:`~contractive_gnn.operators.precision.rounded_taps`), and ``.double()`` has it again. A learned one is
    converted as torch does it.

    Args:
        kernel: K, ``[k₁, …, k_d]``; or ``[m, k₁, …, k_d]`` for m of them, whose results stand beside each other; or
            ``[out, in, k₁, …, k_d]``, which also adds up over components of the input.
        size: ``(N₁, …, N_d)``, at least as large as the kernel.
        boundary: ``"periodic"``, ``"zero"``, ``"dirichlet"`` or ``"neumann"``, on all sides.
        origin: o, the place of i in the kernel, an index for each axis; None for the middle, ``⌊(k − 1)/2⌋``.

    Shapes:
        ``[..., N₁, …, N_d]`` to the same, or to ``[..., m, N₁, …, N_d]``: all axes before those of the grid are a
        batch, channels too. With a kernel ``[out, in, …]`` from ``[..., in, N₁, …]`` to ``[..., out, N₁, …]``.

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
        if kernel.dim() - dimensions not in (0, 1, 2) or kernel.numel() == 0:
            raise ValueError(
                f"a grid of {dimensions} dimensions takes a kernel of that many axes, or one axis more for several "
                f"kernels, or two for components of the output and the input, none of them empty, got shape "
                f"{list(kernel.shape)}"
            )
        check_boundary(boundary)
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
        if not isinstance(kernel, nn.Parameter):
            self._keep("kernel")

    @classmethod
    def laplacian(
        cls,
        size: Sequence[int],
        *,
        spacing: float | Sequence[float] = 1.0,
        boundary: Boundary = "periodic",
        order: int = 2,
        dtype: torch.dtype | None = None,
    ) -> Stencil:
        """The Laplacian, ``Σ_a (u_{i+e_a} − 2u_i + u_{i−e_a})/h_a²`` for order 2; symmetric, eigenvalues at most 0.

        Args:
            size: see :class:`Stencil`; at least ``order + 1`` points an axis.
            spacing: h > 0, the distance of two points, one for all axes or one for each; in the unit of length.
            boundary: see :class:`Stencil`. Beyond order 2 the walls must reflect: beside values that end in zeros more
                taps are no more accurate, and worse than three.
            order: of accuracy, 2, 4 or 6. Next to a wall it needs solutions that are as smooth when they are reflected.
            dtype: of the kernel; None for torch's default.

        Raises:
            ValueError: for another order, or one beyond 2 with the boundary ``"zero"``.
        """
        size = _grid(size)
        _check_order(order, boundary)
        kernel = torch.zeros([order + 1] * len(size), dtype=torch.float64)
        for axis, h in enumerate(_spacings(spacing, len(size))):
            kernel += _along(central_weights(2, order) / h**2, axis, len(size), at=order // 2)
        return cls(kernel, size=size, boundary=boundary).to(dtype or torch.get_default_dtype())

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

        So it is with the boundary ``"neumann"``, whose last difference along each axis is 0. Arguments are those of
        :meth:`laplacian`; the result has d components, ``[..., d, N₁, …, N_d]``.
        """
        size = _grid(size)
        kernels = torch.zeros([len(size), *[2] * len(size)], dtype=torch.float64)
        for axis, h in enumerate(_spacings(spacing, len(size))):
            kernels[axis] = _along(torch.tensor([-1.0, 1.0], dtype=torch.float64) / h, axis, len(size), at=0)
        stencil = cls(kernels, size=size, boundary=boundary, origin=[0] * len(size))
        return stencil.to(dtype or torch.get_default_dtype())

    @classmethod
    def central_difference(
        cls,
        size: Sequence[int],
        *,
        axis: int = 0,
        spacing: float = 1.0,
        boundary: Boundary = "periodic",
        order: int = 2,
        dtype: torch.dtype | None = None,
    ) -> Stencil:
        """The derivative along one axis, ``(u_{i+e_a} − u_{i−e_a})/2h`` for order 2.

        It is skew-symmetric on a periodic grid and beside zeros; next to walls that reflect it is not, but for order 2
        with ``"dirichlet"``, which is the same as ``"zero"``.

        Args:
            size: as in :meth:`laplacian`; three points or more along the axis a, ``order + 1``.
            axis: a, counted from 0 among the axes of the grid.
            spacing: h > 0 along that axis.
            boundary: as there.
            order: as there.
            dtype: as there.
        """
        size = _grid(size)
        check_whole("axis", axis, least=0, below=len(size))
        check_real("spacing", spacing, above=0)
        _check_order(order, boundary)
        shape = [1] * len(size)
        shape[axis] = order + 1
        kernel = central_weights(1, order) / spacing
        return cls(kernel.view(shape), size=size, boundary=boundary).to(dtype or torch.get_default_dtype())

    def forward(self, x: Tensor) -> Tensor:
        """The differences of ``[..., N₁, …, N_d]``, or of ``[..., in, N₁, …, N_d]``."""
        inputs, outputs = self._components
        self._check(x, inputs)
        batch = x.shape[: x.dim() - len(self.size) - len(inputs)]
        kernels = self._kernels()
        flat = x.reshape(math.prod(batch), kernels.size(1), *self.size)
        image = self._convolve(extend(flat, self._reach, self.boundary), kernels)
        return image.reshape(*batch, *outputs, *self.size)

    def adjoint(self, y: Tensor) -> Tensor:
        """That of the differences, to the shape of an input: the kernel read backwards, and the ends put back."""
        inputs, outputs = self._components
        self._check(y, outputs)
        batch = y.shape[: y.dim() - len(self.size) - len(outputs)]
        kernels = self._kernels()
        d = len(self.size)
        backwards = kernels.flip(list(range(-d, 0))).transpose(0, 1)
        flat = y.reshape(math.prod(batch), kernels.size(0), *self.size)
        if self.boundary in REFLECTING:  # of every place that is read, those beyond the ends too, and then back
            whole = [(k - 1, k - 1) for k in kernels.shape[2:]]
            image = fold(self._convolve(extend(flat, whole, "zero"), backwards), self._reach, self.boundary)
        else:
            opposite = [(after, before) for before, after in self._reach]
            image = self._convolve(extend(flat, opposite, self.boundary), backwards)
        return image.reshape(*batch, *inputs, *self.size)

    def norm_bound(self, norm: str | Norm = "l2") -> Tensor:
        """Exact in ℓ1 and ℓ∞, and in ℓ2 up to rounding where the class's text says so."""
        kind = self.family(norm)
        if kind == "l2":
            return self._spectral_bound()
        require_finite(self.kernel)
        kernels = self._kernels().abs()
        rows = kernels.flatten(1).sum(1).max()
        # A point of the grid meets all of the kernel, since that is no larger than the grid.
        columns = kernels.transpose(0, 1).flatten(1).sum(1).max()
        if kind == "linf":
            return rows
        return torch.maximum(columns, self._column_sums()) if self.boundary in REFLECTING else columns

    def lower_bound(self) -> Tensor:
        """Exact up to rounding where the class's text says so, else 0."""
        kernels = self._kernels()
        known = {
            "periodic": True,
            "zero": self._three_even(),
            "dirichlet": self._parities(only_even=True),
            "neumann": self._parities(),
        }[self.boundary]
        if not known or kernels.size(0) < kernels.size(1):
            return kernels.new_zeros(())
        values = self._singular_values()
        return (values[..., -1].min() - self._slack() * values[..., 0].max()).clamp(min=0.0)

    def symbol(self) -> Tensor:
        """``K(ω)`` at the frequencies of a periodic grid, complex, ``[N₁, …, N_d]`` after the kernel's first axes.

        The frequency with index j is ``2πj/N``, as in ``torch.fft.fftn``: ``fftn(Au) = K · fftn(u)``.
        """
        inputs, outputs = self._components
        symbol = _waves(self._kernels(), [angles(n, "periodic") for n in self.size], self.origin)
        return symbol.reshape(*outputs, *inputs, *self.size)

    def eigenvalue_range(self) -> tuple[Tensor, Tensor]:
        """A lower bound of the least and an upper one of the largest eigenvalue of an operator that is symmetric.

        Both are exact up to rounding. It is known to be symmetric where there is one kernel, even along each axis, and
        its waves fit: with the boundaries ``"periodic"``, ``"dirichlet"`` and ``"neumann"``, and beside zeros with
        three taps an axis.

        Raises:
            ValueError: for another kernel.
        """
        kernels, boundary = self._kernels(), self.boundary
        if (
            kernels.shape[:2] != (1, 1)
            or not self._parities(only_even=True)
            or (boundary == "zero" and not self._three_even())
        ):
            raise ValueError(
                f"only a stencil of one kernel that is even along each axis is known to be symmetric, beside zeros one "
                f"with three taps, got {self}"
            )
        require_decomposable(kernels)
        turns = [angles(n, "dirichlet" if boundary == "zero" else boundary) for n in self.size]
        values = _waves(kernels, turns, self.origin).real
        slack = self._slack() * values.abs().max()
        return values.min() - slack, values.max() + slack

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of an input without batch axes."""
        return (*self._components[0], *self.size)

    def extra_repr(self) -> str:
        """Show the grid and the kernel's shape."""
        return f"kernel={list(self.kernel.shape)}, size={list(self.size)}, boundary={self.boundary!r}"

    @property
    def _components(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes of components of an input and of an output."""
        first = tuple(self.kernel.shape[: -len(self.size)])
        return first[1:], first[:1]

    @property
    def _reach(self) -> list[tuple[int, int]]:
        """How many points the kernel reads in front of a point and behind it, along each axis."""
        taps = self.kernel.shape[-len(self.size) :]
        return [(o, k - 1 - o) for o, k in zip(self.origin, taps, strict=True)]

    def _rounded(self, exact: Tensor, dtype: torch.dtype) -> Tensor:
        return rounded_taps(exact, dtype, self.origin)

    def _kernels(self) -> Tensor:
        """``[out, in, k₁, …, k_d]``."""
        kernel, d = self.kernel, len(self.size)
        inputs, outputs = self._components
        return kernel.reshape(math.prod(outputs), math.prod(inputs), *kernel.shape[-d:])

    def _check(self, x: Tensor, components: tuple[int, ...]) -> None:
        wanted = (*components, *self.size)
        if x.dim() < len(wanted) or tuple(x.shape[x.dim() - len(wanted) :]) != wanted:
            raise ValueError(f"expected a tensor of shape [..., {', '.join(map(str, wanted))}], got {list(x.shape)}")

    def _convolve(self, x: Tensor, kernels: Tensor) -> Tensor:
        """``[batch, in, …]``, which is longer than the result by the kernel less one, to ``[batch, out, …]``.

        A sum of shifts. A convolution in single precision is rounded to ten bits on some devices (TF32), and of a
        difference little would be left.
        """
        taps = kernels.shape[2:]
        lengths = [n - k + 1 for n, k in zip(x.shape[2:], taps, strict=True)]
        ones = [1] * len(taps)
        image: Tensor | None = None
        for place in itertools.product(*map(range, taps)):
            window = x
            for axis, (t, n) in enumerate(zip(place, lengths, strict=True), start=2):
                window = window.narrow(axis, t, n)
            for i in range(kernels.size(1)):
                tap = kernels.select(1, i)
                for t in place:
                    tap = tap.select(1, t)
                term = tap.view(-1, *ones) * window.narrow(1, i, 1)
                image = term if image is None else image + term
        assert image is not None  # no kernel is empty
        return image

    def _parities(self, *, only_even: bool = False) -> bool:
        """Whether the kernel of each output is even or odd about o along each axis, the same for all its inputs."""
        kernels = self._kernels().detach()
        for axis, (before, after) in enumerate(self._reach, start=2):
            if before != after:
                return False
            flipped = kernels.flip(axis)
            for own, other in zip(kernels, flipped, strict=True):
                if not (torch.equal(own, other) or (torch.equal(own, -other) and not only_even)):
                    return False
        return True

    def _three_even(self) -> bool:
        """Whether there is one kernel, with one tap or three even ones on each axis."""
        kernels = self._kernels()
        single = kernels.shape[:2] == (1, 1) and all(k in (1, 3) for k in kernels.shape[2:])
        return single and self._parities(only_even=True)

    def _singular_values(self) -> Tensor:
        """Those of the symbol at all frequencies that the bounds need, largest first, ``[frequencies, …]``."""
        kernels = self._kernels()
        require_decomposable(kernels)
        boundary = self.boundary
        if boundary == "periodic":
            turns = [angles(n, "periodic") for n in self.size]
        elif self._three_even() if boundary == "zero" else self._parities():
            turns = [angles(n, "dirichlet" if boundary == "zero" else boundary) for n in self.size]
        else:
            lengths = [ring(n, k, boundary) for n, k in zip(self.size, kernels.shape[2:], strict=True)]
            turns = [angles(n, "periodic") for n in lengths]
        symbol = _waves(kernels, turns, self.origin).flatten(2)
        if 1 in symbol.shape[:2]:
            size: Tensor = torch.linalg.vector_norm(symbol, dim=(0, 1))
            return size.unsqueeze(-1)
        values: Tensor = torch.linalg.svdvals(symbol.permute(2, 0, 1))
        return values

    def _spectral_bound(self) -> Tensor:
        largest = self._singular_values()[..., 0].max() * (1.0 + self._slack())
        if self.boundary not in REFLECTING or self._parities():
            return largest
        between = (self.norm_bound("l1") * self.norm_bound("linf")).sqrt()
        axes = sum(before + after > 0 for before, after in self._reach)
        return torch.minimum(2.0 ** (axes / 2) * largest, between) * (1.0 + self._slack())

    def _column_sums(self) -> Tensor:
        """The largest sum of absolute values in a column, next to walls that reflect.

        No column is farther than k from a wall, or it is one whose sum is that of ``|K|``: a grid of ``2k + 1`` points
        has them all.
        """
        kernels = self._kernels()
        letters = iter("abcdefghi")
        factors: list[Tensor] = []
        taps, rows, columns, terms = "", "", "", []
        for n, k, o in zip(self.size, kernels.shape[2:], self.origin, strict=True):
            tap, row, column = next(letters), next(letters), next(letters)
            matrices = wall_matrices(min(n, 2 * k + 1), k, o, self.boundary)
            factors.append(matrices.to(device=kernels.device, dtype=kernels.dtype))
            taps, rows, columns = taps + tap, rows + row, columns + column
            terms.append(tap + row + column)
        entries = torch.einsum(f"yz{taps},{','.join(terms)}->yz{rows}{columns}", kernels, *factors)
        d = len(self.size)
        return entries.abs().sum(dim=(0, *range(2, 2 + d))).max()

    def _slack(self) -> float:
        """The transform errs by a few eps Σ|K|, which is at most ``(m · taps)^½`` times the largest symbol."""
        return rounding(4 * self.kernel.numel() + 16, self.kernel.dtype)


def _waves(kernels: Tensor, turns: list[Tensor], origin: Sequence[int]) -> Tensor:
    """``Σ_t K_t e^{i⟨ω, t−o⟩}`` for ω in the product of angles, ``[out, in, k₁, …]`` to ``[out, in, S₁, …]``."""
    dtype = torch.complex128 if kernels.dtype == torch.float64 else torch.complex64
    symbol = kernels.to(dtype)
    for axis, (omega, o) in enumerate(zip(turns, origin, strict=True), start=2):
        phase = torch.outer(omega, torch.arange(kernels.size(axis), dtype=torch.float64) - o)
        waves = torch.polar(torch.ones_like(phase), phase).to(device=kernels.device, dtype=dtype)
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


def _check_order(order: int, boundary: Boundary) -> None:
    check_order(order)
    if order > 2 and boundary == "zero":
        raise ValueError(
            f"order {order} needs values beyond the wall, and with the boundary 'zero' they jump: take 'dirichlet', "
            "which reflects them, or order 2"
        )
