"""Certified training: the differentiable bound in the loss, and the epoch chosen by certified validation accuracy."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.certify.bounds import Box, Neighbourhoods
from contractive_gnn.certify.budget import FeatureBudget, FlipBudget
from contractive_gnn.certify.certificate import check_budget, diffuse, score_bounds, worst_margins
from contractive_gnn.certify.parts import Parts, take_apart
from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.inputs import InputError
from contractive_gnn.nn.flow import FlowGNN
from contractive_gnn.nn.sparse import compress, dropout
from contractive_gnn.seeding import seeded
from contractive_gnn.training import answers, check_classes, check_lesson, check_options, trainable


@dataclass(frozen=True)
class CertifiedFit:
    """What a certified fit did.

    Attributes:
        val_accuracy: clean accuracy on the validation nodes at the epoch that was kept, in percent.
        val_certified: certified accuracy there under the budget of the training, in percent.
        best_epoch: that epoch, from 0; -1 where none was run.
        epochs: how many were run.
        seconds: wall time.
    """

    val_accuracy: float
    val_certified: float
    best_epoch: int
    epochs: int
    seconds: float


def fit_certified(
    model: FlowGNN,
    data: Data,
    *,
    flips: FlipBudget,
    features: FeatureBudget | None = None,
    teacher: nn.Module | None = None,
    seed: int = 0,
    epochs: int = 200,
    lr: float = 0.01,
    weight_decay: float = 5e-4,
    weight: float = 0.0,
    warmup: int = 50,
    select: float = 0.5,
    every: int = 1,
    patience: int | None = None,
    on_epoch: Callable[[int, float, float], None] | None = None,
) -> CertifiedFit:
    r"""Draw the parameters anew under ``seed`` and train for clean and for certified accuracy.

    .. math::
        (1 - w_e)\, \mathrm{CE}(\text{scores}) + w_e\, \mathrm{CE}(-\text{worst margins}), \qquad
        w_e = w \min(1, e / \text{warmup})

    over the training nodes: the second part is the cross-entropy of the scores as the bound allows the attacker to move
    them (Wong and Kolter 2018; Gowal et al. 2018, whose schedule it is). The epoch that is kept has the largest
    ``(1 − select) · clean + select · certified`` accuracy on the validation nodes. With ``weight = 0`` there is no
    second part and only that choice looks at the bound. With a ``teacher`` both parts go over all nodes: its class
    probabilities take the place of the labels in the first, its likeliest classes in the second, but not at the
    training nodes.

    Args:
        model: a :class:`FlowGNN` with a diffusion.
        data: one graph with ``x``, ``edge_index``, ``y``, ``train_mask``, ``val_mask``.
        flips: what the attacker may do to the edges.
        features: what the attacker may do to the features; None for nothing.
        teacher: a fitted model, whose answers are learned. A certificate for nodes that the model has been taught about
            says nothing of others (Gosch et al., NeurIPS 2023).
        seed: of the parameters and of dropout; the global random state is left as it was.
        epochs: the most epochs to run.
        lr: learning rate of Adam.
        weight_decay: of Adam.
        weight: w, from 0 to 1.
        warmup: epochs until the worst case has its full weight.
        select: from 0 (clean accuracy) to 1 (certified accuracy).
        every: evaluate the bound on the validation nodes after this many epochs.
        patience: stop after this many epochs without a better one; None runs them all.
        on_epoch: called with an evaluated epoch and its clean and certified validation accuracy in percent.

    Raises:
        InputError: a graph that :mod:`contractive_gnn.inputs` refuses or that has weights, or a mask without nodes or
            with unlabelled ones.
        ValueError: a model that the bound does not cover, a weight outside [0, 1], or a teacher whose scores are not
            all finite.
        FloatingPointError: if the training loss is not finite.
    """
    check_real("weight", weight, least=0, most=1)
    check_real("select", select, least=0, most=1)
    check_whole("warmup", warmup, least=0)
    check_whole("every", every, least=1)
    check_options(model, seed=seed, epochs=epochs, lr=lr, weight_decay=weight_decay, patience=patience)
    data = trainable(data)
    if data.get("edge_weight") is not None:
        raise InputError("data has edge_weight, and a certificate is for unweighted graphs; delete it")
    parts = take_apart(model)
    if isinstance(parts, str):
        raise ValueError(f"this model cannot be trained for a certificate: {parts}")
    if parts.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the model is in {parts.dtype}, in which the bound is not trained for: take model.float()")
    start = time.perf_counter()
    features = FeatureBudget() if features is None else features
    check_budget(flips, data.x)
    graph = Neighbourhoods.of(data.edge_index, flips)
    x, train, val = compress(data.x), data.train_mask, data.val_mask
    y = data.y.clamp(min=0)  # those that are not known are not read
    dense = data.x if data.x.layout == torch.strided else data.x.to_dense()
    learned, target = train, y
    if teacher is not None:
        learned, target = torch.ones_like(train), answers(teacher, data)
        target[train] = nn.functional.one_hot(y[train], target.shape[1]).to(target.dtype)
    label = target if teacher is None else target.argmax(dim=1)

    def judged() -> tuple[float, float]:
        """Clean and certified accuracy on the validation nodes; a score that is no number is wrong."""
        model.eval()
        with torch.no_grad():
            scores = model(x, data.edge_index)[val]
            right = (scores.argmax(dim=1) == y[val]) & scores.isfinite().all(dim=1)
            bounds = score_bounds(parts, dense, graph, features)
            held = right & (worst_margins(bounds, y, parts.decoder)[val].amin(dim=1) > 0)
        return 100.0 * float(right.double().mean()), 100.0 * float(held.double().mean())

    best: tuple[float, float] = (-math.inf, -math.inf)
    epoch = -1
    with seeded(seed), torch.enable_grad():
        model.reset_parameters()
        kept = (-1, *((0.0, 0.0) if epochs else judged()), copy.deepcopy(model.state_dict()))
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
        for epoch in range(epochs):
            model.train()
            optimizer.zero_grad()
            share = weight * min(1.0, epoch / warmup) if warmup else weight
            scores = model(x, data.edge_index)
            if epoch == 0:
                check_classes(y[train | val], scores)
                check_lesson(target, scores)
            loss = (1 - share) * nn.functional.cross_entropy(scores[learned], target[learned])
            if share > 0:
                box = _training_bounds(model, parts, x, dense, graph, features)
                worst = -worst_margins(box, label, parts.decoder).scatter(1, label[:, None], 0.0)
                loss = loss + share * nn.functional.cross_entropy(worst[learned], label[learned])
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"the training loss is {float(loss)} at epoch {epoch}; lower the learning rate"
                )
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if epoch % every and epoch < epochs - 1:
                continue
            clean, certified = judged()
            key = ((1 - select) * clean + select * certified, -float(loss.detach()))
            if key > best:
                best, kept = key, (epoch, clean, certified, copy.deepcopy(model.state_dict()))
            if on_epoch is not None:
                on_epoch(epoch, clean, certified)
            if patience is not None and epoch - kept[0] >= patience:
                break
    model.load_state_dict(kept[3])
    model.eval()
    return CertifiedFit(kept[1], kept[2], kept[0], epoch + 1, time.perf_counter() - start)


def _training_bounds(
    model: FlowGNN, parts: Parts, x: Tensor, dense: Tensor, graph: Neighbourhoods, features: FeatureBudget
) -> Box:
    """Bounds of the scores as the loss sees them: with dropout, or, under a feature budget, without."""
    if not features.empty:
        return score_bounds(parts, dense, graph, features)
    state = model.encoder(dropout(x, model.dropout, training=True)).relu()
    if parts.decoder is None:
        state = model.decoder(dropout(state, model.dropout, training=True))
    return diffuse(parts, Box.exact(state), graph)[-1]
