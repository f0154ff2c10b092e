r"""The PageRank certificate, as a baseline for linear propagation.

Bojchevski and Günnemann (*Certifiable robustness to graph perturbations*, NeurIPS 2019) certify models whose scores
are a PageRank average of node-wise scores. There the difference of two classes obeys the same linear equation as the
scores, so the worst case of a *margin* can be propagated itself, with the same flips for both classes: under budgets
per node it is the optimal value of a Markov decision process in which node i picks its neighbours. They solve it by
policy iteration for the stationary distribution; here it is the value iteration over the L steps that the model
takes. A nonlinear σ breaks the argument: the difference of two classes no longer has a dynamics of its own.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from contractive_gnn import inputs
from contractive_gnn.activations import Identity
from contractive_gnn.certificates.bounds import Box, Neighbourhoods, step_rounding, worst_step
from contractive_gnn.certificates.budget import FeatureBudget, FlipBudget
from contractive_gnn.certificates.certificate import Certificate, check_budget, clean_scores
from contractive_gnn.certificates.consistency import holds_clean, margins_hold_clean
from contractive_gnn.certificates.encoder import encoder_bounds
from contractive_gnn.certificates.parts import Parts, take_apart
from contractive_gnn.certificates.rounding import Unproved
from contractive_gnn.nn.evaluation import evaluating


def certify_pagerank(model: nn.Module, x: Tensor, edge_index: Tensor, *, flips: FlipBudget) -> Certificate:
    r"""Certify a linear diffusion on the class scores: σ = identity, ``x ← (mean over N_i ∪ {i} + μ x⁽⁰⁾)/(1 + μ)``.

    With h = 1/(1 + μ) it is APPNP with random-walk weights and the teleport probability α = μ/(1 + μ). The rounding
    errors of a step are those of two scores, so they follow the size of the scores and not that of their difference
    (docs/certificates.md).

    Args:
        model: trained; a :class:`~contractive_gnn.nn.FlowGNN` with ``space="class"`` and ``activation="identity"``. Its
            mode is put back.
        x: clean features ``[n, d]``, finite, of the model's dtype and on its device.
        edge_index: ``[2, E]``, both orientations, or a sparse matrix of ones.
        flips: which edges may be flipped. The bound knows no features.

    Raises:
        InputError: see :func:`~contractive_gnn.certificates.certify`.
        ValueError: a model of another kind, or a budget for another number of nodes.
    """
    start = time.perf_counter()
    x = inputs.features(x)
    edge_index = inputs.undirected(x, edge_index, weighted=False).edge_index
    check_budget(flips, x)
    with torch.no_grad(), evaluating(model):
        scores = clean_scores(model, x, edge_index)
        parts = take_apart(model)
        if isinstance(parts, str):
            raise ValueError(f"the PageRank certificate is for a linear diffusion: {parts}")
        if parts.decoder is not None or not isinstance(parts.dynamics.sigma, Identity):
            raise ValueError(
                f"the PageRank certificate needs space='class' and activation='identity', got {parts.dynamics.sigma}"
                f"{' and a decoder' if parts.decoder is not None else ''}"
            )
        prediction = scores.argmax(dim=1)
        try:
            margin = _margins(parts.in_double(), x.cpu(), edge_index.cpu(), flips, scores)
        except Unproved as why:
            return Certificate.refused(prediction, str(why), time.perf_counter() - start)
    return Certificate(prediction, margin, margin > 0, "", time.perf_counter() - start)


def _margins(parts: Parts, x: Tensor, edge_index: Tensor, flips: FlipBudget, clean: Tensor) -> Tensor:
    """The least margins ``[n]`` within the budget, once they agree with the clean scores."""
    if not len(x):
        raise Unproved("the graph has no nodes")
    x = (x if x.layout == torch.strided else x.to_dense()).double()
    box = encoder_bounds(parts.encoder, x, FeatureBudget(), rectify_last=False, dtype=parts.dtype)
    classes = clean.shape[1]
    first, second = (torch.arange(classes) != torch.arange(classes)[:, None]).nonzero().t()
    anchor = box.upper[:, second] - box.lower[:, first]  # the lead of `second` over `first`, at most
    own = clean[:, second] - clean[:, first]
    lead = torch.full((len(x), classes, classes), -torch.inf, dtype=anchor.dtype)
    for what, budget in (
        ("the clean graph", FlipBudget.uniform(0, len(x))),
        ("the graphs within the budget", flips),
    ):
        graph = Neighbourhoods.of(edge_index, budget)
        z, size = anchor, torch.maximum(box.lower.abs(), box.upper.abs()).amax()
        for _ in range(parts.num_steps):
            z = worst_step(z, graph, parts.dynamics.sigma, anchor=anchor, step=parts.step, mu=parts.dynamics.mu)
            slack = step_rounding(size, graph, parts.dynamics.sigma, mu=parts.dynamics.mu, dtype=parts.dtype)
            z, size = z + 2 * slack, size + slack.amax()
        lead[:, first, second] = z
        holds_clean(Box(-lead.transpose(1, 2)[:, first, second], z), own, f"a lead of one class over another on {what}")
    margin = -lead[torch.arange(len(x)), clean.argmax(dim=1)].amax(dim=1)
    margins_hold_clean(margin, clean)
    return margin
