"""Certified accuracy of a linear diffusion by its PageRank certificate: the baseline in docs/certificates.md.

    python docs/experiments/certify_baseline.py --out docs/results/certify/pagerank.jsonl

The model is that of the preset "certified" with σ = identity and another μ and dropout, trained and certified under the
same budgets: up to ``--flips`` edges at every node at once, and ``--fraction`` of each degree.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch_geometric.data import Data

from contractive_gnn import datasets
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.results import current_commit, current_versions, replacing
from contractive_gnn.certificates import FlipBudget
from contractive_gnn.certificates.pagerank import certify_pagerank
from contractive_gnn.certificates.training import fit_certified
from contractive_gnn.nn import linf_diffusion
from contractive_gnn.training import evaluate

DROPOUT = {"cora": 0.7, "citeseer": 0.5}


def main() -> None:
    """Write one line for each data set, seed and budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=list(DROPOUT), choices=list(DROPOUT))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--mu", type=float, default=3.0)
    parser.add_argument("--dropout", type=float, help="default: 0.7 on Cora, 0.5 on Citeseer")
    parser.add_argument("--flips", type=int, default=3)
    parser.add_argument("--fraction", type=float, default=0.25)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(options.out) as partial, partial.open("w", encoding="utf-8") as file:
        for dataset in options.datasets:
            data = datasets.load(dataset)
            settings = {"activation": "identity", "threshold": None, "mu": options.mu}
            settings["dropout"] = DROPOUT[dataset] if options.dropout is None else options.dropout
            for seed in range(options.seeds):
                for row in certified(dataset, data, settings, seed, options.flips, options.fraction):
                    print(*(row[key] for key in ("dataset", "seed", "budget", "clean_accuracy", "certified_accuracy")))
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")


def certified(
    dataset: str, data: Data, settings: dict[str, Any], seed: int, flips: int, fraction: float
) -> Iterator[dict[str, Any]]:
    """Train one seed and certify it within each budget."""
    preset, n = load_preset("certified", dataset), data.num_nodes
    hyperparameters = {"model": {**preset["model"], **settings}, "training": preset["training"]}
    model = linf_diffusion(data.num_features, int(data.y.max()) + 1, **hyperparameters["model"])
    fit = fit_certified(model, data, flips=FlipBudget.uniform(1, n), seed=seed, **hyperparameters["training"])
    clean = evaluate(model, data, data.test_mask)
    commit, changes = current_commit()
    budgets: list[tuple[float, str, FlipBudget]] = [
        *((r, "edges per node", FlipBudget.uniform(r, n)) for r in range(1, flips + 1)),
        (fraction, "fraction of each degree", FlipBudget.fraction(fraction, data.edge_index, n)),
    ]
    for amount, unit, budget in budgets:
        certificate = certify_pagerank(model, data.x, data.edge_index, flips=budget)
        yield {
            "dataset": dataset,
            "split": data.split,
            "model": "linear diffusion",
            "certificate": "pagerank",
            "hyperparameters": hyperparameters,
            "seed": seed,
            "budget": amount,
            "budget_unit": unit,
            "clean_accuracy": clean,
            "certified_accuracy": certificate.accuracy(data.y, data.test_mask),
            "val_accuracy": fit.val_accuracy,
            "val_certified": fit.val_certified,
            "train_s": fit.seconds,
            "certify_s": certificate.seconds,
            "commit": commit,
            "uncommitted_changes": changes,
            "versions": current_versions(),
        }


if __name__ == "__main__":
    main()
