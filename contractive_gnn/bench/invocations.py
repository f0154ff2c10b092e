"""Which command lines filled a folder of results: one JSON object a line, appended to ``commands.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from contractive_gnn.bench.results import append_line, open_alone
from contractive_gnn.former import current_model

FILE = "commands.jsonl"


@dataclass(frozen=True)
class Invocation:
    """One run of the benchmark.

    Attributes:
        command: the command line that repeats it.
        models: names of its models, in the order in which they were asked for.
    """

    command: str
    models: Sequence[str]

    def append_to(self, folder: Path) -> None:
        """Add it to the folder's list.

        Raises:
            ResultsError: the list cannot be written to.
        """
        with open_alone(folder / FILE) as file:
            append_line(file, json.dumps(asdict(self), ensure_ascii=False) + "\n")


def read_invocations(folder: Path) -> tuple[Invocation, ...]:
    """The folder's list, each once, models by their names of today; empty where there is none.

    What a killed run left unfinished is passed over.
    """
    path = folder / FILE
    if not path.exists():
        return ()
    found: dict[str, Invocation] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
            models = tuple(current_model(name, warn=False) for name in record["models"])
            found[record["command"]] = Invocation(record["command"], models)
        except (ValueError, KeyError, TypeError):
            continue
    return tuple(found.values())
