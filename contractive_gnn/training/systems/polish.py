"""Bring a trained flow map to the bottom: quasi-Newton steps on all pieces at once."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from contractive_gnn.checks import check_whole
from contractive_gnn.datasets.systems import Trajectories
from contractive_gnn.integrators import ConvergenceError
from contractive_gnn.training.images.checkpoint import load_checkpoint, model_identity, save_checkpoint
from contractive_gnn.training.images.scoring import place
from contractive_gnn.training.systems.prediction import rollout

#: iterations with one memory: after it the loss is scaled anew
ROUND = 100


@dataclass(frozen=True)
class PolishResult:
    """What :func:`polish_trajectories` did.

    Attributes:
        losses: before the first round and after each, those of earlier runs included.
        resumed: how many rounds a checkpoint had.
        evaluations: of the loss with its gradient, in all rounds.
        seconds: wall time of all rounds.
    """

    losses: tuple[float, ...]
    resumed: int
    evaluations: int
    seconds: float


def polish_trajectories(
    model: nn.Module,
    train: Trajectories,
    *,
    iterations: int = 1000,
    horizon: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
) -> PolishResult:
    """Minimise the loss of :func:`fit_trajectories` over *all* pieces by L-BFGS with a strong Wolfe line search.

    A network of a few hundred weights on exact data has a loss that first-order steps bring to 1e-4, and that goes on
    falling by orders of magnitude. Use float64. torch's L-BFGS forgets the curvature where ``yᵀs ≤ 1e-10``, which stops
    it on losses near 1e-8: here the loss is divided by its own size anew every 100 iterations.

    The model is left in evaluation mode. With a checkpoint the weights are saved after every 100 iterations, and a
    later call goes on from there, to the same weights bit for bit (with the same number of threads).

    Args:
        model: trained before, or the line search may run away; of float64.
        train: trajectories; all of their pieces are used at once.
        iterations: at least 1, rounded up to hundreds.
        horizon: steps over which the loss reaches, at least 1.
        checkpoint: a file; None saves nothing.

    Raises:
        CheckpointError: the checkpoint is of another model, other weights to begin with, other trajectories or options.
        FloatingPointError: the loss is not finite at the start.
        TypeError: train is of another type.
        ValueError: the model is not of float64, or there is nothing to train.
    """
    if not isinstance(train, Trajectories):
        raise TypeError(f"train must be Trajectories, as simulate gives, got {type(train).__name__}")
    check_whole("iterations", iterations, least=1)
    check_whole("horizon", horizon, least=1, below=train.num_steps + 1)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not learning:
        raise ValueError(f"{type(model).__name__} has no parameter that learns: use it as it is, without training")
    device, dtype = place(model)
    if dtype != torch.float64:
        raise ValueError(f"the model is of {dtype}, whose rounding ends the line search early: use model.double()")
    pieces = train.windows(horizon + 1).to(device, dtype)

    def loss() -> Tensor:
        with parametrize.cached():
            predicted = rollout(model, pieces[:, 0], horizon)
        return (predicted - pieces)[:, 1:].square().mean()

    path = None if checkpoint is None else Path(checkpoint)
    identity = {
        "train": train.digest[:16],
        "horizon": str(horizon),
        "model": model_identity(model),
        "start": f"{[float(parameter.detach().double().norm()) for parameter in learning]}",
    }
    model.eval()
    with torch.no_grad():
        losses = [float(loss())]
    if not math.isfinite(losses[0]):
        raise FloatingPointError(f"the loss is {losses[0]} at the start: train the model before, by fit_trajectories")
    evaluations, seconds = 0, 0.0
    saved = None if path is None else load_checkpoint(path, identity=identity)
    if saved is not None:
        model.load_state_dict(saved["model"])
        losses, evaluations, seconds = saved["losses"], saved["evaluations"], saved["seconds"]
    resumed = len(losses) - 1
    for _ in range(resumed, math.ceil(iterations / ROUND)):
        begin = time.perf_counter()
        after, tried = _round(learning, loss, scale=losses[-1])
        losses.append(after)
        evaluations, seconds = evaluations + tried, seconds + time.perf_counter() - begin
        if path is not None:
            kept = {"model": model.state_dict(), "losses": losses, "evaluations": evaluations, "seconds": seconds}
            save_checkpoint(path, kept, identity=identity)
    return PolishResult(tuple(losses), resumed, evaluations, seconds)


def _round(learning: list[nn.Parameter], loss: Callable[[], Tensor], *, scale: float) -> tuple[float, int]:
    """A hundred iterations from the present weights: the least loss of them, and how often it was asked for.

    The weights are then those of that loss. A line search may try weights with which an implicit scheme finds no
    solution: that ends the round.
    """
    best, least, tried = _copied(learning), scale, 0
    optimiser = torch.optim.LBFGS(
        learning,
        max_iter=ROUND,
        max_eval=4 * ROUND,
        history_size=ROUND,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        nonlocal best, least, tried
        tried += 1
        optimiser.zero_grad()
        value = loss()
        (value / (1e-4 * scale)).backward()  # type: ignore[no-untyped-call]
        found = float(value.detach())
        if found < least:
            best, least = _copied(learning), found
        return found / (1e-4 * scale)

    if scale > 0:
        with torch.enable_grad(), contextlib.suppress(ConvergenceError):
            optimiser.step(closure)
    with torch.no_grad():
        for parameter, kept in zip(learning, best, strict=True):
            parameter.copy_(kept)
            parameter.grad = None
    return least, tried


def _copied(learning: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in learning]
