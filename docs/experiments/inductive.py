"""Evasion where nothing can be remembered: the attacked nodes are absent from the graph that a model is trained on.

    python docs/experiments/inductive.py --out docs/results/inductive_cora.jsonl

Of the test nodes a quarter is hidden, with its edges; the others stay, unlabelled. Every model is trained on that graph
and asked about the hidden nodes on the whole one, clean and after white-box PGD has flipped as many edges as the given
share of those at hidden nodes (Gosch et al., *Adversarial training for graph neural networks*, NeurIPS 2023, on why a
model that has seen the nodes may only remember them). The lines that are there already are not made again.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
from appending import read, work_off
from torch_geometric.data import Data

from contractive_gnn import attacks, datasets
from contractive_gnn.attacks import Budget
from contractive_gnn.bench.protocol import Protocol
from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.bench.runner import train
from contractive_gnn.bench.spec import parse_attacks
from contractive_gnn.training import evaluate

MODELS = (
    "robust-ensemble",
    "robust-mixture",
    "robust",
    "robust-provable",
    "robust-distilled",
    "csgnn",
    "rung",
    "appnp",
    "gcn",
    "mlp",
)


def split(data: Data, *, seed: int) -> tuple[Data, Data]:
    """The graph without the hidden nodes, and the whole one with these as its test nodes."""
    test = data.test_mask.nonzero().squeeze(1)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
    hidden = torch.zeros_like(data.test_mask)
    hidden[test[order[: len(test) // 4]]] = True
    whole = copy.copy(data)
    whole.test_mask = hidden
    return datasets.without_test_nodes(whole), whole


def lines(dataset: str, name: str, budgets: tuple[float, ...], seed: int) -> list[dict[str, object]]:
    """Train one model without the hidden nodes, and attack it at them."""
    known, whole = split(datasets.load(dataset), seed=seed)
    protocol = Protocol(dataset=dataset, models=(name,), attacks=parse_attacks("clean", dataset=dataset), seeds=(seed,))
    model = train(protocol, name, known, seed=seed).model
    at_hidden = int(whole.test_mask[whole.edge_index].any(dim=0).sum()) // 2
    commit, changes = current_commit()
    common = {"dataset": dataset, "model": name, "seed": seed, "hidden_nodes": int(whole.test_mask.sum())}
    rows: list[dict[str, object]] = [{**common, "budget": 0.0, "accuracy": evaluate(model, whole, whole.test_mask)}]
    for budget in budgets:
        result = attacks.get("whitebox-pgd", seed=0).run(whole, Budget(flips=round(budget * at_hidden)), victim=model)
        accuracy = evaluate(model, result.data, whole.test_mask)
        told = result.provenance["params"]["diagnosis"]["unreliable"]
        rows.append({**common, "budget": budget, "flips": result.n_flips, "accuracy": accuracy, "unreliable": told})
    return [{**row, "commit": commit, "uncommitted_changes": changes, "versions": current_versions()} for row in rows]


def main() -> None:
    """Append the lines of each model and seed as they are found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cora")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.05, 0.2])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    done = {(row["dataset"], row["model"], row["seed"]) for row in read(options.out)}
    wanted = [
        (options.dataset, model, tuple(options.budgets), seed)
        for seed in range(options.seeds)
        for model in options.models
        if (options.dataset, model, seed) not in done
    ]
    for rows in work_off(lines, wanted, jobs=options.jobs, out=options.out):
        for row in rows:
            print(row["model"], row["seed"], row["budget"], f"{row['accuracy']:.1f}", flush=True)


if __name__ == "__main__":
    main()
