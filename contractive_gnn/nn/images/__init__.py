"""Models of images: classifiers and denoisers."""

from contractive_gnn.nn.images.denoiser import GradientFlowDenoiser
from contractive_gnn.nn.images.dncnn import DnCNN

__all__ = ["DnCNN", "GradientFlowDenoiser"]
