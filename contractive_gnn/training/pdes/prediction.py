"""How far off a network's predictions of a solution are, step after step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contractive_gnn.datasets.pdes import PixelData
from contractive_gnn.training.rollout import rollout


@torch.no_grad()
def relative_errors(model: nn.Module, data: PixelData) -> Tensor:
    """``‖Φⁿ(u⁰) − uⁿ‖₂/‖uⁿ‖₂`` of each solution after each step, ``[solutions, steps]``; ``inf`` where it blew up.

    Args:
        model: as in :func:`~contractive_gnn.training.rollout.rollout`, of the precision of the data.
        data: the solutions.

    Raises:
        ValueError: a solution is 0 after a step.
    """
    check_sizes(data)
    predicted = rollout(model, data.states[:, 0], data.steps)[:, 1:].flatten(2)
    exact = data.states[:, 1:].flatten(2)
    errors: Tensor = (predicted - exact).norm(dim=2) / exact.norm(dim=2)
    return torch.where(torch.isfinite(errors), errors, torch.inf)


def check_sizes(data: PixelData) -> None:
    """Raise ValueError where a solution is 0 after a step: it has no relative error."""
    if bool((zero := data.states[:, 1:].flatten(2).norm(dim=2) == 0).any()):
        which, step = zero.nonzero()[0].tolist()
        raise ValueError(
            f"solution {which} of {data.name} is 0 after step {step + 1}, and has no relative error there; leave it out"
        )
