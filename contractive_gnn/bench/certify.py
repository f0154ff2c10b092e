"""The body of ``contractive-gnn certify``: train a preset, certify it, attack the certificate, write it all down."""

from __future__ import annotations

import csv
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any, cast

import torch
import typer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.bench.plots import COLOURS, Picture
from contractive_gnn.bench.presets import preset_names
from contractive_gnn.bench.protocol import Override, Protocol, ProtocolError, check_names
from contractive_gnn.bench.results import (
    CERTIFICATE,
    RESULTS,
    BudgetUnit,
    Cell,
    Result,
    ResultsFile,
    check_kind,
    current_commit,
    current_versions,
    digest,
    replacing,
)
from contractive_gnn.bench.runner import check_teacher, train_teacher
from contractive_gnn.bench.summary import number, spread
from contractive_gnn.certificates import Certificate, FeatureBudget, FlipBudget
from contractive_gnn.certificates import attack as empirical
from contractive_gnn.certificates import certify as certificate_of
from contractive_gnn.certificates.training import CertifiedFit, CertifiedFitOptions, fit_certified
from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.datasets import DATASETS
from contractive_gnn.datasets.registry import Split
from contractive_gnn.names import unknown
from contractive_gnn.nn import FlowGNN, linf_diffusion
from contractive_gnn.training import evaluate

RADII = "radii.csv"
RADII_COLUMNS = [
    *("dataset", "split", "split_seed", "model", "hyperparameters", "certificate", "feature_flips", "seed"),
    *("node", "label", "prediction", "radius", "largest_tried"),
]
KINDS = ("both", "additions", "deletions")


@dataclass(frozen=True)
class CertifiedResult(Result):
    """A certificate as a line of the results file: its ``accuracy`` is certified, a bound for every attack at once.

    Attributes:
        certified_accuracy: percent of the test nodes that are right and cannot be changed within the budget; equal to
            ``accuracy``.
        certify_s: seconds of the certificate (wall clock).
        val_accuracy: clean accuracy on the validation nodes.
        val_certified: certified accuracy there, under one flip and the flipped entries at every node; chose the epoch.
        reason: why nothing is proved; empty where something is.
        attacked_predictions: how many predictions attacks were tried on (0: none were asked for).
        broken: certified predictions that they changed.
        unchanged_accuracy: percent of the test nodes that are right and that no attack changed: no certificate can be
            above it. None without attacks.
    """

    certified_accuracy: float
    certify_s: float
    val_accuracy: float
    val_certified: float
    reason: str
    attacked_predictions: int
    broken: int
    unchanged_accuracy: float | None


def run(
    *,
    dataset: str,
    model: str,
    flips: int,
    fraction: float | None,
    total: int | None,
    feature_flips: int,
    kind: str,
    seeds: int,
    attack_predictions: int,
    split: str,
    split_seed: int,
    overrides: Sequence[str],
    root: Path | None,
    out: Path,
) -> int:
    """Do what the command says; returns how many certified predictions an attack changed.

    Raises:
        ProtocolError: an option that makes no sense.
    """
    check_names("dataset", [dataset], DATASETS)
    if kind not in KINDS:
        raise ProtocolError(f"--kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    for option, value, least in (
        ("--flips", flips, 1),
        ("--feature-flips", feature_flips, 0),
        ("--seeds", seeds, 1),
        ("--total", 1 if total is None else total, 1),
        ("--attack-predictions", attack_predictions, 0),
    ):
        check_whole(option, value, least=least)
    if fraction is not None:
        check_real("--fraction", fraction, above=0)
    check_names("preset for a certificate", [model], [name for name in preset_names() if name.startswith("certified")])
    protocol = Protocol(
        dataset=dataset,
        models=(model,),
        attacks=(),
        seeds=tuple(range(seeds)),
        split=cast(Split, split),
        split_seed=split_seed,
        overrides=tuple(map(Override.parse, overrides)),
        root=root,
    )
    for override in protocol.overrides:
        if override.subject not in (None, model) or override.section == "attack":
            raise ProtocolError(f"--set {override}: expected model.KEY=VALUE or training.KEY=VALUE")
        if override.key not in _TAKEN[override.section]:
            kind = f"{override.section} hyperparameter"
            raise ProtocolError(f"--set {override}: {unknown(kind, [override.key], _TAKEN[override.section])}")
    data = protocol.load()
    check_teacher(model, protocol.model_hyperparameters(model)["training"], data)
    budgets: list[tuple[float | int, BudgetUnit]] = [(r, "edges per node") for r in range(1, flips + 1)]
    if fraction is not None:
        budgets.append((fraction, "fraction of each degree"))
    if total is not None:
        budgets.append((total, "edges in all"))
    with ResultsFile(out / RESULTS, _read_line) as results:
        check_kind(results.finished.values(), results.path, certificates=True)
        for seed in protocol.seeds:
            unit = _Unit(protocol, data, model, seed, kind, feature_flips, attack_predictions)
            cells = [unit.cell(*budget) for budget in budgets]
            tried = max((int(row["largest_tried"]) for row in _read_radii(out) if unit.owns(row)), default=0)
            if tried >= flips and all(cell in results for cell in cells):
                continue
            unit.train()
            radius = torch.zeros(data.num_nodes, dtype=torch.long)
            for cell in cells:
                certificate = unit.certify(cell)
                if cell not in results:
                    results.append(unit.result(cell, certificate))
                if cell.budget_unit == "edges per node":
                    radius[certificate.certified] = int(cell.budget)
            if tried < flips:
                _write_radii(out, unit, certificate.prediction, radius, most=flips)
        finished = [result for result in results.finished.values() if isinstance(result, CertifiedResult)]
    _show(finished)
    _picture(finished).save(out)
    typer.echo(f"Written: {out / RESULTS}, {out / RADII}, {out / 'certified.png'}")
    return sum(result.broken for result in finished)


def _keywords(function: Callable[..., object], *own: str) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in own]


_TAKEN = {
    "model": _keywords(linf_diffusion),
    "training": CertifiedFitOptions.names(),
}


@dataclass
class _Unit:
    """One seed of one preset."""

    protocol: Protocol
    data: Data
    model: str
    seed: int
    kind: str
    feature_flips: int
    attack_predictions: int

    def cell(self, amount: float | int, unit: BudgetUnit) -> Cell:
        settings: dict[str, Any] = {"kind": self.kind, "feature_flips": self.feature_flips}
        if self.attack_predictions:
            settings["predictions"] = self.attack_predictions
        return Cell(
            dataset=self.protocol.dataset,
            split=self.data.split,
            split_seed=self.protocol.split_seed,
            model=self.model,
            attack=CERTIFICATE if self.kind == "both" else f"{CERTIFICATE}-{self.kind}",
            threat="evasion",
            budget=amount,
            budget_unit=unit,
            seed=self.seed,
            hyperparameters={**self.protocol.model_identity(self.model), "attack": settings},
        )

    def train(self) -> None:
        settings = self.protocol.model_hyperparameters(self.model)
        n = self.data.num_nodes
        self.net: FlowGNN = linf_diffusion(self.data.num_features, int(self.data.y.max()) + 1, **settings["model"])
        start = time.perf_counter()
        taught = train_teacher(settings["training"], self.data, seed=self.seed)
        options = {**settings["training"], "teacher": taught.model if taught else None}
        self.fit: CertifiedFit = fit_certified(
            self.net, self.data, flips=FlipBudget.uniform(1, n), features=self.features, seed=self.seed, **options
        )
        self.train_s = time.perf_counter() - start
        self.clean = evaluate(self.net, self.data, self.data.test_mask)

    @property
    def features(self) -> FeatureBudget:
        return FeatureBudget(flips=self.feature_flips)

    @cached_property
    def owner(self) -> dict[str, str]:
        """The columns of ``radii.csv`` that say what was certified."""
        cell, learned = self.cell(0, "edges per node"), self.protocol.model_identity(self.model)
        where = cell.dataset, cell.split, cell.split_seed, cell.model, digest(learned)
        return dict(zip(RADII_COLUMNS, map(str, (*where, cell.attack, self.feature_flips, cell.seed)), strict=False))

    def owns(self, row: Mapping[str, str]) -> bool:
        return self.owner.items() <= row.items()

    def budget(self, cell: Cell) -> FlipBudget:
        n = self.data.num_nodes
        allowed = {"additions": self.kind != "deletions", "deletions": self.kind != "additions"}
        if cell.budget_unit == "edges per node":
            return FlipBudget.uniform(int(cell.budget), n, **allowed)
        if cell.budget_unit == "edges in all":
            return FlipBudget.uniform(int(cell.budget), n, total=int(cell.budget), **allowed)
        return FlipBudget.fraction(cell.budget, self.data.edge_index, n, **allowed)

    def certify(self, cell: Cell) -> Certificate:
        return certificate_of(
            self.net, self.data.x, self.data.edge_index, flips=self.budget(cell), features=self.features
        )

    def result(self, cell: Cell, certificate: Certificate) -> CertifiedResult:
        """The certificate with what attacks do to it."""
        data = self.data
        start = time.perf_counter()
        attacked: empirical.EmpiricalAttack | None = None
        if self.attack_predictions:
            attacked = empirical.run(
                self.net, data.x, data.edge_index, certificate, flips=self.budget(cell), features=self.features,
                predictions=self.attack_predictions, seed=self.seed,
            )  # fmt: skip
        certified = certificate.accuracy(data.y, data.test_mask)
        held = None
        if attacked is not None:
            kept = (certificate.prediction == data.y) & ~attacked.changed
            held = 100.0 * float(kept[data.test_mask].double().mean())
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
            attack_s=time.perf_counter() - start if attacked is not None else 0.0,
            commit=commit,
            uncommitted_changes=changes,
            versions=current_versions(),
            certified_accuracy=certified,
            certify_s=certificate.seconds,
            val_accuracy=self.fit.val_accuracy,
            val_certified=self.fit.val_certified,
            reason=certificate.reason,
            attacked_predictions=attacked.predictions if attacked is not None else 0,
            broken=attacked.broken if attacked is not None else 0,
            unchanged_accuracy=held,
        )


def _read_line(line: str) -> Result:
    """A certificate with all of its fields; the line of another command as any reader has it."""
    result = Result.from_line(line)
    return CertifiedResult.from_line(line) if result.attack.startswith(CERTIFICATE) else result


def _read_radii(out: Path) -> list[dict[str, str]]:
    """The lines of ``radii.csv``; none where there is no such file, or one with other columns."""
    if not (out / RADII).exists():
        return []
    with (out / RADII).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        return list(reader) if reader.fieldnames == RADII_COLUMNS else []


def _write_radii(out: Path, unit: _Unit, prediction: Tensor, radius: Tensor, *, most: int) -> None:
    """One line a node, how many flips at every node at once its prediction is certified to survive: the unit's anew."""
    others = [row for row in _read_radii(out) if not unit.owns(row)]
    columns = zip(unit.data.y.tolist(), prediction.tolist(), radius.tolist(), strict=True)
    with replacing(out / RADII) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(RADII_COLUMNS)
        writer.writerows(row.values() for row in others)
        writer.writerows([*unit.owner.values(), node, *values, most] for node, values in enumerate(columns))


def _groups(results: Sequence[Result]) -> dict[tuple[str, str, str, int, str, float], list[Result]]:
    groups: dict[tuple[str, str, str, int, str, float], list[Result]] = {}
    for result in results:
        features = int(result.hyperparameters["attack"].get("feature_flips", 0))
        key = (result.dataset, result.model, result.attack, features, result.budget_unit, result.budget)
        groups.setdefault(key, []).append(result)
    return groups


def _spread(values: Sequence[float]) -> str:
    return number(mean(values), spread(values))


def _show(results: Sequence[Result]) -> None:
    table = Table(title="certified accuracy, every node attacked at once (percent of the test nodes)")
    for column in ("data set", "model", "certificate", "features", "budget", "clean", "certified", "seeds"):
        table.add_column(column, overflow="fold")
    for (dataset, model, attack, features, unit, budget), group in sorted(_groups(results).items()):
        table.add_row(
            dataset, model, attack, f"{features} flips" if features else "–", f"{budget:g} {unit}",
            _spread([r.clean_accuracy for r in group]), _spread([r.accuracy for r in group]), str(len(group)),
        )  # fmt: skip
    Console().print(table)


def _picture(results: Sequence[Result]) -> Picture:
    """Certified accuracy against the number of flips at every node, from the clean accuracy at 0."""
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    lines: dict[tuple[str, str, str, int], dict[float, list[Result]]] = {}
    for (dataset, model, attack, features, unit, budget), group in _groups(results).items():
        if unit == "edges per node":
            lines.setdefault((dataset, model, attack, features), {})[budget] = group
    for colour, ((dataset, model, attack, features), points) in zip(COLOURS * 3, sorted(lines.items()), strict=False):
        budgets = sorted(points)
        clean = [r.clean_accuracy for r in points[budgets[0]]]
        label = f"{dataset}, {model}" + (f", {attack}" if attack != CERTIFICATE else "")
        axes.plot(
            [0, *budgets],
            [mean(clean), *(mean([r.accuracy for r in points[b]]) for b in budgets)],
            marker="o", color=colour, label=label + (f", {features} features" if features else ""),
        )  # fmt: skip
    axes.set_xlabel("edges that may be flipped at every node at once")
    axes.set_ylabel("certified accuracy (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 100)
    if lines:
        axes.legend()
    return Picture("certified", "Certified accuracy against the budget; at 0 the clean accuracy.", figure)
