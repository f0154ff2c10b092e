"""PyG layers and models."""

import warnings

from contractive_gnn.nn import parametrizations
from contractive_gnn.nn.baselines import APPNP, GAT, GCN, MLP, WeightedGATConv
from contractive_gnn.nn.communities import seeded_communities
from contractive_gnn.nn.composition import Alternating, AlternatingConv
from contractive_gnn.nn.csgnn import CSGNN, CoupledConv
from contractive_gnn.nn.ensemble import Ensemble
from contractive_gnn.nn.flow import Flow, FlowConv, FlowGNN, gradient_flow, linf_diffusion
from contractive_gnn.nn.gnnguard import GNNGuard
from contractive_gnn.nn.implicit import Equilibrium, EquilibriumConv
from contractive_gnn.nn.mixture import MLPMixture
from contractive_gnn.nn.models import MODELS, build, flow_gnn, model_names, register
from contractive_gnn.nn.similarity import Similarity, SimilarityFlowGNN, SimilarityWeights, robust, robust_provable
from contractive_gnn.nn.smoothing import RUNG, ElasticConv, ElasticGNN, RUNGConv
from contractive_gnn.nn.sparse import Linear

__all__ = [
    "APPNP",
    "CSGNN",
    "GAT",
    "GCN",
    "MLP",
    "MODELS",
    "RUNG",
    "Alternating",
    "AlternatingConv",
    "CoupledConv",
    "ElasticConv",
    "ElasticGNN",
    "Ensemble",
    "Equilibrium",
    "EquilibriumConv",
    "Flow",
    "FlowConv",
    "FlowGNN",
    "GNNGuard",
    "Linear",
    "MLPMixture",
    "RUNGConv",
    "Similarity",
    "SimilarityFlowGNN",
    "SimilarityWeights",
    "WeightedGATConv",
    "build",
    "flow_gnn",
    "gradient_flow",
    "linf_diffusion",
    "model_names",
    "parametrizations",
    "register",
    "robust",
    "robust_provable",
    "seeded_communities",
]


def __getattr__(name: str) -> object:
    if name == "Hedged":
        warnings.warn("Hedged is called MLPMixture now; write MLPMixture", DeprecationWarning, stacklevel=2)
        return MLPMixture
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
