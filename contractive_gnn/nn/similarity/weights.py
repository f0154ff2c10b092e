"""The initial adjacency from the similarity of the nodes."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from torch import Tensor, nn

from contractive_gnn.activations import Identity
from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.compiled import cosines, kernels
from contractive_gnn.graph import Graph
from contractive_gnn.nn.arguments import check_features, edge_list, refuse_export, widened
from contractive_gnn.nn.batch import graph_by_graph
from contractive_gnn.nn.calibration import Calibration
from contractive_gnn.nn.similarity.latest import CHEAP, Latest
from contractive_gnn.nn.similarity.matrices import adjacency_matrix, csr, occupied, one_hot
from contractive_gnn.nn.similarity.principal_axes import axes_of_squares, narrow, principal_axes
from contractive_gnn.nn.similarity.shared import found_cosines
from contractive_gnn.nn.similarity.values import of_values
from contractive_gnn.nn.sparse import normalize_rows, unit_rows

#: where the similarities come from
Source = Literal["auto", "features", "structure"]

_FAINT = 0.1
"""Added to every degree of the diffusion: a node without similar neighbours keeps its own features, smoothly."""

_ROUNDING = 1e-3
"""How far the sum of a node's class probabilities may be from 1."""

_STEEP = 1e-3
"""Up to about here a power below 1 of the cosine is a line: its slope at 0 stays finite."""

_ROWS = 1 << 16
"""So many nodes' features, or edges' states, are copied at a time where no gradient goes through them."""

_IDENTITY = Identity()


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
        self._axes = Latest()
        self._speechless = Latest()
        self._embedded = Latest(CHEAP)
        self._latest = Latest()
        self._calibration: Calibration | None = None

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
            found = self._cosines(x, graph)
        else:
            found = graph_by_graph(
                lambda *own: self._cosines(own[0], Graph.of(*own)), x, edge_index, edge_weight, batch, of_edges=True
            )
        self._take(Calibration.fit(found, agreement, counts))

    def forget(self) -> None:
        """Go back to the cosines."""
        self._take(None)

    @property
    def calibration(self) -> Calibration | None:
        """The curve of :meth:`calibrate`; None where there was none."""
        return self._calibration

    @property
    def reliability(self) -> Calibration | None:
        """The old name of :attr:`calibration`, for one release."""
        warnings.warn(
            "Similarity.reliability is called calibration now; the old name goes with the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.calibration

    def _take(self, curve: Calibration | None) -> None:
        self._calibration = curve
        self._latest = Latest()

    def get_extra_state(self) -> Tensor:
        """The curve, for the ``state_dict``: α and β in float64, or no entry where there is none."""
        return torch.tensor(() if self.calibration is None else tuple(self.calibration), dtype=torch.float64)

    def set_extra_state(self, state: Tensor | list[float] | None) -> None:
        """Take the curve of a ``state_dict``; older ones have a list, or None."""
        curve = [] if state is None else torch.as_tensor(state, dtype=torch.float64).tolist()
        self._take(Calibration(*curve) if curve else None)

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

    def possible(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """What :meth:`forward` returns, and the edges that some given weight would leave with one; None for all.

        At the others, ``cos < 0`` without a calibration, the weight is 0 and so is its derivative by what was given.

        Args:
            x: ``[n, d]``.
            edge_index: ``[2, E]``.
            edge_weight: ``[E]``, of the dtype of ``x``.

        Returns:
            ``[E]``, and int64 places in it.
        """
        graph = Graph.of(x, edge_index, edge_weight)
        cosine = self._cosines_once(x, graph, edge_weight)
        weights = graph.edge_weight * _power(self._likeness(cosine), self.power)
        if self.calibration is not None:
            return weights, None
        return weights, (~(cosine.detach() < 0)).nonzero().flatten()  # whatever it is, a NaN is not left out

    def _weights(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Tensor:
        graph = Graph.of(x, edge_index, edge_weight)
        cosine = self._cosines_once(x, graph, edge_weight)
        return graph.edge_weight * _power(self._likeness(cosine), self.power)

    def _likeness(self, cosine: Tensor) -> Tensor:
        return cosine.clamp(min=0.0) if self.calibration is None else self.calibration(cosine)

    def _cosines_once(self, x: Tensor, graph: Graph, edge_weight: Tensor | None) -> Tensor:
        """The cosines; while they are shared, those that another one found."""
        found = None if torch.compiler.is_compiling() or not self._plain else found_cosines.get()
        if found is None:
            return self._cosines(x, graph)
        given = (x, graph.edge_index, edge_weight)
        key = (*self._settings, torch.is_grad_enabled(), *map(id, given))
        if key not in found:
            found[key] = self._cosines(x, graph), given  # kept, so that no id is given twice
        return found[key][0]

    def _cosines(self, x: Tensor, graph: Graph) -> Tensor:
        """The last round's ``cos(H_i, H_j)`` on the edges, ``[E]``."""
        z = self.embedding(x, graph)
        how = cosines.Diffusion(self.rounds, self.hops, self.mixing, _FAINT)
        if cosines.available(z, graph.edge_weight):
            n, edges = graph.num_nodes, graph.edge_index
            return cosines.refined_cosines(
                z, graph.edge_weight, edges, how, lambda z, a: _refined(z, Graph(edges, a, n), how)
            )
        return _refined(z, graph, how)

    def embedding(self, x: Tensor, graph: Graph) -> Tensor:
        """Z, ``[n, rank]``: principal components with rows of length 1, or 0 where a node has no feature."""
        if self.source == "features" or (
            self.source == "auto" and not self._speechless(lambda: of_values(one_hot, x), x)
        ):
            if x.requires_grad:
                return self._of_features(x)
            z: Tensor = self._embedded(lambda: self._of_features(x), x, settings=(self.rank,))
            return z
        return self._of_structure(x, graph)

    def _of_features(self, x: Tensor) -> Tensor:
        def axes_of(x: Tensor) -> tuple[Tensor | None, Tensor]:
            return axes_of_squares(x, self.rank) if narrow(x) else principal_axes(csr(x), self.rank)

        axes, idf = self._axes(lambda: of_values(axes_of, x), x, settings=(self.rank,))
        if axes is not None and x.shape[0] > _ROWS and x.layout == torch.strided and not x.requires_grad:
            axes, idf = axes.to(x), idf.to(x)
            projected = torch.cat([normalize_rows(block, idf) @ axes for block in torch.split(x, _ROWS)])
            return _centred(projected, occupied(x))
        rows = normalize_rows(x, idf.to(x.device, x.dtype))
        if axes is not None:
            rows = rows @ axes.to(x.device, x.dtype)
        elif rows.layout != torch.strided:  # of a dense matrix, to_dense loses the tangent of torch.func.jvp
            rows = rows.to_dense()
        return _centred(rows, occupied(x))

    def _of_structure(self, x: Tensor, graph: Graph) -> Tensor:
        given = graph.edge_index, graph.edge_weight
        axes, idf = self._axes(
            lambda: of_values(lambda e, a: principal_axes(adjacency_matrix(e, a, graph.num_nodes), self.rank), *given),
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
            f"power={self.power}, source={self.source!r}, calibration={self.calibration}"
        )


def _centred(z: Tensor, known: Tensor) -> Tensor:
    """The rows of z that are ``known`` (0 or 1, ``[n]``) less their mean, with length 1; the others 0."""
    known = known.unsqueeze(-1)
    z = known * (z - (known * z).sum(dim=0) / known.sum().clamp(min=1.0))
    return unit_rows(z)


def _refined(z: Tensor, graph: Graph, how: cosines.Diffusion) -> Tensor:
    """The cosines with tensor operations."""
    cosine = _cosine(z, graph)
    for _ in range(how.rounds):
        weight = graph.edge_weight * cosine.clamp(min=0.0)
        scale = (graph.row_sum(weight) + how.faint).rsqrt().unsqueeze(-1)
        h = z
        for _ in range(how.hops):
            h = how.mixing * scale * _product(scale * h, weight, graph) + (1 - how.mixing) * z
        cosine = _cosine(h, graph)
    return cosine


def _cosine(h: Tensor, graph: Graph) -> Tensor:
    """``cos(h_i, h_j)`` on the edges, ``[E]``."""
    h = unit_rows(h)
    if h.requires_grad or graph.source.numel() <= _ROWS:
        return (h[graph.source] * h[graph.target]).sum(dim=1)
    ends = zip(torch.split(graph.source, _ROWS), torch.split(graph.target, _ROWS), strict=True)
    return torch.cat([(h[source] * h[target]).sum(dim=1) for source, target in ends])


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
