"""How much an attack may change."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import get_args

import torch
from torch_geometric.data import Data

from contractive_gnn.attacks.base.flips import undirected_edges
from contractive_gnn.attacks.base.kinds import Kind


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much an attack may change: exactly one of an absolute number and a fraction.

    Args:
        flips: whole number ≥ 0 of undirected edge flips, or of feature entries; per target for a targeted attack.
        fraction: float ≥ 0; of the undirected edges of the clean graph, or of its non-zero feature entries. It is
            rounded down, as Pro-GNN's ``int(rate * m)`` is: a budget is never exceeded.

    Raises:
        TypeError: ``flips`` is not a whole number or ``fraction`` is not a float (``1`` and ``1.0`` are different
            budgets: one flip, and as many flips as the graph has edges).
        ValueError: both or none given, negative, or not finite.
    """

    flips: int | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        if (self.flips is None) == (self.fraction is None):
            raise ValueError(
                f"a budget is exactly one of flips and fraction; given flips={self.flips!r}, "
                f"fraction={self.fraction!r}. Write Budget(flips=3) or Budget(fraction=0.05)"
            )
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

    def resolve(self, data: Data, kind: Kind) -> int:
        """The whole number of flips allowed on ``data``.

        Raises:
            ValueError: a fraction for ``kind="both"``, where it has no single meaning.
        """
        if self.flips is not None:
            return self.flips
        assert self.fraction is not None
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
        return math.floor(self.fraction * whole + 1e-9)
