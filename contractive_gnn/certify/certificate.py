"""The certificate: which predictions no attacker within the budget can change."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from contractive_gnn.certify.bounds import Box, Neighbourhoods, diffusion_bounds, step_rounding
from contractive_gnn.certify.budget import FeatureBudget, FlipBudget
from contractive_gnn.certify.encoder import encoder_bounds
from contractive_gnn.certify.total import total_harm
from contractive_gnn.dynamics import Diffusion
from contractive_gnn.nn.flow import FlowConv, FlowGNN

#: entries of the influences in a certificate for a total number of flips: 1.6 GB of them
_LARGEST_INFLUENCES = 200_000_000


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is proved about a model's predictions on one graph.

    Attributes:
        prediction: the clean prediction of every node, int64 ``[n]``.
        margin: a lower bound of the predicted class's score minus any other's, over everything the attacker may do,
            ``[n]``; −inf where nothing is proved.
        certified: ``margin > 0``: no perturbation within the budget changes the prediction, bool ``[n]``.
        reason: why nothing is proved about this model; empty where something is.
        seconds: wall time.
    """

    prediction: Tensor
    margin: Tensor
    certified: Tensor
    reason: str
    seconds: float

    def accuracy(self, y: Tensor, mask: Tensor) -> float:
        """Certified accuracy: percent of the nodes of ``mask`` that are right, and certified to stay so."""
        return 100.0 * float((self.certified & (self.prediction == y))[mask].double().mean())


@dataclass(frozen=True, eq=False)
class Parts:
    """A model taken apart into what the bound needs.

    Attributes:
        encoder: affine maps with ReLUs between them.
        rectify_last: whether a ReLU follows the last of them.
        dynamics: the diffusion.
        num_steps: L.
        step: h.
        decoder: the affine map after the diffusion, or None where it runs on the class scores.
        unit_roundoff: of the model's arithmetic.
    """

    encoder: Sequence[nn.Linear]
    rectify_last: bool
    dynamics: Diffusion
    num_steps: int
    step: float
    decoder: nn.Linear | None
    unit_roundoff: float


def take_apart(model: nn.Module) -> Parts | str:
    """The parts of a model that the bound covers, or the reason why it does not cover this one."""
    if not isinstance(model, FlowGNN):
        return f"{type(model).__name__} is not a FlowGNN, for which the bound is proved"
    conv = model.conv
    if type(conv) is not FlowConv or type(conv.dynamics) is not Diffusion:
        return f"the bound is proved for the ℓ∞ Diffusion, not for {type(getattr(conv, 'dynamics', conv)).__name__}"
    if conv.scheme != "euler":
        return f"the bound is proved for Euler steps, not for {conv.scheme!r}"
    dynamics = conv.dynamics
    if dynamics.sigma.slopes[0] < 0:
        return f"the bound is proved for a monotone activation: with {dynamics.sigma} a step is not monotone"
    limit = dynamics.max_step(None)  # type: ignore[arg-type]  # the diffusion's does not depend on the graph
    step = limit if conv.step is None else min(limit, conv.step) if conv.constrained else conv.step
    if step > limit:
        return f"a step of {step:g} is beyond 1/(1 + mu) = {limit:g}: the step is not monotone"
    in_class_space = model.space == "class"
    return Parts(
        encoder=(model.encoder, model.decoder) if in_class_space else (model.encoder,),
        rectify_last=not in_class_space,
        dynamics=dynamics,
        num_steps=conv.num_steps,
        step=float(step),
        decoder=None if in_class_space else model.decoder,
        unit_roundoff=torch.finfo(model.decoder.weight.dtype).eps,
    )


def score_bounds(parts: Parts, x: Tensor, graph: Neighbourhoods, features: FeatureBudget) -> Box:
    """Bounds of the state after the diffusion (the class scores where there is no decoder), without rounding slack.

    Differentiable in the parameters of the model: the worst-case loss of certified training reads it.
    """
    start = encoder_bounds(parts.encoder, x, features, rectify_last=parts.rectify_last)
    return diffuse(parts, start, graph, 0.0)


def diffuse(parts: Parts, start: Box, graph: Neighbourhoods, unit_roundoff: float) -> Box:
    """Bounds of the state after the diffusion from bounds of its start."""
    return diffusion_bounds(
        start,
        graph,
        parts.dynamics.sigma,
        mu=parts.dynamics.mu,
        step=parts.step,
        num_steps=parts.num_steps,
        unit_roundoff=unit_roundoff,
    )[-1]


def worst_margins(box: Box, classes: Tensor, decoder: nn.Linear | None = None) -> Tensor:
    r"""A lower bound of ``score_y − score_k`` for every class k ≠ y, ``[n, classes]``, ``inf`` at y itself.

    Without a decoder it is ``lower_y − upper_k``; with one, ``Σ_c (C_yc − C_kc) x_c + b_y − b_k`` at its worst corner
    of the box, where a channel that serves both classes alike cancels.

    Args:
        box: of the state, ``[n, c]``.
        classes: y of every node.
        decoder: the affine map C, b.
    """
    if decoder is None:
        own = box.lower.gather(1, classes[:, None])
        margins = own - box.upper
    else:
        # row y of `direction` holds C_y − C_k for every k
        direction = decoder.weight[:, None, :] - decoder.weight[None, :, :]
        least = direction.clamp(min=0), direction.clamp(max=0)
        chosen = [part[classes] for part in least]
        margins = (chosen[0] * box.lower[:, None]).sum(-1) + (chosen[1] * box.upper[:, None]).sum(-1)
        if decoder.bias is not None:
            margins = margins + decoder.bias[classes][:, None] - decoder.bias
    return margins.scatter(1, classes[:, None], torch.inf)


def certify(
    model: nn.Module,
    x: Tensor,
    edge_index: Tensor,
    *,
    flips: FlipBudget | None = None,
    features: FeatureBudget | None = None,
) -> Certificate:
    """Prove for as many nodes as possible that their predictions cannot change.

    The graph is attacked at every node at once, in structure, in features, or in both. The bound is computed in float64
    and widened by a bound of the rounding errors of the model in its own precision (docs/certificates.md).

    A ``total`` of the flips lowers every node's budget to it; on class scores, with no change of the features and up to
    some thousand nodes, the bound of :mod:`.total` is tried as well, which takes about a hundred times as long.

    Args:
        model: trained; a :class:`~contractive_gnn.nn.FlowGNN` with a :class:`~contractive_gnn.dynamics.Diffusion`.
            About any other model nothing is proved, and the result says why.
        x: clean features ``[n, d]``.
        edge_index: ``[2, E]``, both orientations of every edge; unweighted.
        flips: which edges may be flipped; None for none.
        features: how features may change; None for not at all.

    Raises:
        ValueError: an edge list that is not undirected, or features that do not fit the budget.
    """
    start = time.perf_counter()
    model.eval()
    n = x.shape[0]
    with torch.no_grad():
        clean = model(x, edge_index)
        prediction = clean.argmax(dim=1)
        parts = take_apart(model)
        if isinstance(parts, str):
            nothing = torch.zeros(n, dtype=torch.bool)
            margin = torch.full((n,), -torch.inf, dtype=torch.float64)
            return Certificate(prediction, margin, nothing, parts, time.perf_counter() - start)
        double = take_apart(copy.deepcopy(model).double())
        assert isinstance(double, Parts)
        flips = FlipBudget.uniform(0, n) if flips is None else flips
        features = FeatureBudget() if features is None else features
        start_box = encoder_bounds(
            double.encoder, _dense(x).double(), features, rectify_last=double.rectify_last,
            unit_roundoff=parts.unit_roundoff,
        )  # fmt: skip
        box = diffuse(double, start_box, Neighbourhoods.of(edge_index, flips), parts.unit_roundoff)
        margin = worst_margins(box, prediction, double.decoder).amin(dim=1)
        few_enough = 2 * start_box.upper.shape[1] * n**2 <= _LARGEST_INFLUENCES
        if flips.total is not None and features.empty and double.decoder is None and few_enough:
            margin = torch.maximum(margin, _margins_within_total(double, start_box, edge_index, flips, prediction))
        if double.decoder is not None:
            size = torch.maximum(box.lower.abs(), box.upper.abs()).amax(dim=1)
            weight = double.decoder.weight.abs().sum(dim=1).amax() * size
            bias = 0.0 if double.decoder.bias is None else double.decoder.bias.abs().amax()
            margin = margin - 2 * (double.decoder.weight.shape[1] + 4) * parts.unit_roundoff * 1.01 * (weight + bias)
        certified = margin > 0
    return Certificate(prediction, margin, certified, "", time.perf_counter() - start)


def _margins_within_total(
    parts: Parts, start: Box, edge_index: Tensor, flips: FlipBudget, prediction: Tensor
) -> Tensor:
    """The least margins ``[n]`` within ``flips.total``; ``start`` holds the known start up to rounding errors."""
    centre = (start.lower + start.upper) / 2
    graph = Neighbourhoods.of(edge_index, flips)
    still = Neighbourhoods.of(edge_index, FlipBudget.uniform(0, len(centre)))
    harm = total_harm(
        centre, edge_index, flips, parts.dynamics.sigma,
        classes=prediction, mu=parts.dynamics.mu, step=parts.step, num_steps=parts.num_steps,
    )  # fmt: skip
    # a step does not enlarge an error in the max norm, nor the state itself
    error = (start.upper - start.lower).amax() / 2 + parts.num_steps * step_rounding(
        centre, centre, graph, parts.dynamics.sigma, parts.unit_roundoff
    ).amax()
    margins = worst_margins(diffuse(parts, Box.exact(centre), still, 0.0), prediction)
    return (margins - harm - 2 * error).amin(dim=1)


def _dense(x: Tensor) -> Tensor:
    return x if x.layout == torch.strided else x.to_dense()


def radii(model: nn.Module, x: Tensor, edge_index: Tensor, *, most: int, **budget: bool) -> Tensor:
    """The largest r ≤ ``most`` for which every node may be flipped r times and a node is still certified, ``[n]``.

    The radius is −1 where not even the unperturbed prediction is certain (a tie, or a model without a proof).

    Args:
        model: see :func:`certify`.
        x: clean features.
        edge_index: the clean graph.
        most: the largest budget to try.
        **budget: ``additions`` and ``deletions`` of :class:`FlipBudget`.
    """
    result = torch.full((x.shape[0],), -1, dtype=torch.long)
    for r in range(most + 1):
        # bounds grow with the budget: a node that fails at r fails beyond it
        held = certify(model, x, edge_index, flips=FlipBudget.uniform(r, x.shape[0], **budget)).certified
        if not bool(held.any()):
            break
        result[held] = r
    return result
