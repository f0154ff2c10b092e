"""New nodes with the budgets of the literature: how much accuracy each injection takes.

    python docs/experiments/injection.py --out docs/results/injection.jsonl
    python docs/experiments/injection.py --out docs/results/injection.jsonl --table

Cora 60 new nodes of 20 edges, Citeseer 90 of 10, Pubmed 200 of 100 (Chen et al., *Understanding and Improving Graph
Injection Attack by Promoting Unnoticeability*, ICLR 2022). Each model is trained on the clean graph and frozen, and
asked about the old test nodes. A line says the attack, which features it may give ("range" or "words"), the weight of
homophily (``hao``), the accuracies before and after, and the processor's seconds. The lines that are there already are
not made again. ``--table`` writes what is there into the page.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from appending import Row, left, read, work_off
from pages import markdown, write_between

from contractive_gnn import attacks, datasets
from contractive_gnn.attacks import Budget
from contractive_gnn.attacks.injection import check_injection
from contractive_gnn.bench.protocol import Protocol
from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.bench.runner import train
from contractive_gnn.bench.spec import parse_attacks
from contractive_gnn.bench.workers import single_thread
from contractive_gnn.training import evaluate

BUDGETS = {"cora": (60, 20), "citeseer": (90, 10), "pubmed": (200, 100)}
ADAPTIVE = ("pgd-injection", "tdgia", "agia")

#: attack, features, hao
Setting = tuple[str, str, float]
SETTINGS: tuple[Setting, ...] = (
    ("random-injection", "range", 0.0),
    *((attack, features, 0.0) for features in ("range", "words") for attack in ADAPTIVE),
    *((attack, "range", 1.0) for attack in ADAPTIVE),
)


def lines(dataset: str, name: str, seed: int, settings: tuple[Setting, ...]) -> list[dict[str, object]]:
    """Train one model and attack it by each of the settings."""
    data = datasets.load(dataset)
    nodes, edges = BUDGETS[dataset]
    protocol = Protocol(dataset=dataset, models=(name,), attacks=parse_attacks("clean", dataset=dataset), seeds=(seed,))
    commit, changes = current_commit()
    rows: list[dict[str, object]] = []
    with single_thread():
        model = train(protocol, name, data, seed=seed).model
        clean = evaluate(model, data, data.test_mask)
        for attack, features, hao in settings:
            options = {} if attack == "random-injection" else {"hao": hao}
            start = time.process_time()
            made = attacks.get(attack, seed=seed, features=features, **options)
            result = made.run(data, Budget(nodes=nodes, edges=edges), victim=model)
            seconds = time.process_time() - start
            check_injection(data, result.data, nodes=nodes, edges=edges, features=features)
            told = result.provenance["params"].get("diagnosis", {})
            rows.append(
                {
                    "dataset": dataset,
                    "model": name,
                    "seed": seed,
                    "attack": attack,
                    "features": features,
                    "hao": hao,
                    "nodes": nodes,
                    "edges": edges,
                    "clean_accuracy": clean,
                    "accuracy": evaluate(model, result.data, result.data.test_mask),
                    "homophily": told.get("homophily"),
                    "unreliable": told.get("unreliable", []),
                    "cpu_s": round(seconds, 2),
                    "commit": commit,
                    "uncommitted_changes": changes,
                    "versions": current_versions(),
                }
            )
    return rows


def table(rows: Sequence[Row]) -> str:
    """Mean accuracy after each attack, a column for each data set and model, with the number of seeds."""
    columns = list(dict.fromkeys((row["dataset"], row["model"]) for row in rows))

    def cell(column: tuple[str, str], chosen: Sequence[Row], key: str) -> str:
        found = [row[key] for row in chosen if (row["dataset"], row["model"]) == column]
        return f"{statistics.mean(found):.1f}" if found else "–"

    head = ["attack", "features", "λ", *(f"{dataset}, {model}" for dataset, model in columns), "CPU s"]
    seeds = len({row["seed"] for row in rows})
    lines = [["clean", "–", "–", *(cell(column, rows, "clean_accuracy") for column in columns), "–"]]
    for setting in SETTINGS:
        chosen = [row for row in rows if _setting(row) == setting]
        if chosen:
            own = [cell(column, chosen, "accuracy") for column in columns]
            seconds = " / ".join(cell(column, chosen, "cpu_s") for column in columns)
            lines.append([f"`{setting[0]}`", setting[1], f"{setting[2]:g}", *own, seconds])
    told = f"{seeds} seed{'s' * (seeds > 1)}; CPU s: of the attack, in the order of the columns."
    return f"{markdown(head, lines)}\n\n{told}"


def main() -> None:
    """Append the lines of each model and seed as they are found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["cora", "citeseer"], choices=list(BUDGETS))
    parser.add_argument("--models", nargs="+", default=["gcn", "robust"])
    parser.add_argument("--attacks", nargs="+", default=["random-injection", *ADAPTIVE])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="write the table of the page, and measure nothing")
    parser.add_argument("--page", type=Path, default=Path("docs/injection.md"))
    options = parser.parse_args()
    if options.table:
        write_between(options.page, "injection", table(read(options.out)))
        return
    settings = [setting for setting in SETTINGS if setting[0] in options.attacks]
    done = {(*(row[key] for key in ("dataset", "model", "seed")), _setting(row)) for row in read(options.out)}
    groups = itertools.product(options.datasets, options.models, range(options.seeds))
    for rows in work_off(lines, left(done, groups, settings), jobs=options.jobs, out=options.out):
        for row in rows:
            shown = ("dataset", "model", "seed", "attack", "features", "hao", "accuracy")
            print(*(row[key] for key in shown), flush=True)


def _setting(row: Row) -> Setting:
    return row["attack"], row["features"], row["hao"]


if __name__ == "__main__":
    main()
