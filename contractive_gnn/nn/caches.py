"""PyG's layers with ``cached=True``, which keep the first graph they see and read no other one.

What is kept is read even where ``cached`` was set to False afterwards: a layer that holds a graph is one of them,
whatever it says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch_geometric.nn import MessagePassing


def cached_layers(model: nn.Module) -> dict[str, Any]:
    """The layers of a model that keep a graph, by their names in it."""
    return {name: layer for name, layer in model.named_modules() if _keeps(layer)}


def _keeps(layer: nn.Module) -> bool:
    if not isinstance(layer, MessagePassing):
        return False
    return bool(getattr(layer, "cached", False)) or any(getattr(layer, name) is not None for name in _kept(layer))


def forget_graph(model: nn.Module) -> None:
    """Empty what the layers of a model keep, for another graph."""
    for layer in cached_layers(model).values():
        for name in _kept(layer):
            setattr(layer, name, None)


@contextlib.contextmanager
def reading_anew(model: nn.Module) -> Iterator[None]:
    """Inside the block every layer reads the graph that it is given; what it keeps is put back afterwards."""
    before = [
        (layer, layer.cached, {name: getattr(layer, name) for name in _kept(layer)})
        for layer in cached_layers(model).values()
    ]
    for layer, _, kept in before:
        layer.cached = False
        for name in kept:
            setattr(layer, name, None)
    try:
        yield
    finally:
        for layer, cached, kept in before:
            layer.cached = cached
            for name, value in kept.items():
                setattr(layer, name, value)


def _kept(layer: Any) -> list[str]:
    """The attributes in which PyG keeps a graph or features spread over it: ``_cached_edge_index``, ``_cached_x``."""
    return [name for name in vars(layer) if name.startswith("_cached_")]
