"""What a training on trajectories takes."""

from __future__ import annotations

from dataclasses import dataclass

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.training.batches.options import BatchLoopOptions


@dataclass(frozen=True, kw_only=True)
class TrajectoryFitOptions(BatchLoopOptions):
    """The options of :func:`fit_trajectories`: those of :class:`BatchLoopOptions`, and three more.

    Attributes:
        steps: of an epoch, at least 1: an epoch is what lies between two validations, and two checkpoints.
        horizons: over how many steps of the model the loss reaches, each at least 1. Several share the epochs in this
            order, equally: ``(3, 4, 5)`` begins with short pieces.
        jitter: standard deviation of the noise that is added to the state from which the model starts, at least 0: it
            learns to come back to the data (noise injection).
    """

    epochs: int = 20
    batch_size: int = 128
    max_lr: float = 5e-3
    ema: float | None = None
    steps: int = 250
    horizons: tuple[int, ...] = (5,)
    jitter: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("steps", self.steps, least=1)
        check_real("jitter", self.jitter, least=0)
        if not isinstance(self.horizons, tuple) or not self.horizons:
            raise TypeError(f"horizons must be a tuple of whole numbers, got {self.horizons!r}")
        for horizon in self.horizons:
            check_whole("horizons", horizon, least=1)
        if len(self.horizons) > self.epochs:
            raise ValueError(
                f"{len(self.horizons)} horizons are to share {self.epochs} epochs: give at least an epoch to each"
            )

    def horizon(self, epoch: int) -> int:
        """That of an epoch, from 0."""
        return self.horizons[epoch * len(self.horizons) // self.epochs]
