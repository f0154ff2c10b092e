"""The suite ``scale``: one large graph at a time, this library beside PyG's models, each run in a fresh process.

Every finished run is a line of ``scale.jsonl``; a suite that was stopped goes on where it was. The figures that
:func:`scale` yields pair the lines.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from contractive_gnn.bench.results import current_versions
from contractive_gnn.bench.scale_runs import OURS, PEERS, TASKS, Run
from contractive_gnn.bench.speed import Cost, Figure, comparison, exponent, machine
from contractive_gnn.lines import append_line, finished_lines, json_object, open_alone

RUNS: Final = "scale.jsonl"
#: nodes and mean degree by name: that of ogbn-arxiv, and a million nodes with ten million edges
NAMED: Final = {"arxiv": (169_343, 13.7), "million": (1_000_000, 20.0)}
#: nodes of the graphs whose training steps show how time and memory grow
GROWTH: Final = (10_000, 30_000, 100_000, 300_000, 1_000_000)
ATTACKS: Final = ("prbcd on robust", "prbcd on gcn", "whitebox-pgd on gcn", "pyg-prbcd on gcn")
_TITLES: Final = {
    "step": "one training step of {side}",
    "fit": "fit of {side}, full batch, {epochs} epochs",
    "attack": "{side}, 1 % of the edges",
    "certificate": "certificate of {side} at one flip, all nodes",
}
_NAMES: Final = {
    "gcn": "PyG's GCN, two layers, edge_index",
    "gcn-csr": "PyG's GCN, two layers, CSR",
    "appnp": "PyG's APPNP, CSR, ten steps",
    "pyg-prbcd on gcn": "PyG's PRBCDAttack on its GCN",
}


def sized(text: str) -> tuple[int, float]:
    """Nodes and mean degree: of a name, or a number of nodes with the degree of ogbn-arxiv.

    Raises:
        ValueError: it is neither.

    Example:
        >>> sized("million"), sized("20000")
        ((1000000, 20.0), (20000, 13.7))
    """
    if text in NAMED:
        return NAMED[text]
    if not text.isdecimal() or int(text) < 1000:
        raise ValueError(f"size must be {', '.join(NAMED)} or a number of nodes from 1000, got {text!r}")
    return int(text), NAMED["arxiv"][1]


def planned(size: str, *, tasks: Sequence[str], threads: int, epochs: int, growth: Sequence[int] = GROWTH) -> list[Run]:
    """The runs of a size, ours before those beside it; of ``"growth"`` the steps on all its graphs."""

    def run(task: str, side: str, nodes: int, degree: float, graph: str = "dc-sbm") -> Run:
        return Run(
            task=task, side=side, graph=graph, nodes=nodes, degree=degree, threads=threads,
            epochs=epochs if task == "fit" else 0,
        )  # fmt: skip

    if size == "growth":
        degree = NAMED["arxiv"][1]
        return [
            run("step", side, nodes, degree, graph)
            for graph in ("dc-sbm", "uniform")
            for nodes in growth
            for side in ("robust", "appnp")
        ]
    nodes, degree = sized(size)
    sides = {"step": (*OURS, *PEERS), "fit": ("robust", *PEERS), "attack": ATTACKS, "certificate": ("linf-diffusion",)}
    return [run(task, side, nodes, degree) for task in tasks for side in sides[task]]


def scale(
    *,
    folder: Path,
    sizes: Sequence[str] = ("arxiv",),
    tasks: Sequence[str] = tuple(TASKS),
    threads: int = 2,
    epochs: int = 200,
    growth: Sequence[int] = GROWTH,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Figure]:
    """Run what is not in the folder yet, and yield every figure whose runs are there.

    Args:
        folder: of ``scale.jsonl``.
        sizes: see :func:`sized`; ``"growth"`` takes one training step on graphs from 10,000 to a million nodes.
        tasks: keys of :data:`~contractive_gnn.bench.scale_runs.TASKS`.
        threads: of torch.
        epochs: of a fit, in each mode of the model.
        growth: numbers of nodes for ``"growth"``.
        say: is told what runs, and about how long the rest takes.

    Raises:
        ValueError: an unknown size.
        RuntimeError: a run of ours failed. One of PyG's that fails is a figure without its time.
    """
    plans = {
        size: planned(size, tasks=tasks, threads=threads, epochs=epochs, growth=growth) for size in dict.fromkeys(sizes)
    }
    path = folder / RUNS
    with open_alone(path) as file:
        known = {_key(line): line for line in finished_lines(path, json_object)}
        todo = [run for plan in plans.values() for run in plan if _key(_asked(run)) not in known]
        began = time.monotonic()
        for number, run in enumerate(todo):
            each = (time.monotonic() - began) / max(1, number)
            left = f", about {each * (len(todo) - number) / 60:.0f} min left" if number else ""
            say(f"{number + 1} of {len(todo)}: {_title(run)}, {run['nodes']:,} nodes{left}")
            line = {**_asked(run), **_in_process(run)}
            append_line(file, json.dumps(line, ensure_ascii=False) + "\n")
            known[_key(line)] = line
    for size, plan in plans.items():
        lines = [known[_key(_asked(run))] for run in plan]
        yield from _growth(lines) if size == "growth" else _beside(lines)


def _asked(run: Run) -> dict[str, Any]:
    """What tells one line from another: the run, the machine and the versions."""
    return {**run, "machine": machine(), "versions": current_versions()}


def _key(line: dict[str, Any]) -> str:
    return json.dumps([line.get(name) for name in (*Run.__annotations__, "machine", "versions")], sort_keys=True)


def _in_process(run: Run) -> dict[str, Any]:
    """What the run printed, in a process of its own whose progress is seen."""
    threads = str(run["threads"])
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    command = [sys.executable, "-W", "ignore", "-m", "contractive_gnn.bench.scale_runs", json.dumps(run)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode and run["side"] in _NAMES:
        failed = f"it needs more memory than there is, or failed otherwise ({done.returncode})"
        return {"seconds": None, "processor_seconds": None, "megabytes": None, "note": failed}
    if done.returncode:
        raise RuntimeError(
            f"{_title(run)}, {run['nodes']:,} nodes: the process ended with {done.returncode}, see above"
        )
    return json_object(done.stdout.splitlines()[-1])


def _title(run: Any) -> str:
    return _TITLES[run["task"]].format(side=_NAMES.get(run["side"], run["side"]), epochs=run["epochs"])


def _beside(lines: Sequence[dict[str, Any]]) -> Iterator[Figure]:
    """Every run of ours beside each of PyG's of the same task."""
    for line in lines:
        if line["side"] in _NAMES:
            continue
        peers = [other for other in lines if other["task"] == line["task"] and other["side"] in _NAMES]
        if not peers or (line["task"] == "attack" and not line["side"].endswith(" gcn")):  # another victim
            yield _figure(line, None)
            continue
        for other in peers:
            yield _figure(line, other)


def _figure(line: dict[str, Any], other: dict[str, Any] | None) -> Figure:
    graph = "" if line["graph"] == "dc-sbm" else ", uniform random graph"
    name = f"{_title(line)}, {line['nodes']:,} nodes, {line['edges']:,} edges{graph}"
    note = f"processor time {line['processor_seconds']:.4g} s; peak of the whole process; {line['note']}"
    if other is not None and other["seconds"] is None:
        note, other = f"{note}; {_NAMES[other['side']]}: {other['note']}", None
    if other is None:
        return comparison("scale", name, Cost(line["seconds"], line["megabytes"]), note=note, threads=line["threads"])
    return comparison(
        "scale",
        name,
        Cost(line["seconds"], line["megabytes"]),
        _NAMES[other["side"]],
        Cost(other["seconds"], other["megabytes"]),
        note=f"{note}; the other's: processor time {other['processor_seconds']:.4g} s; {other['note']}",
        threads=line["threads"],
    )


def _growth(lines: Sequence[dict[str, Any]]) -> Iterator[Figure]:
    """Each size, and the exponents of either graph."""
    for graph in dict.fromkeys(line["graph"] for line in lines):
        ours, theirs = ([x for x in lines if (x["graph"], x["side"]) == (graph, side)] for side in ("robust", "appnp"))
        for line, other in zip(ours, theirs, strict=True):
            yield _figure(line, other)
        if len(ours) < 2 or any(line["seconds"] is None for line in theirs):
            continue
        last = _figure(ours[-1], theirs[-1])
        grown = []
        for side in (ours, theirs):
            points = [(line["nodes"], line["processor_seconds"]) for line in side]
            text = f"processor time grows with exponent {exponent(points):.2f}"
            before, final = side[-2:]
            if before["megabytes"] and final["megabytes"]:  # a power would be of what any process has, too
                more = (final["megabytes"] - before["megabytes"]) / (final["nodes"] - before["nodes"])
                text += f", peak memory by {1024 * more:.1f} kB a node"
            grown.append(text)
        name = f"growth from {ours[0]['nodes']:,} to {ours[-1]['nodes']:,} nodes, {graph}"
        yield comparison(
            "scale", name, Cost(last.ours_s, last.ours_mb), last.peer, Cost(last.peer_s or 0.0, last.peer_mb),
            note="; the other's ".join(grown), threads=last.threads,
        )  # fmt: skip
