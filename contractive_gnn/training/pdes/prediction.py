"""What a network predicts of a solution, step after step, and how far off it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_whole
from contractive_gnn.datasets.pdes import PixelData


def rollout(model: nn.Module, start: Tensor, steps: int) -> Tensor:
    """``u⁰, Φ(u⁰), Φ(Φ(u⁰)), …``: the model applied to what it said before.

    Args:
        model: Φ, from states to states of the same shape.
        start: u⁰, ``[solutions, fields, N₁, …, N_d]``.
        steps: at least 1.

    Returns:
        ``[solutions, steps + 1, fields, N₁, …, N_d]``.

    Raises:
        ValueError: for another number of steps, or a model that does not keep the shape.
    """
    check_whole("steps", steps, least=1)
    states = [start]
    for _ in range(steps):
        state = model(states[-1])
        if state.shape != start.shape:
            raise ValueError(
                f"the model gives {list(state.shape)} for states {list(start.shape)}; a step keeps the shape"
            )
        states.append(state)
    return torch.stack(states, dim=1)


@torch.no_grad()
def relative_errors(model: nn.Module, data: PixelData) -> Tensor:
    """``‖Φⁿ(u⁰) − uⁿ‖₂/‖uⁿ‖₂`` of each solution after each step, ``[solutions, steps]``; ``inf`` where it blew up.

    Args:
        model: as in :func:`rollout`, of the precision of the data.
        data: the solutions.
    """
    predicted = rollout(model, data.states[:, 0], data.steps)[:, 1:].flatten(2)
    exact = data.states[:, 1:].flatten(2)
    errors: Tensor = (predicted - exact).norm(dim=2) / exact.norm(dim=2)
    return torch.where(torch.isfinite(errors), errors, torch.inf)
