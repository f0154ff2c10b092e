"""The gradient of a graph signal, one row for each edge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from contractive_gnn.graph import Graph, transformed
from contractive_gnn.norms import L2, Norm, Weighted
from contractive_gnn.operators.base import Operator


class GraphGradient(Operator):
    r"""The gradient on the edges of a graph, ``(GF)_e = w_e (s_i F_i − s_j F_j)``, one row for each undirected edge.

    An edge e = {i, j} counts where it is listed from the smaller node j to the larger node i; self-loops do not count.
    The weight ``w_e`` is ``√a_e`` (outside) or ``a_e`` (inside), so ``GᵀG`` is the Laplacian with weights ``a`` or
    ``a²`` of :class:`~contractive_gnn.dynamics.GraphGradientFlow`, whose field without fidelity is, in the notation of
    that class, ``−Gᵀσ(GFW)Wᵀ`` for the weights inside. The degrees ``d`` are those of these Laplacians; with
    ``d⁺ = d + epsilon``:

    ============ ================ ==================================== ==========================================
    name         s_i              adjoint                              bound of ``‖G‖²``
    ============ ================ ==================================== ==========================================
    ``none``     1                ``Gᵀ``                               ``max (d_i + d_j)`` over the edges
    ``sym``      ``1/√d⁺_i``      ``Gᵀ``                               ``2 max d_i/d⁺_i < 2``
    ``degree``   1                ``D⁺⁻¹Gᵀ``                           ``2 max d_i/d⁺_i < 2``
    ============ ================ ==================================== ==========================================

    With ``degree`` the adjoint and the ℓ2 norm are those of the inner product ``Σ_i d⁺_i ⟨F_i, F'_i⟩`` on the nodes
    (and the plain one on the edges). The bound for ``none`` is Anderson and Morley's (1985), at most twice the largest
    degree; the others follow from ``L ≤ 2D``. All are attained on complete bipartite graphs with sides of equal size,
    and hold up to the rounding of the sums. :meth:`squared_norm_bound` is the weaker one that the gradient flow uses,
    since it does not jump where an edge of weight 0 is listed.

    The signal of a constant is mapped to 0 (``none``, ``degree``), so no lower bound is known but 0.

    All that depends on the graph is computed where it is first needed, and kept: making one costs nothing. It is
    computed anew each time where something is differentiated through the edge weights. Older versions of torch cannot
    trace which edges count: apply the operator once before you compile it with ``fullgraph=True``. Compiled code does
    not look at the signs of the weights; a negative one outside gives NaN. The graph is no part of the state dict; it
    follows ``to``, copies and pickles.

    Args:
        graph: n nodes, with weights ``a ≥ 0`` (of any sign inside).
        normalization: as in the table.
        placement: ``"outside"`` or ``"inside"``.
        epsilon: ε > 0, added to every degree.

    Shapes:
        ``[..., n, c]`` to ``[..., m, c]`` with m undirected edges: the nodes' axis is the last but one, and axes before
        it are a batch. One signal alone may be ``[n]``, to ``[m]``; write a batch of those as ``[..., n, 1]``.

    Raises:
        ValueError: for an unknown name or ``epsilon ≤ 0``; (at first use) for negative or NaN weights outside, and for
            another shape.
        TypeError: for something else than a :class:`~contractive_gnn.graph.Graph`.
    """

    def __init__(
        self,
        graph: Graph,
        normalization: Literal["none", "sym", "degree"] = "none",
        *,
        placement: Literal["inside", "outside"] = "outside",
        epsilon: float = 1.0,
    ) -> None:
        super().__init__()
        if not isinstance(graph, Graph):
            raise TypeError(
                f"expected a Graph, got {type(graph).__name__}; build it with Graph.of(x, edge_index, edge_weight)"
            )
        if normalization not in ("none", "sym", "degree"):
            raise ValueError(f"normalization must be 'none', 'sym' or 'degree', got {normalization!r}")
        if placement not in ("inside", "outside"):
            raise ValueError(f"placement must be 'inside' or 'outside', got {placement!r}")
        if not epsilon > 0:
            raise ValueError(f"epsilon must be positive, got {epsilon!r}")
        self.graph = graph
        self.normalization = normalization
        self.placement = placement
        self.epsilon = epsilon
        self._kept: dict[str, tuple[tuple[int, int], Tensor]] = {}

    @property
    def source(self) -> Tensor:
        """The smaller node j of every edge, ``[m]``."""
        return self.graph.source[self._once]

    @property
    def target(self) -> Tensor:
        """The larger node i of every edge, ``[m]``."""
        return self.graph.target[self._once]

    @property
    def weight(self) -> Tensor:
        """``w_e``, ``[m]``.

        Raises:
            ValueError: for weights outside that are negative or no numbers.
        """
        return self._keep("weight", self._edge_weight)

    @property
    def degree(self) -> Tensor:
        """``d``, ``[n]``."""
        a = self.graph.edge_weight
        return self._keep("degree", lambda: self.graph.row_sum(a.square() if self.placement == "inside" else a))

    @property
    def node_weight(self) -> Tensor:
        """``d⁺ = d + ε``, ``[n]``."""
        return self._keep("node_weight", lambda: self.degree + self.epsilon)

    @property
    def input_norm(self) -> Norm:
        """Plain, or with ``degree`` that with the weights ``d⁺`` on the nodes, for signals ``[..., n, c]``."""
        return Weighted(L2, self.node_weight.detach().unsqueeze(-1), "l2-degree") if self.weighted else L2

    @property
    def weighted(self) -> bool:
        """Whether the inner product on the nodes has weights: with ``degree``."""
        return self.normalization == "degree"

    def forward(self, x: Tensor) -> Tensor:
        """``[..., n, c]`` to ``[..., m, c]``."""
        axis = _check_rows(x, self.graph.num_nodes, "node")
        z = self._scaled(x)
        ends = z.index_select(axis, self.target), z.index_select(axis, self.source)
        return _rows(self.weight, x) * (ends[0] - ends[1])

    def adjoint(self, y: Tensor) -> Tensor:
        """``[..., m, c]`` to ``[..., n, c]``; with ``degree`` for the inner product with the weights ``d⁺``."""
        axis = _check_rows(y, self.weight.numel(), "edge")
        force = _rows(self.weight, y) * y
        shape = list(y.shape)
        shape[axis] = self.graph.num_nodes
        pull = y.new_zeros(shape)
        pull = self._scaled(pull.index_add(axis, self.target, force).index_add(axis, self.source, -force))
        return pull / _rows(self.node_weight, y) if self.normalization == "degree" else pull

    def norm_bound(self, norm: str | Norm = "l2") -> Tensor:
        """ℓ2: as in the class's table; ℓ1 and ℓ∞: the largest column and row sum, exact, the nodes not weighted."""
        kind = self.family(norm)
        if self.weight.numel() == 0:
            return self.degree.new_zeros(())
        scale = self.node_weight.rsqrt() if self.normalization == "sym" else torch.ones_like(self.degree)
        size = self.weight.abs()
        if kind == "linf":
            return (size * (scale[self.target] + scale[self.source])).max()
        if kind == "l1":
            columns = torch.zeros_like(scale).index_add(0, self.target, size).index_add(0, self.source, size)
            return (scale * columns).max()
        if self.normalization != "none":
            return _root(2.0 * (self.degree / self.node_weight).max())
        ends = self.degree[self.target] + self.degree[self.source]
        return _root(ends.masked_fill(self.weight == 0, 0.0).max())

    def squared_norm_bound(self) -> Tensor:
        """Twice the largest degree; exactly 2 where it is divided by the degrees, or where there are no edges.

        That 2 holds on every graph. Twice the largest degree is at least Anderson and Morley's bound.
        """
        self._check_signs()
        weight = self.graph.edge_weight
        if self.normalization != "none" or weight.numel() == 0:
            return weight.new_tensor(2.0)
        return 2.0 * self.degree.max()

    def lower_bound(self) -> Tensor:
        """0: see the class's text."""
        return self.graph.edge_weight.new_zeros(())

    def extra_repr(self) -> str:
        """Show the graph's size and the options."""
        return (
            f"{self.graph.num_nodes} nodes, normalization={self.normalization!r}, placement={self.placement!r}, "
            f"epsilon={self.epsilon}"
        )

    @property
    def _once(self) -> Tensor:
        """Where the edges are listed from the smaller to the larger node, ``[m]``."""
        index = self.graph.edge_index
        return self._keep("once", lambda: (index[0] < index[1]).nonzero().squeeze(1), weights=False)

    def _check_signs(self) -> None:
        if self.placement == "outside":
            _ = self.weight  # made of roots, which negative weights do not have

    def _edge_weight(self) -> Tensor:
        weight = self.graph.edge_weight[self._once]
        if self.placement == "inside":
            return weight
        if not torch.compiler.is_compiling() and not bool((weight >= 0).all()):
            raise ValueError(f"weights outside σ must not be negative, got a smallest one of {float(weight.min()):g}")
        # The root has an infinite slope at 0, and 0 · ∞ would spoil every gradient: an absent edge gets none.
        absent = weight == 0
        return weight.masked_fill(absent, 1.0).sqrt().masked_fill(absent, 0.0)

    def _keep(self, name: str, compute: Callable[[], Tensor], *, weights: bool = True) -> Tensor:
        """What was computed before from the graph as it is now, or is now.

        Nothing is kept of a tensor that a derivative goes through: that would belong to one backward pass alone.
        """
        index, weight = self.graph.edge_index, self.graph.edge_weight
        if torch.compiler.is_compiling():  # the versions cannot be traced: what weights make may have changed since
            return compute() if weights or name not in self._kept else self._kept[name][1]
        passing = index.is_inference() or (weights and (weight.requires_grad or weight.is_inference()))
        if passing or torch.is_inference_mode_enabled() or transformed(weight):
            return compute()
        version = (index._version, weight._version)
        if name not in self._kept or self._kept[name][0] != version:
            self._kept[name] = (version, compute())
        return self._kept[name][1]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GraphGradient:
        """Move the graph with the module: ``to``, ``double``, ``cuda``."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        graph = self.graph
        self.graph = Graph(fn(graph.edge_index), fn(graph.edge_weight), graph.num_nodes, graph.loop_free)
        self._kept = {}
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}

    def _scaled(self, x: Tensor) -> Tensor:
        return x * _rows(self.node_weight.rsqrt(), x) if self.normalization == "sym" else x


def _rows(values: Tensor, like: Tensor) -> Tensor:
    """``[n]`` in a shape that broadcasts to ``[..., n, c]``, or to ``[n]``."""
    return values if like.dim() == 1 else values.unsqueeze(-1)


def _check_rows(x: Tensor, count: int, what: str) -> int:
    """The axis of the nodes, or edges."""
    axis = 0 if x.dim() == 1 else -2
    if x.dim() == 0 or x.size(axis) != count:
        raise ValueError(
            f"the gradient on a graph takes one row for each {what}, [{count}] or [..., {count}, c], got "
            f"{list(x.shape)}; the last axis but one is that of the {what}s, and axes before it are a batch"
        )
    return axis


def _root(square: Tensor) -> Tensor:
    """``√square``, rounded up; its gradient is finite at 0."""
    tiny = torch.finfo(square.dtype).tiny
    return square.clamp(min=tiny).sqrt() * (1.0 + 2 * torch.finfo(square.dtype).eps)
