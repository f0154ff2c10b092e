"""What every attack shares: the budget, the checks around a run, the result and the registry.

An attack is one class with one method, :meth:`Attack._perturb`, that proposes flips. Everything that a reader of a
robustness table has to trust happens here instead: the victim is a frozen copy in eval mode, random state is forked and
put back, the budget is a whole number, and the flips are applied to the clean graph by this module, not by the attack.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import inspect
import json
import math
import numbers
import os
import platform
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeVar, final, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.inputs import MASKS, InputError, check_known, checked
from contractive_gnn.names import check_name, same_code, unknown
from contractive_gnn.nn.caches import cached_layers
from contractive_gnn.seeding import seeded

Kind = Literal["structure", "features", "both"]
Scope = Literal["global", "targeted"]
Knowledge = Literal["random", "transfer", "adaptive"]


class AttackError(RuntimeError):
    """An attack cannot run, or returned something that breaks its promises; the text names the attack."""


def _no_flips() -> Tensor:
    return torch.empty((2, 0), dtype=torch.int64)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much an attack may change: exactly one of an absolute number and a fraction.

    Args:
        flips: whole number ≥ 0 of undirected edge flips, or of feature entries; per target for a targeted attack.
        fraction: float ≥ 0; of the undirected edges of the clean graph, or of its non-zero feature entries. It is
            rounded down, as Pro-GNN's ``int(rate * m)`` is: a budget is never exceeded.

    Raises:
        TypeError: ``flips`` is not a whole number or ``fraction`` is not a float (``1`` and ``1.0`` are different
            budgets: one flip, and as many flips as the graph has edges).
        ValueError: both or none given, negative, or not finite.
    """

    flips: int | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        if (self.flips is None) == (self.fraction is None):
            raise ValueError(
                f"a budget is exactly one of flips and fraction; given flips={self.flips!r}, "
                f"fraction={self.fraction!r}. Write Budget(flips=3) or Budget(fraction=0.05)"
            )
        # seen as objects, since what was passed may be of any type
        flips: object = self.flips
        fraction: object = self.fraction
        if flips is not None:
            if isinstance(flips, bool) or not isinstance(flips, numbers.Integral):
                raise TypeError(
                    f"flips is a whole number of flips, given {flips!r} ({type(flips).__name__}); "
                    "for a share of the edges write Budget(fraction=…)"
                )
            if int(flips) < 0:
                raise ValueError(f"flips must be at least 0, given {flips}")
            object.__setattr__(self, "flips", int(flips))
        else:
            if not isinstance(fraction, numbers.Real) or isinstance(fraction, numbers.Integral):
                raise TypeError(
                    f"fraction is a float, given {fraction!r} ({type(fraction).__name__}); write "
                    "Budget(fraction=1.0) for as many flips as there are edges, or Budget(flips=…) for their number"
                )
            if not math.isfinite(fraction) or float(fraction) < 0:
                raise ValueError(f"fraction must be finite and at least 0, given {fraction!r}")
            object.__setattr__(self, "fraction", float(fraction))

    def resolve(self, data: Data, kind: Kind) -> int:
        """The whole number of flips allowed on ``data``.

        Raises:
            ValueError: a fraction for ``kind="both"``, where it has no single meaning.
        """
        if self.flips is not None:
            return self.flips
        assert self.fraction is not None
        if kind == "structure":
            whole = undirected_edges(data.edge_index).shape[1]
        elif kind == "features":
            whole = int(torch.count_nonzero(data.x))
        elif kind == "both":
            raise ValueError(
                f"fraction={self.fraction} has no meaning for an attack on structure and features together: "
                "write Budget(flips=…), which counts edge flips and feature entries alike"
            )
        else:
            raise ValueError(f"kind is one of {get_args(Kind)}, given {kind!r}")
        # 0.29 * 100 is 28.999…996 in floating point, and 29 % of 100 edges is 29 edges
        return math.floor(self.fraction * whole + 1e-9)


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """What an attack proposes. The base class checks it and applies it.

    Args:
        edge_flips: int64 ``[2, k]``, undirected edges to flip, each once, with u < v.
        feature_flips: int64 ``[2, q]``, (node, column) of binary feature entries to flip, each once.
        x: float ``[n, d]``, the whole perturbed feature matrix of an attack on continuous features; every
            entry that differs from the clean one counts against the budget, and none may differ by more than the
            attack's ``radius``.
    """

    edge_flips: Tensor = field(default_factory=_no_flips)
    feature_flips: Tensor = field(default_factory=_no_flips)
    x: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class AttackResult:
    """One perturbed graph and how it came about.

    Args:
        data: the perturbed graph, with the labels and masks of the clean one (and ``targets`` where there are any).
        edge_flips: int64 ``[2, k]``, u < v: the undirected edges in which it differs from the clean graph.
        feature_flips: int64 ``[2, q]``: the (node, column) of the feature entries in which it differs.
        budget: what was allowed.
        seconds: wall time of the attack, its surrogate's training included.
        provenance: attack, kind, scope, knowledge, seed, params (with the ``diagnosis`` of an adaptive attack),
            allowed_flips (per target for a targeted attack), targets, versions.
    """

    data: Data
    edge_flips: Tensor
    feature_flips: Tensor
    budget: Budget
    seconds: float
    provenance: dict[str, Any]

    @property
    def n_flips(self) -> int:
        """Edges and feature entries that really differ from the clean graph; may be fewer than the budget allows."""
        return self.edge_flips.shape[1] + self.feature_flips.shape[1]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` without pickle, under a temporary name that is then renamed.

        The folder is made where it is missing.

        Raises:
            TypeError: ``data`` holds something that is neither a tensor nor a string, number or bool.
        """
        arrays: dict[str, np.ndarray[Any, Any]] = {
            "edge_flips": self.edge_flips.cpu().numpy(),
            "feature_flips": self.feature_flips.cpu().numpy(),
        }
        plain: dict[str, str | int | float | bool | None] = {}
        for key, value in self.data.to_dict().items():
            if isinstance(value, Tensor):
                arrays[f"data/{key}"] = value.detach().cpu().numpy()
            elif value is None or isinstance(value, str | int | float | bool):
                plain[key] = value
            else:
                raise TypeError(
                    f"data.{key} is a {type(value).__name__}; a saved graph holds tensors, strings, "
                    f"numbers and bools only. Delete it first: del result.data.{key}"
                )
        header = {
            "format": _FORMAT,
            "data": plain,
            "budget": {"flips": self.budget.flips, "fraction": self.budget.fraction},
            "seconds": self.seconds,
            "provenance": self.provenance,
        }
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())  # before it is renamed: a machine that stops leaves no half of it
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AttackResult:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a saved AttackResult.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
            header = json.loads(str(arrays.pop("header")))
            if header["format"] != _FORMAT:
                raise ValueError(f"its format is {header['format']!r}")
            data = Data(**header["data"])
            for key, array in arrays.items():
                if key.startswith("data/"):
                    data[key.removeprefix("data/")] = torch.from_numpy(array)
            return cls(
                data=data,
                edge_flips=torch.from_numpy(arrays["edge_flips"]),
                feature_flips=torch.from_numpy(arrays["feature_flips"]),
                budget=Budget(**header["budget"]),
                seconds=header["seconds"],
                provenance=header["provenance"],
            )
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(
                f"{os.fspath(path)} is not a graph saved by AttackResult.save ({_FORMAT}): {error}"
            ) from error


_FORMAT: Final = "contractive_gnn attack result 1"


class Attack(ABC):
    """Base class: subclasses say what they are, take keyword-only hyperparameters and implement :meth:`_perturb`.

    A subclass that is decorated with :func:`register` can be had by name. Its ``__init__`` stores each hyperparameter
    under its own name, so that :attr:`params` can list them; a run never modifies the attack object.

    Class attributes:
        name: what it is called on the command line.
        kind: "structure", "features" or "both": what it may flip.
        scope: "global" (one budget for the graph) or "targeted" (one budget per target node).
        knowledge: "random" (no model), "transfer" (its own surrogate, never the victim) or "adaptive" (the victim).
        packages: distributions, beyond PyTorch, PyG and NumPy, whose versions belong in the provenance.
        reads_features: whether this very class promises never to write to ``data.x``, which is then not copied for it.

    Args:
        seed: 0 ≤ seed < 2³²; seeds torch, numpy and random inside the run. These belong to the process, so of several
            threads one attacks at a time.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    scope: ClassVar[Scope]
    knowledge: ClassVar[Knowledge]
    packages: ClassVar[tuple[str, ...]] = ()
    reads_features: ClassVar[bool] = False

    def __init__(self, *, seed: int = 0) -> None:
        self.seed: int = check_count("seed", seed, least=0)
        if self.seed >= 2**32:
            raise ValueError(f"seed must be below 2**32, given {seed}")
        self._notes: dict[str, Any] = {}  # what a run finds out about the victim, on the run's own copy

    @property
    def radius(self) -> float | None:
        """Largest change of one continuous feature entry; None (the default) for attacks that only flip."""
        return None

    @property
    def params(self) -> dict[str, Any]:
        """The attack's own hyperparameters, without the seed."""
        return {name: getattr(self, name) for name in _parameters(type(self)) if name != "seed"}

    @abstractmethod
    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        """Propose at most ``n_flips`` ≥ 1 flips of ``data``.

        Args:
            data: a copy of the graph, which may be modified freely (but for ``data.x`` under ``reads_features``).
            n_flips: how many edges and feature entries may differ in the end.
            victim: frozen copy in eval mode for an adaptive attack, otherwise None.
            targets: for a targeted attack, int64 ``[1]``: the base class calls once per target. For a global one the
                nodes whose accuracy counts, or None where the caller gave none.
        """

    @classmethod
    def allowed(cls, data: Data, budget: Budget) -> int:
        """The whole number of flips that a budget allows this attack on ``data``: rounded down.

        Raises:
            ValueError: see :meth:`Budget.resolve`.
        """
        return budget.resolve(data, cls.kind)

    def _prepare(self, data: Data) -> None:  # noqa: B027  (a hook: most attacks have nothing to prepare)
        """Called once per run with the clean graph, before the first :meth:`_perturb`: train a surrogate here.

        It runs on a shallow copy of the attack, so what it stores on ``self`` lasts as long as the run.
        """

    @final
    def run(
        self, data: Data, budget: Budget, *, victim: nn.Module | None = None, targets: Tensor | None = None
    ) -> AttackResult:
        """Attack ``data`` and check the outcome.

        A targeted attack visits its targets one after another, each with the whole budget and on the graph that the
        targets before it left, as the published Nettack graphs of Pro-GNN accumulate their perturbations; a
        surrogate is trained once, on the clean graph. A flip that a later target undoes is in the result no longer.

        Args:
            data: undirected, unweighted graph without self-loops: x float ``[n, d]`` dense, edge_index int64
                ``[2, 2m]`` with both directions, y, train_mask, val_mask, test_mask, of which each node has a label.
                It is not modified; the result has the labels and masks as :mod:`contractive_gnn.inputs` reads them.
            budget: a :class:`Budget`; absolute, per target, for a targeted attack.
            victim: ``forward(x, edge_index, edge_weight=None) -> logits [n, classes]``. Needed by adaptive attacks;
                the others never see it. The attack gets a frozen copy in eval mode.
            targets: int64 ``[t]``, distinct node indices. Needed by targeted attacks; a global attack may use them as
                the nodes to fool (default: its own, usually the test mask).

        Raises:
            TypeError: an argument of the wrong type.
            ValueError: a graph, budget or targets that the attack cannot take; a missing victim or missing targets.
            AttackError: the attack broke its promises (over budget, self-loop, duplicate flip, …) or cannot work here,
                as with a victim whose layers keep an earlier graph (``cached=True``).
        """
        data = _attackable(data, "data")
        if self.kind == "features" and self.radius is None and not is_binary(data.x):
            raise ValueError(
                f"attack {self.name!r} flips binary features, but x has entries other than 0 and 1: binarise x first, "
                "or take an attack on continuous features"
            )
        allowed = self._resolve(data, budget)
        targets = self._check_targets(data, targets)
        frozen = self._freeze(victim)

        start = time.perf_counter()
        current = data
        notes: dict[str, Any] = {}
        if allowed > 0:
            worker = copy.copy(self)
            worker._notes = notes
            with _forked_random_state(self.seed), torch.inference_mode(False), torch.enable_grad():
                worker._prepare(self._copied(data))
                for aim in [targets] if self.scope == "global" or targets is None else torch.split(targets, 1):
                    proposal = worker._perturb(self._copied(current), allowed, victim=frozen, targets=aim)
                    current = self._apply(current, proposal, allowed)
                del worker
        feature_flips = feature_difference(data.x, current.x)
        current = current.clone()  # no tensor of the result is one of the caller's
        seconds = time.perf_counter() - start

        _attackable(current, f"the graph that attack {self.name!r} made")
        if targets is not None:
            current.targets = targets
        return AttackResult(
            data=current,
            edge_flips=edge_difference(data.edge_index, current.edge_index),
            feature_flips=feature_flips,
            budget=budget,
            seconds=seconds,
            provenance={
                "attack": self.name,
                "kind": self.kind,
                "scope": self.scope,
                "knowledge": self.knowledge,
                "seed": self.seed,
                "params": {**self.params, **({"diagnosis": notes} if notes else {})},
                "allowed_flips": allowed,
                "targets": None if targets is None else targets.tolist(),
                "versions": _versions(self.packages),
            },
        )

    def _resolve(self, data: Data, budget: Budget) -> int:
        if not isinstance(budget, Budget):
            raise TypeError(
                f"attack {self.name!r}: the budget is a Budget, given {budget!r} ({type(budget).__name__}); "
                "write Budget(flips=…) or Budget(fraction=…)"
            )
        if self.scope == "targeted" and budget.flips is None:
            raise ValueError(
                f"attack {self.name!r} is targeted: its budget is a number of flips per target, given "
                f"fraction={budget.fraction}; write Budget(flips=…)"
            )
        allowed = self.allowed(data, budget)
        n, d = data.x.shape
        pairs, entries = n * (n - 1) // 2, n * d
        there = {"structure": pairs, "features": entries, "both": pairs + entries}[self.kind]
        if self.scope == "targeted" and allowed > there:
            raise ValueError(
                f"attack {self.name!r}: {budget} is more than the {there} that there are to flip in a graph of {n} "
                f"nodes and {d} features; give a smaller budget"
            )
        return allowed

    def _check_targets(self, data: Data, targets: Tensor | None) -> Tensor | None:
        if targets is None:
            if self.scope == "targeted":
                raise ValueError(
                    f"attack {self.name!r} is targeted: give the nodes to attack, targets=torch.tensor([…])"
                )
            return None
        if not isinstance(targets, Tensor):
            raise TypeError(f"targets is an int64 tensor of node indices, given {type(targets).__name__}")
        if targets.dtype == torch.bool:
            raise TypeError(
                "targets is an int64 tensor of node indices, given a bool mask; write mask.nonzero().flatten()"
            )
        if targets.dtype != torch.int64 or targets.dim() != 1:
            raise TypeError(
                f"targets is an int64 tensor of shape [t], given {targets.dtype} of shape {list(targets.shape)}"
            )
        n = int(data.num_nodes)
        if targets.numel() == 0:
            raise ValueError("targets is empty: give at least one node index")
        if int(targets.min()) < 0 or int(targets.max()) >= n:
            raise ValueError(f"targets must lie in 0…{n - 1}, given {int(targets.min())}…{int(targets.max())}")
        if torch.unique(targets).numel() != targets.numel():
            raise ValueError("targets must be distinct: a node listed twice would get the budget twice")
        unknown = targets[(data.y < 0)[targets.to(data.y.device)].to(targets.device)].tolist()
        if unknown:
            raise ValueError(
                f"targets {unknown} have no label (−1), and an attack aims away from the right class; leave them out"
            )
        return targets.clone()

    def _freeze(self, victim: nn.Module | None) -> nn.Module | None:
        if victim is not None and not isinstance(victim, nn.Module):
            raise TypeError(f"victim is a torch.nn.Module, given {type(victim).__name__}")
        if self.knowledge != "adaptive":
            return None
        if victim is None:
            raise ValueError(
                f"attack {self.name!r} is adaptive: it needs the model that it attacks, victim=model "
                "(forward(x, edge_index, edge_weight=None) -> logits)"
            )
        cached = cached_layers(victim)
        if cached:
            name = next(iter(cached)) or "model"
            raise AttackError(
                f"attack {self.name!r}: the victim's {len(cached)} layers with cached=True (the first is {name!r}) "
                "keep the graph that they saw first: no flip can reach them, and the accuracy on the attacked graph "
                "would be that on the first one; build the model with cached=False"
            )
        if isinstance(victim, torch.jit.ScriptModule):
            raise AttackError(
                f"attack {self.name!r}: the victim is a script of torch.jit, whose parameters cannot be frozen; give "
                "the module that it was made of"
            )
        try:
            frozen = copy.deepcopy(victim)
        except Exception as error:
            raise AttackError(
                f"attack {self.name!r}: the victim {type(victim).__name__} cannot be copied ({error}); "
                "a model must not keep tensors of an autograd graph on itself"
            ) from error
        return frozen.eval().requires_grad_(False)

    def _copied(self, data: Data) -> Data:
        """A graph of the attack's own."""
        if not vars(type(self)).get("reads_features", False):  # a subclass has not promised it
            return data.clone()
        own = copy.copy(data)
        del own.x  # 31 MB on Citeseer, a third of all that Metattack takes
        own = own.clone()
        own.x = data.x
        return own

    def _apply(self, data: Data, proposal: Perturbation, allowed: int) -> Data:
        """Check a proposal against ``data`` and apply it to a shallow copy, which shares what does not change."""
        if not isinstance(proposal, Perturbation):
            raise self._broken(f"returned {type(proposal).__name__}, not a Perturbation")
        n, d = data.x.shape
        edges = self._check_flips(proposal.edge_flips, "edge_flips", (n, n))
        entries = self._check_flips(proposal.feature_flips, "feature_flips", (n, d))
        x = data.x if proposal.x is None else self._check_features(data.x, proposal.x, entries)

        if self.kind == "structure" and (entries.shape[1] or proposal.x is not None):
            raise self._broken("attacks the structure, but changed features")
        if self.kind == "features" and edges.shape[1]:
            raise self._broken(f"attacks the features, but flipped {edges.shape[1]} edges")
        loops = int((edges[0] == edges[1]).sum())
        if loops:
            raise self._broken(f"made {loops} self-loops")
        if bool((edges[0] > edges[1]).any()):
            raise self._broken("listed an edge (u, v) with u > v: undirected edges are listed once, with u < v")
        if entries.shape[1] and not is_binary(data.x):
            raise self._broken(
                "flips binary features, but x has entries other than 0 and 1: binarise x first, or take an attack on "
                "continuous features"
            )
        changed = edges.shape[1] + entries.shape[1] + (0 if x is data.x else int(torch.count_nonzero(x != data.x)))
        if changed > allowed:
            raise self._broken(f"made {changed} flips where {allowed} are allowed")

        perturbed = copy.copy(data)
        perturbed.edge_index = flip_edges(data.edge_index, edges, num_nodes=n)
        if x is not data.x or entries.shape[1]:
            perturbed.x = x.clone()
            perturbed.x[entries[0], entries[1]] = 1 - data.x[entries[0], entries[1]]
        return perturbed

    def _check_flips(self, flips: Tensor, what: str, bounds: tuple[int, int]) -> Tensor:
        if not isinstance(flips, Tensor) or flips.dtype != torch.int64 or flips.dim() != 2 or flips.shape[0] != 2:
            given = f"{flips.dtype} {list(flips.shape)}" if isinstance(flips, Tensor) else type(flips).__name__
            raise self._broken(f"returned {what} as {given}, not as an int64 tensor [2, k]")
        flips = flips.detach().cpu()
        if flips.numel() and (int(flips.min()) < 0 or bool((flips.amax(dim=1) >= torch.tensor(bounds)).any())):
            raise self._broken(f"returned {what} outside of 0…{bounds[0] - 1} × 0…{bounds[1] - 1}")
        if flips.shape[1] != torch.unique(flips, dim=1).shape[1]:
            raise self._broken(f"returned duplicates in {what}")
        return flips

    def _check_features(self, clean: Tensor, x: Tensor, entries: Tensor) -> Tensor:
        if self.radius is None:
            raise self._broken("returned continuous features x without declaring a radius")
        if entries.shape[1]:
            raise self._broken("returned both feature_flips and x")
        x = x.detach().to(clean)
        if x.shape != clean.shape or not bool(torch.isfinite(x).all()):
            raise self._broken(
                f"returned x of shape {list(x.shape)}, or not finite, where {list(clean.shape)} was expected"
            )
        largest = float((x - clean).abs().max())
        # x + radius is rounded to float32: allow that last bit, relative to the size of the entries
        if largest > self.radius + 1e-6 * max(1.0, float(clean.abs().max())):
            raise self._broken(f"changed a feature by {largest:g} where {self.radius:g} is allowed")
        return x

    def _broken(self, text: str) -> AttackError:
        return AttackError(f"attack {self.name!r} {text}")


ATTACKS: dict[str, type[Attack]] = {}

_AttackType = TypeVar("_AttackType", bound=type[Attack])


def register(cls: _AttackType) -> _AttackType:
    """Class decorator: make an attack available by its ``name`` in :data:`ATTACKS` and :func:`get`.

    Raises:
        TypeError: a class attribute is missing or is not one of the allowed words.
        ValueError: the name is taken by other code, or is not of lower-case words joined by hyphens.
    """
    for attribute, words in (("kind", Kind), ("scope", Scope), ("knowledge", Knowledge)):
        if getattr(cls, attribute, None) not in get_args(words):
            raise TypeError(
                f"{cls.__name__}.{attribute} is one of {get_args(words)}, given {getattr(cls, attribute, None)!r}"
            )
    if not isinstance(getattr(cls, "name", None), str):
        raise TypeError(f"{cls.__name__}.name is missing")
    check_name(cls.name)
    if cls.name in ATTACKS and not same_code(ATTACKS[cls.name], cls):
        raise ValueError(f"the attack name {cls.name!r} is taken by {ATTACKS[cls.name].__name__}")
    ATTACKS[cls.name] = cls
    return cls


def get(name: str, **hyperparameters: Any) -> Attack:
    """The attack called ``name``, built with ``hyperparameters`` (and ``seed``).

    Raises:
        ValueError: there is no such attack; the text lists those that there are.
        TypeError: it takes no such hyperparameter; the text lists those that it takes.
    """
    if name not in ATTACKS:
        raise ValueError(unknown("attack", [name], ATTACKS))
    cls = ATTACKS[name]
    strange = sorted(set(hyperparameters) - set(_parameters(cls)))
    if strange:
        raise TypeError(f"attack {name!r} takes no {', '.join(strange)}; it takes: {', '.join(_parameters(cls))}")
    return cls(**hyperparameters)


def undirected_edges(edge_index: Tensor) -> Tensor:
    """Each undirected edge once, int64 ``[2, m]`` with u < v, in lexicographic order."""
    edges = edge_index[:, edge_index[0] < edge_index[1]]
    return edges[:, np.lexsort((edges[1].numpy(force=True), edges[0].numpy(force=True)))]


def flip_edges(edge_index: Tensor, flips: Tensor, *, num_nodes: int) -> Tensor:
    """Add the edges in ``flips`` that are absent, and remove those that are present.

    Args:
        edge_index: int64 ``[2, 2m]``, both directions, no self-loops.
        flips: int64 ``[2, k]``, undirected, each edge once.
        num_nodes: n.

    Returns:
        int64 ``[2, 2m']``, both directions, sorted.
    """
    before = _codes(undirected_edges(edge_index), num_nodes)
    after = np.setxor1d(before, _codes(torch.stack([flips.amin(dim=0), flips.amax(dim=0)]), num_nodes))
    u, v = np.divmod(after, num_nodes)
    row, column = np.concatenate([u, v]), np.concatenate([v, u])
    order = np.lexsort((column, row))
    return torch.from_numpy(np.stack([row[order], column[order]])).to(edge_index.device)


def edge_difference(before: Tensor, after: Tensor) -> Tensor:
    """The undirected edges that exactly one of two edge indices has: int64 ``[2, k]`` with u < v, sorted."""
    n = 1 + max((int(index.max()) for index in (before, after) if index.numel()), default=0)
    codes = np.setxor1d(_codes(undirected_edges(before), n), _codes(undirected_edges(after), n))
    return torch.from_numpy(np.stack(np.divmod(codes, n)))


def feature_difference(before: Tensor, after: Tensor) -> Tensor:
    """The entries that differ, int64 ``[2, k]`` on the CPU; of one and the same tensor without a look at it."""
    if before is after:
        return torch.empty(2, 0, dtype=torch.int64)
    return (before != after).nonzero().t().cpu().contiguous()


def is_binary(x: Tensor) -> bool:
    """Whether every entry of ``x`` is 0 or 1."""
    return bool(((x == 0) | (x == 1)).all())


def _codes(edges: Tensor, num_nodes: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    u, v = edges.numpy(force=True).astype(np.int64)
    codes: np.ndarray[Any, np.dtype[np.int64]] = u * num_nodes + v
    return codes


def _attackable(data: Data, what: str) -> Data:
    """The graph with its fields in one form, unless it is none that an attack can take."""
    checked_data = checked(data, what=what, masks=MASKS, weighted=False, dense=True)
    batch = checked_data.get("batch")
    if batch is not None and bool((batch != batch[:1]).any()):
        raise InputError(f"{what} is a batch of graphs, which an attack would join; attack one: data.get_example(0)")
    if checked_data.x.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"{what}: x is {checked_data.x.dtype}; attacks need float32 or float64, convert it with x.float()"
        )
    for key in MASKS:
        if bool(checked_data[key].any()):
            check_known(checked_data.y, checked_data[key], name=f"{what}.{key}")
    return checked_data


def check_choice(what: str, given: str, allowed: tuple[str, ...]) -> str:
    """``given``, which must be one of ``allowed``; ValueError otherwise."""
    if given not in allowed:
        raise ValueError(f"{what} is one of {', '.join(map(repr, allowed))}, given {given!r}")
    return given


def check_count(what: str, given: int, *, least: int = 1) -> int:
    """``given``, which must be a whole number ≥ ``least``; TypeError or ValueError otherwise."""
    number: object = given
    if isinstance(number, bool) or not isinstance(number, numbers.Integral):
        raise TypeError(f"{what} is a whole number, given {number!r} ({type(number).__name__})")
    if int(number) < least:
        raise ValueError(f"{what} must be at least {least}, given {given}")
    return int(number)


def _parameters(cls: type[Attack]) -> list[str]:
    return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]


def _versions(packages: tuple[str, ...]) -> Mapping[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("contractive-gnn", "torch", "torch-geometric", "numpy", *packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


@contextlib.contextmanager
def _forked_random_state(seed: int) -> Iterator[None]:
    """Seed torch, numpy and random, one thread at a time; put their states back afterwards, whatever happens."""
    with seeded(seed):
        state_python, state_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (DeepRobust draws from it)
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
        finally:
            random.setstate(state_python)
            np.random.set_state(state_numpy)  # noqa: NPY002
