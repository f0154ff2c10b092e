"""How many predictions of a mixture no change of edges can alter, for known nodes and for hidden ones.

    python docs/experiments/immune.py --out docs/results/immune.jsonl

The teacher and the student of ``robust-mixture`` are fitted once for each seed; then the share of the answer that edges
decide is varied. ``hidden`` nodes are absent from the graph of the training (``inductive.py``). The lines that are
there already are not made again.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from appending import left, read, work_off
from inductive import split

from contractive_gnn import datasets
from contractive_gnn.bench.protocol import Protocol
from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.bench.runner import train
from contractive_gnn.bench.spec import parse_attacks
from contractive_gnn.nn import MLPMixture
from contractive_gnn.training import evaluate, predict

NAME = "robust-mixture"


def lines(dataset: str, nodes: str, seed: int, shares: tuple[float, ...]) -> list[dict[str, object]]:
    """Fit one model, and count for each share."""
    data = datasets.load(dataset)
    known, whole = split(data, seed=seed) if nodes == "hidden" else (data, data)
    protocol = Protocol(dataset=dataset, models=(NAME,), attacks=parse_attacks("clean", dataset=dataset), seeds=(seed,))
    fitted = train(protocol, NAME, known, seed=seed).model
    assert isinstance(fitted, MLPMixture)
    commit, changes = current_commit()
    common = {"dataset": dataset, "nodes": nodes, "seed": seed, "n": int(whole.test_mask.sum())}
    rows: list[dict[str, object]] = []
    for share in shares:
        model = MLPMixture(fitted.teacher, fitted.student, weight=share)
        right = predict(model, whole).argmax(dim=1) == whole.y
        safe = (right & model.certified_any_edges(whole.x, whole.edge_index))[whole.test_mask].double().mean()
        accuracy = evaluate(model, whole, whole.test_mask)
        rows.append({**common, "share": share, "accuracy": accuracy, "right_and_immune": 100 * float(safe)})
    return [{**row, "commit": commit, "uncommitted_changes": changes, "versions": current_versions()} for row in rows]


def main() -> None:
    """Append the lines of each fit as they are found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["cora", "citeseer"])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.2, 0.3, 0.4, 0.45])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    done = {(row["dataset"], row["nodes"], row["seed"], row["share"]) for row in read(options.out)}
    groups = itertools.product(options.datasets, ("known", "hidden"), range(options.seeds))
    wanted = left(done, groups, options.shares)
    for rows in work_off(lines, wanted, jobs=options.jobs, out=options.out):
        for row in rows:
            told = f"{row['accuracy']:.1f} right, {row['right_and_immune']:.1f} right and immune"
            print(row["dataset"], row["nodes"], row["seed"], row["share"], told, flush=True)


if __name__ == "__main__":
    main()
