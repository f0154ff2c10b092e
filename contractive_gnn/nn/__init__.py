"""PyG layers and models."""

from contractive_gnn.nn.baselines import APPNP, GAT, GCN, MLP, WeightedGATConv
from contractive_gnn.nn.csgnn import CSGNN, CoupledConv
from contractive_gnn.nn.flow import FlowConv, FlowGNN, gradient_flow, linf_diffusion
from contractive_gnn.nn.models import MODELS, build
from contractive_gnn.nn.sparse import Linear

__all__ = [
    "APPNP",
    "CSGNN",
    "GAT",
    "GCN",
    "MLP",
    "MODELS",
    "CoupledConv",
    "FlowConv",
    "FlowGNN",
    "Linear",
    "WeightedGATConv",
    "build",
    "gradient_flow",
    "linf_diffusion",
]
