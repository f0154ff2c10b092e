"""An attack in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.auto import auto
from contractive_gnn.attacks.base import AttackResult, Budget, get


def attack(
    model: nn.Module | None,
    data: Data,
    name: str,
    *,
    flips: int | None = None,
    fraction: float | None = None,
    degree: float | None = None,
    per_target: Sequence[int] | Tensor | None = None,
    nodes: int | None = None,
    edges: int | None = None,
    targets: Tensor | None = None,
    seed: int = 0,
    **hyperparameters: Any,
) -> AttackResult:
    """Attack ``model`` on ``data`` by the attack called ``name``: :meth:`Attack.run` of :func:`get`.

    Args:
        model: ``forward(x, edge_index, edge_weight=None) -> scores [n, classes]``; it is copied and not changed. An
            attack that is not adaptive never sees it, and None will do.
        data: undirected, unweighted graph without self-loops, with x ``[n, d]``, y ``[n]`` and masks ``[n]``.
        name: a key of :data:`ATTACKS`.
        flips: how many undirected edges (or feature entries) may be flipped; per target for a targeted attack.
        fraction: instead of ``flips``, as a share of the edges (or of the non-zero feature entries) of ``data``.
        degree: instead of ``flips``, for a targeted attack on edges: as a share of each target's degree.
        per_target: instead of ``flips``, for a targeted attack: a whole number for each target, in their order.
        nodes: instead of ``flips``, how many nodes are added, or deleted.
        edges: with ``nodes``, how many edges each new node may have.
        targets: int64 ``[t]``, the nodes to fool; a targeted attack needs them, a global one has its own.
        seed: 0 ≤ seed < 2³².
        **hyperparameters: the attack's own.

    Raises:
        TypeError: an argument of the wrong type, or a hyperparameter that the attack does not take.
        ValueError: an unknown name; not exactly one of ``flips``, ``fraction``, ``degree``, ``per_target`` and
            ``nodes``; a graph, a budget or targets that the attack cannot take.
        AttackError: the attack cannot work on this model, or broke its promises.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> cg.attack(None, data, "random", flips=3).n_flips
        3
    """
    budget = Budget(flips=flips, fraction=fraction, degree=degree, per_target=per_target, nodes=nodes, edges=edges)
    return get(name, seed=seed, **hyperparameters).run(data, budget, victim=model, targets=targets)


#: ``cg.attack.auto(model, data)``: one verdict over a fixed ensemble
attack.auto = auto  # type: ignore[attr-defined]
