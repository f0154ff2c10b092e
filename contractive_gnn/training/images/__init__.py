"""Training on batches of images: classifiers with a certified radius, and denoisers."""

from contractive_gnn.training.batches.averaging import moving_average
from contractive_gnn.training.batches.checkpoint import CheckpointError
from contractive_gnn.training.images.augmentation import Augmentation
from contractive_gnn.training.images.denoising import (
    DenoiserEpoch,
    DenoiserFitOptions,
    fit_denoiser,
    mean_psnr,
)
from contractive_gnn.training.images.fit import ImageEpoch, ImageFitOptions, fit_images
from contractive_gnn.training.images.losses import CertifiedRadiusLoss, ImageLoss, MarginLoss, TemperatureCrossEntropy
from contractive_gnn.training.images.psnr import psnr
from contractive_gnn.training.images.radius import signed_radius
from contractive_gnn.training.images.result import ImageFitResult
from contractive_gnn.training.images.scoring import ImageAccuracy, image_accuracy, image_scores

__all__ = [
    "Augmentation",
    "CertifiedRadiusLoss",
    "CheckpointError",
    "DenoiserEpoch",
    "DenoiserFitOptions",
    "ImageAccuracy",
    "ImageEpoch",
    "ImageFitOptions",
    "ImageFitResult",
    "ImageLoss",
    "MarginLoss",
    "TemperatureCrossEntropy",
    "fit_denoiser",
    "fit_images",
    "image_accuracy",
    "image_scores",
    "mean_psnr",
    "moving_average",
    "psnr",
    "signed_radius",
]
