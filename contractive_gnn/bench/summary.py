"""Statistics over seeds and splits: from results to a table's rows and columns, and what its reader must be told."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from contractive_gnn.bench.results import (
    CERTIFICATE,
    NEW_NODES,
    BudgetUnit,
    EvaluatedOn,
    Result,
    Source,
    Threat,
    digest,
)
from contractive_gnn.datasets.protocol import INDUCTIVE

CLEAN = "clean"
#: splits that are one, whatever their seed
FIXED = ("prognn",)
#: marks a number that the attack itself does not trust
DOUBT = "†"


class AnchorError(ValueError):
    """A file of published numbers that cannot be read."""


@dataclass(frozen=True)
class Score:
    """Accuracies (percent) of one model under one attack, over seeds, or over splits of the mean over seeds.

    Attributes:
        values: attacked accuracy, a seed or a split each.
        clean: accuracy on the same nodes without the attack, likewise.
        unreliable: what the attack said against its own strength, each reason once.
        seeds: of the values, in the same order; of splits "split 0", "split 1", …
    """

    values: tuple[float, ...]
    clean: tuple[float, ...]
    unreliable: tuple[str, ...] = ()
    seeds: tuple[int | str, ...] = ()

    @property
    def n(self) -> int:
        """Number of seeds, or of splits."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean over seeds, or over splits."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the values (divisor n − 1); None for a single one."""
        return spread(self.values)


def spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation; None for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def number(mean: float, std: float | None) -> str:
    """A percentage as the tables have it, with its deviation if there is one: "83.5 ± 0.4"."""
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


@dataclass(frozen=True)
class Condition:
    """One attack at one budget: a row of the table."""

    attack: str
    threat: Threat
    budget: float | int
    budget_unit: BudgetUnit
    evaluated_on: EvaluatedOn
    n_evaluated: int
    source: Source

    @property
    def chained(self) -> bool:
        """Whether it is several attacks in a row, of which the budget is the first one's."""
        return "+" in self.attack

    @property
    def budget_text(self) -> str:
        """The budget with its unit, such as "5 % of edges"."""
        if self.budget_unit == "none":
            return "–"
        if self.budget_unit.startswith("fraction"):
            return f"{100 * self.budget:g} % {self.budget_unit.removeprefix('fraction ')}"
        unit = (
            self.budget_unit.replace("nodes", "node").replace("entries", "entry").replace("edges", "edge")
            if self.budget == 1 and not self.budget_unit.startswith(NEW_NODES)
            else self.budget_unit
        )
        return f"{self.budget} {unit}"

    @property
    def short(self) -> str:
        """Attack and budget, such as "metattack 5 %"."""
        if self.budget_unit == "none":
            return self.attack
        first, *others = self.attack.split("+")
        budget = f"{100 * self.budget:g} %" if "fraction" in self.budget_unit else str(self.budget)
        return " + ".join([f"{first} {budget}", *others])

    @property
    def nodes_text(self) -> str:
        """The nodes that the accuracy is of."""
        return f"{self.n_evaluated} {'test nodes' if self.evaluated_on == 'test' else 'targets'}"


@dataclass(frozen=True)
class Anchor:
    """A number that others published."""

    dataset: str
    attack: str
    budget: float
    model: str
    accuracy: float
    std: float | None
    source: str

    def matches(self, dataset: str, condition: Condition) -> bool:
        """Whether it was measured under this attack and budget (the split and the rest were others')."""
        return (
            self.dataset == dataset
            and self.attack == condition.attack
            and math.isclose(self.budget, condition.budget, abs_tol=1e-12)
        )


@dataclass(frozen=True)
class Section:
    """All that may stand in one table: one data set and one split, or the mean over several splits.

    Attributes:
        split_seed: of the split; None for a mean over several.
        models: labels of the models: the columns.
        conditions: rows; clean first, then by attack, threat and budget.
        scores: by condition and model label; a missing pair was not measured.
        notes: what the reader must be told: what is missing, and what differs that should not.
        parts: of a mean over several splits the section of each of them.
        breakdowns: of targets in bins the scores on each of them, of an ensemble those under each attack, likewise.
    """

    dataset: str
    split: str
    split_seed: int | None
    models: tuple[str, ...]
    conditions: tuple[Condition, ...]
    scores: Mapping[tuple[Condition, str], Score]
    notes: tuple[str, ...]
    parts: tuple[Section, ...] = ()
    breakdowns: Mapping[tuple[Condition, str], Mapping[str, Score]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Data set and split in words."""
        if self.parts:
            return f"{self.dataset} ({len(self.parts)} {self.split} splits)"
        seed = f", seed {self.split_seed}" if self.split in ("random", "public", INDUCTIVE) else ""
        if self.split == "own" and self.split_seed:
            seed = f", number {self.split_seed}"
        return f"{self.dataset} (split {self.split}{seed})"

    @property
    def seeds_text(self) -> str:
        """How many seeds, or splits, the means are over."""
        return _counted({score.n for score in self.scores.values()}, "split" if self.parts else "seed")

    @property
    def over_text(self) -> str:
        """What the numbers are: of one seed, or a mean over seeds, or over splits."""
        if self.seeds_text == "1 seed":
            return "of one seed"
        each = ""
        if self.parts:
            seeds = _counted({score.n for part in self.parts for score in part.scores.values()}, "seed")
            each = ", one seed each" if seeds == "1 seed" else f" of the mean over {seeds}"
        return f"mean ± standard deviation over {self.seeds_text}{each}"

    def attacked(self, evaluated_on: EvaluatedOn) -> list[Condition]:
        """The conditions other than clean that are measured on these nodes."""
        return [c for c in self.conditions if c.attack != CLEAN and c.evaluated_on == evaluated_on]

    def worst(self, model: str, evaluated_on: EvaluatedOn) -> Condition | None:
        """The attack with the lowest mean accuracy of ``model`` on these nodes; None without any."""
        measured = [c for c in self.attacked(evaluated_on) if (c, model) in self.scores]
        return min(measured, key=lambda c: self.scores[c, model].mean, default=None)

    def complete(self, model: str, evaluated_on: EvaluatedOn) -> bool:
        """Whether ``model`` was measured under every attack, so that its worst may be compared with the others'."""
        return all((c, model) in self.scores for c in self.attacked(evaluated_on))


Identity = TypeVar("Identity", bound=Hashable)


def _counted(counts: set[int], what: str) -> str:
    """Such as "1 seed", "5 splits" or "2 to 3 seeds"."""
    least, most = min(counts), max(counts)
    return f"{least} {what}{'s' if least > 1 else ''}" if least == most else f"{least} to {most} {what}s"


def summarise(results: Sequence[Result], *, order: Sequence[str] = ()) -> tuple[Section, ...]:
    """One section per data set and split. Results of different hyperparameters never share a mean.

    Of several splits of one kind, told apart by their seed or number, there is one section: its scores are over the
    splits, of the mean over seeds on each, and :attr:`Section.parts` has each split by itself. Certificates keep a
    section a split.

    Where a model (or an attack) was run with several sets of hyperparameters, each set gets its own column (row),
    marked (a), (b), …, and a note says in what they differ.

    Args:
        results: finished cells, in any order.
        order: names of models in the order of the columns; those not named follow as they come.
    """
    groups: dict[tuple[str, str], dict[int, list[Result]]] = {}
    for result in results:
        of_kind = groups.setdefault((result.dataset, result.split), {})
        of_kind.setdefault(result.split_seed, []).append(result)
    ranks = {model: rank for rank, model in reversed(list(enumerate(order)))}
    sections: list[Section] = []
    for (dataset, split), by_seed in groups.items():
        parts = tuple(_section(dataset, split, seed, own, ranks) for seed, own in by_seed.items())
        together = [result for own in by_seed.values() for result in own]
        bounds = any(result.attack.startswith(CERTIFICATE) for result in together)
        if len(parts) == 1 or bounds or split in FIXED:
            sections.extend(parts)
        else:
            parts = tuple(sorted(parts, key=lambda part: part.split_seed or 0))
            sections.append(_section(dataset, split, None, together, ranks, parts))
    return tuple(sections)


def _section(
    dataset: str,
    split: str,
    split_seed: int | None,
    results: Sequence[Result],
    ranks: Mapping[str, int],
    parts: tuple[Section, ...] = (),
) -> Section:
    unique = {result.key: result for result in reversed(results)}
    repeated = len(results) - len(unique)
    results = [result for result in results if unique.pop(result.key, None) is not None]
    results.sort(key=lambda result: ranks.get(result.model, len(ranks)))

    notes = []
    if repeated:
        notes.append(f"{repeated} repeated line(s) were left out: of each cell the first line counts.")
    model_labels, model_notes = _labels((r.model, _without_attack(r.hyperparameters)) for r in results)
    attack_labels, attack_notes = _labels((r.attack, r.hyperparameters.get("attack", {})) for r in results)
    notes += [f"Model {note}" for note in model_notes] + [f"Attack {note}" for note in attack_notes]

    cells: dict[tuple[Condition, str], list[Result]] = {}
    for result in results:
        model = model_labels[result.model, digest(_without_attack(result.hyperparameters))]
        attack = attack_labels[result.attack, digest(result.hyperparameters.get("attack", {}))]
        condition = Condition(
            attack,
            result.threat,
            result.budget,
            result.budget_unit,
            result.evaluated_on,
            result.n_evaluated,
            result.attack_source,
        )
        cells.setdefault((condition, model), []).append(result)
    if parts:
        cells = _of_any_size(cells, notes)
    models = tuple(dict.fromkeys(model for _, model in cells))
    attacks = list(dict.fromkeys((c.attack, c.threat) for c, _ in cells))
    conditions = sorted(
        dict.fromkeys(condition for condition, _ in cells),
        key=lambda c: (c.attack != CLEAN, c.evaluated_on == "targets", attacks.index((c.attack, c.threat)), c.budget),
    )
    scores = {key: _over_splits(cell) if parts else _over_seeds(cell) for key, cell in cells.items()}
    notes += _gaps(models, conditions, cells) + _doubts(scores) + _provenance(results)
    broken_down = {key: found for key, cell in cells.items() if (found := _breakdown(cell, over_splits=bool(parts)))}
    return Section(dataset, split, split_seed, models, tuple(conditions), scores, tuple(notes), parts, broken_down)


def _breakdown(cell: Sequence[Result], *, over_splits: bool) -> dict[str, Score]:
    """The scores of each part that all results of a cell have."""
    names = [name for name in cell[0].breakdown if all(name in result.breakdown for result in cell)]
    score = _over_splits if over_splits else _over_seeds
    return {name: score([_of_part(result, name) for result in cell]) for name in names}


def _of_part(result: Result, name: str) -> Result:
    part = result.breakdown[name]
    return replace(result, accuracy=part["accuracy"], clean_accuracy=part["clean_accuracy"])


def _over_seeds(cell: Sequence[Result]) -> Score:
    return Score(
        tuple(r.accuracy for r in cell),
        tuple(r.clean_accuracy for r in cell),
        tuple(dict.fromkeys(reason for r in cell for reason in r.unreliable)),
        tuple(r.seed for r in cell),
    )


def _over_splits(cell: Sequence[Result]) -> Score:
    """Of each split the mean over its seeds."""
    splits = sorted({result.split_seed for result in cell})
    scores = [_over_seeds([result for result in cell if result.split_seed == split]) for split in splits]
    return Score(
        tuple(score.mean for score in scores),
        tuple(statistics.fmean(score.clean) for score in scores),
        tuple(dict.fromkeys(reason for score in scores for reason in score.unreliable)),
        tuple(f"split {split}" for split in splits),
    )


def _of_any_size(
    cells: Mapping[tuple[Condition, str], list[Result]], notes: list[str]
) -> dict[tuple[Condition, str], list[Result]]:
    """The cells of several splits, each of which may have another number of evaluated nodes: their mean."""
    sizes: dict[Condition, set[int]] = {}
    for condition, _ in cells:
        sizes.setdefault(replace(condition, n_evaluated=0), set()).add(condition.n_evaluated)
    together: dict[tuple[Condition, str], list[Result]] = {}
    for (condition, model), cell in cells.items():
        own = sizes[replace(condition, n_evaluated=0)]
        together.setdefault((replace(condition, n_evaluated=round(statistics.fmean(own))), model), []).extend(cell)
    if told := {(min(own), max(own)) for own in sizes.values() if len(own) > 1}:
        counts = ", ".join(f"{least} to {most}" for least, most in sorted(told))
        notes.append(f"The splits differ in the number of evaluated nodes: {counts}.")
    return together


def _without_attack(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in hyperparameters.items() if key != "attack"}


def _labels(runs: Iterable[tuple[str, Mapping[str, Any]]]) -> tuple[dict[tuple[str, str], str], list[str]]:
    """A label for each name and digest of hyperparameters, and a note for each name that has several."""
    variants: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, hyperparameters in runs:
        variants.setdefault(name, {})[digest(hyperparameters)] = hyperparameters
    labels, notes = {}, []
    for name, sets in variants.items():
        for index, key in enumerate(sets):
            labels[name, key] = name if len(sets) == 1 else f"{name} ({letters(index)})"
        if len(sets) > 1:
            flat = [_flatten(hyperparameters) for hyperparameters in sets.values()]
            keys = [
                key
                for key in dict.fromkeys(k for f in flat for k in f)
                if len({json.dumps(f.get(key)) for f in flat}) > 1
            ]
            described = "; ".join(
                f"({letters(i)}) " + ", ".join(f"{key} = {f.get(key, 'not set')}" for key in keys)
                for i, f in enumerate(flat)
            )
            notes.append(f"{name} was run with {len(sets)} sets of hyperparameters, which are kept apart: {described}.")
    return labels, notes


def letters(index: int) -> str:
    """a, b, … z, aa, ab, …"""
    return (letters(index // 26 - 1) if index >= 26 else "") + chr(ord("a") + index % 26)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _gaps(
    models: Sequence[str],
    conditions: Sequence[Condition],
    cells: Mapping[tuple[Condition, str], Sequence[Result]],
) -> list[str]:
    notes = []
    missing = {model: [c.short for c in conditions if (c, model) not in cells] for model in models}
    notes += [f"{model} was not measured under {', '.join(gaps)}." for model, gaps in missing.items() if gaps]
    seeds = {key: frozenset((result.split_seed, result.seed) for result in cell) for key, cell in cells.items()}
    if len(set(seeds.values())) > 1:
        everything = frozenset().union(*seeds.values())
        what = "training" if len({split for split, _ in everything}) > 1 else "seed"
        fewer = ", ".join(
            f"{model} under {condition.short} {len(own)}"
            for (condition, model), own in seeds.items()
            if own != everything
        )
        notes.append(f"Not every number is a mean over the same {len(everything)} {what}(s): {fewer}.")
    return notes


def _doubts(scores: Mapping[tuple[Condition, str], Score]) -> list[str]:
    return [
        f"{DOUBT} {model} under {condition.short}: by the attack's own diagnosis a stronger one may exist "
        f"({'; '.join(score.unreliable)})."
        for (condition, model), score in scores.items()
        if score.unreliable
    ]


def _provenance(results: Sequence[Result]) -> list[str]:
    notes = []
    commits = list(dict.fromkeys(result.commit for result in results))
    if len(commits) > 1:
        notes.append(f"The numbers come from {len(commits)} commits: {', '.join(map(str, commits))}.")
    if any(result.uncommitted_changes for result in results):
        notes.append("Some numbers come from a checkout with uncommitted changes.")
    versions = {json.dumps(dict(result.versions), sort_keys=True) for result in results}
    if len(versions) > 1:
        notes.append(f"The numbers come from {len(versions)} sets of package versions.")
    devices = list(dict.fromkeys(result.device for result in results))
    if len(devices) > 1:
        notes.append(f"The numbers come from {len(devices)} devices: {', '.join(devices)}.")
    return notes


def read_anchors(path: Path) -> tuple[Anchor, ...]:
    """Published numbers, from a CSV file with the columns dataset, attack, budget, model, accuracy, std, source.

    Raises:
        AnchorError: the file is missing, lacks a column, or has an entry that is no number.
    """
    columns = ("dataset", "attack", "budget", "model", "accuracy", "std", "source")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise AnchorError(f"{path} lacks the column(s) {', '.join(missing)}; expected {','.join(columns)}")
            anchors = []
            for row in reader:
                try:
                    anchors.append(
                        Anchor(
                            dataset=row["dataset"],
                            attack=row["attack"],
                            budget=float(row["budget"]),
                            model=row["model"],
                            accuracy=float(row["accuracy"]),
                            std=float(row["std"]) if row["std"] else None,
                            source=row["source"],
                        )
                    )
                except (TypeError, ValueError) as error:
                    raise AnchorError(f"{path}, line {reader.line_num}: {error}") from error
            return tuple(anchors)
    except (OSError, UnicodeDecodeError) as error:
        raise AnchorError(f"cannot read the published numbers in {path}: {error}") from error
