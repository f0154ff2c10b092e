"""What an attack wants of the nodes: any wrong class, or one certain class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.attacks.base import check_choice, check_count

Goal = Literal["untargeted", "targeted"]

#: labels to aim at: one for all nodes, or one for every node of the graph
TargetLabels = int | Sequence[int] | Tensor

GOALS: Final[tuple[str, ...]] = get_args(Goal)


def check_goal(goal: str, target_labels: TargetLabels | None) -> tuple[str, int | tuple[int, ...] | None]:
    """The goal, and the labels to aim at as whole numbers.

    Args:
        goal: "untargeted" (any wrong class) or "targeted" (the class of ``target_labels``).
        target_labels: one class for all nodes, or int64 ``[n]`` for every node of the graph; for "targeted" alone.

    Raises:
        TypeError: labels that are not whole numbers.
        ValueError: an unknown goal; labels that are missing, negative, or not used.
    """
    check_choice("goal", goal, GOALS)
    if goal == "untargeted":
        if target_labels is not None:
            raise ValueError("target_labels are for goal='targeted', and the goal is 'untargeted'; leave one of them")
        return goal, None
    if target_labels is None:
        raise ValueError("goal='targeted' needs target_labels: one class for all nodes, or one for every node, [n]")
    if isinstance(target_labels, Tensor):
        if target_labels.dtype.is_floating_point or target_labels.dtype == torch.bool or target_labels.dim() > 1:
            raise TypeError(
                f"target_labels are whole numbers of shape [n], given {target_labels.dtype} of shape "
                f"{list(target_labels.shape)}"
            )
        target_labels = target_labels.tolist()
    if isinstance(target_labels, Sequence):
        return goal, tuple(check_count("a target label", label, least=0) for label in target_labels)
    return goal, check_count("target_labels", target_labels, least=0)


def aimed(data: Data, nodes: Tensor, labels: int | tuple[int, ...], *, classes: int) -> tuple[Tensor, Tensor]:
    """The nodes that are not of the class to aim at already, and that class of each.

    Args:
        data: the graph.
        nodes: int64 ``[t]``, those whose prediction counts.
        labels: of :func:`check_goal`.
        classes: how many the victim scores.

    Returns:
        int64 ``[k]`` and int64 ``[k]``, k ≤ t.

    Raises:
        ValueError: labels for another number of nodes, or a class that the victim does not score; every node is of
            that class already.
    """
    n = int(data.num_nodes)
    wanted = torch.as_tensor(labels, device=nodes.device)
    if wanted.dim() == 1 and wanted.numel() != n:
        raise ValueError(
            f"target_labels are for {wanted.numel()} nodes, and the graph has {n}: give one class for all, or one for "
            "every node of the graph"
        )
    wanted = wanted.expand(n)[nodes]
    if int(wanted.max()) >= classes:
        raise ValueError(f"target_labels name class {int(wanted.max())}, and the victim scores {classes} classes")
    left = wanted != data.y[nodes]
    if not bool(left.any()):
        raise ValueError("every node to attack has its target label as its own label already; give another one")
    return nodes[left], wanted[left]
