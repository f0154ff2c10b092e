"""The exact meta-gradient of a surrogate that is also trained on nodes without a label, through a contrastive term.

The inner loss is the mean cross-entropy over the training nodes plus ``weight`` times a contrast between the scores of
some nodes on the graph and on a view of it, from which some edges are dropped. Both sets of scores are linear in the
weights, so that the inner training is that of :mod:`contractive_gnn.attacks.meta_gradient` with more rows,

    Z = B W V,    B = (S²X at the training nodes and at the nodes of the contrast; S'²X at the latter),

and the derivative goes back through each row to the S or S' that it came from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from contractive_gnn.attacks.contrast import Contrast
from contractive_gnn.attacks.edge_scores import View
from contractive_gnn.attacks.factored_matrix import Array, FactoredMatrix, Indices, Sparse, Term, dense
from contractive_gnn.attacks.meta_gradient import (
    InnerLoss,
    InnerTraining,
    KernelRun,
    MetaGradient,
    Problem,
    Products,
    TrainingLoss,
    Weights,
    normalise,
    outer,
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

    An edge that the view drops does not act through it; any other pair of nodes does. With m training nodes memory is
    O((m + k)(m + k + n + d + Tc)).

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
    run = KernelRun(_ContrastiveLoss(problem, contrasted, rows), B, B @ B.T, initial, inner)
    W, V = run.trained

    XW = X @ W
    H = S @ (S @ XW)
    loss, E = outer(problem, H @ V)
    SE = S @ E
    products = run.reverse(bW=X.T @ (S @ SE) @ V.T, bV=H.T @ E)
    XV = XW @ V
    # G Xᵀ and not G: all pairs are scored, and each product with X would be made as often as there are pairs
    along = np.asarray((X @ np.ascontiguousarray(B.T)).T)
    products = tuple((left, along if right is B else (X @ right.T).T) for left, right in products)
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


class _ContrastiveLoss(InnerLoss):
    """The cross-entropy over the training nodes plus the contrastive term; what is kept of a row is its score."""

    def __init__(self, problem: Problem, contrasted: Contrasted, rows: Indices) -> None:
        self._labelled, self._training = np.searchsorted(rows, problem.train), TrainingLoss(problem)
        nodes = contrasted.nodes
        self._places = np.searchsorted(rows, nodes), np.arange(rows.size, rows.size + nodes.size)
        self._contrasted = contrasted

    def _slopes(self, Z: Array) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """The scores on the graph and on the view, and the derivatives of the contrast by them."""
        scores = [torch.from_numpy(Z[place]).requires_grad_() for place in self._places]
        return scores, torch.autograd.grad(self._contrasted.loss(*scores), scores, create_graph=True)

    def _whole(self, labelled: Array, contrasted: Iterable[Tensor], Z: Array) -> Array:
        """Of all rows, from what is at the training nodes, and at both places of the contrast."""
        whole = np.zeros_like(Z)
        whole[self._labelled] = labelled
        for place, part in zip(self._places, contrasted, strict=True):
            whole[place] = self._contrasted.weight * part.numpy(force=True)
        return whole

    def forth(self, Z: Array) -> tuple[Array, Array]:
        """Both terms."""
        labelled, _ = self._training.forth(Z[self._labelled])
        return self._whole(labelled, self._slopes(Z)[1], Z), Z

    def back(self, kept: Array, bE: Array) -> Array:
        """Through the derivatives of both terms."""
        _, P = self._training.forth(kept[self._labelled])
        scores, slopes = self._slopes(kept)
        given = [torch.from_numpy(bE[place]) for place in self._places]
        parts = torch.autograd.grad(slopes, scores, given)
        return self._whole(self._training.back(P, bE[self._labelled]), parts, kept)
