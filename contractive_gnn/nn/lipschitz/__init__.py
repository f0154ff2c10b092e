"""Layers with a known Lipschitz constant in ℓ2, behind one interface."""

from contractive_gnn.nn.lipschitz.base import (
    NONEXPANSIVE,
    LipschitzModule,
    Sequential,
    certified,
    lipschitz,
    rounded_lipschitz,
    why_unknown,
)
from contractive_gnn.nn.lipschitz.channels import ChannelProjection, Lift
from contractive_gnn.nn.lipschitz.combination import ConvexCombination
from contractive_gnn.nn.lipschitz.group_sort import FullSort, GroupSort, MaxMin
from contractive_gnn.nn.lipschitz.orthogonal import OrthogonalLinear
from contractive_gnn.nn.lipschitz.orthogonal_convolution import OrthogonalConv2d
from contractive_gnn.nn.lipschitz.pooling import (
    AvgPool2d,
    GlobalAvgPool2d,
    GlobalL2NormPool2d,
    GlobalMaxPool2d,
    L2NormPool2d,
    MaxPool2d,
)
from contractive_gnn.nn.lipschitz.rearrangement import DepthToSpace, SpaceToDepth
from contractive_gnn.nn.lipschitz.spectral import SpectralConv2d, SpectralLinear
from contractive_gnn.nn.lipschitz.standardise import Standardise

__all__ = [
    "NONEXPANSIVE",
    "AvgPool2d",
    "ChannelProjection",
    "ConvexCombination",
    "DepthToSpace",
    "FullSort",
    "GlobalAvgPool2d",
    "GlobalL2NormPool2d",
    "GlobalMaxPool2d",
    "GroupSort",
    "L2NormPool2d",
    "Lift",
    "LipschitzModule",
    "MaxMin",
    "MaxPool2d",
    "OrthogonalConv2d",
    "OrthogonalLinear",
    "Sequential",
    "SpaceToDepth",
    "SpectralConv2d",
    "SpectralLinear",
    "Standardise",
    "certified",
    "lipschitz",
    "rounded_lipschitz",
    "why_unknown",
]
