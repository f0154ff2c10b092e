"""Results of long examples: a line of JSON each, appended as they are found, so that a stopped run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def read(out: Path) -> list[Row]:
    """The lines that are there already; makes the folder where it is missing."""
    out.parent.mkdir(parents=True, exist_ok=True)
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.exists() else []


def append(out: Path, rows: Sequence[Row]) -> None:
    """Add these lines."""
    with out.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def work_off(
    work: Callable[..., Sequence[Row]], wanted: Sequence[tuple[Any, ...]], *, jobs: int, out: Path
) -> Iterator[Sequence[Row]]:
    """Call ``work`` with each of the arguments, in so many processes, and add the lines of a call once it is done."""
    # a process that has asked for a GPU cannot hand it to a fork of itself
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for future in as_completed([pool.submit(work, *one) for one in wanted]):
            append(out, future.result())
            yield future.result()
