"""Run a benchmark: train, attack, measure, and write each number down as soon as it is there.

For each model and seed the model is trained once on the clean graph, of an inductive split without the test nodes. An
evasion attack is measured on that model, frozen; a poisoning attack by training a new model, of the same
hyperparameters and seed, on the attacked graph with the same split; a symbiotic one by attacking such a new model.
Graphs that do not depend on the model are made once for a threat, kept in ``OUT/graphs`` and given to all; those that
do are made once for each model and seed, whether it is then frozen or trained anew.
"""

from __future__ import annotations

import functools
import math
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn import datasets, training
from contractive_gnn.attacks import AttackResult, Budget
from contractive_gnn.attacks.base import edge_difference, feature_difference
from contractive_gnn.bench import own_models
from contractive_gnn.bench.adapter import check_scores, takes_edge_weight, without_weights
from contractive_gnn.bench.presets import SECTIONS, Preset
from contractive_gnn.bench.protocol import (
    Override,
    Protocol,
    ProtocolError,
    check_device,
    check_names,
    counts_test_nodes,
    device_name,
    evaluation,
)
from contractive_gnn.bench.results import (
    RESULTS,
    Cell,
    EvaluatedOn,
    Key,
    Result,
    ResultsFile,
    check_kind,
    current_commit,
    current_versions,
    digest,
    make_folder,
)
from contractive_gnn.bench.spaces import TRAINING, model_hyperparameters
from contractive_gnn.bench.spec import CLEAN, AttackSpec
from contractive_gnn.bench.targets import Targets, choose_targets
from contractive_gnn.bench.workers import Executor, Job, run_jobs, single_thread
from contractive_gnn.datasets.protocol import INDUCTIVE
from contractive_gnn.inputs import MASKS
from contractive_gnn.names import unknown
from contractive_gnn.nn import MODELS
from contractive_gnn.nn.deeprobust import DeepRobustModel
from contractive_gnn.seeding import seeded
from contractive_gnn.trainable import TrainsItself, declares

GRAPHS = "graphs"
ERRORS = "errors.log"


@dataclass(frozen=True)
class Failure:
    """Something that could not be done.

    Attributes:
        what: model, seed and attack in words.
        reason: one line.
        traceback: all of it.
        cells: how many numbers are missing because of it.
    """

    what: str
    reason: str
    traceback: str
    cells: int


@dataclass(frozen=True)
class GraphMade:
    """An attacked graph that is now in OUT/graphs."""

    path: Path


Message = Result | GraphMade | Failure


@dataclass(frozen=True)
class Stamp:
    """The state of the software that a result comes from, and the device."""

    commit: str | None
    uncommitted_changes: bool
    versions: Mapping[str, str | None]
    device: str

    @classmethod
    def now(cls, device: str = "cpu") -> Stamp:
        """Of this process, with a device of torch."""
        return cls(*current_commit(), current_versions(), device_name(device))


@dataclass(frozen=True)
class Task:
    """One cell to measure: its attack, and where the attacked graph lies if it does not depend on the model."""

    cell: Cell
    spec: AttackSpec
    graph: Path | None


@dataclass(frozen=True)
class GraphJob:
    """Make one attacked graph and keep it.

    Attributes:
        protocol: data set, seeds and hyperparameters.
        spec: the attack.
        path: where the graph will lie.
        damaged: why the file that is there cannot be read; empty where there is none.
    """

    protocol: Protocol
    spec: AttackSpec
    path: Path
    damaged: str = ""

    def run(self) -> Iterator[Message]:
        """Yields the graph, or the failure. The cells that miss it are counted by the units that need it."""
        try:
            make_graph(self.protocol, self.spec, self.protocol.load()).save(self.path)
        except Exception as error:
            yield _failure(f"attack {self.spec}", error, cells=0)
        else:
            yield GraphMade(self.path)

    def rest(self) -> GraphJob:
        """See :class:`~contractive_gnn.bench.workers.Job`."""
        return self

    def died(self, reason: str) -> Message:
        """See :class:`~contractive_gnn.bench.workers.Job`."""
        return Failure(f"attack {self.spec}", reason, reason, cells=0)


@dataclass(frozen=True)
class UnitJob:
    """Everything that is to be measured for one model and seed.

    Attributes:
        clean_accuracy: on the test mask, where an earlier run measured it.
    """

    protocol: Protocol
    model: str
    seed: int
    tasks: tuple[Task, ...]
    clean_accuracy: float | None
    stamp: Stamp

    def run(self) -> Iterator[Message]:
        """Yields a result or a failure for each task."""
        try:
            unit = _Unit(self, self.protocol.load())
        except Exception as error:
            yield _failure(str(self), error, cells=len(self.tasks))
            return
        for task in self.tasks:
            try:
                yield unit.measure(task)
            except Exception as error:
                yield _failure(f"{self}, {task.spec}", error, cells=1)

    def rest(self) -> UnitJob:
        """See :class:`~contractive_gnn.bench.workers.Job`."""
        return replace(self, tasks=self.tasks[1:])

    def died(self, reason: str) -> Message:
        """See :class:`~contractive_gnn.bench.workers.Job`."""
        return Failure(str(self), reason, reason, cells=len(self.tasks))

    def __str__(self) -> str:
        split = f", split {self.protocol.split_seed}" if self.protocol.split_seed else ""
        return f"{self.model}, seed {self.seed}{split}"


@dataclass(frozen=True)
class Trained:
    """A model after its training, and how long that took."""

    model: nn.Module
    seconds: float


@dataclass(frozen=True)
class _Unit:
    """One model and seed at work; the clean model is trained when it is first needed, and once.

    Attributes:
        job: what to measure.
        data: the clean graph, on the CPU.
        made: the graphs made against the clean model, by what the threat has no part in.
    """

    job: UnitJob
    data: Data
    made: dict[str, AttackResult] = field(default_factory=dict)

    @functools.cached_property
    def clean(self) -> Trained:
        return self._train(self.data)

    def _train(self, data: Data) -> Trained:
        return train(self.job.protocol, self.job.model, data, seed=self.job.seed)

    def measure(self, task: Task) -> Result:
        """One number.

        Raises:
            FileNotFoundError: the attacked graph could not be made.
        """
        if task.spec.threat == "symbiotic":
            attacked, trained, flips = self._symbiotic(task.spec)
        else:
            attacked = self._attacked(task)
            trained = self.clean if task.spec.threat == "evasion" else self._train(attacked.data)
            flips = attacked.n_flips
        nodes = evaluation(attacked.data)
        if nodes.on == "test" and self.job.clean_accuracy is not None:
            clean_accuracy = self.job.clean_accuracy
        else:
            clean_accuracy = accuracy(self.job.protocol, self.clean.model, self.data, _old(nodes.mask, self.data))
        stamp = self.job.stamp
        return Result(
            **{name: getattr(task.cell, name) for name in Cell.__dataclass_fields__},
            accuracy=accuracy(self.job.protocol, trained.model, attacked.data, nodes.mask),
            clean_accuracy=clean_accuracy,
            evaluated_on=nodes.on,
            n_evaluated=int(nodes.mask.sum()),
            attack_source=task.spec.source,
            flips=flips,
            unreliable=_warnings(attacked.provenance),
            train_s=round(trained.seconds, 3),
            attack_s=round(attacked.seconds, 3),
            commit=stamp.commit,
            uncommitted_changes=stamp.uncommitted_changes,
            versions=stamp.versions,
            device=stamp.device,
            breakdown=self._breakdown(task.spec, attacked, trained.model, clean_accuracy),
        )

    @functools.cached_property
    def targets(self) -> Targets:
        """Of the live targeted attacks."""
        return _targets(self.job.protocol, self.data)

    def _breakdown(
        self, spec: AttackSpec, result: AttackResult, model: nn.Module, clean_accuracy: float
    ) -> dict[str, dict[str, float]]:
        """Of each bin of the targets, or of each attack of an ensemble, the number of nodes and the accuracies.

        Raises:
            RuntimeError: an attacked graph was made for other targets.
        """
        attacked = result.data
        told = result.provenance.get("params", {}).get("diagnosis", {})
        if spec.threat == "evasion" and "worst_per_node" in told:
            left = {**told["accuracies"], "per node": told["worst_per_node"]}
            own = {"n": told["nodes"], "clean_accuracy": clean_accuracy}
            return {name: {**own, "accuracy": accuracy} for name, accuracy in left.items()}
        if not (spec.targeted and spec.source == "live" and self.targets.bins):
            return {}
        if not torch.equal(attacked.targets, self.targets.nodes):
            raise RuntimeError("its attacked graph has other targets than are chosen here; delete it from graphs/")
        found = {}
        for name, nodes in self.targets.bins.items():
            mask = torch.zeros_like(attacked.test_mask)
            mask[nodes] = True
            found[name] = {
                "n": nodes.numel(),
                "accuracy": accuracy(self.job.protocol, model, attacked, mask),
                "clean_accuracy": accuracy(self.job.protocol, self.clean.model, self.data, _old(mask, self.data)),
            }
        return found

    def _symbiotic(self, spec: AttackSpec) -> tuple[AttackResult, Trained, int]:
        """The graph at test time, the model that was trained on what the poisoning steps left, and all the flips.

        An edge that is flipped before the training and back after it counts twice.
        """
        poisoning = spec.poisoning_steps
        made = make_steps(self.job.protocol, poisoning, self.data, self.data, victim=None)
        trained = self._train(made[-1].data)
        left = spec.steps[len(poisoning) :]
        made += make_steps(self.job.protocol, left, self.data, made[-1].data, victim=trained.model)
        return _joined(spec, self.data, made), trained, sum(result.n_flips for result in made)

    def _attacked(self, task: Task) -> AttackResult:
        if task.spec.name == CLEAN:
            return _given(self.data, self.data, Budget(flips=0), {"attack": CLEAN})
        if task.graph is not None:
            if not task.graph.exists():
                raise FileNotFoundError(f"its attacked graph {task.graph.name} could not be made (see above)")
            return AttackResult.load(task.graph)
        key = task.spec.without_threat
        if key not in self.made:
            self.made[key] = make_graph(self.job.protocol, task.spec, self.data, victim=self.clean.model)
        return self.made[key]


@dataclass(frozen=True)
class Plan:
    """What is left to do of a benchmark.

    Attributes:
        graphs: attacked graphs to make first: those that are missing, and those whose file cannot be read.
        units: then the measurements.
        n_cells: numbers that the benchmark consists of.
        n_finished: numbers that earlier runs have measured.
        notes: what was decided about the models and the graph, a sentence each.
    """

    graphs: tuple[GraphJob, ...]
    units: tuple[UnitJob, ...]
    n_cells: int
    n_finished: int
    notes: tuple[str, ...] = ()

    @property
    def n_steps(self) -> int:
        """Graphs and numbers still to come."""
        return len(self.graphs) + self.n_cells - self.n_finished


def plan(protocol: Protocol, *, out: Path, finished: Mapping[Key, Result]) -> Plan:
    """Check a benchmark and find what is left to do.

    Args:
        protocol: what to measure.
        out: folder of the results.
        finished: results that are there, by their key.

    Raises:
        ProtocolError: an unknown model or device, hyperparameters that a model or the training does not take, …
        DatasetError: the data set cannot be had.
        ResultsError: the results that are there are certificates.
    """
    own_models.use(protocol.own_models)
    check_names("model", protocol.models, own_models.names())
    check_kind(finished.values(), out / RESULTS, certificates=False)
    data = protocol.load()
    notes = check_protocol(protocol, data)
    stamp = Stamp.now(protocol.device)
    units, graphs, n_cells, n_finished = [], {}, 0, 0
    looked_at: set[Path] = set()
    for seed in protocol.seeds:
        for model in protocol.models:
            tasks, clean_accuracy = [], None
            for spec, cell in protocol.cells(split=data.split, model=model, seed=seed):
                n_cells += 1
                if result := finished.get(cell.key):
                    n_finished += 1
                    # measured by the same code, or measured again: one line must not speak of two versions
                    found = Stamp(result.commit, result.uncommitted_changes, result.versions, result.device)
                    if found == stamp and result.evaluated_on == "test":
                        clean_accuracy = result.clean_accuracy
                    continue
                graph = None
                if spec.name != CLEAN and not spec.needs_victim:
                    graph = out / GRAPHS / _graph_name(protocol, spec, data.split)
                    if graph not in looked_at:
                        looked_at.add(graph)
                        damaged = _damage(graph)
                        if damaged is not None:
                            graphs[graph] = GraphJob(protocol, spec, graph, damaged)
                tasks.append(Task(cell, spec, graph))
            if tasks:
                units.append(UnitJob(protocol, model, seed, tuple(tasks), clean_accuracy, stamp))
    return Plan(tuple(graphs.values()), tuple(units), n_cells, n_finished, notes)


def plan_splits(protocols: Sequence[Protocol], *, out: Path, finished: Mapping[Key, Result]) -> Plan:
    """One plan for a benchmark on several splits, of :func:`~contractive_gnn.bench.protocol.over_splits`.

    Raises:
        ProtocolError: see :func:`plan`; or two splits are the same nodes.
    """
    if len(protocols) > 1:
        first, second = (protocol.load() for protocol in protocols[:2])
        if all(torch.equal(first[mask], second[mask]) for mask in MASKS):
            raise ProtocolError(
                f"{len(protocols)} splits: {protocols[0].dataset} has one split {first.split!r}, whatever its seed; "
                "ask for no number of splits"
            )
    plans = [plan(protocol, out=out, finished=finished) for protocol in protocols]
    return Plan(
        tuple({graph.path: graph for each in plans for graph in each.graphs}.values()),
        tuple(unit for each in plans for unit in each.units),
        sum(each.n_cells for each in plans),
        sum(each.n_finished for each in plans),
        tuple(dict.fromkeys(note for each in plans for note in each.notes)),
    )


def _damage(graph: Path) -> str | None:
    """Why the file of an attacked graph cannot be read: empty where there is none, None where it can be."""
    try:
        AttackResult.load(graph)
    except FileNotFoundError:
        return ""
    except ValueError as error:
        return str(error)
    return None


def execute(
    todo: Plan, results: ResultsFile, *, processes: int = 1, executor: Executor | None = None
) -> Generator[Message, None, None]:
    """Do what is left, write it down, and tell.

    Results go to ``results``, failures with their tracebacks to ``errors.log`` beside it. Stopping the iteration at any
    point leaves both whole.

    Args:
        todo: of :func:`plan`.
        results: open results file.
        processes: number of processes over the models and seeds.
        executor: see :func:`~contractive_gnn.bench.workers.run_jobs`. Results are written here, and nowhere else.
    """
    out = results.path.parent
    make_folder(out / GRAPHS)
    stages: list[Sequence[Job[Message]]] = [todo.graphs, todo.units]
    with closing(run_jobs(stages, processes=processes, executor=executor)) as messages:
        for message in messages:
            if isinstance(message, Result):
                results.append(message)
            elif isinstance(message, Failure):
                with (out / ERRORS).open("a", encoding="utf-8") as log:
                    log.write(f"== {message.what}\n{message.traceback.rstrip()}\n\n")
            yield message


def make_graph(protocol: Protocol, spec: AttackSpec, clean: Data, *, victim: nn.Module | None = None) -> AttackResult:
    """The graph of one attack.

    Args:
        protocol: data set, seeds and hyperparameters.
        spec: any attack but "clean".
        clean: the clean graph, of ``protocol.load()``.
        victim: the model, for an adaptive attack, on the protocol's device.

    Returns:
        the graph, on the CPU.

    Raises:
        DatasetError: a published graph cannot be had.
        AttackError: the attack failed.
    """
    made = make_steps(protocol, spec.steps, clean, clean, victim=victim)
    return made[0] if len(made) == 1 else _joined(spec, clean, made)


def make_steps(
    protocol: Protocol, steps: Sequence[AttackSpec], clean: Data, start: Data, *, victim: nn.Module | None
) -> list[AttackResult]:
    """The graphs of attacks one after another, from ``start`` on; their budgets are shares of the clean graph."""
    made: list[AttackResult] = []
    for step in (replace(step, budget=budget_on(clean, step)) for step in steps):
        there = made[-1].data if made else start
        own = step if there is clean else _absolute(step, clean)
        made.append(_make_step(protocol, own, there, victim=victim))
    return made


def budget_on(clean: Data, step: AttackSpec) -> Budget | None:
    """The budget of one attack. Under an inductive split a share of the edges is a number: of those at the test nodes.

    They are counted as half the sum of the degrees of the test nodes, as Gosch et al. count them.
    """
    if step.budget is None or step.budget.fraction is None or not counts_test_nodes(step, clean.get("split")):
        return step.budget
    # 0.29 * 100 is 28.999…996 in floating point, and is 29
    return Budget(flips=math.floor(step.budget.fraction * int(clean.test_mask[clean.edge_index[0]].sum()) / 2 + 1e-9))


def _joined(spec: AttackSpec, clean: Data, made: Sequence[AttackResult]) -> AttackResult:
    """The last graph, with what is said of all the attacks on the way to it."""
    assert spec.budget is not None
    provenance = {"attack": spec.label, "steps": [result.provenance for result in made]}
    whole = _given(clean, made[-1].data, spec.budget, provenance)
    return replace(whole, seconds=sum(result.seconds for result in made))


def _absolute(step: AttackSpec, clean: Data) -> AttackSpec:
    """With the number of flips that its budget allows on the clean graph."""
    assert step.budget is not None
    if step.budget.nodes is not None:
        return step
    allowed = step.attack.allowed(clean, step.budget)
    return replace(step, budget=Budget(nodes=allowed) if step.attack.kind == "deletion" else Budget(flips=allowed))


def _make_step(protocol: Protocol, spec: AttackSpec, clean: Data, *, victim: nn.Module | None) -> AttackResult:
    """The graph of one attack, without those that follow; ``clean`` is what it attacks."""
    if spec.replay is not None:
        return spec.replay.load(clean)
    budget = spec.budget
    assert budget is not None
    if spec.source == "published":
        attacked = datasets.load_attacked(
            protocol.dataset, spec.name, spec.amount, root=protocol.root, download=protocol.download
        )
        return _given(clean, attacked, budget, {"attack": spec.name, "source": "published"})
    targets = _targets(protocol, clean).nodes if spec.targeted else clean.get("targets")
    if spec.attack.knowledge != "adaptive":
        return protocol.attack(spec).run(clean, budget, victim=victim, targets=targets)
    result = protocol.attack(spec).run(protocol.place(clean), budget, victim=victim, targets=targets)
    return replace(result, data=result.data.cpu())


@dataclass(frozen=True)
class Effect:
    """What an attack did to one frozen model: accuracies in percent on the same nodes."""

    evaluated_on: EvaluatedOn
    clean_accuracy: float
    accuracy: float


def attack_once(
    protocol: Protocol, *, seed: int, on_note: Callable[[str], None] | None = None
) -> tuple[AttackResult, Effect | None]:
    """Make one attacked graph, outside of any benchmark, and measure its effect where there is a model.

    In one thread of torch, as a benchmark does.

    Args:
        protocol: with one attack, and one model or none.
        seed: of the model.
        on_note: is given each of the notes of :class:`Plan`.

    Raises:
        ProtocolError: not one attack, not at most one model, or no model for an attack that needs one.
    """
    if len(protocol.attacks) != 1 or protocol.attacks[0].name == CLEAN:
        given = ", ".join(map(str, protocol.attacks))
        raise ProtocolError(f"expected one attack, like pgd:0.05 or nettack:3, got {given}")
    if len(protocol.models) > 1:
        raise ProtocolError(f"expected one model, got {', '.join(protocol.models)}")
    spec = protocol.attacks[0]
    if spec.threat == "symbiotic":
        raise ProtocolError(
            f"attack {spec} makes a graph for the training and another one for the test: measure it "
            f"with bench --attacks {spec}"
        )
    if spec.needs_victim and not protocol.models:
        raise ProtocolError(f"attack {spec} is white-box: say which model it attacks with --model")
    data = protocol.load()
    own_models.use(protocol.own_models)
    if protocol.models:
        check_names("model", protocol.models, own_models.names())
    for note in check_protocol(protocol, data):
        if on_note is not None:
            on_note(note)
    with single_thread():
        if not protocol.models:
            return make_graph(protocol, spec, data), None
        model = train(protocol, protocol.models[0], data, seed=seed).model
        result = make_graph(protocol, spec, data, victim=model)
        if spec.needs_victim:  # so that whoever measures others on this graph can say whom it was made against
            result = replace(result, provenance={**result.provenance, "victim": protocol.models[0]})
        nodes = evaluation(result.data)
        before, after = (accuracy(protocol, model, graph, _old(nodes.mask, graph)) for graph in (data, result.data))
    return result, Effect(nodes.on, before, after)


def train(protocol: Protocol, name: str, data: Data, *, seed: int) -> Trained:
    """Build one model with the protocol's hyperparameters and fit it on one graph; first its teacher, if it has one.

    Returns:
        the model, on the protocol's device.

    Raises:
        FloatingPointError: the training diverges.
    """
    own_models.use(protocol.own_models)  # a worker process hears of them with its job
    return _train(name, protocol.model_hyperparameters(name), protocol.place(fitted_on(data)), seed)


def fitted_on(data: Data) -> Data:
    """The graph that a model is fitted on: under an inductive split without its test nodes."""
    return datasets.without_test_nodes(data) if data.get("split") == INDUCTIVE else data


def accuracy(protocol: Protocol, model: nn.Module, data: Data, mask: Tensor) -> float:
    """Accuracy in percent of a model that :func:`train` gave, on the nodes of a mask."""
    return training.evaluate(model, protocol.place(data), mask.to(protocol.device))


def _old(mask: Tensor, graph: Data) -> Tensor:
    """The mask on a graph that may lack the new nodes, which come last and are in none."""
    return mask[: graph.num_nodes]


def train_teacher(options: Mapping[str, Any], data: Data, *, seed: int) -> Trained | None:
    """Build and fit the ``teacher`` among a preset's hyperparameters of the training; None if there is none."""
    teacher = options.get("teacher")
    return None if teacher is None else _train(teacher["name"], teacher, data, seed)


def _train(name: str, hyperparameters: Preset, data: Data, seed: int) -> Trained:
    taught = train_teacher(hyperparameters["training"], data, seed=seed)
    options = {**hyperparameters["training"], "teacher": taught.model if taught else None}
    with seeded(seed):
        model = _build(name, data, hyperparameters["model"]).to(data.x.device)
        fitted = training.fit(model, data, seed=seed, **options)
    return Trained(model, fitted.seconds + (taught.seconds if taught else 0.0))


def _warnings(provenance: Mapping[str, Any]) -> list[str]:
    """Why an attack, or one of several in a row, may be weaker than it looks."""
    steps = provenance.get("steps", [provenance])
    return [warning for s in steps for warning in s.get("params", {}).get("diagnosis", {}).get("unreliable", [])]


def _given(clean: Data, attacked: Data, budget: Budget, provenance: dict[str, Any]) -> AttackResult:
    return AttackResult(
        data=attacked,
        edge_flips=edge_difference(clean.edge_index, attacked.edge_index),
        feature_flips=feature_difference(clean.x, attacked.x),
        budget=budget,
        seconds=0.0,
        provenance={**provenance, "versions": current_versions()},
    )


def _targets(protocol: Protocol, data: Data) -> Targets:
    return choose_targets(data, protocol.targets, seed=protocol.attack_seed)


def _build(model: str, data: Data, hyperparameters: Mapping[str, Any]) -> nn.Module:
    return own_models.build(model, data.x.shape[1], int(data.y.max()) + 1, **hyperparameters)


def check_protocol(protocol: Protocol, data: Data) -> tuple[str, ...]:
    """Find out now what would otherwise fail in every cell; returns the notes of the plan.

    Raises:
        ProtocolError: see :func:`plan`.
    """
    check_device(protocol.device)
    for spec in protocol.attacks:
        if spec.source == "published" and data.split != "prognn":
            raise ProtocolError(
                f"attack {spec}: the published graphs attack the split 'prognn', and this is {data.split!r}; "
                f"drop --split, or attack it here with {spec.name}-live"
            )
        if data.split == INDUCTIVE and spec.threat != "evasion":
            raise ProtocolError(
                f"attack {spec}: under the split 'inductive' models are fitted without the test nodes, and nobody "
                f"poisons that; write {spec.without_threat}@evasion"
            )
        if spec.replay is not None:
            spec.replay.load(data)
        if spec.targeted and spec.source == "live":
            _targets(protocol, data)
        for step in spec.steps:
            if _made_here(step):
                try:
                    protocol.attack(step)
                except (TypeError, ValueError) as error:
                    raise ProtocolError(f"attack {step}: {error}") from error
    aimed = any(spec.targeted and spec.source == "live" for spec in protocol.attacks)
    if protocol.targets.by is not None and not aimed:
        raise ProtocolError(f"targets {protocol.targets.written}: no attack that is made here aims at single nodes")
    notes = []
    if data.get("notes"):
        notes.append(f"{protocol.dataset}: {data.notes}.")
    for model in protocol.models:
        built = check_model(model, protocol.model_hyperparameters(model), data, device=protocol.device)
        notes.append(own_models.note(model, built))
        if not takes_edge_weight(built):
            _check_needs_no_weights(protocol, model)
    if strangers := [model for model in protocol.presets if model not in protocol.models]:
        raise ProtocolError(
            f"--preset {strangers[0]}=…: {strangers[0]!r} is not in this benchmark; it has {', '.join(protocol.models)}"
        )
    for override in protocol.overrides:
        if override.subject is not None:
            _check_subject(protocol, override)
    return tuple(filter(None, notes))


def _check_needs_no_weights(protocol: Protocol, model: str) -> None:
    """Whether no attack of the benchmark follows a gradient with respect to the weights of the edges."""
    for spec in protocol.attacks:
        for step in spec.steps:
            if step.needs_victim and step.attack.kind != "features":
                raise ProtocolError(f"attack {step} on model {model!r}: {without_weights(model)}")


def _made_here(step: AttackSpec) -> bool:
    """Whether an attack object makes its graph, which has hyperparameters."""
    return step.name != CLEAN and step.source not in ("published", "replayed")


def _check_subject(protocol: Protocol, override: Override) -> None:
    """Whether the one model or attack that an override is for is here, and reads it."""
    steps = [step for spec in protocol.attacks for step in spec.steps]
    subjects = {*protocol.models, *(step.name for step in steps)}
    live = {name for step in steps if _made_here(step) for name in (step.name, step.attack.name)}
    readers = live if override.section == "attack" else set(protocol.models)
    if override.subject in readers:
        if override.section == "training" and declares(MODELS.get(override.subject or "", None), TrainsItself):
            why = f"{override.subject!r} trains itself; write {override.subject}.model.{override.key}"
        else:
            return
    elif override.subject not in subjects:
        why = f"{override.subject!r} is not in this benchmark; it has {', '.join(sorted(subjects))}"
    elif override.section != "attack":
        why = f"{override.subject!r} is an attack; write {override.subject}.attack.{override.key}"
    elif override.subject in protocol.models:
        why = f"{override.subject!r} is a model; write {override.subject}.model.{override.key}"
    else:
        why = f"{override.subject!r} is not made here by an attack that has hyperparameters"
    raise ProtocolError(f"--set {override.subject}.{override.section}.{override.key}: {why}")


def check_teacher(model: str, options: Mapping[str, Any], data: Data, *, device: str = "cpu") -> None:
    """Whether the ``teacher`` among a preset's hyperparameters of the training, if there is one, can be fitted.

    Raises:
        ProtocolError: it cannot, or has another form.
    """
    teacher = options.get("teacher")
    if teacher is None:
        return
    sections = isinstance(teacher, dict) and set(teacher) == {"name", *SECTIONS}
    if not sections or not all(isinstance(teacher[section], dict) for section in SECTIONS):
        form = "{'name': MODEL, 'model': {…}, 'training': {…}}"
        raise ProtocolError(f"model {model!r}: expected for its teacher {form}, got {teacher!r}")
    if options.get("self_training") is not None:
        raise ProtocolError(f"model {model!r} has a teacher: give self_training to the teacher, not to {model!r}")
    check_names("model", (teacher["name"],), own_models.names())
    check_model(teacher["name"], teacher, data, device=device)


def check_model(model: str, hyperparameters: Preset, data: Data, *, device: str = "cpu") -> nn.Module:
    """Whether it can be built and fitted, and its teacher too; returns it, not fitted.

    Raises:
        ProtocolError: it cannot.
    """
    options = {name: value for name, value in hyperparameters["training"].items() if name != "teacher"}
    for section, known in (("model", model_hyperparameters(model)), ("training", TRAINING)):
        if known is not None and (strange := [name for name in hyperparameters[section] if name not in known]):
            raise ProtocolError(f"model {model!r}: {unknown(f'{section} hyperparameter', strange, known)}")
    check_teacher(model, hyperparameters["training"], data, device=device)
    try:
        built = _build(model, data, hyperparameters["model"])
        training.check_options(built, **options)
        if own_models.get(model) is not None:
            check_scores(built, data, int(data.y.max()) + 1)
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        names = [name for section in SECTIONS for name in hyperparameters[section]]
        told = "" if any(name in str(error) for name in names) else f" with {dict(hyperparameters)}"
        raise ProtocolError(f"model {model!r}{told}: {error}") from error
    if torch.device(device).type != "cpu" and any(isinstance(part, DeepRobustModel) for part in built.modules()):
        raise ProtocolError(
            f"--device {device}: model {model!r} is trained by DeepRobust's own loop, on the CPU; measure it without"
        )
    return built


def _graph_name(protocol: Protocol, spec: AttackSpec, split: str) -> str:
    """A readable file name, with a digest of everything that decides the graph."""
    own = protocol.attack_hyperparameters(spec)
    if protocol.own_graph is not None:
        own = {**own, "data": protocol.own_graph.identity}
    # a saved graph is known by its digest, wherever it lies
    written = str(spec) if spec.replay is None else f"{spec.name}@{spec.threat}"
    identity = digest({"split": split, "split_seed": protocol.split_seed, "attack": written, **own})
    readable = spec.name.replace(".npz", "").replace(":", "-") if spec.replay else spec.without_threat.replace(":", "-")
    return f"{protocol.dataset}-{readable}-{identity}.npz"


def _failure(what: str, error: Exception, *, cells: int) -> Failure:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return Failure(what, reason, "".join(traceback.format_exception(error)), cells)
