"""DeepRobust's Metattack, its approximation and its attack on features; our own exact one is in ``metattack``."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch_geometric.data import Data

from contractive_gnn.attacks.base import Kind, Scope, check_count, register
from contractive_gnn.attacks.deeprobust.adapter import DeepRobustAttack
from contractive_gnn.checks import check_real
from contractive_gnn.deeprobust import Arrays, import_deeprobust, train_gcn


class _MetaAttack(DeepRobustAttack):
    scope: ClassVar[Scope] = "global"
    deeprobust_class: ClassVar[str]

    def __init__(self, *, lambda_: float = 0.0, train_iters: int = 100, lr: float = 0.1, seed: int = 0) -> None:
        super().__init__(seed=seed)
        check_real("lambda_", lambda_, least=0, most=1)
        check_real("lr", lr, above=0)
        self.lambda_ = lambda_
        self.train_iters = check_count("train_iters", train_iters)
        self.lr = lr

    def _surrogate_for(self, data: Data) -> Any:
        return train_gcn(data)

    def _launch(self, arrays: Arrays, n_flips: int, target: int | None) -> Any:
        cls: Any = getattr(import_deeprobust("graph.global_attack"), self.deeprobust_class)

        class FeaturesFirst(cls):  # type: ignore[misc]
            # Whether DeepRobust multiplies A(XW) or (AX)W depends on this flag, which MetaApprox always finds False and
            # which is False for dense features, the only ones it can attack: the same numbers, d/16 times slower.
            sparse_features = property(lambda self: True, lambda self, value: None)

        attack = FeaturesFirst(
            model=self._surrogate,
            nnodes=arrays.labels.size,
            feature_shape=arrays.features.shape,
            attack_structure=self.kind == "structure",
            attack_features=self.kind == "features",
            lambda_=self.lambda_,
            train_iters=self.train_iters,
            lr=self.lr,
            device="cpu",
        )
        if self.kind == "features":
            # DeepRobust makes a tensor *of* the shape's two numbers, not one of that shape
            attack.feature_changes = torch.nn.Parameter(torch.zeros(arrays.features.shape))
        attack.attack(
            arrays.features if self.kind == "structure" else arrays.features.toarray(),
            arrays.adjacency.toarray(),
            arrays.labels,
            arrays.train,
            np.union1d(arrays.val, arrays.test),
            n_flips,
            # The likelihood-ratio constraint on the degrees indexes tensors in a way that PyTorch no longer
            # understands; the published Metattack graphs were made without it.
            ll_constraint=False,
        )
        return attack


@register
class DeepRobustMetattack(_MetaAttack):
    """DeepRobust's ``Metattack``: greedy flips along the gradient of the loss after training, through the training.

    The surrogate is a linear two-layer GCN, retrained for every flip. Zügner and Günnemann, *Adversarial Attacks on
    Graph Neural Networks via Meta Learning* (ICLR 2019). Slow: seconds per flip on Cora. The same attack, exact and a
    hundred times faster, is ``metattack``.

    Args:
        lambda_: weight of the training nodes' loss; 1 − lambda_ that of the others, with the surrogate's own
            predictions as labels. 0 is Meta-Self, 1 is Meta-Train.
        train_iters: inner training steps (gradient descent with momentum 0.9).
        lr: inner learning rate.
        seed: see :class:`Attack`.
    """

    name: ClassVar[str] = "metattack-deeprobust"
    kind: ClassVar[Kind] = "structure"
    deeprobust_class: ClassVar[str] = "Metattack"


@register
class MetaApprox(_MetaAttack):
    """DeepRobust's ``MetaApprox`` (A-Meta-Self): sums plain gradients along the training, undifferentiated.

    Args:
        lambda_: as for ``metattack-deeprobust``.
        train_iters: inner training steps (Adam).
        lr: inner learning rate.
        seed: see :class:`Attack`.
    """

    name: ClassVar[str] = "metattack-approx"
    kind: ClassVar[Kind] = "structure"
    deeprobust_class: ClassVar[str] = "MetaApprox"

    def __init__(self, *, lambda_: float = 0.0, train_iters: int = 100, lr: float = 0.01, seed: int = 0) -> None:
        super().__init__(lambda_=lambda_, train_iters=train_iters, lr=lr, seed=seed)


@register
class MetattackFeatures(_MetaAttack):
    """DeepRobust's ``Metattack`` on the features: as ``metattack-deeprobust``, but flips entries of a binary x.

    Args:
        lambda_: as for ``metattack-deeprobust``.
        train_iters: inner training steps (gradient descent with momentum 0.9).
        lr: inner learning rate.
        seed: see :class:`Attack`.
    """

    name: ClassVar[str] = "metattack-features-deeprobust"
    kind: ClassVar[Kind] = "features"
    deeprobust_class: ClassVar[str] = "Metattack"
