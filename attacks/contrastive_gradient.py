"""The exact meta-gradient of a surrogate that is also trained on nodes without a label, through a contrastive term.

The inner loss is the mean cross-entropy over the training nodes plus ``weight`` times a contrast between the scores of
some nodes on the graph and on a view of it, from which some edges are dropped. Both sets of scores are linear in the
weights, so that the inner training is that of :mod:`contractive_gnn.attacks.meta_gradient` with more rows,

    Z = B W V,    B = (S²X at the training nodes and at the nodes of the contrast; S'²X at the latter),

and the derivative goes back through each row to the S or S' that it came from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from contractive_gnn.attacks.contrast import Contrast
from contractive_gnn.attacks.edge_scores import View
from contractive_gnn.attacks.factored_matrix import Array, FactoredMatrix, Indices, Matrix, Sparse, Term, dense
from contractive_gnn.attacks.meta_gradient import (
    InnerTraining,
    MetaGradient,
    Passes,
    Problem,
    Products,
    WeightRun,
    Weights,
    normalise,
    one_hot,
    outer,
    softmax,
    softmax_reverse,
    training_term,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Contrasted:
    """The contrastive term of an inner loss.

    Args:
        loss: of the scores on the graph and on the view.
        weight: its factor; the cross-entropy has 1.
        nodes: int ``[k]``, ascending, none of them a training node.
        dropped: CSR ``[n, n]``, symmetric: ones at the edges that the view leaves out.
    """

    loss: Contrast
    weight: float
    nodes: Indices
    dropped: Sparse


def contrastive_meta_gradient(
    problem: Problem, initial: Weights, inner: InnerTraining, adjacency: Sparse, contrasted: Contrasted
) -> MetaGradient:
    """Derivatives of L for logits = S² X W V, with W and V trained on the cross-entropy and the contrast.

    An edge that the view drops does not act through it; any other pair of nodes does. Memory is O((m + 2k)(d + Tc)).

    Args:
        problem: what the surrogate is trained and judged on.
        initial: its weights at first.
        inner: how it is trained.
        adjacency: A, CSR ``[n, n]``, whose normalised form is ``problem.S``.
        contrasted: the contrastive term.

    Returns:
        the meta-gradient, with the view among its ``views`` and without features.
    """
    S, X, n = problem.S, problem.X, problem.S.shape[0]
    viewed, degrees = normalise(adjacency - contrasted.dropped)
    rows = np.sort(np.concatenate([problem.train, contrasted.nodes]))
    near, near_viewed = (S[rows] @ S).tocsr(), (viewed[contrasted.nodes] @ viewed).tocsr()
    B = np.concatenate([dense(near @ X), dense(near_viewed @ X)])
    run = WeightRun(problem, B, initial, inner, _passes(problem, contrasted, rows))
    W, V = run.trained

    XW = X @ W
    H = S @ (S @ XW)
    loss, E = outer(problem, H @ V)
    SE = S @ E
    products = run.reverse(bW=X.T @ (S @ SE) @ V.T, bV=H.T @ E)
    XV = XW @ V
    features = X
    if n < X.shape[1]:  # G Xᵀ is smaller than G
        products = tuple((left, (X @ right.T).T) for left, right in products)
        features = sp.eye_array(n, format="csr")

    def part(of: slice) -> Products:
        return tuple((left[of], right) for left, right in products)

    def by_propagation() -> FactoredMatrix:
        term = training_term(S, features, rows, part(slice(rows.size)), near.T.tocsr())
        return FactoredMatrix((Term(E, S @ XV), Term(SE, XV)), (n, n), term)

    term = training_term(viewed, features, contrasted.nodes, part(slice(rows.size, None)), near_viewed.T.tocsr())
    view = View(FactoredMatrix((), (n, n), term), viewed, degrees, contrasted.dropped)
    return MetaGradient(loss=loss, by_propagation=by_propagation, by_features=_no_features, views=(view,))


def _no_features() -> FactoredMatrix:
    raise NotImplementedError("the contrastive term is for attacks on edges")


def _passes(problem: Problem, contrasted: Contrasted, rows: Indices) -> Passes:
    """Of the whole inner loss; what is kept of each row is its score."""
    labelled = np.searchsorted(rows, problem.train)
    first = np.searchsorted(rows, contrasted.nodes)
    second = np.arange(rows.size, rows.size + contrasted.nodes.size)
    target, m, weight = one_hot(problem.train_labels, problem.classes), problem.train.size, contrasted.weight
    slope = torch.func.grad(contrasted.loss, argnums=(0, 1))

    def forward(B: Array, U: Array, labels: Indices) -> tuple[Array, Array, Array]:
        Z = B @ U
        E = np.zeros_like(Z)
        E[labelled] = (softmax(Z[labelled]) - target) / m
        for place, part in zip((first, second), slope(*_tensors(Z, first, second)), strict=True):
            E[place] = weight * part.numpy()
        return Z, E, B.T @ E

    def backward(B: Array, bBE: Array, Z: Array) -> tuple[Array, Array]:
        bE = B @ bBE
        bZ = np.zeros_like(Z)
        bZ[labelled] = softmax_reverse(softmax(Z[labelled]), bE[labelled] / m)
        # E is a gradient, so that its derivative is symmetric: the way back is the way forth
        _, parts = torch.func.jvp(slope, _tensors(Z, first, second), _tensors(bE, first, second))
        for place, part in zip((first, second), parts, strict=True):
            bZ[place] = weight * part.numpy()
        return bZ, B.T @ bZ

    return forward, backward


def _tensors(values: Matrix, first: Indices, second: Indices) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(values[first]), torch.from_numpy(values[second])
