"""Metattack: poison the graph that a GCN will be trained on, by the exact meta-gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from contractive_gnn.attacks.base import (
    Attack,
    Kind,
    Knowledge,
    Perturbation,
    Scope,
    check_choice,
    check_count,
    register,
)
from contractive_gnn.attacks.candidates import Candidates, candidates_of, check_candidates, told
from contractive_gnn.attacks.edge_scores import Best, best_edge_flip
from contractive_gnn.attacks.factored_matrix import BLOCK, Array, FactoredMatrix, Indices, Matrix, Sparse
from contractive_gnn.attacks.likelihood_ratio import DegreeTest
from contractive_gnn.attacks.meta_gradient import (
    OUTER_LOSSES,
    Gram,
    InnerTraining,
    MetaGradient,
    Problem,
    Weights,
    general_meta_gradient,
    linear_meta_gradient,
    normalise,
)
from contractive_gnn.checks import check_flag, check_real


@dataclass(frozen=True, kw_only=True)
class FlipReport:
    """What one step of the attack did, for progress bars and logs.

    Args:
        step: 1…total.
        total: steps that the budget allows.
        entry: the edge (u, v), u < v, or the feature entry (node, column).
        score: first-order increase of ``loss`` that the flip promises.
        loss: the attacker's loss after training on the graph as it was before the flip.
    """

    step: int
    total: int
    entry: tuple[int, int]
    score: float
    loss: float


class MetaGradientAttack(Attack):
    """What the attacks on edges and on feature entries share: the surrogate, its labels and the loop over flips."""

    scope: ClassVar[Scope] = "global"
    knowledge: ClassVar[Knowledge] = "transfer"
    packages: ClassVar[tuple[str, ...]] = ("scipy",)
    #: what ``outer_loss=None`` and ``candidates=None`` stand for
    own_outer_loss: ClassVar[str] = "cross-entropy"
    own_candidates: ClassVar[str] = "all"

    def __init__(
        self,
        *,
        seed: int = 0,
        outer_loss: str | None = None,
        lambda_: float = 0.0,
        hidden: int = 16,
        train_iters: int = 100,
        lr: float = 0.1,
        momentum: float = 0.9,
        with_relu: bool = False,
        with_bias: bool = False,
        self_training_labels: Tensor | None = None,
        on_flip: Callable[[FlipReport], None] | None = None,
        candidates: str | Tensor | None = None,
    ) -> None:
        super().__init__(seed=seed)
        own = self.own_outer_loss if outer_loss is None else outer_loss
        self.outer_loss = check_choice("outer_loss", own, tuple(OUTER_LOSSES))
        self.candidates = check_candidates(self.own_candidates if candidates is None else candidates)
        check_real("lambda_", lambda_, least=0, most=1)
        check_real("momentum", momentum, least=0, below=1)
        check_real("lr", lr, above=0)
        check_flag("with_relu", with_relu)
        check_flag("with_bias", with_bias)
        if self_training_labels is not None and (
            not isinstance(self_training_labels, Tensor)
            or self_training_labels.dtype != torch.int64
            or self_training_labels.dim() != 1
        ):
            raise TypeError("self_training_labels is an int64 tensor [n]: one class for every node")
        self.lambda_ = float(lambda_)
        self.hidden = check_count("hidden", hidden)
        self.train_iters = check_count("train_iters", train_iters)
        self.lr = float(lr)
        self.momentum = float(momentum)
        self.with_relu = with_relu
        self.with_bias = with_bias
        self.self_training_labels = None if self_training_labels is None else self_training_labels.clone()
        self.on_flip = on_flip

    @property
    def params(self) -> dict[str, Any]:
        """The attack's own hyperparameters, without the seed and the callback."""
        params = {**super().params}
        params.pop("on_flip", None)
        if self.self_training_labels is not None:
            params["self_training_labels"] = self.self_training_labels.tolist()
        if "candidates" in params:
            params["candidates"] = told(self.candidates)
        return params

    def _prepare(self, data: Data) -> None:
        n = int(data.num_nodes)
        self._candidates: Candidates | None = candidates_of(self.candidates, data)
        train = _nodes(data.train_mask)
        unlabelled = _nodes(data.val_mask | data.test_mask)
        if train.size == 0:
            raise ValueError(f"attack {self.name!r} trains a surrogate: train_mask selects no node")
        if self.lambda_ < 1 and unlabelled.size == 0:
            raise ValueError(
                f"attack {self.name!r} with lambda_={self.lambda_} raises the loss on the nodes of val_mask and "
                "test_mask: they select no node (lambda_=1 uses the training nodes only)"
            )
        labels = data.y.to("cpu", torch.int64)
        self._classes = int(labels.max()) + 1
        self._gram = Gram()
        given = self.self_training_labels
        if given is None:
            surrogate = train_surrogate(data, hidden=self.hidden, with_relu=self.with_relu, with_bias=self.with_bias)
            guessed = surrogate.labels
        elif given.shape[0] != n or int(given.min()) < 0 or int(given.max()) >= self._classes:
            values = f" in {int(given.min())}…{int(given.max())}" if given.numel() else ""
            raise ValueError(
                f"self_training_labels has {given.shape[0]} entries{values}; this graph has {n} nodes and the classes "
                f"0…{self._classes - 1}: give one class for every node"
            )
        else:
            guessed = given.cpu()
        self._train, self._unlabelled = train, unlabelled
        self._train_labels: Indices = labels.numpy()[train]
        self._outer_labels: Indices = guessed.numpy().copy()
        self._outer_labels[train] = self._train_labels
        self._outer_weights: Array = np.zeros(n)
        if self.lambda_ < 1:
            self._outer_weights[unlabelled] += (1 - self.lambda_) / unlabelled.size
        if self.lambda_ > 0:
            self._outer_weights[train] += self.lambda_ / train.size
        # DeepRobust draws once in its constructor, and again before every flip
        self._draw(int(data.x.shape[1]))

    def _draw(self, features: int) -> Weights:
        """Initial weights, drawn in DeepRobust's order and precision: uniform in ±1/√columns."""
        width = 1 / math.sqrt(self.hidden), 1 / math.sqrt(self._classes)
        W = torch.empty(features, self.hidden).uniform_(-width[0], width[0])
        V = torch.empty(self.hidden, self._classes).uniform_(-width[1], width[1])
        if not self.with_bias:
            return Weights(W=W.double().numpy(), V=V.double().numpy())
        # both biases take the width of the last layer
        b = torch.empty(self.hidden).uniform_(-width[1], width[1])
        c = torch.empty(self._classes).uniform_(-width[1], width[1])
        return Weights(W=W.double().numpy(), V=V.double().numpy(), b=b.double().numpy(), c=c.double().numpy())

    def _problem(self, S: Sparse, X: Matrix) -> Problem:
        return Problem(
            S=S,
            X=X,
            train=self._train,
            train_labels=self._train_labels,
            outer_labels=self._outer_labels,
            outer_weights=self._outer_weights,
            outer_loss=self.outer_loss,
            classes=self._classes,
        )

    def _gradient(self, adjacency: Sparse, S: Sparse, X: Matrix) -> MetaGradient:
        problem, initial = self._problem(S, X), self._draw(X.shape[1])
        inner = InnerTraining(steps=self.train_iters, lr=self.lr, momentum=self.momentum)
        if self.with_relu or self.with_bias:
            return general_meta_gradient(problem, initial, inner, relu=self.with_relu)
        return linear_meta_gradient(problem, initial, inner, gram=self._gram)

    def _report(self, step: int, total: int, entry: tuple[int, int], score: float, loss: float) -> None:
        if self.on_flip is not None:
            self.on_flip(FlipReport(step=step, total=total, entry=entry, score=score, loss=loss))


@register
class Metattack(MetaGradientAttack):
    """Metattack on the edges (Zügner and Günnemann, ICLR 2019): the flips of DeepRobust's ``Metattack``, much faster.

    Greedily, flip the edge whose entry of the meta-gradient promises the largest increase of

        (1 − λ)·mean over val and test nodes of ℓ(logits, self-training labels) + λ·mean over training nodes of ℓ

    after a two-layer GCN has been trained on the flipped graph. ℓ is the cross-entropy, or minus the probability of
    the label (:class:`GraD`). See :mod:`contractive_gnn.attacks.meta_gradient`.

    As in DeepRobust: no self-loop; an edge at a node of degree 1 stays; an edge that has been flipped scores 0, so it
    is flipped back only where every other flip would lower the loss (the result then has fewer flips than the budget).
    Unlike there: the surrogate for the self-training labels is trained here, without DeepRobust; float64, so that the
    flips differ where DeepRobust's float32 cannot tell the best two apart (with λ = 1, once the surrogate fits its
    training nodes perfectly); and the attack stops where no flip is admissible. Memory is O(nd + nm) for m training
    nodes.

    Args:
        seed: of the surrogate and of the initial weights, drawn in DeepRobust's order.
        outer_loss: ℓ: "cross-entropy" or "probability"; None takes what the attack is named for.
        lambda_: λ: 0 is Meta-Self, 1 Meta-Train, 0.5 "both".
        hidden: hidden units of the surrogate.
        train_iters: inner training steps.
        lr: inner learning rate.
        momentum: of the inner training.
        with_relu: ReLU in the hidden layer; with it, or with biases, a flip takes about ten times as long.
        with_bias: biases in both layers.
        self_training_labels: int64 ``[n]``; None trains the surrogate on the clean graph and takes its predictions.
        on_flip: called after each step with a :class:`FlipReport`; not part of the provenance.
        candidates: which pairs may be flipped: "all"; "unlabelled", those of two nodes outside ``train_mask``; a bool
            tensor ``[n]``, those of two of these nodes; or a symmetric bool tensor ``[n, n]``. None takes what the
            attack is named for.
        ll_constraint: only flips that pass the likelihood-ratio test on the degree distribution.
        ll_cutoff: its critical value.

    Raises:
        ValueError: an argument outside its range; from ``run`` also a graph without training nodes, without nodes to
            attack, or without candidates.
        AttackError: (from ``run``) the inner training diverged.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> cg.attack(None, data, "metattack", flips=3, candidates="unlabelled", train_iters=20).n_flips
        3
    """

    name: ClassVar[str] = "metattack"
    kind: ClassVar[Kind] = "structure"
    reads_features: ClassVar[bool] = True

    def __init__(
        self,
        *,
        seed: int = 0,
        outer_loss: str | None = None,
        lambda_: float = 0.0,
        hidden: int = 16,
        train_iters: int = 100,
        lr: float = 0.1,
        momentum: float = 0.9,
        with_relu: bool = False,
        with_bias: bool = False,
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
            with_relu=with_relu,
            with_bias=with_bias,
            self_training_labels=self_training_labels,
            on_flip=on_flip,
            candidates=candidates,
        )
        check_flag("ll_constraint", ll_constraint)
        check_real("ll_cutoff", ll_cutoff, above=0)
        self.ll_constraint = ll_constraint
        self.ll_cutoff = float(ll_cutoff)

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        adjacency, X = adjacency_of(data), compact(data.x.numpy(force=True))
        clean = adjacency.sum(axis=1)
        flipped: set[tuple[int, int]] = set()
        for step in range(1, n_flips + 1):
            S, degrees = normalise(adjacency)
            gradient = self._gradient(adjacency, S, X)
            best = best_edge_flip(
                gradient.propagation,
                S,
                degrees,
                adjacency,
                flipped=flipped,
                test=DegreeTest(clean, degrees - 1, cutoff=self.ll_cutoff) if self.ll_constraint else None,
                candidates=self._candidates,
                views=gradient.views,
            )
            if best is None:
                break
            edge, score = best
            flipped ^= {edge}
            adjacency = _toggled(adjacency, *edge)
            self._report(step, n_flips, edge, score, gradient.loss)
        return Perturbation(edge_flips=_columns(flipped))


@register
class GraD(Metattack):
    """Metattack with another loss to raise: ℓ = −p_y, minus the probability of the self-training label.

    The cross-entropy of a node that is lost already grows without end, and so the budget goes to such nodes. The
    probability is bounded: its derivative by the logits, p_y (p − 1_y), is largest where a node is about to change.
    Liu et al., *Towards Reasonable Budget Allocation in Untargeted Graph Structure Attacks via
    Gradient Debias* (NeurIPS 2022). The arguments are those of :class:`Metattack`.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> cg.attack(None, data, "grad", flips=3, train_iters=20).n_flips
        3
    """

    name: ClassVar[str] = "grad"
    own_outer_loss: ClassVar[str] = "probability"
    reads_features: ClassVar[bool] = True


@register
class MetattackUnlabelled(Metattack):
    """Metattack that touches no labelled node: only pairs of nodes outside ``train_mask`` are flipped.

    Nearly every edge that Metattack adds ends at a labelled node, and defences learn to distrust those. The arguments
    are those of :class:`Metattack`.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> flips = cg.attack(None, data, "metattack-unlabelled", flips=3, train_iters=20).edge_flips
        >>> bool(data.train_mask[flips].any())
        False
    """

    name: ClassVar[str] = "metattack-unlabelled"
    own_candidates: ClassVar[str] = "unlabelled"
    reads_features: ClassVar[bool] = True


@register
class MetattackFeatures(MetaGradientAttack):
    """Metattack on binary node features: the same meta-gradient, by the entries of X.

    As in DeepRobust's ``Metattack(attack_features=True, attack_structure=False)`` an entry that has been flipped stays
    a candidate, and a step that flips it back counts. The arguments are those of :class:`Metattack`; ``candidates``
    says at which nodes an entry may be flipped: "all", "unlabelled" or a bool tensor ``[n]``.
    """

    name: ClassVar[str] = "metattack-features"
    kind: ClassVar[Kind] = "features"
    reads_features: ClassVar[bool] = True

    def _prepare(self, data: Data) -> None:
        super()._prepare(data)
        if self._candidates is not None and self._candidates.pairs is not None:
            raise ValueError(f"attack {self.name!r} flips features: candidates is a mask over nodes [n], given [n, n]")

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        adjacency = adjacency_of(data)
        S, _ = normalise(adjacency)
        nodes = np.ones(S.shape[0], dtype=bool) if self._candidates is None else self._candidates.nodes
        features = data.x.numpy(force=True).astype(np.float64)
        flipped: set[tuple[int, int]] = set()
        for step in range(1, n_flips + 1):
            gradient = self._gradient(adjacency, S, compact(features))
            entry, score = best_feature_flip(gradient.features, features, nodes)
            flipped ^= {entry}
            features[entry] = 1 - features[entry]
            self._report(step, n_flips, entry, score, gradient.loss)
        return Perturbation(feature_flips=_columns(flipped))


def best_feature_flip(
    gradient: FactoredMatrix, features: Array, nodes: NDArray[np.bool_]
) -> tuple[tuple[int, int], float]:
    """The entry (node, column) of binary ``features`` with the largest score (1 − 2x)·∂L/∂x, and that score.

    Only at the ``nodes`` of this mask ``[n]``, of which there is at least one.
    """
    best = Best(symmetric=False)
    for start in range(0, features.shape[0], BLOCK):
        stop = min(start + BLOCK, features.shape[0])
        scores = (1 - 2 * features[start:stop]) * gradient.block(start, stop)
        best.look(np.where(nodes[start:stop, None], scores, -np.inf), np.arange(start, stop))
    entry = best.first()
    assert entry is not None  # every finite gradient has a largest entry
    return entry


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """A trained two-layer GCN.

    Args:
        output: float32 ``[n, c]``, log-probabilities.
        parameters: float32: W ``[d, h]`` and V ``[h, c]``; with biases W, b, V, c.
    """

    output: Tensor
    parameters: tuple[Tensor, ...]

    @property
    def labels(self) -> Tensor:
        """The classes that it predicts for all nodes, int64 ``[n]``: what Meta-Self attacks."""
        return self.output.argmax(dim=1)


def train_surrogate(
    data: Data,
    *,
    hidden: int = 16,
    with_relu: bool = False,
    with_bias: bool = False,
    epochs: int = 200,
    patience: int = 30,
) -> Surrogate:
    """A two-layer GCN as DeepRobust trains its surrogates.

    float32 and torch's global generator, in the order of DeepRobust's ``GCN(…, dropout=0).fit(…, patience=30)``:
    weights are drawn twice; Adam with lr 0.01 (and weight decay 5e-4 with a ReLU only); the epoch with the lowest
    validation loss counts, and training stops when that has not fallen for ``patience`` epochs. Without validation
    nodes, the last epoch counts.

    Args:
        data: x, edge_index, y, train_mask, val_mask.
        hidden: hidden units.
        with_relu: ReLU in the hidden layer.
        with_bias: biases in both layers.
        epochs: at most so many.
        patience: see above.
    """
    S = _torch_sparse(normalise(adjacency_of(data))[0])
    X = _torch_sparse(sp.csr_array(data.x.numpy(force=True)))
    labels = data.y.to("cpu", torch.int64)
    train, val = data.train_mask.cpu(), data.val_mask.cpu()
    shapes = (X.shape[1], hidden), (hidden, int(labels.max()) + 1)
    for _ in range(2):  # DeepRobust's GCN draws in its constructor and again in fit
        parameters = []
        for shape in shapes:
            width = 1 / math.sqrt(shape[1])
            parameters.append(torch.empty(shape).uniform_(-width, width))
            if with_bias:
                parameters.append(torch.empty(shape[1]).uniform_(-width, width))
    W, b, V, c = parameters if with_bias else (parameters[0], None, parameters[1], None)
    optimizer = torch.optim.Adam(
        [parameter.requires_grad_() for parameter in parameters], lr=0.01, weight_decay=5e-4 if with_relu else 0
    )

    def log_probabilities() -> Tensor:
        U = torch.sparse.mm(S, torch.sparse.mm(X, W))
        U = U if b is None else U + b
        Z = torch.sparse.mm(S, (U.relu() if with_relu else U) @ V)
        return F.log_softmax(Z if c is None else Z + c, dim=1)

    def trained() -> Surrogate:
        return Surrogate(output=output.detach(), parameters=tuple(p.detach().clone() for p in parameters))

    validated = bool(val.any())
    best_loss, waited = math.inf, 0
    with torch.enable_grad():
        output = log_probabilities()
        best = trained()
        for epoch in range(epochs):
            optimizer.zero_grad()
            F.nll_loss(output[train], labels[train]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            output = log_probabilities()
            loss = float(F.nll_loss(output[val].detach(), labels[val]))
            if not validated or loss < best_loss:
                best_loss, waited, best = loss, 0, trained()
                continue
            waited += 1
            if epoch > patience and waited >= patience:
                break
    return best


def _nodes(mask: Tensor) -> Indices:
    nodes: Indices = mask.nonzero().flatten().numpy(force=True)
    return nodes


def adjacency_of(data: Data) -> Sparse:
    """A, CSR ``[n, n]`` of ones, sorted."""
    row, column = data.edge_index.numpy(force=True)
    n = int(data.num_nodes)
    adjacency = sp.csr_array((np.ones(row.size), (row, column)), shape=(n, n))
    adjacency.sort_indices()
    return adjacency


def _toggled(adjacency: Sparse, u: int, v: int) -> Sparse:
    change = 1 - 2 * adjacency[u, v]
    toggled = adjacency + sp.csr_array(([change, change], ([u, v], [v, u])), shape=adjacency.shape)
    toggled.eliminate_zeros()
    return toggled


def compact(features: Array) -> Matrix:
    """float64, as CSR where that is less work."""
    sparse = np.count_nonzero(features) < 0.25 * features.size
    return sp.csr_array(features).astype(np.float64) if sparse else features.astype(np.float64, copy=False)


def _columns(entries: set[tuple[int, int]]) -> Tensor:
    return torch.tensor(sorted(entries), dtype=torch.int64).reshape(-1, 2).t().contiguous()


def _torch_sparse(matrix: Sparse) -> Tensor:
    coo = matrix.tocoo()
    indices = torch.from_numpy(np.stack(coo.coords).astype(np.int64))
    values = torch.from_numpy(coo.data.astype(np.float32))
    return torch.sparse_coo_tensor(indices, values, coo.shape, check_invariants=False).coalesce()
