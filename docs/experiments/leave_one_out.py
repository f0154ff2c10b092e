"""What a default that has not seen a graph costs on it: ``robust`` chosen on two graphs, measured on the third.

    python docs/experiments/leave_one_out.py choose --out docs/results/leave_one_out.jsonl
    python docs/experiments/leave_one_out.py confirm --out docs/results/leave_one_out.jsonl
    python docs/experiments/leave_one_out.py table --out docs/results/leave_one_out.jsonl

``choose`` trains every setting on the clean graph and on the published Metattack one at 25 %, for each data set and
three seeds, and writes the accuracy on validation and test nodes. Two settings are named for each data set: the one
with the best mean validation accuracy over both graphs of the *other* data sets, and the one that is the best there
itself. ``confirm`` trains those two with ten seeds. Lines that are there are not made again. ``table`` reads test
accuracies of those two alone. What there is to choose from was itself found with these data sets in view.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from appending import append, read
from pages import markdown, write_between

from contractive_gnn import datasets
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.nn import build
from contractive_gnn.training import evaluate, fit

ROOT = Path(__file__).parents[2]
DATASETS = ("cora", "citeseer", "polblogs")
GRAPHS = ("clean", "metattack:0.25")
#: seeds that choose, and seeds that the chosen settings are measured with
CHOOSING, CONFIRMING = 3, 10
SETTINGS: Sequence[Mapping[str, Any]] = tuple(
    {"threshold": threshold, "mu": mu, "power": power, "calibrated": calibrated}
    for threshold, mu, power, calibrated in itertools.product((2.0, 4.0, 6.0), (0.05, 0.1), (1.0, 1.5), (False, True))
)


def measure(dataset: str, seed: int, settings: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Append a line for each of these settings that has none."""
    done = [(row["dataset"], row["seed"], row["setting"]) for row in read(out)]
    preset, (commit, changes) = load_preset("robust", "default"), current_commit()
    graphs = {"clean": datasets.load(dataset), "metattack:0.25": datasets.load_attacked(dataset, "metattack", 0.25)}
    for setting in settings:
        if (dataset, seed, setting) in done:
            continue
        accuracy: dict[str, dict[str, float]] = {"val": {}, "test": {}}
        for name, data in graphs.items():
            model = build("robust", data.num_features, int(data.y.max()) + 1, **{**preset["model"], **setting})
            fit(model, data, seed=seed, **preset["training"])
            for part, nodes in (("val", data.val_mask), ("test", data.test_mask)):
                accuracy[part][name] = evaluate(model, data, nodes)
        row = {"dataset": dataset, "seed": seed, "setting": setting, **accuracy}
        append(out, [{**row, "commit": commit, "uncommitted_changes": changes, "versions": current_versions()}])
        print(dataset, seed, setting, *(f"{value:.1f}" for value in accuracy["val"].values()), flush=True)


def choose(options: argparse.Namespace) -> None:
    """All settings, with the seeds that choose."""
    for dataset, seed in itertools.product(options.datasets, range(CHOOSING)):
        measure(dataset, seed, SETTINGS, options.out)


def confirm(options: argparse.Namespace) -> None:
    """The chosen settings, with all seeds."""
    rows = read(options.out)
    for dataset, seed in itertools.product(options.datasets, range(CONFIRMING)):
        measure(dataset, seed, tuple(named(rows, dataset).values()), options.out)


def chosen(rows: Sequence[Mapping[str, Any]], on: Sequence[str]) -> Mapping[str, Any]:
    """The setting with the best mean validation accuracy over these data sets, their graphs and seeds."""

    def worth(setting: Mapping[str, Any]) -> float:
        of = [row for row in rows if row["setting"] == setting and row["seed"] < CHOOSING]
        return mean(mean(mean(r["val"].values()) for r in of if r["dataset"] == dataset) for dataset in on)

    return max(SETTINGS, key=worth)


def named(rows: Sequence[Mapping[str, Any]], dataset: str) -> dict[str, Mapping[str, Any]]:
    """The setting that was chosen without a data set, and the one that was chosen by it."""
    others = [other for other in DATASETS if other != dataset]
    return {"without it": chosen(rows, others), "by itself": chosen(rows, [dataset])}


def table(options: argparse.Namespace) -> None:
    """Write the table."""
    rows = read(options.out)
    lines = []
    for dataset in DATASETS:
        settings = named(rows, dataset)
        tests = {
            (title, graph): [
                row["test"][graph] for row in rows if (row["dataset"], row["setting"]) == (dataset, setting)
            ]
            for title, setting in settings.items()
            for graph in GRAPHS
        }
        for title, setting in settings.items():
            values = [f"{mean(tests[title, graph]):.1f} ± {stdev(tests[title, graph]):.1f}" for graph in GRAPHS]
            lines.append((dataset.capitalize(), title, ", ".join(f"{k} {v}" for k, v in setting.items()), *values))
        lost = [mean(tests["by itself", graph]) - mean(tests["without it", graph]) for graph in GRAPHS]
        lines.append((dataset.capitalize(), "lost", "", *(f"{value:+.1f}" for value in lost)))
    head = ("data set", "chosen", "setting", "clean", "Metattack 25 %")
    write_between(options.page, "leave_one_out", markdown(head, lines))


def main() -> None:
    """Choose, confirm, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("choose", "confirm", "table"))
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "robust_log.md")
    options = parser.parse_args()
    {"choose": choose, "confirm": confirm, "table": table}[options.stage](options)


if __name__ == "__main__":
    main()
