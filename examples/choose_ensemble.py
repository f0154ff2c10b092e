"""Choose the members of ``robust-ensemble`` by the validation nodes alone, some of them attacked themselves.

    python examples/choose_ensemble.py --dataset cora --dataset citeseer --out runs/ensemble

Every candidate is fitted on the graphs of ``choose_setting.py``, under several seeds. Then the ensemble grows, from
nobody, by the candidate that helps it most, the same one again if need be (Caruana et al., *Ensemble Selection from
Libraries of Models*, ICML 2004), until none helps. What counts is the mean accuracy on the validation nodes over graphs
and seeds. It is done for each data set, and for all of them together, which gives the default; and for the contractive
candidates alone. A fit that is there already, in OUT/members, is not made again; OUT/chosen.jsonl tells the steps.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from choose_setting import graphs
from torch import Tensor

from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.results import current_commit, current_versions, digest, replacing
from contractive_gnn.nn import build
from contractive_gnn.training import fit, predict

MOST = 6
Member = dict[str, Any]
Answers = dict[tuple[str, str, int], Tensor]


def candidates() -> list[Member]:
    """Both forces, with A(0) as it is, with A(0) calibrated, and with the given edges."""
    thresholds = {"robust": (3.0, 4.0, 5.0), "robust-provable": (0.8, 1.2)}
    guarded = [
        {"name": name, "model": {"threshold": threshold, **weights}}
        for name, values in thresholds.items()
        for threshold in values
        for weights in ({"epsilon": 0.1}, {"epsilon": 0.02, "calibrated": True, "power": 1.5})
    ]
    thresholds = {"robust": (2.0, 3.0, 4.0), "robust-provable": (0.3, 0.6, 1.2)}
    given = [
        {"name": name, "model": {"threshold": threshold, "epsilon": 0.02, "similarity": False}}
        for name, values in thresholds.items()
        for threshold in values
    ]
    return [*guarded, *given]


def answers(dataset: str, pool: list[Member], seeds: int, folder: Path) -> tuple[Answers, dict[str, Tensor]]:
    """Class probabilities of each graph, candidate and seed at the validation nodes that count; and their classes."""
    found: Answers = {}
    labels: dict[str, Tensor] = {}
    for graph, (data, nodes) in graphs(dataset).items():
        key = f"{dataset}, {graph}"
        labels[key] = data.y[nodes]
        for member, seed in itertools.product(pool, range(seeds)):
            path = folder / f"{digest({'graph': key, 'member': member, 'seed': seed})}.pt"
            if not path.exists():
                model = build(member["name"], data.num_features, int(data.y.max()) + 1, **member["model"])
                fit(model, data, seed=seed, **load_preset(member["name"], "default")["training"])
                with replacing(path) as partial:
                    torch.save(predict(model, data).softmax(dim=-1)[nodes].clone(), partial)
            found[key, json.dumps(member), seed] = torch.load(path)
        print(key, flush=True)
    return found, labels


def accuracy(members: list[Member], found: Answers, labels: dict[str, Tensor], seeds: int) -> dict[str, float]:
    """In percent, of each graph; a candidate that is in it twice is there under two seeds."""
    names = [json.dumps(member) for member in members]
    result = {}
    for graph, label in labels.items():
        right = []
        for seed in range(seeds):
            total = sum(
                found[graph, name, (seed + names[:place].count(name)) % seeds] for place, name in enumerate(names)
            )
            assert isinstance(total, Tensor)
            right.append(100 * float((total.argmax(dim=-1) == label).float().mean()))
        result[graph] = mean(right)
    return result


def grow(pool: list[Member], found: Answers, labels: dict[str, Tensor], seeds: int) -> list[dict[str, Any]]:
    """The members after each step, with their accuracies."""
    steps: list[dict[str, Any]] = []
    while len(steps) < MOST:
        members = steps[-1]["members"] if steps else []
        tried = []
        for candidate in pool:
            scores = accuracy([*members, candidate], found, labels, seeds)
            tried.append({"members": [*members, candidate], "val_accuracy": scores, "objective": mean(scores.values())})
        best = max(tried, key=lambda step: step["objective"])
        if steps and best["objective"] <= steps[-1]["objective"]:
            break
        steps.append(best)
    return steps


def main() -> None:
    """Fit what is missing, choose, and write the steps down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", action="append", required=True)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    folder = options.out / "members"
    folder.mkdir(parents=True, exist_ok=True)
    commit, changes = current_commit()
    known = {dataset: answers(dataset, candidates(), options.seeds, folder) for dataset in options.dataset}
    together = ({}, {})
    for found, labels in known.values():
        together[0].update(found)
        together[1].update(labels)
    lines = []
    scopes = {**known, "default": together} if len(known) > 1 else known
    for (scope, (found, labels)), provable in itertools.product(scopes.items(), (False, True)):
        pool = [member for member in candidates() if not provable or member["name"] == "robust-provable"]
        model = "robust-provable-ensemble" if provable else "robust-ensemble"
        for step in grow(pool, found, labels, options.seeds):
            line = {"for": scope, "model": model, "seeds": options.seeds, **step, "commit": commit}
            lines.append({**line, "uncommitted_changes": changes, "versions": current_versions()})
            print(scope, model, f"{step['objective']:.2f}", step["members"][-1])
    with replacing(options.out / "chosen.jsonl") as partial:
        partial.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
