"""The model that starts from the similarity."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn import inputs
from contractive_gnn.checks import check_flag, check_real
from contractive_gnn.compiled import kernels
from contractive_gnn.deprecated import renamed
from contractive_gnn.dynamics import GraphGradientFlow
from contractive_gnn.graph import Graph
from contractive_gnn.nn.arguments import check_features, edge_list, widened
from contractive_gnn.nn.batch import graph_by_graph
from contractive_gnn.nn.bound import CoupledBound, doubt, unknown
from contractive_gnn.nn.communities import seeded_communities
from contractive_gnn.nn.flow import FlowConv, FlowGNN
from contractive_gnn.nn.similarity.latest import CHEAP, Latest
from contractive_gnn.nn.similarity.matrices import one_hot
from contractive_gnn.nn.similarity.weights import Similarity
from contractive_gnn.nn.sparse import Linear, normalize_rows
from contractive_gnn.trainable import Calibrated, HasCommunities, HasModes


@renamed(hidden="hidden_channels")
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
        hidden_channels: width of the hidden layer.
        dropout: probability of dropping a feature, and a hidden unit.
        row_norm: s > 0, the length of every node's feature vector.

    Shapes:
        ``x`` ``[n, in_channels]`` dense or ``sparse_csr``, output ``[n, out_channels]``. ``batch`` as in
        :class:`Similarity`.
    """

    modes: Sequence[str] = ("edges", "nodes")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        conv: FlowConv,
        *,
        similarity: Similarity | None,
        calibrated: bool = False,
        hidden_channels: int = 64,
        dropout: float = 0.6,
        row_norm: float = 4.0,
    ) -> None:
        check_real("row_norm", row_norm, above=0)
        check_flag("calibrated", calibrated)
        if calibrated and similarity is None:
            raise ValueError("calibrated=True needs a similarity to calibrate; give one or leave it out")
        super().__init__(in_channels, out_channels, conv, hidden_channels=hidden_channels, dropout=dropout)
        self.similarity = similarity
        self.calibrated = calibrated
        self.row_norm = float(row_norm)
        self._latest = Latest(CHEAP)
        self._hidden = Latest()
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
    def settings(self) -> Sequence[str]:
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
        graph = self._pulling(x, edge_index, edge_weight)
        return super().forward(self._features(x), graph.edge_index, graph.edge_weight)

    def _pulling(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Graph:
        """:meth:`adjacency`; for an attack on the edges without those that A(0) rules out for any given weights.

        What is 0 whatever it was multiplied by pulls at no node, and has no gradient.
        """
        given = self.similarity
        if given is None or edge_weight is None or not self._in_one_piece(x, edge_weight):
            return self.adjacency(x, edge_index, edge_weight)
        weights, possible = given.possible(x, edge_index, edge_weight)
        if possible is None:
            return Graph(edge_index, weights, x.shape[0])
        return Graph(edge_index.index_select(1, possible), weights.index_select(0, possible), x.shape[0])

    def _in_one_piece(self, x: Tensor, edge_weight: Tensor) -> bool:
        """Whether a gradient by these weights goes through compiled loops alone, and through no method of one's own."""
        own = self.conv, self.similarity
        return (
            not torch.compiler.is_compiling()
            and torch.is_grad_enabled()
            and edge_weight.requires_grad
            and edge_weight.dtype == x.dtype
            and self.mode == "edges"
            and type(self).adjacency is SimilarityFlowGNN.adjacency
            and type(self.similarity) is Similarity
            and type(self.conv) is FlowConv
            and self.conv.scheme == "euler"
            and type(self.conv.dynamics) is GraphGradientFlow
            and "adjacency" not in vars(self)
            and not any("forward" in vars(part) or kernels.hooked(part) for part in own if part is not None)
            and self.conv.dynamics.compiled(edge_weight)
        )

    def _encoded(self, x: Tensor) -> Tensor:
        """The hidden units; a frozen model has them once, for all the graphs that an attack asks for."""
        if torch.compiler.is_compiling():
            return super()._encoded(x)
        encoder = self.encoder
        weights = [encoder.weight] if encoder.bias is None else [encoder.weight, encoder.bias]
        differentiated = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights))
        own = type(encoder) is not Linear or "forward" in vars(encoder) or kernels.hooked(encoder)
        if own or differentiated or (self.training and self.dropout):
            return super()._encoded(x)
        hidden: Tensor = self._hidden(lambda: super(SimilarityFlowGNN, self)._encoded(x), x, entries=weights)
        return hidden

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
        if not one_hot(data.x):
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
