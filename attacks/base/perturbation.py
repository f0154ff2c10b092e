"""What an attack proposes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


def _no_flips() -> Tensor:
    return torch.empty((2, 0), dtype=torch.int64)


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """What an attack proposes. The base class checks it and applies it.

    Args:
        edge_flips: int64 ``[2, k]``, undirected edges to flip, each once, with u < v.
        feature_flips: int64 ``[2, q]``, (node, column) of binary feature entries to flip, each once.
        x: float ``[n, d]``, the whole perturbed feature matrix of an attack on continuous features; every
            entry that differs from the clean one counts against the budget, and none may differ by more than the
            attack's ``radius``.
        new_x: float ``[k, d]``, features of the k nodes that an injection adds. In ``edge_flips`` they are the nodes
            n … n + k − 1 after the n of the graph, and each edge has one of them.
        deleted: int64 ``[k]``, the nodes that a deletion takes all edges from, each once.
    """

    edge_flips: Tensor = field(default_factory=_no_flips)
    feature_flips: Tensor = field(default_factory=_no_flips)
    x: Tensor | None = None
    new_x: Tensor | None = None
    deleted: Tensor | None = None
