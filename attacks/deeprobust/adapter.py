"""What the adapters of DeepRobust's attacks share; each attack has its own module.

DeepRobust: Li, Jin, Xu, Tang, *DeepRobust: a PyTorch library for adversarial attacks and defenses* (AAAI 2021). Its
attacks train a surrogate of their own, so they are transfer attacks; adaptive ones are in ``whitebox`` and ``prbcd``.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn import deeprobust
from contractive_gnn.attacks.base import Attack, AttackError, Knowledge, Perturbation


class DeepRobustAttack(Attack):
    """Runs an attack of DeepRobust and reads the flips off the difference between its graph and the clean one.

    Subclasses implement :meth:`_launch`, and :meth:`_surrogate_for` if they attack a trained surrogate.

    Raises:
        DeepRobustMissing: (from ``run``) the extra ``attacks`` is not installed.
        AttackError: (from ``run``) DeepRobust failed; the text says with what.
    """

    knowledge: ClassVar[Knowledge] = "transfer"
    packages: ClassVar[tuple[str, ...]] = ("deeprobust", "scipy", "networkx", "numba")

    _surrogate: Any = None

    def _surrogate_for(self, data: Data) -> Any:
        """Train what the attack differentiates; None for attacks that need no model."""
        return None

    def _refuse(self, arrays: deeprobust.Arrays, n_flips: int) -> None:
        """Raise, saying why, where DeepRobust would fail, return nonsense or never return."""

    @abstractmethod
    def _launch(self, arrays: deeprobust.Arrays, n_flips: int, target: int | None) -> Any:
        """Run DeepRobust's attack and return it, with its ``modified_adj`` or ``modified_features`` set.

        ``target`` is a node for targeted attacks and None for global ones.
        """

    def _prepare(self, data: Data) -> None:
        with self._at_the_border():
            self._surrogate = self._surrogate_for(data)

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        arrays = deeprobust.to_arrays(data)
        target = int(targets) if self.scope == "targeted" and targets is not None else None
        self._refuse(arrays, n_flips)
        with self._at_the_border():
            attack = self._launch(arrays, n_flips, target)
            if self.kind == "features":
                return Perturbation(feature_flips=self._differences(arrays.features, attack.modified_features))
            return Perturbation(edge_flips=self._undirected(self._differences(arrays.adjacency, attack.modified_adj)))

    @contextlib.contextmanager
    def _at_the_border(self) -> Iterator[None]:
        deeprobust.import_deeprobust("graph.global_attack")
        deeprobust.import_deeprobust("graph.targeted_attack")
        try:
            with deeprobust.mended():
                yield
        except (AttackError, deeprobust.DeepRobustMissing):
            raise
        except Exception as error:
            # PyTorch's dispatcher adds a page of registrations to its first line
            reason = str(error).split("\n", 1)[0]
            raise AttackError(
                f"attack {self.name!r}: DeepRobust failed with {type(error).__name__}: {reason}"
            ) from error

    def _differences(self, clean: Any, changed: Any) -> Tensor:
        """Entries in which a scipy, NumPy or torch matrix differs from a clean scipy one: int64 ``[2, k]``."""
        if isinstance(changed, Tensor):
            changed = changed.detach().cpu().numpy()
        changed = sp.csr_matrix(changed)
        changed.eliminate_zeros()
        if not np.isin(changed.data, (0.0, 1.0)).all():
            raise AttackError(f"attack {self.name!r}: DeepRobust returned entries other than 0 and 1")
        row, column = (changed - clean).nonzero()
        return torch.from_numpy(np.stack([row, column]).astype(np.int64))

    def _undirected(self, entries: Tensor) -> Tensor:
        """The flips (u, v) with u ≤ v of a symmetric set of entries; self-loops stay, for the base class to refuse."""
        upper, lower = entries[:, entries[0] <= entries[1]], entries.flip(0)[:, entries[0] >= entries[1]]
        if {*zip(*upper.tolist(), strict=True)} != {*zip(*lower.tolist(), strict=True)}:
            raise AttackError(f"attack {self.name!r}: DeepRobust returned a directed graph")
        return upper

    def _refuse_isolated(self, arrays: deeprobust.Arrays) -> None:
        isolated = np.flatnonzero(np.diff(arrays.adjacency.indptr) == 0)
        if isolated.size:
            raise AttackError(
                f"attack {self.name!r}: DeepRobust's implementation needs a graph without isolated nodes, but "
                f"{isolated.size} have no edge (node {isolated[0]}, …); take the largest connected component first"
            )

    def _refuse_unlabelled(self, arrays: deeprobust.Arrays) -> None:
        unknown = np.flatnonzero(arrays.labels < 0)
        if unknown.size:
            raise AttackError(
                f"attack {self.name!r} reads the labels of all nodes, but {unknown.size} have none (node {unknown[0]}, "
                "…): take an attack with a surrogate, or the graph of the labelled nodes"
            )
