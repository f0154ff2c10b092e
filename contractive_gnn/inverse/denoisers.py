"""Denoisers made of other denoisers: what keeps an iteration together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_real
from contractive_gnn.inverse.averaged import averagedness_of, composed, relaxed


class Denoiser(nn.Module):
    """A denoiser made of another one; it is called in the same way, ``denoiser(x, sigma)``.

    Args:
        inner: the other one, called as ``inner(x, sigma)``.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        if not isinstance(inner, nn.Module):
            raise TypeError(f"expected a denoiser, a module called as denoiser(x, sigma), got {type(inner).__name__}")
        self.inner = inner

    @property
    def certified(self) -> bool:
        """Whether the averagedness of the other one is proved."""
        return averagedness_of(self.inner)[0] is not None

    def _averagedness(self) -> float:
        alpha, reason = averagedness_of(self.inner)
        if alpha is None:
            raise ValueError(f"no averagedness is known: {reason}")
        return alpha


class Relaxed(Denoiser):
    """``(1 − λ)x + λD(x)``, λα-averaged for an α-averaged D: :func:`relaxed`.

    Args:
        inner: D.
        weight: λ in (0, 1].
    """

    def __init__(self, inner: nn.Module, weight: float = 0.5) -> None:
        super().__init__(inner)
        check_real("weight", weight, above=0, most=1)
        self.weight = float(weight)

    def forward(self, x: Tensor, sigma: float | Tensor | None) -> Tensor:
        """The mean of x and D(x), with weights."""
        return torch.lerp(x, self.inner(x, sigma), self.weight)

    def averagedness(self) -> float:
        """``λα``."""
        return relaxed(self._averagedness(), self.weight)


class Clipped(Denoiser):
    """``P(D(x))`` with the projection P on the box ``[low, high]`` in every pixel; P is firmly non-expansive.

    Args:
        inner: D.
        box: low and high, in the units of the pixels.
    """

    def __init__(self, inner: nn.Module, box: tuple[float, float] = (0.0, 1.0)) -> None:
        super().__init__(inner)
        self.box = check_box(box)

    def forward(self, x: Tensor, sigma: float | Tensor | None) -> Tensor:
        """D(x), clipped."""
        return self.inner(x, sigma).clamp(*self.box)  # type: ignore[no-any-return]

    def averagedness(self) -> float:
        """``composed(α, 1/2)``."""
        return composed(self._averagedness(), 0.5)


class Resolvent(Denoiser):
    """``J = (I + N)/2`` with ``N = P ∘ (2E − I)`` and ``E = (1 − λ)I + λD``: a firmly non-expansive denoiser.

    Douglas and Rachford's iteration and the alternating direction method take a resolvent, that is a firmly
    non-expansive map. D is α-averaged; with ``λα ≤ 1/2`` the reflection ``2E − I`` is non-expansive, and so is N. Where
    the reflection stays inside the box, or without one, J is E, and D itself for λ = 1. For a D that is only
    non-expansive, E is the mean ``(I + D)/2``.

    Args:
        inner: D.
        weight: λ in (0, 1]; None for the largest that is proved to do, ``min(1, 1/(2α))``, and 1 where no α is known.
        box: of the projection P, in the units of the pixels; None for no projection.
    """

    def __init__(
        self, inner: nn.Module, weight: float | None = None, *, box: tuple[float, float] | None = (0.0, 1.0)
    ) -> None:
        super().__init__(inner)
        alpha = averagedness_of(inner)[0]
        if weight is None:
            weight = 1.0 if alpha is None or alpha <= 0.5 else 0.5 / alpha
        check_real("weight", weight, above=0, most=1)
        self.weight = float(weight)
        self.box = None if box is None else check_box(box)

    def reflected(self, x: Tensor, sigma: float | Tensor | None) -> Tensor:
        """``N(x) = P(x + 2λ(D(x) − x))``."""
        image: Tensor = x + 2.0 * self.weight * (self.inner(x, sigma) - x)
        return image if self.box is None else image.clamp(*self.box)

    def forward(self, x: Tensor, sigma: float | Tensor | None) -> Tensor:
        """``(x + N(x))/2``."""
        return 0.5 * (x + self.reflected(x, sigma))

    @property
    def certified(self) -> bool:
        """Whether D is proved to be α-averaged with ``λα ≤ 1/2``."""
        alpha = averagedness_of(self.inner)[0]
        return alpha is not None and alpha * self.weight <= 0.5

    def averagedness(self) -> float:
        """1/2."""
        if not self.certified:
            raise ValueError(f"no averagedness is known: {self.doubt()}")
        return 0.5

    def doubt(self) -> str:
        """Why it is not certified; empty where it is."""
        if self.certified:
            return ""
        alpha, reason = averagedness_of(self.inner)
        if alpha is None:
            return reason
        return f"the weight {self.weight:.6g} times the averagedness {alpha:.6g} of the denoiser is above 1/2"


class OneLevel(nn.Module):
    """A denoiser ``D(x)`` for one noise level, called as ``denoiser(x, sigma)``; another level is refused.

    Args:
        inner: D, a module that takes x alone, such as :class:`~contractive_gnn.nn.images.DnCNN`.
        level: the standard deviation of the noise that it was trained for, in the units of the pixels.

    Raises:
        ValueError: (called) for another level than its own.

    Example:
        >>> denoiser = OneLevel(nn.Identity(), 25 / 255)
        >>> denoiser(torch.zeros(1, 1, 2, 2), 25 / 255).shape
        torch.Size([1, 1, 2, 2])
    """

    def __init__(self, inner: nn.Module, level: float) -> None:
        super().__init__()
        if not isinstance(inner, nn.Module):
            raise TypeError(f"expected a module that takes an image, got {type(inner).__name__}")
        check_real("level", level, above=0)
        self.inner = inner
        self.level = float(level)

    def forward(self, x: Tensor, sigma: float | Tensor | None) -> Tensor:
        """D(x)."""
        if sigma is not None:
            asked = sigma if isinstance(sigma, Tensor) else torch.tensor(sigma)
            if not bool(((asked - self.level).abs() <= 1e-6 * self.level).all()):
                raise ValueError(
                    f"{type(self.inner).__name__} was trained for sigma = {self.level:.6g} alone, got {sigma!r}"
                )
        return self.inner(x)  # type: ignore[no-any-return]

    @property
    def certified(self) -> bool:
        """Whether the averagedness of D is proved."""
        return averagedness_of(self.inner)[0] is not None

    def averagedness(self) -> float:
        """That of D."""
        alpha, reason = averagedness_of(self.inner)
        if alpha is None:
            raise ValueError(f"no averagedness is known: {reason}")
        return alpha


def check_box(box: object) -> tuple[float, float]:
    """``(low, high)`` as floats.

    Raises:
        TypeError: it is no pair of numbers.
        ValueError: low is not below high, or one is not finite.
    """
    if not isinstance(box, (tuple, list)) or len(box) != 2:
        raise TypeError(f"box must be a pair (low, high) of numbers, got {box!r}")
    low, high = box
    check_real("box[0]", low)
    check_real("box[1]", high, above=float(low))
    return float(low), float(high)
