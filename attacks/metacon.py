"""Metacon: Metattack whose surrogate also learns from nodes without a label, so that flips between these count.

Yoon, In, Lee, Kim and Park, *Debiased Graph Poisoning Attack via Contrastive Surrogate Objective* (CIKM 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.attacks.base import check_count, register
from contractive_gnn.attacks.contrast import Contrast, dimension_contrast, sample_contrast
from contractive_gnn.attacks.contrastive_gradient import Contrasted, contrastive_meta_gradient
from contractive_gnn.attacks.factored_matrix import Matrix, Sparse
from contractive_gnn.attacks.meta_gradient import InnerTraining, MetaGradient
from contractive_gnn.attacks.metattack import FlipReport, Metattack
from contractive_gnn.checks import check_real


class _Metacon(Metattack):
    """What both share: the arguments, and what is drawn before each flip."""

    contrast: ClassVar[Contrast]

    def __init__(
        self,
        *,
        seed: int = 0,
        weight: float = 0.4,
        drop: float = 0.3,
        contrast_nodes: int | None = 256,
        outer_loss: str | None = None,
        lambda_: float = 0.0,
        hidden: int = 16,
        train_iters: int = 100,
        lr: float = 0.1,
        momentum: float = 0.9,
        self_training_labels: Tensor | None = None,
        on_flip: Callable[[FlipReport], None] | None = None,
        candidates: str | Tensor | None = None,
        ll_constraint: bool = False,
        ll_cutoff: float = 0.004,
    ) -> None:
        super().__init__(
            seed=seed,
            outer_loss=outer_loss,
            lambda_=lambda_,
            hidden=hidden,
            train_iters=train_iters,
            lr=lr,
            momentum=momentum,
            self_training_labels=self_training_labels,
            on_flip=on_flip,
            candidates=candidates,
            ll_constraint=ll_constraint,
            ll_cutoff=ll_cutoff,
        )
        check_real("weight", weight, least=0)
        check_real("drop", drop, least=0, below=1)
        self.weight = float(weight)
        self.drop = float(drop)
        self.contrast_nodes = None if contrast_nodes is None else check_count("contrast_nodes", contrast_nodes, least=2)

    def _prepare(self, data: Data) -> None:
        super()._prepare(data)
        if self._unlabelled.size < 2:
            raise ValueError(
                f"attack {self.name!r} compares the nodes of val_mask and test_mask with each other: they select "
                f"{self._unlabelled.size}, give at least 2"
            )

    def _gradient(self, adjacency: Sparse, S: Sparse, X: Matrix) -> MetaGradient:
        problem, initial = self._problem(S, X), self._draw(X.shape[1])
        nodes = self._unlabelled
        if self.contrast_nodes is not None and self.contrast_nodes < nodes.size:
            nodes = np.sort(nodes[torch.randperm(nodes.size)[: self.contrast_nodes].numpy()])
        edges = sp.triu(adjacency, 1, format="coo")
        lost = (torch.rand(edges.nnz) < self.drop).numpy()
        row, column = edges.row[lost], edges.col[lost]
        ends = np.concatenate([row, column]), np.concatenate([column, row])
        dropped = sp.csr_array((np.ones(ends[0].size), ends), shape=S.shape)
        contrasted = Contrasted(loss=type(self).contrast, weight=self.weight, nodes=nodes, dropped=dropped)
        inner = InnerTraining(steps=self.train_iters, lr=self.lr, momentum=self.momentum)
        return contrastive_meta_gradient(problem, initial, inner, adjacency, contrasted)


@register
class MetaconS(_Metacon):
    """Metacon-S: Metattack with an InfoNCE term in the inner training, ``loss = CE(train) + weight·InfoNCE``.

    The term is :func:`contractive_gnn.attacks.contrast.sample_contrast` of the surrogate's scores of some nodes without
    a label: on the graph, and on a view of it without some of its edges. The derivative is exact for that loss, through
    the view too; the nodes and the view are drawn anew before each flip. (The authors' code holds the view fixed, and
    contrasts all nodes and other functions of the scores.)

    Args:
        seed: of the surrogate, of the initial weights, and of nodes and views.
        weight: of the term; the authors take 0.1 to 0.6.
        drop: how likely the view drops an edge, 0 ≤ drop < 1; the authors take 0.1 to 0.3.
        contrast_nodes: how many nodes of ``val_mask`` and ``test_mask`` are compared in one inner training; None for
            all. A flip takes time in proportion to the square.
        outer_loss: "cross-entropy" (None) or "probability", the loss of :class:`GraD`.
        lambda_: see :class:`Metattack`, as of all that follows. The surrogate is linear, without biases.
        hidden: hidden units of the surrogate.
        train_iters: inner training steps.
        lr: inner learning rate.
        momentum: of the inner training.
        self_training_labels: int64 ``[n]``.
        on_flip: called after each step.
        candidates: which pairs may be flipped.
        ll_constraint: only flips that pass the test on the degree distribution.
        ll_cutoff: its critical value.

    Raises:
        ValueError: as :class:`Metattack`; from ``run`` also fewer than two nodes in ``val_mask`` and ``test_mask``.
        AttackError: (from ``run``) the inner training diverged.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> cg.attack(None, data, "metacon-s", flips=2, outer_loss="probability", train_iters=20).n_flips
        2
    """

    name: ClassVar[str] = "metacon-s"
    reads_features: ClassVar[bool] = True
    contrast: ClassVar[Contrast] = sample_contrast


@register
class MetaconD(_Metacon):
    """Metacon-D: as :class:`MetaconS`, with a term that compares columns of scores and not rows.

    The term is :func:`contractive_gnn.attacks.contrast.dimension_contrast`: variances, covariances, and the difference
    between both graphs. The arguments are those of :class:`MetaconS`; a flip takes time in proportion to
    ``contrast_nodes``.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> cg.attack(None, data, "metacon-d", flips=2, train_iters=20).n_flips
        2
    """

    name: ClassVar[str] = "metacon-d"
    reads_features: ClassVar[bool] = True
    contrast: ClassVar[Contrast] = dimension_contrast
