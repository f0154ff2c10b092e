"""Train a network on solutions of a partial differential equation, by several steps at a time."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_flag, check_real, check_whole
from contractive_gnn.datasets.pdes import PixelData
from contractive_gnn.lines import replacing
from contractive_gnn.training.batches.checkpoint import load_checkpoint, model_identity, save_checkpoint
from contractive_gnn.training.batches.options import check_choice
from contractive_gnn.training.batches.progress import Progress
from contractive_gnn.training.batches.saved_model import SavedModel
from contractive_gnn.training.lbfgs import descend
from contractive_gnn.training.least_squares import Damped, LeastSquares
from contractive_gnn.training.pdes.prediction import check_sizes, relative_errors
from contractive_gnn.training.rollout import rollout

#: λ of Levenberg's and Marquardt's method at the beginning of a stage
DAMPING = 1e-2


@dataclass(frozen=True, kw_only=True)
class PixelFitOptions:
    """The options of :func:`fit_pixels`.

    Attributes:
        horizons: how many steps the loss looks ahead, one stage of the training after the other; at least 1 each.
        rounds: of each stage, at least 1: a round is what lies between two records, and two checkpoints. L-BFGS starts
            anew in each.
        iterations: of the method in a round, at least 1.
        noise: ε ≥ 0: uniform noise from ``[−ε, ε]`` is added to each start, drawn anew for each stage, so that the
            network learns to come back to solutions that it has left.
        loss: ``"relative"``, the mean over solutions and steps of ``‖Φⁿ(u⁰) − uⁿ‖²/‖uⁿ‖²``, in which a solution that
            has decayed counts as much as one that has not; ``"mse"``, the mean square.
        method: ``"lbfgs"``, or ``"levenberg-marquardt"``, which asks for the Jacobian of all pixels and goes deepest:
            for networks of up to some hundred weights.

    Raises:
        TypeError: one is of another type.
        ValueError: one is out of its range.
    """

    horizons: tuple[int, ...] = (3, 4, 5)
    rounds: int = 10
    iterations: int = 50
    noise: float = 0.0
    loss: Literal["relative", "mse"] = "relative"
    method: Literal["lbfgs", "levenberg-marquardt"] = "lbfgs"

    def __post_init__(self) -> None:
        if not isinstance(self.horizons, tuple) or not self.horizons:
            raise TypeError(f"horizons must be a tuple of whole numbers, got {self.horizons!r}")
        for horizon in self.horizons:
            check_whole("horizons", horizon, least=1)
        for name in ("rounds", "iterations"):
            check_whole(name, getattr(self, name), least=1)
        check_real("noise", self.noise, least=0)
        check_choice("loss", self.loss, ("relative", "mse"))
        check_choice("method", self.method, ("lbfgs", "levenberg-marquardt"))


@dataclass(frozen=True)
class PixelRound:
    """A round of a training.

    Attributes:
        round: from 1, over all stages.
        horizon: of the stage.
        loss: at its end, of the training data with their noise.
        val_error: mean relative error of the last step of the validation data; None without any.
        evaluations: of the loss, in all rounds until now.
        seconds: wall time of the round, without the validation.
        cpu_seconds: of all threads of this process, likewise.
    """

    round: int
    horizon: int
    loss: float
    val_error: float | None
    evaluations: int
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class PixelFitResult:
    """What :func:`fit_pixels` did.

    Attributes:
        rounds: each one, those of earlier runs included.
        resumed: how many of them a checkpoint had.
    """

    rounds: tuple[PixelRound, ...]
    resumed: int

    @property
    def seconds(self) -> float:
        """Wall time of all rounds."""
        return sum(one.seconds for one in self.rounds)

    @property
    def cpu_seconds(self) -> float:
        """Of all threads, of all rounds."""
        return sum(one.cpu_seconds for one in self.rounds)


def fit_pixels(
    model: nn.Module,
    train: PixelData,
    options: PixelFitOptions | None = None,
    *,
    val: PixelData | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> PixelFitResult:
    r"""Train Φ to take a solution from one time to the next, from the weights that it has.

    The loss compares ``Φ(u⁰), Φ²(u⁰), …, Φ^M(u⁰)`` with the solution, for each horizon M in turn (Celledoni, Jackaman,
    Murari, Owren 2023, who train with Adam). A network of some hundred weights is trained here on all of the data at
    once, and nothing is drawn but the noise: by L-BFGS with a strong Wolfe search (Nocedal and Wright, *Numerical
    Optimization*, chapter 7), or by Levenberg's and Marquardt's method
    (:class:`~contractive_gnn.training.least_squares.LeastSquares`). Take float64: with rounding of 1e-7 both end early.

    The weights after a round are the best that the method has seen in it. With a checkpoint the state is saved after
    each round, and a later call goes on from there to the same weights.

    Args:
        model: Φ, such as ``Flow(untrained_network((100, 100)), num_steps=3, step=train.step / 3, constrained=False)``.
        train: solutions with as many steps as the largest horizon, or more, which are not looked at.
        options: see :class:`PixelFitOptions`; None for its defaults.
        val: solutions to judge each round by.
        seed: at least 0, of the noise.
        checkpoint: a file; None saves nothing. A line for each round is written beside it, ``.jsonl``.
        progress: whether a bar (without tqdm a line for each round) is shown.

    Raises:
        CheckpointError: the checkpoint is of another model, other data, options or another seed.
        FloatingPointError: the loss is not finite at the start of a stage.
        TypeError: train, val or options are of another type, or model and data of different precision.
        ValueError: there are fewer steps than a horizon, or nothing to train; a solution is 0 after a step, of which
            there is no relative loss or error; val has another step; or solutions are too large, or the model is not
            one, for the Jacobian.
    """
    options = PixelFitOptions() if options is None else options
    if not isinstance(options, PixelFitOptions):
        raise TypeError(f"options must be PixelFitOptions, got {options!r}")
    check_whole("seed", seed, least=0, below=2**63)
    check_flag("progress", progress)
    _check_data(model, train, val, options)
    identity = {
        **{field.name: repr(getattr(options, field.name)) for field in fields(options)},
        "train": _named(train),
        "val": "None" if val is None else _named(val),
        "seed": str(seed),
        "model": model_identity(model),
    }
    path = None if checkpoint is None else Path(checkpoint)
    saved = None if path is None else load_checkpoint(path, identity=identity)
    device = next(model.parameters()).device
    kept = SavedModel(model, lambda asked: asked(train.states[:4, 0].to(device)))
    records: list[PixelRound] = []
    damping = DAMPING
    if saved is not None:
        kept.restore(saved["model"], path)
        records = [PixelRound(**record) for record in saved["records"]]
        damping = saved["damping"]
    resumed = len(records)
    shown = Progress(shown=progress, steps=len(options.horizons) * options.rounds, done=resumed)
    model.train()
    try:
        for stage, horizon in enumerate(options.horizons):
            left = options.rounds * (stage + 1) - len(records)
            if left <= 0:
                continue
            goal = _Goal(model, train, options, horizon, seed=seed + stage)
            if left < options.rounds:  # an earlier run has begun with the stage
                goal.damping = damping
            for _ in range(left):
                record = _round(model, goal, options, records, val)
                records.append(record)
                shown.step()
                shown.epoch({"loss": record.loss, "val_error": record.val_error})
                if path is not None:
                    _save(path, kept, records, goal.damping, identity)
    finally:
        shown.close()
    model.eval()
    return PixelFitResult(tuple(records), resumed)


class _Goal:
    """The loss of one stage, whose noise is drawn once."""

    def __init__(
        self, model: nn.Module, train: PixelData, options: PixelFitOptions, horizon: int, *, seed: int
    ) -> None:
        self.model, self.horizon = model, horizon
        states = train.states[:, : horizon + 1]
        device = next(model.parameters()).device
        generator = torch.Generator().manual_seed(seed)
        noise = options.noise * (2 * torch.rand(states[:, 0].shape, generator=generator, dtype=torch.float64) - 1)
        self.start = (states[:, 0] + noise.to(states.dtype)).to(device)
        self.targets = states[:, 1:].to(device)
        weights = torch.ones(states.shape[0], horizon, dtype=states.dtype)
        if options.loss == "relative":
            weights = 1.0 / _mean_squares(states)
        self.weights = weights.to(device)
        self.evaluations = 0
        self.squares: LeastSquares | None = None
        self.damping = DAMPING
        self.loss = self.value()
        if not math.isfinite(self.loss):
            raise FloatingPointError(
                f"the loss is {self.loss} with a horizon of {horizon} steps: the network blows up from where it "
                "starts; take a shorter horizon first, a shorter step, or smaller weights"
            )

    def __call__(self) -> Tensor:
        self.evaluations += 1
        predicted = rollout(self.model, self.start, self.horizon)[:, 1:]
        squares = (predicted - self.targets).flatten(2).square().mean(dim=2)
        return (self.weights * squares).mean()

    @torch.no_grad()
    def value(self) -> float:
        """The loss, without a gradient."""
        return float(self())

    def by_gradients(self, iterations: int) -> None:
        """So many iterations of L-BFGS."""
        # A new one each time: a ReLU's kinks can leave it with pairs that point nowhere, and there it would stay.
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        descend(self, learning, iterations=iterations, history=iterations)

    def by_least_squares(self, iterations: int) -> None:
        """So many iterations of Levenberg's and Marquardt's method."""
        if self.squares is None:
            pieces = torch.cat([self.start.unsqueeze(1), self.targets], dim=1)
            self.squares = LeastSquares(self.model, pieces, self.weights)
        state = self.squares.descend(Damped(self.loss, self.damping, 0), iterations=iterations)
        self.evaluations += state.evaluations
        self.damping = state.damping

    def improve(self, method: str, iterations: int) -> None:
        """So many iterations of a method, after which the loss is at most what it was."""
        if method == "lbfgs":
            self.by_gradients(iterations)
        else:
            self.by_least_squares(iterations)
        self.loss = self.value()


def _round(
    model: nn.Module, goal: _Goal, options: PixelFitOptions, records: list[PixelRound], val: PixelData | None
) -> PixelRound:
    wall, cpu = time.perf_counter(), time.process_time()
    before = goal.evaluations
    goal.improve(options.method, options.iterations)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    error: float | None = None
    if val is not None:
        device = next(model.parameters()).device
        error = float(
            relative_errors(model, PixelData(val.states.to(device), val.step, val.spacing, val.name))[:, -1].mean()
        )
    done = records[-1].evaluations if records else 0
    return PixelRound(
        len(records) + 1, goal.horizon, goal.loss, error, done + goal.evaluations - before, seconds, cpu_seconds
    )


def _mean_squares(states: Tensor) -> Tensor:
    """Of each solution after each step, ``[solutions, steps]``."""
    return states[:, 1:].flatten(2).square().mean(dim=2)


def _named(data: PixelData) -> str:
    return f"{data.name} {data.digest[:16]}"


def _save(path: Path, kept: SavedModel, records: list[PixelRound], damping: float, identity: dict[str, str]) -> None:
    lines = [asdict(record) for record in records]
    state = {"model": kept.saved(kept.answers()), "records": lines, "damping": damping}
    save_checkpoint(path, state, identity=identity)
    with replacing(path.with_suffix(".jsonl")) as partial:
        partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _check_data(model: nn.Module, train: PixelData, val: PixelData | None, options: PixelFitOptions) -> None:
    for name, data in (("train", train), ("val", val)):
        if not isinstance(data, PixelData) and not (name == "val" and data is None):
            raise TypeError(f"{name} must be PixelData, as load_pde gives, got {type(data).__name__}")
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not learning:
        raise ValueError(f"{type(model).__name__} has no parameter that learns: use it as it is, without training")
    for name, data in (("train", train), ("val", val)):
        if data is not None and data.states.dtype != learning[0].dtype:
            raise TypeError(
                f"the model has parameters of {learning[0].dtype} and {name} states of {data.states.dtype}: convert "
                "one of them, model.double() or data.to(torch.float64)"
            )
    if train.steps < max(options.horizons):
        raise ValueError(
            f"{train.name} has {train.steps} steps, fewer than the horizon of {max(options.horizons)}; make longer "
            "solutions, or give shorter horizons"
        )
    if options.loss == "relative":
        squares = _mean_squares(train.states[:, : max(options.horizons) + 1])
        if bool((wrong := ~torch.isfinite(1.0 / squares) | torch.isinf(squares)).any()):
            which, step = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"solution {which} of {train.name} has a mean square of {float(squares[which, step]):g} after step "
                f"{step + 1}, by which loss='relative' cannot divide; take loss='mse', or leave the solution out"
            )
    if val is not None:
        if val.step != train.step:
            raise ValueError(f"train has a state every {train.step:g}, val every {val.step:g}: give both the same step")
        check_sizes(val)
