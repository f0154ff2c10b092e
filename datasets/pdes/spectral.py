r"""Solutions of equations on a periodic grid by Fourier's method: exact in space for what the grid resolves.

A linear equation multiplies each wave ``e^{i⟨k, x⟩}`` by ``e^{λ(k)t}``: nothing is discretised. Another one is solved
at the points of the grid with derivatives by the transform (Trefethen, *Spectral Methods in MATLAB*, 2000, chapters 3
and 10), in time by scipy's DOP853, an explicit method of order 8 with its error controlled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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
    """The solution of ``u̇ = rate(u)`` by scipy's DOP853.

    Args:
        start: of any shape, at the first time.
        rate: the right-hand side, of the shape of the start.
        times: ascending.
        tolerance: absolute and relative, of a step.

    Returns:
        float64 ``[times, *start.shape]``.

    Raises:
        RuntimeError: the solver gives up.
    """
    from scipy.integrate import solve_ivp

    def derivative(_: float, y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        u = torch.from_numpy(np.ascontiguousarray(y)).view(start.shape)
        found: npt.NDArray[np.float64] = rate(u).flatten().numpy()
        return found

    solution = solve_ivp(
        derivative,
        (times[0], times[-1]),
        start.double().flatten().numpy(),
        method="DOP853",
        t_eval=list(times),
        rtol=tolerance,
        atol=tolerance,
    )
    if not solution.success:
        raise RuntimeError(f"the reference solution stopped at t = {solution.t[-1]:g}: {solution.message}")
    return torch.from_numpy(np.ascontiguousarray(solution.y.T)).view(len(times), *start.shape)
