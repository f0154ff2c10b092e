"""Learning the flow map of a system from trajectories."""

from contractive_gnn.training.batches.checkpoint import CheckpointError
from contractive_gnn.training.rollout import rollout
from contractive_gnn.training.systems.fit import TrajectoryEpoch, TrajectoryFitResult, fit_trajectories
from contractive_gnn.training.systems.options import TrajectoryFitOptions
from contractive_gnn.training.systems.polish import PolishResult, polish_trajectories
from contractive_gnn.training.systems.prediction import PredictionError, prediction_error

__all__ = [
    "CheckpointError",
    "PolishResult",
    "PredictionError",
    "TrajectoryEpoch",
    "TrajectoryFitOptions",
    "TrajectoryFitResult",
    "fit_trajectories",
    "polish_trajectories",
    "prediction_error",
    "rollout",
]
