"""Results of long experiments: a line of JSON each, appended as they are found, so that a stopped run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from contractive_gnn.former import current_model

Row = Mapping[str, Any]
Key = tuple[Any, ...]


def read(out: Path) -> list[Row]:
    """The lines that are there already, with models by today's names; makes the folder where it is missing."""
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.exists() else []
    return [{**row, "model": current_model(row["model"], warn=False)} if "model" in row else row for row in rows]


def append(out: Path, rows: Sequence[Row]) -> None:
    """Add these lines."""
    with out.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def left(done: Container[Key], groups: Iterable[Key], each: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Each group, with a tuple of those of ``each`` that are not done in it at its end; without what is done whole."""
    wanted = [(*group, tuple(one for one in each if (*group, one) not in done)) for group in groups]
    return [one for one in wanted if one[-1]]


def work_off(
    work: Callable[..., Sequence[Row]], wanted: Sequence[tuple[Any, ...]], *, jobs: int, out: Path
) -> Iterator[Sequence[Row]]:
    """Call ``work`` with each of the arguments, in so many processes, and add the lines of a call once it is done."""
    # a process that has asked for a GPU cannot hand it to a fork of itself
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for future in as_completed([pool.submit(work, *one) for one in wanted]):
            append(out, future.result())
            yield future.result()
