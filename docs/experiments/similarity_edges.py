"""Where Metattack's edges lie, and what the similarity adjacency says of them.

    python docs/experiments/similarity_edges.py [--out runs/similarity_edges.jsonl]

For each published graph: how many of the added and of the original edges end at a labelled node, their mean weights,
and the area under the curve with which the weight tells them apart. Then, before and after the attack, how many of the
edges of weight 0 join two nodes of one class: the same cosine does not always mean the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from contractive_gnn import datasets
from contractive_gnn.bench.results import replacing
from contractive_gnn.nn import Similarity


def area(high: torch.Tensor, low: torch.Tensor) -> float:
    """The probability that a value of ``high`` exceeds one of ``low``, ties counted half."""
    values, place = torch.cat([high, low]).unique(return_inverse=True)
    count = torch.zeros(2, len(values), dtype=torch.float64)
    count[0].index_add_(0, place[: len(high)], torch.ones(len(high), dtype=torch.float64))
    count[1].index_add_(0, place[len(high) :], torch.ones(len(low), dtype=torch.float64))
    below = count[1].cumsum(0) - count[1] / 2
    return float((count[0] * below).sum() / (len(high) * len(low)))


def measure(name: str, budget: float) -> dict[str, object]:
    """One line of the results."""
    clean, attacked = datasets.load(name), datasets.load_attacked(name, "metattack", budget)
    codes = [graph.edge_index[0] * graph.num_nodes + graph.edge_index[1] for graph in (clean, attacked)]
    added = ~torch.isin(codes[1], codes[0])
    labelled = attacked.train_mask[attacked.edge_index].any(dim=0)
    weight = Similarity()(attacked.x, attacked.edge_index)
    line: dict[str, object] = {"dataset": name, "budget": budget, "area": round(area(weight[~added], weight[added]), 4)}
    for kind, chosen in (("added", added), ("original", ~added)):
        line[f"{kind}_edges"] = int(chosen.sum()) // 2
        line[f"{kind}_at_labelled_nodes"] = round(float(labelled[chosen].float().mean()), 4)
        line[f"{kind}_mean_weight"] = round(float(weight[chosen].mean()), 4)
    before = Similarity()(clean.x, clean.edge_index)
    for when, graph, weights in (("before", clean, before), ("after", attacked, weight)):
        alike = graph.y[graph.edge_index[0]] == graph.y[graph.edge_index[1]]
        line[f"within_a_class_at_weight_0_{when}"] = round(float(alike[weights == 0].float().mean()), 4)
    return line


def main() -> None:
    """Measure all published graphs at 25 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/similarity_edges.jsonl"))
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = [measure(name, 0.25) for name in ("cora", "citeseer", "polblogs")]
    with replacing(out) as path:
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for line in lines:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
