"""Certified training: the differentiable bound in the loss, and the epoch chosen by certified validation accuracy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.certificates.bounds import Box, Neighbourhoods
from contractive_gnn.certificates.budget import FeatureBudget, FlipBudget
from contractive_gnn.certificates.certificate import check_budget, diffuse, score_bounds, worst_margins
from contractive_gnn.certificates.parts import Parts, take_apart
from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.inputs import InputError
from contractive_gnn.nn.flow import FlowGNN
from contractive_gnn.nn.sparse import dropout
from contractive_gnn.seeding import seeded
from contractive_gnn.training import answers, check_classes, check_lesson, trainable
from contractive_gnn.training.loop import Judgement, parameter_groups, train
from contractive_gnn.training.options import GivenLoopOptions, LoopOptions, options_of
from contractive_gnn.training.prediction import check_reads, compressed

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True, kw_only=True)
class CertifiedFitOptions(LoopOptions):
    """The options of :func:`fit_certified`.

    Attributes:
        weight: w, from 0 to 1.
        warmup: epochs until the worst case has its full weight.
        select: from 0 (clean accuracy) to 1 (certified accuracy).
        every: evaluate the bound on the validation nodes after this many epochs.

    Raises:
        TypeError: one is of another type.
        ValueError: one is out of its range.
    """

    weight: float = 0.0
    warmup: int = 50
    select: float = 0.5
    every: int = 1

    def __post_init__(self) -> None:
        check_real("weight", self.weight, least=0, most=1)
        check_real("select", self.select, least=0, most=1)
        check_whole("warmup", self.warmup, least=0)
        check_whole("every", self.every, least=1)
        super().__post_init__()


class GivenCertifiedOptions(GivenLoopOptions, total=False):
    """Those of :class:`CertifiedFitOptions` by name, any of them."""

    weight: float
    warmup: int
    select: float
    every: int


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
    options: CertifiedFitOptions | None = None,
    *,
    flips: FlipBudget,
    features: FeatureBudget | None = None,
    seed: int = 0,
    on_epoch: Callable[[int, float, float], None] | None = None,
    **given: Unpack[GivenCertifiedOptions],
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

    The loop is that of :func:`contractive_gnn.training.fit`.

    Args:
        model: a :class:`FlowGNN` with a diffusion.
        data: one graph with ``x``, ``edge_index``, ``y``, ``train_mask``, ``val_mask``.
        options: see :class:`CertifiedFitOptions`; or give them one by one, ``epochs=50, weight=0.5``. A certificate for
            nodes that the model has been taught about by a ``teacher`` says nothing of others (Gosch et al., NeurIPS
            2023).
        flips: what the attacker may do to the edges.
        features: what the attacker may do to the features; None for nothing.
        seed: of the parameters and of dropout; the global random state is left as it was.
        on_epoch: called with an evaluated epoch and its clean and certified validation accuracy in percent.
        **given: options by name.

    Raises:
        InputError: a graph that :mod:`contractive_gnn.inputs` refuses or that has weights, or a mask without nodes or
            with unlabelled ones.
        TypeError: see :class:`CertifiedFitOptions`.
        ValueError: a model that the bound does not cover, a weight outside [0, 1], or a teacher whose scores are not
            all finite.
        FloatingPointError: if the training loss is not finite.
    """
    options = options_of(CertifiedFitOptions, options, given)
    check_whole("seed", seed, least=0, below=2**63)
    data = trainable(data)
    if data.get("edge_weight") is not None:
        raise InputError("data has edge_weight, and a certificate is for unweighted graphs; delete it")
    parts = take_apart(model)
    if isinstance(parts, str):
        raise ValueError(f"this model cannot be trained for a certificate: {parts}")
    if parts.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the model is in {parts.dtype}, in which the bound is not trained for: take model.float()")
    parameter_groups(model, options.lr, options.weight_decay)
    check_reads(model, data)
    start = time.perf_counter()
    check_budget(flips, data.x)
    dense = data.x if data.x.layout == torch.strided else data.x.to_dense()
    worst = _WorstCase(
        model=model,
        parts=parts,
        data=compressed(data),
        dense=dense,
        graph=Neighbourhoods.of(data.edge_index, flips),
        features=FeatureBudget() if features is None else features,
        options=options,
    )
    with seeded(seed), torch.enable_grad():
        kept = train(
            model,
            worst.data,
            options,
            seed=seed,
            objective=worst.objective(),
            judge=worst.judge,
            on_epoch=on_epoch,
            every=options.every,
        )
    return CertifiedFit(*kept.judgement.figures, kept.epoch, kept.epochs, time.perf_counter() - start)


@dataclass(frozen=True, eq=False)
class _WorstCase:
    """A model and what the attacker may do to it.

    Attributes:
        data: the graph, with x compressed.
        dense: x.
        graph: what the attacker may do to the edges.
    """

    model: FlowGNN
    parts: Parts
    data: Data
    dense: Tensor
    graph: Neighbourhoods
    features: FeatureBudget
    options: CertifiedFitOptions

    @property
    def y(self) -> Tensor:
        """Labels; those that are not known are not read."""
        return self.data.y.clamp(min=0)  # type: ignore[no-any-return]

    def objective(self) -> Callable[[Tensor, int], Tensor]:
        """The loss of class scores at an epoch."""
        options, train, y = self.options, self.data.train_mask, self.y
        learned, target = train, y
        if options.teacher is not None:
            learned, target = torch.ones_like(train), answers(options.teacher, self.data)
            target[train] = nn.functional.one_hot(y[train], target.shape[1]).to(target.dtype)
        label = target if options.teacher is None else target.argmax(dim=1)

        def loss(scores: Tensor, epoch: int) -> Tensor:
            if epoch == 0:
                check_classes(y[train | self.data.val_mask], scores)
                check_lesson(target, scores)
            share = options.weight * min(1.0, epoch / options.warmup) if options.warmup else options.weight
            clean = (1 - share) * nn.functional.cross_entropy(scores[learned], target[learned])
            if share <= 0:
                return clean
            margins = worst_margins(self._bounds(), label, self.parts.decoder)
            worst = -margins.scatter(1, label[:, None], 0.0)
            return clean + share * nn.functional.cross_entropy(worst[learned], label[learned])

        return loss

    def _bounds(self) -> Box:
        """Bounds of the scores as the loss sees them: with dropout, or, under a feature budget, without."""
        if not self.features.empty:
            return score_bounds(self.parts, self.dense, self.graph, self.features)
        model = self.model
        state = model.encoder(dropout(self.data.x, model.dropout, training=True)).relu()
        if self.parts.decoder is None:
            state = model.decoder(dropout(state, model.dropout, training=True))
        return diffuse(self.parts, Box.exact(state), self.graph)[-1]

    def judge(self, loss: Tensor) -> Judgement:
        """By clean and certified accuracy on the validation nodes; a score that is no number is wrong."""
        val, y = self.data.val_mask, self.y
        scores = self.model(self.data.x, self.data.edge_index)[val]
        right = (scores.argmax(dim=1) == y[val]) & scores.isfinite().all(dim=1)
        bounds = score_bounds(self.parts, self.dense, self.graph, self.features)
        held = right & (worst_margins(bounds, y, self.parts.decoder)[val].amin(dim=1) > 0)
        clean, certified = 100.0 * float(right.double().mean()), 100.0 * float(held.double().mean())
        select = self.options.select
        return Judgement(((1 - select) * clean + select * certified, -float(loss)), (clean, certified))
