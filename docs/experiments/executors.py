"""Whether two nodes of Ray take half the time, and lose nothing when a worker is killed and a node goes away.

    python docs/experiments/executors.py --out docs/results/executors.jsonl

The same 40 numbers three times: one after another in this process; on two nodes of a Ray cluster on this machine, with
one CPU and worker processes of their own each; and on two such nodes of which a worker is killed after a quarter of the
numbers, and one node after a half. A line each: seconds, how many cells there are, and whether every number is that of
the first run. The cluster is there before the clock starts; its workers are not.

Run it on an otherwise idle machine with at least two cores, with the extra ``ray``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from contractive_gnn.bench.protocol import Override, Protocol
from contractive_gnn.bench.ray_tasks import RayTasks
from contractive_gnn.bench.results import RESULTS, ResultsFile, current_commit, current_versions, read_results
from contractive_gnn.bench.runner import Failure, execute, plan
from contractive_gnn.bench.spec import parse_attacks

MODELS = ("gcn", "csgnn", "linf-diffusion", "robust")
ATTACKS = "clean,random:0.2"


def protocol(epochs: int, seeds: int) -> Protocol:
    """Trainings on the clean graph of digits and on an attacked one, a job for each model and seed."""
    return Protocol(
        dataset="digits",
        models=MODELS,
        attacks=parse_attacks(ATTACKS, dataset="digits"),
        seeds=tuple(range(seeds)),
        overrides=(Override.parse(f"training.epochs={epochs}"),),
    )


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A cluster of two nodes with one CPU each."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.other = cluster.add_node(**node)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def run(
    asked: Protocol, out: Path, executor: RayTasks | None, *, after: Callable[[int], None] = lambda measured: None
) -> tuple[float, list[str]]:
    """Seconds, and what failed; ``after`` is told how many numbers there are, each time that there is another."""
    start = time.perf_counter()
    failed = []
    with ResultsFile(out / RESULTS) as results:
        todo = plan(asked, out=out, finished=results.finished)
        with closing(execute(todo, results, executor=executor)) as messages:
            for message in messages:
                if isinstance(message, Failure):
                    failed.append(f"{message.what}: {message.reason}")
                after(len(results.finished))
    return time.perf_counter() - start, failed


def numbers(out: Path) -> list[tuple[str, str]]:
    """A line for each result, without what the clock says, by its key."""
    return sorted(
        (json.dumps(result.key), json.dumps({**asdict(result), "train_s": 0, "attack_s": 0}, sort_keys=True))
        for result in read_results(out / RESULTS)
    )


def workers(node: Any) -> list[int]:
    """The processes that run a task on a node: children of its raylet, which Ray calls by the task."""
    raylet = node.all_processes["raylet"][0].process.pid
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            name = (status.parent / "cmdline").read_text()
        except OSError:
            continue
        if parent == raylet and name.startswith("ray::_work"):
            found.append(int(status.parent.name))
    return found


def disturbance(cluster: Any, total: int, done: list[str]) -> Callable[[int], None]:
    """Kill a worker of the first node after a quarter of the numbers, and the whole second node after a half."""

    def disturb(measured: int) -> None:
        if not done and measured >= total // 4 and (busy := workers(cluster.head_node)):
            os.kill(busy[0], signal.SIGKILL)
            done.append("worker killed")
        elif len(done) == 1 and measured >= total // 2:
            cluster.remove_node(cluster.other, allow_graceful=False)
            done.append("node removed")

    return disturb


def main() -> None:
    """Measure, and write a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    asked = protocol(options.epochs, options.seeds)
    total = len(MODELS) * options.seeds * len(asked.attacks)
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def tell(what: str, out: Path, seconds: float, failed: list[str], disturbed: list[str] | None = None) -> None:
            found, first = numbers(out), numbers(folder / "serial")
            line = {
                "run": what,
                "seconds": round(seconds, 1),
                "of_serial": round(seconds / lines[0]["seconds"], 3) if lines else 1.0,
                "cells": len(found),
                "once_each": len({key for key, _ in found}) == len(found),
                "equal": found == first,
                "failed": failed,
                "disturbed": disturbed or [],
                "epochs": options.epochs,
                "cores": os.cpu_count(),
                "commit": current_commit()[0],
                "versions": current_versions(),
            }
            lines.append(line)
            print(json.dumps({key: line[key] for key in tuple(line)[:7]}))

        tell("serial", folder / "serial", *run(asked, folder / "serial", None))
        with two_nodes() as cluster:
            out = folder / "two nodes"
            tell("two nodes", out, *run(asked, out, RayTasks(out, cluster.address)))
        with two_nodes() as cluster:
            out, done = folder / "disturbed", list[str]()
            after = disturbance(cluster, total, done)
            tell("disturbed", out, *run(asked, out, RayTasks(out, cluster.address), after=after), done)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
