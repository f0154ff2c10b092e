"""DeepRobust's defences as PyG models: train on one graph, predict on that one or another.

All of them need the extra ``contractive-gnn[attacks]``, which has DeepRobust.
"""

from contractive_gnn.nn.deeprobust.adapter import DeepRobustModel, EdgeWeightGradient
from contractive_gnn.nn.deeprobust.adjacency import normalised_adjacency
from contractive_gnn.nn.deeprobust.jaccard import GCNJaccard
from contractive_gnn.nn.deeprobust.median import MedianGCN
from contractive_gnn.nn.deeprobust.models import DEEPROBUST_MODELS
from contractive_gnn.nn.deeprobust.prognn import ProGNN, TransductiveModelError
from contractive_gnn.nn.deeprobust.rgcn import RGCN
from contractive_gnn.nn.deeprobust.similarities import cosine_similarities, extreme_pairs, nearest_neighbours
from contractive_gnn.nn.deeprobust.simp import SimPGCN
from contractive_gnn.nn.deeprobust.svd import GCNSVD

__all__ = [
    "DEEPROBUST_MODELS",
    "GCNSVD",
    "RGCN",
    "DeepRobustModel",
    "EdgeWeightGradient",
    "GCNJaccard",
    "MedianGCN",
    "ProGNN",
    "SimPGCN",
    "TransductiveModelError",
    "cosine_similarities",
    "extreme_pairs",
    "nearest_neighbours",
    "normalised_adjacency",
]
