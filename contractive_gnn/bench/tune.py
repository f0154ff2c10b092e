r"""Search hyperparameters θ of one model for the best mean validation accuracy.

.. math::
    J(\theta) = \frac{1}{|\mathcal G|\,|S|} \sum_{G \in \mathcal G} \sum_{s \in S}
    \mathrm{acc}_{\mathrm{val}}\bigl(f_{\theta, s, G};\, G\bigr)

The graphs 𝒢 are the clean one and poisoned ones with the same split; :math:`f_{\theta, s, G}` is the model trained on
G with seed s. The labels of all other nodes than those of training and validation are taken away before anything is
trained, so no test node has a part in the choice. A run that diverges counts 0 %.

θ is drawn by optuna's tree of Parzen estimators (Bergstra et al., *Algorithms for Hyper-Parameter Optimization*,
NeurIPS 2011). Its study lies in one file of the results' folder, from which the others are made anew after each trial.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import numpy as np
import torch
from rich.table import Table
from torch_geometric.data import Data

from contractive_gnn import plugins, training
from contractive_gnn.attacks import AttackResult
from contractive_gnn.bench.presets import Preset
from contractive_gnn.bench.protocol import Protocol, words
from contractive_gnn.bench.results import make_folder, open_alone, replacing
from contractive_gnn.bench.runner import GRAPHS, Failure, GraphJob, Message, Stamp, Task, fitted_on, plan, train
from contractive_gnn.bench.spaces import Space
from contractive_gnn.bench.spec import CLEAN, AttackSpec
from contractive_gnn.bench.workers import Executor, Job, run_jobs
from contractive_gnn.former import current_hyperparameters, current_model

try:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    from optuna.trial import TrialState
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "a search needs optuna 4 or later, which is not installed; pip install 'contractive-gnn[tune]'"
    ) from error

STUDY = "study.journal"
TRIALS = "trials.jsonl"
PRESET = "preset.json"


class TuneError(ValueError):
    """A search that cannot be made as asked; the text says why and what to do."""


@dataclass(frozen=True)
class Trial:
    """One setting and how it did.

    Attributes:
        number: from 0, in the order in which the settings were drawn.
        state: "complete"; "pruned" after some of the runs; or "failed", where the model does not take the setting.
        objective: the mean validation accuracy in percent, over the runs that were made; None for a failed trial.
        hyperparameters: the setting, ``{"model": {…}, "training": {…}}``.
        val_accuracy: by graph, in percent, one number a seed.
        seconds: wall clock.
        reason: why it failed; empty otherwise.
        dataset: name of the data set.
        model: name of the model.
        sampler_seed: of the search.
        commit: see :class:`~contractive_gnn.bench.results.Result`.
        uncommitted_changes: likewise.
        versions: likewise, with optuna's.
        device: likewise.
    """

    number: int
    state: Literal["complete", "pruned", "failed"]
    objective: float | None
    hyperparameters: Preset
    val_accuracy: Mapping[str, Sequence[float]]
    seconds: float
    reason: str
    dataset: str
    model: str
    sampler_seed: int
    commit: str | None
    uncommitted_changes: bool
    versions: Mapping[str, str | None]
    device: str = "cpu"


@dataclass(frozen=True)
class Search:
    """What to search, how and where.

    Attributes:
        protocol: data set, one model, the graphs (as attacks) and the seeds.
        space: of the model.
        out: folder of the results.
        sampler_seed: of the draws. With one process the search is the same again, however often it was stopped.
        prune: whether to give a trial up whose mean is, after some of its runs, below the median of the earlier trials
            after as many.
    """

    protocol: Protocol
    space: Space
    out: Path
    sampler_seed: int = 0
    prune: bool = False

    @property
    def model(self) -> str:
        """The model's name."""
        return self.protocol.models[0]

    @property
    def question(self) -> dict[str, Any]:
        """All that decides the trials; what lies in a folder is carried on only with the same."""
        code = {**plugins.digests([self.protocol.dataset, self.model, *words(self.space.given)])}
        for own in self.protocol.own_models:
            code.update(own.code)
        return {
            **({"plugins": code} if code else {}),
            "dataset": self.protocol.dataset,
            **({} if self.protocol.own_graph is None else {"data": self.protocol.own_graph.identity}),
            "split": self.protocol.split,
            "split_seed": self.protocol.split_seed,
            "model": self.model,
            "attacks": list(map(str, self.protocol.attacks)),
            "attack_seed": self.protocol.attack_seed,
            "seeds": list(self.protocol.seeds),
            "space": self.space.given,
            "sampler_seed": self.sampler_seed,
            "prune": self.prune,
        }

    def prepare(self) -> tuple[Sequence[GraphJob], Sequence[Task]]:
        """Check everything; returns the poisoned graphs that are still to be made, and where each graph will lie.

        Raises:
            TuneError: an attack that is not a poisoning graph of its own; no seed.
            SpaceError: an unknown hyperparameter.
            ProtocolError: a setting that the model does not take, …
        """
        if not self.protocol.seeds:
            raise TuneError("expected at least one seed, got none")
        for spec in self.protocol.attacks:
            _check_graph(spec)
        self.space.check(self.model)
        example = dataclasses.replace(
            self.protocol, presets={self.model: self.space.example()}, seeds=self.protocol.seeds[:1]
        )
        todo = plan(example, out=self.out, finished={})
        return todo.graphs, todo.units[0].tasks

    def study(self, *, number: int = 0) -> optuna.Study:
        """The study in the folder, made where it is missing, with the sampler of one trial."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = str(self.out / STUDY)
        seed = int(np.random.SeedSequence([self.sampler_seed, number]).generate_state(1)[0])
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path))),
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.MedianPruner() if self.prune else optuna.pruners.NopPruner(),
            study_name="tune",
            direction="maximize",
            load_if_exists=True,
        )


def _check_graph(spec: AttackSpec) -> None:
    if spec.name == CLEAN or (spec.threat == "poisoning" and not spec.needs_victim):
        return
    why = (
        "its graph depends on the model, which a trial changes"
        if spec.needs_victim
        else "evasion leaves the training as it is"
    )
    advice = "" if spec.needs_victim else f", or this one @poisoning, {spec.without_threat}@poisoning"
    raise TuneError(
        f"attack {spec}: {why}; a search trains on clean and on poisoned graphs, like clean,metattack:0.25{advice}"
    )


@dataclass(frozen=True)
class TrialJob:
    """Draw one setting and train it on every graph with every seed.

    Attributes:
        search: the search.
        number: of the trial.
        tasks: the graphs.
        stamp: the state of the software.
    """

    search: Search
    number: int
    tasks: Sequence[Task]
    stamp: Stamp

    def run(self) -> Iterator[Trial | Message]:
        """Yields the trial, once it is in the study: at once where an earlier process wrote it there before it died."""
        study = self.search.study(number=self.number)
        for earlier in study.get_trials(deepcopy=False):
            if earlier.user_attrs.get("trial", {}).get("number") == self.number:
                done = Trial(**earlier.user_attrs["trial"])
                if not earlier.state.is_finished():
                    _tell(study, earlier.number, done)
                yield done
                return
        drawn = study.ask()
        done = self._measure(drawn)
        drawn.set_user_attr("trial", dataclasses.asdict(done))
        _tell(study, drawn.number, done)
        yield done

    def rest(self) -> TrialJob:
        """See :class:`~contractive_gnn.bench.workers.Job`."""
        return self

    def died(self, reason: str) -> Trial | Message:
        """See :class:`~contractive_gnn.bench.workers.Job`."""
        return Failure(f"trial {self.number}", reason, reason, cells=1)

    def _measure(self, drawn: optuna.Trial) -> Trial:
        search, start = self.search, time.perf_counter()
        setting = search.space.draw(drawn)
        protocol = dataclasses.replace(search.protocol, presets={search.model: setting})
        accuracies: dict[str, list[float]] = {}
        state: Literal["complete", "pruned", "failed"] = "complete"
        reason = ""

        def objective() -> float:
            return mean(accuracy for each in accuracies.values() for accuracy in each)

        graphs = _graphs(protocol, self.tasks)
        runs = [(seed, name) for seed in protocol.seeds for name in graphs]
        try:
            for step, (seed, name) in enumerate(runs, start=1):
                accuracy = _val_accuracy(protocol, search.model, graphs[name], seed=seed)
                accuracies.setdefault(name, []).append(accuracy)
                drawn.report(objective(), step)
                if step < len(runs) and drawn.should_prune():
                    state = "pruned"
                    break
        except Exception as error:  # of the one setting: the search goes on with others
            state, reason = "failed", f"{type(error).__name__}: {error}"
        return Trial(
            number=self.number,
            state=state,
            objective=None if state == "failed" else objective(),
            hyperparameters=setting,
            val_accuracy=accuracies,
            seconds=round(time.perf_counter() - start, 3),
            reason=reason,
            dataset=protocol.dataset,
            model=search.model,
            sampler_seed=search.sampler_seed,
            commit=self.stamp.commit,
            uncommitted_changes=self.stamp.uncommitted_changes,
            versions={**self.stamp.versions, "optuna": metadata.version("optuna")},
            device=self.stamp.device,
        )


def _tell(study: optuna.Study, number: int, done: Trial) -> None:
    if done.state == "complete":
        study.tell(number, done.objective)
    else:
        study.tell(number, state=TrialState.PRUNED if done.state == "pruned" else TrialState.FAIL)


def _graphs(protocol: Protocol, tasks: Sequence[Task]) -> dict[str, Data]:
    """The graphs by name, each without the labels that a search must not see."""
    return {
        str(task.spec): without_test_labels(
            protocol.place(fitted_on(protocol.load() if task.graph is None else AttackResult.load(task.graph).data))
        )
        for task in tasks
    }


def without_test_labels(data: Data) -> Data:
    """The same graph with the label −1, and no test mask, on all nodes that are for neither training nor validation."""
    hidden = copy.copy(data)
    hidden.y = data.y.where(data.train_mask | data.val_mask, -1)
    hidden.test_mask = torch.zeros_like(data.test_mask)
    return hidden


def _val_accuracy(protocol: Protocol, model: str, data: Data, *, seed: int) -> float:
    try:
        trained = train(protocol, model, data, seed=seed)
    except FloatingPointError:
        return 0.0
    return training.evaluate(trained.model, data, data.val_mask)


def _in_words_of_today(question: Mapping[str, Any]) -> dict[str, Any]:
    """A question of :attr:`Search.question`, its model and the hyperparameters of its space by their names of today."""
    model, space = question["model"], question["space"]
    return {**question, "model": current_model(model, warn=False), "space": current_hyperparameters(model, space)}


@dataclass
class Record:
    """The study of a search while one run has it; a context manager.

    Attributes:
        search: the search.
        trials: those that are finished, by their number.
    """

    search: Search
    trials: list[Trial] = field(default_factory=list)

    def __enter__(self) -> Record:
        """Open the folder.

        Raises:
            ResultsError: another run is writing to it.
            TuneError: it holds another search.
        """
        self._lock = open_alone(self.search.out / STUDY)
        try:
            self._study = self.search.study()
            asked = self._study.user_attrs.get("question")
            question = json.loads(json.dumps(self.search.question))
            if asked is None:
                self._study.set_user_attr("question", question)
            else:
                self._carry_on(asked, question)
            self._end_what_was_killed()
            self.write()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    def _carry_on(self, asked: Mapping[str, Any], question: Mapping[str, Any]) -> None:
        """Go on with what the folder holds, in its own words: the study knows its parameters by them.

        Raises:
            TuneError: it is another search.
        """
        there, here = _in_words_of_today(asked), _in_words_of_today(question)
        if differing := [name for name in {**there, **here} if there.get(name) != here.get(name)]:
            raise TuneError(
                f"{self.search.out} holds another search, with other {', '.join(differing)}; "
                "choose another --out, or repeat its options to carry it on"
            )
        if asked["space"] != question["space"]:
            space = dataclasses.replace(self.search.space, given=asked["space"])
            self.search = dataclasses.replace(self.search, space=space)

    def _end_what_was_killed(self) -> None:
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "trial" in trial.user_attrs:
                _tell(self._study, trial.number, Trial(**trial.user_attrs["trial"]))
            else:
                self._study.tell(trial.number, state=TrialState.FAIL)

    @property
    def best(self) -> Trial | None:
        """The complete trial of the greatest objective, of equal ones the first."""
        return max((t for t in self.trials if t.state == "complete"), key=lambda t: t.objective or 0.0, default=None)

    def write(self) -> None:
        """Read the finished trials from the study, and write them and the preset of the best."""
        stored = [
            t for t in self._study.get_trials(deepcopy=False) if t.state.is_finished() and "trial" in t.user_attrs
        ]
        self.trials = sorted((Trial(**t.user_attrs["trial"]) for t in stored), key=lambda trial: trial.number)
        lines = [json.dumps(dataclasses.asdict(trial), ensure_ascii=False) + "\n" for trial in self.trials]
        _write(self.search.out / TRIALS, "".join(lines))
        if self.best is not None:
            best = current_hyperparameters(self.search.model, self.best.hyperparameters)
            entry = {self.search.protocol.dataset: best}
            _write(self.search.out / PRESET, json.dumps(entry, indent=2, ensure_ascii=False) + "\n")


def execute(
    record: Record,
    graphs: Sequence[GraphJob],
    tasks: Sequence[Task],
    *,
    trials: int,
    processes: int = 1,
    executor: Executor | None = None,
) -> Generator[Trial | Failure, None, None]:
    """Make the graphs, then draw and train until the record has ``trials`` of them. Stopping at any point is safe.

    Args:
        record: open.
        graphs: of :meth:`Search.prepare`.
        tasks: likewise.
        trials: how many in all; those of earlier runs count.
        processes: trials at the same time.
        executor: see :func:`~contractive_gnn.bench.workers.run_jobs`.

    Raises:
        TuneError: a graph could not be made.
    """
    make_folder(record.search.out / GRAPHS)
    stamp = Stamp.now(record.search.protocol.device)
    missing = sorted(set(range(trials)) - {trial.number for trial in record.trials})
    jobs = [TrialJob(record.search, number, tasks, stamp) for number in missing]
    stages: list[Sequence[Job[Trial | Message]]] = [graphs, jobs]
    with closing(run_jobs(stages, processes=processes, executor=executor)) as messages:
        for message in messages:
            if isinstance(message, Failure) and message.cells == 0:
                raise TuneError(f"{message.what} could not be made: {message.reason}")
            if isinstance(message, Trial):
                record.write()
            if isinstance(message, Trial | Failure):
                yield message


def table(trials: Sequence[Trial], space: Space, *, most: int = 5) -> Table:
    """The best complete trials, with the hyperparameters that the space varies."""
    ranked = sorted((t for t in trials if t.state == "complete"), key=lambda t: -(t.objective or 0.0))[:most]
    made = Table(title="mean validation accuracy (percent)")
    for column in ("trial", "objective", *(ranked[0].val_accuracy if ranked else ()), "seconds"):
        made.add_column(column, justify="right", overflow="fold")
    made.add_column("hyperparameters", overflow="fold")
    for trial in ranked:
        shown = (
            f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
            for section, values in trial.hyperparameters.items()
            for name, value in values.items()
            if space.dimensions[section][name].varies
        )
        made.add_row(
            str(trial.number),
            f"{trial.objective:.2f}",
            *(f"{mean(accuracies):.2f}" for accuracies in trial.val_accuracy.values()),
            f"{trial.seconds:.1f}",
            " ".join(shown),
        )
    return made


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
