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
from contractive_gnn.attacks.factored_matrix import Array, FactoredMatrix, Indices, Sparse, Term, dense
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

    An edge that the view drops does not act through it; any other pair of nodes does. Memory is O((m + k)(n + d + Tc)).

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
    # G Xᵀ and not G: all pairs are scored, and each product with X would be made as often as there are pairs
    products = tuple((left, (X @ right.T).T) for left, right in products)
    itself = sp.eye_array(n, format="csr")

    def part(of: slice) -> Products:
        return tuple((left[of], right) for left, right in products)

    def by_propagation() -> FactoredMatrix:
        term = training_term(S, itself, rows, part(slice(rows.size)), near.T.tocsr())
        return FactoredMatrix((Term(E, S @ XV), Term(SE, XV)), (n, n), term)

    term = training_term(viewed, itself, contrasted.nodes, part(slice(rows.size, None)), near_viewed.T.tocsr())
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

    def slope(Z: Array) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Both sets of scores, and the derivatives of the contrast by them."""
        scores = tuple(torch.from_numpy(Z[place]).requires_grad_() for place in (first, second))
        return scores, torch.autograd.grad(contrasted.loss(*scores), scores, create_graph=True)  # type: ignore[return-value]

    def forward(B: Array, U: Array, labels: Indices) -> tuple[Array, Array, Array]:
        Z = B @ U
        E = np.zeros_like(Z)
        E[labelled] = (softmax(Z[labelled]) - target) / m
        for place, part in zip((first, second), slope(Z)[1], strict=True):
            E[place] = weight * part.numpy(force=True)
        return Z, E, B.T @ E

    def backward(B: Array, bBE: Array, Z: Array) -> tuple[Array, Array]:
        bE = B @ bBE
        bZ = np.zeros_like(Z)
        bZ[labelled] = softmax_reverse(softmax(Z[labelled]), bE[labelled] / m)
        scores, slopes = slope(Z)
        given = [torch.from_numpy(bE[place]) for place in (first, second)]
        for place, part in zip((first, second), torch.autograd.grad(slopes, scores, given), strict=True):
            bZ[place] = weight * part.numpy()
        return bZ, B.T @ bZ

    return forward, backward
