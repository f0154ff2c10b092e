"""The benchmark from Python: :func:`benchmark` gives a :class:`BenchmarkReport`."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from torch import nn
from torch_geometric.data import Data

from contractive_gnn.bench import own_models
from contractive_gnn.bench.own_graph import OwnGraph
from contractive_gnn.bench.own_models import OwnModel
from contractive_gnn.bench.protocol import Override, Protocol, ProtocolError, check_names, over_splits
from contractive_gnn.bench.report import Report
from contractive_gnn.bench.results import RESULTS, EvaluatedOn, Result, ResultsFile, check_kind
from contractive_gnn.bench.runner import Failure, execute, plan_splits
from contractive_gnn.bench.spec import parse_attacks
from contractive_gnn.bench.summary import summarise
from contractive_gnn.bench.targets import TargetRule
from contractive_gnn.datasets import DATASETS
from contractive_gnn.datasets.files import SUFFIXES

Factory = Callable[..., nn.Module]
Models = str | Factory | Sequence[str | Factory] | Mapping[str, str | Factory]

#: no attack that needs a package which may not be here
ATTACKS: Final = "clean,random:0.5,pgd:0.1,whitebox-pgd:0.05"
_WIDTH: Final = 120


@dataclass(frozen=True)
class Worst:
    """The attack under which a model is least accurate.

    Attributes:
        attack: its name and budget.
        accuracy: in percent, the mean over the seeds.
        evaluated_on: "test"; "targets" where nothing but targeted attacks was run.
    """

    attack: str
    accuracy: float
    evaluated_on: EvaluatedOn


@dataclass(frozen=True, eq=False)
class BenchmarkReport:
    """What :func:`benchmark` measured; shown as a table by ``print`` and in a notebook.

    Attributes:
        results: one for each model, attack and seed.
        failures: what could not be measured, and why.
        notes: what was decided about the models and the graph, a sentence each.
        models: their names, in the order of the columns.
    """

    results: tuple[Result, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    models: tuple[str, ...]

    @property
    def worst(self) -> dict[str, Worst]:
        """By model, the attack that hurts most, over the seeds on average. Empty where nothing was attacked."""
        found: dict[str, Worst] = {}
        for section in self._report.sections:
            for model in section.models:
                kinds: tuple[EvaluatedOn, ...] = ("test", "targets")
                for on in kinds:
                    condition = section.worst(model, on)
                    if condition is not None:
                        found[model] = Worst(condition.short, section.scores[condition, model].mean, on)
                        break
        return found

    @property
    def table(self) -> str:
        """The table as text, with its notes."""
        console = Console(file=io.StringIO(), width=_WIDTH, color_system=None)
        self._report.print(console)
        assert isinstance(console.file, io.StringIO)
        lines = [console.file.getvalue().rstrip(), *self.notes]
        lines += [f"missing: {failure.what}: {failure.reason}" for failure in self.failures]
        return "\n".join(lines)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Add the results to ``folder/results.jsonl``, which ``contractive-gnn report`` reads; those there stay.

        Returns:
            the file.

        Raises:
            ResultsError: it holds certificates, or cannot be written.
        """
        path = Path(folder) / RESULTS
        with ResultsFile(path) as file:
            check_kind(file.finished.values(), path, certificates=False)
            for result in self.results:
                if result not in file:
                    file.append(result)
        return path

    @property
    def _report(self) -> Report:
        return Report(summarise(self.results, order=self.models), (), (), self.results)

    def __str__(self) -> str:
        return self.table

    def _repr_html_(self) -> str:
        return self._report.tables()


def benchmark(
    models: Models,
    data: Data | str | os.PathLike[str],
    *,
    attacks: str | Sequence[str] = ATTACKS,
    seeds: int | Sequence[int] = 2,
    split: str | None = None,
    split_seed: int | None = None,
    splits: int | None = None,
    attack_seed: int = 0,
    targets: int | str = 20,
    settings: Mapping[str, Any] | None = None,
    device: str = "cpu",
    out: str | os.PathLike[str] | None = None,
) -> BenchmarkReport:
    """Train models, attack them and measure how they hold, in this process.

    For each model and seed the model is trained once on the clean graph. An evasion attack is measured on that model,
    frozen; a poisoning attack by training a new model on the attacked graph, with the same split.

    Args:
        models: names of registered models ("gcn,csgnn"); classes or functions ``(in_channels, out_channels,
            **hyperparameters)`` that make one of the forms of :mod:`contractive_gnn.bench.adapter`; several of them; or
            a mapping that names them.
        data: a graph with ``x``, ``edge_index`` and ``y``; the name of a data set; or a file, see
            :func:`contractive_gnn.datasets.read`.
        attacks: as on the command line, "clean,metattack-live:0.05,whitebox-pgd:0.1".
        seeds: how many (0, 1, …), or which.
        split: "own", the masks of the graph, "random" or "inductive"; see :func:`contractive_gnn.datasets.read`. If
            None: "own" where there are masks, else "random"; of a data set by name "prognn", with ``splits`` "random".
        split_seed: of a random split, or the number of an own one; 0 if None.
        splits: how many splits, of the seeds (or own numbers) 0, 1, …; the table is then over the splits, of the mean
            over seeds on each. Not with ``split_seed``.
        attack_seed: of the attacks, and of the choice of targets.
        targets: how many nodes a targeted attack aims at; or "degree:40", "margin:40" or "balanced:40", see
            :mod:`contractive_gnn.bench.targets`.
        settings: hyperparameters as with ``--set``: ``{"training.epochs": 50, "Net.model.hidden": 32}``.
        device: where models are trained and attacked.
        out: a folder for results and attacked graphs, where a stopped run resumes; none is kept without it.

    Raises:
        ValueError: a model, a graph, an attack or a setting that cannot be; the text says what was expected.
        RuntimeError: nothing could be measured.

    Example:
        >>> from contractive_gnn.bench.api import benchmark
        >>> report = benchmark("gcn", "csbm", attacks="clean,random:0.2", seeds=1, settings={"training.epochs": 5})
        >>> sorted(result.attack for result in report.results)
        ['clean', 'random']
    """
    _check_kind("attacks", attacks, str, Sequence)
    _check_kind("seeds", seeds, int, Sequence)
    _check_kind("settings", {} if settings is None else settings, Mapping)
    _check_kind("data", data, Data, str, os.PathLike)
    if splits is not None and split_seed is not None:
        raise ProtocolError(f"splits={splits!r} and split_seed={split_seed!r}: give several splits, or one")
    own = _models(models)
    graph, name = _graph(data)
    if split is None and graph is None:
        split = "prognn" if splits is None else "random"
    protocol = Protocol(
        dataset=name,
        models=tuple(own),
        attacks=parse_attacks(attacks if isinstance(attacks, str) else ",".join(attacks), dataset=name),
        seeds=tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds),
        split=split,
        split_seed=split_seed or 0,
        attack_seed=attack_seed,
        targets=TargetRule.parse(targets),
        overrides=tuple(Override.of(path, value) for path, value in (settings or {}).items()),
        device=device,
        own_models=tuple(model for model in own.values() if model is not None),
        own_graph=graph,
    )
    protocols = (protocol,) if splits is None else over_splits(protocol, splits)
    if out is not None:
        return _run(protocols, Path(out))
    with tempfile.TemporaryDirectory() as folder:
        return _run(protocols, Path(folder))


def _check_kind(name: str, given: object, *kinds: type) -> None:
    if not isinstance(given, kinds) or isinstance(given, bool):
        raise TypeError(f"{name} must be {' or '.join(kind.__name__ for kind in kinds)}, got {given!r}")


def _run(protocols: Sequence[Protocol], out: Path) -> BenchmarkReport:
    failures: list[Failure] = []
    with ResultsFile(out / RESULTS) as results:
        todo = plan_splits(protocols, out=out, finished=results.finished)
        with closing(execute(todo, results, processes=1)) as messages:
            failures.extend(message for message in messages if isinstance(message, Failure))
        split = protocols[0].load().split
        asked = {
            cell.key
            for protocol in protocols
            for model in protocol.models
            for seed in protocol.seeds
            for _, cell in protocol.cells(split=split, model=model, seed=seed)
        }
        found = tuple(result for key, result in results.finished.items() if key in asked)
    if not found:
        raise RuntimeError(f"nothing could be measured: {failures[0].what}: {failures[0].reason}")
    return BenchmarkReport(found, tuple(failures), todo.notes, protocols[0].models)


def _models(models: Models) -> dict[str, OwnModel | None]:
    """By name; None for a registered one.

    Raises:
        ModelFileError: no model.
        ProtocolError: none at all, or two of one name.
    """
    named: list[tuple[str | None, str | Factory]] = []
    if isinstance(models, Mapping):
        named = list(models.items())
    else:
        given = [models] if isinstance(models, str) or not isinstance(models, Sequence) else models
        for each in given:
            parts = [part.strip() for part in each.split(",") if part.strip()] if isinstance(each, str) else [each]
            named.extend((None, part) for part in parts)
    found: dict[str, OwnModel | None] = {}
    for name, each in named:
        own = None if isinstance(each, str) else OwnModel.of(each, name=name)
        if isinstance(each, str) and own_models.is_file(each):
            own = OwnModel.parse(each)
        elif isinstance(each, str) and name not in (None, each):
            raise ProtocolError(f"the registered model {each!r} keeps its name in the results, not {name!r}")
        known = own.name if own is not None else str(each)
        if known in found:
            raise ProtocolError(f"two models are called {known!r}; name them: {{'one': …, 'other': …}}")
        found[known] = own
    if not found:
        raise ProtocolError("no model given; expected a name, a class or a function, or several")
    return found


def _graph(data: Data | str | os.PathLike[str]) -> tuple[OwnGraph | None, str]:
    if isinstance(data, Data):
        graph = OwnGraph.of(data)
        return graph, graph.name
    text = os.fspath(data)
    if text.lower().endswith(SUFFIXES):
        graph = OwnGraph.file(Path(text))
        return graph, graph.name
    check_names("dataset", [text], DATASETS)
    return None, text
