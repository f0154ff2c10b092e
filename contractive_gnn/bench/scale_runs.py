"""One run on a large graph, in a process of its own: ``python -m contractive_gnn.bench.scale_runs '{"task": …}'``.

It prints one JSON object: ``seconds``, ``processor_seconds`` (those of all threads: other work on the machine adds
little to them), ``megabytes`` (the largest that the process had while it ran, the graph included, None where the system
does not tell) and ``note``.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypedDict

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCN as PyGGCN

from contractive_gnn.attacks import Budget, get
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.speed import APPNPModel, adjacency_csr, random_graph, reset_peak, status_line
from contractive_gnn.certificates import FlipBudget, certify
from contractive_gnn.datasets import degree_corrected_sbm
from contractive_gnn.heap import kept_memory
from contractive_gnn.nn import build, linf_diffusion
from contractive_gnn.partition import Method, reorder
from contractive_gnn.trainable import HasModes, declared
from contractive_gnn.training import evaluate, fit
from contractive_gnn.training.batches.progress import Progress

OURS: Final = ("robust", "robust-provable", "csgnn", "linf-diffusion")
PEERS: Final = ("gcn", "gcn-csr", "appnp")
CLASSES: Final = 40
HIDDEN: Final = 64
STEPS: Final = 3
ATTACK_EPOCHS: Final = 125


class Run(TypedDict):
    """What is run.

    Attributes:
        task: a key of :data:`TASKS`.
        side: whose: one of :data:`OURS` or :data:`PEERS`, or an attack and its victim, ``"prbcd on gcn"``.
        graph: ``"dc-sbm"`` or ``"uniform"``.
        nodes: n.
        degree: the mean one.
        threads: of torch.
        epochs: of a fit.
    """

    task: str
    side: str
    graph: str
    nodes: int
    degree: float
    threads: int
    epochs: int


Result = dict[str, Any]


def large_graph(run: Run) -> Data:
    """The graph of a run: features, labels and split of ogbn-arxiv's shape."""
    data = degree_corrected_sbm(run["nodes"], average_degree=run["degree"])
    if run["graph"] == "uniform":
        edges = random_graph(run["nodes"], round(run["nodes"] * run["degree"] / 2))
        there = torch.ones(edges.size(1), dtype=torch.bool)
        there[1:] = (edges[:, 1:] != edges[:, :-1]).any(dim=0)  # sorted: a pair that was drawn twice is next to itself
        data.edge_index = edges[:, there].flip(0)  # by source and target, as in a graph of the library
    return data


def method() -> Method:
    """By what the nodes are ordered."""
    return "metis" if importlib.util.find_spec("pymetis") else "rcm"


def put_in_order(data: Data) -> str:
    """Order the nodes of this graph as a fit of ours takes them, and say what that took."""
    start = time.perf_counter()
    data.update(reorder(data, method()))
    return f"nodes ordered by {method()} once before, {time.perf_counter() - start:.1f} s"


def step(run: Run, data: Data) -> Result:
    """The mean of some training steps after a first one, which compiles and finds A(0).

    The graph is not kept in any other form than the one that the model takes.
    """
    note = ""
    if run["side"] in PEERS:
        model, adjacency = peer(run["side"], data)
    else:
        note = put_in_order(data)
        model, adjacency = ours(run["side"], data), data.edge_index
    del data.edge_index
    optimizer = torch.optim.Adam(model.parameters())

    def once() -> None:
        optimizer.zero_grad()
        scores = model(data.x, adjacency)
        nn.functional.cross_entropy(scores[data.train_mask], data.y[data.train_mask]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def steps() -> tuple[float, float, float]:
        start = time.perf_counter()
        once()
        first = time.perf_counter() - start
        start, before = time.perf_counter(), time.process_time()
        for _ in range(STEPS):
            once()
        return first, (time.perf_counter() - start) / STEPS, (time.process_time() - before) / STEPS

    result = peak(kept_memory()(steps) if run["side"] in OURS else steps)
    first, seconds, processor = result.pop("value")
    note += f"{'; ' if note else ''}the first step, with what is found once, {first:.1f} s"
    return {**result, "seconds": seconds, "processor_seconds": processor, "note": note}


def train(run: Run, data: Data) -> Result:
    """A whole training with an evaluation after each epoch, and its test accuracy."""
    if run["side"] in PEERS:
        result = peak(lambda: train_peer(run, data))
        accuracy = result.pop("value")
        return {**result, "note": f"test accuracy {accuracy:.2f} %, {run['epochs']} epochs"}
    model = ours(run["side"], data)
    preset = load_preset(run["side"], "default")["training"]
    options = {name: preset[name] for name in ("lr", "weight_decay") if name in preset}
    order = method()
    result = peak(lambda: fit(model, data, epochs=run["epochs"], order=order, progress=True, **options))
    epochs = result.pop("value").epochs
    accuracy = evaluate(model, data, data.test_mask)
    several = declared(model, HasModes)
    modes = "" if several is None else f" in {len(several.modes)} modes"
    return {**result, "note": f"test accuracy {accuracy:.2f} %, {epochs} epochs{modes}, order {order}"}


def train_peer(run: Run, data: Data) -> float:
    """A step and an evaluation for each epoch, as PyG's examples have it; the test accuracy in percent."""
    model, adjacency = peer(run["side"], data)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    bar = Progress(shown=True, steps=run["epochs"], done=0)
    best = test = 0.0
    for _ in range(run["epochs"]):
        model.train()
        optimizer.zero_grad()
        scores = model(data.x, adjacency)
        nn.functional.cross_entropy(scores[data.train_mask], data.y[data.train_mask]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        model.eval()
        with torch.no_grad():
            right = model(data.x, adjacency).argmax(dim=-1) == data.y
        accuracy = float(right[data.val_mask].float().mean())
        if accuracy > best:
            best, test = accuracy, 100 * float(right[data.test_mask].float().mean())
        bar.step()
    bar.close()
    return test


def attack(run: Run, data: Data) -> Result:
    """One percent of the edges flipped; the side says by which attack, and the model, after 20 epochs of training."""
    name, _, victim = run["side"].partition(" on ")
    flips = max(1, data.num_edges // 2 // 100)
    torch.manual_seed(0)
    if victim == "gcn":
        model: nn.Module = PyGGCN(data.num_features, HIDDEN, 2, CLASSES)
    else:
        model = ours(victim, data)
    fit(model, data, epochs=20)
    if name == "pyg-prbcd":
        result = peak(lambda: pyg_prbcd(model, data, flips))
        changed, edge_index = flips, result.pop("value")
    else:
        shown = {"progress": True} if name == "prbcd" else {}
        attacker = get(name, seed=0, epochs=ATTACK_EPOCHS, **shown)
        result = peak(lambda: attacker.run(data, Budget(flips=flips), victim=model))
        found = result.pop("value")
        changed, edge_index = found.n_flips, found.data.edge_index
    perturbed = data.clone()
    perturbed.edge_index = edge_index
    before, after = (evaluate(model, graph, data.test_mask) for graph in (data, perturbed))
    return {**result, "note": f"{changed} flips; test accuracy {before:.2f} % before, {after:.2f} % after"}


def pyg_prbcd(model: nn.Module, data: Data, flips: int) -> Tensor:
    """The edges that PyG's own attack leaves, with the block and the epochs of ours."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'torch_geometric.contrib' contains experimental code")
        from torch_geometric.contrib.nn import PRBCDAttack

    class LogProbabilities(nn.Module):
        def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
            return torch.log_softmax(model(x, edge_index, edge_weight), dim=-1)

    attacker = PRBCDAttack(
        LogProbabilities().eval(),
        block_size=max(20_000, 4 * flips),
        epochs=ATTACK_EPOCHS,
        epochs_resampling=ATTACK_EPOCHS * 4 // 5,
        loss="prob_margin",
        lr=1000.0,
    )
    model.requires_grad_(False)
    nodes = data.test_mask.nonzero().flatten()
    edge_index, _ = attacker.attack(data.x, data.edge_index, data.y, flips, nodes)
    found: Tensor = edge_index
    return found


def certificate(run: Run, data: Data) -> Result:
    """All nodes, one flip at each; weights as they are drawn, since training changes none of the work."""
    model = linf_diffusion(data.num_features, CLASSES, mu=0.1, threshold=0.2)
    warm = degree_corrected_sbm(1000)
    certify(model, warm.x, warm.edge_index, flips=FlipBudget.uniform(1, 1000))  # compiles
    result = peak(lambda: certify(model, data.x, data.edge_index, flips=FlipBudget.uniform(1, run["nodes"])))
    found = result.pop("value")
    return {**result, "note": found.reason or f"{int(found.certified.sum())} predictions certified"}


TASKS: Final[dict[str, Callable[[Run, Data], Result]]] = {
    "step": step,
    "fit": train,
    "attack": attack,
    "certificate": certificate,
}


def ours(name: str, data: Data) -> nn.Module:
    """A model with its preset."""
    return build(name, data.num_features, CLASSES, **load_preset(name, "default")["model"])


def peer(name: str, data: Data) -> tuple[nn.Module, Tensor]:
    """A model of PyG of the same width that normalises its adjacency once, and the adjacency that it takes."""
    torch.manual_seed(0)
    # sorted by target, as a matrix of rows needs them
    adjacency = data.edge_index if name == "gcn" else adjacency_csr(data.edge_index.flip(0), int(data.num_nodes))
    if name == "appnp":
        return APPNPModel(data.num_features, CLASSES, hidden=HIDDEN, num_steps=10), adjacency
    return PyGGCN(data.num_features, HIDDEN, 2, CLASSES, dropout=0.5, cached=True), adjacency


def peak(run: Callable[[], Any]) -> Result:
    """The value of a run, its seconds, and the largest memory of the process while it ran."""
    known = reset_peak() is not None
    start, before = time.perf_counter(), time.process_time()
    value = run()
    return {
        "value": value,
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - before,
        "megabytes": status_line("VmHWM") if known else None,
    }


def limit_memory() -> None:
    """Let this process fail, rather than any other be stopped, where it asks for more than the machine has free."""
    try:
        import resource

        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) << 10
    except (ImportError, OSError, StopIteration):
        return
    resource.setrlimit(resource.RLIMIT_DATA, (free * 9 // 10, resource.RLIM_INFINITY))


def main(text: str) -> None:
    """Run what the JSON says, and print what it took."""
    run: Run = json.loads(text)
    torch.set_num_threads(run["threads"])
    data = large_graph(run)
    edges = data.num_edges // 2  # before the run, which may change the graph
    print(json.dumps({**TASKS[run["task"]](run, data), "edges": edges}, ensure_ascii=False))


if __name__ == "__main__":
    limit_memory()
    main(sys.argv[1])
