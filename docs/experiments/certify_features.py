"""What a certificate can hold when binary features are flipped at every node of Cora: limits, in docs/certificates.md.

    python docs/experiments/certify_features.py --out docs/results/certify/features.jsonl

*From the features alone* (``kind: features``), for any classifier whatsoever: two nodes of different classes whose
features are at most 2 q flips apart have features within q flips of both, where it says one class only. So it cannot be
right and certified at both, nor at two nodes of a set in which all pairs conflict: a partition of the test nodes into m
such sets leaves at most m of them. A large partition of that kind is found greedily.

*From memory* (``kind: memory``): how much of that a classifier holds which remembers nodes and ``robust``'s answers for
them, and gives to a node the class of the nearest one it remembers, in flipped entries. Where the nearest of another
class is more than 2 q entries farther, no q flips change that, and no edge is read at all. What it remembers is a set
without conflicts, chosen greedily.

*From the labels alone* (``kind: labels``), where features say nothing: a diffusion of the training labels, which stay
fixed and which nobody flips, under one flip of an edge at every node.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import chain, product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn import datasets, nn
from contractive_gnn.activations import activation
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.results import current_commit, current_versions, replacing
from contractive_gnn.certificates import FlipBudget, Neighbourhoods, worst_step
from contractive_gnn.training import fit, predict


def main() -> None:
    """Write one line for each number of flipped entries, and for each diffusion of the labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cora")
    parser.add_argument("--flips", type=int, nargs="+", default=[1, 2, 4, 7, 10, 14])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data = datasets.load(options.dataset)
    commit, changes = current_commit()
    source = {"commit": commit, "uncommitted_changes": changes, "versions": current_versions()}
    with replacing(options.out) as partial, partial.open("w", encoding="utf-8") as file:
        rows = (
            (from_features(data, flips) for flips in options.flips),
            *(from_memory(data, options.dataset, options.flips, seed=seed) for seed in range(options.seeds)),
            from_labels(data),
        )
        for row in chain.from_iterable(rows):
            file.write(json.dumps({"dataset": options.dataset, "split": data.split, **row, **source}) + "\n")
            print(row, flush=True)


def from_features(data: Data, flips: int) -> dict[str, Any]:
    """An upper bound of the certified accuracy of every classifier of a node's own features."""
    x, y = data.x[data.test_mask], data.y[data.test_mask]
    entries = x.sum(dim=1)
    conflict = (distances(x) <= 2 * flips) & (y[:, None] != y)
    return {
        "kind": "features",
        "feature_flips": flips,
        "at_most_this_many_entries": 100.0 * float((entries <= flips).double().mean()),
        "in_conflict": 100.0 * float(conflict.any(dim=1).double().mean()),
        "at_most": 100.0 * conflicting_sets(conflict) / len(y),
    }


def distances(x: Tensor) -> Tensor:
    """How many entries two rows differ in, ``[n, n]``."""
    entries = x.sum(dim=1)
    return entries[:, None] + entries - 2 * x @ x.t()


def from_memory(data: Data, dataset: str, budgets: list[int], *, seed: int) -> Iterator[dict[str, Any]]:
    """Clean and certified accuracy of a memory of ``robust``'s answers, and of the training labels, for all nodes."""
    preset = load_preset("robust", dataset)
    teacher = nn.build("robust", data.num_features, int(data.y.max()) + 1, **preset["model"])
    fit(teacher, data, seed=seed, **preset["training"])
    label = torch.where(data.train_mask, data.y, predict(teacher, data).argmax(dim=1))
    between = distances(data.x)
    for flips in budgets:
        kept = without_conflict((between <= 2 * flips) & (label[:, None] != label))
        near, place = between[:, kept].min(dim=1)
        answer = label[kept][place]
        strange = between[:, kept].masked_fill(label[kept] == answer[:, None], torch.inf).amin(dim=1)
        right, certified = answer == data.y, strange - near > 2 * flips
        yield {
            "kind": "memory",
            "feature_flips": flips,
            "seed": seed,
            "remembered": int(kept.sum()),
            "test_accuracy": 100.0 * float(right[data.test_mask].double().mean()),
            "test_certified": 100.0 * float((right & certified)[data.test_mask].double().mean()),
        }


def without_conflict(conflict: Tensor) -> Tensor:
    """Nodes of which no two conflict, bool ``[n]``: again and again the one with the fewest conflicts left joins."""
    degree = conflict.sum(dim=1)
    free, kept = torch.ones(len(conflict), dtype=torch.bool), torch.zeros(len(conflict), dtype=torch.bool)
    while bool(free.any()):
        node = int(degree.masked_fill(~free, len(conflict)).argmin())
        kept[node] = True
        gone = conflict[node] & free
        free[node] = False
        free &= ~gone
        degree -= conflict[:, gone].sum(dim=1)
    return kept


def conflicting_sets(conflict: Tensor) -> int:
    """Into how few sets of mutually conflicting nodes a greedy choice parts the nodes."""
    degree = conflict.sum(dim=1)
    free, sets = torch.ones(len(conflict), dtype=torch.bool), 0
    for node in degree.argsort().tolist():
        if free[node]:
            sets += 1
            free[node] = False
            # of those in conflict with all members, the one with the fewest conflicts joins
            common = conflict[node] & free
            while bool(common.any()):
                partners = common.nonzero().flatten()
                member = partners[degree[partners].argmin()]
                free[member] = False
                common &= conflict[member]
                common[member] = False
    return sets


def from_labels(data: Data) -> Iterator[dict[str, Any]]:
    """Clean and certified accuracy of a diffusion of the training labels, which are held fixed."""
    n, classes, fixed = data.num_nodes, int(data.y.max()) + 1, data.train_mask
    start = torch.zeros(n, classes, dtype=torch.float64)
    start[fixed] = torch.nn.functional.one_hot(data.y[fixed], classes).double()
    anchor = torch.cat([start, -start], dim=1)
    graphs = [Neighbourhoods.of(data.edge_index, FlipBudget.uniform(flips, n)) for flips in (0, 1)]
    for mu, threshold, num_steps in product((0.0, 0.1, 0.3), (0.03, 0.3, 2.0), (10, 30)):
        sigma, step = activation("huber", threshold=threshold), 1 / (1 + mu)
        states = []
        for graph in graphs:
            z = anchor
            for _ in range(num_steps):
                z = worst_step(z, graph, sigma, anchor=anchor, step=step, mu=0.0) - step * mu * (z - anchor)
                z = torch.where(fixed[:, None], anchor, z)
            states.append(z)
        prediction = states[0][:, :classes].argmax(dim=1)
        margin = -states[1][:, classes:].gather(1, prediction[:, None]) - states[1][:, :classes]
        certified = margin.scatter(1, prediction[:, None], torch.inf).amin(dim=1) > 1e-9
        right = prediction == data.y
        row: dict[str, Any] = {"kind": "labels", "mu": mu, "threshold": threshold, "num_steps": num_steps, "flips": 1}
        for name, mask in (("val", data.val_mask), ("test", data.test_mask)):
            row[f"{name}_accuracy"] = 100.0 * float(right[mask].double().mean())
            row[f"{name}_certified"] = 100.0 * float((right & certified)[mask].double().mean())
        yield row


if __name__ == "__main__":
    main()
