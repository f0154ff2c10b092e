"""The contextual stochastic block model: graphs whose difficulty is a dial."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp
import torch
from torch_geometric.data import Data

from contractive_gnn.datasets.errors import InvalidGraphError
from contractive_gnn.datasets.noise import pair_at
from contractive_gnn.datasets.protocol import IntArray, assemble, random_split, simple_graph


def contextual_sbm(
    n: int = 1000,
    *,
    classes: int = 4,
    features: int = 32,
    average_degree: float = 10.0,
    homophily: float = 0.8,
    feature_signal: float = 1.5,
    seed: int = 0,
    split_seed: int | None = None,
) -> Data:
    """A random graph with k planted classes, in which edges and features both tell of the class.

        y_i = i mod k, shuffled                           (classes of equal size, up to one node)
        P(i ~ j) = p if y_i = y_j, else q                 (independent, undirected, no self-loops)
        x_i = s · u_{y_i} + z_i,  z_i ~ N(0, I_d)          (u_1 … u_k random orthonormal)

    p and q are such that the expected average degree and the expected fraction of edges within a class are as asked:
    p · #(pairs within) = h·n·deg/2 and q · #(pairs between) = (1 − h)·n·deg/2. Two class means are s√2 standard
    deviations apart. After Deshpande, Sen, Montanari and Mossel, *Contextual stochastic block models* (NeurIPS 2018),
    with k classes in place of two.

    Args:
        n: nodes.
        classes: k, 2 or more.
        features: d, at least k.
        average_degree: expected, above 0.
        homophily: h, expected fraction of edges within a class, 0 … 1; 1/k or so carries no information.
        feature_signal: s ≥ 0; 0 leaves nothing but noise in the features.
        seed: of the graph.
        split_seed: of the 10/10/80 split; ``seed`` where it is not given.

    Returns:
        ``x`` float32 ``[n, d]``, masks, and ``split`` ``"random"``. Nodes may be isolated; all are kept.

    Raises:
        InvalidGraphError: an argument is out of range, or the degree asks for more edges than there are pairs.
        UnknownSplitError: too few nodes a class to split.
    """
    for label, value, least in (
        ("n", n, 2),
        ("classes", classes, 2),
        ("features", features, classes),
        ("seed", seed, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidGraphError(f"{label} = {value!r} given; expected an integer of at least {least}")
    if classes > n:
        raise InvalidGraphError(f"{classes} classes for {n} nodes given; expected at most one class a node")
    if not 0 <= homophily <= 1:
        raise InvalidGraphError(f"homophily = {homophily!r} given; expected 0 to 1")
    if not (math.isfinite(average_degree) and average_degree > 0):
        raise InvalidGraphError(f"average_degree = {average_degree!r} given; expected a finite number above 0")
    if not (math.isfinite(feature_signal) and feature_signal >= 0):
        raise InvalidGraphError(f"feature_signal = {feature_signal!r} given; expected a finite number of at least 0")

    rng = np.random.default_rng(seed)
    # Nodes sorted by class: pairs within a class then have ranks that a formula knows, and no n × n mask is needed.
    sizes = np.array([len(range(c, n, classes)) for c in range(classes)], dtype=np.int64)
    within = sizes * (sizes - 1) // 2
    pairs_within, pairs_between = int(within.sum()), n * (n - 1) // 2 - int(within.sum())
    edges = n * average_degree / 2
    p = _probability(edges * homophily, pairs_within, "within")
    q = _probability(edges * (1 - homophily), pairs_between, "between")

    row, col = _within(rng, sizes, p)
    row_between, col_between = _between(rng, sizes, q)
    row, col = np.concatenate([row, row_between]), np.concatenate([col, col_between])

    place = rng.permutation(n)
    labels = np.empty(n, dtype=np.int64)
    labels[place] = np.repeat(np.arange(classes), sizes)
    means = np.linalg.qr(rng.standard_normal((features, classes)))[0].T
    x = feature_signal * means[labels] + rng.standard_normal((n, features))
    return assemble(
        name="csbm",
        split="random",
        x=torch.from_numpy(x.astype(np.float32)),
        adjacency=simple_graph(sp.coo_matrix((np.ones(len(row)), (place[row], place[col])), shape=(n, n))),
        y=labels,
        indices=random_split(labels, seed=seed if split_seed is None else split_seed),
    )


def _probability(expected: float, pairs: int, where: str) -> float:
    if expected > pairs:
        raise InvalidGraphError(
            f"average_degree and homophily ask for {expected:.6g} edges {where} classes, but there are only {pairs} "
            "such pairs of nodes; lower average_degree, change homophily, or add nodes"
        )
    return expected / pairs if pairs else 0.0


def _sample(rng: np.random.Generator, pairs: int, probability: float) -> IntArray:
    """The ranks of the pairs that an independent coin each would choose, without tossing them all."""
    return rng.choice(pairs, size=rng.binomial(pairs, probability), replace=False) if pairs else np.empty(0, np.int64)


def _within(rng: np.random.Generator, sizes: IntArray, probability: float) -> tuple[IntArray, IntArray]:
    starts = np.cumsum(sizes) - sizes
    found = [
        (start, *pair_at(_sample(rng, int(size * (size - 1) // 2), probability)))
        for start, size in zip(starts, sizes, strict=True)
    ]
    return np.concatenate([start + u for start, u, _ in found]), np.concatenate([start + v for start, _, v in found])


def _between(rng: np.random.Generator, sizes: IntArray, probability: float) -> tuple[IntArray, IntArray]:
    starts = np.cumsum(sizes) - sizes
    rows, cols = [], []
    for b in range(1, len(sizes)):
        # Class b against every node of the classes before it, which are the nodes 0 … starts[b] − 1.
        rank = _sample(rng, int(starts[b] * sizes[b]), probability)
        rows.append(rank // sizes[b])
        cols.append(starts[b] + rank % sizes[b])
    return np.concatenate(rows), np.concatenate(cols)
