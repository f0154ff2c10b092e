"""An attacked graph that was saved before, measured again: ``--attacks FILE.npz[@evasion|@poisoning]``."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import torch
from torch_geometric.data import Data

from contractive_gnn.attacks import AttackResult, Budget
from contractive_gnn.attacks.base import edge_difference, feature_difference
from contractive_gnn.bench.results import CERTIFICATE
from contractive_gnn.datasets import DatasetError, validate
from contractive_gnn.inputs import MASKS, UNKNOWN

Kind = Literal["structure", "features", "both", "injection", "deletion"]
Scope = Literal["global", "targeted"]


class ReplayError(ValueError):
    """A saved graph that cannot be replayed; the text says why and what to do."""


@dataclass(frozen=True)
class Replay:
    """A file of :meth:`contractive_gnn.attacks.AttackResult.save`.

    Attributes:
        written: the path, as it was given.
        digest: of the file, 12 digits of the SHA-256.
        budget: that the attack had.
        kind: what it flipped.
        scope: whether it aimed at single nodes.
        made_by: the attack's name.
        victim: name of the model that it was made against; empty where no model had a part in it.
    """

    written: str
    digest: str
    budget: Budget
    kind: Kind
    scope: Scope
    made_by: str = ""
    victim: str = ""

    @classmethod
    def read(cls, text: str) -> Replay:
        """The saved graph at a path; ``~`` and ``$NAME`` are replaced.

        Raises:
            ReplayError: there is no such file, or it is none of a saved graph.
        """
        path = _path(text)
        if "+" in path.name or path.name.startswith(CERTIFICATE):
            raise ReplayError(f"{text}: a file name with '+', or that begins with {CERTIFICATE!r}; rename the file")
        try:
            saved = AttackResult.load(path)
        except FileNotFoundError:
            raise ReplayError(
                f"there is no file {path}; expected a graph that `contractive-gnn attack --out FILE.npz` saved"
            ) from None
        except ValueError as error:
            raise ReplayError(f"{error}; `contractive-gnn attack --out FILE.npz` saves one") from None
        kind, scope = _made_by(saved)
        told = saved.provenance
        made_by, victim = (str(told.get(key, "")) for key in ("attack", "victim"))
        return cls(text, _digest(path), saved.budget, kind, scope, made_by, victim)

    @property
    def identity(self) -> dict[str, str]:
        """What the results say of it; the attack and the model that it was made against, where there is one."""
        against = {"made_by": self.made_by, "victim": self.victim} if self.victim else {}
        return {"file": self.name, "sha256": self.digest, **against}

    @property
    def name(self) -> str:
        """What the results call it: the file's name."""
        return _path(self.written).name

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
    return text.partition("@")[0].strip().endswith(".npz")


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
    return Path(os.path.expandvars(text)).expanduser()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
