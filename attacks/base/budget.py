"""How much an attack may change."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.attacks.base.flips import undirected_edges
from contractive_gnn.attacks.base.kinds import Kind
from contractive_gnn.attacks.base.options import check_count


@dataclass(frozen=True, kw_only=True, repr=False)
class Budget:
    """How much an attack may change: exactly one of a number, a share, a budget for each target, a number of nodes.

    Args:
        flips: whole number ≥ 0 of undirected edge flips, or of feature entries; per target for a targeted attack.
        fraction: float ≥ 0; of the undirected edges of the clean graph, or of its non-zero feature entries. It is
            rounded down, as Pro-GNN's ``int(rate * m)`` is: a budget is never exceeded. Of the nodes, for a deletion.
        degree: float ≥ 0; for a targeted attack on edges, of the degree that each target has in the clean graph;
            rounded down, so that with 0.5 a target with one edge is left alone.
        per_target: for a targeted attack, a whole number ≥ 0 for each of its targets, in their order; a tensor
            ``[t]`` will do.
        nodes: whole number ≥ 0 of nodes that a deletion isolates, or that an injection adds.
        edges: whole number ≥ 1 of edges that each new node may have; with ``nodes``, for an injection alone.

    Raises:
        TypeError: ``flips``, ``nodes`` or ``edges`` is not a whole number or ``fraction`` is not a float (``1`` and
            ``1.0`` are different budgets: one flip, and as many flips as the graph has edges), and likewise of the
            others.
        ValueError: several or none given, negative, or not finite; ``edges`` without ``nodes``.

    Example:
        >>> import torch
        >>> from contractive_gnn.attacks import Budget
        >>> Budget(degree=0.5)
        Budget(degree=0.5)
        >>> Budget(per_target=torch.tensor([3, 1])).per_target
        (3, 1)
        >>> Budget(nodes=60, edges=20).nodes  # of an injection on Cora, in the literature
        60
    """

    flips: int | None = None
    fraction: float | None = None
    degree: float | None = None
    per_target: Sequence[int] | Tensor | None = None
    nodes: int | None = None
    edges: int | None = None

    def __post_init__(self) -> None:
        # seen as objects, since what was passed may be of any type
        given: dict[str, object] = {name: value for name, value in vars(self).items() if value is not None}
        if [*given] != ["nodes", "edges"] and (len(given) != 1 or "edges" in given):
            told = ", ".join(f"{name}={value!r}" for name, value in given.items()) or "none of them"
            raise ValueError(
                "a budget is exactly one of flips, fraction, degree and per_target, or nodes (with edges); given "
                f"{told}. Write Budget(flips=3) or Budget(fraction=0.05); Budget(nodes=60, edges=20) for an injection, "
                "Budget(nodes=60) for a deletion"
            )
        for name, value in given.items():
            object.__setattr__(self, name, _checked(name, value))

    def __repr__(self) -> str:
        """What is given of it."""
        given = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if value is not None)
        return f"{type(self).__name__}({given})"

    @property
    def whole(self) -> bool:
        """Whether it is one budget for a whole graph, or the same number for each target."""
        return self.degree is None and self.per_target is None

    def resolve(self, data: Data, kind: Kind) -> int:
        """The whole number of flips allowed on ``data``.

        For an injection the edges of all new nodes, for a deletion the nodes.

        Raises:
            ValueError: a fraction for ``kind="both"``, where it has no single meaning; nodes for an attack that adds
                and deletes none, or anything else than nodes for one that does; a budget for each target.
        """
        if kind == "injection":
            if self.nodes is None or self.edges is None:
                raise ValueError(
                    f"{self} is no budget of an attack that adds nodes: say how many, and how many edges each may "
                    "have, with Budget(nodes=60, edges=20)"
                )
            return self.nodes * self.edges
        if kind == "deletion":
            if self.nodes is not None and self.edges is None:
                return self.nodes
            if self.fraction is None:
                raise ValueError(
                    f"{self} is no budget of an attack that deletes nodes: write Budget(nodes=60), or "
                    "Budget(fraction=0.05) of the nodes"
                )
            return _floor(self.fraction * int(data.num_nodes))
        if self.nodes is not None:
            raise ValueError(
                f"{self} is a budget of attacks that add or delete nodes, and this one flips: write Budget(flips=…) "
                "or Budget(fraction=…)"
            )
        if self.flips is not None:
            return self.flips
        if self.fraction is None:
            raise ValueError(
                f"{self} is for each target of a targeted attack, and not for a whole graph: write Budget(flips=…) or "
                "Budget(fraction=…)"
            )
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
        return _floor(self.fraction * whole)

    def of_targets(self, data: Data, kind: Kind, targets: Tensor) -> tuple[int, ...]:
        """The whole number of flips for each target.

        Args:
            data: the clean graph.
            kind: what is flipped.
            targets: int64 ``[t]``.

        Raises:
            ValueError: a fraction, which is of a whole graph; a share of the degree for an attack on features; another
                number of budgets than of targets.

        Example:
            >>> import torch
            >>> from torch_geometric.data import Data
            >>> ring = Data(edge_index=torch.tensor([[0, 1, 1, 2, 2, 0], [1, 0, 2, 1, 0, 2]]), num_nodes=3)
            >>> Budget(degree=0.5).of_targets(ring, "structure", torch.tensor([0, 2]))
            (1, 1)
        """
        if self.flips is not None:
            return (self.flips,) * targets.numel()
        if self.degree is not None:
            if kind != "structure":
                raise ValueError(f"{self} is a share of a node's edges, and the attack is on {kind}: write flips=…")
            degrees = torch.bincount(data.edge_index[0], minlength=int(data.num_nodes))[
                targets.to(data.edge_index.device)
            ]
            return tuple(_floor(self.degree * degree) for degree in degrees.tolist())
        if self.per_target is None:
            raise ValueError(f"{self} is a budget for a whole graph; write Budget(flips=…) for each target")
        budgets = tuple(self.per_target)
        if len(budgets) != targets.numel():
            raise ValueError(
                f"per_target holds {len(budgets)} budgets for {targets.numel()} targets; give one for each"
            )
        return budgets


def _checked(name: str, value: object) -> object:
    """The value of this argument, in one form."""
    if name == "flips":
        return _whole(name, value, "for a share of the edges write Budget(fraction=…)")
    if name == "per_target":
        return _whole_numbers(value)
    if name in ("nodes", "edges"):
        return check_count(name, value, least=int(name == "edges"))  # type: ignore[arg-type]
    return _share(name, value)


def _whole(what: str, value: object, advice: str) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{what} is a whole number of flips, given {value!r} ({type(value).__name__}); {advice}")
    if int(value) < 0:
        raise ValueError(f"{what} must be at least 0, given {value}")
    return int(value)


def _whole_numbers(value: object) -> tuple[int, ...]:
    if isinstance(value, Tensor):
        if value.dim() != 1 or value.dtype.is_floating_point or value.dtype == torch.bool:
            raise TypeError(
                f"per_target holds whole numbers, one for each target, given {value.dtype} of shape {list(value.shape)}"
            )
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"per_target holds a whole number for each target, given {value!r} ({type(value).__name__})")
    return tuple(_whole("a budget of per_target", one, "give one for each target") for one in value)


def _share(what: str, value: object) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, numbers.Integral):
        instead = "as many flips as there are edges" if what == "fraction" else "as many flips as a target has edges"
        raise TypeError(
            f"{what} is a float, given {value!r} ({type(value).__name__}); write Budget({what}=1.0) for {instead}, or "
            "Budget(flips=…) for their number"
        )
    if not math.isfinite(value) or float(value) < 0:
        raise ValueError(f"{what} must be finite and at least 0, given {value!r}")
    return float(value)


def _floor(flips: float) -> int:
    # 0.29 * 100 is 28.999…996 in floating point, and 29 % of 100 edges is 29 edges
    return math.floor(flips + 1e-9)
