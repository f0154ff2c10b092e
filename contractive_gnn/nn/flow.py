"""A vector field as a layer, of any domain and on a graph, and the models around one."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from contractive_gnn import activations, inputs
from contractive_gnn.checks import check_real, check_whole, check_widths
from contractive_gnn.deprecated import renamed
from contractive_gnn.dynamics import Diffusion, Dynamics, GraphGradientFlow, VectorField
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import Scheme, solver
from contractive_gnn.nn.arguments import check_dynamics, check_features, check_field, check_floating, edge_list, widened
from contractive_gnn.nn.batch import graph_by_graph
from contractive_gnn.nn.bound import (
    CoupledBound,
    compose,
    doubt,
    layer_bound,
    linear_norm,
    simple,
    simple_graphs,
    unknown,
)
from contractive_gnn.nn.sparse import Linear, dropout
from contractive_gnn.nn.stepping import Stepping
from contractive_gnn.norms import number


class Flow(Stepping):
    r"""K steps of an integrator along a vector field of any domain, from ``x``, which is also the anchor.

    .. math::
        x^{(k+1)} = x^{(k)} + h\,X(x^{(k)}), \qquad k = 0, \dots, K - 1

    for the explicit Euler scheme. With steps within the field's condition, K of them from a *fixed* anchor are
    ``q = (1 − hκ)^K``-Lipschitz in the field's norm. Here the anchor is the input and moves with it, see
    :meth:`lipschitz`; a field without a fidelity has no anchor.

    Args:
        field: the vector field X.
        num_steps: K ≥ 1.
        step: h > 0, or None for the longest step that is proved to contract. A larger h than that is cut down to it,
            unless ``constrained`` is False.
        constrained: keep the step within the field's condition: the scheme's contractivity radius in the field's norm
            times the largest contractive Euler step.
        scheme: a name of :data:`contractive_gnn.integrators.SCHEMES`, or a scheme: an explicit one, ``"heun"`` say, an
            implicit one, or one that needs a structure of the field, ``"strang"`` or ``"stormer-verlet"`` say.

    Shapes:
        ``x`` of any shape that the field takes, floating point; output of the same shape.

    Raises:
        TypeError: for a field that is no :class:`~contractive_gnn.dynamics.VectorField`.
        ValueError: for numbers out of their range, and a field without the structure that the scheme needs; (called)
            where the field has no contractive step and ``constrained`` is True, and where its value has another shape
            than the state.

    Example:
        >>> from contractive_gnn.dynamics import Diffusion
        >>> from contractive_gnn.graph import Graph
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> graph = Graph.of(x, torch.tensor([[0, 1], [1, 0]]))
        >>> layer = Flow(Diffusion(mu=0.5).on(graph), num_steps=4, scheme="heun")
        >>> layer(x).shape == x.shape
        True
    """

    def __init__(
        self,
        field: VectorField,
        *,
        num_steps: int = 8,
        step: float | None = None,
        constrained: bool = True,
        scheme: str | Scheme = "euler",
    ) -> None:
        super().__init__(num_steps=num_steps, step=step, constrained=constrained, scheme=scheme)
        self.field = check_field(field, type(self).__name__)
        solver(scheme).check(field)

    def reset_parameters(self) -> None:
        """Draw the field's parameters anew."""
        self.field.reset_parameters()

    def step_size(self) -> Tensor | float:
        """The step that is taken."""
        return self._length(self.field)

    def hold(self) -> None:
        """Take the present step from now on, whatever becomes of the weights; the constant is that of this step."""
        self.step, self.constrained = number(self.step_size()), False

    def forward(self, x: Tensor) -> Tensor:
        """Integrate from ``x``, the anchor; the result has its shape."""
        check_floating(x, type(self).__name__)
        # a step in another precision would raise that of a state without axes
        return self._follow(self.field.anchored(x), x, self.step_size()).to(x.dtype)

    def lipschitz(self) -> float:
        """A Lipschitz constant of the layer in its input, in the field's norm; ``inf`` if unknown.

        Of steps that are q-Lipschitz for a fixed anchor, κ > 0 and μ the field's ``anchor_lipschitz``, it is
        ``Q + (1 − Q) μ/κ`` with ``Q = q^K``; see :meth:`FlowConv.lipschitz`.

        Raises:
            InputError: for a field on a graph that is not undirected and simple, with finite weights of at least 0.
        """
        simple_graphs(self.field)
        return self._constant(self.field, self.step_size())


class FlowConv(Stepping):
    r"""A vector field as a layer: K steps of an integrator from ``x⁽⁰⁾``, which is also the anchor of the fidelity.

    By default the steps are explicit Euler's, ``x ← x + h X(x)``. The layer keeps the number of channels, like PyG's
    ``APPNP`` and ``AntiSymmetricConv``. With Euler steps within the field's condition, K of them from a *fixed* anchor
    are ``q = (1 − hκ)^K``-Lipschitz in the field's norm. Here the anchor is the input and moves with it: a fidelity of
    strength μ adds at most hμ of the input's change at every step, so the layer is ``q + (1 − q) μ/κ``-Lipschitz, which
    is 1 where κ = μ (every monotone σ).

    Args:
        dynamics: the vector field.
        num_steps: K ≥ 1.
        step: h > 0, or None for the field's own largest contractive step on the graph at hand. A larger h than that is
            cut down to it, unless ``constrained`` is False.
        constrained: keep the step within the field's condition: the scheme's contractivity radius in the field's norm
            times the largest contractive Euler step.
        scheme: an explicit row of :data:`contractive_gnn.integrators.SCHEMES`: ``"euler"``, ``"heun"``, ``"ssprk2"``,
            ``"ssprk3"``, ``"rk4"`` (no contractive step outside ℓ2).

    Shapes:
        ``x`` ``[n, c]``, ``edge_index`` ``[2, E]`` (both orientations) or a sparse ``[n, n]`` matrix, ``edge_weight``
        ``[E]`` (differentiable), ``batch`` ``[n]`` or None, output ``[n, c]``. With ``batch``, the graph of every node
        as in a batch of PyG, each graph has its own step; without it all nodes are one graph, whatever its components,
        and an unnormalised flow takes the step that its largest degree allows.

    Raises:
        ValueError: where the field has no contractive step on the graph and ``constrained`` is True.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        *,
        num_steps: int = 8,
        step: float | None = None,
        constrained: bool = True,
        scheme: str | Scheme = "euler",
    ) -> None:
        super().__init__(num_steps=num_steps, step=step, constrained=constrained, scheme=scheme)
        if not solver(scheme).explicit:
            raise ValueError(f"scheme must be explicit, got {scheme!r}; Flow(dynamics.on(graph)) takes implicit ones")
        self.dynamics = check_dynamics(dynamics, type(self).__name__)

    def reset_parameters(self) -> None:
        """Draw the field's parameters anew."""
        self.dynamics.reset_parameters()

    def step_size(self, graph: Graph) -> Tensor | float:
        """The step that is taken on ``graph``."""
        return self._length(self.dynamics.on(graph))

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        """Integrate from ``x``; shape ``[n, c]``."""
        if batch is not None:
            return graph_by_graph(self.forward, x, edge_index, edge_weight, batch)
        check_features(x, self)
        dtype, x = x.dtype, widened(x)
        edge_index, edge_weight = edge_list(x, edge_index, edge_weight)
        graph = Graph.of(x, edge_index, edge_weight)
        return self._follow(self.dynamics.on(graph, x), x, self.step_size(graph)).to(dtype)

    def lipschitz(self, graph: Graph) -> float:
        """A Lipschitz constant of the layer in its input, in the field's norm, on a fixed graph; ``inf`` if unknown.

        One step of Euler's scheme is ``q``-Lipschitz for a fixed anchor and passes on at most ``hμ`` of the anchor's
        own change, μ the field's ``anchor_lipschitz``: ``e ← q e + hμ``, from ``e = 1``. Another scheme is composed of
        convex combinations of Euler steps, as far as its monotonicity radius allows the step, so e follows the scheme
        applied to ``ė = μ − κe``: ``e ← q e + (1 − q) μ/κ`` with ``q = R(−hκ)``. For ``"rk4"`` one is known for a field
        without an anchor only, and for schemes that are no Runge–Kutta schemes that of the fields' parts.

        Raises:
            InputError: for a graph that is not undirected and simple, with finite weights of at least 0.
        """
        graph = simple(graph)
        return self._constant(self.dynamics.on(graph), self.step_size(graph))


@renamed(hidden="hidden_channels")
class FlowGNN(nn.Module):
    r"""Encoder, contractive flow, decoder.

    ``space="hidden"``: linear map to ``hidden_channels`` channels, ReLU, flow, linear map to the classes.
    ``space="class"``: a two-layer perceptron to the classes, then the flow on the class scores themselves, which is
    what the certificates read.

    Args:
        in_channels: number of features, -1 to infer it.
        out_channels: number of classes.
        conv: the flow layer, on ``hidden_channels`` or ``out_channels`` channels.
        hidden_channels: width of the hidden layer.
        space: where the flow runs.
        dropout: probability of dropping a feature, and a hidden unit.

    Shapes:
        ``x`` ``[n, in_channels]`` dense or ``sparse_csr``, output ``[n, out_channels]``. ``batch`` as in
        :class:`FlowConv`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        conv: FlowConv,
        *,
        hidden_channels: int = 64,
        space: Literal["hidden", "class"] = "hidden",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if space not in ("hidden", "class"):
            raise ValueError(f"space must be 'hidden' or 'class', got {space!r}")
        check_widths(in_channels, out_channels=out_channels, hidden_channels=hidden_channels)
        check_real("dropout", dropout, least=0, most=1)
        self.encoder = Linear(in_channels, hidden_channels)
        self.conv = conv
        self.decoder = Linear(hidden_channels, out_channels)
        self.space = space
        self.dropout = dropout

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for module in (self.encoder, self.conv, self.decoder):
            module.reset_parameters()

    @torch.no_grad()
    def lipschitz(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> CoupledBound:
        """What a change of the features and of the edges can do to the scores; A is kept, so any Ã ≥ 0 is meant.

        See :class:`~contractive_gnn.nn.bound.CoupledBound`. Not certified, with a reason: schemes other than Euler's,
        fields whose step follows the graph or that declare no constant, half precision, and models with hooks, another
        ``forward`` or foreign parts.

        Args:
            x: ``[n, in_channels]``.
            edge_index: the given graph.
            edge_weight: ``[E]`` or None.

        Raises:
            InputError: features that are not finite, and a graph that is not undirected and simple with weights of at
                least 0.
            ValueError: parameters that are not finite.
        """
        x = inputs.features(x)
        graph = inputs.undirected(x, edge_index, edge_weight)
        reason = doubt(self, (self.encoder, self.decoder), {FlowGNN: (self,), FlowConv: (self.conv,)})
        if reason:
            return unknown(reason, self.conv.dynamics.norm)
        check_features(x, self)
        return self._bound(x, graph)

    def _bound(self, x: Tensor, graph: Graph) -> CoupledBound:
        """The bound of a model that is what it says, on a graph that was checked."""
        f = self.encoder(x).relu()
        f = f if self.space == "hidden" else self.decoder(f)
        field = self.conv.dynamics
        reason = "" if field.certified else f"{field} does not call itself certified"
        if self.conv.scheme != "euler":
            reason = f"the coupled bound is worked out for Euler steps, not for {self.conv.scheme}"
        elif not field.uniform:
            reason = "the field's step follows the graph"
        step = self.conv.step_size(graph)
        layers, anchor = [], f
        for index in range(self.conv.num_steps):
            layers.append(layer_bound(field, graph, f, step))
            f = f + step * field.field(f, graph, anchor=anchor, t=index * step)
        encoder, decoder = (linear_norm(part, field.norm) for part in (self.encoder, self.decoder))
        return compose(
            layers,
            [field.norm_weight(graph)] * len(layers),
            norm=field.norm,
            encoder=encoder if self.space == "hidden" else encoder * decoder,
            decoder=decoder if self.space == "hidden" else 1.0,
            certified=not reason,
            reason=reason,
            heaviest=float(graph.edge_weight.max()) if graph.edge_weight.numel() else 1.0,
        )

    def _encoded(self, x: Tensor) -> Tensor:
        """The hidden units ``[n, hidden_channels]``, before the flow."""
        return self.encoder(dropout(x, self.dropout, training=self.training)).relu()  # type: ignore[no-any-return]

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        """Class scores, ``[n, out_channels]``."""
        if batch is not None:
            return graph_by_graph(self.forward, x, edge_index, edge_weight, batch)
        check_features(x, self)
        edge_index, edge_weight = edge_list(x, edge_index, edge_weight)
        x = self._encoded(x)
        if self.space == "hidden":
            x = self.conv(x, edge_index, edge_weight)
            return self.decoder(dropout(x, self.dropout, training=self.training))  # type: ignore[no-any-return]
        x = self.decoder(dropout(x, self.dropout, training=self.training))
        return self.conv(x, edge_index, edge_weight)  # type: ignore[no-any-return]


@renamed(hidden="hidden_channels", num_steps="num_layers", sigma="activation", weight="learn_weight")
def gradient_flow(
    in_channels: int,
    out_channels: int,
    *,
    hidden_channels: int = 64,
    num_layers: int = 8,
    step: float | None = None,
    dropout: float = 0.5,
    activation: str = "group-huber",
    threshold: float | None = None,
    mu: float = 0.1,
    learn_weight: bool = False,
    **flow: Any,
) -> FlowGNN:
    """The ℓ2 gradient flow with the edge weights outside σ (:class:`GraphGradientFlow`) as a model, on hidden
    channels.
    """
    check_whole("hidden_channels", hidden_channels, least=1)
    check_whole("num_layers", num_layers, least=1)
    dynamics = GraphGradientFlow(
        hidden_channels,
        activation=activations.activation(activation, threshold=threshold),
        mu=mu,
        learn_weight=learn_weight,
        **flow,
    )
    conv = FlowConv(dynamics, num_steps=num_layers, step=step)
    return FlowGNN(in_channels, out_channels, conv, hidden_channels=hidden_channels, dropout=dropout)


@renamed(hidden="hidden_channels", num_steps="num_layers", sigma="activation")
def linf_diffusion(
    in_channels: int,
    out_channels: int,
    *,
    hidden_channels: int = 64,
    num_layers: int = 10,
    step: float | None = None,
    dropout: float = 0.5,
    activation: str = "huber",
    threshold: float | None = None,
    mu: float = 0.3,
    space: Literal["hidden", "class"] = "class",
) -> FlowGNN:
    """The ℓ∞ diffusion (:class:`Diffusion`) as a model, by default on the class scores."""
    check_whole("num_layers", num_layers, least=1)
    conv = FlowConv(Diffusion(activation=activation, mu=mu, threshold=threshold), num_steps=num_layers, step=step)
    return FlowGNN(in_channels, out_channels, conv, hidden_channels=hidden_channels, space=space, dropout=dropout)
