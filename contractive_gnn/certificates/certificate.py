"""The certificate: which predictions no attacker within the budget can change."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn import inputs
from contractive_gnn.certificates.bounds import Box, Neighbourhoods, diffusion_bounds, step_rounding
from contractive_gnn.certificates.budget import FeatureBudget, FlipBudget
from contractive_gnn.certificates.consistency import holds_clean, margins_hold_clean
from contractive_gnn.certificates.encoder import affine_bounds, encoder_bounds
from contractive_gnn.certificates.parts import Parts, take_apart
from contractive_gnn.certificates.rounding import Unproved, affine_rounding
from contractive_gnn.certificates.total import total_harm
from contractive_gnn.checks import check_whole
from contractive_gnn.heap import kept_memory
from contractive_gnn.nn.evaluation import evaluating
from contractive_gnn.training.prediction import check_reads, class_scores

#: entries of the influences in a certificate for a total number of flips: 1.6 GB of them
_LARGEST_INFLUENCES = 200_000_000


@dataclass(frozen=True, eq=False, repr=False)
class Certificate:
    """What is proved about a model's predictions on one graph; on the CPU.

    Attributes:
        prediction: the clean prediction of every node, int64 ``[n]``.
        margin: a lower bound of the predicted class's score minus any other's, over everything the attacker may do,
            ``[n]``; −inf where nothing is proved.
        certified: ``margin > 0``: no perturbation within the budget changes the prediction, bool ``[n]``.
        reason: why nothing is proved about this model; empty where something is.
        seconds: wall time.

    Raises:
        ValueError: parts that contradict each other: another number of nodes, a node that is certified with a margin
            that is not positive, or in spite of a reason against it.
    """

    prediction: Tensor
    margin: Tensor
    certified: Tensor
    reason: str
    seconds: float

    def __post_init__(self) -> None:
        if not (self.prediction.shape == self.margin.shape == self.certified.shape and self.margin.dim() == 1):
            shapes = [list(part.shape) for part in (self.prediction, self.margin, self.certified)]
            raise ValueError(f"prediction, margin and certified must have one entry for every node, got {shapes}")
        if bool((self.certified & ~(self.margin > 0)).any()) or (self.reason and bool(self.certified.any())):
            raise ValueError(
                "a node may be certified only with a positive margin, and where there is no reason against it: got the "
                f"reason {self.reason!r} and the margins {self.margin[self.certified][:5].tolist()}"
            )

    def __repr__(self) -> str:
        """One line; the tensors are attributes."""
        why = f", reason={self.reason!r}" if self.reason else ""
        count = f"{int(self.certified.sum())} of {len(self.certified)}"
        return f"{type(self).__name__}({count} predictions certified{why})"

    @classmethod
    def refused(cls, prediction: Tensor, reason: str, seconds: float) -> Certificate:
        """Nothing is proved, and why."""
        nothing = torch.zeros(len(prediction), dtype=torch.bool)
        margin = torch.full((len(prediction),), -torch.inf, dtype=torch.float64)
        return cls(prediction, margin, nothing, reason, seconds)

    def accuracy(self, y: Tensor, mask: Tensor) -> float:
        """Certified accuracy: percent of the nodes of ``mask`` that are right, and certified to stay so.

        Args:
            y: labels, ``[n]`` or ``[n, 1]``.
            mask: bool ``[n]``, or the indices of the nodes; of each the label must be known.

        Raises:
            InputError: what :mod:`contractive_gnn.inputs` refuses.
        """
        n = len(self.prediction)
        labels, chosen = inputs.class_labels(y, n).cpu(), inputs.node_mask(mask, n).cpu()
        inputs.check_known(labels, chosen)
        return 100.0 * float((self.certified & (self.prediction == labels))[chosen].double().mean())


def score_bounds(parts: Parts, x: Tensor, graph: Neighbourhoods, features: FeatureBudget) -> Box:
    """Bounds of the state after the diffusion (the class scores where there is no decoder), without rounding slack.

    Differentiable in the parameters of the model: the worst-case loss of certified training reads it.
    """
    start = encoder_bounds(parts.encoder, x, features, rectify_last=parts.rectify_last)
    return diffuse(parts, start, graph)[-1]


def diffuse(
    parts: Parts, start: Box, graph: Neighbourhoods, *, dtype: torch.dtype | None = None, keep: bool = False
) -> list[Box]:
    """Bounds of the state in the diffusion from bounds of its start; see :func:`.diffusion_bounds`."""
    return diffusion_bounds(
        start,
        graph,
        parts.dynamics.sigma,
        mu=parts.dynamics.mu,
        step=parts.step,
        num_steps=parts.num_steps,
        dtype=dtype,
        keep=keep,
    )


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


@kept_memory()
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
    and widened by a bound of the rounding errors of the model in its own precision (docs/certificates.md). It is
    checked against the model itself (:mod:`.consistency`); where they disagree, and where a hypothesis of the proof
    does not hold, nothing is certified and ``reason`` says why. Any other model is certified by randomised smoothing:
    ``contractive_gnn.certificates.smoothed.certify_smoothed``.

    A ``total`` of the flips lowers every node's budget to it; on class scores, with no change of the features and up to
    some thousand nodes, the bound of :mod:`.total` is tried as well, which takes about a hundred times as long.

    Args:
        model: trained; a :class:`~contractive_gnn.nn.FlowGNN` with a :class:`~contractive_gnn.dynamics.Diffusion`,
            neither subclassed nor altered by hooks. About any other model nothing is proved, and the result says why.
            It is asked in evaluation mode; its own mode is put back.
        x: clean features ``[n, d]``, finite, of the model's dtype and on its device.
        edge_index: ``[2, E]``, both orientations of every edge, or a sparse matrix of ones; unweighted.
        flips: which edges may be flipped; None for none.
        features: how features may change; None for not at all.

    Raises:
        InputError: features or a graph that :mod:`contractive_gnn.inputs` refuses, or that are not of the model's
            dtype and device.
        ValueError: features or a graph that do not fit the budget.
    """
    start = time.perf_counter()
    x = inputs.features(x)
    edge_index = inputs.undirected(x, edge_index, weighted=False).edge_index
    flips = FlipBudget.uniform(0, len(x)) if flips is None else flips
    features = FeatureBudget() if features is None else features
    check_budget(flips, x)
    if not isinstance(features, FeatureBudget):
        raise TypeError(f"features must be a FeatureBudget, got {features!r}; write FeatureBudget(linf=0.1)")
    with torch.no_grad(), evaluating(model):
        scores = clean_scores(model, x, edge_index)
        prediction, parts = scores.argmax(dim=1), take_apart(model)
        try:
            if isinstance(parts, str):
                raise Unproved(parts)
            margin = _margins(parts.in_double(), x.cpu(), edge_index.cpu(), flips, features, scores)
        except Unproved as why:
            return Certificate.refused(prediction, str(why), time.perf_counter() - start)
    return Certificate(prediction, margin, margin > 0, "", time.perf_counter() - start)


def check_budget(flips: FlipBudget, x: Tensor) -> None:
    """Raise TypeError for another thing than a budget, ValueError for one for another number of nodes."""
    if not isinstance(flips, FlipBudget):
        raise TypeError(f"flips must be a FlipBudget, got {flips!r}; write FlipBudget.uniform(1, num_nodes)")
    if flips.per_node.numel() != len(x):
        raise ValueError(f"the budget is for {flips.per_node.numel()} nodes, x has {len(x)}; give each node its own")


def clean_scores(model: nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    """The model's own scores in float64, on the CPU, ``[n, classes]``.

    Raises:
        InputError: features that are not of its dtype, device and width, a forward of another form, or an answer of
            another shape.
    """
    data = Data(x=x, edge_index=edge_index)
    check_reads(model, data)
    return class_scores(model, data).double().cpu()


def _margins(
    parts: Parts, x: Tensor, edge_index: Tensor, flips: FlipBudget, features: FeatureBudget, clean: Tensor
) -> Tensor:
    """The least margins ``[n]`` within the budget, once they agree with the clean scores.

    Raises:
        Unproved: nothing is proved, for the reason that is its text.
    """
    if not len(x):
        raise Unproved("the graph has no nodes")
    x, prediction = _dense(x).double(), clean.argmax(dim=1)

    def encoded(budget: FeatureBudget) -> Box:
        return encoder_bounds(parts.encoder, x, budget, rectify_last=parts.rectify_last, dtype=parts.dtype)

    exact = encoded(FeatureBudget())
    start = exact if features.empty else encoded(features)
    margin = clean.new_zeros(0)
    for what, box, budget in (
        ("the clean graph", exact, FlipBudget.uniform(0, len(x))),
        ("the graphs within the budget", start, flips),
    ):
        box = diffuse(parts, box, Neighbourhoods.of(edge_index, budget), dtype=parts.dtype)[-1]
        margins, rounding, scores = worst_margins(box, prediction, parts.decoder), clean.new_zeros(clean.shape), box
        if parts.decoder is not None:
            weight, bias = parts.decoder.weight, parts.decoder.bias
            size = torch.maximum(box.lower.abs(), box.upper.abs())
            rounding = affine_rounding(weight, bias, size, weight.shape[1] + 4, parts.dtype)
            scores = affine_bounds(parts.decoder, box).widened(rounding)
        holds_clean(scores, clean, what)
        margin = (margins - rounding - rounding.gather(1, prediction[:, None])).amin(dim=1)
    few_enough = 2 * start.upper.shape[1] * len(x) ** 2 <= _LARGEST_INFLUENCES
    if flips.total is not None and features.empty and parts.decoder is None and few_enough:
        margin = torch.maximum(margin, _margins_within_total(parts, start, edge_index, flips, prediction))
    margins_hold_clean(margin, clean)
    return margin


def _margins_within_total(
    parts: Parts, start: Box, edge_index: Tensor, flips: FlipBudget, prediction: Tensor
) -> Tensor:
    """The least margins ``[n]`` within ``flips.total``; ``start`` holds the known start up to rounding errors."""
    centre = (start.lower + start.upper) / 2
    graph = Neighbourhoods.of(edge_index, flips)
    still = Neighbourhoods.of(edge_index, FlipBudget.uniform(0, len(centre)))
    sigma, mu = parts.dynamics.sigma, parts.dynamics.mu
    harm = total_harm(
        centre, edge_index, flips, sigma, classes=prediction, mu=mu, step=parts.step, num_steps=parts.num_steps
    )
    # a step does not enlarge an error in the max norm, and makes one of its own at a state within the bounds
    error = (start.upper - start.lower).amax() / 2
    anchor = torch.maximum(start.lower.abs(), start.upper.abs()).amax()
    for box in diffuse(parts, start, graph, dtype=parts.dtype, keep=True)[:-1]:
        size = torch.maximum(torch.maximum(box.lower.abs(), box.upper.abs()).amax(), anchor)
        error = error + step_rounding(size, graph, sigma, mu=mu, dtype=parts.dtype).amax()
    margins = worst_margins(diffuse(parts, Box.exact(centre), still)[-1], prediction)
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

    Raises:
        InputError, ValueError: see :func:`certify`.
    """
    check_whole("most", most, least=0)
    n = x.shape[0]
    result = torch.full((n,), -1, dtype=torch.long)
    for r in range(min(most, n - 1) + 1):
        # bounds grow with the budget: a node that fails at r fails beyond it
        held = certify(model, x, edge_index, flips=FlipBudget.uniform(r, n, **budget)).certified
        if not bool(held.any()):
            break
        result[held] = most if r == n - 1 else r  # n − 1 flips at every node are all that there are
    return result
