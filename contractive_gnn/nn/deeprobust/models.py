"""The defences by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from contractive_gnn.nn.deeprobust.adapter import DeepRobustModel
from contractive_gnn.nn.deeprobust.jaccard import GCNJaccard
from contractive_gnn.nn.deeprobust.median import MedianGCN
from contractive_gnn.nn.deeprobust.prognn import ProGNN
from contractive_gnn.nn.deeprobust.rgcn import RGCN
from contractive_gnn.nn.deeprobust.simp import SimPGCN
from contractive_gnn.nn.deeprobust.svd import GCNSVD

#: DeepRobust's defences by name
DEEPROBUST_MODELS: Final[dict[str, Callable[..., DeepRobustModel]]] = {
    "rgcn": RGCN,
    "gcn-jaccard": GCNJaccard,
    "gcn-svd": GCNSVD,
    "median-gcn": MedianGCN,
    "simp-gcn": SimPGCN,
    "pro-gnn": ProGNN,
}
