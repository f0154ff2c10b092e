"""Models of images: classifiers and denoisers."""

from contractive_gnn.nn.images.classifier import ImageClassifier
from contractive_gnn.nn.images.denoiser import GradientFlowDenoiser
from contractive_gnn.nn.images.dncnn import DnCNN
from contractive_gnn.nn.images.frozen import frozen
from contractive_gnn.nn.images.radius import pairwise_radius

__all__ = ["DnCNN", "GradientFlowDenoiser", "ImageClassifier", "frozen", "pairwise_radius"]
