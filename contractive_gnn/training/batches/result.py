"""What a training on batches did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class TimedEpoch(Protocol):
    """An epoch that says how long its steps took."""

    @property
    def seconds(self) -> float:
        """Wall time."""

    @property
    def cpu_seconds(self) -> float:
        """Of all threads of this process."""


Epoch = TypeVar("Epoch", bound=TimedEpoch, covariant=True)


@dataclass(frozen=True)
class BatchFitResult(Generic[Epoch]):
    """The epochs of a training.

    Attributes:
        epochs: each one, those of earlier runs included.
        resumed: how many of them a checkpoint had.
    """

    epochs: tuple[Epoch, ...]
    resumed: int

    @property
    def seconds(self) -> float:
        """Wall time of all steps, in seconds, without the validation."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def cpu_seconds(self) -> float:
        """Of all threads, likewise."""
        return sum(epoch.cpu_seconds for epoch in self.epochs)
