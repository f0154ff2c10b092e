"""What is left of a GCN under evasion: EvA beside PR-BCD until it stands still, budgets at each node, single targets.

    python docs/experiments/evasion.py --out docs/results/evasion.jsonl

Every attack flips 5 % of the edges of the frozen GCN's graph, on Cora and Citeseer, for three seeds of the training.
``whitebox-pgd`` and ``prbcd`` (PyG's) are run again and again, each time twice as long, until the last two runs have
found no more errors than those before them: *standing still*. The line of such an attack is the best of its runs, and
its calls and seconds are those of all of them. ``eva`` has its published population and generations. ``lrbcd`` flips at
most half of the edges of a node. ``local-pgd`` and ``nettack`` attack 20 nodes that are drawn among those that the
model is right about, each alone on the clean graph, with half and all of its degree.

``calls`` counts the graphs that the model was asked about, ``gradients`` those of them that went backwards as well, and
``cpu_s`` are seconds of the processor, all of them on one thread; those of a search that was stopped and went on are
the last part's. For every attack alike, the product of features and weights in the first layer, which no flip changes,
is computed once, and the edges are normalised once for both layers. Lines that are there already are not made again,
and a search of ``eva`` that was stopped goes on. ``--summary`` prints the means.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from appending import append, read
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from contractive_gnn import datasets
from contractive_gnn.attacks import AttackResult, Budget, get
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.results import current_versions
from contractive_gnn.nn import GCNClassifier, build
from contractive_gnn.training import evaluate, fit

FRACTION = 0.05
STILL = 2
"""So many runs without a further error, each twice as long as the one before, are standing still."""


class Counted(nn.Module):
    """The model, with what no flip changes done once, and the edges normalised once a call; counts what it is asked.

    An attack works on a copy: the counts belong to the class.
    """

    calls = gradients = 0

    def __init__(self, model: GCNClassifier, x: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("product", model.conv1.lin(x).detach())
        model.conv1.lin = nn.Identity()
        model.conv1.normalize = model.conv2.normalize = False

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores."""
        Counted.calls += 1
        Counted.gradients += edge_weight is not None and edge_weight.requires_grad
        n, dtype = x.shape[0], x.dtype
        edge_index, edge_weight = gcn_norm(edge_index, edge_weight, n, add_self_loops=True, dtype=dtype)
        hidden = self.model.conv1(self.product, edge_index, edge_weight).relu()
        return self.model.conv2(hidden, edge_index, edge_weight)


def trained(data: Data, name: str, seed: int) -> Counted:
    """A GCN in evaluation mode, with its defaults on this graph."""
    preset = load_preset("gcn", name)
    torch.manual_seed(seed)
    model = build("gcn", data.num_features, int(data.y.max()) + 1, **preset["model"])
    fit(model, data, seed=seed, **preset["training"])
    model.eval().requires_grad_(False)
    scores = model(data.x, data.edge_index)
    counted = Counted(model, data.x).eval()
    if not torch.allclose(counted(data.x, data.edge_index), scores, atol=1e-5):
        raise AssertionError("the model with its first product done beforehand answers differently")
    return counted


def errors(model: nn.Module, result: AttackResult, nodes: Tensor) -> int:
    """How many of the nodes are wrong on the attacked graph."""
    with torch.no_grad():
        return int((model(result.data.x, result.data.edge_index).argmax(dim=1) != result.data.y)[nodes].sum())


def standing_still(run: Callable[[int], int], longest: int) -> dict[str, Any]:
    """Errors of runs of length 1, 2, 4, … until twice as long finds no more, ``STILL`` times in a row."""
    found: list[int] = []
    for doubling in range(longest):
        found.append(run(2**doubling))
        if len(found) > STILL and max(found[-STILL:]) <= max(found[:-STILL]):
            break
    return {"errors": max(found), "errors_of_runs": found, "still": len(found) < longest}


def attacked(attack: str, data: Data, model: Counted, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The errors that one attack causes."""
    test = data.test_mask.nonzero().flatten()

    def run(name: str, **hyperparameters: Any) -> int:
        result = get(name, seed=seed, **hyperparameters).run(data, Budget(fraction=FRACTION), victim=model)
        return errors(model, result, test)

    if attack == "whitebox-pgd":
        pgd = {"epochs": 100, "fine_epochs": 25, "swaps": 50}
        return standing_still(lambda k: run(attack, **{key: k * steps for key, steps in pgd.items()}), options.longest)
    if attack == "prbcd":
        return standing_still(lambda k: run(attack, epochs=125 * k, loss="tanh-margin"), options.longest)
    if attack == "eva":
        path = options.checkpoints / f"{data.name}-{seed}.npz"
        size = {"population": options.population, "generations": options.generations}
        return {"errors": run(attack, checkpoint=path, progress=True, **size), **size}
    if attack == "lrbcd":
        return {"errors": run(attack, local=0.5), "local": 0.5}
    name, _, share = attack.partition(" ")
    with torch.no_grad():
        right = (model(data.x, data.edge_index).argmax(dim=1) == data.y)[test]
    drawn = torch.randperm(int(right.sum()), generator=torch.Generator().manual_seed(seed))[: options.targets]
    targets = test[right][drawn]
    local = get(name, seed=seed)
    alone = [local.run(data, Budget(degree=float(share)), victim=model, targets=one) for one in targets.split(1)]
    wrong = [errors(model, result, one) for result, one in zip(alone, targets.split(1), strict=True)]
    return {"errors": sum(wrong), "nodes": targets.numel()}


def wanted(options: argparse.Namespace) -> Iterator[tuple[str, int, str]]:
    """Data set, seed and attack."""
    for seed in range(options.seeds):
        for name in options.datasets:
            for attack in options.attacks:
                yield name, seed, attack


def summary(rows: Sequence[Any]) -> None:
    """Print the means over the seeds of every data set and attack."""
    for name, attack in dict.fromkeys((row["dataset"], row["attack"]) for row in rows):
        own = [row for row in rows if (row["dataset"], row["attack"]) == (name, attack)]
        accuracies = [row["accuracy"] for row in own]
        told = f"{name:9} {attack:14} {statistics.mean(accuracies):6.2f} % right ({min(accuracies):.2f} to "
        told += f"{max(accuracies):.2f}, clean {statistics.mean(row['clean'] for row in own):.2f})"
        told += f"  {statistics.mean(row['calls'] for row in own):9.0f} calls"
        told += f" {statistics.mean(row['gradients'] for row in own):6.0f} gradients"
        print(told + f" {statistics.mean(row['cpu_s'] for row in own):8.1f} s, {len(own)} seeds")


ATTACKS = (
    "whitebox-pgd", "prbcd", "eva", "lrbcd", "local-pgd 0.5", "nettack 0.5", "local-pgd 1.0", "nettack 1.0",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, a line for each attack, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["cora", "citeseer"])
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKS), choices=ATTACKS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--population", type=int, default=512)
    parser.add_argument("--generations", type=int, default=1024)
    parser.add_argument("--longest", type=int, default=8, help="runs of a gradient attack, each twice as long")
    parser.add_argument("--targets", type=int, default=20)
    parser.add_argument("--checkpoints", type=Path, default=Path("runs/evasion"), help="of searches that go on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--summary", action="store_true", help="measure nothing")
    options = parser.parse_args(arguments)
    if options.summary:
        summary(read(options.out))
        return
    fields = ("dataset", "seed", "attack")
    done = {tuple(row[field] for field in fields) for row in read(options.out)}
    torch.set_num_threads(1)
    ready: dict[tuple[str, int], tuple[Data, Counted]] = {}
    for name, seed, attack in wanted(options):
        if (name, seed, attack) in done:
            continue
        if (name, seed) not in ready:
            data = datasets.load(name)
            ready = {(name, seed): (data, trained(data, name, seed))}
        data, model = ready[name, seed]
        Counted.calls = Counted.gradients = 0
        start = time.process_time()
        found = attacked(attack, data, model, seed, options)
        cpu = time.process_time() - start
        nodes = found.pop("nodes", int(data.test_mask.sum()))
        row = {"dataset": name, "seed": seed, "model": "gcn", "attack": attack, "fraction": FRACTION, "nodes": nodes}
        row |= {"clean": evaluate(model, data, data.test_mask), "accuracy": 100 * (1 - found["errors"] / nodes)}
        row |= {**found, "calls": Counted.calls, "gradients": Counted.gradients, "cpu_s": round(cpu, 2)}
        print(json.dumps(row), flush=True)
        append(options.out, [{**row, "versions": current_versions()}])
    summary(read(options.out))


if __name__ == "__main__":
    main()
