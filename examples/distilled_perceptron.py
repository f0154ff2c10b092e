"""A perceptron that learns a robust model's answers: what structural robustness is worth without any structure.

    python examples/distilled_perceptron.py --out docs/results/distilled_perceptron.jsonl

The student sees the features of all nodes and, as targets, the class probabilities that ``robust`` gives them on the
graph at hand (Zhang et al., *Graph-less Neural Networks*, ICLR 2022). At inference it reads no edge: whoever changes
edges after the training changes nothing. It owes this to having seen the very nodes that it is asked about (Gosch et
al., *Adversarial Training for Graph Neural Networks: Pitfalls, Solutions, and New Directions*, NeurIPS 2023), so it
belongs beside every figure of evasion or certified accuracy in this setting.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn import datasets, nn
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.results import current_commit, current_versions, replacing
from contractive_gnn.nn.sparse import compress
from contractive_gnn.training import evaluate, fit, predict

EPOCHS = 300


def distil(data: Data, target: Tensor, *, seed: int) -> torch.nn.Module:
    """A perceptron with the least mean cross-entropy to ``target``, ``[n, classes]``, over all nodes."""
    torch.manual_seed(seed)
    student = nn.build("mlp", data.num_features, target.shape[1], dropout=0.6)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01, weight_decay=5e-4)
    x = compress(data.x)
    student.train()
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(student(x, data.edge_index), target).backward()
        optimizer.step()
    return student


def main() -> None:
    """Write one line for each graph and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    commit, changes = current_commit()
    with replacing(options.out) as partial, partial.open("w", encoding="utf-8") as file:
        for name in ("cora", "citeseer"):
            preset = load_preset("robust", name)
            for rate in (None, 0.25):
                data = datasets.load(name) if rate is None else datasets.load_attacked(name, "metattack", rate)
                for seed in range(options.seeds):
                    teacher = nn.build("robust", data.num_features, int(data.y.max()) + 1, **preset["model"])
                    fit(teacher, data, seed=seed, **preset["training"])
                    target = predict(teacher, data).softmax(dim=1)
                    # the labels that are known are not left to the teacher
                    known = data.train_mask
                    target[known] = torch.nn.functional.one_hot(data.y[known], target.shape[1]).to(target.dtype)
                    student = distil(data, target, seed=seed)
                    row = {
                        "dataset": name,
                        "split": data.split,
                        "attack": "clean" if rate is None else "metattack",
                        "budget": rate or 0.0,
                        "seed": seed,
                        "teacher_accuracy": evaluate(teacher, data, data.test_mask),
                        "accuracy": evaluate(student, data, data.test_mask),
                        "commit": commit,
                        "uncommitted_changes": changes,
                        "versions": current_versions(),
                    }
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                    print(
                        f"{name}, {row['attack']} {row['budget']:g}, seed {seed}: "
                        f"teacher {row['teacher_accuracy']:.1f}, perceptron {row['accuracy']:.1f}"
                    )


if __name__ == "__main__":
    main()
