"""Layers and training of two builds of the library, by turns in one run: the time of one over that of the other.

    python docs/experiments/compare_builds.py --before OLD/bin/python --after NEW/bin/python --out FILE.jsonl

Each round measures the suites ``layers`` and ``training`` of ``contractive-gnn speed`` with one interpreter and then
with the other, in a process of its own with one thread; the shortest time of each build counts. DeepRobust's models,
which are nobody's build, are left out. Every build measures by its own copy of :mod:`contractive_gnn.bench.speed`.
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
import json, sys
import torch
from contractive_gnn.bench import speed
torch.set_num_threads(1)
for figure in (*speed.layers(repeats=int(sys.argv[1])), *speed.training(slow=False, sizes=(2_000, 20_000))):
    print(json.dumps([figure.suite, figure.name, figure.ours_s]), flush=True)
"""


def measure(python: str, repeats: int) -> dict[tuple[str, str], float]:
    """Seconds of each figure of both suites, by suite and name; a figure with two peers is measured twice."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, "-W", "ignore", "-c", MEASURE, str(repeats)], env=environment, check=True, stdout=subprocess.PIPE
    )
    seconds: dict[tuple[str, str], float] = {}
    for line in done.stdout.decode().splitlines():
        suite, name, value = json.loads(line)
        seconds[suite, name] = min(value, seconds.get((suite, name), value))
    return seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure by turns, append a line for each figure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="interpreter with the build before")
    parser.add_argument("--after", default=sys.executable, help="with the build after; by default this one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="of each layer in a round")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    best: list[dict[tuple[str, str], float]] = [{}, {}]
    for _ in range(options.rounds):
        for shortest, python in zip(best, (options.before, options.after), strict=True):
            for key, value in measure(python, options.repeats).items():
                shortest[key] = min(value, shortest.get(key, value))
    before, after = best
    with options.out.open("a", encoding="utf-8") as file:
        for (suite, name), seconds in after.items():
            if (suite, name) not in before:
                print(f"not in the build before: {name}")
                continue
            earlier = before[suite, name]
            row = {"suite": suite, "name": name, "before_s": earlier, "after_s": seconds, "ratio": seconds / earlier}
            file.write(json.dumps({**row, "rounds": options.rounds, "versions": current_versions()}) + "\n")
            print(f"{seconds / earlier:6.3f}  {earlier:9.4f} s -> {seconds:9.4f} s  {name}", flush=True)


if __name__ == "__main__":
    main()
