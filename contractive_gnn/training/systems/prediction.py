"""How far a learned flow map, applied again and again, is from the truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from contractive_gnn.datasets.systems import Trajectories
from contractive_gnn.training.batches.place import place
from contractive_gnn.training.rollout import rollout


@dataclass(frozen=True)
class PredictionError:
    """How far predicted trajectories are from true ones.

    For a trajectory and K steps, ``e_K = (Σ_{k=1}^K ‖x̂_k − x_k‖² / Σ_{k=1}^K ‖x_k − m‖²)^½``, with m the mean state of
    all true trajectories: 1 is what the constant prediction m would give on average. It is ``inf`` for a prediction
    that is not finite.

    Attributes:
        errors: of each trajectory, float64 ``[n]``.
        num_steps: K.
    """

    errors: Tensor
    num_steps: int

    @property
    def mean(self) -> float:
        """Over the trajectories."""
        return float(self.errors.mean())

    @property
    def median(self) -> float:
        """Over the trajectories; of two in the middle the lower one."""
        return float(self.errors.median())

    @property
    def largest(self) -> float:
        """Over the trajectories."""
        return float(self.errors.max())


@torch.no_grad()
def prediction_error(model: nn.Module, truth: Trajectories, *, num_steps: int | None = None) -> PredictionError:
    """The error of predictions from the first state of each trajectory; the model's mode is left as it was.

    Args:
        model: the flow map over ``truth.step``.
        truth: trajectories without noise, or the noise counts as an error of the model.
        num_steps: K ≥ 1; None for all.

    Raises:
        ValueError: the model gives another shape, or all true states are the same.
    """
    num_steps = truth.num_steps if num_steps is None else num_steps
    states = truth.first(num_steps).states
    device, dtype = place(model)
    training = model.training
    model.eval()
    try:
        with parametrize.cached():
            predicted = rollout(model, states[:, 0].to(device, dtype), num_steps).to("cpu", torch.float64)
    finally:
        model.train(training)
    true = states.double()
    centred = true - true.flatten(0, 1).mean(dim=0)
    scale = centred[:, 1:].square().flatten(1).sum(dim=1)
    if not bool((scale > 0).all()):
        raise ValueError(f"a trajectory of {truth.name} stays at the mean of all: there is no scale for its error")
    squares = (predicted - true)[:, 1:].square().flatten(1).sum(dim=1)
    errors = (squares / scale).sqrt()
    return PredictionError(torch.where(torch.isfinite(errors), errors, torch.inf), num_steps)
