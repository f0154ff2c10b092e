"""What a vector field on node features must declare, and the domain-free field that it is on one graph."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.aggr import SumAggregation
from torch_geometric.nn.inits import reset

from contractive_gnn.activations import Activation
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import Invariant, integrate
from contractive_gnn.norms import NORMS, Norm, as_norm, number, vector_norm


class Dynamics(nn.Module, ABC):
    r"""A vector field ``ẋ = X(x)`` on node features that declares how it contracts.

    A subclass defines four things, and gets layers, integrators, a row in the benchmark and a test-suite from them:

    * :meth:`field`, the vector field itself;
    * :attr:`norm`, the norm of every claim, a name of :data:`contractive_gnn.norms.NORMS` (``"l2"``: Frobenius;
      ``"linf"``: largest entry; ``"l2-degree"``: Frobenius with row i weighted by node i's degree);
    * :meth:`rate`, the contraction rate κ: the log norm of DX is at most −κ (Bullo, *Contraction Theory*, Thm 3.9);
    * :meth:`max_step`, the largest explicit Euler step h that still contracts by ``1 − hκ``.

    What else can be proved is declared by overriding the other methods, whose defaults claim nothing more:
    :meth:`lipschitz` for steps beyond that, :attr:`anchor_lipschitz` and :meth:`structure_lipschitz` for what moves the
    field besides its state.

    All of it is asked for with a graph. :meth:`on` binds the graph: what it returns is a
    :class:`~contractive_gnn.dynamics.field.VectorField`, which layers, integrators and falsifiers of any domain take.
    """

    norm: str
    on_features: bool = True
    """Whether the state is a row of channels for each node, so that it can be a layer; else a matrix, or both."""
    conserves: frozenset[Invariant] = frozenset()
    """What the exact flow keeps on every graph, see :class:`~contractive_gnn.dynamics.field.VectorField`."""
    invariant_axes: tuple[int, ...] = (-2,)
    """What mass and norm sum over: here the nodes, so that each channel has its own."""
    shear: bool = False
    """Whether ``DX·X = 0`` on every graph."""

    def on(self, graph: Graph, anchor: Tensor | None = None) -> OnGraph:
        """The field on one graph, as layers and integrators of any domain take it.

        Args:
            graph: the graph it is to live on.
            anchor: ``x⁽⁰⁾``, the point that a fidelity term pulls back to; None stands for the origin.

        Example:
            >>> from contractive_gnn.dynamics import Diffusion
            >>> x = torch.tensor([[0.0], [1.0]])
            >>> field = Diffusion().on(Graph.of(x, torch.tensor([[0, 1], [1, 0]])))
            >>> field(x).shape == x.shape
            True
        """
        return OnGraph(self, graph, anchor)

    @abstractmethod
    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate X at ``x`` (``[n, channels]``).

        Args:
            x: the state.
            graph: the graph the field lives on.
            anchor: ``x⁽⁰⁾``, the point that a fidelity term pulls back to; None stands for the origin.
            t: time, for fields that depend on it.
        """

    def euler(
        self,
        x: Tensor,
        graph: Graph,
        *,
        step: Tensor | float,
        num_steps: int,
        anchor: Tensor | None = None,
    ) -> Tensor:
        """The state after ``num_steps`` Euler steps ``x ← x + h X(x)``; a subclass may have a faster way to it.

        Args:
            x: the state.
            graph: the graph the field lives on.
            step: h.
            num_steps: K ≥ 1.
            anchor: ``x⁽⁰⁾``, None stands for the origin.
        """
        return integrate(lambda y, t: self.field(y, graph, anchor=anchor, t=t), x, step=step, num_steps=num_steps)

    @abstractmethod
    def rate(self, graph: Graph) -> Tensor | float:
        """Contraction rate κ in :attr:`norm` for a fixed graph and anchor (0: non-expansive; negative: expansive)."""

    @abstractmethod
    def max_step(self, graph: Graph) -> Tensor | float:
        """Largest Euler step h that contracts by ``1 − h·rate`` in :attr:`norm` (0 where the field is expansive).

        A scalar tensor where it depends on learned weights or on the graph: a layer that takes this step must let an
        attacker's gradient through it.
        """

    def reset_parameters(self) -> None:
        """Draw what is learned anew: here that of the parts, a threshold say; a field with weights extends it."""
        for part in self.children():
            reset(part)

    @property
    def certified(self) -> bool:
        """Whether everything that is declared is proved, for the arguments this object was built with."""
        return True

    @property
    def uniform(self) -> bool:
        """Whether rate, largest step and :meth:`lipschitz` are the same on every graph, hence on a changed one."""
        return False

    @property
    def anchor_lipschitz(self) -> float:
        """Lipschitz constant of the field in its anchor, in :attr:`norm`; ``inf`` where none is known."""
        return math.inf

    def lipschitz(self, graph: Graph, step: Tensor | float) -> Tensor | float:
        """A Lipschitz constant of the Euler step ``x ↦ x + hX(x)`` in :attr:`norm`, ``inf`` where none is known.

        By default ``1 − hκ`` up to :meth:`max_step`, and nothing beyond.

        Args:
            graph: the graph the field lives on.
            step: h > 0.
        """
        # A step that was computed from max_step may have been rounded up.
        if number(step) <= number(self.max_step(graph)) * (1 + 1e-6):
            return 1.0 - step * self.rate(graph)
        return math.inf

    def field_lipschitz(self, graph: Graph) -> Tensor | float:
        """A Lipschitz constant of X itself, not of a step; see :meth:`VectorField.field_lipschitz`, whose way it is."""
        return VectorField.field_lipschitz(OnGraph(self, graph))

    def energy(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None) -> Tensor:
        """H, which the flow keeps where :attr:`conserves` names the energy: a scalar tensor.

        Raises:
            NotImplementedError: where the dynamics has none, or does not say which.
        """
        raise NotImplementedError(f"{type(self).__name__} must define energy(x, graph, anchor=…), what its flow keeps")

    def parts(self) -> tuple[Dynamics, ...]:
        """Dynamics whose sum this one is on every graph, for splitting methods; one alone where it cannot be split."""
        return (self,)

    def structure_lipschitz(self, graph: Graph, x: Tensor | None = None) -> float:
        r"""A constant L with ``‖X(x; Ã) − X(x; A)‖ ≤ L Σ_ij |ã_ij − a_ij|`` for every symmetric Ã ≥ 0 without loops.

        In :attr:`norm` (weighted as on A). The sum runs over both orientations: a flipped edge of weight 1 counts 2.

        Args:
            graph: A.
            x: the state to evaluate it at; None for a constant that holds at every state.

        Returns:
            L, ``inf`` where none is known: the default.
        """
        return math.inf

    def structure_saturation(self, graph: Graph, x: Tensor | None = None) -> tuple[float, float]:
        r"""``(r, s)`` with ``‖X(x; Ã) − X(x; A)‖ ≤ min(r δ^½, s)``, ``δ = Σ_ij |ã_ij − a_ij|``, for Ã as above.

        What :meth:`structure_lipschitz` leaves out: however many edges are changed, their influence is bounded.

        Args:
            graph: A.
            x: the state to evaluate it at; None for constants that hold at every state.

        Returns:
            both, ``inf`` where none is known: the default.
        """
        return math.inf, math.inf

    def norm_weight(self, graph: Graph) -> Tensor | None:
        """The weights w that belong to :attr:`norm` on this graph, ``[n]``; None for none."""
        return None

    def state(self, graph: Graph, channels: int, *, generator: torch.Generator | None = None) -> Tensor:
        """A random state of the field's domain in float64: standard normal, ``[n, channels]``."""
        return torch.randn(graph.num_nodes, channels, dtype=torch.float64, generator=generator)

    def project(self, x: Tensor) -> Tensor:
        """The nearest state of the field's domain; here every state is one."""
        return x

    def permute(self, x: Tensor, order: Tensor) -> Tensor:
        """The state with the nodes in another order: ``x[order]``."""
        return x[order]

    def size(self, x: Tensor, graph: Graph) -> Tensor:
        """``‖x‖`` in the norm of the claims, a scalar tensor."""
        norm = self.measure
        return norm(x) if isinstance(norm, Norm) else vector_norm(x, norm, weight=self.norm_weight(graph))

    @property
    def measure(self) -> str | Norm:
        """:attr:`norm` as :mod:`contractive_gnn.norms` takes it: its name, or the norm of a composite state."""
        return self.norm


class OnGraph(VectorField):
    """A dynamics on one graph: :meth:`Dynamics.on` makes it.

    Rate, largest step and constants are those of the dynamics on this graph. They are asked for anew each time, since
    training moves what they are computed from; degrees are worked out once and kept with the graph.

    The graph and the anchor are buffers that ``state_dict`` leaves out: they move with ``to`` and ``double``, and what
    is differentiated by all tensors of a field is differentiated by them.

    Attributes:
        dynamics: the dynamics, a submodule.
    """

    where = " on this graph"

    def __init__(self, dynamics: Dynamics, graph: Graph, anchor: Tensor | None = None) -> None:
        super().__init__()
        held = {"edge_index": graph.edge_index, "edge_weight": graph.edge_weight, "anchor": anchor}
        if torch.compiler.is_compiling():
            self.dynamics = dynamics
            for name, tensor in held.items():
                self.register_buffer(name, tensor, persistent=False)
            self._graph = graph
        else:  # the same without torch's checks: a layer comes here in every call, and they take 20 µs
            self._modules["dynamics"] = dynamics
            self._buffers.update(held)
            self._non_persistent_buffers_set.update(held)
            object.__setattr__(self, "_graph", graph)

    dynamics: Dynamics
    edge_index: Tensor
    edge_weight: Tensor
    anchor: Tensor | None

    @property
    def graph(self) -> Graph:
        """The graph it lives on; another one after the tensors were moved or replaced."""
        graph, edge_index, edge_weight = self._graph, self.edge_index, self.edge_weight
        if edge_weight is graph.edge_weight and edge_index is graph.edge_index:
            return graph
        return Graph(edge_index, edge_weight, graph.num_nodes, graph.loop_free)

    @property
    def norm(self) -> Norm:  # type: ignore[override]
        """That of the dynamics with its weights on this graph."""
        norm, weight = self.dynamics.measure, self.dynamics.norm_weight(self.graph)
        return _PLAIN[norm] if isinstance(norm, str) and norm in _PLAIN and weight is None else as_norm(norm, weight)

    @property
    def conserves(self) -> frozenset[Invariant]:  # type: ignore[override]
        """That of the dynamics."""
        return self.dynamics.conserves

    @property
    def invariant_axes(self) -> tuple[int, ...]:  # type: ignore[override]
        """Those of the dynamics."""
        return self.dynamics.invariant_axes

    @property
    def shear(self) -> bool:  # type: ignore[override]
        """That of the dynamics."""
        return self.dynamics.shear

    @property
    def certified(self) -> bool:
        """Whether everything that the dynamics declares is proved."""
        return self.dynamics.certified

    @property
    def anchor_lipschitz(self) -> float:
        """That of the dynamics, ``inf`` where it declares none."""
        return self.dynamics.anchor_lipschitz

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """``X(x, t)`` of the dynamics with its graph and its anchor."""
        return self.dynamics.field(x, self.graph, anchor=self.anchor, t=t)

    def rate(self) -> Tensor | float:
        """See :meth:`Dynamics.rate`."""
        return self.dynamics.rate(self.graph)

    def max_step(self) -> Tensor | float:
        """See :meth:`Dynamics.max_step`."""
        return self.dynamics.max_step(self.graph)

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        """See :meth:`Dynamics.lipschitz`."""
        return self.dynamics.lipschitz(self.graph, step)

    def field_lipschitz(self) -> Tensor | float:
        """See :meth:`Dynamics.field_lipschitz`."""
        return self.dynamics.field_lipschitz(self.graph)

    def anchored(self, anchor: Tensor) -> OnGraph:
        """The same dynamics on the same graph with another anchor."""
        return self.dynamics.on(self.graph, anchor)

    def parts(self) -> tuple[VectorField, ...]:
        """Those of the dynamics, on this graph."""
        parts = self.dynamics.parts()
        return (self,) if len(parts) == 1 else tuple(part.on(self.graph, self.anchor) for part in parts)

    def energy(self, x: Tensor) -> Tensor:
        """See :meth:`Dynamics.energy`."""
        return self.dynamics.energy(x, self.graph, anchor=self.anchor)

    def euler(self, x: Tensor, *, step: Tensor | float, num_steps: int) -> Tensor:
        """The dynamics' own way to the state after K Euler steps: compiled in one where it has a kernel."""
        return self.dynamics.euler(x, self.graph, step=step, num_steps=num_steps, anchor=self.anchor)

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """A random state in float64, of the anchor's shape.

        Raises:
            ValueError: without an anchor, which alone says how many channels a state has.
        """
        if self.anchor is None:
            raise ValueError(
                f"{self} has no anchor, which would say how many channels a state has: bind one, dynamics.on(graph, x)"
            )
        graph, columns = self.graph, self.anchor.size(1)
        channels = columns if self.dynamics.on_features else columns - graph.num_nodes
        return self.dynamics.state(graph, channels, generator=generator)

    def project(self, x: Tensor) -> Tensor:
        """See :meth:`Dynamics.project`."""
        return self.dynamics.project(x)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> OnGraph:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._graph = self.graph  # of the moved tensors, to keep its degrees
        return self

    def __str__(self) -> str:
        return str(self.dynamics)


_PLAIN: dict[str, Norm] = {name: as_norm(name) for name in NORMS if name != "l2-degree"}


def larger(a: Tensor | float, b: Tensor | float) -> Tensor | float:
    """The larger of two constants, a scalar tensor where one of them is."""
    if isinstance(a, Tensor):
        return torch.maximum(a, torch.as_tensor(b, dtype=a.dtype, device=a.device))
    return larger(b, a) if isinstance(b, Tensor) else max(a, b)


def pull_limit(x: Tensor, pull: Tensor, sigma: Activation) -> float:
    r"""How far another A can move ``g_i = Σ_j p_ij σ(x_i − x_j)``, ``p ≥ 0`` with row sums below 1, in the max norm.

    ``g̃_i`` lies between the smallest and the largest value of σ at a difference of node i's, or 0. For a monotone σ
    these belong to the largest and the smallest entry of the column, and the limit is approached by heavy edges to
    those nodes.

    Args:
        x: the state, ``[n, c]`` with n ≥ 1.
        pull: g on the given graph, ``[n, c]``.
        sigma: elementwise, of which the odd part acts.
    """
    slope = max(abs(s) for s in sigma.slopes)
    top = (slope * (x - x.min(dim=0).values)).clamp(max=sigma.bound)
    bottom = (slope * (x.max(dim=0).values - x)).clamp(max=sigma.bound)
    if sigma.slopes[0] < 0:  # σ(z) may have the other sign than z
        top = bottom = torch.maximum(top, bottom)
    return float(torch.maximum(top - pull, bottom + pull).max())


def spread(x: Tensor) -> Tensor:
    """The distance of every entry to the farthest in its column, ``[n, c]`` with n ≥ 1: ``max_j |x_ik − x_jk|``."""
    return torch.maximum(x - x.min(dim=0).values, x.max(dim=0).values - x)


def check_state(field: Dynamics, x: Tensor, graph: Graph, *, channels: int | None = None) -> None:
    """Raise ValueError unless x is ``[n, channels]``: another axis would be taken for the nodes.

    Args:
        field: for its name.
        x: the state.
        graph: n.
        channels: those that the field's constants are for; None for any number.
    """
    if x.dim() != 2 or x.size(0) != graph.num_nodes or channels not in (None, x.size(1)):
        wanted = f"[{graph.num_nodes}, {'channels' if channels is None else channels}]"
        raise ValueError(
            f"{type(field).__name__} takes a state of shape {wanted}, a row for each node of the graph, got "
            f"{list(x.shape)}"
        )


def methods(cls: type[MessagePassing], *names: str) -> dict[str, Any]:
    """These methods of a class and those of PyG around them, for :func:`passes_plainly`."""
    return {name: getattr(cls, name) for name in (*names, *_BETWEEN)}


def passes_plainly(layer: MessagePassing, own: Mapping[str, Any]) -> bool:
    """Whether ``layer`` passes the messages of the methods ``own``, so that compiled code may take their place.

    Not where a subclass or the object itself has another method, nor with a hook of PyG, an explainer or another
    aggregation: then the messages must really be passed.
    """
    cls, given = type(layer), vars(layer)
    propagate = getattr(layer.propagate, "__func__", layer.propagate)
    return (
        not layer.explain
        and layer.decomposed_layers == 1
        and layer.flow == "source_to_target"
        and layer.node_dim == -2
        and type(layer.aggr_module) is SumAggregation
        and not any(given[name] for name in given if name.endswith(("_forward_hooks", "_forward_pre_hooks")))
        and not any(getattr(layer.aggr_module, name) for name in ("_forward_hooks", "_forward_pre_hooks"))
        and all(name not in given and getattr(cls, name) is method for name, method in own.items())
        # PyG writes a propagate for each class, as a function of a module of its own
        and (propagate is _PROPAGATE or getattr(propagate, "__module__", "").endswith("_propagate"))
    )


_PROPAGATE = MessagePassing.propagate
_BETWEEN = ("aggregate", "update", "message_and_aggregate", "edge_update", "_lift", "_set_size", "_check_input")
