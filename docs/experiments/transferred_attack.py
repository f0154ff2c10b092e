"""The white-box attack on one model, and what its graph does to the others that are trained on it.

    python docs/experiments/transferred_attack.py --out docs/results/transferred_attack.jsonl

A model that reads few edges, or none, gives an attacker no gradient, and the graph made against *it* is harmless. So
every model is trained here on the graphs made against ``robust``, with the same seed: the poisoning that hurts a
perceptron most that ``robust`` has taught. The lines that are there already are not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from appending import left, read, work_off

from contractive_gnn import datasets
from contractive_gnn.bench.protocol import Protocol
from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.bench.runner import make_graph, train
from contractive_gnn.bench.spec import parse_attacks
from contractive_gnn.training import evaluate

VICTIM = "robust"
MODELS = (
    "robust",
    "robust-provable",
    "robust-distilled",
    "robust-ensemble",
    "robust-mixture",
    "rung",
    "csgnn",
    "appnp",
    "gcn",
    "mlp",
)


def lines(dataset: str, budget: float, seed: int, models: tuple[str, ...]) -> list[dict[str, object]]:
    """Attack the victim, train the models on the clean graph and on the attacked one."""
    (spec,) = parse_attacks(f"whitebox-pgd:{budget}", dataset=dataset)
    protocol = Protocol(dataset=dataset, models=(VICTIM, *models), attacks=(spec,), seeds=(seed,))
    data = datasets.load(dataset)
    victim = train(protocol, VICTIM, data, seed=seed).model
    attacked = make_graph(protocol, spec, data, victim=victim).data
    commit, changes = current_commit()
    common = {
        "dataset": dataset,
        "victim": VICTIM,
        "attack": "whitebox-pgd",
        "budget": budget,
        "seed": seed,
        "commit": commit,
    }
    frozen, rows = evaluate(victim, attacked, data.test_mask), []
    for name in models:
        model = train(protocol, name, data, seed=seed).model
        clean, moved = evaluate(model, data, data.test_mask), evaluate(model, attacked, data.test_mask)
        again = evaluate(train(protocol, name, attacked, seed=seed).model, attacked, data.test_mask)
        row = {**common, "model": name, "clean": clean, "victim_frozen": frozen, "frozen": moved, "trained_anew": again}
        rows.append({**row, "uncommitted_changes": changes, "versions": current_versions()})
    return rows


def main() -> None:
    """Append the lines of each budget and seed as they are found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cora")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    done = {(row["dataset"], row["budget"], row["seed"], row["model"]) for row in read(options.out)}
    groups = ((options.dataset, budget, seed) for seed in range(options.seeds) for budget in options.budgets)
    wanted = left(done, groups, options.models)
    for rows in work_off(lines, wanted, jobs=options.jobs, out=options.out):
        for row in rows:
            print(f"{row['budget']:g}, seed {row['seed']}, {row['model']}: {row['trained_anew']:.1f}", flush=True)


if __name__ == "__main__":
    main()
