"""What a benchmark measured: one JSON object a line, appended to ``results.jsonl`` and never changed.

A cell is identified by what was asked for (:attr:`Cell.key`); a result is a cell with what came out. A line is handed
to the system and flushed to the disk before the next one, so a run that is killed leaves at most one unfinished line,
at the end: readers pass over it and :class:`ResultsFile` cuts it away before it appends (see
:mod:`contractive_gnn.lines`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from contractive_gnn import plugins
from contractive_gnn.former import current_hyperparameters, current_model
from contractive_gnn.lines import ResultsError as ResultsError
from contractive_gnn.lines import append_line as append_line
from contractive_gnn.lines import check_folder as check_folder
from contractive_gnn.lines import finished_lines, json_object
from contractive_gnn.lines import make_folder as make_folder
from contractive_gnn.lines import open_alone as open_alone
from contractive_gnn.lines import replacing as replacing
from contractive_gnn.provenance import current_commit as current_commit

Threat = Literal["poisoning", "evasion", "symbiotic"]
EvaluatedOn = Literal["test", "targets"]
Source = Literal["published", "live", "generated", "replayed"]
#: what a budget counts: "none", "edges", "edges per target", "edges per node", "edges in all", "feature entries",
#: "feature entries per target", "edges and feature entries", "edges and feature entries per target", "nodes", "new
#: nodes, 20 edges each", "fraction of edges", "fraction of edges at test nodes", "fraction of each degree", "fraction
#: of each target's degree", "fraction of feature entries" or "fraction of nodes"
BudgetUnit = str
NEW_NODES = "new nodes"
Key = tuple[str | int | float, ...]

RESULTS = "results.jsonl"
#: what the attack is called in the results of ``contractive-gnn certify``, or what its name begins with
CERTIFICATE = "certificate"
PACKAGES = ("torch", "torch_geometric", "numpy", "deeprobust", "contractive_gnn")


#: of the fields of a line; what is not here may be null
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(
        ("dataset", "split", "model", "attack", "threat", "budget_unit", "evaluated_on", "attack_source"), str
    ),
    **dict.fromkeys(("split_seed", "seed", "n_evaluated", "flips"), int),
    **dict.fromkeys(("budget", "accuracy", "clean_accuracy", "train_s", "attack_s"), (int, float)),
    **dict.fromkeys(("hyperparameters", "versions", "breakdown"), dict),
    "unreliable": list,
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One number that a benchmark is asked for.

    Attributes:
        dataset: name of the data set.
        split: name of the split ("prognn", "random").
        split_seed: seed of a random split (0 for a fixed one).
        model: name of the model.
        attack: name of the attack as in the attack specification; "clean" for none. Of several in a row
            ("metattack+flip-features:0.1") the first has its budget beside it, as any, and the others in the name.
        threat: "poisoning" (the model is retrained on the attacked graph), "evasion" (the model is frozen) or
            "symbiotic" (retrained on what the first attacks left, and then attacked). "clean" is an evasion attack of
            budget 0.
        budget: size of the attack, in ``budget_unit``.
        budget_unit: what the budget counts.
        seed: seed of the initial weights and of the training.
        hyperparameters: everything else that decides the number: ``{"model": …, "training": …, "attack": …}``, and
            ``"plugins"`` where plug-ins have a part in the model (:func:`contractive_gnn.plugins.digests`).
    """

    dataset: str
    split: str
    split_seed: int
    model: str
    attack: str
    threat: Threat
    budget: float | int
    budget_unit: BudgetUnit
    seed: int
    hyperparameters: Mapping[str, Any]

    @property
    def key(self) -> Key:
        """What makes this cell another cell than the next; two results with one key measure the same thing."""
        return (
            self.dataset,
            self.split,
            self.split_seed,
            self.model,
            self.attack,
            self.threat,
            self.budget,
            self.budget_unit,
            self.seed,
            digest(self.hyperparameters),
        )


@dataclasses.dataclass(frozen=True)
class Result(Cell):
    """A finished cell.

    Attributes:
        accuracy: percent (0–100) of the evaluated nodes that the attacked model gets right.
        clean_accuracy: the same, of the same nodes, for the model trained and evaluated on the clean graph.
        evaluated_on: "test" (the test mask) or "targets" (the nodes that a targeted attack aims at).
        n_evaluated: number of these nodes.
        attack_source: "published" graph, "live" attack, "generated" (random noise, or no attack), or "replayed" (a
            saved graph); of several attacks in a row that of the first.
        flips: undirected edges and feature entries that the attack changed.
        unreliable: reasons, given by the attack itself, why a stronger one may exist (masked gradients, random
            flips that did better, …); empty where it has none.
        train_s: seconds of the training that gave the attacked model (wall clock).
        attack_s: seconds that the attack took when its graph was made; 0 for what was published.
        commit: ``git rev-parse HEAD`` when run from a checkout, else None.
        uncommitted_changes: whether the checkout's tracked files differed from that commit (False without a checkout).
        versions: of Python and of the packages that matter.
        device: where the model was trained and attacked; "cpu" in lines that do not say.
        breakdown: of each bin of the targets, or of each attack of an ensemble and of the worst node by node,
            ``{"n": 10, "accuracy": 60.0, "clean_accuracy": 90.0}``; empty elsewhere, and in lines that do not say.
    """

    accuracy: float
    clean_accuracy: float
    evaluated_on: EvaluatedOn
    n_evaluated: int
    attack_source: Source
    flips: int
    unreliable: Sequence[str]
    train_s: float
    attack_s: float
    commit: str | None
    uncommitted_changes: bool
    versions: Mapping[str, str | None]
    device: str = dataclasses.field(default="cpu", kw_only=True)
    breakdown: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("accuracy", "clean_accuracy"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= 100):
                raise ResultsError(f"{name} must be a percentage in [0, 100], got {value!r}")

    def to_line(self) -> str:
        """The result as one line of JSON, with its newline."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Result:
        """Read one line, former names as those of today. Fields that this version does not know are passed over.

        Raises:
            ResultsError: the line is not a JSON object, or lacks a field.
        """
        record = json_object(line)
        fields = dataclasses.fields(cls)
        wanted = (f for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING)
        missing = [f.name for f in wanted if f.name not in record]
        if missing:
            raise ResultsError(f"lacks the field(s) {', '.join(missing)}")
        for name, kinds in _KINDS.items():
            if name in record and not isinstance(record[name], kinds):
                raise ResultsError(f"{name} cannot be {record[name]!r} ({type(record[name]).__name__})")
        model = record["model"]
        record["model"] = current_model(model, warn=False)
        record["hyperparameters"] = current_hyperparameters(model, record["hyperparameters"])
        return cls(**{f.name: record[f.name] for f in fields if f.name in record})


def digest(hyperparameters: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that change when any hyperparameter does; the order of the keys does not matter."""
    canonical = json.dumps(hyperparameters, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def read_results(path: Path, read_line: Callable[[str], Result] = Result.from_line) -> list[Result]:
    """Every finished line of ``path``, in order; an unfinished last line (no newline) is passed over.

    Args:
        path: a ``results.jsonl``.
        read_line: what makes a result of a line.

    Raises:
        ResultsError: the file is missing, or a finished line is not a result.
    """
    if not path.exists():
        raise ResultsError(f"no results at {path}: run `contractive-gnn bench --out {path.parent}` first")
    return finished_lines(path, read_line)


def check_kind(results: Iterable[Result], path: Path, *, certificates: bool) -> None:
    """Raise unless all results are certificates, or none is: a bound and a measurement share no file.

    Raises:
        ResultsError: one is of the other kind.
    """
    if any(result.attack.startswith(CERTIFICATE) != certificates for result in results):
        other = "results of `contractive-gnn bench`" if certificates else "certificates of `contractive-gnn certify`"
        raise ResultsError(f"{path} holds {other}; choose another --out")


class ResultsFile:
    """``results.jsonl`` open for appending, by one run at a time.

    Opening cuts an unfinished last line away and reads the rest; ``finished`` are the results by their key.

    Args:
        path: the file.
        read_line: see :func:`read_results`.

    Raises:
        ResultsError: another run has the file open, or a line in it is not a result.
    """

    def __init__(self, path: Path, read_line: Callable[[str], Result] = Result.from_line) -> None:
        self.path = path
        self._file = open_alone(path)
        try:
            self.finished: dict[Key, Result] = {}
            for result in read_results(path, read_line):
                self.finished.setdefault(result.key, result)
        except BaseException:
            self._file.close()
            raise

    def __contains__(self, cell: Cell) -> bool:
        return cell.key in self.finished

    def append(self, result: Result) -> None:
        """Write one result so that it is on the disk, whole, when this returns.

        Raises:
            ResultsError: the cell is already finished, or the line cannot be written (:func:`append_line`).
        """
        if result in self:
            raise ResultsError(f"{self.path} already holds {result.key}")
        append_line(self._file, result.to_line())
        self.finished[result.key] = result

    def close(self) -> None:
        """Close the file and let other runs have it."""
        self._file.close()

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def current_versions() -> dict[str, str | None]:
    """Versions of Python, of :data:`PACKAGES` (None for what is not installed) and of the plug-ins."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions | plugins.versions()
