"""Certificates: how many edges and features anyone may flip, at every node at once, without changing a prediction."""

from contractive_gnn.certificates.batches import BatchCertificate, certify_batch
from contractive_gnn.certificates.bounds import Box, Neighbourhoods, diffusion_bounds, worst_step
from contractive_gnn.certificates.budget import FeatureBudget, FlipBudget
from contractive_gnn.certificates.certificate import Certificate, certify, radii
from contractive_gnn.certificates.curve import Curve, certified_accuracy, picture, table
from contractive_gnn.certificates.lipschitz import lipschitz_radius
from contractive_gnn.certificates.smoothed import SmoothedCertificate, certify_smoothed
from contractive_gnn.certificates.smoothing import SparseNoise

__all__ = [
    "BatchCertificate",
    "Box",
    "Certificate",
    "Curve",
    "FeatureBudget",
    "FlipBudget",
    "Neighbourhoods",
    "SmoothedCertificate",
    "SparseNoise",
    "certified_accuracy",
    "certify",
    "certify_batch",
    "certify_smoothed",
    "diffusion_bounds",
    "lipschitz_radius",
    "picture",
    "radii",
    "table",
    "worst_step",
]
