r"""Linear operators with their adjoint and a certified upper bound of their norm.

The bounds are upper bounds, not estimates: power iteration and Lanczos' method (:func:`contractive_gnn.norms.
estimate_norm`) approach a norm from below, and a step size or a rescaled weight that trusts them leaves its condition.
Where a bound is computed by a singular value decomposition it is enlarged by :func:`rounding`. Every bound is
differentiable with respect to the tensors that it is made of.

* :class:`Dense`: ℓ2 by the singular values, ℓ1 and ℓ∞ exact;
* :class:`Conv2d`: ℓ2 by the singular values of the symbol, attained for circular padding; ℓ1 and ℓ∞ exact;
* :class:`GraphGradient`: ℓ2 by the degrees, attained on complete bipartite graphs; ℓ1 and ℓ∞ exact;
* :class:`Composition`: products.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from contractive_gnn.graph import Graph
from contractive_gnn.norms import family

Padding = Literal["zeros", "circular"]

SAMPLES = 16  # frequencies for each degree of a symbol: the factor is 1/cos(π/16) = 1.0196 for one axis


def rounding(size: int, dtype: torch.dtype) -> float:
    """Relative slack ``4 n eps`` for a singular value of a matrix with at most n rows and columns.

    LAPACK's singular values err by a modest multiple of ``eps ‖A‖₂`` (its users' guide, section 4.9).
    """
    return 4 * size * torch.finfo(dtype).eps


class Operator:
    """A linear map A between spaces of tensors."""

    def forward(self, x: Tensor) -> Tensor:
        """``Ax``."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def adjoint(self, y: Tensor) -> Tensor:
        """``Aᵀy``, with ``⟨Ax, y⟩ = ⟨x, Aᵀy⟩``."""
        raise NotImplementedError(f"{type(self).__name__} must define adjoint")

    def norm_bound(self, norm: str = "l2") -> Tensor:
        """An upper bound of ``max ‖Ax‖/‖x‖``, a scalar tensor.

        Args:
            norm: ``"l1"``, ``"l2"`` or ``"linf"``, over all entries of x and of Ax.

        Raises:
            ValueError: for an unknown norm.
        """
        raise NotImplementedError(f"{type(self).__name__} must define norm_bound")

    def __call__(self, x: Tensor) -> Tensor:
        """``Ax``."""
        return self.forward(x)


class Dense(Operator):
    """``x ↦ xWᵀ`` on the last dimension, as ``torch.nn.Linear`` without its bias; other dimensions are a batch.

    Args:
        weight: W, ``[out, in]``.

    Shapes:
        ``[..., in]`` to ``[..., out]``.

    Raises:
        ValueError: if W is no matrix.
    """

    def __init__(self, weight: Tensor) -> None:
        if weight.dim() != 2:
            raise ValueError(f"weight must have shape [out, in], got {list(weight.shape)}")
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        """``xWᵀ``."""
        return x @ self.weight.t()

    def adjoint(self, y: Tensor) -> Tensor:
        """``yW``."""
        return y @ self.weight

    def norm_bound(self, norm: str = "l2") -> Tensor:
        """ℓ2: ``‖W‖₂ (1 + rounding)``; ℓ1 and ℓ∞ exact, the largest column and row sum.

        In ℓ1 and ℓ∞ the batch is one vector too: the bound is the same.
        """
        kind = family(norm)
        if self.weight.numel() == 0:
            return self.weight.sum()
        if kind == "l2":
            return _largest_singular_value(self.weight)
        return self.weight.abs().sum(dim=0 if kind == "l1" else 1).max()


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
        weight: ``[out, in/groups, kh, kw]``.
        size: height and width of the input; None bounds the norm over all sizes, and leaves no adjoint and no test of
            shapes.
        stride: s, or one for each axis.
        padding: entries added at either side, or one for each axis.
        dilation: spacing of the kernel, or one for each axis.
        groups: number of blocks of channels.
        padding_mode: ``"zeros"`` or ``"circular"``; the latter needs ``2 padding ≤ dilation (k − 1)``, or it would
            repeat rows of the operator.

    Shapes:
        ``[batch, in, H, W]`` to ``[batch, out, H', W']``.

    Raises:
        ValueError: for shapes or numbers that do not fit, or another padding mode.
    """

    def __init__(
        self,
        weight: Tensor,
        *,
        size: tuple[int, int] | None = None,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        padding_mode: Padding = "zeros",
    ) -> None:
        if weight.dim() != 4:
            raise ValueError(f"weight must have shape [out, in/groups, kh, kw], got {list(weight.shape)}")
        for name, values, least in (("stride", stride, 1), ("dilation", dilation, 1), ("padding", padding, 0)):
            if min(_pair(values)) < least:
                raise ValueError(f"{name} must be at least {least}, got {values!r}")
        if groups < 1 or weight.size(0) % groups:
            raise ValueError(f"groups must divide the {weight.size(0)} output channels, got {groups!r}")
        if padding_mode not in ("zeros", "circular"):
            raise ValueError(
                f"padding_mode must be 'zeros' or 'circular', got {padding_mode!r}; the others repeat or reflect "
                "entries, and no bound is known here"
            )
        self.weight = weight
        self.size = size
        self.stride, self.padding, self.dilation = _pair(stride), _pair(padding), _pair(dilation)
        self.groups = groups
        self.padding_mode = padding_mode
        self._reach = tuple(d * (k - 1) for d, k in zip(self.dilation, weight.shape[2:], strict=True))
        for axis in range(2):
            if padding_mode == "circular" and 2 * self.padding[axis] > self._reach[axis]:
                raise ValueError(
                    f"circular padding needs 2·padding ≤ dilation·(k − 1) = {self._reach[axis]}, got padding "
                    f"{self.padding[axis]}: more would repeat rows of the operator"
                )
            if size is not None and size[axis] + 2 * self.padding[axis] <= self._reach[axis]:
                raise ValueError(f"the kernel reaches beyond an input of size {size} with padding {self.padding}")
            if size is not None and padding_mode == "circular" and self.padding[axis] > size[axis]:
                raise ValueError(f"circular padding must be at most the input's size {size}, got {self.padding}")

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of ``[batch, in, H, W]``."""
        if self.size is not None and tuple(x.shape[2:]) != tuple(self.size):
            raise ValueError(f"the operator is for inputs of size {self.size}, got {tuple(x.shape[2:])}")
        return self._apply(self.weight, x)

    def adjoint(self, y: Tensor) -> Tensor:
        """``[batch, out, H', W']`` to ``[batch, in, H, W]``."""
        return self._apply_adjoint(self.weight, y)

    def norm_bound(self, norm: str = "l2") -> Tensor:
        """As in the class's text; in ℓ1 and ℓ∞ exact for a given size, else for inputs larger than the kernel.

        A circular convolution whose kernel wraps onto itself gets an upper bound in ℓ1 and ℓ∞ too.
        """
        kind = family(norm)
        if kind == "l2":
            return self._spectral_bound()
        size = self.weight.abs()
        if self.size is not None:
            ones = self.weight.new_ones(1, self.weight.size(1) * self.groups, *self.size)
            image = self._apply(size, ones)
            return (image if kind == "linf" else self._apply_adjoint(size, torch.ones_like(image))).max()
        if kind == "linf":
            return size.flatten(1).sum(1).max()
        # Column sums: one for every input channel and every phase of the stride.
        stride = self._aligned_stride()
        return self._phases(self._dilated(size, stride), stride).sum(dim=(1, 3, 4)).max()

    def _aligned_stride(self) -> tuple[int, int]:
        """The stride whose phases the kernel couples at any place: 1 where rows wrap around and s need not divide."""
        first, second = self.stride
        if self.padding_mode == "zeros":
            return first, second
        if self.size is None:  # without padding nothing wraps
            return (first if self.padding[0] == 0 else 1), (second if self.padding[1] == 0 else 1)
        divides = all(length % step == 0 for length, step in zip(self.size, self.stride, strict=True))
        return (first, second) if divides else (1, 1)

    def _spectral_bound(self) -> Tensor:
        stride = self._aligned_stride()
        weight = self._phases(self._dilated(self.weight, stride), stride)
        samples, factor = [], 1.0
        for axis, step in enumerate(stride):
            k = weight.size(3 + axis)
            if self.size is None:
                degree = k // 2
                samples.append(max(SAMPLES * degree, 1))
                factor /= math.cos(math.pi * degree / samples[-1]) if degree else 1.0
            elif self.padding_mode == "circular":
                samples.append(self.size[axis] // step)
            else:
                first = -((step - 1 - self.padding[axis]) // step)
                last = (self.size[axis] - 1 + self.padding[axis]) // step
                samples.append(last - first + k)
        return factor * _symbol_norm(weight, (samples[0], samples[1]))

    def _dilated(self, weight: Tensor, stride: tuple[int, int]) -> Tensor:
        if self.dilation == (1, 1):
            return weight
        # Without a size and with stride 1, K(dω) takes the values of K(ω).
        if self.size is None and stride == (1, 1):
            return weight
        spread = weight.new_zeros(*weight.shape[:2], self._reach[0] + 1, self._reach[1] + 1)
        spread[:, :, :: self.dilation[0], :: self.dilation[1]] = weight
        return spread

    def _phases(self, weight: Tensor, stride: tuple[int, int]) -> Tensor:
        """The kernel between phases, ``[groups, out/groups, in/groups · s², ⌈kh/s⌉, ⌈kw/s⌉]``."""
        (s, t), (k, m) = stride, weight.shape[2:]
        weight = torch.nn.functional.pad(weight, (0, -m % t, 0, -k % s))
        out, channels, k, m = weight.shape
        weight = weight.reshape(out, channels, k // s, s, m // t, t).permute(0, 1, 3, 5, 2, 4)
        return weight.reshape(self.groups, out // self.groups, channels * s * t, k // s, m // t)

    def _apply(self, weight: Tensor, x: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode == "circular":
            (p, q), padding = padding, (0, 0)
            x = torch.nn.functional.pad(x, (q, q, p, p), mode="circular")
        return torch.nn.functional.conv2d(x, weight, None, self.stride, padding, self.dilation, self.groups)

    def _apply_adjoint(self, weight: Tensor, y: Tensor) -> Tensor:
        if self.size is None:
            raise ValueError("the adjoint needs the size of the input: give size=(height, width)")
        circular = self.padding_mode == "circular"
        padded = tuple(n + 2 * p if circular else n for n, p in zip(self.size, self.padding, strict=True))
        padding = (0, 0) if circular else self.padding
        extra = tuple(
            n - ((m - 1) * s - 2 * p + reach + 1)
            for n, m, s, p, reach in zip(padded, y.shape[2:], self.stride, padding, self._reach, strict=True)
        )
        # Rows that no kernel covers get zeros; conv_transpose2d takes fewer of them than the stride.
        x = torch.nn.functional.conv_transpose2d(
            y, weight, None, self.stride, padding, extra, self.groups, self.dilation
        )
        if not circular:
            return x
        for axis, (n, p) in enumerate(zip(self.size, self.padding, strict=True), start=2):
            index = torch.arange(p, device=x.device)
            before, core, after = x.narrow(axis, 0, p), x.narrow(axis, p, n), x.narrow(axis, p + n, p)
            x = core.index_add(axis, index + n - p, before).index_add(axis, index, after)
        return x


class GraphGradient(Operator):
    r"""The gradient on the edges of a graph, ``(GF)_e = w_e (s_i F_i − s_j F_j)``, one row for each undirected edge.

    An edge e = {i, j} counts where it is listed from the smaller node j to the larger node i; self-loops do not count.
    The weight ``w_e`` is ``√a_e`` (outside) or ``a_e`` (inside), so ``GᵀG`` is the Laplacian with weights ``a`` or
    ``a²`` of :class:`contractive_gnn.dynamics.GradientFlow`, whose field without fidelity is, in the notation of that
    class, ``−Gᵀσ(GFW)Wᵀ`` for the weights inside. The degrees ``d`` are those of these Laplacians; with
    ``d⁺ = d + epsilon``:

    ============ ================ ==================================== ==========================================
    name         s_i              adjoint                              bound of ``‖G‖²``
    ============ ================ ==================================== ==========================================
    ``none``     1                ``Gᵀ``                               ``max (d_i + d_j)`` over the edges
    ``sym``      ``1/√d⁺_i``      ``Gᵀ``                               ``2 max d_i/d⁺_i < 2``
    ``degree``   1                ``D⁺⁻¹Gᵀ``                           ``2 max d_i/d⁺_i < 2``
    ============ ================ ==================================== ==========================================

    With ``degree`` the adjoint and the ℓ2 norm are those of the inner product ``Σ_i d⁺_i ⟨F_i, F'_i⟩`` on the nodes
    (and the plain one on the edges). The bound for ``none`` is Anderson and Morley's (1985), at most twice the largest
    degree; the others follow from ``L ≤ 2D``. All are attained on complete bipartite graphs with sides of equal size,
    and hold up to the rounding of the sums.

    Args:
        graph: n nodes, with weights ``a ≥ 0`` (of any sign inside).
        normalization: as in the table.
        placement: ``"outside"`` or ``"inside"``.
        epsilon: ε > 0, added to every degree.

    Shapes:
        ``[n]`` or ``[n, c]`` to ``[m]`` or ``[m, c]`` with m undirected edges; there is no batch axis.

    Raises:
        ValueError: for an unknown name, ``epsilon ≤ 0``, or negative weights outside; (applied) for another shape.
    """

    def __init__(
        self,
        graph: Graph,
        normalization: Literal["none", "sym", "degree"] = "none",
        *,
        placement: Literal["inside", "outside"] = "outside",
        epsilon: float = 1.0,
    ) -> None:
        if normalization not in ("none", "sym", "degree"):
            raise ValueError(f"normalization must be 'none', 'sym' or 'degree', got {normalization!r}")
        if placement not in ("inside", "outside"):
            raise ValueError(f"placement must be 'inside' or 'outside', got {placement!r}")
        if epsilon <= 0:
            raise ValueError(f"epsilon must be positive, got {epsilon!r}")
        once = graph.source < graph.target
        weight = graph.edge_weight[once]
        if placement == "outside" and bool((weight < 0).any()):
            raise ValueError(f"weights outside σ must not be negative, got a smallest one of {float(weight.min()):g}")
        self.graph = graph
        self.normalization = normalization
        self.source, self.target = graph.source[once], graph.target[once]
        # The root has an infinite slope at 0, and 0 · ∞ would spoil every gradient: an absent edge gets none.
        absent = weight == 0
        root = weight.masked_fill(absent, 1.0).sqrt().masked_fill(absent, 0.0)
        self.weight = weight if placement == "inside" else root
        self.degree = graph.row_sum(graph.edge_weight.square() if placement == "inside" else graph.edge_weight)
        self.node_weight = self.degree + epsilon

    def forward(self, x: Tensor) -> Tensor:
        """``[n, c]`` to ``[m, c]``."""
        _check_rows(x, self.graph.num_nodes, "node")
        z = self._scaled(x)
        return _rows(self.weight, x) * (z[self.target] - z[self.source])

    def adjoint(self, y: Tensor) -> Tensor:
        """``[m, c]`` to ``[n, c]``; with ``degree``, for the inner product that weights node i by ``d⁺_i``."""
        _check_rows(y, self.weight.numel(), "edge")
        force = _rows(self.weight, y) * y
        pull = y.new_zeros(self.graph.num_nodes, *y.shape[1:])
        pull = self._scaled(pull.index_add(0, self.target, force).index_add(0, self.source, -force))
        return pull / _rows(self.node_weight, y) if self.normalization == "degree" else pull

    def norm_bound(self, norm: str = "l2") -> Tensor:
        """ℓ2: as in the class's table; ℓ1 and ℓ∞: the largest column and row sum, exact, the nodes not weighted."""
        kind = family(norm)
        if self.weight.numel() == 0:
            return self.degree.new_zeros(())
        scale = self.node_weight.rsqrt() if self.normalization == "sym" else torch.ones_like(self.degree)
        size = self.weight.abs()
        if kind == "linf":
            return (size * (scale[self.target] + scale[self.source])).max()
        if kind == "l1":
            columns = torch.zeros_like(scale).index_add(0, self.target, size).index_add(0, self.source, size)
            return (scale * columns).max()
        if self.normalization != "none":
            return _root(2.0 * (self.degree / self.node_weight).max())
        ends = self.degree[self.target] + self.degree[self.source]
        return _root(ends.masked_fill(self.weight == 0, 0.0).max())

    def _scaled(self, x: Tensor) -> Tensor:
        return x * _rows(self.node_weight.rsqrt(), x) if self.normalization == "sym" else x


class Composition(Operator):
    """``A₁A₂…A_k``, the last one applied first; its bound is the product of theirs, in every norm.

    The adjoint is the product of the adjoints, for the inner products that they stand for: next to a
    :class:`GraphGradient` with ``degree``, operators on the nodes should act on channels alone.

    Args:
        operators: at least one.

    Raises:
        ValueError: if there is none.
    """

    def __init__(self, *operators: Operator) -> None:
        if not operators:
            raise ValueError("expected at least one operator, got none")
        self.operators = operators

    def forward(self, x: Tensor) -> Tensor:
        """``A₁(A₂(…x))``."""
        for operator in reversed(self.operators):
            x = operator.forward(x)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """``…A₂ᵀ(A₁ᵀy)``."""
        for operator in self.operators:
            y = operator.adjoint(y)
        return y

    def norm_bound(self, norm: str = "l2") -> Tensor:
        """The product of the operators' bounds: attained where their singular vectors fit together."""
        bound = self.operators[0].norm_bound(norm)
        for operator in self.operators[1:]:
            bound = bound * operator.norm_bound(norm)
        return bound


def _largest_singular_value(matrix: Tensor, *, extra: int = 0) -> Tensor:
    _require_decomposable(matrix)
    largest: Tensor = torch.linalg.matrix_norm(matrix, 2)
    return largest * (1.0 + rounding(max(matrix.shape[-2:]) + extra, matrix.real.dtype))


def _require_decomposable(matrix: Tensor) -> None:
    if matrix.dtype in (torch.float16, torch.bfloat16):
        raise TypeError(
            f"singular values take float32 or float64, got {matrix.dtype}: its rounding leaves no useful bound; "
            "keep the constrained layer in float32"
        )
    if not bool(torch.isfinite(matrix.detach()).all()):
        raise ValueError("the weight has entries that are not finite, or overflow: nothing bounds its norm")


def _symbol_norm(weight: Tensor, samples: tuple[int, int]) -> Tensor:
    """The largest ``‖K(ω)‖₂`` over a grid of frequencies, for a kernel ``[groups, out, in, kh, kw]``."""
    if weight.numel() == 0:
        return weight.sum()
    k, m = weight.shape[-2:]
    # Real kernels: K(−ω) is the conjugate of K(ω), so half of the frequencies will do.
    rows = _waves(samples[0], samples[0], k, weight)
    columns = _waves(samples[1], samples[1] // 2 + 1, m, weight)
    _require_decomposable(weight)
    symbol = torch.einsum("goikl,ak,bl->gaboi", weight.to(rows.dtype), rows, columns).flatten(0, 2)
    _require_decomposable(symbol)
    with torch.no_grad():
        largest = int(torch.linalg.svdvals(symbol)[:, 0].argmax())
    # The gradient of a maximum is that of the one that attains it. The transform errs by at most eps Σ|K|, which is
    # eps (kh kw min(out, in))^½ times the largest singular value: within the slack.
    return _largest_singular_value(symbol[largest], extra=k * m)


def _waves(samples: int, count: int, length: int, like: Tensor) -> Tensor:
    """``exp(2πi jt/S)`` for ``j < count``, ``t < length``; exact arguments, so that nothing drifts with t."""
    turns = torch.outer(torch.arange(count), torch.arange(length)) % samples
    angle = turns.to(torch.float64) * (2 * math.pi / samples)
    real = torch.polar(torch.ones_like(angle), angle)
    return real.to(device=like.device, dtype=torch.complex128 if like.dtype == torch.float64 else torch.complex64)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _rows(values: Tensor, like: Tensor) -> Tensor:
    """``[n]`` in a shape that broadcasts to ``[n, ...]``."""
    return values.view(-1, *[1] * (like.dim() - 1))


def _check_rows(x: Tensor, count: int, what: str) -> None:
    if x.dim() not in (1, 2) or x.size(0) != count:
        raise ValueError(
            f"the gradient on a graph takes one row for each {what}, [{count}] or [{count}, c], got {list(x.shape)}; "
            "it has no batch axis: apply it to one graph signal at a time"
        )


def _root(square: Tensor) -> Tensor:
    """``√square``, rounded up; its gradient is finite at 0."""
    tiny = torch.finfo(square.dtype).tiny
    return square.clamp(min=tiny).sqrt() * (1.0 + 2 * torch.finfo(square.dtype).eps)
