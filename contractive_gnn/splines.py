r"""Learned monotone activations that are linear between knots."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from contractive_gnn.activations import Activation, Huber
from contractive_gnn.checks import check_flag, check_real, check_whole
from contractive_gnn.compiled import splines as compiled
from contractive_gnn.graph import transformed

LEAST = 1e-3  # a slope starts this far inside of [0, 1] at least: its own derivative vanishes at the ends


class LinearSpline(Activation):
    r"""A learned monotone σ that is linear between equally spaced knots, with slopes in [0, 1] and ``σ(0) = 0``.

    With K pieces of width ``Δ = 2r/K`` between the knots ``t_0 = −r, …, t_K = r``, and slope ``p_j`` on piece j,

    .. math:: σ(u) = σ(t_j) + p_j (u - t_j) \quad (t_j \le u \le t_{j+1}),
              \qquad σ(t_{j+1}) = σ(t_j) + p_j Δ, \qquad σ(0) = 0.

    Beyond the knots it goes on with the slope of the outermost piece. What is learned are the slopes, as
    ``p_j = 1/(1 + exp(−4 θ_j))`` with any real ``θ_j``: no step of an optimiser leaves [0, 1], and a middling slope
    moves as much as θ. Hence σ is the gradient of a convex potential and 1-Lipschitz, whatever was learned. Linear
    splines with bounded slopes are the optimal activations of a Lipschitz network under a penalty on their second-order
    total variation (Unser 2019; Bohra et al. 2020; Goujon et al. 2023 for regularisers of images).

    With a ``scale`` τ > 0 it is ``σ_τ(u) = τ σ(u/τ)``, which has the same slopes: the knots then lie between −rτ and
    rτ. Give τ to follow a noise level.

    On the CPU, in single and double precision, a loop compiled by numba evaluates it and its gradient in one pass each;
    elsewhere tensor operations do (:func:`contractive_gnn.compiled.kernels.disabled` asks for them).

    Args:
        channels: number of channels, each of which learns a σ of its own; None for one σ.
        num_pieces: K ≥ 2, even, so that 0 is a knot.
        reach: r > 0, in the units of u (of ``u/τ`` where there is a scale).
        channel_axis: −3 for images ``[..., c, H, W]``, −1 for vectors ``[..., c]``.
        odd: learn one side, and let ``σ(−u) = −σ(u)``.
        start: the activation whose slopes between the knots are the first ones, moved into [0.001, 0.999]; by default
            the clip at ``r/4``. Its slopes must lie in [0, 1] and ``σ(0) = 0``.

    Attributes:
        theta: ``[channels, K]``, one row where all channels share σ, and K/2 columns (``u ≥ 0``, outwards) where σ is
            odd.

    Shapes:
        any, with ``channels`` entries along the channel axis where they are given; the result has that shape.

    Raises:
        ValueError: for arguments out of range; (called) for another number of channels, a scale that is not positive,
            or one that does not broadcast to u.
        TypeError: for arguments of another type; (called) for a u that is not real and floating.

    Example:
        >>> import torch
        >>> sigma = LinearSpline(8, reach=0.5)
        >>> u = torch.randn(2, 8, 16, 16)
        >>> sigma(u).shape, sigma.slopes
        (torch.Size([2, 8, 16, 16]), (0.0, 1.0))
        >>> noise_level = torch.tensor([0.1, 0.2]).view(2, 1, 1, 1)
        >>> sigma(u, scale=noise_level).shape
        torch.Size([2, 8, 16, 16])
    """

    slopes = (0.0, 1.0)
    bound = math.inf

    def __init__(
        self,
        channels: int | None = None,
        *,
        num_pieces: int = 16,
        reach: float = 1.0,
        channel_axis: Literal[-3, -1] = -3,
        odd: bool = False,
        start: Activation | None = None,
    ) -> None:
        super().__init__()
        if channels is not None:
            check_whole("channels", channels, least=1)
        check_whole("num_pieces", num_pieces, least=2)
        if num_pieces % 2:
            raise ValueError(f"num_pieces must be even, so that 0 is a knot, got {num_pieces}")
        check_real("reach", reach, above=0)
        if channel_axis not in (-3, -1):
            raise ValueError(f"channel_axis must be -3 (images) or -1 (vectors), got {channel_axis!r}")
        check_flag("odd", odd)
        self.channels = channels
        self.num_pieces = num_pieces
        self.reach = float(reach)
        self.channel_axis = channel_axis
        self.odd = odd
        self._start = _first_slopes(Huber(self.reach / 4) if start is None else start, num_pieces, self.reach, odd)
        self.theta = nn.Parameter(torch.empty(1 if channels is None else channels, len(self._start)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the slopes back to where they started."""
        with torch.no_grad():
            self.theta.copy_(torch.logit(self._start) / 4)

    @property
    def width(self) -> float:
        """Δ, the distance of the knots."""
        return 2 * self.reach / self.num_pieces

    def knots(self) -> Tensor:
        """``t_0, …, t_K``, ``[K + 1]``."""
        half = self.num_pieces // 2
        return torch.arange(-half, half + 1, dtype=self.theta.dtype, device=self.theta.device) * self.width

    def piece_slopes(self) -> Tensor:
        """``p``, ``[channels, K]`` (one row where all channels share σ), in [0, 1]."""
        slopes = torch.sigmoid(4 * self.theta)
        return torch.cat([slopes.flip(1), slopes], dim=1) if self.odd else slopes

    def values(self) -> Tensor:
        """``σ(t_j)`` at the knots, ``[channels, K + 1]``."""
        return self._values(self.piece_slopes())

    def forward(self, u: Tensor, scale: Tensor | float | None = None) -> Tensor:
        """``τ σ(u/τ)``, entry by entry.

        Args:
            u: of any shape, with the channels on their axis.
            scale: τ, a positive number, or a tensor that broadcasts to ``u``, such as ``[n, 1, 1, 1]``; None for 1.

        Returns:
            of the shape and dtype of ``u``; differentiable by u, by the slopes and by τ.
        """
        rows, factor = self._arranged(u, scale)
        slopes = self.piece_slopes()
        table = self._intercepts(slopes), slopes
        if rows.dtype != slopes.dtype:  # half precision has too few digits to find a piece, and the slopes have enough
            wide = torch.promote_types(rows.dtype, slopes.dtype)
            rows, table = rows.to(wide), (table[0].to(wide), table[1].to(wide))
            factor = None if factor is None else factor.to(wide)
        evaluate = compiled.linear_spline if compiled.available(rows, *table, factor) else compiled.plain_linear_spline
        return evaluate(rows, *table, factor, self.width).view(u.shape).to(u.dtype)

    def potential(self, d: Tensor, scale: Tensor | float | None = None) -> Tensor:
        """``τ² φ(d/τ)`` with ``φ(u) = ∫₀ᵘ σ``, exact: it is quadratic between the knots. Convex and at least 0."""
        rows, factor = self._arranged(d, scale)
        slopes = self.piece_slopes()
        intercepts, values = self._intercepts(slopes), self._values(slopes)
        areas = 0.5 * self.width * (values[:, 1:] + values[:, :-1])  # from each knot to the next: trapezia
        integral = _from_middle(areas)
        knots = self.knots()[:-1]
        constant = integral[:, :-1] - knots * (intercepts + 0.5 * slopes * knots)
        place = compiled.piece(rows, self.num_pieces, self.width, factor)
        constant, intercepts, slopes = (compiled.look_up(part, place) for part in (constant, intercepts, slopes))
        if factor is not None:
            constant, intercepts = constant * factor.square(), intercepts * factor
        return (constant + rows * (intercepts + 0.5 * slopes * rows)).view(d.shape).to(d.dtype)

    @torch.no_grad()
    def secants(self, low: float, high: float) -> tuple[float, float]:
        """The range of ``σ(z)/z`` over ``0 ≠ z ∈ [low, high]`` and all channels, exact up to rounding, at the scale 1.

        Between two knots on one side of 0 the quotient is monotone: its ends are at knots and at the ends of the
        interval, and at 0 at the slopes of the pieces beside it.
        """
        slopes = self.piece_slopes().double()
        values, knots, half = self._values(slopes), self.knots().double(), self.num_pieces // 2
        beside = ([slopes[:, half - 1]] if low < 0 else []) + ([slopes[:, half]] if high > 0 else [])
        at = knots[(knots != 0) & (knots >= low) & (knots <= high)]
        found = [(values[:, knots == knot] / knot).flatten() for knot in at]
        for end in (low, high):
            if math.isinf(end):
                found.append(slopes[:, 0 if end < 0 else -1])
            elif end != 0:
                j = min(max(math.floor(end / self.width) + half, 0), self.num_pieces - 1)
                found.append((values[:, j] + slopes[:, j] * (end - knots[j])) / end)
        if low <= 0 <= high:
            found += beside
        together = torch.cat([part.flatten() for part in found]) if found else slopes.flatten()
        return float(together.min()), float(together.max())

    def extra_repr(self) -> str:
        """Show the pieces."""
        shown = "" if self.channels is None else f"{self.channels}, channel_axis={self.channel_axis}, "
        return f"{shown}num_pieces={self.num_pieces}, reach={self.reach:g}, odd={self.odd}"

    def _values(self, slopes: Tensor) -> Tensor:
        return _from_middle(slopes * self.width)

    def _intercepts(self, slopes: Tensor) -> Tensor:
        """``σ(t_j) − p_j t_j``: where piece j, drawn on, meets the axis u = 0."""
        return self._values(slopes)[:, :-1] - slopes * self.knots()[:-1].to(slopes)

    def _arranged(self, u: Tensor, scale: Tensor | float | None) -> tuple[Tensor, Tensor | None]:
        """U as ``[rows, channels, entries]``, and τ as ``[rows, channels or 1, entries or 1]``."""
        if not (isinstance(u, Tensor) and u.is_floating_point()):
            found = u.dtype if isinstance(u, Tensor) else type(u).__name__
            raise TypeError(f"expected a tensor of real floating numbers, got {found}")
        channels, axis = self.channels, self.channel_axis
        if channels is not None and (u.dim() < -axis or u.size(axis) != channels):
            raise ValueError(
                f"expected {channels} channels on axis {axis}, got a tensor of shape {list(u.shape)}; "
                "channel_axis is -3 for images and -1 for vectors"
            )
        if scale is not None and not isinstance(scale, Tensor):
            check_real("scale", scale, above=0)
            scale = torch.as_tensor(float(scale), dtype=u.dtype, device=u.device)
        if scale is None:
            entries = 1 if axis == -1 else math.prod(u.shape[-2:])
            shape = (1, 1, u.numel()) if channels is None else (-1 if u.numel() else 0, channels, entries)
            return u.reshape(shape), None
        _check_scale(scale, u)
        # entries along which neither the channel nor τ changes form one row
        inner = 0 if channels is None else -axis - 1
        if channels is None:
            while inner < u.dim() and (inner >= scale.dim() or scale.size(-1 - inner) == 1):
                inner += 1
            outer = u.shape[: u.dim() - inner]
            rows = u.reshape(math.prod(outer), 1, math.prod(u.shape[u.dim() - inner :]))
            lead = scale.reshape(scale.shape[: max(scale.dim() - inner, 0)])
            return rows, lead.expand(outer).reshape(-1, 1, 1)
        rows = u.reshape(math.prod(u.shape[: u.dim() + axis]), channels, math.prod(u.shape[u.dim() - inner :]))
        if all(size == 1 for size in scale.shape[max(scale.dim() - inner, 0) :]):
            lead = scale.reshape(scale.shape[: max(scale.dim() - inner, 0)])
            return rows, lead.expand(u.shape[: u.dim() - inner]).reshape(rows.size(0), channels, 1)
        return rows, scale.expand(u.shape).reshape(rows.shape)


def _from_middle(steps: Tensor) -> Tensor:
    """Running sums along the last axis, ``[..., K]`` to ``[..., K + 1]``, that are 0 in the middle."""
    half = steps.size(-1) // 2
    right = steps[..., half:].cumsum(-1)
    left = -steps[..., :half].flip(-1).cumsum(-1).flip(-1)
    return torch.cat([left, torch.zeros_like(steps[..., :1]), right], dim=-1)


def _first_slopes(start: object, num_pieces: int, reach: float, odd: bool) -> Tensor:
    """The slopes of ``start`` between the knots, ``[K]``, those of ``u ≥ 0`` where σ is odd."""
    if not isinstance(start, Activation):
        raise TypeError(f"start must be an Activation, such as Huber(0.1), or None, got {type(start).__name__}")
    low, high = start.slopes
    if start.group or not 0 <= low <= high <= 1:
        raise ValueError(f"start must act entry by entry, with slopes in [0, 1], got {start} with {start.slopes}")
    if odd and not start.odd:
        raise ValueError(f"an odd spline starts from an odd activation, got {start}")
    half, width = num_pieces // 2, 2 * reach / num_pieces
    knots = torch.arange(-half, half + 1, dtype=torch.float64) * width
    with torch.no_grad():
        slopes = (start(knots).diff() / width).clamp(LEAST, 1 - LEAST).float()
    first: Tensor = slopes[half:] if odd else slopes
    return first


def _check_scale(scale: Tensor, u: Tensor) -> None:
    try:
        fits = torch.broadcast_shapes(scale.shape, u.shape) == u.shape  # type: ignore[no-untyped-call]
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"scale must broadcast to the tensor of shape {list(u.shape)}, got shape {list(scale.shape)}; one for each "
            "image is [n, 1, 1, 1]"
        )
    # neither a trace nor torch.func can branch on a value
    if torch.compiler.is_compiling() or transformed(scale):
        return
    if not bool(((scale > 0) & torch.isfinite(scale)).all()):
        raise ValueError("scale must be positive and finite: it is what the activation is stretched by")
