"""DeepRobust's defences as PyG models: train on one graph, predict on that one or another.

Each class builds DeepRobust's own module (``inner``), lets it train itself with DeepRobust's own loop, and runs its own
layers in ``forward``, after the same preprocessing of whatever graph it is given. What the published code does not have
is added here and nowhere else: prediction on another graph, edge weights, and, where it exists, their gradient.

All of them need the extra ``contractive-gnn[attacks]``, which has DeepRobust.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn._deeprobust import Arrays, import_deeprobust, mended, replaced, to_arrays
from contractive_gnn.checks import check_flag, check_real, check_whole, check_widths
from contractive_gnn.seeding import seeded
from contractive_gnn.trainable import TrainsItself

EdgeWeightGradient = Literal["exact", "approximate", "none"]


class TransductiveModelError(RuntimeError):
    """A model that learned one graph was asked to predict on another."""


def _check_numbers(in_channels: int, out_channels: int, hidden: int, dropout: float, lr: float, **reals: float) -> None:
    """Whether these can be what a model's constructor calls them; ``reals`` are not negative."""
    check_whole("in_channels", in_channels, least=1)  # DeepRobust infers none
    check_widths(in_channels, out_channels=out_channels, hidden=hidden)
    check_real("dropout", dropout, least=0, most=1)
    check_real("lr", lr, above=0)
    for name, value in reals.items():
        check_real(name, value, least=0)


class DeepRobustModel(nn.Module, TrainsItself):
    """A defence of DeepRobust.

    Shapes:
        ``x`` ``[n, in_channels]`` dense or sparse, ``edge_index`` int64 ``[2, 2m]`` without self-loops, ``edge_weight``
        ``[2m]`` or None for ones; output ``[n, out_channels]``.

    Attributes:
        edge_weight_gradient: whether the output is differentiable in ``edge_weight``: "exact"; "approximate", where a
            step of the model is replaced by its first-order approximation in the backward pass; or "none". An adaptive
            attack by gradients is meaningful for the first, weaker for the second and impossible for the third. First
            derivatives are meant: but for Pro-GNN's, ``create_graph=True`` raises NotImplementedError.
        reads_whole_graph: whether the answer at a node follows what no path of edges joins to it, so that the graphs of
            a batch do not stay apart.
        inner: DeepRobust's module.
    """

    edge_weight_gradient: ClassVar[EdgeWeightGradient]
    reads_whole_graph: ClassVar[bool] = False
    # what DeepRobust's fit leaves on its module: the training graph, and tensors of an autograd graph
    _left_behind: ClassVar[tuple[str, ...]] = ("output", "features", "labels", "adj_norm", "modified_adj")

    inner: Any

    def __init__(self, *, epochs: int) -> None:
        super().__init__()
        check_whole("epochs", epochs, least=1)
        self.epochs = epochs

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.inner.initialize()

    @abstractmethod
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores."""

    def fit_data(self, data: Data, *, seed: int = 0) -> None:
        """Train on ``data.train_mask`` by DeepRobust's own loop, which keeps its best epoch on ``data.val_mask``.

        Args:
            data: graph with dense x, edge_index, y and the masks.
            seed: of everything random in it; the global random states are left as they were.

        Raises:
            DeepRobustMissing: DeepRobust is not installed.
        """
        with _seeded(seed), mended(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.reset_parameters()
            # Pro-GNN's first step takes the mode as it finds it
            self.train()
            self._fit(data, to_arrays(data))
        for name in self._left_behind:
            if hasattr(self.inner, name):
                setattr(self.inner, name, None)
        self.eval()

    @abstractmethod
    def _fit(self, data: Data, arrays: Arrays) -> None:
        """Run DeepRobust's loop."""

    def _fit_inner(self, arrays: Arrays, **settings: Any) -> None:
        """The loop of the modules that take arrays."""
        self.inner.fit(
            arrays.features,
            arrays.adjacency,
            arrays.labels,
            arrays.train,
            arrays.val,
            train_iters=self.epochs,
            verbose=False,
            **settings,
        )


class RGCN(DeepRobustModel):
    """Robust GCN: hidden Gaussians, with neighbours of large variance attended to less.

    Zhu et al., *Robust Graph Convolutional Networks Against Adversarial Attacks* (KDD 2019). Two mends: DeepRobust
    remembers the output of its best epoch but not the weights, which are kept here; and it predicts from a sample of
    the last Gaussian, where this returns its mean, so that the prediction is a function of the graph.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        hidden: width.
        gamma: how much variance counts in the attention.
        beta1: weight of the Kullback–Leibler term.
        beta2: weight of the first layer's squared norm.
        lr: of Adam.
        dropout: probability.
        epochs: of training.
    """

    edge_weight_gradient: ClassVar[EdgeWeightGradient] = "exact"
    _left_behind: ClassVar[tuple[str, ...]] = ("features", "labels", "adj_norm1", "adj_norm2")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden: int = 32,
        gamma: float = 1.0,
        beta1: float = 5e-4,
        beta2: float = 5e-4,
        lr: float = 0.01,
        dropout: float = 0.6,
        epochs: int = 200,
    ) -> None:
        super().__init__(epochs=epochs)
        _check_numbers(in_channels, out_channels, hidden, dropout, lr, gamma=gamma, beta1=beta1, beta2=beta2)
        self.inner = import_deeprobust("graph.defense").RGCN(
            nnodes=1,
            nfeat=in_channels,
            nhid=hidden,
            nclass=out_channels,
            gamma=gamma,
            beta1=beta1,
            beta2=beta2,
            lr=lr,
            dropout=dropout,
        )
        self.out_channels = out_channels

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.inner._initialize()

    def _fit(self, data: Data, arrays: Arrays) -> None:
        n = arrays.labels.size
        self.inner.gaussian = torch.distributions.Normal(
            torch.zeros(n, self.out_channels), torch.ones(n, self.out_channels)
        )
        best: dict[str, Tensor] = {}

        def keep(model: nn.Module, _: Tensor) -> None:
            best.update(copy.deepcopy(model.state_dict()))

        edge_index = data.edge_index

        def normalise(_: Tensor, power: float = -1 / 2) -> Tensor:
            return normalised_adjacency(edge_index, None, n, power=power)

        with replaced(type(self.inner), output=property(fset=keep)), replaced(self.inner, _normalize_adj=normalise):
            self._fit_inner(arrays)
        self.inner.load_state_dict(best)
        self._forget()

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores: the mean of the last Gaussian."""
        by_mean = normalised_adjacency(edge_index, edge_weight, x.size(0), dtype=x.dtype)
        by_variance = normalised_adjacency(edge_index, edge_weight, x.size(0), dtype=x.dtype, power=-1.0)
        mean, variance = self.inner.gc1(_dense(x), by_mean, by_variance, self.inner.gamma)
        mean, _ = self.inner.gc2(mean, variance, by_mean, by_variance, self.inner.gamma)
        self._forget()
        return _once_differentiable(mean)

    def _forget(self) -> None:
        # the first layer keeps its last activations for the training loss: tensors of an autograd graph
        self.inner.gc1.miu = self.inner.gc1.sigma = None


class _PreprocessedGCN(DeepRobustModel):
    """DeepRobust's GCN on a graph that was cleaned before."""

    deeprobust_class: ClassVar[str]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden: int,
        dropout: float,
        lr: float,
        weight_decay: float,
        epochs: int,
    ) -> None:
        super().__init__(epochs=epochs)
        _check_numbers(in_channels, out_channels, hidden, dropout, lr, weight_decay=weight_decay)
        self.inner = getattr(import_deeprobust("graph.defense"), self.deeprobust_class)(
            nfeat=in_channels,
            nhid=hidden,
            nclass=out_channels,
            dropout=dropout,
            lr=lr,
            weight_decay=weight_decay,
            device="cpu",
        )

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores (log-probabilities)."""
        x = _dense(x)
        return _once_differentiable(self.inner(x, self._clean(x, edge_index, edge_weight)))

    @abstractmethod
    def _clean(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Tensor:
        """The cleaned adjacency, normalised, with self-loops."""


class GCNJaccard(_PreprocessedGCN):
    """GCN without the edges whose ends have a similarity below ``threshold``.

    Wu et al., *Adversarial Examples for Graph Data: Deep Insights into Attack and Defense* (IJCAI 2019). On features
    that no two nodes share (Polblogs) it drops every edge. The output is differentiable in the weights of the edges
    that stay, and does not depend on the others; which ones stay is not differentiable in x.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        threshold: least similarity of an edge's ends.
        similarity: "jaccard", of the non-zero entries, or "cosine".
        hidden: width.
        dropout: probability.
        lr: of Adam.
        weight_decay: of Adam.
        epochs: of training.
    """

    edge_weight_gradient: ClassVar[EdgeWeightGradient] = "exact"
    deeprobust_class: ClassVar[str] = "GCNJaccard"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        threshold: float = 0.01,
        similarity: str = "jaccard",
        hidden: int = 16,
        dropout: float = 0.5,
        lr: float = 0.01,
        weight_decay: float = 5e-4,
        epochs: int = 200,
    ) -> None:
        if similarity not in ("jaccard", "cosine"):
            raise ValueError(f"similarity is 'jaccard' or 'cosine', given {similarity!r}")
        check_real("threshold", threshold, least=0)
        super().__init__(
            in_channels,
            out_channels,
            hidden=hidden,
            dropout=dropout,
            lr=lr,
            weight_decay=weight_decay,
            epochs=epochs,
        )
        self.threshold = threshold
        self.similarity = similarity
        self.inner.binary_feature = similarity == "jaccard"

    def _fit(self, data: Data, arrays: Arrays) -> None:
        self._fit_inner(arrays, threshold=self.threshold)

    def _clean(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Tensor:
        with torch.no_grad():
            kept = self._similarities(x, edge_index) >= self.threshold
        weight = None if edge_weight is None else edge_weight[kept]
        return normalised_adjacency(edge_index[:, kept], weight, x.size(0), dtype=x.dtype)

    def _similarities(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Jaccard or cosine similarity of the ends of each edge, ``[E]``, in double precision, as DeepRobust has it."""
        features = x.numpy(force=True).astype(np.float64)
        rows = (
            sp.csr_matrix(features != 0, dtype=np.float64) if self.similarity == "jaccard" else sp.csr_matrix(features)
        )
        u, v = edge_index.numpy(force=True)
        products = np.asarray(rows[u].multiply(rows[v]).sum(axis=1)).ravel()
        sizes = np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
        if self.similarity == "jaccard":
            with np.errstate(invalid="ignore"):
                # 0/0 between two nodes without features: not below the threshold, as in DeepRobust
                similarity = np.nan_to_num(products / (sizes[u] + sizes[v] - products), nan=np.inf)
        else:
            similarity = products / (np.sqrt(sizes[u] * sizes[v]) + 1e-8)
        return torch.from_numpy(similarity).to(edge_index.device)


class GCNSVD(_PreprocessedGCN):
    """GCN on the best approximation of the adjacency by a matrix of rank k.

    Entezari et al., *All You Need Is Low (Rank): Defending Against Adversarial Attacks on Graphs* (WSDM 2020). Dense:
    n² memory. Every forward computes k eigenpairs of the (weighted) adjacency. The gradient in the edge weights is that
    of the projection on the tangent space of the matrices of rank k, dA ↦ P dA + dA P − P dA P with P = UUᵀ: exact
    where A has rank k, an approximation elsewhere.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        rank: k.
        hidden: width.
        dropout: probability.
        lr: of Adam.
        weight_decay: of Adam.
        epochs: of training.
    """

    edge_weight_gradient: ClassVar[EdgeWeightGradient] = "approximate"
    reads_whole_graph: ClassVar[bool] = True
    deeprobust_class: ClassVar[str] = "GCNSVD"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        rank: int = 50,
        hidden: int = 16,
        dropout: float = 0.5,
        lr: float = 0.01,
        weight_decay: float = 5e-4,
        epochs: int = 200,
    ) -> None:
        check_whole("rank", rank, least=1)
        super().__init__(
            in_channels,
            out_channels,
            hidden=hidden,
            dropout=dropout,
            lr=lr,
            weight_decay=weight_decay,
            epochs=epochs,
        )
        self.rank = rank

    def _fit(self, data: Data, arrays: Arrays) -> None:
        self._check_rank(arrays.labels.size)
        with (
            # SciPy's svds starts at a point that no seed decides
            replaced(self.inner, truncatedSVD=lambda matrix, k: _multiply(*_eigenpairs(matrix, k))),
            replaced(import_deeprobust("graph.utils"), normalize_adj_tensor=_normalised_dense),
        ):
            self._fit_inner(arrays, k=self.rank)

    def _clean(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Tensor:
        n = x.size(0)
        self._check_rank(n)
        weight = x.new_ones(edge_index.size(1)) if edge_weight is None else edge_weight
        row, column = edge_index.numpy(force=True)
        matrix = sp.csr_matrix((weight.numpy(force=True).astype(np.float64), (row, column)), shape=(n, n))
        vectors, values = _eigenpairs(matrix, self.rank)
        u = torch.from_numpy(vectors).to(x)
        adjacency = torch.from_numpy(_multiply(vectors, values)).to(x)
        if weight.requires_grad:
            tangent = _onto_tangent_space(x.new_zeros(n, n).index_put((edge_index[0], edge_index[1]), weight), u)
            adjacency = adjacency + tangent - tangent.detach()
        return _normalised_dense(adjacency)

    def _check_rank(self, n: int) -> None:
        if self.rank >= n:
            raise ValueError(f"gcn-svd: rank {self.rank} is not below the {n} nodes of the graph; give a smaller rank")


_Array = np.ndarray[Any, np.dtype[np.float64]]


def _eigenpairs(adjacency: Any, k: int) -> tuple[_Array, _Array]:
    """The k eigenvectors ``[n, k]`` and eigenvalues of largest modulus: of a symmetric matrix, its singular vectors."""
    start = np.ones(adjacency.shape[0])
    values, vectors = sp.linalg.eigsh(adjacency.astype(np.float64), k=k, which="LM", v0=start)
    return np.ascontiguousarray(vectors), values


def _multiply(vectors: _Array, values: _Array) -> _Array:
    product: _Array = (vectors * values) @ vectors.T
    return product


def _normalised_dense(adjacency: Tensor) -> Tensor:
    """D^-½ (A + I) D^-½, with 0 for the rows of A + I whose sum is not positive.

    An approximation of an adjacency can have such rows (Cora's of rank 200 does), and DeepRobust NaN there.
    """
    looped = adjacency + torch.eye(adjacency.size(0), dtype=adjacency.dtype, device=adjacency.device)
    degree = looped.sum(dim=1)
    positive = degree > 0
    scale = torch.where(positive, torch.where(positive, degree, 1.0).rsqrt(), 0.0)
    return scale[:, None] * looped * scale


def _onto_tangent_space(adjacency: Tensor, u: Tensor) -> Tensor:
    left = u.t() @ adjacency
    return u @ left + (adjacency @ u) @ u.t() - u @ (left @ u) @ u.t()


class MedianGCN(DeepRobustModel):
    """GCN that takes the median of the neighbours (and the node itself), channel by channel, instead of a mean.

    Chen et al., *Understanding Structural Vulnerability in Graph Convolutional Networks* (IJCAI 2021). A median has no
    useful gradient in the weight of an edge, and DeepRobust's has no weights: here an edge counts where its weight
    exceeds 1/2, and the output is constant in ``edge_weight`` otherwise.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        hidden: width.
        dropout: probability.
        lr: of Adam.
        weight_decay: of Adam.
        epochs: of training.
    """

    edge_weight_gradient: ClassVar[EdgeWeightGradient] = "none"
    _left_behind: ClassVar[tuple[str, ...]] = ("output", "data")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden: int = 16,
        dropout: float = 0.5,
        lr: float = 0.01,
        weight_decay: float = 5e-4,
        epochs: int = 200,
    ) -> None:
        super().__init__(epochs=epochs)
        _check_numbers(in_channels, out_channels, hidden, dropout, lr, weight_decay=weight_decay)
        self.inner = import_deeprobust("graph.defense").MedianGCN(
            nfeat=in_channels,
            nhid=hidden,
            nclass=out_channels,
            dropout=dropout,
            lr=lr,
            weight_decay=weight_decay,
            device="cpu",
        )

    def _fit(self, data: Data, arrays: Arrays) -> None:
        self.inner.fit([data.clone()], train_iters=self.epochs, verbose=False)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores (log-probabilities)."""
        if edge_weight is not None:
            edge_index = edge_index[:, edge_weight > 0.5]
        return self.inner(Data(x=_dense(x), edge_index=edge_index))  # type: ignore[no-any-return]


class SimPGCN(DeepRobustModel):
    """GCN that mixes the graph with the graph of the 20 most similar nodes, and learns to tell similar nodes.

    Jin et al., *Node Similarity Preserving Graph Convolutional Networks* (WSDM 2021), with the settings of its authors'
    script for attacked Cora. DeepRobust keeps the similar nodes in files named after the *shape* of the features, in
    the working directory, so that a second graph of the same shape is trained on those of the first; here they are
    computed anew for other features and no file is written. They are not differentiable in x. Dense: n² memory while
    they are computed.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        hidden: width.
        lambda_: weight of the self-supervised loss.
        gamma: weight of the learned self-loops.
        bias_init: first value of the bias of the mixing score.
        dropout: probability.
        lr: of Adam.
        weight_decay: of Adam.
        epochs: of training.
    """

    reads_whole_graph: ClassVar[bool] = True
    edge_weight_gradient: ClassVar[EdgeWeightGradient] = "exact"
    _left_behind: ClassVar[tuple[str, ...]] = (
        "output",
        "features",
        "labels",
        "adj_norm",
        "pseudo_labels",
        "node_pairs",
        "ss",
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden: int = 128,
        lambda_: float = 0.1,
        gamma: float = 0.01,
        bias_init: float = 0.0,
        dropout: float = 0.5,
        lr: float = 0.01,
        weight_decay: float = 5e-4,
        epochs: int = 200,
    ) -> None:
        super().__init__(epochs=epochs)
        reals = {"lambda_": lambda_, "gamma": gamma, "weight_decay": weight_decay}
        _check_numbers(in_channels, out_channels, hidden, dropout, lr, **reals)
        check_real("bias_init", bias_init)
        self.inner = import_deeprobust("graph.defense").SimPGCN(
            nnodes=1,
            nfeat=in_channels,
            nhid=hidden,
            nclass=out_channels,
            lambda_=lambda_,
            gamma=gamma,
            bias_init=bias_init,
            dropout=dropout,
            lr=lr,
            weight_decay=weight_decay,
            device="cpu",
        )
        # the features that inner.adj_knn belongs to
        self._similar_for: Tensor | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        super().reset_parameters()
        self.inner.linear.reset_parameters()

    def _fit(self, data: Data, arrays: Arrays) -> None:
        self._find_similar(data.x)
        similarities = cosine_similarities(data.x)
        pairs = extreme_pairs(similarities)
        self.inner.node_pairs = tuple(pairs)
        self.inner.pseudo_labels = torch.from_numpy(similarities[tuple(pairs)])[:, None]
        self._fit_inner(arrays)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores (log-probabilities)."""
        x = _dense(x)
        known = self._similar_for
        if known is None or known.dtype != x.dtype or not torch.equal(known, x):
            self._find_similar(x)
        logits = self.inner(x, normalised_adjacency(edge_index, edge_weight, x.size(0), dtype=x.dtype))
        # the scores of the last forward: a tensor of an autograd graph
        self.inner.ss = None
        return _once_differentiable(logits)

    def _find_similar(self, x: Tensor) -> None:
        normalise = import_deeprobust("graph.defense.simpgcn").preprocess_adj_noloop
        self.inner.adj_knn = normalise(nearest_neighbours(cosine_similarities(x)), x.device).to(x.dtype)
        self.inner.identity = torch.eye(x.size(0), dtype=x.dtype, device=x.device).to_sparse()
        self._similar_for = x.detach().clone()


def cosine_similarities(x: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Cosines between the supports of the rows of x, float32 ``[n, n]``; 0 where a row is empty."""
    # as DeepRobust computes them, to the last bit: among equal similarities the rounding decides who is a neighbour
    from sklearn.metrics.pairwise import cosine_similarity  # a second of import time that only this model needs

    similarities: np.ndarray[Any, np.dtype[np.float32]] = cosine_similarity(
        (x.numpy(force=True) != 0).astype(np.float32)
    )
    return similarities


def nearest_neighbours(similarities: np.ndarray[Any, np.dtype[np.float32]], k: int = 20) -> Any:
    """The k largest similarities of each row besides its own, csr_matrix ``[n, n]`` (not symmetric)."""
    similarities = similarities.copy()
    np.fill_diagonal(similarities, 0.0)
    order = np.argsort(similarities, axis=1)
    np.put_along_axis(similarities, order[:, :-k], 0.0, axis=1)
    return sp.csr_matrix(similarities)


def extreme_pairs(
    similarities: np.ndarray[Any, np.dtype[np.float32]], k: int = 5
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The pairs u < v of each node with its k least and k most similar others, each once; int64 ``[2, p]``."""
    n = similarities.shape[0]
    order = np.argsort(similarities, axis=1)
    others = np.hstack([order[:, :k], order[:, -k - 1 :]])
    nodes = np.repeat(np.arange(n), others.shape[1])
    u, v = np.minimum(nodes, others.ravel()), np.maximum(nodes, others.ravel())
    codes = np.unique(u[u < v] * n + v[u < v])
    return np.stack(np.divmod(codes, n))


class ProGNN(DeepRobustModel):
    """GCN trained together with the graph it sees: sparse, of low rank, smooth in the features, near the given one.

    Jin et al., *Graph Structure Learning for Robust Graph Neural Networks* (KDD 2020), with the settings of its script
    for Cora. What it learns is one graph: it predicts on the graph that it was trained on, with other features if need
    be, and on no other. Every epoch takes the singular value decomposition of a dense n × n
    matrix.

    Args:
        in_channels: number of features.
        out_channels: number of classes.
        hidden: width.
        dropout: probability.
        lr: of Adam.
        weight_decay: of Adam.
        epochs: of training.
        alpha: weight of ‖S‖₁.
        beta: weight of the nuclear norm.
        gamma: weight of the GCN's loss against ‖S − A‖_F.
        lambda_: weight of the feature smoothness.
        phi: weight of the asymmetry.
        lr_adj: learning rate of the graph.
        inner_steps: steps of the GCN per epoch.
        outer_steps: steps of the graph per epoch.
        symmetric: whether the graph is symmetrised.
    """

    reads_whole_graph: ClassVar[bool] = True
    edge_weight_gradient: ClassVar[EdgeWeightGradient] = "none"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden: int = 16,
        dropout: float = 0.5,
        lr: float = 1e-3,
        weight_decay: float = 5e-4,
        epochs: int = 400,
        alpha: float = 5e-4,
        beta: float = 1.5,
        gamma: float = 1.0,
        lambda_: float = 1e-3,
        phi: float = 0.0,
        lr_adj: float = 0.01,
        inner_steps: int = 2,
        outer_steps: int = 1,
        symmetric: bool = False,
    ) -> None:
        super().__init__(epochs=epochs)
        reals = {"alpha": alpha, "beta": beta, "gamma": gamma, "lambda_": lambda_, "phi": phi, "lr_adj": lr_adj}
        _check_numbers(in_channels, out_channels, hidden, dropout, lr, weight_decay=weight_decay, **reals)
        check_whole("inner_steps", inner_steps, least=0)
        check_whole("outer_steps", outer_steps, least=0)
        check_flag("symmetric", symmetric)
        self.inner = import_deeprobust("graph.defense").GCN(
            nfeat=in_channels, nhid=hidden, nclass=out_channels, dropout=dropout, device="cpu"
        )
        self.settings = argparse.Namespace(
            lr=lr,
            weight_decay=weight_decay,
            epochs=epochs,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            lambda_=lambda_,
            phi=phi,
            lr_adj=lr_adj,
            inner_steps=inner_steps,
            outer_steps=outer_steps,
            symmetric=symmetric,
            only_gcn=False,
            debug=False,
        )
        # the learned graph, normalised, and the edges of the given one as sorted codes u·n + v; empty before training
        self.register_buffer("learned", torch.empty(0, 0))
        self.register_buffer("given", torch.empty(0, dtype=torch.int64))
        self.learned: Tensor
        self.given: Tensor
        self.register_load_state_dict_pre_hook(_resize_buffers)  # type: ignore[no-untyped-call]

    def reset_parameters(self) -> None:
        """Draw all parameters anew and forget the graph."""
        super().reset_parameters()
        self.learned = self.learned.new_empty(0, 0)
        self.given = self.given.new_empty(0)

    def _fit(self, data: Data, arrays: Arrays) -> None:
        n = arrays.labels.size
        learner = import_deeprobust("graph.defense").ProGNN(self.inner, self.settings, data.x.device)
        adjacency = data.x.new_zeros(n, n)
        adjacency[data.edge_index[0], data.edge_index[1]] = 1.0
        learner.fit(data.x, adjacency, data.y, data.train_mask, data.val_mask)
        self.learned = learner.best_graph.detach().clone()
        self.given = _sorted_codes(data.edge_index, n)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores (log-probabilities) on the learned graph.

        Raises:
            TransductiveModelError: before training, or on another graph than that of the training.
        """
        n = x.size(0)
        if self.learned.numel() == 0:
            raise TransductiveModelError("pro-gnn has no graph before it was trained: call fit_data(data) first")
        if edge_weight is not None:
            if not bool(((edge_weight == 0) | (edge_weight == 1)).all()):
                raise TransductiveModelError(
                    "pro-gnn predicts on the graph that it learned and on no other: it takes no edge weights. Attack "
                    "it by poisoning (train it on the attacked graph) or through its features"
                )
            edge_index = edge_index[:, edge_weight == 1]
        if n != self.learned.size(0) or not torch.equal(_sorted_codes(edge_index, n), self.given):
            raise TransductiveModelError(
                "pro-gnn predicts on the graph that it learned and on no other: it was trained on "
                f"{self.learned.size(0)} nodes and {self.given.numel() // 2} edges, and given {n} nodes and "
                f"{edge_index.size(1) // 2} edges that are not the same. For evasion take another model; for poisoning "
                "train it on the attacked graph"
            )
        return self.inner(_dense(x), self.learned)  # type: ignore[no-any-return]


def _resize_buffers(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name in ("learned", "given"):
        if prefix + name in state:
            setattr(module, name, torch.empty_like(state[prefix + name]))


def _sorted_codes(edge_index: Tensor, n: int) -> Tensor:
    return (edge_index[0] * n + edge_index[1]).sort().values


def normalised_adjacency(
    edge_index: Tensor,
    edge_weight: Tensor | None,
    n: int,
    *,
    dtype: torch.dtype = torch.float32,
    power: float = -1 / 2,
) -> Tensor:
    """Dᵖ (A + I) Dᵖ with D the row sums of A + I, sparse ``[n, n]`` and differentiable in ``edge_weight``."""
    loops = torch.arange(n, device=edge_index.device)
    weight = (
        torch.ones(edge_index.size(1), dtype=dtype, device=edge_index.device) if edge_weight is None else edge_weight
    )
    values = torch.cat([weight, weight.new_ones(n)])
    row, column = torch.cat([edge_index, loops.expand(2, n)], dim=1)
    scale = values.new_zeros(n).index_add(0, row, values).pow(power)
    values = scale[row] * values * scale[column]
    return torch.sparse_coo_tensor(torch.stack([row, column]), values, (n, n)).coalesce()


def _once_differentiable(scores: Tensor) -> Tensor:
    """The scores, whose gradient cannot be differentiated: torch's product with a sparse matrix gets that wrong."""

    def refuse(g: Tensor) -> None:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "create_graph=True asks for second derivatives, which DeepRobust's models do not have: torch's product "
                "with a sparse adjacency gets them wrong; take first ones, and differences of those"
            )

    if scores.requires_grad:
        scores.register_hook(refuse)  # type: ignore[no-untyped-call]
    return scores


def _dense(x: Tensor) -> Tensor:
    return x if x.layout == torch.strided else x.to_dense()


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch and NumPy, from which DeepRobust draws; put their states back afterwards."""
    with seeded(seed):
        state = np.random.get_state()  # noqa: NPY002
        try:
            np.random.seed(seed)  # noqa: NPY002
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


DEEPROBUST_MODELS: Final[dict[str, Callable[..., DeepRobustModel]]] = {
    "rgcn": RGCN,
    "gcn-jaccard": GCNJaccard,
    "gcn-svd": GCNSVD,
    "median-gcn": MedianGCN,
    "simp-gcn": SimPGCN,
    "pro-gnn": ProGNN,
}
