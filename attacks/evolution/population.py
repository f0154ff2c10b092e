"""Sets of flips as rows of whole numbers, and what becomes of them from one generation to the next.

A flip of the pair {u, v}, u < v, is the number u n + v; an individual holds as many as the budget has, and a number
that stands there twice counts once. So memory is linear in the budget. Tournament, crossover at several points and
pairs that end at given nodes are those of Akhondzadeh et al. (arXiv 2507.08212).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Codes: TypeAlias = NDArray[np.int64]


def random_pairs(count: int, ends: Codes, num_nodes: int, rng: np.random.Generator) -> Codes:
    """Pairs of nodes, with replacement: one end among ``ends``, the other one anywhere else.

    Args:
        count: how many.
        ends: int64 ``[e]``, e ≥ 1.
        num_nodes: n ≥ 2.
        rng: draws them.

    Returns:
        int64 ``[count]``: u n + v, u < v.

    Example:
        >>> import numpy as np
        >>> [divmod(int(pair), 10) for pair in random_pairs(3, np.array([4]), 10, np.random.default_rng(0))]
        [(4, 8), (4, 6), (4, 5)]
    """
    one = rng.choice(ends, count)
    other = rng.integers(0, num_nodes - 1, count)
    other += other >= one
    return np.minimum(one, other) * num_nodes + np.maximum(one, other)  # type: ignore[no-any-return]


def tournament(fitness: NDArray[np.float64], count: int, size: int, rng: np.random.Generator) -> Codes:
    """The places of ``count`` parents, each the fittest of ``size`` that are drawn with replacement.

    Example:
        >>> import numpy as np
        >>> tournament(np.array([0.0, 5.0, 1.0]), 4, 50, np.random.default_rng(0)).tolist()
        [1, 1, 1, 1]
    """
    drawn = rng.integers(0, fitness.size, (count, size))
    return drawn[np.arange(count), fitness[drawn].argmax(axis=1)]  # type: ignore[no-any-return]


def crossover(first: Codes, second: Codes, points: int, rng: np.random.Generator) -> tuple[Codes, Codes]:
    """Two children of each pair of parents, which take turns at ``points`` places, drawn with replacement.

    Args:
        first: int64 ``[pairs, b]``.
        second: int64 ``[pairs, b]``.
        points: how often to change; with b = 1 a child is one of its parents.
        rng: draws the places.

    Example:
        >>> import numpy as np
        >>> ones, twos = np.ones((1, 6), int), np.full((1, 6), 2)
        >>> [child.tolist() for child in crossover(ones, twos, 1, np.random.default_rng(0))]
        [[[1, 1, 1, 1, 1, 2]], [[2, 2, 2, 2, 2, 1]]]
    """
    pairs, length = first.shape
    if length == 1:
        return first.copy(), second.copy()
    turns = np.zeros((pairs, length), dtype=np.int64)
    places = rng.integers(1, length, (pairs, points))
    np.add.at(turns, (np.arange(pairs)[:, None], places), 1)
    own = turns.cumsum(axis=1) % 2 == 0
    return np.where(own, first, second), np.where(own, second, first)
