"""How much an attack may change."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, fields
from typing import get_args

import torch
from torch_geometric.data import Data

from contractive_gnn.attacks.base.flips import undirected_edges
from contractive_gnn.attacks.base.kinds import Kind
from contractive_gnn.attacks.base.options import check_count


@dataclass(frozen=True, kw_only=True, repr=False)
class Budget:
    """How much an attack may change: exactly one of an absolute number, a fraction and a number of nodes.

    Args:
        flips: whole number ≥ 0 of undirected edge flips, or of feature entries; per target for a targeted attack.
        fraction: float ≥ 0; of the undirected edges of the clean graph, or of its non-zero feature entries. It is
            rounded down, as Pro-GNN's ``int(rate * m)`` is: a budget is never exceeded. Of the nodes, for a deletion.
        nodes: whole number ≥ 0 of nodes that a deletion isolates, or that an injection adds.
        edges: whole number ≥ 1 of edges that each new node may have; with ``nodes``, for an injection alone.

    Raises:
        TypeError: ``flips``, ``nodes`` or ``edges`` is not a whole number or ``fraction`` is not a float (``1`` and
            ``1.0`` are different budgets: one flip, and as many flips as the graph has edges).
        ValueError: several or none given, negative, or not finite; ``edges`` without ``nodes``.

    Example:
        >>> from contractive_gnn.attacks import Budget
        >>> Budget(nodes=60, edges=20).nodes  # of an injection on Cora, in the literature
        60
    """

    flips: int | None = None
    fraction: float | None = None
    nodes: int | None = None
    edges: int | None = None

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("flips", "fraction", "nodes")}
        if sum(value is not None for value in given.values()) != 1 or (self.edges is not None and self.nodes is None):
            told = ", ".join(f"{name}={value!r}" for name, value in {**given, "edges": self.edges}.items())
            raise ValueError(
                f"a budget is exactly one of flips and fraction, or nodes (with edges); given {told}. Write "
                "Budget(flips=3) or Budget(fraction=0.05); Budget(nodes=60, edges=20) for an injection, "
                "Budget(nodes=60) for a deletion"
            )
        if self.nodes is not None:
            object.__setattr__(self, "nodes", check_count("nodes", self.nodes, least=0))
            if self.edges is not None:
                object.__setattr__(self, "edges", check_count("edges", self.edges))
            return
        # seen as objects, since what was passed may be of any type
        flips: object = self.flips
        fraction: object = self.fraction
        if flips is not None:
            if isinstance(flips, bool) or not isinstance(flips, numbers.Integral):
                raise TypeError(
                    f"flips is a whole number of flips, given {flips!r} ({type(flips).__name__}); "
                    "for a share of the edges write Budget(fraction=…)"
                )
            if int(flips) < 0:
                raise ValueError(f"flips must be at least 0, given {flips}")
            object.__setattr__(self, "flips", int(flips))
        else:
            if not isinstance(fraction, numbers.Real) or isinstance(fraction, numbers.Integral):
                raise TypeError(
                    f"fraction is a float, given {fraction!r} ({type(fraction).__name__}); write "
                    "Budget(fraction=1.0) for as many flips as there are edges, or Budget(flips=…) for their number"
                )
            if not math.isfinite(fraction) or float(fraction) < 0:
                raise ValueError(f"fraction must be finite and at least 0, given {fraction!r}")
            object.__setattr__(self, "fraction", float(fraction))

    def __repr__(self) -> str:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return f"Budget({', '.join(f'{name}={value!r}' for name, value in given.items() if value is not None)})"

    def resolve(self, data: Data, kind: Kind) -> int:
        """The whole number of flips allowed on ``data``.

        For an injection the edges of all new nodes, for a deletion the nodes.

        Raises:
            ValueError: a fraction for ``kind="both"``, where it has no single meaning; nodes for an attack that adds
                and deletes none, or anything else than nodes for one that does.
        """
        if kind == "injection":
            if self.nodes is None or self.edges is None:
                raise ValueError(
                    f"{self} is no budget of an attack that adds nodes: say how many, and how many edges each may "
                    "have, with Budget(nodes=60, edges=20)"
                )
            return self.nodes * self.edges
        if kind == "deletion":
            if self.flips is not None or self.edges is not None:
                raise ValueError(
                    f"{self} is no budget of an attack that deletes nodes: write Budget(nodes=60), or "
                    "Budget(fraction=0.05) of the nodes"
                )
            if self.nodes is not None:
                return self.nodes
            return math.floor(self._share * int(data.num_nodes) + 1e-9)
        if self.nodes is not None:
            raise ValueError(
                f"{self} is a budget of attacks that add or delete nodes, and this one flips: write Budget(flips=…) "
                "or Budget(fraction=…)"
            )
        if self.flips is not None:
            return self.flips
        if kind == "structure":
            whole = undirected_edges(data.edge_index).shape[1]
        elif kind == "features":
            whole = int(torch.count_nonzero(data.x))
        elif kind == "both":
            raise ValueError(
                f"fraction={self.fraction} has no meaning for an attack on structure and features together: "
                "write Budget(flips=…), which counts edge flips and feature entries alike"
            )
        else:
            raise ValueError(f"kind is one of {get_args(Kind)}, given {kind!r}")
        # 0.29 * 100 is 28.999…996 in floating point, and 29 % of 100 edges is 29 edges
        return math.floor(self._share * whole + 1e-9)

    @property
    def _share(self) -> float:
        assert self.fraction is not None  # none of the others is given
        return self.fraction
