r"""Smooth maps of a ball, to be approximated: three that a flow can reach, and one that none can.

=================== ==== ====== ==================================================================== =================
name                dim  radius map                                                                  it keeps
=================== ==== ====== ==================================================================== =================
``swirl``           2    1      a turn by ``π exp(−2‖x‖²)`` around the origin                        norm, volume
``lotka-volterra``  2    0.7    flow of u̇ = u(1 − v), v̇ = v(u − 1) for time 3, x = (u, v) − (1, 1)   no norm, no volume
``abc-flow``        3    1      flow of ẋ = sin z + cos y, and so on in turn, for time 1             volume
``reflection``      2    1      ``(x₁, x₂) ↦ (x₁, −x₂)``                                             norm
=================== ==== ====== ==================================================================== =================

The first three are flows, so orientation-preserving diffeomorphisms onto their images. The reflection is not: a
homeomorphism of the plane that keeps the orientation is at least half the radius away from it somewhere in the disc
(``docs/theory.md``, section 9).

The maps are computed in closed form, or by the classical Runge–Kutta scheme with steps so short that halving them
changes nothing above 1e-9.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.integrators import integrate
from contractive_gnn.registry import Registry


@dataclass(frozen=True)
class BallMap:
    """A map of a ball around the origin.

    Attributes:
        dim: of the space.
        radius: of the ball.
        image: the map, ``[..., dim]`` to ``[..., dim]``.
        orientation: 1 where it keeps the orientation, −1 where it turns it round.

    Raises:
        TypeError: for numbers that are none.
        ValueError: for numbers out of their range.

    Example:
        >>> swirl = MAPS.get("swirl")
        >>> x = swirl.points(1000, seed=0)
        >>> y = swirl(x)
        >>> bool((y.norm(dim=1) - x.norm(dim=1)).abs().max() < 1e-12)
        True
    """

    dim: int
    radius: float
    image: Callable[[Tensor], Tensor]
    orientation: int = 1

    def __post_init__(self) -> None:
        check_whole("dim", self.dim, least=1)
        check_real("radius", self.radius, above=0)
        if self.orientation not in (1, -1):
            raise ValueError(f"orientation must be 1 or -1, got {self.orientation!r}")

    def __call__(self, x: Tensor) -> Tensor:
        """The image of points of the ball.

        Args:
            x: ``[..., dim]``, floating point.

        Raises:
            TypeError: for points that are no floating point tensor.
            ValueError: for points of another dimension, or outside the ball, where the map is not declared.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(f"the points must be a floating point tensor, got {getattr(x, 'dtype', type(x).__name__)}")
        if x.dim() == 0 or x.size(-1) != self.dim:
            raise ValueError(f"the points must have shape [..., {self.dim}], got {list(x.shape)}")
        farthest = float(x.detach().norm(dim=-1).max()) if x.numel() else 0.0
        if not farthest <= self.radius * (1 + 1e-6):  # float32 may round outwards; NaN is inside nothing
            raise ValueError(f"the points must lie in the ball of radius {self.radius:g}, got one at {farthest:.4g}")
        return self.image(x)

    def points(self, count: int, *, seed: int) -> Tensor:
        """Points of the ball in float64, independent and uniform, ``[count, dim]``."""
        check_whole("count", count, least=1)
        check_whole("seed", seed, least=0)
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(count, self.dim, dtype=torch.float64, generator=generator)
        x = x / x.norm(dim=1, keepdim=True)
        radius = self.radius * torch.rand(count, 1, dtype=torch.float64, generator=generator) ** (1 / self.dim)
        inside: Tensor = x * radius
        return inside


def _swirl(x: Tensor) -> Tensor:
    angle = math.pi * torch.exp(-2 * x.square().sum(dim=-1))
    cos, sin = angle.cos(), angle.sin()
    first, second = x.unbind(dim=-1)
    return torch.stack([cos * first - sin * second, sin * first + cos * second], dim=-1)


def _lotka_volterra(x: Tensor, t: Tensor | float = 0.0) -> Tensor:
    prey, predator = (x + 1).unbind(dim=-1)
    return torch.stack([prey * (1 - predator), predator * (prey - 1)], dim=-1)


def _abc(x: Tensor, t: Tensor | float = 0.0) -> Tensor:
    # Arnold, Beltrami and Childress, with all coefficients 1
    return x.roll(1, dims=-1).sin() + x.roll(-1, dims=-1).cos()


def _flow(field: Callable[[Tensor, Tensor | float], Tensor], time: float, steps: int) -> Callable[[Tensor], Tensor]:
    return lambda x: integrate(field, x, step=time / steps, num_steps=steps, scheme="rk4")


MAPS: Registry[BallMap] = Registry("map")
MAPS.register("swirl")(BallMap(2, 1.0, _swirl))
MAPS.register("lotka-volterra")(BallMap(2, 0.7, _flow(_lotka_volterra, 3.0, 300)))
MAPS.register("abc-flow")(BallMap(3, 1.0, _flow(_abc, 1.0, 100)))
MAPS.register("reflection")(BallMap(2, 1.0, lambda x: x * x.new_tensor([1.0, -1.0]), orientation=-1))
