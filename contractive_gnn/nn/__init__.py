"""PyG layers and models."""

from contractive_gnn.nn import parametrizations
from contractive_gnn.nn.baselines import APPNP, GAT, GCN, MLP, WeightedGATConv
from contractive_gnn.nn.composition import AlternatingConv
from contractive_gnn.nn.csgnn import CSGNN, CoupledConv
from contractive_gnn.nn.flow import FlowConv, FlowGNN, gradient_flow, linf_diffusion
from contractive_gnn.nn.gnnguard import GNNGuard
from contractive_gnn.nn.implicit import EquilibriumConv
from contractive_gnn.nn.models import MODELS, build, flow_gnn, model_names
    "RUNGConv",
