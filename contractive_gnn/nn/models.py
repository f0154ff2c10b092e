"""The models by name, as the benchmark builds them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from contractive_gnn.nn.baselines import APPNP, GAT, GCN, MLP
from contractive_gnn.nn.csgnn import CSGNN
from contractive_gnn.nn.deeprobust import DEEPROBUST_MODELS
from contractive_gnn.nn.flow import gradient_flow, linf_diffusion

MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    "gcn": GCN,
    "gat": GAT,
    "appnp": APPNP,
    "csgnn": CSGNN,
    "csgnn-noadj": partial(CSGNN, adjacency="fixed"),
    "ecsgnn": partial(CSGNN, adjacency="unconstrained"),
    "csgnn-published": partial(
        CSGNN,
        num_layers=3,
        adjacency="published",
        alpha=-1.0,
        adjacency_step=None,
        sigma="tanh",
        threshold=None,
        condition="printed",
        placement="inside",
        normalization="none",
        mu=0.0,
        weight=True,
    ),
    "gradient-flow": gradient_flow,
    "linf-diffusion": linf_diffusion,
    **DEEPROBUST_MODELS,
}


def build(name: str, in_channels: int, out_channels: int, **hyperparameters: Any) -> nn.Module:
    """Build a registered model.

    Args:
        name: a key of :data:`MODELS`.
        in_channels: number of features.
        out_channels: number of classes.
        **hyperparameters: the model's own keyword arguments.

    Raises:
        ValueError: if the name is unknown.
        TypeError: if a hyperparameter is not one of the model's.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; expected one of {', '.join(MODELS)}")
    return MODELS[name](in_channels, out_channels, **hyperparameters)
