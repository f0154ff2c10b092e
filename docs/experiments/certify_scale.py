"""Seconds that a certificate takes on random graphs of growing size: the times in docs/certificates.md.

    python docs/experiments/certify_scale.py --out docs/results/certify/scale.jsonl \\
        --picture docs/images/certify_scale.png

Two edges a node, 7 classes, 10 steps, one flip at every node; weights as they are drawn, since training changes none of
the work. The shorter of two runs counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch_geometric.utils import coalesce

from contractive_gnn.bench.results import current_commit, current_versions, replacing
from contractive_gnn.bench.speed import random_graph
from contractive_gnn.certificates import FlipBudget, certify
from contractive_gnn.nn import linf_diffusion

FEATURES, CLASSES = 16, 7


def main() -> None:
    """Write one line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, nargs="+", default=[5_000, 20_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path, help="PNG of the times with the fitted exponent")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    warm_up()
    rows = []
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
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            print(f"{row['edges']:,} edges: {seconds:.2f} s, {processor:.2f} s of the processor", flush=True)

    for less, more in pairwise(rows):
        print(f"from {less['edges']:,} to {more['edges']:,} edges: exponent {exponent([less, more]):.2f}")
    print(f"fitted to all: {exponent(rows):.2f}")
    if options.picture is not None:
        draw(rows, options.picture)


def warm_up() -> None:
    """Compile what is compiled at first use."""
    edge_index = coalesce(random_graph(100, 200))
    model = linf_diffusion(FEATURES, CLASSES, mu=0.1, threshold=0.2)
    certify(model, torch.randn(100, FEATURES), edge_index, flips=FlipBudget.uniform(1, 100))


def exponent(rows: list[dict[str, Any]]) -> float:
    """Slope of log seconds against log edges, by least squares."""
    edges, seconds = ([log(row[key]) for row in rows] for key in ("edges", "processor_seconds"))
    return float(np.polyfit(edges, seconds, 1)[0]) if len(rows) > 1 else float("nan")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The measured times and a line of slope 1 through the first of them, both axes logarithmic."""
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    edges = np.array([row["edges"] for row in rows])
    seconds = np.array([row["processor_seconds"] for row in rows])
    axes.loglog(edges, seconds, marker="o", color="#0072B2", label=f"measured: edges to the {exponent(rows):.2f}")
    axes.loglog(
        edges, seconds[0] * edges / edges[0], linestyle="--", color="#666666", label="in proportion to the edges"
    )
    axes.set_xlabel("edges")
    axes.set_ylabel("processor time of the certificate (s)")
    axes.set_title("One flip at every node, one core", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=160, bbox_inches="tight", format="png", metadata={"Software": None})


def times(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor, which other processes hardly lengthen, and of the clock."""
    processor, clock = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - processor, time.perf_counter() - clock


if __name__ == "__main__":
    main()
