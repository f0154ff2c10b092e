"""The models by name, as the benchmark builds them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from torch import nn

from contractive_gnn.dynamics import Dynamics, registry
from contractive_gnn.nn.baselines import APPNP, GAT, GCN, MLP
from contractive_gnn.nn.csgnn import CSGNN
from contractive_gnn.nn.deeprobust import DEEPROBUST_MODELS
from contractive_gnn.nn.flow import FlowConv, FlowGNN, gradient_flow, linf_diffusion
    "rung": RUNG,
    "elastic-gnn": ElasticGNN,
    "gnnguard": GNNGuard,
