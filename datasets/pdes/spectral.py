r"""Solutions of equations on a periodic grid by Fourier's method: exact in space for what the grid resolves.

A linear equation multiplies each wave ``e^{i⟨k, x⟩}`` by ``e^{λ(k)t}``: nothing is discretised. Another one is solved
at the points of the grid with derivatives by the transform (Trefethen, *Spectral Methods in MATLAB*, 2000, chapters 3
and 10), in time by scipy's DOP853, an explicit method of order 8 with its error controlled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Symbol = Callable[[list[Tensor]], Tensor]
"""``(k₁, …, k_d) ↦ λ(k)``, a complex factor for each wave; each k is in radians per unit of length."""


def wavenumbers(size: Sequence[int], spacing: float) -> list[Tensor]:
    """``k`` along each axis in radians per unit of length, shaped to broadcast; float64.

    The highest wave of an even number of points, of which no sign is known, gets 0: its odd derivatives are none.
    """
    found = []
    for axis, n in enumerate(size):
        k = 2 * math.pi * torch.fft.fftfreq(n, spacing, dtype=torch.float64)
        if n % 2 == 0:
            k[n // 2] = 0.0
        shape = [1] * len(size)
        shape[axis] = n
        found.append(k.view(shape))
    return found


def laplacian_symbol(size: Sequence[int], spacing: float) -> Tensor:
    """``−|k|²`` of each wave, the highest ones included."""
    total = torch.zeros(tuple(size), dtype=torch.float64)
    for axis, n in enumerate(size):
        shape = [1] * len(size)
        shape[axis] = n
        total = total - (2 * math.pi * torch.fft.fftfreq(n, spacing, dtype=torch.float64).view(shape)) ** 2
    return total


def linear_solution(start: Tensor, symbol: Tensor, times: Sequence[float]) -> Tensor:
    """``Σ_k û(k) e^{λ(k)t} e^{i⟨k, x⟩}`` at each time.

    Args:
        start: ``[..., N₁, …, N_d]`` real.
        symbol: λ, ``[N₁, …, N_d]``, as :func:`torch.fft.fftn` orders the waves.
        times: t.

    Returns:
        float64 ``[..., times, N₁, …, N_d]``.
    """
    axes = list(range(-symbol.dim(), 0))
    transformed = torch.fft.fftn(start.double(), dim=axes)
    return torch.stack(
        [torch.fft.ifftn(transformed * torch.exp(symbol * t), dim=axes).real for t in times],
        dim=-1 - symbol.dim(),
    )


def method_of_lines(
    start: Tensor, rate: Callable[[Tensor], Tensor], times: Sequence[float], *, tolerance: float = 1e-10
) -> Tensor:
    """The solution of ``u̇ = rate(u)`` by scipy's DOP853, with steps that end at each of the times.

    Between its steps it would interpolate, and no tolerance controls that.

    Args:
        start: of any shape, at the first time.
        rate: the right-hand side, of the shape of the start.
        times: ascending.
        tolerance: absolute and relative, of a step.

    Returns:
        float64 ``[times, *start.shape]``.

    Raises:
        RuntimeError: the solver gives up, as where a solution becomes too steep for the grid.
    """
    from scipy.integrate import solve_ivp

    def derivative(_: float, y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        u = torch.from_numpy(np.ascontiguousarray(y)).view(start.shape)
        found: npt.NDArray[np.float64] = rate(u).flatten().numpy()
        return found

    states = [start.double().flatten().numpy()]
    for span in pairwise(times):
        solution = solve_ivp(derivative, span, states[-1], method="DOP853", rtol=tolerance, atol=tolerance)
        if not solution.success:
            raise RuntimeError(
                f"the reference solution stopped at t = {solution.t[-1]:g}: {solution.message} Where it steepens, take "
                "a finer grid or fewer steps"
            )
        states.append(solution.y[:, -1])
    return torch.from_numpy(np.stack(states)).view(len(times), *start.shape)


def top_third(u: Tensor, dimensions: int) -> Tensor:
    """``‖u_top‖/‖u‖`` with u_top the waves in the highest third along an axis, ``N/3 < |j| ≤ N/2``.

    The waves of a smooth solution decay exponentially, so it is small where the grid resolves them.

    Args:
        u: ``[..., N₁, …, N_d]``.
        dimensions: d.

    Returns:
        ``[...]``, in [0, 1]; 0 where u is.
    """
    axes = tuple(range(-dimensions, 0))
    size: Tensor = torch.fft.fftn(u.double(), dim=axes).abs()
    top = torch.zeros(u.shape[-dimensions:], dtype=torch.bool)
    for axis in axes:
        j = torch.fft.fftfreq(u.size(axis), dtype=torch.float64).abs()
        top |= (j > 1 / 3).view(-1, *[1] * (-1 - axis))
    part, whole = (torch.linalg.vector_norm(waves, dim=axes) for waves in (size * top, size))
    share: Tensor = part / torch.where(whole == 0, 1.0, whole)
    return share
