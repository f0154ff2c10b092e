"""Seconds that importing the layers takes, beside importing PyG in the same process.

    python docs/experiments/import_time.py --out docs/results/import_time.jsonl

A line for each fresh process: the time until ``torch_geometric`` is there, and until ``contractive_gnn.nn`` is, from
the same start. The least of several counts: what else the machine does only adds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, time
start = time.perf_counter()
import torch_geometric
pyg_s = time.perf_counter() - start
import contractive_gnn.nn
print(json.dumps({"pyg_s": pyg_s, "layers_s": time.perf_counter() - start}))
"""


def measure(runs: int) -> list[dict[str, float]]:
    """One line for each fresh process."""
    lines = []
    for _ in range(runs):
        ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
        lines.append(json.loads(ran.stdout))
    return lines


def main() -> None:
    """Measure, write the lines and print the least ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = measure(options.runs)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with options.out.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    pyg, layers = (min(line[key] for line in lines) for key in ("pyg_s", "layers_s"))
    print(f"torch_geometric {pyg:.2f} s, with contractive_gnn.nn {layers:.2f} s: {layers / pyg:.2f} times")


if __name__ == "__main__":
    main()
