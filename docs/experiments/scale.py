"""The tables of docs/scale.md from what the suite measured, and what a step on ogbn-papers100M would take.

    contractive-gnn speed --suite scale --size arxiv,million,growth --threads 2 --out docs/results/scale
    python docs/experiments/scale.py

The estimate is on paper: time from the largest graph that was measured and the exponent of its growth with the edges;
memory from what the last two sizes differ by, for each node and for each edge. It says nothing of a machine whose
memory is slower than the one that was measured.
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pages import markdown, write_between

from contractive_gnn.bench.scale import GROWTH
from contractive_gnn.bench.speed import exponent

#: Hu et al., Open Graph Benchmark (NeurIPS 2020), table 2
PAPERS = {"nodes": 111_059_956, "edges": 1_615_685_872}


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("docs/results/scale"))
    parser.add_argument("--page", type=Path, default=Path("docs/scale.md"))
    options = parser.parse_args()
    figures = lines(options.results / "speed.jsonl")
    runs = lines(options.results / "scale.jsonl")
    write_between(options.page, "measured", measured(figures))
    write_between(options.page, "growth", growth(figures, runs))
    write_between(options.page, "papers100M", papers(runs))


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def measured(figures: Iterable[dict[str, Any]]) -> str:
    """What is no growth: time, processor time and memory of both sides, and what a reader must know."""
    rows = []
    machines = set()
    for figure in figures:
        if figure["name"].startswith("growth") or any(f", {n:,} nodes" in figure["name"] for n in GROWTH[:-1]):
            continue  # stands in the other table
        machines.add(f"{figure['machine']}, {figure['threads']} threads")
        own, other = [*re.findall(r"processor time ([\d.e+-]+) s", figure["note"]), None, None][:2]
        rows.append(
            (
                figure["name"].replace("one training step", "step").replace("at one flip, all nodes", "at one flip"),
                seconds(figure["ours_s"]), seconds(own), size(figure["ours_mb"]),
                figure["peer"] or "–", seconds(figure["peer_s"]), seconds(other), size(figure["peer_mb"]),
            )
        )  # fmt: skip
    head = ("what", "s", "processor s", "MB", "beside", "its s", "its processor s", "its MB")
    return f"{'; '.join(sorted(machines))}.\n\n{markdown(head, rows)}"


def growth(figures: Iterable[dict[str, Any]], runs: Iterable[dict[str, Any]]) -> str:
    """The exponents, and microseconds of processor time a node."""
    texts = [
        textwrap.fill(f"- {figure['name']}: {figure['note']}.", 120, subsequent_indent="  ")
        for figure in figures
        if figure["name"].startswith("growth")
    ]
    rows = [
        (
            run["graph"], run["side"], f"{run['nodes']:,}", seconds(run["processor_seconds"]),
            f"{1e6 * run['processor_seconds'] / run['nodes']:.1f}", size(run["megabytes"]),
        )
        for run in steps(runs)
    ]  # fmt: skip
    head = ("graph", "model", "nodes", "processor s a step", "µs a node", "MB")
    return "\n".join(texts) + "\n\n" + markdown(head, rows)


def papers(runs: Iterable[dict[str, Any]]) -> str:
    """A step of robust on ogbn-papers100M, from the exponents on the block model."""
    own = [run for run in steps(runs) if (run["graph"], run["side"]) == ("dc-sbm", "robust")]
    before, last = own[-2:]
    power = exponent([(run["edges"], run["processor_seconds"]) for run in own])
    hours = last["processor_seconds"] * (PAPERS["edges"] / last["edges"]) ** power / 3600
    each = {what: (last["megabytes"] - before["megabytes"]) / (last[what] - before[what]) for what in PAPERS}
    by_nodes, by_edges = (each[what] * number / 1e6 for what, number in PAPERS.items())
    return textwrap.fill(
        f"{PAPERS['nodes']:,} nodes and {PAPERS['edges']:,} edges, from {last['nodes']:,} nodes and {last['edges']:,} "
        f"edges: a training step takes about {hours:.1f} hours of one thread, and {by_nodes:.1f} TB if memory goes by "
        f"nodes, {by_edges:.1f} TB if it goes by edges. Batches, or parts on several machines, are the way there.",
        120,
    )


def steps(runs: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Single steps at the degree of ogbn-arxiv that the growth is made of, by size."""
    chosen = [run for run in runs if run["task"] == "step" and run["side"] in ("robust", "appnp")]
    return iter(sorted((run for run in chosen if run["degree"] == 13.7), key=lambda run: run["nodes"]))


def seconds(value: float | str | None) -> str:
    """Three digits."""
    return "–" if value is None else f"{float(value):.3g}"


def size(value: float | None) -> str:
    """Whole megabytes."""
    return "–" if value is None else f"{value:,.0f}"


if __name__ == "__main__":
    main()
