"""What a benchmark measures: which models, attacked how, on which nodes, with which hyperparameters."""

from __future__ import annotations

import copy
import dataclasses
import json
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn import attacks, datasets, plugins
from contractive_gnn.attacks import Attack
from contractive_gnn.bench.own_graph import OwnGraph
from contractive_gnn.bench.own_models import OwnModel
from contractive_gnn.bench.presets import Preset, load_preset
from contractive_gnn.bench.results import Cell, EvaluatedOn
from contractive_gnn.bench.spec import CLEAN, EDGES, LIVE, RANDOM, AttackSpec
from contractive_gnn.bench.targets import HIGH_DEGREE, TargetRule
from contractive_gnn.checks import check_whole
from contractive_gnn.datasets.protocol import INDUCTIVE
from contractive_gnn.datasets.registry import SPLITS, Split
from contractive_gnn.former import current_hyperparameters, current_keyword, current_model
from contractive_gnn.names import unknown

#: under an inductive split, what a share of the edges is a share of: half the sum of the degrees of the test nodes
AT_TEST_NODES = "fraction of edges at test nodes"

_PYTHON = {"True": "true", "False": "false", "None": "null"}


class ProtocolError(ValueError):
    """A benchmark that cannot be run as asked; the text says why and what to do."""


@dataclass(frozen=True)
class Override:
    """One hyperparameter set by hand.

    ``[NAME.]model.KEY=VALUE``, ``[NAME.]training.KEY=VALUE`` or ``NAME.attack.KEY=VALUE``.

    Attributes:
        subject: the model or attack it is for; None for every model.
        section: "model", "training" or "attack".
        key: the argument.
        value: its value, read as JSON where it is JSON and as text otherwise.
    """

    subject: str | None
    section: str
    key: str
    value: Any

    def __str__(self) -> str:
        path = ".".join(part for part in (self.subject, self.section, self.key) if part is not None)
        return f"{path}={json.dumps(self.value, ensure_ascii=False)}"

    @classmethod
    def parse(cls, text: str) -> Override:
        """Read one override.

        Raises:
            ProtocolError: it has another form.
        """
        path, equals, value = text.partition("=")
        try:
            parsed = json.loads(value)
            json.dumps(parsed, allow_nan=False)
        except json.JSONDecodeError:
            parsed = value.strip()
        except ValueError as error:
            raise ProtocolError(f"--set {text!r}: expected a finite number, got {value.strip()}") from error
        override = cls._at(path if equals else "", text, parsed)
        if isinstance(parsed, str) and parsed in _PYTHON:
            raise ProtocolError(f"--set {text!r}: values are read as JSON; write {_PYTHON[parsed]} for {parsed}")
        return override

    @classmethod
    def of(cls, path: str, value: Any) -> Override:
        """The override of one hyperparameter, in Python.

        Args:
            path: ``[NAME.]model.KEY``, ``[NAME.]training.KEY`` or ``NAME.attack.KEY``.
            value: of a kind that JSON knows.

        Raises:
            ProtocolError: a path of another form, or another value.
        """
        try:
            same = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"the setting {path!r} is {value!r}; expected what JSON can hold ({error})") from error
        return cls._at(path, f"{path}={value!r}", same)

    @classmethod
    def _at(cls, path: str, text: str, value: Any) -> Override:
        *parts, section, key = ["", *path.strip().split(".")]
        subject = ".".join(part for part in parts if part)
        known = section in ("model", "training") or (section == "attack" and subject)
        if not (known and key and ("." not in subject or ".py:" in subject)):
            raise ProtocolError(
                f"--set {text!r}: expected [MODEL.]training.KEY=VALUE, [MODEL.]model.KEY=VALUE or "
                "ATTACK.attack.KEY=VALUE, like training.epochs=50 or csgnn.model.step=0.1"
            )
        return cls(subject or None, section, key, value)


@dataclass(frozen=True)
class Protocol:
    """A benchmark.

    Attributes:
        dataset: name of the data set.
        models: names of the models.
        attacks: the attacks; a clean cell only where CLEAN is among them.
        seeds: seeds of initialisation and training; a cell each.
        split: name of the split; a data set without a published split draws a random one for it. Under "inductive" a
            model is fitted on the graph without its test nodes, and only evasion is measured.
        split_seed: seed of a random split.
        attack_seed: seed of the attacks and of the choice of targets. One graph serves all models and seeds, so the
            spread over seeds is that of the training.
        targets: which nodes a live targeted attack aims at.
        overrides: hyperparameters set by hand, over the presets; later ones win.
        presets: hyperparameters by the name of the model, in place of its packaged preset.
        root: folder with the data; None for the usual places.
        download: whether missing data may be fetched.
        own_graph: in the place of a data set by name; :attr:`dataset` is then its name. Its splits are "own",
            "random", "inductive" and, of a file, "public"; None is "own" where it has masks and "random" elsewhere.
            :attr:`split_seed` is the number of the one to take of several of its own.
        own_models: those among the models that are not registered; see :mod:`contractive_gnn.bench.own_models`.
        device: where models are trained and attacked, as torch names it. An attack that does not look at the model
            stays on the CPU, and so do the graphs between the steps.
    """

    dataset: str
    models: tuple[str, ...]
    attacks: tuple[AttackSpec, ...]
    seeds: tuple[int, ...]
    split: str | None = "prognn"
    split_seed: int = 0
    attack_seed: int = 0
    targets: TargetRule = HIGH_DEGREE
    overrides: tuple[Override, ...] = ()
    presets: Mapping[str, Preset] = field(default_factory=dict)
    root: Path | None = None
    download: bool = True
    device: str = "cpu"
    own_models: tuple[OwnModel, ...] = ()
    own_graph: OwnGraph | None = None

    def __post_init__(self) -> None:
        """Take former names for those of today; raise ProtocolError for what cannot be measured once each."""
        for name, value in (
            ("models", tuple(map(current_model, self.models))),
            ("presets", {current_model(model): preset for model, preset in self.presets.items()}),
            ("overrides", tuple(map(_current_subject, self.overrides))),
        ):
            object.__setattr__(self, name, value)
        if not self.seeds:
            raise ProtocolError("expected at least one seed, got none")
        for what, given in (("model", self.models), ("seed", self.seeds)):
            if twice := [each for each in given if given.count(each) > 1]:
                raise ProtocolError(f"the {what} {twice[0]!r} is given twice; give each once")
        if self.own_graph is None:
            check_names("split", [str(self.split)], SPLITS)
        else:
            self.own_graph.check_split(self.split)
        for name, seed in (("split_seed", self.split_seed), ("attack_seed", self.attack_seed)):
            check_whole(name, seed, least=0, below=2**32)
        for seed in self.seeds:
            check_whole("a seed", seed, least=0, below=2**32)

    def load(self) -> Data:
        """The clean graph."""
        if self.own_graph is not None:
            return self.own_graph.load(split=self.split, split_seed=self.split_seed)
        split = cast(Split, self.split)  # which was checked
        return datasets.load(
            self.dataset, split=split, split_seed=self.split_seed, root=self.root, download=self.download
        )

    def place(self, data: Data) -> Data:
        """The graph on :attr:`device`; a shallow copy, so that ``data`` itself stays where it is."""
        return copy.copy(data).to(self.device)

    def model_hyperparameters(self, model: str) -> dict[str, dict[str, Any]]:
        """``{"model": {…}, "training": {…}}``: the preset, with the overrides over it."""
        given = self.presets.get(model) or load_preset(model, self.dataset)
        preset: dict[str, dict[str, Any]] = {section: {} for section in given}
        chosen = [(section, key, value) for section, values in given.items() for key, value in values.items()]
        for override in self.overrides:
            if override.section in given and override.subject in (None, model):
                chosen.append((override.section, override.key, override.value))
        for section, key, value in chosen:  # a former word and that of today are one: the later value wins
            now = current_keyword(model, key) if section == "model" else key
            if now != key:
                warnings.warn(
                    f"{model}.model.{key} is called {model}.model.{now} now; the old word goes with the next release",
                    DeprecationWarning,
                    stacklevel=2,
                )
            preset[section][now] = value
        return current_hyperparameters(model, preset)

    def model_identity(self, model: str) -> dict[str, dict[str, Any]]:
        """What decides a fitted model.

        :meth:`model_hyperparameters`; the digests of the ``plugins`` that have a part in it, if any; and that of the
        ``data``, if it is a graph of one's own.
        """
        given = self.model_hyperparameters(model)
        named = [self.dataset, model, *words(given)]
        own = {file: digest for each in self.own_models if each.name in named for file, digest in each.code.items()}
        code = {**plugins.digests(named), **own}
        data = {} if self.own_graph is None else {"data": self.own_graph.identity}
        return {**given, **({"plugins": code} if code else {}), **data}

    def attack(self, spec: AttackSpec) -> Attack:
        """The attack object of a live specification.

        Raises:
            TypeError: an override that the attack does not take.
            ImportError: the attack needs an extra that is not installed.
        """
        name = spec.attack.name
        own = {o.key: o.value for o in self.overrides if o.section == "attack" and o.subject in (name, spec.name)}
        return attacks.get(name, seed=self.attack_seed, **own)

    def attack_hyperparameters(self, spec: AttackSpec) -> dict[str, Any]:
        """What, beside its budget, decides the graph that an attack makes."""
        if spec.then:
            first, *others = spec.steps
            steps = [
                {"attack": step.label, "budget": step.amount, **self.attack_hyperparameters(step)} for step in others
            ]
            return {**self.attack_hyperparameters(first), "then": steps}
        if spec.replay is not None:
            return dict(spec.replay.identity)
        if spec.name == CLEAN or spec.source == "published":
            return {}
        own: dict[str, Any] = {"seed": self.attack_seed, "params": self.attack(spec).params}
        if spec.name == RANDOM and own["params"] == attacks.get(RANDOM).params:
            del own["params"]  # results name the seed alone, unless something was set by hand
        if code := plugins.digests([self.dataset, spec.attack.name]):
            own["plugins"] = code
        return {**own, "targets": self.targets.written} if spec.targeted else own

    def cells(self, *, split: str, model: str, seed: int) -> Iterator[tuple[AttackSpec, Cell]]:
        """The cells of one model and seed, each with its attack.

        Args:
            split: the split that the loaded data names.
            model: name of the model.
            seed: of the model.
        """
        for spec in self.attacks:
            yield (
                spec,
                Cell(
                    dataset=self.dataset,
                    split=split,
                    split_seed=self.split_seed,
                    model=model,
                    attack=spec.label,
                    threat=spec.threat,
                    budget=spec.amount,
                    budget_unit=AT_TEST_NODES if counts_test_nodes(spec, split) else spec.unit,
                    seed=seed,
                    hyperparameters={**self.model_identity(model), "attack": self.attack_hyperparameters(spec)},
                ),
            )


def counts_test_nodes(spec: AttackSpec, split: str | None) -> bool:
    """Whether the budget is a share of the edges at the test nodes: under an inductive split, of what is made here."""
    return split == INDUCTIVE and spec.unit == EDGES and spec.source != "replayed"


def over_splits(protocol: Protocol, count: int) -> tuple[Protocol, ...]:
    """The benchmark on several splits, each a protocol of its own: the seeds, or a file's own numbers, 0, 1, …

    Args:
        protocol: its split seed is not used.
        count: how many, at least 1.

    Raises:
        ProtocolError: a split, or an attacked graph, of which there is one only.
    """
    if count < 1:
        raise ProtocolError(f"splits: expected at least 1, got {count}")
    if protocol.own_graph is None and protocol.split == "prognn":
        raise ProtocolError(f"{count} splits: 'prognn' is one published split; take the split random or inductive")
    for spec in protocol.attacks:
        if spec.source == "published":
            raise ProtocolError(
                f"attack {spec}: its published graphs belong to one split, and {count} splits are asked for; attack "
                f"each of them here with {spec.name}{LIVE}, or ask for no number of splits"
            )
    return tuple(dataclasses.replace(protocol, split_seed=seed) for seed in range(count))


def _current_subject(override: Override) -> Override:
    if override.subject is None or override.section == "attack":
        return override
    return dataclasses.replace(override, subject=current_model(override.subject))


def words(value: Any) -> Iterator[str]:
    """Every text in a value of JSON: of hyperparameters, among others the names of a model's parts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from words(part)
    elif isinstance(value, Sequence):
        for part in value:
            yield from words(part)


@dataclass(frozen=True)
class Evaluation:
    """The nodes that an accuracy is taken over.

    Attributes:
        on: "test" or "targets".
        mask: bool ``[n]``.
    """

    on: EvaluatedOn
    mask: Tensor = field(repr=False)


def evaluation(data: Data) -> Evaluation:
    """The targets of an attacked graph that has some (``data.targets``), and the test mask of any other."""
    targets = data.get("targets")
    if targets is None:
        return Evaluation("test", data.test_mask)
    mask = torch.zeros_like(data.test_mask)
    mask[targets] = True
    return Evaluation("targets", mask)


def missing_packages(spec: AttackSpec) -> tuple[str, ...]:
    """The packages that live attacks need and that are not installed."""
    missing = []
    for package in dict.fromkeys(p for step in spec.steps if step.source == "live" for p in step.attack.packages):
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            missing.append(package)
    return tuple(missing)


def check_device(device: str) -> None:
    """Raise an error unless torch can work on the device.

    Raises:
        ProtocolError: torch does not know it, or this machine has none.
    """
    try:
        float(torch.ones(1, device=device))
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        here = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        reason = str(error).splitlines()[0].rstrip(".")
        raise ProtocolError(f"--device {device}: {reason}; torch finds here: {', '.join(['cpu', *here])}") from error


def device_name(device: str) -> str:
    """The kind of a device, with the product's name where it is a GPU: ``"cuda (NVIDIA H100 80GB HBM3)"``."""
    kind = torch.device(device).type
    return f"{kind} ({torch.cuda.get_device_name(device)})" if kind == "cuda" else kind


def check_names(kind: str, given: Sequence[str], known: Collection[str]) -> None:
    """Raise an error that lists what there is, unless every name given is known and there is one.

    Raises:
        ProtocolError: a name is unknown, or none is given.
    """
    if not given:
        raise ProtocolError(f"no {kind} given; there are: {', '.join(sorted(known))}")
    if strangers := [name for name in given if name not in known]:
        raise ProtocolError(unknown(kind, strangers, known))
