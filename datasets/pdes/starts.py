"""Random starts of equations on the periodic unit square."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def plane_waves(
    count: int,
    size: Sequence[int],
    *,
    generator: torch.Generator,
    waves: tuple[int, int] = (5, 8),
    offset: float = 0.0,
) -> Tensor:
    """``offset + sin 2πk(x − a) · cos 2πl(y − b) ⋯`` with random whole k, l, … and shifts a, b, … in [0, 1).

    The starts of Celledoni, Jackaman, Murari and Owren (2023). Sine and cosine alternate along the axes.

    Args:
        count: how many.
        size: of the grid on the unit cube.
        generator: of all that is drawn.
        waves: the least and the largest wave number.
        offset: added everywhere.

    Returns:
        float64 ``[count, N₁, …, N_d]``.
    """
    product = torch.ones(count, *size, dtype=torch.float64)
    for axis, n in enumerate(size):
        shape = [count, *[1] * len(size)]
        k = torch.randint(waves[0], waves[1] + 1, (count,), generator=generator).double().view(shape)
        shift = torch.rand(count, generator=generator, dtype=torch.float64).view(shape)
        place = [1] * (1 + len(size))
        place[1 + axis] = n
        x = (torch.arange(n, dtype=torch.float64) / n).view(place)
        wave = torch.cos if axis % 2 else torch.sin
        product = product * wave(2 * math.pi * k * (x - shift))
    return offset + product


def blobs(count: int, size: Sequence[int], *, generator: torch.Generator, number: int = 6) -> Tensor:
    """Gray and Scott's starts: u = 1 and v = 0, but for Gaussian blobs where u is about 1/2 and v about 1/4.

    Blobs b_k are united smoothly, ``1 − Π(1 − b_k)``: the largest of them has kinks where they meet, which no grid
    resolves.

    Returns:
        float64 ``[count, 2, N₁, …, N_d]``.
    """
    rest = torch.ones(count, *size, dtype=torch.float64)
    for _ in range(number):
        square = torch.zeros(count, *size, dtype=torch.float64)
        for axis, n in enumerate(size):
            centre = torch.rand(count, generator=generator, dtype=torch.float64).view(count, *[1] * len(size))
            place = [1] * (1 + len(size))
            place[1 + axis] = n
            x = (torch.arange(n, dtype=torch.float64) / n).view(place)
            distance = (x - centre + 0.5) % 1.0 - 0.5
            square = square + (distance / 0.06) ** 2
        rest = rest * (1.0 - torch.exp(-square))
    bump = 1.0 - rest
    return torch.stack([1.0 - 0.5 * bump, 0.25 * bump], dim=1)
