"""New nodes at random: the injection that knows nothing."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import Knowledge, register
from contractive_gnn.attacks.injection.attack import Injection, InjectionAttack
from contractive_gnn.attacks.injection.features import FeatureRange


def random_nodes(x: Tensor, nodes: int, edges: int) -> Injection:
    """New nodes with the features of old ones, each joined to so many others; all of them drawn at random.

    Args:
        x: features of the old nodes, ``[n, d]``.
        nodes: how many.
        edges: of each; at most n.
    """
    n = len(x)
    rows = [torch.randperm(n, device=x.device)[:edges] for _ in range(nodes)]
    new = torch.arange(nodes, device=x.device).repeat_interleave(edges)
    features = x[torch.randint(n, (nodes,), device=x.device)].clone()
    return Injection(features, torch.stack([new, torch.cat(rows)]))


@register
class RandomInjection(InjectionAttack):
    """Adds nodes with the features of old nodes that are drawn at random, each joined to random old nodes.

    Args:
        features: see :class:`InjectionAttack`; the features of an old node are within both.
        seed: see :class:`Attack`.

    Raises:
        ValueError: (from ``run``) see :class:`InjectionAttack`.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> cg.attack(None, data, "random-injection", nodes=3, edges=4).data.num_nodes
        63
    """

    name: ClassVar[str] = "random-injection"
    knowledge: ClassVar[Knowledge] = "random"

    def _inject(
        self,
        data: Data,
        nodes: int,
        edges: int,
        allowed: FeatureRange,
        *,
        victim: nn.Module | None,
        targets: Tensor | None,
    ) -> Injection:
        return random_nodes(data.x, nodes, edges)
