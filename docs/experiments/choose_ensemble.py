"""Choose the λ of each member of ``robust-ensemble`` by the validation nodes alone, some of them attacked themselves.

    python docs/experiments/choose_ensemble.py --dataset cora --dataset citeseer --out runs/ensemble

There is a member of each kind: either force, with A(0) as it is, with A(0) calibrated, and with the given edges. What
is chosen is its λ. Every candidate is fitted on the graphs of ``choose_setting.py``, under several seeds. A fit keeps
the epoch that is best on the validation nodes and looks better there than it is: here each stops on one half of them,
and what it answers on the other half counts, the halves by turns. Of a kind that candidate is chosen which has the most
right answers, all graphs, halves and seeds together (the targeted attack has a twentieth of them); for each data set,
and for all of them, which gives the default. A number that is there already, in OUT, is not made again.
"""

from __future__ import annotations

import argparse
import copy
import itertools
from pathlib import Path
from typing import Any

import torch
from appending import append, read
from choose_setting import graphs
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.nn import build
from contractive_gnn.training import fit, predict

Member = dict[str, Any]

A0 = {"epsilon": 0.1}
CALIBRATED = {"epsilon": 0.02, "calibrated": True, "power": 1.5}
GIVEN = {"epsilon": 0.02, "similarity": False}
KINDS = [
    ("robust", A0, (3.0, 4.0, 5.0)),
    ("robust", CALIBRATED, (3.0, 4.0, 5.0)),
    ("robust", GIVEN, (2.0, 3.0)),
    ("robust-provable", A0, (0.8, 1.2)),
    ("robust-provable", CALIBRATED, (0.8, 1.2)),
    ("robust-provable", GIVEN, (0.3, 0.6)),
]
"""The models, what they do with the edges, and the λ to choose from."""


def members() -> list[list[Member]]:
    """The candidates of each kind."""
    return [
        [{"name": name, "model": {"threshold": threshold, **weights}} for threshold in thresholds]
        for name, weights, thresholds in KINDS
    ]


def halves(data: Data, nodes: Tensor, half: int) -> tuple[Data, Tensor]:
    """The graph with one half of its validation nodes, and which of ``nodes`` (a mask or indices) are in the other."""
    validation = data.val_mask.nonzero().squeeze(1)
    order = validation[torch.randperm(validation.numel(), generator=torch.Generator().manual_seed(0))]
    stop = copy.copy(data)
    stop.val_mask = torch.zeros_like(data.val_mask)
    stop.val_mask[order[half::2]] = True
    counted = torch.zeros_like(data.val_mask)
    counted[nodes] = True
    return stop, (counted & ~stop.val_mask).nonzero().squeeze(1)


def main() -> None:
    """Write a line for each fit, and name the best of each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", action="append", required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    there = read(options.out)
    rows = []
    commit, changes = current_commit()
    for dataset in options.dataset:
        seen = graphs(dataset)
        for (graph, (data, nodes)), half in itertools.product(seen.items(), (0, 1)):
            stop, count = halves(data, nodes, half)
            for member, seed in itertools.product(itertools.chain(*members()), range(options.seeds)):
                fitted = {"dataset": dataset, "graph": graph, "half": half, "member": member, "seed": seed}
                if known := [row for row in there if fitted.items() <= row.items()]:
                    rows += known[:1]
                    continue
                model = build(member["name"], data.num_features, int(data.y.max()) + 1, **member["model"])
                fit(model, stop, seed=seed, **load_preset(member["name"], "default")["training"])
                right = (predict(model, data).argmax(dim=-1) == data.y)[count]
                row = {**fitted, "right": int(right.sum()), "of": right.numel()}
                row |= {"commit": commit, "uncommitted_changes": changes, "versions": current_versions()}
                append(options.out, [row])
                rows.append(row)
    scopes = {name: (name,) for name in options.dataset} | {"all": tuple(options.dataset)}
    for (scope, datasets), kind in itertools.product(scopes.items(), members()):
        shares = []
        for member in kind:
            counted = [row for row in rows if row["dataset"] in datasets and row["member"] == member]
            shares.append(100 * sum(row["right"] for row in counted) / sum(row["of"] for row in counted))
        print(f"{scope}:", kind[shares.index(max(shares))], *(f"{share:.2f}" for share in shares))


if __name__ == "__main__":
    main()
