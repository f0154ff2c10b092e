"""A weighted undirected graph, as the vector fields see it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch_geometric.utils import to_edge_index


@dataclass(frozen=True, eq=False)
class Graph:
    """A weighted undirected graph on ``num_nodes`` nodes.

    Attributes:
        edge_index: ``[2, E]`` int64, every undirected edge once in both orientations; self-loops carry no information
            here (an edge difference across them is zero) and are ignored by every field.
        edge_weight: ``[E]``, the same value for both orientations.
        num_nodes: n.
        loop_free: whether it is known that there are no self-loops, so that nobody need look for them.
    """

    edge_index: Tensor
    edge_weight: Tensor
    num_nodes: int
    loop_free: bool = False
    _degrees: dict[tuple[int, int], Tensor] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Graph:
        """Build the graph from what a PyG layer is given.

        Args:
            x: ``[n, channels]``, gives n, dtype and device.
            edge_index: ``[2, E]``, or a square ``torch.sparse`` adjacency matrix (symmetric).
            edge_weight: ``[E]`` or None for ones; must be None where ``edge_index`` is a sparse matrix.

        Raises:
            ValueError: if the shapes do not fit together; for x of another number of dimensions than two, which would
                take a batch for the nodes.
        """
        if x.dim() != 2:
            raise ValueError(
                f"x must have shape [n, channels], one row for each node, got {list(x.shape)}; write x.unsqueeze(1) "
                "for one channel, and join a batch of graphs into one with torch_geometric.data.Batch"
            )
        if edge_index.layout != torch.strided:
            if edge_weight is not None:
                raise ValueError(
                    "edge_weight must be None where edge_index is a sparse matrix: its values are the weights"
                )
            edge_index, edge_weight = to_edge_index(edge_index)
        if edge_index.dim() != 2 or edge_index.size(0) != 2:
            raise ValueError(
                f"edge_index must have shape [2, E] or be a sparse [n, n] matrix, got shape {tuple(edge_index.shape)}"
            )
        if edge_weight is None:
            edge_weight = torch.ones(edge_index.size(1), dtype=_floating(x.dtype), device=x.device)
        elif edge_weight.shape != edge_index.shape[1:]:
            raise ValueError(
                f"edge_weight must have shape {list(edge_index.shape[1:])} to match edge_index, "
                f"got {list(edge_weight.shape)}"
            )
        return cls(edge_index, edge_weight, x.size(0))

    @property
    def source(self) -> Tensor:
        """Index j of the node an edge comes from, ``[E]``."""
        return self.edge_index[0]

    @property
    def target(self) -> Tensor:
        """Index i of the node an edge goes to, ``[E]``."""
        return self.edge_index[1]

    def row_sum(self, edge_weight: Tensor) -> Tensor:
        """Sum weights of edges (``[E]``, self-loops excluded) over the edges into every node, ``[n]``.

        That of the graph's own, the degrees, is computed once; each time anew where something is differentiated
        through the weights: what is remembered would belong to the first backward pass only.
        """
        # is_compiling first: the other questions cannot be traced
        if (
            edge_weight is not self.edge_weight
            or torch.compiler.is_compiling()
            or torch.is_inference_mode_enabled()
            or edge_weight.requires_grad
            or edge_weight.is_inference()
            or self.edge_index.is_inference()
            or transformed(edge_weight)
        ):
            return self._row_sum(edge_weight)
        key = (edge_weight._version, self.edge_index._version)  # a graph that is changed in place is another one
        if key not in self._degrees:
            self._degrees[key] = self._row_sum(edge_weight)
        return self._degrees[key]

    def _row_sum(self, edge_weight: Tensor) -> Tensor:
        if not self.loop_free:
            edge_weight = edge_weight.masked_fill(self.source == self.target, 0.0)
        return edge_weight.new_zeros(self.num_nodes).index_add(0, self.target, edge_weight)

    def serves(self, x: Tensor) -> bool:
        """Whether compiled code may read the weights beside x: of its dtype, and differentiated in reverse mode alone.

        Args:
            x: node features.
        """
        same = self.edge_weight.dtype == x.dtype
        return same and not torch.compiler.is_compiling() and not transformed(self.edge_weight)


def transformed(tensor: Tensor) -> bool:
    """Whether forward-mode differentiation is at work on it, or torch.func on anything.

    Inside a transformation of torch.func every result belongs to it, also those of tensors that it does not transform.
    """
    functorch = torch._C._functorch
    if torch._C._are_functorch_transforms_active() or functorch.is_functorch_wrapped_tensor(tensor):
        return True
    if functorch.is_legacy_batchedtensor(tensor):  # one of many gradients that torch.autograd takes at once
        return True
    return torch.autograd.forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


def _floating(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.is_floating_point else torch.get_default_dtype()
