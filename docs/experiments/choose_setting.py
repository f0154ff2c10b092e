"""Choose a setting of ``robust`` by the validation nodes alone, some of them attacked themselves.

    python docs/experiments/choose_setting.py --out docs/results/robust_setting_cora.jsonl

Every setting is trained on the clean graph, on the published Metattack one, among random edges, and on a graph in which
Nettack spends five flips on each well-connected validation node. On the last one those nodes are scored, on the others
all validation nodes: without it, nothing that a search sees says what a targeted attack does to a setting. Test labels
are read only to count the classes. The lines that are there already are not made again.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from statistics import mean

from appending import append, read
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import degree

from contractive_gnn import attacks, datasets
from contractive_gnn.attacks import Budget
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.nn import build
from contractive_gnn.training import evaluate, fit

LEAST_DEGREE = 6
THRESHOLDS = {"robust": (4.0, 5.0, 6.0), "robust-provable": (1.2, 1.6)}


def settings(model: str) -> list[dict[str, object]]:
    """What to try: calibrated ones, and the default with other thresholds."""
    calibrated = [
        {"calibrated": True, "epsilon": 0.02, "power": power, "threshold": threshold}
        for threshold, power in itertools.product(THRESHOLDS[model], (1.0, 1.5, 2.0))
    ]
    return [*({"threshold": threshold} for threshold in THRESHOLDS[model]), *calibrated]


def graphs(dataset: str) -> dict[str, tuple[Data, Tensor]]:
    """The graphs, and the validation nodes that count on each."""
    data = datasets.load(dataset)
    hubs = (data.val_mask & (degree(data.edge_index[0], data.num_nodes) >= LEAST_DEGREE)).nonzero().squeeze(1)
    targeted = attacks.get("nettack", seed=0).run(data, Budget(flips=5), targets=hubs).data
    noisy = attacks.get("random", seed=0).run(data, Budget(fraction=1.0)).data
    published = datasets.load_attacked(dataset, "metattack", 0.25)
    return {
        "clean": (data, data.val_mask),
        "metattack:0.25": (published, published.val_mask),
        "random:1.0": (noisy, noisy.val_mask),
        f"nettack:5 on {len(hubs)} validation nodes": (targeted, hubs),
    }


def main() -> None:
    """Write a line for each setting, and name the best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cora")
    parser.add_argument("--model", choices=sorted(THRESHOLDS), default="robust")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    asked = {"dataset": options.dataset, "model": options.model, "seeds": options.seeds}
    rows = [row for row in read(options.out) if {name: row[name] for name in asked} == asked]
    seen, preset = graphs(options.dataset), load_preset(options.model, "default")
    commit, changes = current_commit()
    tried = []
    for varied in settings(options.model):
        setting = {"model": {**preset["model"], **varied}, "training": preset["training"]}
        if there := [row for row in rows if row["setting"] == setting]:
            tried += there[:1]
            continue
        accuracy: dict[str, list[float]] = {}
        for (name, (data, nodes)), seed in itertools.product(seen.items(), range(options.seeds)):
            classes = int(data.y.max()) + 1
            model = build(options.model, data.num_features, classes, **setting["model"])
            fit(model, data, seed=seed, **setting["training"])
            accuracy.setdefault(name, []).append(evaluate(model, data, nodes))
        objective = mean(mean(values) for values in accuracy.values())
        row = {**asked, "setting": setting, "val_accuracy": accuracy, "objective": objective}
        tried.append({**row, "commit": commit, "uncommitted_changes": changes, "versions": current_versions()})
        append(options.out, tried[-1:])
        print(f"{objective:.2f}", *(f"{mean(values):.1f}" for values in accuracy.values()), varied, flush=True)
    best = max(tried, key=lambda row: row["objective"])
    print("best:", best["setting"]["model"])


if __name__ == "__main__":
    main()
