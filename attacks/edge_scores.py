"""The edge flip that promises most, found without scoring every pair of nodes.

The score of a pair is exact where it is computed; most pairs are excluded by what they could reach at most. The matrix
G that the inner training leaves is close to one of low rank, so that all pairs are bounded by one product of matrices
with a few dozen columns: the leading directions of G exactly, and the rest by its norms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
import scipy.sparse as sp

from contractive_gnn.attacks.base import AttackError
from contractive_gnn.attacks.candidates import Candidates
from contractive_gnn.attacks.factored_matrix import Array, FactoredMatrix, Indices, Matrix, Sparse, TrainingTerm
from contractive_gnn.attacks.likelihood_ratio import DegreeTest

TIE: Final = 1e-9
"""Scores closer than this share of the largest one count as equal: nodes that are twins tie exactly, and float64 leaves
about 1e-14 between them. The first in row-major order wins, as in DeepRobust."""
ROWS: Final = 128
"""Rows that are bounded at a time, or scored where there are no bounds."""
FEW: Final = 2
"""Rows that are scored at a time, to begin with."""
DIRECTIONS: Final = 24
"""At most so many directions of G are looked at exactly."""

Doubt: TypeAlias = Callable[[Indices, Indices], Matrix]


@dataclass(frozen=True, eq=False)
class View:
    """A graph without some of the edges, on which the loss depends as well.

    Args:
        propagation: ∂L/∂S of its normalised adjacency S.
        S: CSR ``[n, n]``.
        degrees: its degrees ``[n]``, with the self-loop.
        dropped: CSR ``[n, n]``, symmetric: the edges that it leaves out, and that do not act through it.
    """

    propagation: FactoredMatrix
    S: Sparse
    degrees: Array
    dropped: Sparse

    @cached_property
    def _alpha(self) -> Array:
        """What each end of an edge contributes through its degree ``[n]``."""
        alpha: Array = -self.propagation.marginals(self.S) / (2 * self.degrees)
        return alpha

    def scores(self, nodes: Indices) -> Array:
        """The derivative of L by the entries of A at these nodes, as far as it goes through this view ``[k, n]``."""
        scores = _insertions(self.propagation, nodes, self.degrees**-0.5, self._alpha)
        row, column = _entries(self.dropped, nodes, np.arange(self.degrees.size))
        scores[row, column] = 0
        return scores


def best_edge_flip(
    propagation: FactoredMatrix,
    S: Sparse,
    degrees: Array,
    adjacency: Sparse,
    *,
    flipped: set[tuple[int, int]],
    test: DegreeTest | None,
    candidates: Candidates | None = None,
    views: Sequence[View] = (),
) -> tuple[tuple[int, int], float] | None:
    """The admissible edge with the largest score (1 − 2a_uv)·∂L/∂a_uv, and that score.

    With Γ = ∂L/∂S and s = d^-½, the derivative by the undirected entry is

        s_u s_v (Γ_uv + Γ_vu) + α_u + α_v,        α = −(rowsum(Γ∘S) + colsum(Γ∘S)) / 2d.

    A node is left over as long as it may have a pair with another such node that reaches the largest score so far. Of
    those left over a block of rows is bounded more closely at a time, and the promising ones are scored with all nodes.
    Without a :class:`TrainingTerm`, or with views, there are no bounds: all rows are scored.

    Args:
        propagation: Γ.
        S: the normalised adjacency.
        degrees: d, with the self-loop.
        adjacency: A, CSR ``[n, n]``.
        flipped: edges (u, v), u < v, that score 0.
        test: which flips the degree distribution allows; None for all.
        candidates: which pairs may be flipped; None for all.
        views: graphs with fewer edges that the loss depends on besides.

    Returns:
        ((u, v), score) with u < v, the first in row-major order of those that tie; None where no edge is admissible.
    """
    scale = degrees**-0.5
    alpha = -propagation.marginals(S) / (2 * degrees)
    flips = _Flips(adjacency, degrees, flipped, test, candidates)
    training = None if views else propagation.training
    bounds = None if training is None else _Bounds(propagation, training, scale, alpha)
    best = Best(symmetric=True)
    first = ROWS if bounds is None else FEW
    left = np.arange(degrees.size) if bounds is None else bounds.order
    if candidates is not None:
        left = left[candidates.nodes[left]]
    while left.size:
        rows = left[:ROWS]
        close = np.full(rows.size, math.inf) if bounds is None else bounds.close(rows, left, flips)
        left = left[ROWS:]
        nearest = np.argsort(-close, kind="stable")
        rows, close, width = rows[nearest], close[nearest], first
        while rows.size and close[0] >= best.threshold and close[0] > -math.inf:
            some, rows, close = rows[:width], rows[width:], close[width:]
            scores = _insertions(propagation, some, scale, alpha)
            for view in views:
                scores += view.scores(some)
            flips.complete(scores, some)
            best.look(scores, some)
            width *= 2
        if bounds is not None and left.size:
            left = left[bounds.loose(left) >= best.threshold]
    return best.first()


def _insertions(propagation: FactoredMatrix, nodes: Indices, scale: Array, alpha: Array) -> Array:
    """The derivatives by the undirected entries at these nodes ``[k, n]``."""
    scores = propagation.sum_with_transpose(nodes)
    scores *= scale
    scores *= scale[nodes, None]
    scores += alpha
    scores += alpha[nodes, None]
    return scores


class Best:
    """The largest entry of a matrix whose rows come in any order, the first in row-major order of those that tie.

    Args:
        symmetric: whether (u, v) and (v, u) are one entry, to be called (u, v) with u < v.

    Attributes:
        threshold: scores from here on tie with the largest so far.
    """

    def __init__(self, *, symmetric: bool) -> None:
        self._symmetric = symmetric
        self._found: list[tuple[float, tuple[int, int]]] = []
        self.threshold = -math.inf

    def look(self, scores: Array, rows: Indices) -> None:
        """Take these rows into account; scores of −∞ never win."""
        largest = scores.max(axis=1)
        top = float(largest.max())
        if math.isnan(top) or top == math.inf:
            raise diverged()
        if top == -math.inf:
            return
        self.threshold = max(self.threshold, top - TIE * abs(top))
        for i in np.flatnonzero(largest >= self.threshold):
            # whatever the threshold is in the end, the first entry to reach it is larger than all those before it
            before = np.maximum.accumulate(np.concatenate([[-math.inf], scores[i, :-1]]))
            for j in np.flatnonzero((scores[i] > before) & (scores[i] >= self.threshold)):
                entry = int(rows[i]), int(j)
                self._found.append((float(scores[i, j]), (min(entry), max(entry)) if self._symmetric else entry))

    def first(self) -> tuple[tuple[int, int], float] | None:
        """The entry and its value; None where all were −∞."""
        tied = [(entry, score) for score, entry in self._found if score >= self.threshold]
        return min(tied, default=None)


class _Flips:
    """From what the insertion of every edge promises to what its flip does, where there may already be one."""

    def __init__(
        self,
        adjacency: Sparse,
        degrees: Array,
        flipped: set[tuple[int, int]],
        test: DegreeTest | None,
        candidates: Candidates | None = None,
    ) -> None:
        self._adjacency, self._leaf, self._test = adjacency, degrees == 2, test
        self._candidates = candidates
        u, v = np.array(sorted(flipped), dtype=np.int64).reshape(-1, 2).T
        ends = np.concatenate([u, v]), np.concatenate([v, u])
        self._flipped = sp.csr_array((np.ones(ends[0].size), ends), shape=adjacency.shape)

    def complete(self, scores: Array, nodes: Indices) -> None:
        """Turn the scores ``[k, n]`` of insertions at these nodes into scores of flips, in place."""
        self._complete(scores, nodes, slice(None), np.arange(self._leaf.size), None)

    def complete_bounds(self, bounds: Matrix, nodes: Indices, others: Indices, doubt: Doubt) -> None:
        """Turn bounds ``[k, l]`` on the scores of insertions between nodes and others likewise.

        ``doubt`` says of pairs of nodes, given as two arrays, by how much their bounds may be too large.
        """
        position = np.full(self._leaf.size, -1)
        position[others] = np.arange(others.size)
        self._complete(bounds, nodes, others, position, doubt)

    def _complete(
        self, scores: Matrix, nodes: Indices, others: Indices | slice, position: Indices, doubt: Doubt | None
    ) -> None:
        row, column = _entries(self._adjacency, nodes, position)
        at_edges = -scores[row, position[column]]
        if doubt is not None:
            at_edges += 2 * doubt(nodes[row], column)
        if self._test is not None:
            scores[~self._test.may_add(nodes, others)] = -np.inf
            at_edges[~self._test.may_remove(nodes[row], column)] = -np.inf
        at_edges[self._leaf[nodes[row]] | self._leaf[column]] = -np.inf
        scores[row, position[column]] = at_edges
        row, column = _entries(self._flipped, nodes, position)
        at_flipped = scores[row, position[column]]
        scores[row, position[column]] = np.where(at_flipped == -np.inf, -np.inf, 0)
        if self._candidates is not None:
            scores[~self._candidates.may(nodes, others)] = -np.inf
        row = np.flatnonzero(position[nodes] >= 0)
        scores[row, position[nodes[row]]] = -np.inf


class _Bounds:
    """How large the scores in a row may be.

    With G = A Vᵀ + G', V ``[d, r]``, and g'_q = |row q of G'|, row i of Γ's training term is at column j

        (P A)_i·(S X V)_j + (S P A)_i·(X V)_j ± ((P g')_i (S |x|)_j + (S P g')_i |x|_j).

    All of it is a product L Rᵀ in float32, with as much added as that may round away.

    Attributes:
        order: all nodes, those first that have most of G.
    """

    def __init__(self, propagation: FactoredMatrix, training: TrainingTerm, scale: Array, alpha: Array) -> None:
        n, to_train = alpha.size, training.to_train
        V, A, rest = leading_directions(training.G)
        selected, left_out = np.zeros((n, A.shape[1])), np.zeros((n, 1))
        selected[training.train], left_out[training.train] = A, rest[:, None]
        XV, x = training.X @ V, _row_norms(training.X)[:, None]
        pairs = [(term.left, term.right) for term in propagation.terms]
        pairs += [(selected, training.S @ XV), (to_train @ A, XV)]
        doubtful = [(left_out, training.S @ x), (to_train @ rest[:, None], x)]
        left, right = (
            scale[:, None] * np.hstack([part for pair in (*pairs, *doubtful) for part in pair[::step]])
            for step in (1, -1)
        )
        left, right = np.column_stack([alpha, np.ones(n), left]), np.column_stack([np.ones(n), alpha, right])
        # the largest entry of each column of R is made 1, and the largest bound as well: nothing leaves float32's range
        largest = np.abs(right).max(axis=0)
        left *= largest
        right /= np.where(largest > 0, largest, 1)
        self._size = float(np.abs(left).sum(axis=1).max())
        if not math.isfinite(self._size):
            raise diverged()
        left /= self._size or 1
        self._left, self._right = left.astype(np.float32), right.astype(np.float32)
        self._rounding = 4 * left.shape[1] * float(np.finfo(np.float32).eps)
        of_G = scale * (np.linalg.norm(selected, axis=1) + np.linalg.norm(to_train @ A, axis=1))
        self.order: Indices = np.argsort(-of_G, kind="stable")

    def loose(self, nodes: Indices) -> Array:
        """How large the score of each of these nodes with another of them may be ``[k]``, from sizes alone."""
        return self._bound(np.abs(self._left[nodes]) @ np.abs(self._right[nodes]).max(axis=0), 1)

    def close(self, nodes: Indices, others: Indices, flips: _Flips) -> Array:
        """How large the score of each of these nodes with one of the others may be ``[k]``."""
        scores = self._left[nodes] @ self._right[others].T
        flips.complete_bounds(scores, nodes, others, self._doubt)
        return self._bound(scores.max(axis=1), np.abs(self._left[nodes]).sum(axis=1))

    def _bound(self, values: Matrix, terms: Matrix | int) -> Array:
        bound: Array = self._size * (values.astype(np.float64) + self._rounding * terms)
        return bound

    def _doubt(self, u: Indices, v: Indices) -> Matrix:
        return np.einsum("ik,ik->i", self._left[u, -4:], self._right[v, -4:])


def leading_directions(G: Array) -> tuple[Matrix, Matrix, Matrix]:
    """V ``[d, r]``, A ``[m, r]``, and bounds on the norms of the rows of G − A Vᵀ ``[m]``, from float32 arithmetic.

    V spans about what the largest singular values of G belong to, those above a hundredth of the largest; what it
    misses is in the norms, whatever it is. A range finder after Halko, Martinsson and Tropp (SIAM Review 2011), with
    the same random numbers each time.
    """
    size = np.abs(G).max()
    if not np.isfinite(size):
        raise diverged()
    G = (G / (size or 1)).astype(np.float32)
    sketch = np.random.default_rng(0).standard_normal((G.shape[0], min(DIRECTIONS, *G.shape)), dtype=np.float32)
    V, _ = np.linalg.qr(G.T @ sketch)
    A = G @ V
    squares, axes = np.linalg.eigh(A.T @ A)
    kept = axes[:, squares > 1e-4 * squares[-1]]
    V, A = V @ kept, A @ kept
    rounding = (A.shape[1] + 4) * np.finfo(np.float32).eps * np.linalg.norm(G, axis=1)
    rest = np.linalg.norm(G - A @ V.T, axis=1) + rounding
    return V, size * A, size * rest


def diverged() -> AttackError:
    """What an attack raises whose gradient is not finite."""
    return AttackError(
        "Metattack: the meta-gradient is not finite, because the inner training diverged; lower lr or momentum"
    )


def _entries(matrix: Sparse, rows: Indices, position: Indices) -> tuple[Indices, Indices]:
    """Where rows of a CSR matrix have entries in columns with a position ≥ 0: the index in ``rows``, and the column."""
    chosen = matrix[rows]
    row, column = np.repeat(np.arange(rows.size), np.diff(chosen.indptr)), chosen.indices
    there = position[column] >= 0
    return row[there], column[there]


def _row_norms(matrix: Matrix) -> Array:
    squares = matrix.multiply(matrix).sum(axis=1) if sp.issparse(matrix) else np.einsum("ik,ik->i", matrix, matrix)
    norms: Array = np.sqrt(np.asarray(squares)).ravel()
    return norms
