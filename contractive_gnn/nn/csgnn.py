r"""CSGNN: features and adjacency evolve together (Eliasof, Murari, Sherry, Schönlieb, arXiv 2311.06942)."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch_geometric.nn import MessagePassing

from contractive_gnn import activations, inputs
from contractive_gnn.activations import Activation
from contractive_gnn.checks import check_flag, check_real, check_whole, check_widths
from contractive_gnn.deprecated import renamed
from contractive_gnn.dynamics import Adjacency, AdjacencyFlow, GraphGradientFlow
from contractive_gnn.dynamics.adjacency import Form
from contractive_gnn.dynamics.graph_gradient_flow import Normalization, Placement
from contractive_gnn.graph import Graph
from contractive_gnn.nn.arguments import check_features, edge_list, widened
from contractive_gnn.nn.batch import graph_by_graph
from contractive_gnn.nn.bound import CoupledBound, LayerBound, compose, doubt, layer_bound, linear_norm, unknown
from contractive_gnn.nn.sparse import Linear, dropout
from contractive_gnn.nn.surrogate import HasGradientSurrogate
from contractive_gnn.norms import number
from contractive_gnn.trainable import HasRoles

Condition = Literal["corrected", "printed"]


@renamed(sigma="activation", weight="learn_weight")
class CoupledConv(GraphGradientFlow):
    r"""One step of the coupled flow: the features on the current adjacency, then the adjacency itself.

    .. math::
        F \leftarrow F - h\,G(A)^\top\sigma(G(A) F W) W^\top, \qquad A \leftarrow A + h\,\sigma_A(M(A))

    F at a layer uses the A that enters it, and A never depends on F. The feature step acts on the edges of the given
    graph; what the adjacency flow puts elsewhere stays in the state (see :class:`Adjacency`) and enters no difference.

    Args:
        channels: number of feature channels.
        step: h. At most the condition's bound is taken.
        condition: ``"corrected"``: ``h ≤ 2/(s_max ‖W‖₂² ‖G(A)‖²)``, the feature step is provably non-expansive for a
            fixed A; ``"printed"``: ``h ≤ 2/‖W‖₂²`` as in the paper, which does not suffice.
        sigma: see :class:`GraphGradientFlow`.
        placement: see :class:`GraphGradientFlow`; ``"inside"`` in the paper.
        normalization: see :class:`GraphGradientFlow`; ``"none"`` in the paper. With ``"degree"`` the corrected
            condition does not depend on the graph, where the largest degree of an unnormalised one would slow every
            node.
        adjacency_flow: the flow of A, or None to keep A (the paper's ``noAdj``).
        **flow: arguments of :class:`GraphGradientFlow`.

    Shapes:
        ``x`` ``[n, c]``; the adjacency in ``O(|E| + n)``.
    """

    # PyG compiles propagate for each class, and keeps the inherited one for explainers: here that would be the compiled
    # one of GraphGradientFlow, which ignores their masks.
    propagate = MessagePassing.propagate

    def __init__(
        self,
        channels: int,
        *,
        step: float = 0.5,
        condition: Condition = "corrected",
        adjacency_flow: AdjacencyFlow | None = None,
        activation: str | Activation = "tanh",
        placement: Placement = "inside",
        normalization: Normalization = "degree",
        **flow: Any,
    ) -> None:
        super().__init__(channels, activation=activation, placement=placement, normalization=normalization, **flow)
        if condition not in ("corrected", "printed"):
            raise ValueError(f"condition must be 'corrected' or 'printed', got {condition!r}")
        check_real("step", step, above=0)
        self.step = float(step)
        self.condition = condition
        self.adjacency_flow = adjacency_flow

    @property
    def certified(self) -> bool:
        """Whether both steps are proved non-expansive, each in its norm."""
        flow = self.adjacency_flow
        return self.condition == "corrected" and self.sigma.slopes[0] >= 0 and (flow is None or flow.certified)

    def step_size(self, graph: Graph) -> Tensor:
        """The feature step that is taken on ``graph``, a scalar tensor.

        Raises:
            ValueError: the flow has no contractive step there.
        """
        limit = self.max_step(graph) if self.condition == "corrected" else 2.0 / self.weight_norm() ** 2
        limit = torch.as_tensor(limit, dtype=graph.edge_weight.dtype, device=graph.edge_weight.device)
        if torch.compiler.is_compiling():  # a trace cannot branch on a value
            torch._assert_async(limit > 0, "the feature flow has no contractive step on this graph")
        elif limit <= 0:
            raise ValueError(
                f"the feature flow with {self.sigma} has no contractive step on this graph (rate "
                f"{float(torch.as_tensor(self.rate(graph)).detach()):.3g}); raise its mu, or use a monotone activation"
            )
        return limit.clamp(max=self.step)

    def reads(self, adjacency: Adjacency) -> Graph:
        """The graph that the feature step sees: the entries of A on the given edges; outside σ, those above 0."""
        graph = adjacency.graph()
        if self.placement == "inside":
            return graph
        # The potential is convex for weights that are not negative, and a flow may leave them. Not clamp: its gradient
        # at 0 is 0, and would hide every absent edge.
        weight = graph.edge_weight.masked_fill(graph.edge_weight < 0, 0.0)
        return dataclasses.replace(graph, edge_weight=weight)

    def bound(self, x: Tensor, adjacency: Adjacency) -> LayerBound:
        """The constants of this step at ``(x, A)``; see :class:`~contractive_gnn.nn.bound.LayerBound`."""
        graph = self.reads(adjacency)
        layer = layer_bound(self, graph, x, self.step_size(graph))
        flow = self.adjacency_flow
        if flow is None:
            return layer
        h = number(flow.step_size())
        return dataclasses.replace(
            layer,
            adjacency=number(flow.l1_lipschitz(h)),
            largest=number(adjacency.largest_entry()),
            misread=number(flow.misread(adjacency, h)),
        )

    def forward(self, x: Tensor, adjacency: Adjacency, *, anchor: Tensor | None = None) -> tuple[Tensor, Adjacency]:
        """One coupled step; returns the new features ``[n, c]`` and the new adjacency.

        ``anchor`` is F⁽⁰⁾, which a fidelity term (``mu > 0``, not in the paper) pulls back to.
        """
        graph = self.reads(adjacency)
        x = self.euler(x, graph, step=self.step_size(graph), num_steps=1, anchor=anchor)
        return x, adjacency if self.adjacency_flow is None else self.adjacency_flow(adjacency)


@renamed(hidden="hidden_channels", sigma="activation", weight="learn_weight")
class CSGNN(nn.Module, HasRoles, HasGradientSurrogate):
    r"""The coupled contractive network: ``F⁽⁰⁾ = K(X)``, L coupled steps, a linear decoder.

    Args:
        in_channels: number of features, -1 to infer it.
        out_channels: number of classes.
        hidden_channels: c, the width.
        num_layers: L.
        step: h.
        dropout: probability of dropping a feature, and a hidden unit.
        shared: one set of weights for all layers.
        adjacency: form of the adjacency flow (:class:`AdjacencyFlow`), or ``"fixed"`` for none (the ablation
            ``noAdj``); ``"unconstrained"`` is the ablation ECSGNN, ``"published"`` the paper's own form, not certified.
        alpha: α ≤ 0 of the adjacency flow; ``"unconstrained"`` learns k₁ in its place, ``"fixed"`` takes none.
        adjacency_step: h of the adjacency flow, where it is not that of the features as in the paper.
        activation: activation of the feature flow.
        threshold: λ of an activation given by name; None takes its default.
        condition: step condition of the feature flow, ``"corrected"`` or ``"printed"``.
        placement: of the edge weights, ``"outside"`` σ or ``"inside"`` as in the paper. On a graph of weights 0 and 1
            whose adjacency is kept the two are the same model, but inside an absent edge has no gradient.
        mu: strength of the pull to F⁽⁰⁾ (0 in the paper).
        learn_weight: learn W (as in the paper), or keep W = I.
        normalization: see :class:`~contractive_gnn.dynamics.GraphGradientFlow`; ``"none"`` in the paper.
        epsilon: see :class:`~contractive_gnn.dynamics.GraphGradientFlow`.

    Raises:
        ValueError: for a value out of its range, or one that the others leave unread.

    Shapes:
        ``x`` ``[n, in_channels]`` dense or ``sparse_csr``, ``edge_index`` ``[2, E]`` with both orientations or a sparse
        ``[n, n]`` matrix, ``edge_weight`` ``[E]`` (differentiable), output ``[n, out_channels]``. ``batch`` ``[n]`` is
        the graph of every node where there are several: the adjacency flow reads n and the sums over a whole graph, so
        each is treated by itself. Without it all nodes are one graph, whatever its components.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 64,
        num_layers: int = 8,
        step: float = 0.5,
        dropout: float = 0.5,
        shared: bool = False,
        adjacency: Form | Literal["fixed"] = "l1-inside",
        alpha: float = -0.1,
        adjacency_step: float | None = 0.02,
        activation: str | Activation = "huber",
        threshold: float | None = 0.3,
        condition: Condition = "corrected",
        placement: Placement = "outside",
        mu: float = 0.1,
        learn_weight: bool = False,
        normalization: Normalization = "degree",
        epsilon: float = 1.0,
    ) -> None:
        super().__init__()
        check_real("step", step, above=0)
        if adjacency_step is not None:
            check_real("adjacency_step", adjacency_step, above=0)
        check_real("alpha", alpha, most=0)
        own = isinstance(activation, Activation) and threshold == 0.3
        activation = activations.activation(activation, threshold=None if own else threshold)
        if adjacency == "fixed" and (alpha != -0.1 or adjacency_step not in (0.02, None)):
            raise ValueError(
                "adjacency='fixed' has no flow that alpha and adjacency_step would belong to, got "
                f"{alpha!r} and {adjacency_step!r}; leave them out"
            )
        if adjacency_step is None:
            adjacency_step = step
        check_widths(in_channels, out_channels=out_channels, hidden_channels=hidden_channels)
        check_whole("num_layers", num_layers, least=1)
        check_real("dropout", dropout, least=0, most=1)
        check_flag("shared", shared)
        self.encoder = Linear(in_channels, hidden_channels)
        blocks = [
            CoupledConv(
                hidden_channels,
                step=step,
                condition=condition,
                activation=activation,
                placement=placement,
                mu=mu,
                learn_weight=learn_weight,
                adjacency_flow=None
                if adjacency == "fixed"
                else AdjacencyFlow(form=adjacency, alpha=alpha, step=adjacency_step),
                normalization=normalization,
                epsilon=epsilon,
            )
            for _ in range(1 if shared else num_layers)
        ]
        last = blocks[-1].adjacency_flow
        if last is not None and len(blocks) == num_layers:
            # Nobody reads what the last step makes of A: its coefficients stay as drawn, and are no parameter.
            k = last.k.detach()
            del last.k
            last.register_buffer("k", k)
        self.blocks = nn.ModuleList(blocks)
        self.decoder = Linear(hidden_channels, out_channels)
        self.num_layers = num_layers
        self.dropout = dropout

    @property
    def certified(self) -> bool:
        """Whether every step is proved non-expansive, each in its own norm, the features' for a fixed adjacency.

        With ``normalization="degree"`` the norm weights a node by its degree, which an adjacency flow changes from
        layer to layer: the product of the steps is then bounded only up to the ratio of those degrees.
        """
        return all(block.certified for block in self.layers())

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.encoder.reset_parameters()
        self.decoder.reset_parameters()
        for block in self.layers()[: len(self.blocks)]:  # shared weights once
            block.reset_parameters()
            if block.adjacency_flow is not None:
                block.adjacency_flow.reset_parameters()

    def gradient_surrogate(self) -> CSGNN:
        """A twin with the same parameters whose edge weights stand outside σ, for attackers that need a gradient.

        Inside σ an absent edge has a gradient of (nearly) zero, although adding it moves the output: an attack that
        follows this model's own gradient is blind to insertions. The twin is the same function where the weights that
        enter a layer are 0 or 1 (an adjacency flow moves them a little), and its gradient sees every pair.
        """
        twin = copy.deepcopy(self)
        for block in twin.layers():
            block.placement = "outside"
        return twin

    def layers(self) -> list[CoupledConv]:
        """The L blocks in the order they are applied (the same object L times where weights are shared)."""
        return [self.blocks[layer % len(self.blocks)] for layer in range(self.num_layers)]  # type: ignore[misc]

    def parameter_groups(self) -> dict[str, list[Parameter]]:
        """Parameters by role, for separate learning rates: ``encoder`` (and decoder), ``node``, ``adjacency``."""
        groups: dict[str, list[Parameter]] = {"encoder": [], "node": [], "adjacency": []}
        for name, parameter in self.named_parameters():
            role = "adjacency" if "adjacency_flow" in name else "node" if name.startswith("blocks") else "encoder"
            groups[role].append(parameter)
        return groups

    def adjacencies(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> list[Adjacency]:
        """``A⁽⁰⁾ … A⁽ᴸ⁾``; :attr:`Adjacency.error` and :meth:`Adjacency.off_support` bound what is not in the edges."""
        states = [Adjacency.of(Graph.of(x, edge_index, edge_weight))]
        for block in self.layers():
            states.append(states[-1] if block.adjacency_flow is None else block.adjacency_flow(states[-1]))
        return states

    @torch.no_grad()
    def lipschitz(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> CoupledBound:
        """What a change of the features and flipped edges can do to the scores: the coupled bound.

        Per step and in total, uniform over all features and along the trajectory of ``x``; see
        :class:`~contractive_gnn.nn.bound.CoupledBound` for the statement and docs/theory.md for the proof. The model's
        scores in ``eval`` mode are meant. Not certified, with a reason: an unnormalised flow, whose step follows the
        degrees, weights inside σ while A moves, half precision, and models with hooks, another ``forward`` or foreign
        parts.

        Args:
            x: ``[n, in_channels]``.
            edge_index: the given graph, without self-loops, weights 0 and 1.
            edge_weight: ``[E]`` or None.

        Raises:
            InputError: features that are not finite, and a graph that is not undirected and simple with weights of at
                least 0.
            ValueError: parameters that are not finite.
        """
        x = inputs.features(x)
        graph = inputs.undirected(x, edge_index, edge_weight)
        flows = [block.adjacency_flow for block in self.layers() if block.adjacency_flow is not None]
        exactly: dict[type, Sequence[nn.Module]] = {CSGNN: (self,), CoupledConv: self.layers(), AdjacencyFlow: flows}
        if reason := doubt(self, (self.encoder, self.decoder), exactly):
            return unknown(reason, self.layers()[0].norm)
        check_features(x, self)
        model = self
        if any(block.placement == "inside" for block in self.layers()):
            if all(block.adjacency_flow is None for block in self.layers()):
                model = self.gradient_surrogate()  # the same function on weights 0 and 1
            else:
                reason = "the edge weights stand inside σ and move: take placement='outside'"
        if any(block.normalization == "none" for block in self.layers()):
            reason = "the step of an unnormalised flow follows the degrees: take normalization='sym' or 'degree'"
        f = model.encoder(x).relu()
        anchor, adjacency = f, Adjacency.of(graph)
        given = adjacency.on_edges
        binary = bool(((given == 0) | (given == 1)).all())
        if not binary and (model is not self or any(block.adjacency_flow is not None for block in self.layers())):
            reason = "weights inside σ, and an adjacency that moves, are bounded for weights 0 and 1 only"
        layers: list[LayerBound] = []
        weights: list[Tensor | None] = []
        for block in model.layers():
            graph = block.reads(adjacency)
            weight = block.norm_weight(graph)
            bound = block.bound(f, adjacency)
            # The given graph has nothing off its edges, so its flips are read once.
            layers.append(bound if layers else dataclasses.replace(bound, largest=0.0))
            weights.append(weight)
            f, adjacency = block(f, adjacency, anchor=anchor)
        norm = model.layers()[0].norm
        return compose(
            layers,
            weights,
            norm=norm,
            encoder=linear_norm(self.encoder, norm),
            decoder=linear_norm(self.decoder, norm),
            certified=not reason,
            reason=reason,
            heaviest=float(given.max()) if given.numel() else 1.0,
        )

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        """Class scores, ``[n, out_channels]``."""
        if batch is not None:
            return graph_by_graph(self.forward, x, edge_index, edge_weight, batch)
        check_features(x, self)
        edge_index, edge_weight = edge_list(x, edge_index, edge_weight)
        dtype = x.dtype
        x = widened(self.encoder(dropout(x, self.dropout, training=self.training)).relu())
        anchor, adjacency = x, Adjacency.of(Graph.of(x, edge_index, edge_weight))
        for block in self.layers():
            x, adjacency = block(x, adjacency, anchor=anchor)
        return self.decoder(dropout(x.to(dtype), self.dropout, training=self.training))  # type: ignore[no-any-return]
