"""What every training on batches takes, and what one on images takes beside it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import torch

from contractive_gnn.checks import check_flag, check_real, check_whole


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


@dataclass(frozen=True, kw_only=True)
class ImageLoopOptions(BatchLoopOptions):
    """Those of :class:`BatchLoopOptions`, and the arithmetic.

    Attributes:
        dtype: of the arithmetic of a step. ``"bfloat16"`` is torch's autocast: parameters, validation and constants
            stay as they are.
        channels_last: store images and kernels with the channels innermost.

    Raises:
        TypeError: one is of another type.
        ValueError: one is out of its range.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("channels_last", self.channels_last)
        check_choice("dtype", self.dtype, ("float32", "bfloat16"))

    @property
    def autocast(self) -> torch.dtype | None:
        """bfloat16, where it was chosen."""
        return torch.bfloat16 if self.dtype == "bfloat16" else None

    @property
    def memory_format(self) -> torch.memory_format | None:
        """Channels innermost, where it was chosen."""
        return torch.channels_last if self.channels_last else None


def check_choice(name: str, given: str, known: tuple[str, ...]) -> None:
    """Raise ValueError unless ``given`` is one of the known words."""
    if given not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {given!r}")
