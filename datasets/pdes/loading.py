"""Data sets of equations by name, made where they are asked for."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from contractive_gnn.checks import check_whole
from contractive_gnn.datasets.pdes.data import PixelData
from contractive_gnn.datasets.pdes.spectral import (
    laplacian_symbol,
    linear_solution,
    method_of_lines,
    top_third,
    wavenumbers,
)
from contractive_gnn.datasets.pdes.starts import blobs, plane_waves
from contractive_gnn.names import unknown

#: α of the heat equation and of Fisher's
ALPHA = 0.01
#: c of the advection
SPEED = (1.0, 1.0)
#: ν of Burgers' equation
VISCOSITY = 0.002
#: ``(D_u, D_v)``, F and k of Gray and Scott's equations
GRAY_SCOTT = ((2e-5, 1e-5), 0.04, 0.06)
#: share of the norm in the highest third of the waves up to which errors against a grid twice as fine are below 1e-7
UNRESOLVED = 1e-5


@dataclass(frozen=True)
class Setting:
    """How an equation's data are made.

    Attributes:
        equation: in words.
        courant: δt, in units of ``δx²/α`` for the heat equation and Fisher's, else in units of time.
    """

    equation: str
    courant: float


#: steps and coefficients of Celledoni et al. (2023) for the first three
PDES: dict[str, Setting] = {
    "heat": Setting("u_t = 0.01 Δu", 0.24),
    "advection": Setting("u_t + u_x + u_y = 0", 0.02),
    "fisher": Setting("u_t = 0.01 Δu + u(1 − u)", 0.24),
    "burgers": Setting("u_t + u u_x + u u_y = 0.002 Δu", 0.004),
    "gray-scott": Setting("u_t = D_u Δu − uv² + F(1 − u), v_t = D_v Δv + uv² − (F + k)v", 1.0),
}


def time_step(name: str, size: int) -> float:
    """δt of a data set on ``size × size`` points, in the unit of time.

    Raises:
        ValueError: no data set has the name, or the size is below 1.
    """
    if name not in PDES:
        raise ValueError(unknown("data set of an equation", [name], PDES))
    check_whole("size", size, least=1)
    courant = PDES[name].courant
    return courant / size**2 / ALPHA if name in ("heat", "fisher") else courant


def load_pde(
    name: str,
    *,
    count: int,
    steps: int,
    size: int = 100,
    waves: tuple[int, int] | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> PixelData:
    """Solutions of an equation on the periodic unit square, computed now.

    Of the heat equation and of advection they are exact, of the others within about 1e-8 of the solution at the points
    of the grid, relative to its norm, and never more than 1e-7, while the grid resolves it. Burgers' and Gray and
    Scott's solutions steepen, with the default size beyond the grid after about 5 steps. That shows in the highest
    third of the waves along an axis: where they hold more than 1e-5 of the norm of a field, a warning names the step.
    By then errors are between 1e-9 and 1e-7, and they grow with the square of this share: to 1e-4 in ten Burgers'
    steps, and in forty of Gray and Scott's.

    The numbers are drawn from ``seed`` alone: the first solutions of a larger data set are not those of a smaller one.

    Args:
        name: a key of :data:`PDES`. The first three have the coefficients, the steps and the starts of Celledoni,
            Jackaman, Murari and Owren (2023), who solve them by finite elements.
        count: solutions, at least 1.
        steps: after the start, at least 1.
        size: points along each axis; δx = 1/size.
        waves: the least and the largest wave number of the starts along an axis; None for 5 and 8, and 1 and 3 for
            Burgers' equation. Gray and Scott's starts are blobs, and take none.
        seed: at least 0.
        dtype: of the states.

    Raises:
        TypeError: for numbers that are no whole ones.
        ValueError: for an unknown name, or numbers out of their range.
        RuntimeError: where a solution becomes so steep that the solver gives up.

    Warns:
        UserWarning: where the grid no longer resolves a solution.

    Example:
        >>> data = load_pde("heat", count=3, steps=2, size=20)
        >>> list(data.states.shape), round(data.step, 6)
        ([3, 3, 1, 20, 20], 0.06)
    """
    check_whole("count", count, least=1)
    check_whole("steps", steps, least=1)
    check_whole("size", size, least=8)
    check_whole("seed", seed, least=0)
    step = time_step(name, size)
    generator = torch.Generator().manual_seed(seed)
    grid = (size, size)
    times = [k * step for k in range(steps + 1)]
    if waves is not None and name == "gray-scott":
        raise ValueError("the starts of gray-scott are blobs: leave waves out")
    if name == "gray-scott":
        start = blobs(count, grid, generator=generator)
    else:
        waves = waves or ((1, 3) if name == "burgers" else (5, 8))
        _check_waves(waves, size)
        offset = 1.0 if name == "advection" else 0.0
        start = plane_waves(count, grid, generator=generator, waves=waves, offset=offset).unsqueeze(1)
    states = _solved(name, start, times, 1 / size)
    if name not in ("heat", "advection"):  # which are exact
        _check_resolved(name, states)
    drawn = f"{name}, {count} solutions, {steps} steps of {step:g}, {size} × {size}, seed {seed}"
    if waves is not None:
        drawn += f", waves {waves[0]} to {waves[1]}"
    return PixelData(states.to(dtype), step=step, spacing=1 / size, name=drawn)


def _check_waves(waves: tuple[int, int], size: int) -> None:
    if len(waves) != 2:
        raise ValueError(f"waves must be the least and the largest wave number, got {waves!r}")
    for number in waves:
        check_whole("waves", number, least=1)
    if waves[0] > waves[1] or 2 * waves[1] >= size:
        raise ValueError(f"waves must be a pair (least, largest) of which {size} points show two a wave, got {waves!r}")


def _check_resolved(name: str, states: Tensor) -> None:
    """Warn of the first step at which the grid does not resolve a solution."""
    for step, state in enumerate(states.unbind(dim=1)):  # one by one: a transform takes as much memory as they do
        share = float(top_third(state, 2).max())
        if share > UNRESOLVED:
            fewer = f", or at most {step - 1} steps" if step > 1 else ""
            warnings.warn(
                f"{state.size(-2)} × {state.size(-1)} points do not resolve the solutions of {name} from step {step} "
                f"on: of one of them {share:.1e} of the norm is in the highest third of the waves, more than "
                f"{UNRESOLVED:g}, and from there on the states are not exact to 1e-7; take a larger size{fewer}",
                stacklevel=3,
            )
            return


def _solved(name: str, start: Tensor, times: list[float], spacing: float) -> Tensor:
    """``[count, times, fields, N, N]``."""
    grid = start.shape[-2:]
    laplacian = laplacian_symbol(grid, spacing)
    slopes = [1j * k for k in wavenumbers(grid, spacing)]
    if name in ("heat", "advection"):
        symbol = ALPHA * laplacian if name == "heat" else -SPEED[0] * slopes[0] - SPEED[1] * slopes[1]
        found = linear_solution(start, symbol, times)  # [count, fields, times, N, N]
        return found.transpose(1, 2)

    def diffused(u: Tensor, factor: float) -> Tensor:
        diffusion: Tensor = torch.fft.ifft2(factor * laplacian * torch.fft.fft2(u)).real
        return diffusion

    def fisher(u: Tensor) -> Tensor:
        return diffused(u, ALPHA) + u * (1 - u)

    def burgers(u: Tensor) -> Tensor:
        transformed = torch.fft.fft2(u)
        gradient: Tensor = torch.fft.ifft2((slopes[0] + slopes[1]) * transformed).real
        return diffused(u, VISCOSITY) - u * gradient

    def gray_scott(w: Tensor) -> Tensor:
        (first, second), feed, kill = GRAY_SCOTT
        u, v = w[:, 0], w[:, 1]
        reaction = u * v * v
        return torch.stack(
            [diffused(u, first) - reaction + feed * (1 - u), diffused(v, second) + reaction - (feed + kill) * v], dim=1
        )

    rate = {"fisher": fisher, "burgers": burgers, "gray-scott": gray_scott}[name]
    return method_of_lines(start, rate, times).transpose(0, 1)
