"""The communities of a graph, grown from the labels of a few nodes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.utils import remove_self_loops

from contractive_gnn.checks import check_real, check_whole

_AT_REST = 1e-5
"""Largest change of a membership in one step at which the flow counts as at rest."""


@torch.no_grad()
def seeded_communities(
    edge_index: Tensor,
    labels: Tensor,
    known: Tensor,
    *,
    num_classes: int,
    edge_weight: Tensor | None = None,
    coupling: float = 2.0,
    max_steps: int = 500,
) -> Tensor:
    r"""The communities that labels *name*, with labels that no longer *hold* anything.

    Memberships ``F_i`` in the simplex follow the mean field of the modularity, in Euler steps of 1/2, until at rest:

    .. math::
        \dot F_i = \mathrm{softmax}\Big(\frac{ck}{d_i + 1} \sum_j \big(a_{ij} - \tfrac{d_i d_j}{2m}\big) F_j\Big) - F_i.

    Twice: first with ``F_i`` held at the label where that is known (the others start undecided, at 1/k), and then, from
    there, with none held. What chance would have is subtracted (Newman's null model), or one community would take all.
    While the seeds are held, an edge at one of them is one vote for its label: whoever wants a community to bear a
    wrong name must outvote the edges between it and its seeds. Once they are released, a community is where the edges
    are: a labelled node that strangers were attached to goes over to them alone, and takes nobody along.

    Where two communities are to be told apart there is more than one place to rest, so the flow is not contractive.

    After Zhang and Moore, *Scalable detection of statistically significant communities and hierarchies, using message
    passing for modularity* (PNAS 2014), with mean fields in place of messages.

    Args:
        edge_index: ``[2, E]``, both orientations.
        labels: int64 ``[n]``; read where ``known``.
        known: bool ``[n]``, the seeds.
        num_classes: k ≥ 2.
        edge_weight: ``[E]``, or None for ones.
        coupling: c > 0, how much a node believes its neighbours.
        max_steps: the most steps in either phase.

    Returns:
        Probabilities ``[n, k]``; 1/k for a node without neighbours.

    Raises:
        ValueError: a value out of its range, or no seed.
    """
    check_whole("num_classes", num_classes, least=2)
    check_real("coupling", coupling, above=0)
    check_whole("max_steps", max_steps, least=1)
    if not bool(known.any()):
        raise ValueError("known must select at least one node: communities without a seed have no names")
    n = labels.shape[0]
    edge_index, edge_weight = remove_self_loops(edge_index, edge_weight)
    weight = torch.ones(edge_index.shape[1], device=labels.device) if edge_weight is None else edge_weight
    adjacency = torch.sparse_coo_tensor(edge_index.flip(0), weight, (n, n), check_invariants=False).coalesce()
    degree = weight.new_zeros(n).index_add(0, edge_index[1], weight).unsqueeze(-1)
    share = degree / degree.sum().clamp(min=1.0)
    believed = coupling * num_classes / (degree + 1.0)

    f = weight.new_full((n, num_classes), 1.0 / num_classes)
    f[known] = torch.nn.functional.one_hot(labels[known], num_classes).to(f.dtype)
    for held in (known, torch.zeros_like(known)):
        for _ in range(max_steps):
            pull = adjacency @ f - degree * (share * f).sum(dim=0)
            change = 0.5 * ((believed * pull).softmax(dim=1) - f)
            change[held] = 0.0
            f = f + change
            if float(change.abs().max()) < _AT_REST:
                break
    return f
