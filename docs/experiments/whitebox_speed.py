"""White-box PGD of two builds of the library, and PyG's PRBCDAttack, by turns in one run: seconds, memory, accuracy.

    git worktree add ../before b4f21c9 && python -m venv ../before-venv
    ../before-venv/bin/pip install -e ../before
    python docs/experiments/whitebox_speed.py --before ../before-venv/bin/python --out docs/results/whitebox_speed.jsonl

Every model is trained once, by the build of today, and handed on as a ``state_dict``. Each attack runs in a process of
its own with one thread, after a short one that compiles what is to be compiled; both builds attack the same model under
the same seed, one right after the other. ``cpu_s`` are seconds of the processor, the system's among them, ``wall_s``
those of the clock, ``peak_mb`` the growth of the process's peak memory during the attack, ``accuracy`` the per cent of
test nodes that are right on the attacked graph. The graphs are Cora, and ``large``: 20,000 nodes with about 100,000
edges from :func:`contractive_gnn.datasets.contextual_sbm`.

PyG's attack runs on the same GCN with as many gradient steps as ours, 125 and 50 exchanges, under its own loss and
under ours. Lines that are there already are not made again; ``--summary`` prints the ratios of what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from appending import append, read
from torch_geometric.data import Data

from contractive_gnn import datasets
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.results import current_commit, current_versions
from contractive_gnn.nn import build
from contractive_gnn.training import evaluate, fit

STEPS = 175
"""Gradients that white-box PGD takes by default: 100 epochs, 25 fine ones, 50 exchanges."""

ATTACK = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import torch
from contractive_gnn import attacks, datasets
from contractive_gnn.attacks import Budget
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.speed import measure
from contractive_gnn.nn import build

torch.set_num_threads(1)
task = json.loads(sys.argv[1])
data = torch.load(task["data"], weights_only=False)
model = build(task["model"], data.num_features, int(data.y.max()) + 1, **load_preset(task["model"], "cora")["model"])
model.load_state_dict(torch.load(task["weights"]))
model.eval().requires_grad_(False)
flips = int(task["budget"] * data.num_edges / 2)


class LogProbabilities(torch.nn.Module):
    def forward(self, x, edge_index, edge_weight):
        return model(x, edge_index, edge_weight).log_softmax(dim=1)


def ours(**options):
    attack = attacks.get("whitebox-pgd", seed=task["seed"], **options)
    return attack.run(data, Budget(flips=flips), victim=model).data.edge_index


def pyg(epochs):
    from torch_geometric.contrib.nn import PRBCDAttack

    torch.manual_seed(task["seed"])
    attack = PRBCDAttack(
        LogProbabilities(), block_size=max(20_000, 4 * flips), epochs=epochs, epochs_resampling=max(1, epochs * 4 // 5),
        loss=task["loss"], log=False,
    )
    nodes = data.test_mask.nonzero().flatten()
    return attack.attack(data.x, data.edge_index, data.y, flips, nodes)[0]


def run(short):
    if task["attack"] == "whitebox-pgd":
        return ours(epochs=2, fine_epochs=1, swaps=1, samples=1) if short else ours()
    return pyg(2 if short else task["steps"])


run(short=True)
start = time.process_time()
cost = measure(lambda: run(short=False))
cpu = time.process_time() - start
with torch.no_grad():
    wrong = (model(data.x, cost.result).argmax(dim=1) != data.y)[data.test_mask]
print(json.dumps({
    "flips": flips, "cpu_s": cpu, "wall_s": cost.seconds, "peak_mb": cost.megabytes,
    "accuracy": 100 * (1 - float(wrong.double().mean())),
}))
"""


def graph(name: str, seed: int) -> Data:
    """Cora, or a random graph of 20,000 nodes and about 100,000 edges."""
    if name == "cora":
        return datasets.load("cora")
    return datasets.contextual_sbm(20_000, classes=5, features=64, average_degree=10.0, seed=seed)


def trained(folder: Path, name: str, model: str, seed: int) -> dict[str, Any]:
    """Where the graph and the fitted weights lie, and the accuracy on the clean graph in per cent."""
    data = graph(name, seed)
    preset = load_preset(model, "cora")
    options = dict(preset["training"]) if name == "cora" else {**preset["training"], "epochs": 40}
    torch.manual_seed(seed)
    net = build(model, data.num_features, int(data.y.max()) + 1, **preset["model"])
    fit(net, data, seed=seed, **options)
    paths = {key: str(folder / f"{name}-{model}-{seed}.{key}.pt") for key in ("data", "weights")}
    torch.save(data, paths["data"])
    torch.save(net.state_dict(), paths["weights"])
    return {**paths, "clean": evaluate(net, data, data.test_mask)}


def attacked(python: str, task: dict[str, Any]) -> dict[str, Any]:
    """One attack by one build in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [python, "-W", "ignore", "-c", ATTACK, json.dumps(task)]
    # from a folder without a package of the same name: `python -c` looks there first
    done = subprocess.run(command, env=environment, cwd=tempfile.gettempdir(), check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    return found


def wanted(options: argparse.Namespace) -> Iterator[tuple[str, str, int, float, list[tuple[str, str]]]]:
    """Graph, model, seed, budget, and who attacks there: build, and the loss of PyG's attack or nothing."""
    for seed in range(options.seeds):
        for name in options.graphs:
            for model in options.models if name == "cora" else [m for m in options.models if m in ("robust", "gcn")]:
                for budget in options.budgets if name == "cora" else options.budgets[:1]:
                    who = [("before", ""), ("after", "")]
                    if model == "gcn" and name == "cora":
                        who += [("pyg", "prob_margin"), ("pyg", "tanh_margin")]
                    yield name, model, seed, budget, who


def summary(rows: Sequence[Any]) -> None:
    """Print the median of the ratios before / after, and the mean accuracies, of every graph, model and budget."""
    cells = sorted({(row["graph"], row["model"], row["budget"]) for row in rows})
    for cell in cells:
        by = {}
        for row in rows:
            if (row["graph"], row["model"], row["budget"]) == cell:
                by.setdefault((row["build"] + " " + row["loss"]).strip(), {})[row["seed"]] = row
        for who, seeds in by.items():
            line = f"{cell[0]:6} {cell[1]:16} {cell[2]:.0%} {who:16}"
            line += f" cpu {statistics.mean(row['cpu_s'] for row in seeds.values()):7.2f} s"
            line += f" peak {max(row['peak_mb'] for row in seeds.values()):6.1f} MB"
            line += f" accuracy {statistics.mean(row['accuracy'] for row in seeds.values()):5.2f}"
            both = [seeds[seed]["cpu_s"] / row["cpu_s"] for seed, row in by.get("after", {}).items() if seed in seeds]
            print(line + (f"  {statistics.median(both):5.2f} x ours" if both and who != "after" else ""))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, a line for each attack, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="interpreter with the build before")
    parser.add_argument("--after", default=sys.executable, help="with the build of today; by default this one")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--graphs", nargs="+", default=["cora", "large"], choices=["cora", "large"])
    parser.add_argument("--models", nargs="+", default=["robust", "robust-ensemble", "gcn"])
    parser.add_argument("--budgets", nargs="+", type=float, default=[0.05, 0.2])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--summary", action="store_true", help="measure nothing")
    options = parser.parse_args(arguments)
    if options.summary:
        summary(read(options.out))
        return
    if options.before is None:
        parser.error("--before INTERPRETER is missing: the build that this one is compared with")
    fields = ("graph", "model", "seed", "budget", "build", "loss")
    done = {tuple(row[field] for field in fields) for row in read(options.out)}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        ready: dict[tuple[str, str, int], dict[str, Any]] = {}
        for name, model, seed, budget, who in wanted(options):
            for build_name, loss in who:
                if (name, model, seed, budget, build_name, loss) in done:
                    continue
                key = name, model, seed
                ready[key] = ready.get(key) or trained(Path(folder), *key)
                task = {**ready[key], "model": model, "seed": seed, "budget": budget, "loss": loss, "steps": STEPS}
                task["attack"] = "pyg-prbcd" if build_name == "pyg" else "whitebox-pgd"
                found = attacked(options.before if build_name == "before" else options.after, task)
                row = dict(zip(fields, (name, model, seed, budget, build_name, loss), strict=True))
                row |= {"attack": task["attack"], "steps": STEPS, "clean": task["clean"], **found}
                commit, changed = current_commit()  # of the build of today
                origin = {"commit": commit, "uncommitted_changes": changed, "versions": current_versions()}
                append(options.out, [row | origin])
                print(json.dumps(row), flush=True)
    summary(read(options.out))


if __name__ == "__main__":
    main()
