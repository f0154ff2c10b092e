"""Labelled images, photographs, and the published weights of a denoiser."""

from contractive_gnn.datasets.images.classification import ImageData, hold_out
from contractive_gnn.datasets.images.dncnn import dncnn_weights
from contractive_gnn.datasets.images.loading import IMAGES, load_images
from contractive_gnn.datasets.images.photographs import PHOTOGRAPHS, Photographs, load_photographs

__all__ = [
    "IMAGES",
    "PHOTOGRAPHS",
    "ImageData",
    "Photographs",
    "dncnn_weights",
    "hold_out",
    "load_images",
    "load_photographs",
]
