"""Training on solutions of partial differential equations, and what a trained network predicts."""

from contractive_gnn.training.pdes.fit import PixelFitOptions, PixelFitResult, PixelRound, fit_pixels
from contractive_gnn.training.pdes.prediction import relative_errors
from contractive_gnn.training.rollout import rollout

__all__ = ["PixelFitOptions", "PixelFitResult", "PixelRound", "fit_pixels", "relative_errors", "rollout"]
