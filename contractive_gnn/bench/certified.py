"""One model and seed of ``contractive-gnn certify``, and its results: three ways to a certificate.

===================== ============================= ============================= ====================================
model                 training                      certificate                   budget
===================== ============================= ============================= ====================================
a preset "certified…" :func:`.fit_certified`        bounds of an ℓ∞ diffusion     flips at every node at once
an ℓ∞ diffusion       as in the benchmark           the same                      the same
any other             as there, on noisy graphs     randomised smoothing          flips in the whole graph
===================== ============================= ============================= ====================================
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn import training
from contractive_gnn.bench import own_models
from contractive_gnn.bench.presets import preset_names
from contractive_gnn.bench.protocol import Protocol
from contractive_gnn.bench.results import (
    CERTIFICATE,
    BudgetUnit,
    Cell,
    Result,
    current_commit,
    current_versions,
    digest,
)
from contractive_gnn.bench.runner import check_model, train, train_teacher
from contractive_gnn.certificates import Certificate, FeatureBudget, FlipBudget
from contractive_gnn.certificates import certify as certificate_of
from contractive_gnn.certificates.attack import EmpiricalAttack, run
from contractive_gnn.certificates.parts import take_apart
from contractive_gnn.certificates.smoothed import (
    ALPHA,
    CHOOSE,
    NOISE,
    SAMPLES,
    NoisyEdges,
    SmoothedCertificate,
    certify_smoothed,
    declares_training,
)
from contractive_gnn.certificates.smoothing import SparseNoise
from contractive_gnn.certificates.training import fit_certified
from contractive_gnn.nn import FlowGNN, linf_diffusion
from contractive_gnn.seeding import seeded
from contractive_gnn.training import evaluate

BOUNDS = "interval bounds"
OWNER = ("dataset", "split", "split_seed", "model", "hyperparameters", "certificate", "feature_flips", "seed")


@dataclass(frozen=True)
class CertifiedResult(Result):
    """A certificate as a line of the results file: its ``accuracy`` is certified, a bound for every attack at once.

    Attributes:
        certified_accuracy: percent of the test nodes that are right and cannot be changed within the budget; equal to
            ``accuracy``.
        certify_s: seconds of the certificate (wall clock).
        val_accuracy: clean accuracy on the validation nodes.
        val_certified: certified accuracy there, under one flip and the flipped entries at every node; chose the epoch.
            Of randomised smoothing, under one flip in the whole graph.
        reason: why nothing is proved; empty where something is.
        attacked_predictions: how many predictions attacks were tried on (0: none were asked for).
        broken: certified predictions that they changed.
        unchanged_accuracy: percent of the test nodes that are right and that no attack changed: no certificate can be
            above it. None without attacks.
        method: of the certificate; "interval bounds" in lines that do not say.
    """

    certified_accuracy: float
    certify_s: float
    val_accuracy: float
    val_certified: float
    reason: str
    attacked_predictions: int
    broken: int
    unchanged_accuracy: float | None
    method: str = field(default=BOUNDS, kw_only=True)


@dataclass(frozen=True)
class Asked:
    """What is asked of a certificate, beside its budgets.

    Attributes:
        kind: "both", "additions" or "deletions".
        feature_flips: flipped features at every node.
        attack_predictions: how many attacked predictions to look at; 0 for no attack.
        noise: of randomised smoothing.
        samples: of randomised smoothing.
    """

    kind: str = "both"
    feature_flips: int = 0
    attack_predictions: int = 0
    noise: SparseNoise = NOISE
    samples: int = SAMPLES

    @property
    def additions(self) -> bool:
        """Whether edges may be added."""
        return self.kind != "deletions"

    @property
    def deletions(self) -> bool:
        """Whether edges may be deleted."""
        return self.kind != "additions"


class Proved(NamedTuple):
    """What a certificate says of one budget.

    Attributes:
        prediction: int64 ``[n]``.
        certified: bool ``[n]``.
        reason: why nothing is proved; empty where something is.
        seconds: wall time.
        bounds: the whole certificate, of interval bounds.
    """

    prediction: Tensor
    certified: Tensor
    reason: str
    seconds: float
    bounds: Certificate | None = None


@dataclass
class Unit(ABC):
    """One model and seed."""

    protocol: Protocol
    data: Data
    model: str
    seed: int
    asked: Asked

    #: what the budgets count from which the radii are made
    counted: ClassVar[BudgetUnit] = "edges per node"
    certificate: ClassVar[str] = CERTIFICATE

    @property
    def settings(self) -> dict[str, Any]:
        """What, beside the budget, decides the certificate."""
        settings: dict[str, Any] = {"kind": self.asked.kind, "feature_flips": self.asked.feature_flips}
        if self.asked.attack_predictions:
            settings["predictions"] = self.asked.attack_predictions
        return settings

    @property
    @abstractmethod
    def method(self) -> str:
        """The name of the certificate's method."""

    def cell(self, amount: float | int, unit: BudgetUnit) -> Cell:
        """The line of the results for one budget."""
        kind = self.asked.kind
        return Cell(
            dataset=self.protocol.dataset,
            split=self.data.split,
            split_seed=self.protocol.split_seed,
            model=self.model,
            attack=self.certificate if kind == "both" else f"{self.certificate}-{kind}",
            threat="evasion",
            budget=amount,
            budget_unit=unit,
            seed=self.seed,
            hyperparameters={**self.protocol.model_identity(self.model), "attack": self.settings},
        )

    @cached_property
    def owner(self) -> dict[str, str]:
        """The columns of ``radii.csv`` that say what was certified."""
        cell, learned = self.cell(0, self.counted), self.protocol.model_identity(self.model)
        where = cell.dataset, cell.split, cell.split_seed, cell.model, digest(learned)
        return dict(zip(OWNER, map(str, (*where, cell.attack, self.asked.feature_flips, cell.seed)), strict=True))

    def owns(self, row: Mapping[str, str]) -> bool:
        """Whether a line of ``radii.csv`` is about this."""
        return self.owner.items() <= row.items()

    @abstractmethod
    def train(self) -> None:
        """Build the model and fit it; sets ``train_s`` and ``clean``, the accuracy on the test nodes."""

    @abstractmethod
    def certify(self, cell: Cell) -> Proved:
        """The certificate under the budget of a cell."""

    @abstractmethod
    def validation(self) -> tuple[float, float]:
        """Clean and certified accuracy in percent on the validation nodes, under a budget of 1."""

    def attacked(self, cell: Cell, proved: Proved) -> EmpiricalAttack | None:
        """What attacks do to it, where they were asked for."""
        return None

    def result(self, cell: Cell, proved: Proved) -> CertifiedResult:
        """The certificate with what attacks do to it."""
        data = self.data
        start = time.perf_counter()
        attacked = self.attacked(cell, proved)
        attack_s = time.perf_counter() - start if attacked is not None else 0.0
        right = proved.prediction == data.y
        certified = percent(right & proved.certified, data.test_mask)
        val_accuracy, val_certified = self.validation()
        commit, changes = current_commit()
        return CertifiedResult(
            **{name: getattr(cell, name) for name in Cell.__dataclass_fields__},
            accuracy=certified,
            clean_accuracy=self.clean,
            evaluated_on="test",
            n_evaluated=int(data.test_mask.sum()),
            attack_source="generated",
            flips=0,
            unreliable=[],
            train_s=self.train_s,
            attack_s=attack_s,
            commit=commit,
            uncommitted_changes=changes,
            versions=current_versions(),
            certified_accuracy=certified,
            certify_s=proved.seconds,
            val_accuracy=val_accuracy,
            val_certified=val_certified,
            reason=proved.reason,
            attacked_predictions=attacked.predictions if attacked is not None else 0,
            broken=attacked.broken if attacked is not None else 0,
            unchanged_accuracy=None if attacked is None else percent(right & ~attacked.changed, data.test_mask),
            method=self.method,
        )

    train_s: float = field(default=0.0, init=False)
    clean: float = field(default=0.0, init=False)


@dataclass
class FittedUnit(Unit):
    """A model that the bounds cover, fitted as in the benchmark."""

    @property
    def method(self) -> str:
        """The name of the certificate's method."""
        return BOUNDS

    def train(self) -> None:
        """See :meth:`Unit.train`."""
        trained = train(self.protocol, self.model, self.data, seed=self.seed)
        self.net, self.train_s = trained.model, trained.seconds
        self.clean = evaluate(self.net, self.data, self.data.test_mask)

    @property
    def features(self) -> FeatureBudget:
        """What may be done to the features."""
        return FeatureBudget(flips=self.asked.feature_flips)

    def budget(self, cell: Cell) -> FlipBudget:
        """What may be done to the edges."""
        n = self.data.num_nodes
        allowed = {"additions": self.asked.additions, "deletions": self.asked.deletions}
        if cell.budget_unit == "edges per node":
            return FlipBudget.uniform(int(cell.budget), n, **allowed)
        if cell.budget_unit == "edges in all":
            return FlipBudget.uniform(int(cell.budget), n, total=int(cell.budget), **allowed)
        return FlipBudget.fraction(cell.budget, self.data.edge_index, n, **allowed)

    def certify(self, cell: Cell) -> Proved:
        """See :meth:`Unit.certify`."""
        found = self._certificate(self.budget(cell))
        return Proved(found.prediction, found.certified, found.reason, found.seconds, found)

    def _certificate(self, flips: FlipBudget) -> Certificate:
        return certificate_of(self.net, self.data.x, self.data.edge_index, flips=flips, features=self.features)

    def validation(self) -> tuple[float, float]:
        """See :meth:`Unit.validation`."""
        data = self.data
        one = self._certificate(FlipBudget.uniform(1, data.num_nodes))
        return evaluate(self.net, data, data.val_mask), one.accuracy(data.y, data.val_mask)

    def attacked(self, cell: Cell, proved: Proved) -> EmpiricalAttack | None:
        """See :meth:`Unit.attacked`."""
        if not self.asked.attack_predictions:
            return None
        assert proved.bounds is not None
        return run(
            self.net, self.data.x, self.data.edge_index, proved.bounds, flips=self.budget(cell),
            features=self.features, predictions=self.asked.attack_predictions, seed=self.seed,
        )  # fmt: skip


@dataclass
class PresetUnit(FittedUnit):
    """A preset whose training aims at the certificate."""

    def train(self) -> None:
        """See :meth:`Unit.train`."""
        settings = self.protocol.model_hyperparameters(self.model)
        n = self.data.num_nodes
        net: FlowGNN = linf_diffusion(self.data.num_features, int(self.data.y.max()) + 1, **settings["model"])
        start = time.perf_counter()
        taught = train_teacher(settings["training"], self.data, seed=self.seed)
        options = {**settings["training"], "teacher": taught.model if taught else None}
        self.fit = fit_certified(
            net, self.data, flips=FlipBudget.uniform(1, n), features=self.features, seed=self.seed, **options
        )
        self.train_s = time.perf_counter() - start
        self.net = net
        self.clean = evaluate(net, self.data, self.data.test_mask)

    def validation(self) -> tuple[float, float]:
        """See :meth:`Unit.validation`."""
        return self.fit.val_accuracy, self.fit.val_certified


@dataclass
class SmoothedUnit(Unit):
    """Any model, smoothed over noise of the edges."""

    counted: ClassVar[BudgetUnit] = "edges in all"
    certificate: ClassVar[str] = f"{CERTIFICATE}-smoothing"

    @property
    def settings(self) -> dict[str, Any]:
        """What, beside the budget, decides the certificate."""
        noise = {"add": self.asked.noise.add, "delete": self.asked.noise.delete}
        return {**super().settings, "noise": noise, "choose": CHOOSE, "samples": self.asked.samples, "alpha": ALPHA}

    @property
    def method(self) -> str:
        """The name of the certificate's method."""
        return self.smoothed.method

    def train(self) -> None:
        """See :meth:`Unit.train`. A model that declares a training of its own is fitted on the clean graph."""
        own_models.use(self.protocol.own_models)
        preset, data, start = self.protocol.model_hyperparameters(self.model), self.data, time.perf_counter()
        with seeded(self.seed):
            net: nn.Module = own_models.build(self.model, data.num_features, int(data.y.max()) + 1, **preset["model"])
        if declares_training(net):
            net = train(self.protocol, self.model, data, seed=self.seed).model
        else:
            taught = train_teacher(preset["training"], data, seed=self.seed)
            options = {**preset["training"], "teacher": taught.model if taught else None}
            training.fit(NoisyEdges(net, self.asked.noise, seed=self.seed), data, seed=self.seed, **options)
        self.train_s = time.perf_counter() - start
        self.smoothed: SmoothedCertificate = certify_smoothed(
            net, data, noise=self.asked.noise, samples=self.asked.samples, seed=self.seed
        )
        self.clean = percent(self.smoothed.prediction == data.y, data.test_mask)

    def _certified(self, flips: int) -> Tensor:
        return self.smoothed.certified(flips, additions=self.asked.additions, deletions=self.asked.deletions)

    def certify(self, cell: Cell) -> Proved:
        """See :meth:`Unit.certify`."""
        flips = int(cell.budget)
        reason = self.smoothed.reason(flips, additions=self.asked.additions, deletions=self.asked.deletions)
        return Proved(self.smoothed.prediction, self._certified(flips), reason, self.smoothed.seconds)

    def validation(self) -> tuple[float, float]:
        """See :meth:`Unit.validation`."""
        right, mask = self.smoothed.prediction == self.data.y, self.data.val_mask
        return percent(right, mask), percent(right & self._certified(1), mask)


def way(protocol: Protocol, model: str, data: Data) -> tuple[type[Unit], str]:
    """How the model can be certified, and a note of why it is not by the bounds of a preset.

    Raises:
        ProtocolError: a model that cannot be built or fitted.
    """
    if model in preset_names() and model.startswith("certified"):
        return PresetUnit, ""
    built = check_model(model, protocol.model_hyperparameters(model), data)
    parts = take_apart(built)
    if not isinstance(parts, str):
        return FittedUnit, f"{model} is fitted as in the benchmark, not for the certificate; --model certified is"
    own = own_models.note(model, built)
    how = "on the clean graph, since it declares a training of its own" if declares_training(built) else "on noisy ones"
    note = (
        f"{model}: no bound covers it ({parts}). Certified is what it says most often on noisy graphs (randomised "
        f"smoothing; it is fitted {how}), for flips in the whole graph and not at every node, each node with a "
        f"confidence of {100 * (1 - ALPHA):g} %."
    )
    return SmoothedUnit, " ".join(filter(None, (own, note)))


def percent(chosen: Tensor, mask: Tensor) -> float:
    """Of the nodes of a mask those that are chosen, in percent."""
    return 100.0 * float(chosen[mask].double().mean())
