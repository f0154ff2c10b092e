"""What every training on batches takes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import torch

from contractive_gnn.checks import check_real, check_whole


@dataclass(frozen=True, kw_only=True)
class BatchLoopOptions:
    """Optimiser, schedule and average; see the subclasses.

    Attributes:
        epochs: how many, at least 1. The last one is kept: nothing is selected.
        batch_size: samples of a step, at least 1.
        optimiser: ``"adam"`` (weight decay in the gradient), ``"adamw"`` (decoupled), or ``"sgd"`` (Nesterov momentum
            of 0.9).
        max_lr: largest learning rate, positive.
        weight_decay: at least 0.
        schedule: ``"one-cycle"`` rises from max_lr/25 to max_lr and falls to almost 0, by cosines (Smith and Topin
            2017); ``"constant"`` stays at max_lr.
        warmup: the share of the steps in which one-cycle rises, in (0, 1).
        ema: decay of the moving average of the weights, in [0, 1), which is then what is validated and kept; None for
            no average.
        threads: of torch during the training; None leaves them.

    Raises:
        TypeError: one is of another type.
        ValueError: one is out of its range.
    """

    epochs: int = 30
    batch_size: int = 128
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    max_lr: float = 3e-3
    weight_decay: float = 0.0
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    warmup: float = 0.2
    ema: float | None = 0.999
    threads: int | None = None

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs, least=1)
        check_whole("batch_size", self.batch_size, least=1)
        check_real("max_lr", self.max_lr, above=0)
        check_real("weight_decay", self.weight_decay, least=0)
        check_real("warmup", self.warmup, above=0, below=1)
        if self.ema is not None:
            check_real("ema", self.ema, least=0, below=1)
        if self.threads is not None:
            check_whole("threads", self.threads, least=1)
        check_choice("optimiser", self.optimiser, ("adam", "adamw", "sgd"))
        check_choice("schedule", self.schedule, ("one-cycle", "constant"))

    @property
    def autocast(self) -> torch.dtype | None:
        """The reduced precision of a step; None for that of the parameters."""
        return None

    @property
    def memory_format(self) -> torch.memory_format | None:
        """How the parameters are stored; None for as they are."""
        return None

    def identity(self) -> dict[str, str]:
        """Each option by its name, as text; not the threads, on which only the rounding depends."""
        return {field.name: repr(getattr(self, field.name)) for field in fields(self) if field.name != "threads"}


def check_choice(name: str, given: str, known: tuple[str, ...]) -> None:
    """Raise ValueError unless ``given`` is one of the known words."""
    if given not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {given!r}")
