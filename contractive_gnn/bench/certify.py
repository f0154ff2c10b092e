"""The body of ``contractive-gnn certify``: train a preset, certify it, attack the certificate, write it all down."""

from __future__ import annotations

import csv
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

import torch
import typer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from contractive_gnn.bench import own_models
from contractive_gnn.bench.certified import OWNER, Asked, CertifiedResult, SmoothedUnit, Unit, way
from contractive_gnn.bench.own_graph import OwnGraph
from contractive_gnn.bench.own_models import OwnModel
from contractive_gnn.bench.plots import Picture
from contractive_gnn.bench.presets import preset_names
from contractive_gnn.bench.protocol import Override, Protocol, ProtocolError, check_names
from contractive_gnn.bench.results import (
    CERTIFICATE,
    RESULTS,
    BudgetUnit,
    Result,
    ResultsFile,
    check_kind,
    digest,
    replacing,
)
from contractive_gnn.bench.runner import check_teacher
from contractive_gnn.bench.spaces import TRAINING, model_hyperparameters
from contractive_gnn.bench.summary import number, spread
from contractive_gnn.bench.workers import single_thread
from contractive_gnn.certificates.smoothed import NOISE, SAMPLES
from contractive_gnn.certificates.smoothing import SparseNoise
from contractive_gnn.certificates.training import CertifiedFitOptions
from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.datasets import DATASETS
from contractive_gnn.datasets.protocol import INDUCTIVE
from contractive_gnn.former import current_hyperparameters, current_keyword, current_model
from contractive_gnn.names import unknown
from contractive_gnn.nn import linf_diffusion
from contractive_gnn.palette import COLOURS

RADII = "radii.csv"
RADII_COLUMNS = [*OWNER, *("node", "label", "prediction", "radius", "largest_tried")]
KINDS = ("both", "additions", "deletions")


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
    split: str | None,
    split_seed: int,
    overrides: Sequence[str],
    root: Path | None,
    out: Path,
    own_graph: OwnGraph | None = None,
    own: tuple[OwnModel, ...] = (),
    noise: SparseNoise = NOISE,
    samples: int = SAMPLES,
    on_note: Callable[[str], None] = typer.echo,
) -> int:
    """Do what the command says; returns how many certified predictions an attack changed.

    Raises:
        ProtocolError: an option that makes no sense.
    """
    if own_graph is None:
        check_names("dataset", [dataset], DATASETS)
    if kind not in KINDS:
        raise ProtocolError(f"--kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    for option, value, least in (
        ("--flips", flips, 1),
        ("--feature-flips", feature_flips, 0),
        ("--seeds", seeds, 1),
        ("--total", 1 if total is None else total, 1),
        ("--attack-predictions", attack_predictions, 0),
        ("--samples", samples, 1),
    ):
        check_whole(option, value, least=least)
    if fraction is not None:
        check_real("--fraction", fraction, above=0)
    own_models.use(own)
    presets = [name for name in preset_names() if name.startswith("certified")]
    check_names("model or preset for a certificate", [model], [*presets, *own_models.names()])
    protocol = Protocol(
        dataset=dataset,
        models=(model,),
        attacks=(),
        seeds=tuple(range(seeds)),
        split=split,
        split_seed=split_seed,
        overrides=tuple(map(Override.parse, overrides)),
        root=root,
        own_graph=own_graph,
        own_models=own,
    )
    taken = _TAKEN if model in presets else {"model": model_hyperparameters(model), "training": TRAINING}
    for override in protocol.overrides:
        if override.subject not in (None, model) or override.section == "attack":
            raise ProtocolError(f"--set {override}: expected model.KEY=VALUE or training.KEY=VALUE")
        known = taken[override.section]
        key = current_keyword(model, override.key) if override.section == "model" else override.key
        if known is not None and key not in known:
            what = f"{override.section} hyperparameter"
            raise ProtocolError(f"--set {override}: {unknown(what, [override.key], known)}")
    data = protocol.load()
    if data.split == INDUCTIVE:
        raise ProtocolError("--split inductive: what is certified is fitted on the whole graph; take another split")
    if data.get("notes"):
        on_note(f"{dataset}: {data.notes}.")
    check_teacher(model, protocol.model_hyperparameters(model)["training"], data)
    unit_of, note = way(protocol, model, data)
    if note:
        on_note(note)
    if issubclass(unit_of, SmoothedUnit):
        _check_smoothing(model, fraction=fraction, feature_flips=feature_flips, attack=attack_predictions > 0)
    asked = Asked(kind, feature_flips, attack_predictions, noise, samples)
    budgets: list[tuple[float | int, BudgetUnit]] = [(r, unit_of.counted) for r in range(1, flips + 1)]
    if fraction is not None:
        budgets.append((fraction, "fraction of each degree"))
    if total is not None and (total, "edges in all") not in budgets:
        budgets.append((total, "edges in all"))
    with single_thread(), ResultsFile(out / RESULTS, _read_line) as results:
        check_kind(results.finished.values(), results.path, certificates=True)
        for seed in protocol.seeds:
            unit = unit_of(protocol, data, model, seed, asked)
            cells = [unit.cell(*budget) for budget in budgets]
            tried = max((int(row["largest_tried"]) for row in _read_radii(out) if unit.owns(row)), default=0)
            if tried >= flips and all(cell in results for cell in cells):
                continue
            unit.train()
            radius = torch.zeros(data.num_nodes, dtype=torch.long)
            for cell in cells:
                proved = unit.certify(cell)
                if cell not in results:
                    results.append(unit.result(cell, proved))
                    if proved.reason and isinstance(unit, SmoothedUnit):
                        on_note(f"{model}, {cell.budget} {cell.budget_unit}: {proved.reason}.")
                if cell.budget_unit == unit.counted and cell.budget <= flips:
                    radius[proved.certified] = int(cell.budget)
            if tried < flips:
                _write_radii(out, unit, proved.prediction, radius, most=flips)
        finished = [result for result in results.finished.values() if isinstance(result, CertifiedResult)]
    _show(finished)
    _picture(finished).save(out)
    typer.echo(f"Written: {out / RESULTS}, {out / RADII}, {out / 'certified.png'}")
    return sum(result.broken for result in finished)


def _check_smoothing(model: str, *, fraction: float | None, feature_flips: int, attack: bool) -> None:
    """Raise ProtocolError for what randomised smoothing does not answer."""
    for given, what in (
        (
            fraction is not None,
            "--fraction: it certifies a number of flips in the whole graph; give --flips",
        ),
        (bool(feature_flips), "--feature-flips: its noise is of the edges alone; leave that out"),
        (attack, "--attack: it holds with a confidence, and what the attacks try are certainties; leave that out"),
    ):
        if given:
            raise ProtocolError(f"model {model!r} is certified by randomised smoothing, without {what}")


def _keywords(function: Callable[..., object], *own: str) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in own]


_TAKEN: dict[str, Sequence[str] | None] = {
    "model": _keywords(linf_diffusion),
    "training": CertifiedFitOptions.names(),
}


def _read_line(line: str) -> Result:
    """A certificate with all of its fields; the line of another command as any reader has it."""
    result = Result.from_line(line)
    return CertifiedResult.from_line(line) if result.attack.startswith(CERTIFICATE) else result


def _read_radii(out: Path) -> list[dict[str, str]]:
    """The lines of ``radii.csv``, names and digests as of today; none where there is no such file, or one with other
    columns.
    """
    if not (out / RADII).exists():
        return []
    with (out / RADII).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader) if reader.fieldnames == RADII_COLUMNS else []
    renewed = _renewed_digests(out)
    for row in rows:
        row["model"] = current_model(row["model"], warn=False)
        row["hyperparameters"] = renewed.get(row["hyperparameters"], row["hyperparameters"])
    return rows


def _renewed_digests(out: Path) -> dict[str, str]:
    """Of the hyperparameters in the lines of ``results.jsonl``: by their digest in the words of the line, today's."""
    renewed: dict[str, str] = {}
    for line in (out / RESULTS).read_text(encoding="utf-8").splitlines() if (out / RESULTS).exists() else ():
        record = json.loads(line)
        learned = {section: values for section, values in record["hyperparameters"].items() if section != "attack"}
        renewed[digest(learned)] = digest(current_hyperparameters(record["model"], learned))
    return renewed


def _write_radii(out: Path, unit: Unit, prediction: Tensor, radius: Tensor, *, most: int) -> None:
    """One line a node, how many flips its prediction is certified to survive: the unit's anew."""
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
    Console().print(_table(results))


def _table(results: Sequence[Result]) -> Table:
    """One row a budget. A column that says the same in every row, or nothing, is left out."""
    smoothed = [result.attack.startswith(SmoothedUnit.certificate) for result in results]
    how = ", every node attacked at once" if not any(smoothed) else ", by smoothing" if all(smoothed) else ""
    groups = sorted(_groups(results).items())
    several = len({attack for (_, _, attack, *_), _ in groups}) > 1
    flipped = any(features for (_, _, _, features, *_), _ in groups)
    optional = {"certificate": several, "features": flipped}
    table = Table(box=box.SIMPLE_HEAD, title=f"certified accuracy{how} (percent of the test nodes)")
    for column in ("data set", "model", "certificate", "features", "budget", "clean", "certified", "seeds"):
        if optional.get(column, True):
            whole = column not in ("data set", "model")
            right = column in ("clean", "certified", "seeds")
            table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=whole)
    for (dataset, model, attack, features, unit, budget), group in groups:
        allowed = f"{budget:g} {unit.replace('edges', 'edge') if budget == 1 else unit}"
        table.add_row(
            *(dataset, model),
            *([attack.removeprefix(f"{CERTIFICATE}-")] if several else []),
            *([f"{features} flips" if features else "–"] if flipped else []),
            *(allowed, _spread([r.clean_accuracy for r in group]), _spread([r.accuracy for r in group])),
            str(len(group)),
        )
    return table


def _picture(results: Sequence[Result]) -> Picture:
    """Certified accuracy against the number of flips at every node, from the clean accuracy at 0."""
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    lines: dict[tuple[str, str, str, int], dict[float, list[Result]]] = {}
    for (dataset, model, attack, features, unit, budget), group in _groups(results).items():
        if unit == (SmoothedUnit.counted if attack.startswith(SmoothedUnit.certificate) else "edges per node"):
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
    axes.set_xlabel("edges that may be flipped at every node at once (of smoothing: in the whole graph)")
    axes.set_ylabel("certified accuracy (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 100)
    if lines:
        axes.legend()
    return Picture("certified", "Certified accuracy against the budget; at 0 the clean accuracy.", figure)
