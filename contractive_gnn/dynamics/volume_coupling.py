r"""Couplings of node features that keep volumes: each half of the channels moves by a function of the other."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from contractive_gnn import activations
from contractive_gnn.activations import Activation
from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.dynamics.base import Dynamics, check_state, larger
from contractive_gnn.dynamics.conservative.shear import sheared
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import Invariant
from contractive_gnn.seeding import drawing

Moves = Literal["first", "second"]


class VolumeCoupling(Dynamics):
    r"""Two halves ``(u | v)`` of the channels, each moved by a message-passing layer of the other.

    .. math::
        \dot u = \sigma(v A_1 + P v B_1 + b_1), \qquad \dot v = \sigma(u A_2 + P u B_2 + b_2), \qquad
        p_{ij} = \frac{a_{ij}}{\sqrt{(d_i + \varepsilon)(d_j + \varepsilon)}}

    *Volume.* The diagonal blocks of DX are 0, so the divergence is, whatever the weights, σ and the graph. Each half is
    a shear, whose flow is one Euler step of any length with determinant 1: a splitting of the two :meth:`parts` keeps
    the volume at every step. Euler's method does not.

    *Constants.* ``‖P‖₂ < 1``, so the halves are ``L_k = s(‖A_k‖ + ‖B_k‖)``-Lipschitz, s being the largest slope. The
    norm of a block matrix is at most that of the matrix of the norms of its blocks: ``μ₂(DX) ≤ (L_1 + L_2)/2``, and an
    Euler step has at most the norm of ``[[1, hL_1], [hL_2, 1]]``, ``1 + h max L_k`` or less. The flow contracts
    nothing. With a bounded σ it grows no faster than linearly in time.

    Args:
        channels: number of feature channels, even.
        activation: σ, elementwise, an :class:`~contractive_gnn.activations.Activation` or its name.
        epsilon: ε > 0, added to every degree.

    Shapes:
        state ``[n, channels]``, edge weights ``[E]``, not negative.

    Raises:
        ValueError: for an odd number of channels, an unknown or a group activation; (called) for a state of another
            shape.

    Example:
        ``Flow(VolumeCoupling(8).on(graph), scheme="stormer-verlet", step=0.5, constrained=False)``
    """

    norm = "l2"
    conserves = frozenset[Invariant]({"volume"})

    def __init__(self, channels: int, *, activation: str | Activation = "tanh", epsilon: float = 1.0) -> None:
        super().__init__()
        check_whole("channels", channels, least=2)
        if channels % 2:
            raise ValueError(f"channels must be even, for two halves, got {channels!r}")
        self.first = GraphShear(channels // 2, "first", activation=activation, epsilon=epsilon)
        self.second = GraphShear(channels // 2, "second", activation=activation, epsilon=epsilon)

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """``(u̇ | v̇)``, ``[n, channels]``; the anchor is not read."""
        check_state(self, x, graph, channels=2 * self.first.channels)
        u, v = x.chunk(2, dim=1)
        return torch.cat([self.first.velocity(v, graph), self.second.velocity(u, graph)], dim=1)

    def parts(self) -> tuple[Dynamics, ...]:
        """The one that moves u, and the one that moves v: two shears."""
        return self.first, self.second

    def rate(self, graph: Graph) -> Tensor | float:
        """``−(L_1 + L_2)/2``: not positive."""
        return -(self.first.field_lipschitz(graph) + self.second.field_lipschitz(graph)) / 2

    def max_step(self, graph: Graph) -> float:
        """0: no step contracts."""
        return 0.0

    def lipschitz(self, graph: Graph, step: Tensor | float) -> Tensor:
        """The largest singular value of ``[[1, hL_1], [hL_2, 1]]``, for every h."""
        f, g = (step * part.field_lipschitz(graph) for part in (self.first, self.second))
        total, determinant = 2 + f.square() + g.square(), 1 - f * g
        return ((total + (total.square() - 4 * determinant.square()).clamp(min=0).sqrt()) / 2).sqrt()

    def field_lipschitz(self, graph: Graph) -> Tensor | float:
        """``max(L_1, L_2)``."""
        return larger(self.first.field_lipschitz(graph), self.second.field_lipschitz(graph))

    @property
    def certified(self) -> bool:
        """Whether the slopes of σ are proved."""
        return self.first.certified and self.second.certified

    @property
    def uniform(self) -> bool:
        """True: ``‖P‖ < 1`` on every graph."""
        return True

    @property
    def anchor_lipschitz(self) -> float:
        """0: no anchor is read."""
        return 0.0


class GraphShear(Dynamics, MessagePassing):  # type: ignore[misc]
    """One half of a :class:`VolumeCoupling`: the other half of the state stays, so its flow is ``x + tX(x)``.

    Args:
        channels: of each half.
        moves: which half moves.
        activation: σ, elementwise.
        epsilon: ε > 0.
    """

    norm = "l2"
    conserves = frozenset[Invariant]({"volume"})
    shear = True

    def __init__(self, channels: int, moves: Moves, *, activation: str | Activation, epsilon: float) -> None:
        super().__init__(aggr="sum")
        check_real("epsilon", epsilon, above=0)
        self.sigma = activations.activation(activation)
        if self.sigma.group:
            raise ValueError(f"the halves are moved by an elementwise activation, got {self.sigma}")
        self.channels = channels
        self.moves = moves
        self.epsilon = float(epsilon)
        self.own = nn.Parameter(torch.empty(channels, channels))
        self.neighbours = nn.Parameter(torch.empty(channels, channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw A and B − I uniformly in ``±1/c`` and set b = 0, c being the channels of a half.

        Near B = I what is smooth is amplified, since u and v feed each other there, and the rest less: at the start
        the coupling is a low-pass filter.
        """
        Dynamics.reset_parameters(self)
        bound = 1.0 / self.channels
        with torch.no_grad(), drawing():
            self.own.uniform_(-bound, bound)
            self.neighbours.uniform_(-bound, bound)
            self.neighbours.diagonal().add_(1.0)
            self.bias.zero_()

    def velocity(self, z: Tensor, graph: Graph) -> Tensor:
        """``σ(zA + PzB + b)``, ``[n, channels]``."""
        own, neighbours, bias = (w.to(z.dtype) for w in (self.own, self.neighbours, self.bias))
        scale = (graph.row_sum(graph.edge_weight) + self.epsilon).rsqrt()
        weight = graph.edge_weight
        if not graph.loop_free:
            weight = weight.masked_fill(graph.source == graph.target, 0.0)
        p = (scale[graph.source] * weight * scale[graph.target]).unsqueeze(-1)
        size = (z.size(0), z.size(0))  # len(z) would be a constant to torch.export
        sent = self.propagate(graph.edge_index, z=z @ neighbours, p=p, size=size)  # type: ignore[operator]
        return self.sigma(z @ own + sent + bias)  # type: ignore[no-any-return]

    def message(self, z_j: Tensor, p: Tensor) -> Tensor:
        """What one neighbour sends, ``p_ij z_j``."""
        return p * z_j

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """``(u̇ | 0)`` or ``(0 | v̇)``, ``[n, 2 channels]``."""
        check_state(self, x, graph, channels=2 * self.channels)
        u, v = x.chunk(2, dim=1)
        if self.moves == "first":
            return torch.cat([self.velocity(v, graph), torch.zeros_like(v)], dim=1)
        return torch.cat([torch.zeros_like(u), self.velocity(u, graph)], dim=1)

    def field_lipschitz(self, graph: Graph) -> Tensor:
        """``s(‖A‖ + ‖B‖)``, rounded up."""
        own, neighbours = (torch.linalg.matrix_norm(_wide(w), 2) for w in (self.own, self.neighbours))
        slope = max(abs(s) for s in self.sigma.slopes)
        total: Tensor = slope * (1.0 + 4 * self.channels * torch.finfo(own.dtype).eps) * (own + neighbours)
        return total

    def rate(self, graph: Graph) -> Tensor:
        """``−L/2``: the symmetric part of ``[[0, L], [0, 0]]``."""
        return -self.field_lipschitz(graph) / 2

    def max_step(self, graph: Graph) -> float:
        """0: no step contracts."""
        return 0.0

    def lipschitz(self, graph: Graph, step: Tensor | float) -> Tensor | float:
        """``‖[[1, hL], [0, 1]]‖``, for every h."""
        return sheared(step * self.field_lipschitz(graph), self.own)

    @property
    def certified(self) -> bool:
        """Whether σ is this library's own: the slopes of others are not proved here."""
        parts = (part for part in self.sigma.modules() if isinstance(part, Activation))
        return all(type(part).__module__.startswith("contractive_gnn.") for part in parts)

    @property
    def uniform(self) -> bool:
        """True: ``‖P‖ < 1`` on every graph."""
        return True

    @property
    def anchor_lipschitz(self) -> float:
        """0: no anchor is read."""
        return 0.0

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"channels={self.channels}, moves={self.moves!r}, epsilon={self.epsilon}"


def _wide(weight: Tensor) -> Tensor:
    return weight if weight.dtype == torch.float64 else weight.float()
