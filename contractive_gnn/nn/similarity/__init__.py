"""The initial adjacency from the similarity of the nodes, and the model that starts from it."""

from contractive_gnn.nn.similarity.flow import SimilarityFlowGNN
from contractive_gnn.nn.similarity.models import robust, robust_provable
from contractive_gnn.nn.similarity.shared import sharing
from contractive_gnn.nn.similarity.transform import SimilarityWeights
from contractive_gnn.nn.similarity.weights import Similarity, Source

__all__ = [
    "Similarity",
    "SimilarityFlowGNN",
    "SimilarityWeights",
    "Source",
    "robust",
    "robust_provable",
    "sharing",
]
