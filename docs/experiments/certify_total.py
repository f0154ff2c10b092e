"""What a limit on the flips in the whole graph is worth: the certificate for a total beside every node's own budget.

    python docs/experiments/certify_total.py --out docs/results/certify/total.jsonl

The preset "certified" on Cora. Each line has the certified accuracy under the budgets per node capped at the total
(``capped_accuracy``), by the bound for the total (``certified_accuracy``), and the share of the test nodes that are
right and that no attack within the total changed, which no certificate can exceed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from contractive_gnn import datasets
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.results import current_commit, current_versions, replacing
from contractive_gnn.certificates import FlipBudget, attack, certify
from contractive_gnn.certificates.training import fit_certified
from contractive_gnn.nn import linf_diffusion
from contractive_gnn.training import evaluate

BUDGETS = [(1, 1), (1, 2), (1, 3), (1, 10), (1, 50), (3, 3)]


def main() -> None:
    """Write one line for each seed, budget per node and total."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cora")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--attacked-predictions", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data = datasets.load(options.dataset)
    n, preset = data.num_nodes, load_preset("certified", options.dataset)
    commit, changes = current_commit()
    with replacing(options.out) as partial, partial.open("w", encoding="utf-8") as file:
        for seed in range(options.seeds):
            model = linf_diffusion(data.num_features, int(data.y.max()) + 1, **preset["model"])
            fit_certified(model, data, flips=FlipBudget.uniform(1, n), seed=seed, **preset["training"])
            for per_node, total in BUDGETS:
                budget = FlipBudget.uniform(per_node, n, total=total)
                capped = certify(model, data.x, data.edge_index, flips=FlipBudget.uniform(min(per_node, total), n))
                certificate = certify(model, data.x, data.edge_index, flips=budget)
                attacked = attack.run(
                    model, data.x, data.edge_index, certificate, flips=budget,
                    predictions=options.attacked_predictions, seed=seed,
                )  # fmt: skip
                kept = (certificate.prediction == data.y) & ~attacked.changed
                row = {
                    "dataset": options.dataset,
                    "split": data.split,
                    "seed": seed,
                    "per_node": per_node,
                    "total": total,
                    "clean_accuracy": evaluate(model, data, data.test_mask),
                    "capped_accuracy": capped.accuracy(data.y, data.test_mask),
                    "certified_accuracy": certificate.accuracy(data.y, data.test_mask),
                    "unchanged_accuracy": 100.0 * float(kept[data.test_mask].double().mean()),
                    "attacked_predictions": attacked.predictions,
                    "broken": attacked.broken,
                    "certify_s": certificate.seconds,
                    "hyperparameters": preset,
                    "commit": commit,
                    "uncommitted_changes": changes,
                    "versions": current_versions(),
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                shown = ("seed", "per_node", "total", "capped_accuracy", "certified_accuracy", "unchanged_accuracy")
                print(*(f"{key} {row[key]}" for key in (*shown, "broken")), flush=True)


if __name__ == "__main__":
    main()
