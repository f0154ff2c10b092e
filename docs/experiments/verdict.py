"""The tables of docs/verdict.md: what every attack leaves of each model, the worst column first.

    POISONING=metattack:0.05,grad:0.05,metacon-s:0.05,metattack-unlabelled:0.05,whitebox-pgd:0.05@poisoning
    EVASION=auto:0.05,auto:0.2,local-pgd:1.0,tdgia,whitebox-pgd-features:0.05
    for graph in cora citeseer; do
        contractive-gnn bench --dataset $graph --seeds 3 --jobs 1 --out docs/results/verdict_$graph \\
            --models robust,robust-ensemble,robust-mixture,csgnn,gcn,gat,rung,elastic-gnn \\
            --attacks clean,$POISONING,$EVASION
    done
    python docs/experiments/verdict.py

A number is the mean over the seeds, with their standard deviation. "transferred" is the least that a perturbation from
one of the attacker's own models leaves, "per node" the share of nodes that are right under every attack of the
ensemble: both are parts of ``auto:0.05``. ``local-pgd`` is measured on its targets, the others on the test nodes.
"worst" is the least mean of a row, without "per node", which no single graph need reach.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from pages import markdown, write_between

from contractive_gnn.bench.results import RESULTS, Result, read_results

ROOT = Path(__file__).parents[2]
DATASETS = ("cora", "citeseer")
CLEAN, PER_NODE = "clean", "per node"


def _transferred(result: Result) -> float:
    return min(part["accuracy"] for name, part in result.breakdown.items() if name.startswith("from-"))


def _per_node(result: Result) -> float:
    return result.breakdown[PER_NODE]["accuracy"]


def _accuracy(result: Result) -> float:
    return result.accuracy


#: by title: attack, budget, threat, and the number of a line
COLUMNS: Mapping[str, tuple[str, float | None, str, Callable[[Result], float]]] = {
    "evasion 20 %": ("auto", 0.2, "evasion", _accuracy),
    "evasion 5 %": ("auto", 0.05, "evasion", _accuracy),
    PER_NODE: ("auto", 0.05, "evasion", _per_node),
    "transferred": ("auto", 0.05, "evasion", _transferred),
    "local": ("local-pgd", 1.0, "evasion", _accuracy),
    "injection": ("tdgia", None, "evasion", _accuracy),
    "features": ("whitebox-pgd-features", 0.05, "evasion", _accuracy),
    "Metattack": ("metattack", 0.05, "poisoning", _accuracy),
    "GraD": ("grad", 0.05, "poisoning", _accuracy),
    "Metacon": ("metacon-s", 0.05, "poisoning", _accuracy),
    "unlabelled": ("metattack-unlabelled", 0.05, "poisoning", _accuracy),
    "own": ("whitebox-pgd", 0.05, "poisoning", _accuracy),
    CLEAN: (CLEAN, 0, "evasion", _accuracy),
}


def numbers(results: Sequence[Result], title: str) -> list[float]:
    """Those of one column, a number a seed."""
    attack, budget, threat, number = COLUMNS[title]
    return [
        number(result)
        for result in results
        if (result.attack, result.threat) == (attack, threat) and budget in (None, result.budget)
    ]


def tables(results: Sequence[Result]) -> str:
    """Under evasion, and under poisoning: a row for each model, the best worst case first."""
    own = {model: [r for r in results if r.model == model] for model in dict.fromkeys(r.model for r in results)}
    found = {model: {title: numbers(lines, title) for title in COLUMNS} for model, lines in own.items()}
    worst = {model: _worst(cells) for model, cells in found.items()}
    order = sorted(found, key=lambda model: -worst[model])
    best = max(fmean(found[model][CLEAN]) for model in order)
    evasion = [title for title, (_, _, threat, _) in COLUMNS.items() if threat == "evasion"]
    poisoning = [title for title, (_, _, threat, _) in COLUMNS.items() if threat == "poisoning"]
    first, second = [], []
    for model in order:
        cells = found[model]
        bound = "" if all(cells.values()) else "≤ "  # of a column that is missing nobody knows
        first.append([model, f"{bound}{worst[model]:.1f}", *(_told(cells[title]) for title in evasion)])
        gap = best - fmean(cells[CLEAN])
        seconds = fmean(r.train_s for r in own[model] if r.attack == CLEAN)
        second.append([model, *(_told(cells[title]) for title in poisoning), f"{gap:.1f}", f"{seconds:.0f}"])
    return (
        markdown(["model", "worst", *evasion], first)
        + "\n\nTrained anew on the poisoned graph:\n\n"
        + markdown(["model", *poisoning, "gap", "training, s"], second)
    )


def _worst(cells: Mapping[str, Sequence[float]]) -> float:
    return min(fmean(values) for title, values in cells.items() if values and title != PER_NODE)


def _told(values: Sequence[float]) -> str:
    spread = f"±{stdev(values):.1f}" if len(values) > 1 else ""
    return f"{fmean(values):.1f}{spread}" if values else "–"


def costs(results: Sequence[Result]) -> str:
    """Seconds of each attack on a model, the mean over models and seeds, and of all together in hours."""
    seconds = {
        f"{attack} {budget:g} {threat}": [
            r.attack_s for r in results if (r.attack, r.budget, r.threat) == (attack, budget, threat)
        ]
        for attack, budget, threat in dict.fromkeys((r.attack, r.budget, r.threat) for r in results)
    }
    told = ",\n".join(f"`{name}` {fmean(values):.0f} s" for name, values in seconds.items() if fmean(values) >= 1)
    # lines of one attacked graph, and of one training, tell of the same seconds
    attacks = {(r.attack, r.budget, r.attack_s): r.attack_s for r in results}
    trainings = {(r.model, r.seed, r.train_s): r.train_s for r in results}
    hours = (sum(attacks.values()) + sum(trainings.values())) / 3600
    return f"Wall time of an attack on one model:\n{told}.\nWhole table: {hours:.1f} h of one core."


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "verdict.md")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results")
    options = parser.parse_args(arguments)
    for name in DATASETS:
        file = options.results / f"verdict_{name}" / RESULTS
        if file.is_file():
            results = read_results(file)
            write_between(options.page, name, f"{tables(results)}\n\n{costs(results)}")


if __name__ == "__main__":
    main()
