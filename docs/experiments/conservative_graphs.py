"""Conservative message passing on Cora: what deep networks keep, what they forget, and how accurate they are.

    python docs/experiments/conservative_graphs.py depth --out docs/results/conservative_graphs.jsonl
    python docs/experiments/conservative_graphs.py invariants --out docs/results/conservative_graphs.jsonl
    python docs/experiments/conservative_graphs.py table --out docs/results/conservative_graphs.jsonl

``depth`` trains each network with 4 and with 64 layers (a GCN, PyG's, beside them) and writes its accuracy, its share
of the largest step, and the Dirichlet energy of the hidden features along 256 layers with the weights that were
learned (of the GCN, which has weights for each layer, along those that it has). ``invariants`` trains each network with
8 layers and looks at the steps in float64: the mass over 10,000 steps and the symplectic form at each of 256 on the
whole graph, the volume at each of 256 on the part of the graph around a node; and the same of one plain
step: by Euler's method, or of a random walk for the mass.
``table`` writes docs/conservative.md and its picture. Lines that are there are not made again.

The attacks are the benchmark's::

    contractive-gnn bench --dataset cora --models mass-diffusion,wave,volume-coupling,gcn,linf-diffusion --seeds 10 \\
        --attacks clean,metattack:0.05,metattack:0.25,nettack:5,random:1.0,whitebox-pgd:0.05,prbcd:0.05 \\
        --out docs/results/conservative_cora
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

import torch
from appending import append, read
from pages import markdown, write_between
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCN
from torch_geometric.utils import k_hop_subgraph

from contractive_gnn import datasets
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.results import RESULTS, current_commit, current_versions, read_results
from contractive_gnn.bench.spec import CLEAN
from contractive_gnn.bench.summary import number, summarise
from contractive_gnn.dynamics import Diffusion
from contractive_gnn.graph import Graph
from contractive_gnn.integrators import Invariant
from contractive_gnn.nn import ConservativeGNN, FlowConv, build
from contractive_gnn.operators import dirichlet_energy
from contractive_gnn.testing import layer_violations
from contractive_gnn.training import evaluate, fit

Row = dict[str, Any]

OURS: Mapping[str, Invariant] = {"mass-diffusion": "mass", "wave": "symplectic", "volume-coupling": "volume"}
DEPTHS = (4, 64)
DEEP = 256
STEPS: Mapping[Invariant, int] = {"mass": 10_000, "symplectic": DEEP, "volume": DEEP}
#: where the energy is that of the features as they are: the diffusion ends at constants, which have none
PLAIN = ("mass-diffusion",)
#: of the largest step, by the number of layers: the time is about the same
SHARE: Mapping[int, float] = {4: 0.9, 8: 0.5, 64: 0.1}
#: beside the preset's, where the steps are looked at: as much as there is is learned
LEARNED: Mapping[str, Row] = {name: {"activation": "tanh", "learn_weight": True} for name in ("mass-diffusion", "wave")}
AROUND = 12
"""Nodes of the part of the graph on which the determinant is looked at."""


def network(name: str, layers: int, data: Data, setting: Mapping[str, Any]) -> nn.Module:
    """A network with so many layers: ours with that setting, or PyG's GCN."""
    classes = int(data.y.max()) + 1
    if name == "gcn":
        return GCN(data.num_features, 64, layers, classes, dropout=0.5)
    return build(name, data.num_features, classes, **{**setting, "num_layers": layers, "share": SHARE[layers]})


def trained(
    name: str, layers: int, data: Data, seed: int, epochs: int | None, beside: Mapping[str, Any] | None = None
) -> tuple[nn.Module, Row]:
    """A network with the preset's setting, and others beside it, and the line of its training."""
    preset = load_preset(name, "cora")
    setting = {**preset["model"], **(beside or {})}
    model = network(name, layers, data, setting)
    training = preset["training"] if epochs is None else {**preset["training"], "epochs": epochs}
    fitted = fit(model, data, seed=seed, **training)
    model.eval()
    row = {
        "model": name,
        "layers": layers,
        "seed": seed,
        "share": SHARE[layers] if name in OURS else None,
        "setting": {"model": setting, "training": training},
        "epochs": fitted.epochs,
        "train_s": fitted.seconds,
        "val_accuracy": fitted.val_accuracy,
        "accuracy": evaluate(model, data, data.test_mask),
    }
    return model, row


@torch.no_grad()
def energies(model: nn.Module, name: str, data: Data) -> Row:
    """The Dirichlet energy before the layers and after each, over that before, and over the size of the features."""
    graph = Graph.of(data.x, data.edge_index)
    if isinstance(model, ConservativeGNN):
        hidden = model.encoder(data.x).relu()
        model.conv.num_steps = DEEP
        states: Iterator[Tensor] = model.conv.states(hidden, data.edge_index)
    else:
        states = iter(after_each_layer(model, data))
    plain: Literal["none", "sym"] = "none" if name in PLAIN else "sym"
    found = [(float(dirichlet_energy(x, graph, normalization=plain)), float(x.square().sum())) for x in states]
    first = found[0][0]
    return {
        "dirichlet": [energy / first if first else 0.0 for energy, _ in found],
        "roughness": [energy / size if size else 0.0 for energy, size in found],
    }


def after_each_layer(model: nn.Module, data: Data) -> list[Tensor]:
    """What the hidden layers of PyG's GCN give."""
    assert isinstance(model, GCN)
    seen: list[Tensor] = []

    def keep(layer: nn.Module, inputs: object, output: Tensor) -> None:
        seen.append(output.relu())

    hooks = [conv.register_forward_hook(keep) for conv in model.convs[:-1]]
    model(data.x, data.edge_index)
    for hook in hooks:
        hook.remove()
    return seen


@torch.no_grad()
def invariants(model: nn.Module, name: str, data: Data, *, steps: int | None) -> Row:
    """What a trained network keeps at each step in float64, and what Euler's method keeps with the same step."""
    assert isinstance(model, ConservativeGNN)
    model = model.double()
    kept = OURS[name]
    x, edge_index = model.encoder(data.x.double()).relu(), data.edge_index
    if kept == "volume":
        degree = Graph.of(x, edge_index).row_sum(torch.ones(edge_index.size(1), dtype=x.dtype))
        nodes, *_ = k_hop_subgraph(int(degree.argmax()), 1, edge_index)
        nodes = nodes[:AROUND]
        around = torch.zeros(x.size(0), dtype=torch.long).index_fill(0, nodes, 1).bool()
        inside = around[edge_index].all(dim=0)
        place = around.cumsum(0) - 1
        x, edge_index = x[around], place[edge_index[:, inside]]
    count = STEPS[kept] if steps is None else steps
    row: Row = {"invariant": kept, "steps": count, "nodes": x.size(0)}
    row["violation"] = layer_violations(model.conv, x, edge_index, of=[kept], num_steps=count)[kept]
    # the plain counterpart: Euler's method keeps the mass, but a random walk does not
    plain = FlowConv(Diffusion(activation="tanh", mu=0.0)) if kept == "mass" else model.conv
    row["plain"] = layer_violations(plain, x, edge_index, of=[kept], num_steps=1, scheme="euler")[kept]
    return row


def depth_line(name: str, layers: int, data: Data, seed: int, options: argparse.Namespace) -> Row:
    """Train one network and follow its features."""
    model, row = trained(name, layers, data, seed, options.epochs)
    return {"part": "depth", **row, **energies(model, name, data)}


def invariant_line(name: str, layers: int, data: Data, seed: int, options: argparse.Namespace) -> Row:
    """Train one network and look at its steps."""
    model, row = trained(name, layers, data, seed, options.epochs, LEARNED.get(name))
    return {"part": "invariants", **row, **invariants(model, name, data, steps=options.steps)}


def measure(part: str, options: argparse.Namespace) -> None:
    """Append the line of each network, depth and seed that has none."""
    line: Callable[..., Row] = depth_line if part == "depth" else invariant_line
    data = datasets.load("cora")
    commit, changes = current_commit()
    done = {(row["part"], row["model"], row["layers"], row["seed"]) for row in read(options.out)}
    depths = DEPTHS if part == "depth" else (8,)
    for seed in range(options.seeds):
        for layers in depths:
            for name in (*OURS, "gcn") if part == "depth" else OURS:
                if (part, name, layers, seed) in done or (options.models and name not in options.models):
                    continue
                row = line(name, layers, data, seed, options)
                versions = {"commit": commit, "uncommitted_changes": changes, "versions": current_versions()}
                append(options.out, [{**row, **versions}])
                print(part, name, layers, seed, f"{row['accuracy']:.1f}", row.get("violation", ""), flush=True)


def table(options: argparse.Namespace) -> None:
    """Write the tables and the picture of docs/conservative.md."""
    page = Path("docs/conservative.md")
    rows = read(options.out)
    deep = [row for row in rows if row["part"] == "depth"]
    names = [*OURS, "gcn"]

    def of(name: str, layers: int) -> list[Row]:
        return [dict(row) for row in deep if row["model"] == name and row["layers"] == layers]

    accuracy = [[name, *(_spread([row["accuracy"] for row in of(name, k)]) for k in DEPTHS)] for name in names]
    seeds, epochs = {row["seed"] for row in deep}, sorted({row["epochs"] for row in deep})
    head = [f"test accuracy, {len(seeds)} seed{'s' * (len(seeds) != 1)}, {'–'.join(map(str, epochs))} epochs"]
    write_between(page, "depth", markdown([*head, *(f"{k} layers" for k in DEPTHS)], accuracy))
    marks = (4, 16, 64, DEEP)
    decay = [
        [name, *(_number([row["dirichlet"][k] for row in of(name, 64) if len(row["dirichlet"]) > k]) for k in marks)]
        for name in names
    ]
    write_between(page, "dirichlet", markdown(["after so many layers", *map(str, marks)], decay))
    kept = [
        [
            row["model"],
            row["invariant"],
            f"{row['steps']:,}",
            str(row["nodes"]),
            f"{row['violation']:.1e}",
            f"{row['plain']:.1e}",
        ]
        for row in rows
        if row["part"] == "invariants" and row["seed"] == 0
    ]
    head = ["trained network", "keeps", "steps", "nodes", "largest violation", "plain, one step"]
    write_between(page, "invariants", markdown(head, kept))
    if (options.attacked / RESULTS).is_file():
        write_between(page, "attacks", attacked(options.attacked))
    picture({name: [row["dirichlet"] for row in of(name, 64)] for name in names}, Path("docs/images"))


def attacked(folder: Path) -> str:
    """What the benchmark found there, an attack a row."""
    (section,) = summarise(read_results(folder / RESULTS), order=[*OURS, "gcn", "linf-diffusion"])
    rows = []
    for condition in section.conditions:
        scores = [section.scores.get((condition, model)) for model in section.models]
        cells = ["–" if score is None else number(score.mean, score.std) for score in scores]
        rows.append([f"{condition.short}, {condition.threat}" if condition.attack != CLEAN else CLEAN, *cells])
    return markdown([f"Cora, {section.seeds_text}", *section.models], rows)


def picture(curves: Mapping[str, Sequence[Sequence[float]]], folder: Path) -> None:
    """The Dirichlet energy against the layer, the mean of the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, lines in curves.items():
        if lines:
            axes.plot([max(mean(values), 1e-16) for values in zip(*lines, strict=True)], label=name)
    axes.set(xlabel="layer", ylabel="Dirichlet energy, relative", yscale="log")
    axes.legend(loc="upper right")
    figure.savefig(folder / "conservative_depth.png", dpi=120)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{mean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def _number(values: Sequence[float]) -> str:
    return f"{mean(values):.2g}" if values else "–"


def main() -> None:
    """Measure a part, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("depth", "invariants", "table"))
    parser.add_argument("--models", nargs="+", help="of those, only these")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="for a quick look")
    parser.add_argument("--steps", type=int, help="likewise")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--attacked", type=Path, default=Path("docs/results/conservative_cora"), help="of the benchmark"
    )
    options = parser.parse_args()
    if options.part == "table":
        table(options)
    else:
        measure(options.part, options)


if __name__ == "__main__":
    main()
