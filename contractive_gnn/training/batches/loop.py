"""The loop of every training on batches: steps, average, judgement and checkpoint of each epoch."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel

from contractive_gnn.lines import append_line, open_alone
from contractive_gnn.seeding import seeded
from contractive_gnn.training.batches.averaging import moving_average
from contractive_gnn.training.batches.checkpoint import load_checkpoint, model_identity, save_checkpoint
from contractive_gnn.training.batches.options import BatchLoopOptions
from contractive_gnn.training.batches.progress import Progress
from contractive_gnn.training.batches.saved_model import SavedModel

Batch = TypeVar("Batch")
Figures = dict[str, float | None]


@dataclass(frozen=True)
class StepResult:
    """What the objective says of a batch.

    Attributes:
        loss: mean over the batch, a scalar with a gradient.
        items: how many samples there were.
        right: how many were answered rightly; None where there is no such thing.
    """

    loss: Tensor
    items: int
    right: Tensor | None = None


@dataclass(frozen=True)
class Task(Generic[Batch]):
    """What is learned.

    Attributes:
        steps: batches of an epoch.
        batches: those of an epoch, drawn by a generator on the CPU.
        objective: the loss of a batch, by the model that is trained.
        judge: figures of the model that would be kept now, in evaluation mode, without a gradient.
        probe: answers of the model in evaluation mode to a few fixed inputs.
        identity: of the data, as text: what a checkpoint must share.
        begin: called before each epoch with its number, from 0.
    """

    steps: int
    batches: Callable[[torch.Generator], Iterator[Batch]]
    objective: Callable[[Batch], StepResult]
    judge: Callable[[nn.Module], Figures]
    probe: Callable[[nn.Module], Tensor]
    identity: Mapping[str, str]
    begin: Callable[[int], None] | None = None


@dataclass(frozen=True)
class Run:
    """What the loop did.

    Attributes:
        records: figures of each epoch, those of earlier runs included.
        resumed: epochs that a checkpoint had.
    """

    records: list[Figures]
    resumed: int


def run(
    model: nn.Module,
    task: Task[Batch],
    options: BatchLoopOptions,
    *,
    seed: int,
    checkpoint: Path | None,
    progress: bool,
) -> Run:
    """Train a model from the weights that it has, and leave it in evaluation mode with those of the last epoch.

    Those are the averaged ones where ``options.ema`` is given. With a checkpoint the state is saved after each epoch,
    and a later call goes on from there, to the same weights bit for bit as one call (with the same number of threads).

    Raises:
        CheckpointError: the checkpoint belongs to another training.
        FloatingPointError: a loss, a weight or an answer is not finite; the checkpoint is that of the epoch before.
        ResultsError: another run trains with this checkpoint, or its record cannot be written.
        ValueError: there is nothing to train.
    """
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not learning:
        raise ValueError(f"{type(model).__name__} has no parameter that learns: use it as it is, without training")
    with (
        contextlib.nullcontext() if checkpoint is None else open_alone(_record(checkpoint)) as record,
        seeded(seed),
        _threads(options.threads),
        torch.enable_grad(),
    ):
        identity = {**options.identity(), **task.identity, "seed": str(seed), "model": model_identity(model)}
        saved = None if checkpoint is None else load_checkpoint(checkpoint, identity=identity)
        if options.memory_format is not None:
            model.to(memory_format=options.memory_format)
        kept = SavedModel(model, task.probe)
        state = _State(model, list(learning.values()), options, steps=options.epochs * task.steps, seed=seed)
        records: list[Figures] = []
        if saved is not None:
            kept.restore(saved["model"], checkpoint)
            state.restore(saved)
            records = saved["records"]
        resumed = len(records)
        if record is not None:
            record.truncate(0)
            _append(record, records)
        shown = Progress(shown=progress, steps=options.epochs * task.steps, done=resumed * task.steps)
        try:
            for epoch in range(resumed, options.epochs):
                figures, answers = _epoch(model, task, options, state, kept, shown, epoch)
                records.append(figures)
                shown.epoch(figures)
                if checkpoint is not None and record is not None:
                    now = {**state.saved(), "model": kept.saved(answers), "records": records}
                    save_checkpoint(checkpoint, now, identity=identity)
                    _append(record, [figures])
        finally:
            shown.close()
        state.keep()
    model.eval()
    return Run(records, resumed)


class _State:
    """All that changes while a model is trained, beside the model."""

    def __init__(
        self, model: nn.Module, learning: list[nn.Parameter], options: BatchLoopOptions, *, steps: int, seed: int
    ) -> None:
        self.model = model
        self.optimiser = _optimiser(learning, options)
        self.schedule: LRScheduler
        if options.schedule == "one-cycle":
            # torch divides by the length of the rise less one step, which must not be 0: then it is almost that
            rise = options.warmup if options.warmup * steps != 1 else (1 + 1e-9) / steps
            self.schedule = OneCycleLR(
                self.optimiser, options.max_lr, total_steps=steps, pct_start=rise, cycle_momentum=False
            )
        else:
            self.schedule = LambdaLR(self.optimiser, _constant)
        self.average: AveragedModel | None = None if options.ema is None else moving_average(model, options.ema)
        self.generator = torch.Generator().manual_seed(seed)
        self.cuda = next(model.parameters()).is_cuda

    @property
    def kept(self) -> nn.Module:
        """The model that would be kept now."""
        return self.model if self.average is None else self.average.module

    def advance(self, loss: Tensor) -> None:
        """A step of the optimiser."""
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def saved(self) -> dict[str, Any]:
        """For :func:`save_checkpoint`."""
        return {
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if self.cuda else [],
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go back to what :meth:`saved` gave."""
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.schedule.load_state_dict(saved["schedule"])
        self.generator.set_state(saved["generator"])
        torch.set_rng_state(saved["torch"])
        if self.cuda and saved["cuda"]:
            torch.cuda.set_rng_state_all(saved["cuda"])

    def keep(self) -> None:
        """Give the model the weights that are kept."""
        if self.average is not None:
            self.model.load_state_dict(self.average.module.state_dict())


def _epoch(
    model: nn.Module,
    task: Task[Batch],
    options: BatchLoopOptions,
    state: _State,
    saved: SavedModel,
    shown: Progress,
    epoch: int,
) -> tuple[Figures, Tensor]:
    """Train for an epoch, and judge what it came to: the figures, and the model's answers to the probe."""
    wall, cpu = time.perf_counter(), time.process_time()
    model.train()
    if task.begin is not None:
        task.begin(epoch)
    device = next(model.parameters()).device.type
    total, right, items = 0.0, 0.0, 0
    counts = False
    for batch in task.batches(state.generator):
        with (
            parametrize.cached(),
            torch.autocast(device, dtype=options.autocast or torch.bfloat16, enabled=options.autocast is not None),
        ):
            step = task.objective(batch)
        loss = float(step.loss.detach())
        if not math.isfinite(loss):
            raise _not_finite(f"the training loss is {loss} in epoch {epoch + 1}")
        state.advance(step.loss)
        total, items = total + loss * step.items, items + step.items
        if step.right is not None:
            right, counts = right + float(step.right), True
        shown.step()
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    answers = saved.answers()
    if not all(bool(value.isfinite().all()) for value in (answers, *model.parameters())):
        raise _not_finite(f"the weights or the answers of the model are not finite after epoch {epoch + 1}")
    kept = state.kept
    kept.eval()
    with torch.no_grad(), parametrize.cached():
        judged = task.judge(kept)
    figures = {
        "epoch": epoch + 1,
        "loss": total / items,
        **({"train_accuracy": 100.0 * right / items} if counts else {}),
        **judged,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "judge_seconds": time.perf_counter() - wall - seconds,
    }
    return figures, answers


def _not_finite(what: str) -> FloatingPointError:
    return FloatingPointError(
        f"{what}; lower max_lr, or lengthen the warm-up. A checkpoint is that of the epoch before"
    )


def _optimiser(learning: list[nn.Parameter], options: BatchLoopOptions) -> torch.optim.Optimizer:
    lr, decay = options.max_lr, options.weight_decay
    if options.optimiser == "sgd":
        return torch.optim.SGD(learning, lr=lr, momentum=0.9, nesterov=True, weight_decay=decay)
    kind = torch.optim.Adam if options.optimiser == "adam" else torch.optim.AdamW
    return kind(learning, lr=lr, weight_decay=decay)


def _constant(step: int) -> float:
    return 1.0


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


def _record(checkpoint: Path) -> Path:
    """The records beside the checkpoint, one object a line."""
    return checkpoint.with_name(f"{checkpoint.name}.jsonl")


def _append(record: FileIO, records: list[Figures]) -> None:
    if records:
        append_line(record, "".join(json.dumps(figures) + "\n" for figures in records))
