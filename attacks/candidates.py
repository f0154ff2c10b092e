"""Which pairs of nodes an attack on the edges may flip."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.attacks.factored_matrix import Indices

Given: TypeAlias = str | Tensor

WORDS: Final = ("all", "unlabelled")


@dataclass(frozen=True, eq=False)
class Candidates:
    """The pairs that may be flipped.

    Args:
        nodes: bool ``[n]``: who may be an end of such a pair.
        pairs: bool ``[n, n]``, symmetric: the pairs themselves; None for all pairs of ``nodes``.
    """

    nodes: NDArray[np.bool_]
    pairs: NDArray[np.bool_] | None = None

    def may(self, rows: Indices, columns: Indices | slice) -> NDArray[np.bool_]:
        """Whether the pair of each of ``rows`` and each of ``columns`` may be flipped ``[k, l]``."""
        if self.pairs is not None:
            return self.pairs[rows][:, columns]
        allowed: NDArray[np.bool_] = self.nodes[rows, None] & self.nodes[columns]
        return allowed

    def among(self, u: Indices, v: Indices) -> NDArray[np.bool_]:
        """Whether the pair (``u[i]``, ``v[i]``) may be flipped, for each i."""
        allowed: NDArray[np.bool_] = self.nodes[u] & self.nodes[v] if self.pairs is None else self.pairs[u, v]
        return allowed


def check_candidates(given: Given) -> Given:
    """``given``, where it is "all", "unlabelled" or a mask over nodes or pairs; a mask is copied.

    Raises:
        ValueError: another word; a mask over pairs that is not square and symmetric.
        TypeError: neither a word nor a bool tensor ``[n]`` or ``[n, n]``.
    """
    expected = (
        "candidates is 'all', 'unlabelled' (pairs of nodes outside train_mask), a bool tensor [n] (pairs of these "
        "nodes) or a symmetric bool tensor [n, n] (these pairs)"
    )
    if isinstance(given, str):
        if given not in WORDS:
            raise ValueError(f"{expected}; given {given!r}")
        return given
    if not isinstance(given, Tensor) or given.dtype != torch.bool or given.dim() not in (1, 2):
        what = f"{given.dtype} {list(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
        raise TypeError(f"{expected}; given {what}")
    if given.dim() == 2 and (given.shape[0] != given.shape[1] or not torch.equal(given, given.t())):
        raise ValueError(f"{expected}; given {list(given.shape)}, which is not square and symmetric")
    return given.clone()


def candidates_of(given: Given, data: Data) -> Candidates | None:
    """The pairs of this graph that ``given`` stands for; None for all of them.

    Raises:
        ValueError: a mask of another size, or one that leaves no pair.
    """
    if isinstance(given, str):
        if given == "all":
            return None
        nodes, pairs = ~data.train_mask.cpu(), None
    else:
        n = int(data.num_nodes)
        if given.shape[0] != n:
            raise ValueError(f"candidates is a mask over {given.shape[0]} nodes; this graph has {n}")
        mask = given.cpu()
        if mask.dim() == 1:
            nodes, pairs = mask, None
        else:
            pairs = mask.clone().fill_diagonal_(False)  # what was given stays as it is
            nodes = pairs.any(dim=1)
    if int(nodes.sum()) < 2:
        raise ValueError("candidates leaves no pair of nodes that may be flipped; allow at least two nodes")
    return Candidates(nodes.numpy(), None if pairs is None else pairs.numpy())


def told(given: Given) -> Any:
    """What the provenance keeps of it: the word, or the size, the number of entries and the digest of a mask."""
    if isinstance(given, str):
        return given
    digest = hashlib.sha256(given.cpu().numpy().tobytes()).hexdigest()
    return {"shape": list(given.shape), "allowed": int(given.sum()), "sha256": digest}
