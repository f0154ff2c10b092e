r"""The PageRank certificate, as a baseline for linear propagation.

Bojchevski and Günnemann (*Certifiable robustness to graph perturbations*, NeurIPS 2019) certify models whose scores
are a PageRank average of node-wise scores. There the difference of two classes obeys the same linear equation as the
scores, so the worst case of a *margin* can be propagated itself, with the same flips for both classes: under budgets
per node it is the optimal value of a Markov decision process in which node i picks its neighbours. They solve it by
policy iteration for the stationary distribution; here it is the value iteration over the L steps that the model
takes. A nonlinear σ breaks the argument: the difference of two classes no longer has a dynamics of its own.
"""

from __future__ import annotations

import copy
import time

import torch
from torch import nn

from contractive_gnn.activations import Identity
from contractive_gnn.certify.bounds import Neighbourhoods, step_rounding, worst_step
from contractive_gnn.certify.budget import FeatureBudget, FlipBudget
from contractive_gnn.certify.certificate import Certificate, Parts, take_apart
from contractive_gnn.certify.encoder import encoder_bounds


def certify_pagerank(model: nn.Module, x: torch.Tensor, edge_index: torch.Tensor, *, flips: FlipBudget) -> Certificate:
    r"""Certify a linear diffusion on the class scores: σ = identity, ``x ← (mean over N_i ∪ {i} + μ x⁽⁰⁾)/(1 + μ)``.

    With h = 1/(1 + μ) it is APPNP with random-walk weights and the teleport probability α = μ/(1 + μ).

    Args:
        model: trained; a :class:`~contractive_gnn.nn.FlowGNN` with ``space="class"`` and ``sigma="identity"``.
        x: clean features ``[n, d]``.
        edge_index: ``[2, E]``, both orientations.
        flips: which edges may be flipped. The bound knows no features.

    Raises:
        ValueError: a model of another kind.
    """
    start = time.perf_counter()
    parts = take_apart(model)
    if isinstance(parts, str):
        raise ValueError(f"the PageRank certificate is for a linear diffusion: {parts}")
    if parts.decoder is not None or not isinstance(parts.dynamics.sigma, Identity):
        raise ValueError(
            f"the PageRank certificate needs space='class' and sigma='identity', got {parts.dynamics.sigma}"
            f"{' and a decoder' if parts.decoder is not None else ''}"
        )
    model.eval()
    with torch.no_grad():
        prediction = model(x, edge_index).argmax(dim=1)
        double = take_apart(copy.deepcopy(model).double())
        assert isinstance(double, Parts)
        unit = parts.unit_roundoff
        box = encoder_bounds(double.encoder, x.double(), FeatureBudget(), rectify_last=False, unit_roundoff=unit)
        classes = box.upper.shape[1]
        first, second = (torch.arange(classes) != torch.arange(classes)[:, None]).nonzero().t()
        z = anchor = box.upper[:, second] - box.lower[:, first]  # the lead of `second` over `first`, at most
        graph = Neighbourhoods.of(edge_index, flips)
        for _ in range(double.num_steps):
            z = worst_step(z, graph, double.dynamics.sigma, anchor=anchor, step=double.step, mu=double.dynamics.mu)
            # the errors of two channels
            z = z + 2 * step_rounding(z, anchor, graph, double.dynamics.sigma, unit)
        lead = torch.full((len(x), classes, classes), -torch.inf, dtype=z.dtype)
        lead[:, first, second] = z
        margin = -lead[torch.arange(len(x)), prediction].amax(dim=1)
    return Certificate(prediction, margin, margin > 0, "", time.perf_counter() - start)
