"""An attacked graph that was saved before, measured again: ``--attacks FILE.npz[:NAME[:FLIPS]][@evasion|@poisoning]``.

A file of perturbations has several, and NAME is the model that the one to take was found on; FLIPS is needed where
there are several budgets for it.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast, get_args

import torch
from torch_geometric.data import Data

from contractive_gnn.attacks import AttackResult, Budget
from contractive_gnn.attacks.base import edge_difference, feature_difference, flip_edges
from contractive_gnn.attacks.perturbation_file import PARTS, PerturbationKey, PerturbedGraph, load_perturbations
from contractive_gnn.bench.results import CERTIFICATE, Threat
from contractive_gnn.datasets import DatasetError, validate
from contractive_gnn.inputs import MASKS, UNKNOWN

Kind = Literal["structure", "features", "both", "injection", "deletion"]
Scope = Literal["global", "targeted"]


_WRITTEN: Final = re.compile(r"(?P<path>.*\.npz)(:(?P<name>[^:]+)(:(?P<flips>\d+))?)?", re.ASCII)


class ReplayError(ValueError):
    """A saved graph that cannot be replayed; the text says why and what to do."""


@dataclass(frozen=True)
class Perturbation:
    """Which of a file of perturbations: the data set's name there, and what it was made for, on any split."""

    dataset: str
    threat: Threat
    model: str
    flips: int

    def of(self, graph: PerturbedGraph, split: int) -> PerturbationKey:
        """Its key on one split.

        Raises:
            ReplayError: there is none.
        """
        key = PerturbationKey(self.threat, self.model, split, self.flips)
        if key not in graph.flips:
            own = sorted({key.split for key in graph.flips if (key.threat, key.model) == (self.threat, self.model)})
            raise ReplayError(
                f"{self.model!r} with {self.flips} flips was not attacked on split {split}, only on {_listed(own)}"
            )
        return key


@dataclass(frozen=True)
class Replay:
    """A file of :meth:`contractive_gnn.attacks.AttackResult.save`, or one of a file of perturbations.

    Attributes:
        written: the path, as it was given, with the perturbation where there is one.
        digest: of the file, 12 digits of the SHA-256.
        budget: that the attack had.
        kind: what it flipped.
        scope: whether it aimed at single nodes.
        made_by: the attack's name.
        victim: name of the model that it was made against; empty where no model had a part in it.
        perturbation: which one, of a file of perturbations.
    """

    written: str
    digest: str
    budget: Budget
    kind: Kind
    scope: Scope
    made_by: str = ""
    victim: str = ""
    perturbation: Perturbation | None = None

    @classmethod
    def read(cls, text: str, *, threat: Threat = "evasion", dataset: str = "") -> Replay:
        """The saved graph at a path; ``~`` and ``$NAME`` are replaced.

        Args:
            text: ``FILE.npz``, or ``FILE.npz:NAME[:FLIPS]`` of a file of perturbations.
            threat: of a file of perturbations, the part to look in.
            dataset: of a file of perturbations, the one to take of several data sets.

        Raises:
            ReplayError: there is no such file, it is none of a saved graph, or it has no or several such perturbations.
        """
        path = _path(text)
        if "+" in path.name or path.name.startswith(CERTIFICATE):
            raise ReplayError(f"{text}: a file name with '+', or that begins with {CERTIFICATE!r}; rename the file")
        name, flips = _chosen(text)
        try:
            if name or _has_perturbations(path):
                found = _perturbation(load_perturbations(path), name, flips, threat=threat, dataset=dataset)
                return cls(
                    text, _digest(path), Budget(flips=found.flips), "structure", "global", path.name, found.model, found
                )
            saved = AttackResult.load(path)
        except FileNotFoundError:
            raise ReplayError(
                f"there is no file {path}; expected a graph that `contractive-gnn attack --out FILE.npz` saved"
            ) from None
        except ReplayError as error:
            raise ReplayError(f"{path}: {error}") from None
        except ValueError as error:
            raise ReplayError(f"{error}; `contractive-gnn attack --out FILE.npz` saves one") from None
        kind, scope = _made_by(saved)
        told = saved.provenance
        made_by, victim = (str(told.get(key, "")) for key in ("attack", "victim"))
        return cls(text, _digest(path), saved.budget, kind, scope, made_by, victim)

    @property
    def identity(self) -> dict[str, str | int]:
        """What the results say of it; the attack and the model that it was made against, where there is one."""
        against = {"made_by": self.made_by, "victim": self.victim} if self.victim else {}
        which = {"flips": self.perturbation.flips} if self.perturbation else {}  # one of several in the file
        return {"file": self.name, "sha256": self.digest, **against, **which}

    @property
    def name(self) -> str:
        """What the results call it: the file's name, and that of the perturbation."""
        return ":".join([_path(self.written).name, *([self.perturbation.model] if self.perturbation else [])])

    def load(self, clean: Data) -> AttackResult:
        """The attacked graph, once it is clear that ``clean`` is what was attacked.

        Raises:
            ReplayError: it is another graph or split, or the file has changed.
        """
        path = _path(self.written)
        try:
            same = _digest(path) == self.digest
        except OSError as error:
            raise ReplayError(f"{path} cannot be read ({error.strerror})") from error
        if not same:
            raise ReplayError(f"{path} has changed since this run began; start it again")
        if self.perturbation is not None:
            try:
                return _perturbed(self.perturbation, load_perturbations(path)[self.perturbation.dataset], clean)
            except ReplayError as error:
                raise ReplayError(f"{path}: {error}") from None
        saved = AttackResult.load(path)
        data = saved.data
        for key in ("x", "y", *MASKS):
            there, own = data.get(key), clean[key]
            if there is not None and bool((data.y[clean.num_nodes :] == UNKNOWN).all()):
                there = there[: len(own)]  # new nodes come last
            if there is None or there.shape != own.shape or there.dtype != own.dtype:
                given = "missing" if there is None else f"{there.dtype} {list(there.shape)}"
                raise ReplayError(
                    f"{path} attacks another graph than {clean.name}: its {key} is {given}, expected {own.dtype} "
                    f"{list(own.shape)}; give the graph and the split that it was made on"
                )
            if key != "x" and not torch.equal(there, own):
                how = "with other labels" if key == "y" else "on another split: give its --split and --split-seed"
                raise ReplayError(f"{path}: its {key} is not that of {clean.name}; it was made {how}")
        try:
            validate(data)
        except DatasetError as error:
            raise ReplayError(f"{path}: {error}") from error
        edges, entries = edge_difference(clean.edge_index, data.edge_index), feature_difference(clean.x, data.x)
        if not (torch.equal(edges, saved.edge_flips) and torch.equal(entries, saved.feature_flips)):
            raise ReplayError(
                f"{path} attacks another graph than {clean.name}: {edges.shape[1]} edges and {entries.shape[1]} "
                f"entries of the features differ, and it says that it flipped {saved.edge_flips.shape[1]} and "
                f"{saved.feature_flips.shape[1]}; give the graph that it was made on"
            )
        return saved


def is_file(text: str) -> bool:
    """Whether an attack on the command line means a saved graph."""
    return _WRITTEN.fullmatch(text.partition("@")[0].strip()) is not None


def _chosen(text: str) -> tuple[str, int | None]:
    """NAME and FLIPS of ``FILE.npz:NAME:FLIPS``."""
    match = _WRITTEN.fullmatch(text)
    assert match is not None
    return match["name"] or "", int(match["flips"]) if match["flips"] else None


def _has_perturbations(path: Path) -> bool:
    with zipfile.ZipFile(path) if zipfile.is_zipfile(path) else contextlib.nullcontext() as archive:
        return archive is not None and any("/perturbations/" in name for name in archive.namelist())


def _perturbation(
    graphs: Mapping[str, PerturbedGraph], name: str, flips: int | None, *, threat: Threat, dataset: str
) -> Perturbation:
    """The one that is meant.

    Raises:
        ReplayError: none or several are.
    """
    place = dataset if dataset in graphs else next(iter(graphs)) if len(graphs) == 1 else ""
    if not place:
        raise ReplayError(f"it has the data sets {_listed(graphs)}, and none of them is {dataset!r}")
    keys = [key for key in graphs[place].flips if key.threat == threat]
    models = sorted({key.model for key in keys})
    model = name or (models[0] if len(models) == 1 else "")
    if model not in models:
        asked = f"no perturbation {name!r} for {threat}" if name else "several perturbations"
        raise ReplayError(f"{asked}; write FILE.npz:NAME@{threat}, NAME one of {_listed(models)}")
    budgets = sorted({key.budget for key in keys if key.model == model})
    meant = [budget for budget in budgets if flips in (None, budget)]
    if len(meant) != 1:
        raise ReplayError(f"write FILE.npz:{model}:FLIPS, FLIPS one of {_listed(budgets)}")
    return Perturbation(place, threat, model, meant[0])


def _perturbed(which: Perturbation, graph: PerturbedGraph, clean: Data) -> AttackResult:
    """The attacked graph, once it is clear that ``clean`` is what was attacked.

    Raises:
        ReplayError: it is another graph or split.
    """
    theirs = graph.data
    same = theirs.x.shape == clean.x.shape and torch.equal(theirs.x.to(clean.x.dtype), clean.x)
    if not same or edge_difference(clean.edge_index, theirs.edge_index).shape[1] or not torch.equal(theirs.y, clean.y):
        raise ReplayError(f"its graph {which.dataset!r} is not {clean.name}; give the graph that it was made on")
    own = {part: clean[f"{part}_mask"].nonzero().flatten() for part in PARTS}
    splits = [k for k, nodes in graph.splits.items() if all(torch.equal(nodes[p].sort().values, own[p]) for p in PARTS)]
    if not splits:
        raise ReplayError(
            f"none of its splits {_listed(graph.splits)} is that of {clean.name}; give its --split and --split-seed"
        )
    key = which.of(graph, splits[0])
    data = copy.copy(clean)
    data.edge_index = flip_edges(clean.edge_index, graph.flips[key], num_nodes=clean.num_nodes)
    return AttackResult(
        data=data,
        edge_flips=graph.flips[key],
        feature_flips=torch.empty(2, 0, dtype=torch.int64),
        budget=Budget(flips=which.flips),
        seconds=0.0,
        provenance={"attack": "perturbation", "victim": key.model, "split": key.split},
    )


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))


def _made_by(saved: AttackResult) -> tuple[Kind, Scope]:
    """What was flipped, and whether at single nodes; of several attacks in a row what the flips themselves say."""
    told = saved.provenance
    kind, scope = told.get("kind"), told.get("scope")
    if kind not in get_args(Kind):
        flipped = bool(saved.edge_flips.shape[1]), bool(saved.feature_flips.shape[1])
        kind = "both" if all(flipped) else "features" if flipped[1] else "structure"
    if scope not in get_args(Scope):
        scope = "global" if saved.data.get("targets") is None else "targeted"
    return cast(Kind, kind), cast(Scope, scope)


def _path(text: str) -> Path:
    """The file of ``FILE.npz:NAME:FLIPS``."""
    match = _WRITTEN.fullmatch(text)
    return Path(os.path.expandvars(match["path"] if match else text)).expanduser()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
