"""The tables of docs/leaderboard.md from the results files: what each model is left with, the worst first.

    python docs/experiments/leaderboard.py

A number is the mean over the seeds of one results file: of several files that have it, of the one with the most seeds.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from appending import read
from pages import markdown, write_between

from contractive_gnn.bench.results import Result, read_results
from contractive_gnn.pretrained import checkpoints

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "leaderboard.md"
RESULTS = ROOT / "docs" / "results"
CLEAN = "clean"


@dataclass(frozen=True)
class Column:
    """One way to be attacked.

    Attributes:
        title: head of the column.
        attack: name in the results.
        budget: the same.
        threat: the same.
    """

    title: str
    attack: str
    budget: float
    threat: str = "poisoning"

    def has(self, result: Result) -> bool:
        """Whether a line is about it; a graph that is trained anew and that nobody has changed is not."""
        found = (result.attack, result.budget, result.threat) == (self.attack, self.budget, self.threat)
        return found and not (self.threat == "poisoning" and result.flips == 0 and self.attack == "whitebox-pgd")


COLUMNS = (
    Column("white-box", "whitebox-pgd", 0.2, "evasion"),
    Column("trained anew", "whitebox-pgd", 0.2),
    Column("Nettack", "nettack", 5),
    Column("Metattack", "metattack", 0.25),
    Column("random", "random", 1.0),
    Column("clean", CLEAN, 0, "evasion"),
)
UNSEEN, MADE_FOR_ROBUST = "unseen", "transferred"
TITLES = (UNSEEN, *(column.title for column in COLUMNS[:2]), MADE_FOR_ROBUST, *(column.title for column in COLUMNS[2:]))
#: of the benchmark, by data set
FILES = {
    "cora": ("robust_cora", "cora", "ensemble_adaptive", "adaptive_cora", "robust_baselines"),
    "citeseer": ("robust_citeseer", "citeseer", "robust_hedged_citeseer"),
    "polblogs": ("robust_polblogs", "ensemble_polblogs"),
}
#: of an experiment: the field of the number, and the column
EXPERIMENTS = {
    "cora": (
        ("inductive_cora", "accuracy", UNSEEN),
        ("transferred_attack", "trained_anew", MADE_FOR_ROBUST),
        ("transferred_hedged", "trained_anew", MADE_FOR_ROBUST),
    )
}
#: models that were measured with other settings than their name says
LABELS = {"linf-diffusion": "ℓ∞ diffusion, λ = 0.2, μ = 0.1", "mixture": "mixture with GCN"}

Cells = Mapping[tuple[str, str], list[float]]


def cells(dataset: str) -> Cells:
    """The accuracies of every seed, by model and column."""
    found: dict[tuple[str, str], list[float]] = {}
    for group in (*_benchmarks(dataset), *_experiments(dataset)):
        for key, values in group.items():
            if len(values) > len(found.get(key, [])):
                found[key] = values
    return found


def _benchmarks(dataset: str) -> Iterator[Cells]:
    for folder in FILES[dataset]:
        group = defaultdict(list)
        for result in read_results(RESULTS / folder / "results.jsonl"):
            for column in COLUMNS:
                if result.dataset == dataset and column.has(result):
                    group[result.model, column.title].append(result.accuracy)
        yield group


def _experiments(dataset: str) -> Iterator[Cells]:
    for name, field, title in EXPERIMENTS.get(dataset, ()):
        group = defaultdict(list)
        for row in read(RESULTS / f"{name}.jsonl"):
            if row["dataset"] == dataset and row["budget"] == 0.2:
                group[row["model"], title].append(row[field])
        yield group


def leaderboard(dataset: str) -> str:
    """The table of one data set: a row for each model, those without gaps first, then by the worst of its columns."""
    found = cells(dataset)
    titles = [title for title in TITLES if any(key[1] == title for key in found)]
    shipped = {(row.preset, row.dataset): row.sha256 is not None for row in checkpoints()}
    rows = []
    for model in dict.fromkeys(model for model, _ in found):
        means = {title: fmean(found[model, title]) for title in titles if (model, title) in found}
        worst = min(means.values())
        bound = "" if len(means) == len(titles) else "≤ "  # of a column that is missing nobody knows
        there = {True: "yes", False: "made", None: ""}[shipped.get((model, dataset))]
        numbers = [f"{means[title]:.1f}" if title in means else "–" for title in titles]
        rows.append(((bool(bound), -worst), [LABELS.get(model, model), f"{bound}{worst:.1f}", *numbers, there]))
    rows.sort(key=lambda row: row[0])
    return _table(["model", "worst", *titles, "trained"], [row for _, row in rows])


def certified(dataset: str) -> str:
    """Right and certified under a budget at every node at once; a row for each budget."""
    group = defaultdict(list)
    for result in read_results(RESULTS / "certify" / f"{dataset}.jsonl"):
        group[result.budget, result.budget_unit].append((result.accuracy, result.clean_accuracy))
    rows = []
    for (budget, unit), values in sorted(group.items()):
        amount = f"{budget:g} {unit}" if budget != 1 else "1 edge per node"
        rows.append([amount, f"{fmean(value for value, _ in values):.1f}", f"{fmean(c for _, c in values):.1f}"])
    return _table(["flips", "right and certified", "right"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """With all columns but the first to the right."""
    return markdown(head, rows).replace("--- |", "---: |").replace("| ---: |", "| --- |", 1)


TABLES: Mapping[str, Callable[[], str]] = {
    **{dataset: lambda dataset=dataset: leaderboard(dataset) for dataset in FILES},
    **{f"certified {name}": lambda name=name: certified(name) for name in ("cora", "citeseer")},
}


def main() -> None:
    """Write every table into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    for name, table in TABLES.items():
        write_between(options.page, name, table())


if __name__ == "__main__":
    main()
