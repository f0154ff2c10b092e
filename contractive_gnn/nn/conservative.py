r"""Layers on graphs whose every step keeps what their field conserves, and the models around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from contractive_gnn import activations
from contractive_gnn.activations import Activation
from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.dynamics import Dynamics, HamiltonianFlow, MassDiffusion, VectorField, VolumeCoupling
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import Scheme, solver, trajectory
from contractive_gnn.nn.arguments import check_dynamics, check_features, edge_list, widened
from contractive_gnn.nn.batch import graph_by_graph
from contractive_gnn.nn.bound import simple
from contractive_gnn.nn.flow import FlowConv, FlowGNN
from contractive_gnn.nn.sparse import dropout as dropped
from contractive_gnn.norms import number

Readout = Literal["last", "mean"]

_TRIED = ("euler", "strang", "stormer-verlet")
"""Schemes in the order in which one is looked for."""


class ConservativeConv(FlowConv):
    r"""K steps of a scheme that keeps what the field conserves, as a layer.

    What the exact flow keeps, each step keeps to rounding, whatever the weights: the mass, the norm, the volume or the
    symplectic form; a scheme that does not is refused. (An energy is kept by none of the schemes, but oscillates in a
    band under a symplectic one.) The field has no anchor here, or the origin for one, so that the layer itself is a map
    with these properties: with its own input for an anchor, as in :class:`FlowConv`, the wave would not be symplectic.

    *Step.* ``h = share · largest``, see :meth:`largest_step`: a share of 1 or less stays within the proved limit. It
    follows the weights as they are learned, and gradients pass through it.

    Args:
        dynamics: a field that conserves something.
        num_steps: K ≥ 1.
        share: of the largest step, in (0, 1]; below 1 for the sum of two shears, whose limit is open.
        scheme: a name of :data:`contractive_gnn.integrators.SCHEMES`, or a scheme; None for the first of ``"euler"``,
            ``"strang"`` and ``"stormer-verlet"`` that keeps all. Of a wave Strang's is Störmer and Verlet's method for
            the positions: it evaluates the force once a step, the one for the velocities twice.

    Shapes:
        ``x`` ``[n, c]``, ``edge_index`` ``[2, E]`` (both orientations) or a sparse ``[n, n]`` matrix, ``edge_weight``
        ``[E]`` (differentiable), ``batch`` ``[n]`` or None, output ``[n, c]``.

    Raises:
        TypeError: for something that is no dynamics.
        ValueError: for numbers out of their range, a field that conserves nothing, and a scheme that does not keep it.

    Example:
        >>> from contractive_gnn.dynamics import HamiltonianFlow
        >>> wave = ConservativeConv(HamiltonianFlow(8), num_steps=64, share=0.25)
        >>> wave.scheme
        'strang'
    """

    def __init__(
        self, dynamics: Dynamics, *, num_steps: int = 8, share: float = 0.5, scheme: str | Scheme | None = None
    ) -> None:
        check_real("share", share, above=0, most=1)
        check_dynamics(dynamics, type(self).__name__)
        if _two_shears(_anywhere(dynamics)) and share == 1:
            raise ValueError(
                f"share must be below 1 for {type(dynamics).__name__}, the sum of two shears, whose states may grow "
                f"without bound at the largest step itself, got {share!r}"
            )
        super().__init__(dynamics, num_steps=num_steps, scheme=_keeping(dynamics, scheme))
        self.share = float(share)

    def largest_step(self, graph: Graph) -> Tensor:
        r"""The largest step that is proved to be stable on ``graph``; an open limit for two shears.

        *A field that contracts*: the longest non-expansive step of the scheme. *Two shears*, each moved by a function
        of the other, with Lipschitz constants L₁ and L₂: ``2/√(L₁L₂)``. On the linear oscillation ``u̇ = L₁v``, ``v̇ =
        −L₂u`` a step of Störmer–Verlet, Strang or symplectic Euler has determinant 1 and trace ``2 − h²L₁L₂``: its
        powers are bounded below the limit, grow linearly at it, where −1 is a double eigenvalue of a matrix that is not
        diagonal, and exponentially above it (Hairer, Lubich, Wanner, *Geometric Numerical Integration*, 2006, section
        I.5). So are those of every linear wave ``q̈ = −Kq`` with ``0 < K ≤
        L₁L₂``. For other shears it is the scale of the step, and no proof of stability.

        Raises:
            ValueError: where nothing is known.
        """
        field = self.dynamics.on(graph)
        if _two_shears(field):
            first, second = field.parts()
            product = torch.as_tensor(first.field_lipschitz() * second.field_lipschitz())
            known, limit = torch.isfinite(product), 2.0 / product.clamp(min=torch.finfo(product.dtype).eps).sqrt()
        else:
            radius = solver(self.scheme).radius(field.norm)
            limit = torch.as_tensor(radius * field.max_step() if radius else 0.0)
            known = (limit > 0) & torch.isfinite(limit)
        unknown = (
            f"no largest step is known of {field} with {solver(self.scheme).name}{field.where}: it neither contracts "
            "nor is the sum of two shears with Lipschitz constants; take a monotone activation, or FlowConv with a step"
        )
        if torch.compiler.is_compiling():  # a trace cannot branch on a value
            torch._assert_async(known, unknown)
        elif not known:
            raise ValueError(unknown)
        return limit

    def step_size(self, graph: Graph) -> Tensor:
        """``share · largest_step(graph)``."""
        return self.share * self.largest_step(graph)

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        """Integrate from ``x``; shape ``[n, c]``."""
        if batch is not None:
            return graph_by_graph(self.forward, x, edge_index, edge_weight, batch)
        check_features(x, self)
        dtype, x = x.dtype, widened(x)
        graph = Graph.of(x, *edge_list(x, edge_index, edge_weight))
        return self._follow(self.dynamics.on(graph), x, self.step_size(graph)).to(dtype)

    def states(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Iterator[Tensor]:
        """The state before each step and after the last one, K + 1 in all: what happens in a deep network."""
        check_features(x, self)
        dtype, x = x.dtype, widened(x)
        graph = Graph.of(x, *edge_list(x, edge_index, edge_weight))
        step = self.step_size(graph)
        for state in trajectory(self.dynamics.on(graph), x, step=step, num_steps=self.num_steps, scheme=self.scheme):
            yield state.to(dtype)

    def lipschitz(self, graph: Graph) -> float:
        """``q^K`` with q that of a step; it grows with the depth for all but the diffusion, and may be ``inf``.

        Raises:
            InputError: for a graph that is not undirected and simple, with finite weights of at least 0.
            ValueError: where no largest step is known.
        """
        graph = simple(graph)
        q = solver(self.scheme).lipschitz(self.dynamics.on(graph), number(self.step_size(graph)))
        constant = 1.0
        for _ in range(self.num_steps):
            constant *= q
        return constant

    def extra_repr(self) -> str:
        """Show the integration."""
        return f"num_steps={self.num_steps}, share={self.share}, scheme={self.scheme!r}"


class ConservativeGNN(FlowGNN):
    r"""Encoder, conservative layer, decoder.

    A wave never settles, so its last state alone says little: with ``readout="mean"`` the decoder reads the mean of all
    states, as jumping knowledge does (Xu et al., ICML 2018). Of the linear wave ``q̈ = −Lq`` from rest that is about
    ``sin(√λ T)/(√λ T)`` at the eigenvalue λ of L, after the time T: what oscillates averages out, and what is smooth
    stays. The states themselves keep what they keep.

    Args:
        in_channels: number of features, -1 to infer it.
        out_channels: number of classes.
        conv: the layer, on ``hidden_channels`` channels.
        hidden_channels: width of the hidden layer.
        dropout: probability of dropping a feature, and a hidden unit.
        readout: what the decoder reads, the ``"last"`` state or the ``"mean"`` of all.

    Shapes:
        ``x`` ``[n, in_channels]`` dense or ``sparse_csr``, output ``[n, out_channels]``. ``batch`` as in
        :class:`FlowConv`.

    Raises:
        ValueError: for an unknown readout; see :class:`FlowGNN`.
    """

    conv: ConservativeConv

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        conv: ConservativeConv,
        *,
        hidden_channels: int = 64,
        dropout: float = 0.5,
        readout: Readout = "last",
    ) -> None:
        super().__init__(in_channels, out_channels, conv, hidden_channels=hidden_channels, dropout=dropout)
        if readout not in ("last", "mean"):
            raise ValueError(f"readout must be 'last' or 'mean', got {readout!r}")
        self.readout = readout

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        """Class scores, ``[n, out_channels]``."""
        if self.readout == "last":
            return super().forward(x, edge_index, edge_weight, batch)
        if batch is not None:
            return graph_by_graph(self.forward, x, edge_index, edge_weight, batch)
        check_features(x, self)
        edge_index, edge_weight = edge_list(x, edge_index, edge_weight)
        x = self.encoder(dropped(x, self.dropout, training=self.training)).relu()
        total = torch.zeros_like(widened(x))
        for state in self.conv.states(x, edge_index, edge_weight):
            total = total + widened(state)
        mean = (total / (self.conv.num_steps + 1)).to(x.dtype)
        return self.decoder(dropped(mean, self.dropout, training=self.training))  # type: ignore[no-any-return]


def _anywhere(dynamics: Dynamics) -> VectorField:
    """The field on a graph of one node: what it conserves and is made of is the same on every graph."""
    return dynamics.on(Graph(torch.zeros(2, 0, dtype=torch.long), torch.zeros(0), 1))


def _two_shears(field: VectorField) -> bool:
    """Whether each of two parts is moved by a function of the other."""
    parts = field.parts()
    return len(parts) == 2 and all(part.shear for part in parts)


def _keeping(dynamics: Dynamics, scheme: str | Scheme | None) -> str | Scheme:
    """The scheme itself, or the first that keeps all that the field conserves but an energy.

    Raises:
        ValueError: it does not, or none does.
    """
    field = _anywhere(dynamics)
    wanted = field.conserves - {"energy"}
    if not wanted:
        raise ValueError(f"{type(dynamics).__name__} declares nothing that a step could keep; FlowConv takes any field")

    def missing(method: str | Scheme) -> str:
        return ", ".join(sorted(wanted - solver(method).keeps(field)))

    if scheme is not None and not missing(scheme):
        return scheme
    keepers = [name for name in _TRIED if not missing(name)]
    if scheme is None and keepers:
        return keepers[0]
    tried = (
        f"a step of {solver(scheme).name} does not keep the {missing(scheme)}" if scheme else "no scheme here keeps all"
    )
    raise ValueError(
        f"{tried} that {type(dynamics).__name__} conserves ({', '.join(sorted(wanted))}); schemes that do: "
        f"{', '.join(keepers) or 'none'}"
    )


def wave(
    in_channels: int,
    out_channels: int,
    *,
    hidden_channels: int = 64,
    num_layers: int = 8,
    share: float = 0.5,
    dropout: float = 0.5,
    activation: str | Activation = "group-huber",
    threshold: float | None = None,
    mu: float = 0.01,
    learn_weight: bool = False,
    normalization: Literal["none", "sym"] = "sym",
    epsilon: float = 1.0,
    readout: Readout = "mean",
    scheme: str | Scheme | None = None,
) -> ConservativeGNN:
    """The symplectic wave as a model: positions and momenta of hidden channels, by Störmer and Verlet's method.

    Args:
        in_channels: number of features, -1 to infer it.
        out_channels: number of classes.
        hidden_channels: positions and momenta together, even.
        num_layers: K, the steps.
        share: of the largest stable step, below 1, see :class:`ConservativeConv`.
        dropout: see :class:`ConservativeGNN`.
        activation: σ of the force along an edge.
        threshold: λ of an activation given by name; None takes its default.
        mu: μ ≥ 0, the stiffness of a spring that ties each node to the origin: without one the mean of a component
            drifts with its momentum.
        learn_weight: learn W.
        normalization: of the potential, see :class:`~contractive_gnn.dynamics.GraphGradientFlow`.
        epsilon: ε, likewise.
        readout: see :class:`ConservativeGNN`.
        scheme: see :class:`ConservativeConv`.

    Raises:
        ValueError: for an odd width, and numbers out of their range.
    """
    _check_sizes(hidden_channels, num_layers, halves=True)
    if threshold is not None:
        check_real("threshold", threshold, above=0)
    sigma = activations.activation(activation, threshold=threshold)
    field = HamiltonianFlow(
        hidden_channels,
        activation=sigma,
        mu=mu,
        learn_weight=learn_weight,
        normalization=normalization,
        epsilon=epsilon,
    )
    conv = ConservativeConv(field, num_steps=num_layers, share=share, scheme=scheme)
    return ConservativeGNN(
        in_channels, out_channels, conv, hidden_channels=hidden_channels, dropout=dropout, readout=readout
    )


def volume_coupling(
    in_channels: int,
    out_channels: int,
    *,
    hidden_channels: int = 64,
    num_layers: int = 8,
    share: float = 0.5,
    dropout: float = 0.5,
    activation: str | Activation = "tanh",
    epsilon: float = 1.0,
    readout: Readout = "mean",
    scheme: str | Scheme | None = None,
) -> ConservativeGNN:
    """The volume-preserving coupling (:class:`~contractive_gnn.dynamics.VolumeCoupling`) as a model.

    Args:
        in_channels: number of features, -1 to infer it.
        out_channels: number of classes.
        hidden_channels: both halves together, even.
        num_layers: K, the steps.
        share: of the largest step, below 1, see :class:`ConservativeConv`.
        dropout: see :class:`ConservativeGNN`.
        activation: σ.
        epsilon: added to every degree.
        readout: see :class:`ConservativeGNN`.
        scheme: see :class:`ConservativeConv`.

    Raises:
        ValueError: for an odd width, and numbers out of their range.
    """
    _check_sizes(hidden_channels, num_layers, halves=True)
    field = VolumeCoupling(hidden_channels, activation=activation, epsilon=epsilon)
    conv = ConservativeConv(field, num_steps=num_layers, share=share, scheme=scheme)
    return ConservativeGNN(
        in_channels, out_channels, conv, hidden_channels=hidden_channels, dropout=dropout, readout=readout
    )


def mass_diffusion(
    in_channels: int,
    out_channels: int,
    *,
    hidden_channels: int = 64,
    num_layers: int = 8,
    share: float = 0.5,
    dropout: float = 0.5,
    activation: str | Activation = "identity",
    threshold: float | None = None,
    learn_weight: bool = False,
    epsilon: float = 1.0,
    readout: Readout = "last",
    scheme: str | Scheme | None = None,
) -> ConservativeGNN:
    """The diffusion that keeps the mass of each channel (:class:`~contractive_gnn.dynamics.MassDiffusion`) as a model.

    Args:
        in_channels: number of features, -1 to infer it.
        out_channels: number of classes.
        hidden_channels: width.
        num_layers: K, the steps.
        share: of the largest non-expansive step, see :class:`ConservativeConv`.
        dropout: see :class:`ConservativeGNN`.
        activation: σ of the flux along an edge.
        threshold: λ of an activation given by name; None takes its default.
        learn_weight: learn W.
        epsilon: ε of the conductances.
        readout: see :class:`ConservativeGNN`.
        scheme: see :class:`ConservativeConv`.

    Raises:
        ValueError: for numbers out of their range.
    """
    _check_sizes(hidden_channels, num_layers, halves=False)
    if threshold is not None:
        check_real("threshold", threshold, above=0)
    sigma = activations.activation(activation, threshold=threshold)
    field = MassDiffusion(hidden_channels, activation=sigma, learn_weight=learn_weight, epsilon=epsilon)
    conv = ConservativeConv(field, num_steps=num_layers, share=share, scheme=scheme)
    return ConservativeGNN(
        in_channels, out_channels, conv, hidden_channels=hidden_channels, dropout=dropout, readout=readout
    )


def _check_sizes(hidden_channels: int, num_layers: int, *, halves: bool) -> None:
    check_whole("hidden_channels", hidden_channels, least=1)
    check_whole("num_layers", num_layers, least=1)
    if halves and hidden_channels % 2:
        raise ValueError(f"hidden_channels must be even, for two halves, got {hidden_channels!r}")
