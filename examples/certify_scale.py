"""Seconds that a certificate takes on random graphs of growing size: the times in docs/certificates.md.

    python examples/certify_scale.py --out docs/results/certify/scale.jsonl

Two edges a node, 7 classes, 10 steps, one flip at every node; weights as they are drawn, since training changes none of
the work. The shorter of two runs counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch_geometric.utils import coalesce

from contractive_gnn.bench.results import current_commit, current_versions, replacing
from contractive_gnn.bench.speed import random_graph
from contractive_gnn.certify import FlipBudget, certify
from contractive_gnn.nn import linf_diffusion

FEATURES, CLASSES = 16, 7


def main() -> None:
    """Write one line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, nargs="+", default=[5_000, 20_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    commit, changes = current_commit()
    with replacing(options.out) as path, path.open("w", encoding="utf-8") as file:
        for number in options.edges:
            nodes = number // 2
            edge_index = coalesce(random_graph(nodes, number))  # a pair that was drawn twice is one edge
            torch.manual_seed(0)
            x = torch.randn(nodes, FEATURES)
            model = linf_diffusion(FEATURES, CLASSES, mu=0.1, threshold=0.2)
            run = partial(certify, model, x, edge_index, flips=FlipBudget.uniform(1, nodes))
            processor, seconds = min(times(run) for _ in range(2))
            row = {
                "nodes": nodes,
                "edges": edge_index.size(1) // 2,
                "flips": 1,
                "seconds": seconds,
                "processor_seconds": processor,
                "threads": options.threads,
                "commit": commit,
                "uncommitted_changes": changes,
                "versions": current_versions(),
            }
            file.write(json.dumps(row) + "\n")
            print(f"{row['edges']:,} edges: {seconds:.2f} s, {processor:.2f} s of the processor", flush=True)


def times(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor, which other processes hardly lengthen, and of the clock."""
    processor, clock = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - processor, time.perf_counter() - clock


if __name__ == "__main__":
    main()
