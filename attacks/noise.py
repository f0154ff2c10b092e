"""Random edges and random features: the baselines that know nothing."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import (
    Attack,
    Budget,
    Kind,
    Knowledge,
    Perturbation,
    Scope,
    check_choice,
    register,
    undirected_edges,
)
from contractive_gnn.datasets.noise import absent_pairs, noise_count, pair_at, pair_rank


@register
class RandomFlips(Attack):
    """Adds, removes or flips undirected edges, uniformly without replacement.

    It is noise, and its fraction of the edges is rounded to the nearest whole number, not down as that of other
    attacks: added edges are those of :func:`contractive_gnn.datasets.add_random_edges`.

    Args:
        edit: "add" draws among the pairs without an edge, "remove" among the edges, "flip" among all pairs.
        seed: see :class:`Attack`.

    Raises:
        ValueError: (from ``run``) the budget exceeds the number of such pairs.
    """

    name: ClassVar[str] = "random"
    kind: ClassVar[Kind] = "structure"
    scope: ClassVar[Scope] = "global"
    knowledge: ClassVar[Knowledge] = "random"

    def __init__(self, *, edit: str = "add", seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.edit = check_choice("edit", edit, ("add", "remove", "flip"))

    @classmethod
    def allowed(cls, data: Data, budget: Budget) -> int:
        """The whole number of flips nearest to the budget."""
        if budget.fraction is None:
            return super().allowed(data, budget)
        return noise_count(budget.fraction, undirected_edges(data.edge_index).shape[1])

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        n = int(data.num_nodes)
        u, v = undirected_edges(data.edge_index).numpy(force=True)
        edges = np.sort(pair_rank(u, v))
        pairs = n * (n - 1) // 2
        available = {"add": pairs - edges.size, "remove": edges.size, "flip": pairs}[self.edit]
        if n_flips > available:
            raise ValueError(
                f"attack 'random' cannot {self.edit} {n_flips} edges: only {available} pairs of nodes allow it"
            )
        drawn = np.random.default_rng(self.seed).choice(available, n_flips, replace=False)
        if self.edit == "remove":
            drawn = edges[drawn]
        elif self.edit == "add":
            drawn = absent_pairs(drawn, edges)
        return Perturbation(edge_flips=torch.from_numpy(np.stack(pair_at(np.sort(drawn)))))


class _FeatureNoise(Attack):
    """Entries of ``x`` drawn uniformly without replacement, as many as the budget has."""

    kind: ClassVar[Kind] = "features"
    scope: ClassVar[Scope] = "global"
    knowledge: ClassVar[Knowledge] = "random"

    def _entries(self, data: Data, count: int, rng: np.random.Generator) -> Tensor:
        n, d = data.x.shape
        if count > n * d:
            raise ValueError(f"attack {self.name!r} cannot change {count} entries: x has only {n * d}")
        return torch.from_numpy(np.stack(np.divmod(np.sort(rng.choice(n * d, count, replace=False)), d)))


@register
class FlipFeatures(_FeatureNoise):
    """Flips binary feature entries, uniformly among all of them.

    Args:
        seed: see :class:`Attack`.

    Raises:
        ValueError: (from ``run``) the budget exceeds the number of entries.
        AttackError: (from ``run``) the features are not binary.
    """

    name: ClassVar[str] = "flip-features"

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        return Perturbation(feature_flips=self._entries(data, n_flips, np.random.default_rng(self.seed)))


@register
class GaussianFeatures(_FeatureNoise):
    """Adds ``N(0, scale²)``, cut off at three standard deviations, to entries drawn uniformly among all of them.

    Args:
        scale: standard deviation before the cut, > 0, in units of the features.
        seed: see :class:`Attack`.

    Raises:
        ValueError: for a scale that is not positive; (from ``run``) the budget exceeds the number of entries.
    """

    name: ClassVar[str] = "gaussian-features"

    def __init__(self, *, scale: float = 1.0, seed: int = 0) -> None:
        super().__init__(seed=seed)
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale must be positive and finite, got {scale!r}")
        self.scale = float(scale)

    @property
    def radius(self) -> float:
        """Three standard deviations."""
        return 3.0 * self.scale

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        rng = np.random.default_rng(self.seed)
        node, column = self._entries(data, n_flips, rng)
        noise = self.scale * rng.standard_normal(n_flips).clip(-3.0, 3.0)
        x = data.x.clone()
        x[node, column] += torch.from_numpy(noise).to(x)
        return Perturbation(x=x)
