"""Reference solutions by a high-order solver."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.datasets.errors import InvalidTrajectoriesError
from contractive_gnn.datasets.systems.system import FloatArray, System
from contractive_gnn.datasets.systems.trajectories import Trajectories
from contractive_gnn.dynamics import VectorField
from contractive_gnn.integrators.scheme import velocity


def solve(
    field: VectorField, starts: Tensor, *, step: float, num_steps: int, rtol: float = 1e-13, atol: float = 1e-13
) -> Tensor:
    """The solutions of ``ẋ = X(x, t)`` at the times 0, δ, …, Kδ, by scipy's DOP853 for all starts together.

    They share the solver's steps, whose estimated local error is at most ``atol + rtol |x|`` in the root mean square
    over all entries: for n starts at most ``√n`` times that for one of them. Nothing is claimed of the global error: on
    a chaotic orbit it grows exponentially.

    Args:
        field: X, which takes leading batch axes.
        starts: ``[n, d]``, float64.
        step: δ > 0.
        num_steps: K ≥ 1.
        rtol: at least 3e-14: below, scipy raises it.
        atol: positive.

    Returns:
        float64 ``[n, K + 1, d]``.

    Raises:
        InvalidTrajectoriesError: the solver gives up, as where a solution is not bounded.
        ValueError: starts of another shape or type, and a field whose value has another shape than they.
    """
    from scipy.integrate import solve_ivp

    check_real("step", step, above=0)
    check_whole("num_steps", num_steps, least=1)
    check_real("rtol", rtol, least=3e-14)
    check_real("atol", atol, above=0)
    if starts.dim() != 2 or starts.dtype != torch.float64 or not starts.numel():
        raise ValueError(f"starts must be float64 [n, d], got {starts.dtype} {list(starts.shape)}")

    @torch.no_grad()
    def slope(t: float, x: FloatArray) -> FloatArray:
        found: FloatArray = velocity(field, torch.from_numpy(x).view(starts.shape), t).numpy().ravel()
        return found

    times = step * np.arange(num_steps + 1)
    start = starts.detach().cpu().numpy().ravel()
    found = solve_ivp(slope, (0.0, times[-1]), start, method="DOP853", t_eval=times, rtol=rtol, atol=atol)
    if not found.success or not np.isfinite(found.y).all():
        raise InvalidTrajectoriesError(
            f"{type(field).__name__} has no solutions from all of the starts up to the time {times[-1]:g} that DOP853 "
            f"finds ({found.message}); start elsewhere, or ask for a shorter time"
        )
    return torch.from_numpy(found.y.T.reshape(len(times), *starts.shape).swapaxes(0, 1).copy())


def simulate(
    system: System, *, count: int, step: float, num_steps: int, noise: float = 0.0, seed: int = 0, name: str = ""
) -> Trajectories:
    """Trajectories of a system from random starts, with measurement noise.

    Args:
        system: which.
        count: n ≥ 1.
        step: δ > 0, the time between two states.
        num_steps: K ≥ 1.
        noise: standard deviation of what is added to each entry, at least 0. The solution itself has none.
        seed: at least 0, of starts and noise.
        name: of the set; empty for one that says all of the above.

    Raises:
        InvalidTrajectoriesError: a start from which there is no bounded solution.

    Example:
        >>> from contractive_gnn.datasets.systems import pendulum
        >>> data = simulate(pendulum(), count=3, step=0.1, num_steps=10)
        >>> data.states.shape
        torch.Size([3, 11, 2])
    """
    check_whole("count", count, least=1)
    check_whole("seed", seed, least=0)
    check_real("noise", noise, least=0)
    starts = torch.from_numpy(system.draw(np.random.default_rng(seed), count))
    states = solve(system.field, starts, step=step, num_steps=num_steps)
    about = name or f"{system.name}/{count}x{num_steps} of {step:g}, seed {seed}" + (f", noise {noise:g}" * (noise > 0))
    return Trajectories(states, float(step), about).noisy(noise, seed=seed)
