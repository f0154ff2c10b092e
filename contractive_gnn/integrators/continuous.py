"""The continuous-time model, by torchdiffeq."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from contractive_gnn.extras import needs
from contractive_gnn.integrators.scheme import Field, velocity


def integrate_continuous(
    field: Field,
    x: Tensor,
    *,
    total_time: float,
    t0: float = 0.0,
    method: str = "dopri5",
    rtol: float = 1e-6,
    atol: float = 1e-6,
) -> Tensor:
    """The state after ``total_time`` of the continuous-time model, by torchdiffeq's ``odeint``.

    The exact flow contracts by ``exp(−κT)``. An adaptive solver keeps that up to its tolerances only, since the
    steps that it picks depend on the state: what is certified is certified for :func:`integrate`.

    Args:
        field: X.
        x: the start.
        total_time: T > 0.
        t0: time of the start.
        method: a solver of torchdiffeq.
        rtol: its relative tolerance.
        atol: its absolute tolerance.

    Raises:
        MissingExtraError: torchdiffeq is not installed; :func:`integrate` needs nothing.
        TypeError: for a value of the field that is no tensor.
        ValueError: if T is not positive, and for a value of the field of another shape than the state.
    """
    if not (total_time > 0 and math.isfinite(total_time)):
        raise ValueError(f"total_time must be a positive finite number, got {total_time!r}")
    with needs("ode", "integrate_continuous"):
        from torchdiffeq import odeint
    times = torch.tensor([t0, t0 + total_time], dtype=x.dtype, device=x.device)
    end: Tensor = odeint(lambda t, y: velocity(field, y, t), x, times, method=method, rtol=rtol, atol=atol)[-1]
    return end
