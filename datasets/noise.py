"""Random edges: the weakest attack, and the noise floor of every other."""

from __future__ import annotations

import math
from numbers import Integral, Real

import numpy as np
import numpy.typing as npt
import torch
from torch_geometric.data import Data

from contractive_gnn.datasets.errors import InvalidGraphError
from contractive_gnn.datasets.protocol import validate

IntArray = npt.NDArray[np.int64]


def pair_rank(u: IntArray, v: IntArray) -> IntArray:
    """Rank of the pair u < v among all pairs of nodes: v(v − 1)/2 + u."""
    return v * (v - 1) // 2 + u


def pair_at(rank: IntArray) -> tuple[IntArray, IntArray]:
    """The pair u < v of a rank; inverse of :func:`pair_rank`."""
    v = ((1 + np.sqrt(1 + 8 * rank.astype(np.float64))) / 2).astype(np.int64)
    # The root is rounded: put v right by comparing in integers.
    v -= v * (v - 1) // 2 > rank
    v += v * (v + 1) // 2 <= rank
    return rank - v * (v - 1) // 2, v


def noise_count(fraction: float, m: int) -> int:
    """How many edges a fraction of m stands for: the nearest whole number, of two equally near ones the even one."""
    return round(float(fraction) * m)


def absent_pairs(rank: IntArray, edges: IntArray) -> IntArray:
    """Ranks among all pairs of the pairs without an edge that have these ranks among themselves.

    Args:
        rank: q ≥ 0, of the q-th pair without an edge.
        edges: ranks of the edges, ascending.
    """
    # the q-th comes after as many edges as have fewer than q + 1 pairs without one before them
    return rank + np.searchsorted(edges - np.arange(edges.size), rank, side="right")


def add_random_edges(data: Data, *, fraction: float, seed: int) -> Data:
    """A copy of the graph with ``round(fraction · m)`` new undirected edges, uniform among the pairs without one.

    Exact in number, and the same for the same graph, fraction and seed. Takes O(m) time and memory, never O(n²), and
    leaves every global random state alone.

    Args:
        data: a graph that follows the protocol, with m undirected edges.
        fraction: 0 or more; 0.25 adds a quarter of m, 1 doubles it.
        seed: 0 or more.

    Returns:
        A new ``Data`` with the same features, labels and masks; ``edge_index`` int64 ``[2, 2(m + added)]``, sorted.

    Raises:
        TypeError: ``fraction`` or ``seed`` is not a number of its kind.
        InvalidGraphError: ``fraction`` is negative or not finite, there are fewer pairs without an edge than edges to
            add, the seed is negative, or the graph breaks the protocol or has edge weights.
    """
    _check_kind("fraction", fraction, Real)
    _check_kind("seed", seed, Integral)
    if not (math.isfinite(fraction) and fraction >= 0):
        raise InvalidGraphError(f"fraction {fraction!r} given; expected a finite number of at least 0")
    if seed < 0:
        raise InvalidGraphError(f"seed {seed} given; expected 0 or more")
    validate(data)
    for key in ("edge_weight", "edge_attr"):
        if data.get(key) is not None:
            raise InvalidGraphError(f"the graph has {key}, and a new edge would have none; remove it from the data")

    n = int(data.x.size(0))
    row, col = data.edge_index.cpu().numpy()
    edges = np.sort(pair_rank(row[row < col], col[row < col]))
    m, added, room = len(edges), noise_count(fraction, len(edges)), n * (n - 1) // 2 - len(edges)
    if added > room:
        raise InvalidGraphError(
            f"fraction {fraction} of {m} edges asks for {added} new edges, but only {room} of the pairs of {n} nodes "
            f"have none; expected at most {room / m:.6g}"
        )
    chosen = np.random.default_rng(seed).choice(room, size=added, replace=False) if added else np.empty(0, np.int64)
    u, v = pair_at(absent_pairs(chosen, edges))

    both = np.concatenate([row, u, v]), np.concatenate([col, v, u])
    order = np.lexsort((both[1], both[0]))
    noisy = data.clone()
    noisy.edge_index = torch.from_numpy(np.stack(both)[:, order]).to(data.edge_index.device)
    return noisy


def _check_kind(label: str, value: object, kind: type) -> None:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{label} = {value!r} given; expected {'an integer' if kind is Integral else 'a number'}")
