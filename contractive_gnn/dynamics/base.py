"""What a vector field must declare."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from contractive_gnn.graph import Graph


class Dynamics(nn.Module, ABC):
    r"""A vector field ``ẋ = X(x)`` on node features that declares how it contracts.

    A subclass defines four things, and gets layers, integrators and tests from them:

    * :meth:`field`, the vector field itself;
    * :attr:`norm`, the norm of every claim (``"l2"``: Frobenius; ``"linf"``: largest entry;
      ``"l2-degree"``: Frobenius with row i weighted by node i's degree);
    * :meth:`rate`, the contraction rate κ: the log norm of DX is at most −κ (Bullo, *Contraction Theory*, Thm 3.9);
    * :meth:`max_step`, the largest explicit Euler step h that still contracts by ``1 − hκ``.
    """

    norm: ClassVar[str]

    @abstractmethod
    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate X at ``x`` (``[n, channels]``).

        Args:
            x: the state.
            graph: the graph the field lives on.
            anchor: ``x⁽⁰⁾``, the point that a fidelity term pulls back to; None stands for the origin.
            t: time, for fields that depend on it.
        """

    @abstractmethod
    def rate(self, graph: Graph) -> Tensor | float:
        """Contraction rate κ in :attr:`norm` for a fixed graph and anchor (0: non-expansive; negative: expansive)."""

    @abstractmethod
    def max_step(self, graph: Graph) -> Tensor | float:
        """Largest Euler step h that contracts by ``1 − h·rate`` in :attr:`norm` (0 where the field is expansive).

        A scalar tensor where it depends on learned weights or on the graph: a layer that takes this step must let an
        attacker's gradient through it.
        """

    @property
    def certified(self) -> bool:
        """Whether :meth:`rate` and :meth:`max_step` are proved, for the arguments this object was built with."""
        return True
