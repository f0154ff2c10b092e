"""Time and memory of this library beside what it replaces, both measured in one process.

A suite yields :class:`Figure` objects. The two sides of a ratio run by turns and the shortest time of each counts,
since whatever else the machine does only ever adds to a time. Memory is the growth of the process's peak while one side
runs.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import APPNP, GCNConv
from torch_geometric.nn import GCN as PyGGCN

from contractive_gnn.attacks import AttackResult, Budget, get
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.results import current_versions, replacing
from contractive_gnn.compiled import kernels
from contractive_gnn.datasets import load
from contractive_gnn.dynamics import Diffusion, GraphGradientFlow
from contractive_gnn.nn import build
from contractive_gnn.nn.flow import FlowConv
from contractive_gnn.nn.similarity import robust, robust_provable
from contractive_gnn.nn.sparse import Linear
from contractive_gnn.training import evaluate, fit

DEFAULT_MODEL: Final = "robust"
SIZES: Final = (10_000, 30_000, 100_000, 300_000)
PRO_GNN_EPOCHS: Final = 400
PATCHED: Final = (
    "DeepRobust through this library's adapter: its dense normalisation multiplies by the diagonal entry by entry "
    "(its own multiplies dense matrices), and A(XW) in place of (AX)W"
)


@dataclass(frozen=True)
class Cost:
    """What one run took.

    Attributes:
        seconds: wall time.
        megabytes: growth of the process's peak memory, None where the system does not tell.
        result: what it returned.
    """

    seconds: float
    megabytes: float | None
    result: Any = field(repr=False, default=None)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One comparison; one line of ``speed.jsonl``.

    Attributes:
        suite: the suite it belongs to.
        name: what was measured.
        ours_s: seconds of this library.
        peer: what it is compared with, None for a figure that stands alone.
        peer_s: its seconds.
        ratio: peer_s / ours_s.
        ours_mb: growth of the peak memory, in MB.
        peer_mb: likewise.
        note: what a reader must know: agreement, what was patched, what was extrapolated.
        threads: of torch.
        machine: processor and cores.
        versions: of Python and the packages.
    """

    suite: str
    name: str
    ours_s: float
    peer: str | None = None
    peer_s: float | None = None
    ratio: float | None = None
    ours_mb: float | None = None
    peer_mb: float | None = None
    note: str = ""
    threads: int
    machine: str
    versions: dict[str, str | None]


def measure(run: Callable[[], Any]) -> Cost:
    """Run once and say what it took."""
    gc.collect()
    before = reset_peak()
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    peak = status_line("VmHWM")
    return Cost(seconds, None if before is None or peak is None else max(0.0, peak - before), result)


def race(*runs: Callable[[], Any], repeats: int = 3, warm: bool = True) -> list[Cost]:
    """Run by turns; of each the shortest time, the largest memory and the last result.

    Args:
        *runs: what to run.
        repeats: rounds that count.
        warm: whether a round that does not count comes first: compilation, caches.
    """
    costs: list[list[Cost]] = [[] for _ in runs]
    for turn in range(repeats + warm):
        for run, own in zip(runs, costs, strict=True):
            cost = measure(run)
            if turn >= warm:
                own.append(cost)
    return [
        Cost(
            min(c.seconds for c in own),
            None if any(c.megabytes is None for c in own) else max(c.megabytes or 0.0 for c in own),
            own[-1].result,
        )
        for own in costs
    ]


def layers(*, nodes: int = 200_000, edges: int = 2_000_000, channels: int = 64, repeats: int = 3) -> Iterator[Figure]:
    """Layers, forward and backward, beside PyG's ``GCNConv`` on CSR and the message-passing path.

    The flows of the two models on similarities run as many steps as in their presets, beside as many ``GCNConv``. By
    message passing they run one, whose time is multiplied: all would hold some GB for each.
    """
    edge_index = random_graph(nodes, edges // 2)
    x = torch.randn(nodes, channels, generator=torch.Generator().manual_seed(1), requires_grad=True)
    upstream = torch.randn(nodes, channels, generator=torch.Generator().manual_seed(2))
    csr = adjacency_csr(edge_index, nodes)
    gcn = GCNConv(channels, channels, cached=True)

    def both_ways(layer: nn.Module, adjacency: Tensor, times: int = 1) -> Callable[[], None]:
        def run() -> None:
            out = x
            for _ in range(times):
                out = layer(out, adjacency)
            out.backward(upstream)  # type: ignore[no-untyped-call]
            x.grad = None
            layer.zero_grad()

        return run

    fields = {
        "ℓ∞ diffusion": Diffusion(activation="huber"),
        "ℓ2 gradient flow, group Huber": GraphGradientFlow(
            channels, activation="group-huber", learn_weight=False, mu=0.1
        ),
    }
    for name, dynamics in fields.items():
        layer = FlowConv(dynamics, num_steps=1)
        name = f"one step of the {name}, both ways, {nodes:,} nodes, {edge_index.size(1):,} edges, {channels} channels"
        ours, theirs = race(both_ways(layer, edge_index), both_ways(gcn, csr), repeats=repeats)
        yield comparison("layers", name, ours, "GCNConv, CSR, normalised once", theirs)

        with kernels.disabled():
            (theirs,) = race(both_ways(layer, edge_index), repeats=1, warm=False)
        yield comparison("layers", name, ours, "message passing (gather, σ, scatter)", theirs)

    # The rows of x lie about √(2c) apart: within the reach of either force, where all of it is computed.
    for model, make, sigma, threshold in (
        ("robust", robust, "group MCP", 2.0 * channels**0.5),
        ("robust-provable", robust_provable, "group firm", channels**0.5),
    ):
        options = {**load_preset(model, "default")["model"], "hidden_channels": channels, "threshold": threshold}
        flow = make(channels, 2, **options).conv
        steps = flow.num_steps
        name = (
            f"{steps} fused steps of {model}'s flow, {sigma}, both ways, "
            f"{nodes:,} nodes, {edge_index.size(1):,} edges, {channels} channels"
        )
        ours, theirs = race(both_ways(flow, edge_index), both_ways(gcn, csr, steps), repeats=repeats)
        yield comparison("layers", name, ours, f"{steps} times GCNConv, CSR, normalised once", theirs)

        flow.num_steps = 1
        with kernels.disabled():
            (one,) = race(both_ways(flow, edge_index), repeats=1, warm=False)
        note = f"time of one step by {steps}; memory of one step"
        peer = f"message passing (gather, σ, scatter), {steps} steps"
        yield comparison("layers", name, ours, peer, Cost(one.seconds * steps, one.megabytes), note=note)


def training(*, epochs: int | None = None, slow: bool = True, sizes: tuple[int, ...] = SIZES) -> Iterator[Figure]:
    """Training the default model on Cora beside other models, and how a step grows with the graph.

    Args:
        epochs: of each fit of ours (with edges, without, and the self-training), without early stopping; None for what
            its preset says. The GCN runs as many as ours did in all.
        slow: DeepRobust's models, too.
        sizes: numbers of nodes.
    """
    data = load("cora")
    preset = load_preset(DEFAULT_MODEL, "cora")
    shape = int(data.x.shape[1]), int(data.y.max()) + 1
    width = preset["model"].get("hidden_channels", 64)
    ours = build(DEFAULT_MODEL, *shape, **preset["model"])
    options = preset["training"] if epochs is None else {**preset["training"], "epochs": epochs, "patience": None}
    total = fit(ours, data, **options).epochs
    mine, theirs = race(lambda: fit(ours, data, **options), lambda: _train_gcn(data, shape, width, total))
    accuracy = evaluate(ours, data, data.test_mask)
    name = f"{DEFAULT_MODEL} on Cora, {total} epochs, width {width}"
    note = f"test accuracy {accuracy:.1f} % and {theirs.result:.1f} %"
    yield comparison("training", name, mine, f"PyG's GCN, same epochs and width {width}", theirs, note=note)
    if slow:
        for peer in ("rgcn", "simp-gcn"):
            cost = measure(lambda peer=peer: fit(build(peer, *shape), data))  # type: ignore[misc]
            yield comparison("training", name, mine, f"DeepRobust's {peer}, its own epochs", cost)
        one, three = (
            measure(lambda k=k: fit(build("pro-gnn", *shape, epochs=k), data))  # type: ignore[misc]
            for k in (1, 3)
        )
        whole = one.seconds + (PRO_GNN_EPOCHS - 1) * (three.seconds - one.seconds) / 2
        note = f"extrapolated from 1 and 3 of {PRO_GNN_EPOCHS} epochs ({one.seconds:.1f} s and {three.seconds:.1f} s)"
        yield comparison("training", name, mine, "DeepRobust's pro-gnn", Cost(whole, three.megabytes), note=note)
    steps = []
    for nodes in sizes:
        mine, theirs, note = _training_steps(nodes)
        steps.append((mine, theirs))
        name = f"one training step of {DEFAULT_MODEL}, {nodes:,} nodes, average degree 10"
        yield comparison("training", name, mine, APPNPModel.name, theirs, note=note)
    if len(steps) > 1:
        note = "; the other's ".join(_growth(sizes, costs) for costs in zip(*steps, strict=True))
        name = f"growth from {sizes[0]:,} to {sizes[-1]:,} nodes"
        yield comparison("training", name, steps[-1][0], APPNPModel.name, steps[-1][1], note=note)


def metattack(
    *, flips: int = 3, fraction: float | None = None, nodes: int = 19_717, large_fraction: float | None = None
) -> Iterator[Figure]:
    """Metattack beside DeepRobust's, and on graphs that are too large for it.

    Args:
        flips: of either on Cora, of which the flips are compared; on Citeseer at most three.
        fraction: also ours alone on Cora with this budget.
        nodes: of the largest graph; 0 leaves it out.
        large_fraction: also a whole attack on that graph with this budget.
    """
    for dataset, number in (("cora", flips), ("citeseer", min(flips, 3))):
        yield from _two_metattacks(dataset, number)
    if fraction is not None:
        data = load("cora")
        cost = measure(lambda: get("metattack", seed=0).run(data, Budget(fraction=fraction)))
        note = f"{cost.result.n_flips} flips"
        yield comparison("metattack", f"Metattack on cora, {fraction:.0%} of the edges", cost, note=note)
    if nodes:
        data = citation_graph(nodes)
        cost = measure(lambda: get("metattack", seed=0, self_training_labels=data.y).run(data, Budget(flips=2)))
        each = Cost(cost.seconds / 2, cost.megabytes)
        note = "mean of two flips; DeepRobust's needs several n × n matrices for each of 100 steps"
        yield comparison("metattack", f"Metattack, {nodes:,} nodes, one flip", each, note=note)
        if large_fraction is not None:
            yield _large_metattack(data, large_fraction)


def _large_metattack(data: Data, fraction: float) -> Figure:
    attack = get("metattack", seed=0, self_training_labels=data.y)
    cost = measure(lambda: attack.run(data, Budget(fraction=fraction)))
    edges = int(data.edge_index.size(1)) // 2
    name = f"Metattack, {int(data.num_nodes):,} nodes, {edges:,} edges, {100 * fraction:g}% of the edges"
    return comparison("metattack", name, cost, note=f"{cost.result.n_flips} flips")


def _two_metattacks(dataset: str, flips: int) -> Iterator[Figure]:
    data = load(dataset)

    def attack(name: str, number: int) -> Cost:
        return measure(lambda: get(name, seed=0).run(data, Budget(flips=number)))

    attack("metattack", 2)  # compiles
    first, longer = attack("metattack", flips), attack("metattack", 2 * flips + 20)
    theirs, again = attack("metattack-deeprobust", flips), attack("metattack", flips)
    ours = min(first, again, key=lambda cost: cost.seconds)
    agree = _pairs(ours.result) == _pairs(theirs.result)
    note = f"{'the same' if agree else 'DIFFERENT'} {flips} flips; {PATCHED}"
    name = f"Metattack on {dataset}"
    yield comparison("metattack", f"{name}, {flips} flips with surrogate", ours, "DeepRobust", theirs, note=note)
    # a flip by itself: what the surrogate takes is in all runs, and is less than a flip of DeepRobust's
    flip = Cost((longer.seconds - ours.seconds) / (flips + 20), ours.megabytes)
    surrogate = max(0.0, ours.seconds - flips * flip.seconds)
    peer = Cost((theirs.seconds - surrogate) / flips, theirs.megabytes)
    note = f"whole runs less {surrogate:.2f} s for the surrogate; {note}"
    yield comparison("metattack", f"{name}, one flip", flip, "DeepRobust", peer, note=note)


def nettack(*, targets: int = 20, flips: int = 5) -> Iterator[Figure]:
    """Nettack on nodes of Cora beside DeepRobust's, the flips compared."""
    data = load("cora")
    chosen = torch.randperm(int(data.num_nodes), generator=torch.Generator().manual_seed(0))[:targets]
    budget = Budget(flips=flips)

    def attack(name: str) -> Callable[[], list[AttackResult]]:
        return lambda: [get(name, seed=0).run(data, budget, targets=chosen)]

    attack("nettack")()
    attack_peer = get("nettack-deeprobust", seed=0)
    attack_peer.run(data, Budget(flips=1), targets=chosen[:1])  # compiles
    mine, theirs = race(attack("nettack"), attack("nettack-deeprobust"), repeats=1, warm=False)
    agree = _pairs(mine.result[0]) == _pairs(theirs.result[0])
    note = f"{'the same' if agree else 'DIFFERENT'} flips; either trains its surrogate once"
    name = f"Nettack on {targets} nodes of Cora, {flips} flips each"
    yield comparison("nettack", name, mine, "DeepRobust", theirs, note=note)


SUITES: Final[dict[str, Callable[..., Iterator[Figure]]]] = {
    "layers": layers,
    "training": training,
    "metattack": metattack,
    "nettack": nettack,
}


def plot_growth(figures: list[Figure], path: Path) -> bool:
    """Time and memory of a training step against the number of nodes; False where there is nothing to draw."""
    from matplotlib.figure import Figure as Picture

    steps = [f for f in figures if f.name.startswith("one training step")]
    if len(steps) < 2:
        return False
    nodes = np.array([int(f.name.split(", ")[1].split(" ")[0].replace(",", "")) for f in steps], dtype=float)
    picture = Picture(figsize=(8, 3.2), layout="constrained")
    for axes, unit in zip(picture.subplots(1, 2), ("s", "MB"), strict=True):
        for side, label in (("ours", DEFAULT_MODEL), ("peer", steps[0].peer)):
            values = np.array([getattr(f, f"{side}_{unit.lower()}") or math.nan for f in steps])
            if np.isnan(values).all():
                continue
            (line,) = axes.loglog(nodes, values, "o-", label=label)
            axes.loglog(nodes, values[0] * nodes / nodes[0], ":", color=line.get_color())
        axes.set(xlabel="nodes", ylabel=unit, title="time" if unit == "s" else "peak memory")
        if axes.lines:
            axes.legend(frameon=False, title="dotted: linear", fontsize="x-small")
    with replacing(path) as partial:
        picture.savefig(partial, dpi=130)
    return True


def write(figures: list[Figure], folder: Path) -> list[Path]:
    """``speed.jsonl``, and ``growth.png`` where the training suite ran, each under a temporary name first.

    Lines of other suites, which an earlier run wrote, stay; those of the suites in ``figures`` are replaced.

    Raises:
        ValueError: see :func:`read_lines`.
    """
    lines = folder / "speed.jsonl"
    suites = {figure.suite for figure in figures}
    kept = [line for line in read_lines(folder) if json.loads(line)["suite"] not in suites]
    with replacing(lines) as partial:
        text = [*kept, *(json.dumps(asdict(f), ensure_ascii=False) for f in figures)]
        partial.write_text("".join(line + "\n" for line in text), encoding="utf-8")
    picture = folder / "growth.png"
    return [lines, picture] if plot_growth(figures, picture) else [lines]


def read_lines(folder: Path) -> list[str]:
    """The lines of a folder's ``speed.jsonl``; none where there is no such file.

    Raises:
        ValueError: a line is no JSON object with a suite.
    """
    path = folder / "speed.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            known = isinstance(json.loads(line)["suite"], str)
        except (ValueError, TypeError, KeyError):
            known = False
        if not known:
            raise ValueError(f"{path}, line {number}, is none of speed's; move the file away or give another folder")
    return lines


def random_graph(nodes: int, edges: int, *, seed: int = 0) -> Tensor:
    """``[2, 2·edges]``: undirected random edges, sorted by target and source, without self-loops."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.randint(nodes, (edges,), generator=generator)
    v = (u + torch.randint(1, nodes, (edges,), generator=generator)) % nodes
    both = torch.stack([torch.cat([u, v]), torch.cat([v, u])])
    return both[:, (both[1] * nodes + both[0]).argsort()]


def adjacency_csr(edge_index: Tensor, nodes: int) -> Tensor:
    """The adjacency of an undirected ``edge_index``, sorted by target, ``sparse_csr`` ``[nodes, nodes]``."""
    if bool((edge_index[1, 1:] < edge_index[1, :-1]).any()):
        raise ValueError("edge_index must be sorted by target: its sources become the columns of rows")
    pointer = torch.zeros(nodes + 1, dtype=torch.int64)
    pointer[1:] = torch.bincount(edge_index[1], minlength=nodes).cumsum(0)
    ones = torch.ones(edge_index.size(1))
    return torch.sparse_csr_tensor(pointer, edge_index[0].contiguous(), ones, (nodes, nodes), check_invariants=False)


def bag_of_words(nodes: int, *, words: int = 1000, each: int = 20, seed: int = 0) -> Tensor:
    """``sparse_csr`` ``[nodes, words]``: ``each`` different ones in every row."""
    generator = torch.Generator().manual_seed(seed)
    gaps = torch.randint(1, words // each + 1, (nodes, each), generator=generator)
    column = ((gaps.cumsum(1) + torch.randint(words, (nodes, 1), generator=generator)) % words).sort(1).values
    pointer = torch.arange(0, nodes * each + 1, each)
    ones = torch.ones(nodes * each)
    return torch.sparse_csr_tensor(pointer, column.flatten(), ones, (nodes, words), check_invariants=False)


def citation_graph(nodes: int, *, features: int = 500, classes: int = 3, density: float = 0.1) -> Data:
    """A random graph of Pubmed's shape: mean degree 4.5, a tenth of the features not zero, 10/10/80 nodes."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(nodes, generator=generator)
    ring = torch.stack([order, order.roll(1)])
    edges = torch.cat([ring, ring.flip(0), random_graph(nodes, int(1.25 * nodes))], dim=1)
    masks = [torch.zeros(nodes, dtype=torch.bool) for _ in range(3)]
    for mask, part in zip(
        masks, torch.split(order, [nodes // 10, nodes // 10, nodes - 2 * (nodes // 10)]), strict=True
    ):
        mask[part] = True
    return Data(
        x=(torch.rand(nodes, features, generator=generator) < density).float(),
        edge_index=torch.unique(edges, dim=1),
        y=torch.randint(classes, (nodes,), generator=generator),
        train_mask=masks[0],
        val_mask=masks[1],
        test_mask=masks[2],
    )


def comparison(
    suite: str,
    name: str,
    ours: Cost,
    peer: str | None = None,
    theirs: Cost | None = None,
    *,
    note: str = "",
    threads: int | None = None,
) -> Figure:
    """A figure of this machine; ``threads`` are torch's where they are not given."""
    return Figure(
        suite=suite,
        name=name,
        ours_s=ours.seconds,
        peer=peer,
        peer_s=None if theirs is None else theirs.seconds,
        ratio=None if theirs is None else theirs.seconds / ours.seconds,
        ours_mb=ours.megabytes,
        peer_mb=None if theirs is None else theirs.megabytes,
        note=note,
        threads=torch.get_num_threads() if threads is None else threads,
        machine=machine(),
        versions=current_versions(),
    )


class APPNPModel(nn.Module):
    """Linear propagation in the place of the flow: as many products with a CSR adjacency, normalised once."""

    name = "PyG's APPNP, CSR, as many steps"

    def __init__(self, in_channels: int, out_channels: int, *, hidden: int, num_steps: int) -> None:
        super().__init__()
        self.encoder = Linear(in_channels, hidden)
        self.propagate = APPNP(K=num_steps, alpha=0.1, cached=True)
        self.decoder = Linear(hidden, out_channels)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Class scores."""
        out: Tensor = self.decoder(self.propagate(self.encoder(x).relu(), adjacency))
        return out


def _training_steps(nodes: int, *, steps: int = 4, repeats: int = 3) -> tuple[Cost, Cost, str]:
    """One of ``steps`` in a row, as in a training: what it freed serves the next. And what else a reader must know."""
    x, edge_index = bag_of_words(nodes), random_graph(nodes, 5 * nodes)
    y = torch.randint(7, (nodes,))
    options = load_preset(DEFAULT_MODEL, "default")["model"]
    model = robust(x.shape[1], 7, **options)
    linear = APPNPModel(x.shape[1], 7, hidden=options["hidden_channels"], num_steps=options["num_layers"])
    once = measure(lambda: model.adjacency(x, edge_index))

    def training(model: nn.Module, adjacency: Tensor) -> Callable[[], float]:
        optimizer = torch.optim.Adam(model.parameters())

        def run() -> float:
            before = os.times().system
            for _ in range(steps):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x, adjacency), y).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            return os.times().system - before

        return run

    mine, theirs = race(
        training(model, edge_index), training(linear, adjacency_csr(edge_index, nodes)), repeats=repeats
    )
    note = f"{mine.result / steps:.2f} s of it the system's, for fresh memory; A(0) once before, {once.seconds:.2f} s"
    note += "; the other without dropout, on the edges that A(0) drops, too"
    return Cost(mine.seconds / steps, mine.megabytes), Cost(theirs.seconds / steps, theirs.megabytes), note


def _train_gcn(data: Data, shape: tuple[int, int], width: int, epochs: int) -> float:
    """PyG's two-layer GCN as its examples train it: a step and an evaluation per epoch; the test accuracy."""
    torch.manual_seed(0)
    model = PyGGCN(shape[0], width, 2, shape[1], dropout=0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    best = test = 0.0
    for _ in range(epochs):
        model.train()
        optimizer.zero_grad()
        out = model(data.x, data.edge_index)
        nn.functional.cross_entropy(out[data.train_mask], data.y[data.train_mask]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        model.eval()
        with torch.no_grad():
            right = model(data.x, data.edge_index).argmax(dim=-1) == data.y
        accuracy = float(right[data.val_mask].float().mean())
        if accuracy > best:
            best, test = accuracy, 100 * float(right[data.test_mask].float().mean())
    return test


def _pairs(result: AttackResult) -> set[tuple[int, int]]:
    return {(int(u), int(v)) for u, v in result.edge_flips.t()}


def _growth(sizes: Sequence[int], costs: Sequence[Cost]) -> str:
    text = f"time grows with exponent {exponent([(n, c.seconds) for n, c in zip(sizes, costs, strict=True)]):.2f}"
    if all(c.megabytes for c in costs):
        memory = exponent([(n, c.megabytes or 0.0) for n, c in zip(sizes, costs, strict=True)])
        text += f", peak memory with {memory:.2f}"
    return text


def exponent(points: Sequence[tuple[int, float]]) -> float:
    """That of the power law through ``(n, value)``, by least squares of the logarithms."""
    n, values = np.array(points, dtype=float).T
    return float(np.polyfit(np.log(n), np.log(values), 1)[0])


def machine() -> str:
    """Processor and cores."""
    return f"{_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def status_line(name: str) -> float | None:
    """A line of /proc/self/status in MB, None where there is no such file."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), None)


def reset_peak() -> float | None:
    """Hand free memory back, start the peak anew and return what is in use, in MB; None where that is impossible."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except (OSError, AttributeError):
        return None
    return status_line("VmRSS")
