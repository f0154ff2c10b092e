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
    """
    predicted = rollout(model, data.states[:, 0], data.steps)[:, 1:].flatten(2)
    exact = data.states[:, 1:].flatten(2)
    errors: Tensor = (predicted - exact).norm(dim=2) / exact.norm(dim=2)
    return torch.where(torch.isfinite(errors), errors, torch.inf)
