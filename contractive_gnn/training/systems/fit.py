"""Train a flow map on pieces of trajectories."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_flag, check_whole
from contractive_gnn.datasets.systems import Trajectories
from contractive_gnn.training.batches.loop import Figures, StepResult, Task, run
from contractive_gnn.training.batches.place import place
from contractive_gnn.training.batches.result import BatchFitResult
from contractive_gnn.training.rollout import rollout
from contractive_gnn.training.systems.options import TrajectoryFitOptions
from contractive_gnn.training.systems.prediction import prediction_error


@dataclass(frozen=True)
class TrajectoryEpoch:
    """An epoch of a training.

    Attributes:
        epoch: from 1.
        loss: mean over the epoch's pieces.
        horizon: steps over which the loss reached.
        val_error: mean relative error of the predictions of whole validation trajectories; None without any.
        seconds: wall time of the steps.
        cpu_seconds: of all threads of this process, likewise.
    """

    epoch: int
    loss: float
    horizon: int
    val_error: float | None
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class TrajectoryFitResult(BatchFitResult[TrajectoryEpoch]):
    """What :func:`fit_trajectories` did."""


def fit_trajectories(
    model: nn.Module,
    train: Trajectories,
    options: TrajectoryFitOptions | None = None,
    *,
    val: Trajectories | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> TrajectoryFitResult:
    r"""Train a flow map Φ, ``x(t) ↦ x(t + δ)``, from the weights that it has.

    .. math::
        \frac1K \sum_{k=1}^{K} \frac{1}{d}\,\|\Phi^k(x_j) - x_{j+k}\|^2,

    the mean over random pieces ``x_j, …, x_{j+K}`` of the trajectories; all pieces are equally likely. The model is
    left in evaluation mode with the weights of the last epoch, averaged where ``options.ema`` is given. A checkpoint
    works as in :func:`contractive_gnn.training.images.fit_images`.

    Args:
        model: called as ``model(x)`` with states ``[n, *shape]`` to states of that shape, such as a
            :class:`~contractive_gnn.nn.Flow` with ``num_steps · step`` the time between two states.
        train: trajectories to learn from.
        options: see :class:`TrajectoryFitOptions`; None for its defaults.
        val: trajectories to judge each epoch by, predicted as a whole from their first state.
        seed: at least 0, of the pieces, their noise, and whatever the model draws.
        checkpoint: a file; None saves nothing.
        progress: whether a bar (without tqdm a line for each epoch) is shown.

    Raises:
        CheckpointError: the checkpoint is of another model, other trajectories, options or another seed.
        FloatingPointError: the loss is not finite; the checkpoint is that of the epoch before.
        TypeError: train, val or options are of another type.
        ValueError: a trajectory is shorter than a piece, val has another step or shape of states, or the model does not
            keep the shape of its input.

    Example:
        >>> from contractive_gnn.datasets.systems import pendulum, simulate
        >>> from contractive_gnn.dynamics import PerceptronEnergy, SeparableHamiltonian
        >>> from contractive_gnn.nn import Flow
        >>> field = SeparableHamiltonian(PerceptronEnergy(1, 8), PerceptronEnergy(1, 8))
        >>> model = Flow(field, num_steps=2, step=0.05, constrained=False, scheme="stormer-verlet")
        >>> train = simulate(pendulum(), count=4, step=0.1, num_steps=20)
        >>> quick = TrajectoryFitOptions(epochs=1, steps=10)
        >>> len(fit_trajectories(model, train, quick, progress=False).epochs)
        1
    """
    options = TrajectoryFitOptions() if options is None else options
    if not isinstance(options, TrajectoryFitOptions):
        raise TypeError(f"options must be TrajectoryFitOptions, got {options!r}")
    check_whole("seed", seed, least=0, below=2**63)
    check_flag("progress", progress)
    _check(train, val, options)
    loop = run(
        model,
        _task(model, train, val, options),
        options,
        seed=seed,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        progress=progress,
    )
    epochs = tuple(_epoch(record, options) for record in loop.records)
    return TrajectoryFitResult(epochs, loop.resumed)


def _check(train: Trajectories, val: Trajectories | None, options: TrajectoryFitOptions) -> None:
    for name, data in (("train", train), ("val", val)):
        if not isinstance(data, Trajectories) and not (name == "val" and data is None):
            raise TypeError(f"{name} must be Trajectories, as simulate gives, got {type(data).__name__}")
    longest = max(options.horizons)
    if longest > train.num_steps:
        raise ValueError(
            f"the loss reaches over {longest} steps, and a trajectory of {train.name} has {train.num_steps}: give "
            "longer trajectories, or shorter horizons"
        )
    if val is not None and (val.step != train.step or val.shape != train.shape):
        raise ValueError(
            f"train has states {list(train.shape)} every {train.step:g}, val {list(val.shape)} every {val.step:g}: a "
            "flow map is that of one step"
        )


def _task(
    model: nn.Module, train: Trajectories, val: Trajectories | None, options: TrajectoryFitOptions
) -> Task[Tensor]:
    device, dtype = place(model)
    pieces = {horizon: train.windows(horizon + 1).to(device, dtype) for horizon in set(options.horizons)}
    horizon = options.horizons[0]

    def begin(epoch: int) -> None:
        nonlocal horizon
        horizon = options.horizon(epoch)

    def batches(generator: torch.Generator) -> Iterator[Tensor]:
        own = pieces[horizon]
        for _ in range(options.steps):
            yield own[torch.randint(len(own), (options.batch_size,), generator=generator)]

    def objective(batch: Tensor) -> StepResult:
        start = batch[:, 0]
        if options.jitter:
            start = start + options.jitter * torch.randn_like(start)
        predicted = rollout(model, start, batch.size(1) - 1)
        return StepResult((predicted - batch)[:, 1:].square().mean(), len(batch))

    def judge(kept: nn.Module) -> Figures:
        return {"val_error": None if val is None else prediction_error(kept, val).mean}

    def probe(asked: nn.Module) -> Tensor:
        answers: Tensor = asked(train.states[:4, 0].to(device, dtype))
        return answers

    return Task(
        steps=options.steps,
        batches=batches,
        objective=objective,
        judge=judge,
        probe=probe,
        begin=begin,
        identity={"train": train.digest[:16], "val": "None" if val is None else val.digest[:16]},
    )


def _epoch(record: Figures, options: TrajectoryFitOptions) -> TrajectoryEpoch:
    figures = {name: value for name, value in record.items() if value is not None}
    return TrajectoryEpoch(
        epoch=int(figures["epoch"]),
        loss=figures["loss"],
        horizon=options.horizon(int(figures["epoch"]) - 1),
        val_error=figures.get("val_error"),
        seconds=figures["seconds"],
        cpu_seconds=figures["cpu_seconds"],
    )
