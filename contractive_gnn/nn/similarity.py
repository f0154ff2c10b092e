"""The initial adjacency from the similarity of the nodes, and the model that starts from it."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import LinearOperator, svds
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from contractive_gnn import inputs, kernels
from contractive_gnn.activations import Activation, GroupFirm, Identity, activation
from contractive_gnn.checks import check_flag, check_real, check_whole
from contractive_gnn.dynamics import GradientFlow
from contractive_gnn.graph import Graph, transformed
from contractive_gnn.inputs import checked
from contractive_gnn.nn.arguments import check_features, edge_list, refuse_export, widened
from contractive_gnn.nn.batch import graph_by_graph
from contractive_gnn.nn.bound import CoupledBound, doubt, unknown
from contractive_gnn.nn.communities import seeded_communities
from contractive_gnn.nn.flow import FlowConv, FlowGNN
from contractive_gnn.nn.reliability import Reliability
from contractive_gnn.nn.sparse import normalize_rows, unit_rows
from contractive_gnn.trainable import Calibrated, HasCommunities, HasModes

Source = Literal["auto", "features", "structure"]

_FAINT = 0.1
"""Added to every degree of the diffusion: a node without similar neighbours keeps its own features, smoothly."""

_ROUNDING = 1e-3
"""How far the sum of a node's class probabilities may be from 1."""

_TIE = 1e-6
"""Singular values this close, relative to their size, are one value."""

_NOTHING = 1e-10
"""Singular values this much smaller than the largest are 0."""

_DENSE = 4000
"""Up to so many rows or columns all singular values are computed where some tie."""

_STEEP = 1e-3
"""Up to about here a power below 1 of the cosine is a line: its slope at 0 stays finite."""


_Found = dict[tuple[Any, ...], tuple[Tensor, tuple[Tensor | None, ...]]]
_shared: ContextVar[_Found | None] = ContextVar("_shared", default=None)


@contextlib.contextmanager
def sharing() -> Iterator[None]:
    """Inside the block the cosines of one graph are found once for all :class:`Similarity` of equal hyperparameters.

    A graph is known by its tensors, which must not be changed before the block ends; the block keeps nothing after it.
    What is computed again outside of it, as by ``torch.utils.checkpoint``, is not shared: put the whole block inside.
    """
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


class Similarity(nn.Module):
    r"""Edge weights ``A(0)`` from features and structure, without labels unless :meth:`calibrate` is asked.

    Let ``Z`` be the nodes' principal components: the first ``rank`` right singular vectors V of the row-normalised
    tf-idf matrix R, ``Z = RV`` less its mean, rows of length 1. ``W_ij = a_ij (cos(Z_i, Z_j))₊`` and then, ``rounds``
    times,

    .. math::
        H \leftarrow \beta\, D^{-1/2} W D^{-1/2} H + (1-\beta) Z \quad (\text{hops times, from } H = Z), \qquad
        W_{ij} \leftarrow a_{ij}\, \max(0, \cos(H_i, H_j)).

    The output is ``a_ij max(0, cos)^power`` of the last ones: a power below 1, made linear below a cosine of about
    0.001, keeps more of an edge that is in doubt. Where class probabilities P are known, :meth:`calibrate` puts
    ``σ(α + β cos)`` in the place of ``max(0, cos)``: how probable it is that the edge joins two nodes of one class.
    What a cosine means differs from graph to graph. Of the edges of clean Cora without a positive cosine two in five
    join a class, after Metattack one in seven.

    An edge survives where the *neighbourhoods* of its ends are alike; only given edges have a weight. The mean is what
    all nodes share: without it an edge between unlike nodes has a cosine near 0.

    Differentiable in ``edge_weight`` and in ``x``, for attackers who aim at it, with V and the inverse document
    frequencies held fixed (a change of one entry turns the singular vectors by its share of the whole matrix), in
    reverse and in forward mode, any number of times and under torch.func, save a ``vmap`` over ``x``. Rows are
    normalised, so a constant factor of the features, or of one node's, changes nothing. What was found out about a
    tensor is kept with it: do not change features through ``x.data`` or NumPy, of which torch takes no note.

    Where the features say nothing (an identity matrix: every node has one of its own), R is the adjacency matrix with
    self-loops instead: what two nodes share is their neighbours.

    Args:
        rank: number of singular vectors; all features are taken as they are where there are no more than that. Vectors
            of one singular value belong together: where the next value is the same (up to 1e-6), the cut is moved to
            the last gap before it, and all features are taken where there is none.
        rounds: refinements; 0 leaves the cosine of Z.
        hops: steps of the diffusion per refinement.
        mixing: β in [0, 1).
        power: exponent of the last cosine, or of the probability that a calibration puts in its place, > 0.
        source: what R is: ``"features"``, ``"structure"``, or ``"auto"``, which tells by ``x``.

    Shapes:
        ``x`` ``[n, d]`` dense or ``sparse_csr``, ``edge_index`` ``[2, E]``, ``edge_weight`` ``[E]`` or None, output
        ``[E]`` with values in ``[0, edge_weight]``. ``batch`` ``[n]`` is the graph of every node where there are
        several, as in a batch of PyG: each has its own mean, document frequencies and singular vectors. Without it all
        nodes are one graph, whatever its components, and an edge's weight depends on all of them.

    Raises:
        ValueError: for a value out of its range.
    """

    def __init__(
        self,
        *,
        rank: int = 64,
        rounds: int = 3,
        hops: int = 4,
        mixing: float = 0.8,
        power: float = 1.0,
        source: Source = "auto",
    ) -> None:
        super().__init__()
        for name, value, least in (("rank", rank, 1), ("rounds", rounds, 0), ("hops", hops, 1)):
            check_whole(name, value, least=least)
        check_real("mixing", mixing, least=0, below=1)
        check_real("power", power, above=0)
        if source not in ("auto", "features", "structure"):
            raise ValueError(f"source must be 'auto', 'features' or 'structure', got {source!r}")
        self.rank, self.rounds, self.hops = rank, rounds, hops
        self.mixing, self.power, self.source = float(mixing), float(power), source
        self._axes = _Last()
        self._speechless = _Last()
        self._embedded = _Last()
        self._latest = _Last()
        self._reliability: Reliability | None = None

    @torch.no_grad()
    def calibrate(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
        *,
        probability: Tensor,
    ) -> None:
        """Fit α and β on the given edges, self-loops aside.

        The two ends taken as independent, an edge joins two nodes of one class with probability ``Σ_c P_ic P_jc``.

        Args:
            x: ``[n, d]``.
            edge_index: ``[2, E]``.
            edge_weight: ``[E]`` or None; how much an edge counts.
            batch: ``[n]`` or None, as in the forward pass; one curve serves all graphs.
            probability: P, ``[n, classes]``, rows that sum to 1.

        Raises:
            ValueError: if P has another shape, or rows that are no probabilities.
        """
        n = x.shape[0]
        if probability.dim() != 2 or probability.shape[0] != n:
            raise ValueError(f"probability must have the shape [{n}, classes], got {list(probability.shape)}")
        if not bool((probability >= 0).all() & ((probability.sum(dim=1) - 1).abs() < _ROUNDING).all()):
            raise ValueError("probability must have non-negative rows that sum to 1; take the softmax of scores")
        graph = Graph.of(x, edge_index, edge_weight)
        agreement = (probability[graph.source] * probability[graph.target]).sum(dim=1)
        counts = graph.edge_weight.masked_fill(graph.source == graph.target, 0.0)
        if batch is None:
            cosines = self._cosines(x, graph)
        else:
            cosines = graph_by_graph(
                lambda *own: self._cosines(own[0], Graph.of(*own)), x, edge_index, edge_weight, batch, of_edges=True
            )
        self._take(Reliability.fit(cosines, agreement, counts))

    def forget(self) -> None:
        """Go back to the cosines."""
        self._take(None)

    @property
    def reliability(self) -> Reliability | None:
        """The curve of :meth:`calibrate`; None where there was none."""
        return self._reliability

    def _take(self, curve: Reliability | None) -> None:
        self._reliability = curve
        self._latest = _Last()

    def get_extra_state(self) -> Tensor:
        """The curve, for the ``state_dict``: α and β in float64, or no entry where there is none."""
        return torch.tensor(() if self.reliability is None else tuple(self.reliability), dtype=torch.float64)

    def set_extra_state(self, state: Tensor | list[float] | None) -> None:
        """Take the curve of a ``state_dict``; older ones have a list, or None."""
        curve = [] if state is None else torch.as_tensor(state, dtype=torch.float64).tolist()
        self._take(Reliability(*curve) if curve else None)

    # SciPy finds the singular vectors, which no trace can follow: the compiled code calls this as it is.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        """The weights, ``[E]`` in the order of ``edge_index``."""
        if batch is not None:
            return graph_by_graph(self.forward, x, edge_index, edge_weight, batch, of_edges=True)
        refuse_export(self, "its singular vectors are found by SciPy for each graph")
        check_features(x, self)
        edge_index, edge_weight = edge_list(x, edge_index, edge_weight)
        x = widened(x)
        differentiated = x.requires_grad or (edge_weight is not None and edge_weight.requires_grad)
        if differentiated:
            return self._weights(x, edge_index, edge_weight)
        given = (x, edge_index, edge_weight)
        weights: Tensor = self._latest(lambda: self._weights(*given), *given, settings=(*self._settings, self.power))
        return weights

    @property
    def _settings(self) -> tuple[Any, ...]:
        """What the cosines follow, beside the graph."""
        return self.rank, self.rounds, self.hops, self.mixing, self.source

    @property
    def _plain(self) -> bool:
        """Whether another one of the same settings has the same cosines: none of their methods is one's own."""
        return type(self) is Similarity and vars(self).keys().isdisjoint(vars(Similarity))

    def _weights(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Tensor:
        graph = Graph.of(x, edge_index, edge_weight)
        found = None if torch.compiler.is_compiling() or not self._plain else _shared.get()
        if found is None:
            cosine = self._cosines(x, graph)
        else:
            given = (x, edge_index, edge_weight)
            key = (*self._settings, torch.is_grad_enabled(), *map(id, given))
            if key not in found:
                found[key] = self._cosines(x, graph), given  # kept, so that no id is given twice
            cosine, _ = found[key]
        likeness = cosine.clamp(min=0.0) if self.reliability is None else self.reliability(cosine)
        return graph.edge_weight * _power(likeness, self.power)

    def _cosines(self, x: Tensor, graph: Graph) -> Tensor:
        """The last round's ``cos(H_i, H_j)`` on the edges, ``[E]``."""
        z = self.embedding(x, graph)
        cosine = _cosine(z, graph)
        for _ in range(self.rounds):
            weight = graph.edge_weight * cosine.clamp(min=0.0)
            scale = (graph.row_sum(weight) + _FAINT).rsqrt().unsqueeze(-1)
            h = z
            for _ in range(self.hops):
                h = self.mixing * scale * _product(scale * h, weight, graph) + (1 - self.mixing) * z
            cosine = _cosine(h, graph)
        return cosine

    def embedding(self, x: Tensor, graph: Graph) -> Tensor:
        """Z, ``[n, rank]``: principal components with rows of length 1, or 0 where a node has no feature."""
        if self.source == "features" or (
            self.source == "auto" and not self._speechless(lambda: _of_values(_one_hot, x), x)
        ):
            if x.requires_grad:
                return self._of_features(x)
            z: Tensor = self._embedded(lambda: self._of_features(x), x, settings=(self.rank,))
            return z
        return self._of_structure(x, graph)

    def _of_features(self, x: Tensor) -> Tensor:
        axes, idf = self._axes(
            lambda: _of_values(lambda x: _principal_axes(_csr(x), self.rank), x), x, settings=(self.rank,)
        )
        rows = normalize_rows(x, idf.to(x.device, x.dtype))
        if axes is not None:
            rows = rows @ axes.to(x.device, x.dtype)
        elif rows.layout != torch.strided:  # of a dense matrix, to_dense loses the tangent of torch.func.jvp
            rows = rows.to_dense()
        return _centred(rows, _occupied(x))

    def _of_structure(self, x: Tensor, graph: Graph) -> Tensor:
        given = graph.edge_index, graph.edge_weight
        axes, idf = self._axes(
            lambda: _of_values(lambda e, a: _principal_axes(_adjacency(e, a, graph.num_nodes), self.rank), *given),
            *given,
            settings=(self.rank,),
        )
        idf, a = idf.to(x.device, x.dtype), graph.edge_weight
        axes = torch.diag(idf) if axes is None else idf.unsqueeze(-1) * axes.to(idf)
        length = (graph.row_sum(a.square() * idf[graph.source].square()) + idf.square()).sqrt()
        return _centred((_product(axes, a, graph) + axes) / length.unsqueeze(-1), torch.ones_like(length))

    def extra_repr(self) -> str:
        """Show the hyperparameters."""
        return (
            f"rank={self.rank}, rounds={self.rounds}, hops={self.hops}, mixing={self.mixing}, "
            f"power={self.power}, source={self.source!r}, reliability={self.reliability}"
        )


def _centred(z: Tensor, known: Tensor) -> Tensor:
    """The rows of z that are ``known`` (0 or 1, ``[n]``) less their mean, with length 1; the others 0."""
    known = known.unsqueeze(-1)
    z = known * (z - (known * z).sum(dim=0) / known.sum().clamp(min=1.0))
    return unit_rows(z)


def _cosine(h: Tensor, graph: Graph) -> Tensor:
    """``cos(h_i, h_j)`` on the edges, ``[E]``."""
    h = unit_rows(h)
    return (h[graph.source] * h[graph.target]).sum(dim=1)


def _power(likeness: Tensor, exponent: float) -> Tensor:
    """``likeness^p`` on [0, 1], p the exponent; below 1 ``((likeness + δ)^p − δ^p)/((1 + δ)^p − δ^p)``."""
    if exponent >= 1:
        return likeness if exponent == 1 else likeness.pow(exponent)
    least = _STEEP**exponent
    softened: Tensor = ((likeness + _STEEP).pow(exponent) - least) / ((1 + _STEEP) ** exponent - least)
    return softened


def _product(h: Tensor, a: Tensor, graph: Graph) -> Tensor:
    """``A h``: of the compiled ``−Σ a_ij (h_i − h_j)`` the part of the neighbours."""
    if kernels.available(_IDENTITY, h, a):
        return kernels.flow(h, a, graph.edge_index, _IDENTITY) + graph.row_sum(a).unsqueeze(-1) * h
    a = a.masked_fill(graph.source == graph.target, 0.0).unsqueeze(-1)
    return torch.zeros_like(h).index_add(0, graph.target, a * h[graph.source])


_IDENTITY = Identity()


def _one_hot(x: Tensor) -> bool:
    """Whether every node has one feature, and no two the same."""
    n = x.shape[0]
    if n == 0 or x.shape[1] < n:
        return False
    columns = x.col_indices() if x.layout == torch.sparse_csr else torch.nonzero(x.detach())[:, 1]
    return columns.numel() == n and torch.unique(columns).numel() == n and bool(_occupied(x).all())


def _occupied(x: Tensor) -> Tensor:
    """1 where a node has a feature, else 0; ``[n]``."""
    if x.layout == torch.sparse_csr:
        return (x.crow_indices().diff() > 0).to(x.dtype)
    return (x.detach() != 0).any(dim=1).to(x.dtype)


def _csr(x: Tensor) -> sp.csr_matrix:
    x = x.detach().cpu()
    if x.layout == torch.sparse_csr:
        parts = (x.values().numpy(), x.col_indices().numpy(), x.crow_indices().numpy())
        return sp.csr_matrix(parts, shape=tuple(x.shape)).astype(np.float64)
    return sp.csr_matrix(x.numpy().astype(np.float64))


def _adjacency(edge_index: Tensor, edge_weight: Tensor, n: int) -> sp.csr_matrix:
    ends, values = edge_index.cpu().numpy(), edge_weight.detach().cpu().numpy().astype(np.float64)
    adjacency = sp.csr_matrix((values, (ends[1], ends[0])), shape=(n, n))
    adjacency.setdiag(1.0)
    adjacency.eliminate_zeros()
    return adjacency


def _principal_axes(rows: sp.csr_matrix, rank: int) -> tuple[Tensor | None, Tensor]:
    """The first right singular vectors ``[d, rank]`` of the row-normalised tf-idf matrix, and idf ``[d]``.

    ``idf = 1 + log((1 + n)/(1 + df))``, df the number of rows with the feature. None for the vectors where rows has no
    more than ``rank`` columns or rows, and where its singular values have no gap to cut at: see :func:`_above_the_gap`.
    """
    n, d = rows.shape
    idf = 1.0 + np.log((1.0 + n) / (1.0 + np.asarray((rows != 0).sum(axis=0)).ravel()))
    if min(n, d) <= rank + 1:
        return None, torch.from_numpy(idf)
    rows = rows @ sp.diags(idf)
    length = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    rows = sp.diags(1.0 / np.maximum(length, np.finfo(np.float64).tiny)) @ rows
    start = np.random.default_rng(0).normal(size=min(n, d))
    _, values, vectors = svds(rows, k=rank, v0=start)
    # a value of 0 has vectors on which no row has a component
    if values.min() > _NOTHING * values.max() and _tied(values.min(), _next_value(rows, vectors, start)):
        axes = _above_the_gap(rows, values, vectors)
        return None if axes is None else torch.from_numpy(axes.copy()), torch.from_numpy(idf)
    return torch.from_numpy(vectors[np.argsort(-values)].T.copy()), torch.from_numpy(idf)


def _tied(value: float, following: float) -> bool:
    """Whether a singular value and one that should be smaller are one value: then their vectors are arbitrary."""
    return bool(following >= (1 - _TIE) * value)


def _next_value(rows: sp.csr_matrix, vectors: np.ndarray[Any, Any], start: np.ndarray[Any, Any]) -> float:
    """The largest singular value beside those of these right singular vectors ``[rank, d]``."""

    def forward(v: np.ndarray[Any, Any]) -> Any:
        return rows @ (v.ravel() - vectors.T @ (vectors @ v.ravel()))

    def adjoint(u: np.ndarray[Any, Any]) -> Any:
        v = rows.T @ u.ravel()
        return v - vectors.T @ (vectors @ v)

    rest = LinearOperator(rows.shape, matvec=forward, rmatvec=adjoint, dtype=np.float64)
    return float(svds(rest, k=1, v0=start, tol=1e-4, return_singular_vectors=False)[0])


def _above_the_gap(
    rows: sp.csr_matrix, values: np.ndarray[Any, Any], vectors: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any] | None:
    """As many right singular vectors as lie above the last gap among the first ``rank + 1`` singular values, or None.

    Of a value that several vectors have, any basis will do, and which one is found depends on the order of the columns.
    So all of them are taken or none. Lanczos' method may miss some of them: up to 4,000 rows or columns the values are
    those of the dense matrix.
    """
    rank, wide = values.size, rows.shape[1] > rows.shape[0]
    order = np.argsort(-values)
    values, vectors = values[order], vectors[order].T
    if min(rows.shape) <= _DENSE:
        squares, basis = np.linalg.eigh((rows @ rows.T if wide else rows.T @ rows).toarray())
        values, basis = np.sqrt(np.maximum(squares[::-1], 0.0)), basis[:, ::-1]
    gaps = [k for k in range(1, min(rank + 1, values.size)) if not _tied(values[k - 1], values[k])]
    if not gaps:
        return None
    k = gaps[-1]
    if min(rows.shape) > _DENSE:
        return vectors[:, :k]
    found: np.ndarray[Any, Any] = (rows.T @ basis[:, :k]) / values[:k] if wide else basis[:, :k]
    return found


def _of_values(compute: Callable[..., Any], *tensors: Tensor) -> Any:
    """What ``compute`` makes of the tensors' values, a constant to whatever torch.func does with them.

    Raises:
        NotImplementedError: under ``torch.func.vmap`` over one of them, which has no one value.
    """
    if torch.compiler.is_compiling() or not torch._C._are_functorch_transforms_active():
        return compute(*tensors)
    with temporarily_clear_interpreter_stack():
        return compute(*map(_value, tensors))


def _value(tensor: Tensor) -> Tensor:
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        if torch._C._functorch.is_batchedtensor(tensor):
            raise NotImplementedError(
                "the similarity finds the singular vectors of one graph at a time, and torch.func.vmap gave it many; "
                "call the model for each graph in a loop instead, and torch.stack the results"
            )
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


class _Last:
    """The latest result, for as long as it is asked for the same tensors with the same contents."""

    def __init__(self) -> None:
        # in one piece, which several threads may read and replace: the key, its tensors and what belongs to them
        self._kept: tuple[Any, tuple[Tensor | None, ...], Any] = (None, (), None)

    def __call__(self, compute: Any, *tensors: Tensor | None, settings: tuple[Any, ...] = ()) -> Any:
        # is_compiling first: the other questions cannot be traced
        if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
            return compute()
        if any(t is not None and (t.is_inference() or transformed(t)) for t in tensors):
            return compute()
        devices = {t.device.type for t in tensors if t is not None}
        narrowed = tuple(device for device in sorted(devices) if torch.is_autocast_enabled(device))
        key = (settings, narrowed, [(id(t), None if t is None else t._version) for t in tensors])
        known, _, value = self._kept
        if key != known:
            value = compute()
            self._kept = key, tensors, value  # the tensors, so that no id is given twice
        return value

    def __deepcopy__(self, memo: Any) -> _Last:
        return _Last()

    def __reduce__(self) -> Any:
        return _Last, ()


class SimilarityWeights(BaseTransform):  # type: ignore[misc]
    """:class:`Similarity` as a PyG transform: writes ``data.edge_weight``.

    Args:
        **hyperparameters: those of :class:`Similarity`.
    """

    def __init__(self, **hyperparameters: Any) -> None:
        self.similarity = Similarity(**hyperparameters)

    def forward(self, data: Data) -> Data:
        """The same graph, with weights multiplied by the similarity; shape ``[E]``.

        Raises:
            InputError: a graph that :mod:`contractive_gnn.inputs` refuses.
        """
        graph = checked(data, labels=False)
        data.edge_index = graph.edge_index
        given = graph.x, graph.edge_index, graph.get("edge_weight"), graph.get("batch")
        data.edge_weight = self.similarity(*given).detach()
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.similarity.extra_repr()})"


class SimilarityFlowGNN(FlowGNN, HasModes, Calibrated, HasCommunities):
    r"""A flow of node features on the graph weighted by :class:`Similarity`, in units that do not depend on the data.

    ``x̂_i = s x_i/‖x_i‖``, ``F⁰ = ReLU(x̂ W + b)``, ``A(0)`` from x and the given graph, and then, with
    ``p_ij = a_ij/(ε + d_i)`` and Euler steps of ``h = 1/(1 + μ)``,

    .. math::
        \dot F_i = -\sum_j p_{ij}\, \varphi(\|F_i - F_j\|/\lambda)(F_i - F_j) - \mu (F_i - F^0_i).

    The adjacency evolves with the features: ``a_ij φ(‖F_i − F_j‖/λ)`` is where the flow of the edge weights
    ``ȧ_ij = −γ(a_ij − a⁰_ij φ)``, which contracts at rate γ, comes to rest for features held fixed (half-quadratic
    splitting, Geman and Reynolds 1992); here it is at rest at every step. Differences are taken before the division by
    the degree, so that one λ measures them all: ``F_i/√d_i`` would be small at every hub, and near to anything.

    Rows of the features are normalised, so multiplying them by a constant changes no output.

    Where neighbours are no more alike than strangers, no flow that brings them together is of use. So there are two
    ``modes``: ``"edges"``, and ``"nodes"``, in which A(0) = 0 and the model is a perceptron.
    :func:`contractive_gnn.training.fit` keeps the one that knows more of the validation nodes.

    Args:
        in_channels: number of features, -1 to infer it.
        out_channels: number of classes.
        conv: the flow layer.
        similarity: what makes A(0); None keeps the given weights.
        calibrated: whether self-training calibrates A(0): its first fit takes the cosines, and tells for the second
            one how probable it is that an edge of such a cosine joins two nodes of one class.
        hidden: width of the hidden layer.
        dropout: probability of dropping a feature, and a hidden unit.
        row_norm: s > 0, the length of every node's feature vector.

    Shapes:
        ``x`` ``[n, in_channels]`` dense or ``sparse_csr``, output ``[n, out_channels]``. ``batch`` as in
        :class:`Similarity`.
    """

    modes: ClassVar[tuple[str, str]] = ("edges", "nodes")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        conv: FlowConv,
        *,
        similarity: Similarity | None,
        calibrated: bool = False,
        hidden: int = 64,
        dropout: float = 0.6,
        row_norm: float = 4.0,
    ) -> None:
        check_real("row_norm", row_norm, above=0)
        check_flag("calibrated", calibrated)
        if calibrated and similarity is None:
            raise ValueError("calibrated=True needs a similarity to calibrate; give one or leave it out")
        super().__init__(in_channels, out_channels, conv, hidden=hidden, dropout=dropout)
        self.similarity = similarity
        self.calibrated = calibrated
        self.row_norm = float(row_norm)
        self._latest = _Last()
        self.mode = self.modes[0]

    def use(self, mode: str) -> None:
        """Take one of :attr:`modes`; it is part of the ``state_dict``.

        Raises:
            ValueError: if it is none of them.
        """
        if mode not in self.modes:
            raise ValueError(f"mode must be one of {', '.join(self.modes)}, got {mode!r}")
        self.mode = mode

    @property
    def setting(self) -> str:
        """Deprecated: :attr:`mode`."""
        warnings.warn("setting is called mode now; write model.mode", DeprecationWarning, stacklevel=2)
        return self.mode

    @property
    def settings(self) -> tuple[str, str]:
        """Deprecated: :attr:`modes`."""
        warnings.warn("settings are called modes now; write model.modes", DeprecationWarning, stacklevel=2)
        return self.modes

    def calibrate(self, data: Data, probability: Tensor | None) -> None:
        """Let class probabilities ``[n, classes]`` tell what a cosine means, for :func:`contractive_gnn.training.fit`.

        See :meth:`Similarity.calibrate`. None forgets them. Unless ``calibrated``, and in the mode ``"nodes"``,
        which reads no edge, there is nothing to tell.
        """
        if self.similarity is None:
            return
        self.similarity.forget()
        if probability is not None and self.calibrated and self.mode == "edges":
            given = data.x, data.edge_index, data.get("edge_weight"), data.get("batch")
            self.similarity.calibrate(*given, probability=probability)

    def get_extra_state(self) -> Tensor:
        """The mode, for the ``state_dict``: its place in :attr:`modes`."""
        return torch.tensor(self.modes.index(self.mode))

    def set_extra_state(self, state: Tensor | str) -> None:
        """Take the mode of a ``state_dict``; older ones have its name."""
        self.use(state if isinstance(state, str) else self.modes[int(state)])

    def adjacency(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Graph:
        """The graph with the weights A(0)."""
        graph = Graph.of(x, edge_index, edge_weight)
        if self.mode == "nodes":
            return Graph(graph.edge_index, torch.zeros_like(graph.edge_weight), graph.num_nodes)
        if self.similarity is None:
            return graph
        return Graph(graph.edge_index, self.similarity(x, edge_index, edge_weight), graph.num_nodes)

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        """Class scores, ``[n, out_channels]``."""
        if batch is not None:
            return graph_by_graph(self.forward, x, edge_index, edge_weight, batch)
        check_features(x, self)
        edge_index, edge_weight = edge_list(x, edge_index, edge_weight)
        graph = self.adjacency(x, edge_index, edge_weight)
        return super().forward(self._features(x), graph.edge_index, graph.edge_weight)

    def _features(self, x: Tensor) -> Tensor:
        """x̂, in the layout of ``x``."""
        if x.requires_grad:
            return self._normalized(x)
        features: Tensor = self._latest(lambda: self._normalized(x), x, settings=(self.row_norm,))
        return features

    def _normalized(self, x: Tensor) -> Tensor:
        return (self.row_norm * normalize_rows(widened(x))).to(x.dtype)

    def communities(self, data: Data) -> Tensor | None:
        """Class probabilities ``[n, classes]`` from the structure alone, for :func:`contractive_gnn.training.fit`.

        :func:`seeded_communities` where the features say nothing (an identity matrix), and else None. Of the labels
        only those of ``data.train_mask`` are read.
        """
        if not _one_hot(data.x):
            return None
        return seeded_communities(
            data.edge_index,
            data.y,
            data.train_mask,
            num_classes=self.decoder.out_channels,
            edge_weight=data.get("edge_weight"),
        )

    @torch.no_grad()
    def lipschitz(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> CoupledBound:
        """The bound of :meth:`FlowGNN.lipschitz` in the normalised features x̂ and in A(0), never certified in x and A.

        Args:
            x: ``[n, in_channels]``.
            edge_index: the given graph.
            edge_weight: ``[E]`` or None.

        Raises:
            InputError: as :meth:`FlowGNN.lipschitz`.
        """
        x = inputs.features(x)
        inputs.undirected(x, edge_index, edge_weight)
        parts: dict[type, Sequence[nn.Module]] = {SimilarityFlowGNN: (self,), FlowConv: (self.conv,)}
        if reason := doubt(self, (self.encoder, self.decoder), parts):
            return unknown(reason, self.conv.dynamics.norm)
        check_features(x, self)
        bound = self._bound(self._features(x), self.adjacency(x, edge_index, edge_weight))
        start = "x̂" if self.similarity is None else "x̂ and A(0)"
        reason = f"it holds from {start} on; the way there from what is given is outside the proof"
        return dataclasses.replace(bound, certified=False, reason=bound.reason or reason)


def robust(
    in_channels: int,
    out_channels: int,
    *,
    hidden: int = 64,
    num_steps: int = 10,
    mu: float = 0.1,
    threshold: float = 4.0,
    epsilon: float = 0.1,
    dropout: float = 0.6,
    row_norm: float = 4.0,
    calibrated: bool = False,
    similarity: bool = True,
    sigma: str = "group-mcp",
    **similarities: Any,
) -> SimilarityFlowGNN:
    """The redescending :class:`SimilarityFlowGNN`, by default ``φ(s) = (1 − s)₊``: beyond λ an edge has no pull at all.

    Its steps contract only where ``μ > 2ρ``, ρ the steepest descent of φ(s)s, which these values do not reach: nothing
    is certified. ``similarity=False`` keeps the given weights; ``sigma="identity"`` keeps A(0) through the flow.

    Args:
        in_channels: number of features, -1 to infer it.
        out_channels: number of classes.
        hidden: width of the hidden layer.
        num_steps: number of Euler steps.
        mu: μ.
        threshold: λ.
        epsilon: ε, added to the degrees.
        dropout: see :class:`SimilarityFlowGNN`.
        row_norm: see :class:`SimilarityFlowGNN`.
        calibrated: see :class:`SimilarityFlowGNN`.
        similarity: whether to weigh the edges by :class:`Similarity`.
        sigma: a group activation by name.
        **similarities: hyperparameters of :class:`Similarity`.
    """
    return SimilarityFlowGNN(
        in_channels,
        out_channels,
        _conv(hidden, activation(sigma, threshold=threshold), num_steps=num_steps, mu=mu, epsilon=epsilon),
        similarity=_similarity(similarity, similarities),
        calibrated=calibrated,
        hidden=hidden,
        dropout=dropout,
        row_norm=row_norm,
    )


def robust_provable(
    in_channels: int,
    out_channels: int,
    *,
    hidden: int = 64,
    num_steps: int = 10,
    mu: float = 0.1,
    threshold: float = 1.2,
    epsilon: float = 0.1,
    dropout: float = 0.6,
    row_norm: float = 4.0,
    calibrated: bool = False,
    similarity: bool = True,
    **similarities: Any,
) -> SimilarityFlowGNN:
    """The contractive :class:`SimilarityFlowGNN`: :class:`GroupFirm` that falls as steeply as the fidelity allows.

    Radial ``r`` up to λ, then down with slope ``κ = 0.99 μ/2`` to 0. With ``‖G‖² ≤ 2`` in the norm that weights a node
    by its degree the rate is ``μ − 2κ = 0.01 μ > 0``: every step contracts, for a fixed A(0) and a fixed F⁰.
    ``similarity=False`` keeps the given weights.

    Args:
        in_channels: number of features, -1 to infer it.
        out_channels: number of classes.
        hidden: width of the hidden layer.
        num_steps: number of Euler steps.
        mu: μ > 0.
        threshold: λ.
        epsilon: ε, added to the degrees.
        dropout: see :class:`SimilarityFlowGNN`.
        row_norm: see :class:`SimilarityFlowGNN`.
        calibrated: see :class:`SimilarityFlowGNN`.
        similarity: whether to weigh the edges by :class:`Similarity`.
        **similarities: hyperparameters of :class:`Similarity`.
    """
    check_real("mu", mu, above=0)  # without fidelity nothing outweighs a redescending force
    sigma = GroupFirm(threshold, kappa=0.99 * mu / 2.0)
    return SimilarityFlowGNN(
        in_channels,
        out_channels,
        _conv(hidden, sigma, num_steps=num_steps, mu=mu, epsilon=epsilon, constrained=True),
        similarity=_similarity(similarity, similarities),
        calibrated=calibrated,
        hidden=hidden,
        dropout=dropout,
        row_norm=row_norm,
    )


def _similarity(wanted: bool, options: Mapping[str, Any]) -> Similarity | None:
    check_flag("similarity", wanted)
    if wanted:
        return Similarity(**options)
    if options:
        raise TypeError(f"similarity=False takes no {', '.join(options)}; leave them out or set similarity=True")
    return None


def _conv(
    hidden: int, sigma: Activation, *, num_steps: int, mu: float, epsilon: float, constrained: bool = False
) -> FlowConv:
    """Steps of ``1/(1 + μ)``: ``x ← (x − D⁻¹ Σ a σ + μ x⁰)/(1 + μ)``."""
    check_whole("hidden", hidden, least=1)
    check_real("mu", mu, least=0)
    field = GradientFlow(hidden, sigma=sigma, normalization="degree", mu=mu, weight=False, epsilon=epsilon)
    return FlowConv(field, num_steps=num_steps, step=1.0 / (1.0 + mu), constrained=constrained)
