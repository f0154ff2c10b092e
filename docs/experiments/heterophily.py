"""Accuracy against homophily: graphs whose neighbours are alike, unrelated, and unlike.

    python docs/experiments/heterophily.py --out docs/results/heterophily.jsonl

Contextual stochastic block models with 1,000 nodes and four classes, every model with its default setting. With four
classes neighbours are unrelated at a homophily of 0.25.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from contractive_gnn import datasets, nn
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.results import current_commit, current_versions, replacing
from contractive_gnn.training import evaluate, fit

MODELS = ("mlp", "gcn", "robust", "robust-provable")
HOMOPHILIES = (0.05, 0.1, 0.25, 0.4, 0.6, 0.8)


def main() -> None:
    """Write one line for each graph and model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=int, default=5, help="for each homophily")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    commit, changes = current_commit()
    with replacing(options.out) as partial, partial.open("w", encoding="utf-8") as file:
        for homophily in HOMOPHILIES:
            for seed in range(options.graphs):
                data = datasets.contextual_sbm(1000, homophily=homophily, seed=seed)
                for name in MODELS:
                    preset = load_preset(name, "csbm")
                    model = nn.build(name, data.num_features, int(data.y.max()) + 1, **preset["model"])
                    fitted = fit(model, data, seed=0, **preset["training"])
                    row = {
                        "homophily": homophily,
                        "graph_seed": seed,
                        "model": name,
                        "setting": getattr(model, "setting", None),
                        "val_accuracy": fitted.val_accuracy,
                        "accuracy": evaluate(model, data, data.test_mask),
                        "train_s": fitted.seconds,
                        "commit": commit,
                        "uncommitted_changes": changes,
                        "versions": current_versions(),
                    }
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                    print(f"homophily {homophily}, graph {seed}, {name}: {row['accuracy']:.1f} ({row['setting']})")


if __name__ == "__main__":
    main()
