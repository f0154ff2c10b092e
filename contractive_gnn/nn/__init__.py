"""PyG layers and models."""

from contractive_gnn.deprecated import aliases
from contractive_gnn.nn import parametrizations
from contractive_gnn.nn.baselines import (
    APPNPClassifier,
    GATClassifier,
    GCNClassifier,
    MLPClassifier,
    WeightedGATConv,
)
from contractive_gnn.nn.communities import seeded_communities
from contractive_gnn.nn.composition import Alternating, AlternatingConv
from contractive_gnn.nn.conservative import ConservativeConv, ConservativeGNN, mass_diffusion, volume_coupling, wave
from contractive_gnn.nn.csgnn import CSGNN, CoupledConv
from contractive_gnn.nn.ensemble import Ensemble
from contractive_gnn.nn.flow import Flow, FlowConv, FlowGNN, gradient_flow, linf_diffusion
from contractive_gnn.nn.gnnguard import GNNGuard
from contractive_gnn.nn.implicit import Equilibrium, EquilibriumConv
from contractive_gnn.nn.mixture import MLPMixture
from contractive_gnn.nn.models import MODELS, build, flow_gnn, model_names, register
from contractive_gnn.nn.presnov import GradientStep, PresnovNet, SphereStep
from contractive_gnn.nn.similarity import Similarity, SimilarityFlowGNN, SimilarityWeights, robust, robust_provable
from contractive_gnn.nn.smoothing import RUNG, ElasticConv, ElasticGNN, RUNGConv
from contractive_gnn.nn.sparse import Linear

__all__ = [
    "CSGNN",
    "MODELS",
    "RUNG",
    "APPNPClassifier",
    "Alternating",
    "AlternatingConv",
    "ConservativeConv",
    "ConservativeGNN",
    "CoupledConv",
    "ElasticConv",
    "ElasticGNN",
    "Ensemble",
    "Equilibrium",
    "EquilibriumConv",
    "Flow",
    "FlowConv",
    "FlowGNN",
    "GATClassifier",
    "GCNClassifier",
    "GNNGuard",
    "GradientStep",
    "Linear",
    "MLPClassifier",
    "MLPMixture",
    "PresnovNet",
    "RUNGConv",
    "Similarity",
    "SimilarityFlowGNN",
    "SimilarityWeights",
    "SphereStep",
    "WeightedGATConv",
    "build",
    "flow_gnn",
    "gradient_flow",
    "linf_diffusion",
    "mass_diffusion",
    "model_names",
    "parametrizations",
    "register",
    "robust",
    "robust_provable",
    "seeded_communities",
    "volume_coupling",
    "wave",
]

__getattr__ = aliases(
    __name__,
    {
        "Hedged": f"{__name__}:MLPMixture",
        **{old: f"{__name__}:{old}Classifier" for old in ("APPNP", "GAT", "GCN", "MLP")},
    },
)
