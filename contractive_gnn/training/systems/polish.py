"""Bring a trained flow map to the bottom: second-order steps on all pieces at once."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from contractive_gnn.checks import check_whole
from contractive_gnn.datasets.systems import Trajectories
from contractive_gnn.training.batches.checkpoint import load_checkpoint, model_identity, save_checkpoint
from contractive_gnn.training.batches.options import check_choice
from contractive_gnn.training.batches.place import place
from contractive_gnn.training.batches.saved_model import SavedModel
from contractive_gnn.training.lbfgs import descend
from contractive_gnn.training.least_squares import Damped, LeastSquares
from contractive_gnn.training.rollout import rollout

Method = Literal["levenberg-marquardt", "lbfgs"]
#: iterations between two checkpoints; of L-BFGS those with one memory: after them the loss is scaled anew
ROUND: Mapping[str, int] = {"levenberg-marquardt": 10, "lbfgs": 100}
ROUNDS = 10


@dataclass(frozen=True)
class PolishResult:
    """What :func:`polish_trajectories` did.

    Attributes:
        losses: before the first round and after each, those of earlier runs included.
        resumed: how many rounds a checkpoint had.
        evaluations: in all rounds, of the loss with its gradient, or of residuals and of Jacobians.
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
    method: Method = "levenberg-marquardt",
    iterations: int | None = None,
    horizon: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
) -> PolishResult:
    """Minimise the loss of :func:`fit_trajectories` over *all* pieces by second-order steps.

    A network of a few hundred weights on exact data has a loss that first-order steps bring to 1e-4, and that goes on
    falling by orders of magnitude. Use float64.

    ``"levenberg-marquardt"`` (:class:`~contractive_gnn.training.least_squares.LeastSquares`) asks for the
    Jacobian of all residuals, and goes deepest. ``"lbfgs"``, with a strong Wolfe line search, asks for gradients alone:
    for larger networks, and for those that ``torch.func`` cannot differentiate sample by sample, as through an implicit
    scheme or a projection. torch's L-BFGS forgets the curvature where ``yᵀs ≤ 1e-10``, which stops it on losses near
    1e-8: here the loss is divided by its own size anew every 100 iterations.

    The model is left in evaluation mode. With a checkpoint the weights are saved after every 10 iterations (of
    L-BFGS 100), and a later call goes on from there, to the same weights bit for bit (with the same number of threads).

    Args:
        model: trained before, or the first steps may run away; of float64.
        train: trajectories; all of their pieces are used at once.
        method: ``"levenberg-marquardt"`` or ``"lbfgs"``.
        iterations: at least 1, rounded up to tens or hundreds; None for 100, of L-BFGS 1,000.
        horizon: steps over which the loss reaches, at least 1.
        checkpoint: a file; None saves nothing.

    Raises:
        CheckpointError: the checkpoint is of another model, other weights to begin with, other trajectories or options.
        FloatingPointError: the loss is not finite at the start.
        TypeError: train is of another type.
        ValueError: the model is not of float64, there is nothing to train, or the method is not for this model.
    """
    if not isinstance(train, Trajectories):
        raise TypeError(f"train must be Trajectories, as simulate gives, got {type(train).__name__}")
    check_choice("method", method, tuple(ROUND))
    iterations = ROUNDS * ROUND[method] if iterations is None else iterations
    check_whole("iterations", iterations, least=1)
    check_whole("horizon", horizon, least=1, below=train.num_steps + 1)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not learning:
        raise ValueError(f"{type(model).__name__} has no parameter that learns: use it as it is, without training")
    device, dtype = place(model)
    if dtype != torch.float64:
        raise ValueError(f"the model is of {dtype}, whose rounding ends the descent early: use model.double()")
    pieces = train.windows(horizon + 1).to(device, dtype)

    def loss() -> Tensor:
        with parametrize.cached():
            predicted = rollout(model, pieces[:, 0], horizon)
        return (predicted - pieces)[:, 1:].square().mean()

    path = None if checkpoint is None else Path(checkpoint)
    identity = {
        "train": train.digest[:16],
        "method": method,
        "horizon": str(horizon),
        "model": model_identity(model),
        "start": f"{[float(parameter.detach().double().norm()) for parameter in learning]}",
    }
    model.eval()
    with torch.no_grad():
        losses = [float(loss())]
    if not math.isfinite(losses[0]):
        raise FloatingPointError(f"the loss is {losses[0]} at the start: train the model before, by fit_trajectories")
    state, seconds = Damped(losses[0], 1e-2, 0), 0.0
    saved = None if path is None else load_checkpoint(path, identity=identity)
    kept = SavedModel(model, lambda asked: asked(pieces[:4, 0]))
    if saved is not None:
        kept.restore(saved["model"], path)
        losses, seconds = saved["losses"], saved["seconds"]
        state = Damped(losses[-1], saved["damping"], saved["evaluations"])
    squares = LeastSquares(model, pieces) if method == "levenberg-marquardt" else None
    resumed = len(losses) - 1
    for _ in range(resumed, math.ceil(iterations / ROUND[method])):
        begin = time.perf_counter()
        if squares is not None:
            state = squares.descend(state, iterations=ROUND[method])
        else:
            after, tried = _round(learning, loss, scale=losses[-1])
            state = Damped(after, state.damping, state.evaluations + tried)
        losses.append(state.loss)
        seconds += time.perf_counter() - begin
        if path is not None:
            now = {"model": kept.saved(kept.answers()), "losses": losses, "seconds": seconds}
            now |= {"damping": state.damping, "evaluations": state.evaluations}
            save_checkpoint(path, now, identity=identity)
    for parameter in learning:
        parameter.grad = None
    return PolishResult(tuple(losses), resumed, state.evaluations, seconds)


def _round(learning: list[nn.Parameter], loss: Callable[[], Tensor], *, scale: float) -> tuple[float, int]:
    """A hundred iterations of L-BFGS from the present weights, whose loss is the scale: its end, and how many losses.

    A line search may try weights with which an implicit scheme finds no solution: that ends the round.
    """
    if scale == 0:
        return scale, 0
    unit = 1e-4 * scale
    count = ROUND["lbfgs"]
    found = descend(lambda: loss() / unit, learning, iterations=count, evaluations=4 * count, history=count)
    return min(unit * found.loss, scale), found.evaluations
