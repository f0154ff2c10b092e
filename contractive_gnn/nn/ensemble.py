"""Models that answer together."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn

from contractive_gnn.nn.batch import graph_by_graph
from contractive_gnn.nn.similarity import sharing
from contractive_gnn.nn.surrogate import HasGradientSurrogate, gradient_surrogate
from contractive_gnn.trainable import HasMembers, reset


class Ensemble(nn.Module, HasMembers, HasGradientSurrogate):
    r"""The mean of the members' class probabilities, each member fitted by itself.

    .. math:: z = \log \frac{1}{M} \sum_k \mathrm{softmax}(z_k)

    Members that err at different nodes correct each other (Hansen and Salamon 1990; networks that differ in their seeds
    alone: Lakshminarayanan et al., NeurIPS 2017). :func:`contractive_gnn.training.fit` fits every member as if it were
    alone, under a seed of its own.

    Contractive flows of the members, each on its own fixed graph with its own fixed anchor, are one on the product of
    their states: the Jacobian is block diagonal, so in the largest of their norms it contracts at the least of their
    rates. softmax is ½-Lipschitz in ℓ2 and in ℓ∞: its Jacobian ``diag(p) − ppᵀ`` is symmetric, and the absolute values
    of its row i sum to ``2 p_i (1 − p_i) ≤ ½``. So where the scores of every member k are L_k-Lipschitz from one and
    the same norm of the input to one of these two, the mean probabilities are ``(1/2M) Σ L_k``-Lipschitz to it.

    Args:
        members: modules with ``forward(x, edge_index, edge_weight=None)``.

    Shapes:
        those of the members; output ``[n, out_channels]``.

    Raises:
        ValueError: without members, or with a member that is an ensemble.
    """

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        if not self.members:
            raise ValueError("an ensemble needs at least one member, got none")
        if any(isinstance(member, Ensemble) for member in self.members):
            raise ValueError("a member cannot be an ensemble itself; give its members in its place")

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for member in self.members:
            reset(member)

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, batch: Tensor | None = None
    ) -> Tensor:
        """Logarithms of the class probabilities; those of each graph by itself with ``batch`` ``[n]``."""
        if batch is not None:
            return graph_by_graph(self.forward, x, edge_index, edge_weight, batch)
        # a trace computes what it is told to, and cannot set a context variable
        with contextlib.nullcontext() if torch.compiler.is_compiling() else sharing():
            answers = [member(x, edge_index, edge_weight).log_softmax(dim=-1) for member in self.members]
        return torch.stack(answers).logsumexp(dim=0) - math.log(len(answers))

    def gradient_surrogate(self) -> nn.Module:
        """The twin that an adaptive attack takes gradients through: with those of the members that have one."""
        twins = [gradient_surrogate(member) for member in self.members]
        if all(twin is member for twin, member in zip(twins, self.members, strict=True)):
            return self
        return Ensemble(twins).train(self.training)


PROVABLE_MEMBERS: Final[tuple[dict[str, Any], ...]] = (
    {"name": "robust-provable", "model": {"threshold": 0.8, "epsilon": 0.1}},
    {"name": "robust-provable", "model": {"threshold": 0.8, "epsilon": 0.02, "calibrated": True, "power": 1.5}},
    {"name": "robust-provable", "model": {"threshold": 0.6, "epsilon": 0.02, "similarity": False}},
)
"""The contractive model with three opinions of an edge: its A(0), A(0) calibrated, and none.

Nothing but the flow guards the last one, so its λ is the smallest.
"""

ROBUST_MEMBERS: Final[tuple[dict[str, Any], ...]] = (
    {"name": "robust", "model": {"threshold": 4.0, "epsilon": 0.1}},
    {"name": "robust", "model": {"threshold": 4.0, "epsilon": 0.02, "calibrated": True, "power": 1.5}},
    {"name": "robust", "model": {"threshold": 3.0, "epsilon": 0.02, "similarity": False}},
    *PROVABLE_MEMBERS,
)
"""The redescending model with the same three opinions, and the contractive ones."""
