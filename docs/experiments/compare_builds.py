"""Layers and training of two builds of the library, by turns in one run: the time of one over that of the other.

    python docs/experiments/compare_builds.py --before OLD/bin/python --after NEW/bin/python --out FILE.jsonl

What ``contractive-gnn speed`` measures in its suites ``layers`` and ``training``, on our side alone: each round takes
one interpreter and then the other, in a process of its own with one thread; the shortest time of each build counts.
What is measured is built by name, so that both builds understand it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from contractive_gnn.bench.results import current_versions

MEASURE = """
import json, sys, time
import torch
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.speed import random_graph
from contractive_gnn.datasets import load
from contractive_gnn.dynamics import registry
from contractive_gnn.nn import FlowConv, build
from contractive_gnn.training import fit

torch.set_num_threads(1)
repeats, nodes, channels = int(sys.argv[1]), 200_000, 64


def shortest(name, run):
    seconds = []
    for _ in range(repeats + 1):  # the first one compiles
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    print(json.dumps([name, min(seconds[1:])]), flush=True)


edges = random_graph(nodes, 2_000_000)
x, upstream = torch.randn(nodes, channels, requires_grad=True), torch.randn(nodes, channels)


def both_ways(layer, x=x, edges=edges, upstream=upstream):
    layer(x, edges).backward(upstream)
    x.grad = None
    layer.zero_grad()


for name in ("diffusion", "gradient-flow-unnormalised"):
    layer = FlowConv(registry.build(name, channels), num_steps=1)
    shortest(f"layers: one step of {name}, both ways, 200,000 nodes, 2,000,000 edges", lambda: both_ways(layer))
for name in ("robust", "robust-provable"):
    flow = build(name, channels, 2, **load_preset(name, "default")["model"]).conv
    shortest(f"layers: the flow of {name}, both ways, 200,000 nodes, 2,000,000 edges", lambda: both_ways(flow))

data = load("cora")
small, above = torch.randn(data.num_nodes, channels, requires_grad=True), torch.randn(data.num_nodes, channels)
for name in ("diffusion", "gradient-flow-unnormalised"):
    layer = FlowConv(registry.build(name, channels), num_steps=8)

    def hundred():
        for _ in range(100):
            both_ways(layer, small, data.edge_index, above)

    shortest(f"layers: 100 times eight steps of {name}, both ways, Cora", hundred)
preset = load_preset("robust", "cora")
model = build("robust", data.num_features, int(data.y.max()) + 1, **preset["model"])
options = {**preset["training"], "epochs": 60, "patience": None}
shortest("training: robust on Cora, 60 epochs in each fit", lambda: fit(model, data, **options))
"""


def measure(python: str, repeats: int) -> dict[str, float]:
    """Seconds by what was measured."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, "-W", "ignore", "-c", MEASURE, str(repeats)], env=environment, check=True, stdout=subprocess.PIPE
    )
    return dict(map(json.loads, done.stdout.decode().splitlines()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure by turns, append a line for each figure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="interpreter with the build before")
    parser.add_argument("--after", default=sys.executable, help="with the build after; by default this one")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3, help="of each figure in a round")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    best: list[dict[str, float]] = [{}, {}]
    for _ in range(options.rounds):
        for shortest, python in zip(best, (options.before, options.after), strict=True):
            for key, value in measure(python, options.repeats).items():
                shortest[key] = min(value, shortest.get(key, value))
    before, after = best
    with options.out.open("a", encoding="utf-8") as file:
        for name, seconds in after.items():
            row = {"name": name, "before_s": before[name], "after_s": seconds, "ratio": seconds / before[name]}
            file.write(json.dumps({**row, "rounds": options.rounds, "versions": current_versions()}) + "\n")
            print(f"{row['ratio']:6.3f}  {before[name]:9.4f} s -> {seconds:9.4f} s  {name}", flush=True)


if __name__ == "__main__":
    main()
