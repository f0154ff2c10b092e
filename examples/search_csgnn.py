"""Search the hyperparameters of CSGNN on validation accuracy alone, over the clean and a poisoned graph.

    python examples/search_csgnn.py cora --trials 60 --out runs/search_cora.jsonl

Each trial trains one setting on the clean graph and on the 25 % Metattack graph, two seeds each, and is scored by the
mean validation accuracy over the four runs; the same setting then serves every attack and rate. Test accuracy is not
looked at. A stopped search goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import torch

from contractive_gnn import datasets, nn, training

SPACES: dict[str, dict[str, list[Any]]] = {
    "corrected": {
        "threshold": [0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.3],
        "step": [0.16, 0.3, 0.5, 0.7, 1.0],
        "num_layers": [5, 8, 12],
        "mu": [0.0, 0.05, 0.1, 0.2],
        "dropout": [0.5, 0.6, 0.7],
        "epsilon": [0.1, 0.5, 1.0],
        "placement": ["inside", "outside"],
        "adjacency": ["l1-inside", "l1-outside", "max-outside"],
        "adjacency_step": [0.02, 0.05],
        "weight": [False, True],
        "lr": [0.01, 0.02],
        "weight_decay": [0.001, 0.003, 0.01, 0.02],
    },
    # the search space of the paper, for the model as printed there
    "published": {
        "step": [0.01, 0.03, 0.1, 0.3, 1.0],
        "num_layers": [2, 3, 4, 5],
        "hidden": [16, 32, 64, 128],
        "alpha": [-2.0, -1.0, -0.5, -0.1, 0.0],
        "dropout": [0.0, 0.2, 0.4, 0.6],
        "shared": [False, True],
        "lr": [
            {"encoder": e, "node": n, "adjacency": a} for e in (1e-3, 1e-2) for n in (1e-4, 1e-2) for a in (1e-4, 1e-2)
        ],
        "weight_decay": [
            {"encoder": e, "node": n, "adjacency": 5e-6} for e in (5e-4, 5e-3, 5e-2) for n in (5e-6, 5e-3)
        ],
    },
}


def score(form: str, setting: dict[str, Any], graphs: list[Any]) -> float:
    """Mean validation accuracy of a setting over the graphs and two seeds, in percent; 0 where it diverges."""
    model_arguments = {key: value for key, value in setting.items() if key not in ("lr", "weight_decay")}
    accuracies = []
    for data in graphs:
        name = {"corrected": "csgnn", "published": "csgnn-published"}[form]
        model = nn.build(name, data.num_features, int(data.y.max()) + 1, **model_arguments)
        for seed in (0, 1):
            try:
                result = training.fit(
                    model, data, seed=seed, patience=50, lr=setting["lr"], weight_decay=setting["weight_decay"]
                )
            except FloatingPointError:
                return 0.0
            accuracies.append(result.val_accuracy)
    return sum(accuracies) / len(accuracies)


def main() -> None:
    """Draw settings at random and append each with its score to the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=["cora", "citeseer"])
    parser.add_argument("--form", choices=list(SPACES), default="corrected")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    graphs = [datasets.load(arguments.dataset), datasets.load_attacked(arguments.dataset, "metattack", 0.25)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    done = len(arguments.out.read_text().splitlines()) if arguments.out.exists() else 0
    draws = random.Random(arguments.seed)
    for trial in range(arguments.trials):
        setting = {key: draws.choice(values) for key, values in SPACES[arguments.form].items()}
        if trial < done:
            continue
        record = {
            "form": arguments.form,
            "trial": trial,
            "val_accuracy": score(arguments.form, setting, graphs),
            **setting,
        }
        with arguments.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(f"{record['val_accuracy']:.2f}", setting, flush=True)


if __name__ == "__main__":
    main()
