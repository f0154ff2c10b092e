"""Training: fit a model on one graph, and ask it."""

from contractive_gnn.training.distributed import fit_distributed
from contractive_gnn.training.fitting import FitResult, check_options, fit
from contractive_gnn.training.lessons import check_classes, check_lesson
from contractive_gnn.training.maps import MapError, MapFit, MapFitOptions, fit_map, map_error
from contractive_gnn.training.minibatches import Batches, ClusterBatches, NeighbourBatches, fit_batches, induced
from contractive_gnn.training.options import FitOptions, LoopOptions
from contractive_gnn.training.prediction import answers, evaluate, predict
from contractive_gnn.training.split import trainable

__all__ = [
    "Batches",
    "ClusterBatches",
    "FitOptions",
    "FitResult",
    "LoopOptions",
    "MapError",
    "MapFit",
    "MapFitOptions",
    "NeighbourBatches",
    "answers",
    "check_classes",
    "check_lesson",
    "check_options",
    "evaluate",
    "fit",
    "fit_batches",
    "fit_distributed",
    "fit_map",
    "induced",
    "map_error",
    "predict",
    "trainable",
]
