"""The degree-corrected stochastic block model: communities and hubs, up to many millions of edges."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch_geometric.data import Data

from contractive_gnn.datasets.errors import InvalidGraphError
from contractive_gnn.datasets.protocol import IntArray, assemble, simple_graph
from contractive_gnn.distinct import distinct

FloatArray = npt.NDArray[np.float64]

_ROUNDS: Final = 50
"""Draws that make up for pairs drawn twice; a graph that is not dense takes about ten."""


def degree_corrected_sbm(
    n: int = 20_000,
    *,
    classes: int = 40,
    communities: int | None = None,
    features: int = 128,
    average_degree: float = 13.7,
    inside: float = 0.65,
    exponent: float = 2.8,
    feature_signal: float = 2.3,
    split: tuple[float, float] = (0.54, 0.18),
    seed: int = 0,
    split_seed: int | None = None,
) -> Data:
    """A random graph with planted communities and hubs; by default of ogbn-arxiv's shape, and as informative.

        w_i = (1 − t_i)^(−1/(γ − 1)),  t_i ~ U(0, 1),  w_i ≤ √n      (how much node i draws edges)
        P(edge at i and j) ∝ w_i w_j (h [b_i = b_j] / W_{b_i} + (1 − h) / W)
        y_i = b_i mod k,   x_i = s · u_{y_i} + z_i,  z_i ~ N(0, I_d)  (u_1 … u_k random unit vectors)

    b is the community of a node, W_b the sum of the weights in it, W of all. Every community belongs to one class, and
    a class has several: in large networks communities do not grow with the graph (Leskovec, Lang, Dasgupta and Mahoney
    2009). After Karrer and Newman, *Stochastic blockmodels and community structure in networks* (2011), with as many
    edges as are asked for and no pair twice. Time and memory are O(n d + edges).

    Args:
        n: nodes.
        classes: k, 2 or more.
        communities: at least k; about 1,000 nodes each where it is not given.
        features: d, 1 or more.
        average_degree: above 0; exact up to one edge.
        inside: h, the expected fraction of edges drawn within a community, 0 … 1.
        exponent: γ above 2, of the power law of the degrees.
        feature_signal: s ≥ 0; 0 leaves nothing but noise in the features.
        split: fractions of the training and of the validation nodes, drawn at random; the others are for the test.
        seed: of the graph.
        split_seed: of the split; ``seed`` where it is not given.

    Returns:
        ``x`` float32 ``[n, d]``, masks, and ``split`` ``"random"``. Nodes may be isolated; all are kept.

    Raises:
        InvalidGraphError: an argument is out of range, or the communities have no room for so many edges.

    Example:
        >>> data = degree_corrected_sbm(2000, classes=4, average_degree=8)
        >>> data.num_edges, int(data.train_mask.sum())
        (16000, 1080)
    """
    communities = max(classes, n // 1000) if communities is None else communities
    for label, value, least in (
        ("n", n, 2),
        ("classes", classes, 2),
        ("communities", communities, classes),
        ("features", features, 1),
        ("seed", seed, 0),
        ("split_seed", seed if split_seed is None else split_seed, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidGraphError(f"{label} = {value!r} given; expected an integer of at least {least}")
    if communities > n:
        raise InvalidGraphError(f"{communities} communities for {n} nodes given; expected at most one a node")
    for label, number, low, high, wanted in (
        ("inside", inside, 0.0, 1.0, "from 0 to 1"),
        ("feature_signal", feature_signal, 0.0, math.inf, "of at least 0"),
        ("average_degree", average_degree, 2 / n, n - 1.0, f"from {2 / n:g} to {n - 1}"),
        ("exponent", exponent, math.nextafter(2.0, 3.0), math.inf, "above 2"),
    ):
        if isinstance(number, bool) or not (
            isinstance(number, (int, float)) and math.isfinite(number) and low <= number <= high
        ):
            raise InvalidGraphError(f"{label} = {number!r} given; expected a finite number {wanted}")
    ends = _ends(split, n)

    rng = np.random.default_rng(seed)
    weight = np.minimum((1 - rng.random(n)) ** (-1 / (exponent - 1)), math.sqrt(n))
    # the nodes of a community are next to each other while the edges are drawn
    cut = np.arange(communities + 1) * n // communities
    key = _edges(rng, weight, cut, round(n * average_degree / 2), inside)
    place = rng.permutation(n)
    labels = np.empty(n, dtype=np.int64)
    labels[place] = np.repeat(np.arange(communities) % classes, np.diff(cut))
    means = rng.standard_normal((classes, features), dtype=np.float32)
    means *= feature_signal / np.linalg.norm(means, axis=1, keepdims=True)
    x = rng.standard_normal((n, features), dtype=np.float32)
    x += means[labels]
    order = np.random.default_rng([seed if split_seed is None else split_seed, 1]).permutation(n)
    row, col = key // n, key % n
    return assemble(
        name="dc-sbm",
        split="random",
        x=torch.from_numpy(x),
        adjacency=simple_graph(sp.coo_matrix((np.ones(len(key), np.float32), (place[row], place[col])), shape=(n, n))),
        y=labels,
        indices=dict(zip(("train_mask", "val_mask", "test_mask"), np.split(order, ends), strict=True)),
    )


def _ends(split: tuple[float, float], n: int) -> tuple[int, int]:
    """Where the training nodes end among n, and the validation nodes after them."""
    wanted = f"split = {split!r} given; expected two fractions above 0 that leave some for the test"
    try:
        train, val = map(float, split)
    except (TypeError, ValueError):
        raise InvalidGraphError(wanted) from None
    if not (train > 0 and val > 0 and train + val < 1):
        raise InvalidGraphError(wanted)
    ends = round(train * n), round((train + val) * n)
    if not 0 < ends[0] < ends[1] < n:
        raise InvalidGraphError(f"{wanted}: of {n} nodes one of the three parts has none")
    return ends


def _edges(rng: np.random.Generator, weight: FloatArray, cut: IntArray, number: int, inside: float) -> IntArray:
    """So many different pairs u < v, as ``u n + v``, ascending."""
    n = len(weight)
    summed = np.concatenate([[0.0], np.cumsum(weight)])
    found = np.empty(0, dtype=np.int64)
    for _ in range(_ROUNDS):
        missing = number - len(found)
        if not missing:
            return found
        # how often each node is an end, and the other ends by the inverse of the summed weights
        u = np.repeat(np.arange(n), rng.multinomial(missing, weight / summed[-1]))
        block = np.searchsorted(cut, u, side="right") - 1
        near = rng.random(missing) < inside
        low = np.where(near, summed[cut[block]], 0.0)
        high = np.where(near, summed[cut[block + 1]], summed[-1])
        v = np.searchsorted(summed, low + (high - low) * rng.random(missing), side="right") - 1
        v = np.minimum(v, n - 1)
        other = u != v
        u, v = u[other], v[other]
        found = distinct(np.concatenate([found, np.minimum(u, v) * n + np.maximum(u, v)]))
    raise InvalidGraphError(
        f"{number - len(found)} of {number} edges found no room: lower average_degree or inside, or take fewer "
        "communities"
    )
