"""Losses that compare the scores of the same nodes on two graphs: what a surrogate learns of nodes without a label.

Yoon, In, Lee, Kim and Park, *Debiased Graph Poisoning Attack via Contrastive Surrogate Objective* (CIKM 2024). Each
loss is a plain function of two tensors; derivatives are torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from torch import Tensor

Contrast: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""A loss of the scores of k nodes on the graph and on a view of it, both ``[k, c]``."""

TEMPERATURE: Final = 0.5
"""τ of the sample contrast."""


def sample_contrast(scores: Tensor, viewed: Tensor) -> Tensor:
    """InfoNCE: a node is to be more like itself on the other graph than like other nodes.

    With p = softmax(scores), q = softmax(viewed) and s(a, b) = exp(aᵀb / τ), τ = ½, the mean over i of

        −log s(p_i, q_i) / (Σ_j s(p_i, q_j) + Σ_{j≠i} s(p_i, p_j)).

    Args:
        scores: ``[k, c]`` on the graph.
        viewed: ``[k, c]`` of the same nodes on the view.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
        >>> bool(sample_contrast(scores, scores) < sample_contrast(scores, scores.flip(0)))
        True
    """
    p, q = scores.softmax(dim=1), viewed.softmax(dim=1)
    within, across = p @ p.T / TEMPERATURE, p @ q.T / TEMPERATURE
    itself = torch.eye(p.shape[0], dtype=torch.bool, device=p.device)
    others = torch.cat([within.masked_fill(itself, -torch.inf), across], dim=1)
    return (others.logsumexp(dim=1) - across.diagonal()).mean()


def dimension_contrast(scores: Tensor, viewed: Tensor) -> Tensor:
    """Columns are to vary, and to be uncorrelated, on both graphs; rows are to be the same on both.

    With the columns' variances v and covariances C over the k nodes,

        mean (z − z')² + Σ_{both} (mean_j max(0, 1 − √(v_j + 10⁻⁴)) + Σ_{j≠l} C_jl² / c)

    (the terms of VICReg: Bardes, Ponce and LeCun, ICLR 2022).

    Args:
        scores: ``[k, c]`` on the graph.
        viewed: ``[k, c]`` of the same nodes on the view.

    Example:
        >>> import torch
        >>> flat, spread = torch.zeros(4, 2), torch.tensor([[2.0, 0], [-2, 0], [0, 2], [0, -2]])
        >>> bool(dimension_contrast(spread, spread) < dimension_contrast(flat, flat))
        True
    """
    loss = (scores - viewed).square().mean()
    for z in (scores, viewed):
        centred = z - z.mean(dim=0)
        covariance = centred.T @ centred / (z.shape[0] - 1)
        variances = covariance.diagonal()
        off_diagonal = covariance.square().sum() - variances.square().sum()
        loss = loss + (1 - (variances + 1e-4).sqrt()).relu().mean() + off_diagonal / z.shape[1]
    return loss
