"""Where a search looks for hyperparameters: the packaged ``spaces/<model>.json``, or a user's own file."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from contractive_gnn import training
from contractive_gnn.bench import own_models
from contractive_gnn.bench.presets import SECTIONS, Preset
from contractive_gnn.bench.protocol import check_names
from contractive_gnn.dynamics import GradientAscent, GraphGradientFlow, HamiltonianFlow, registry
from contractive_gnn.former import current_keyword, current_model
from contractive_gnn.names import unknown
from contractive_gnn.nn import MODELS, Similarity, flow_gnn, gradient_flow, robust, robust_provable
from contractive_gnn.trainable import TrainsItself, declares

if TYPE_CHECKING:
    import optuna

#: whose keyword arguments those models take that take any
_HANDED_ON: dict[Callable[..., Any], Callable[..., Any]] = {
    gradient_flow: GraphGradientFlow,
    robust: Similarity,
    robust_provable: Similarity,
    GradientAscent: GraphGradientFlow,
    HamiltonianFlow: GraphGradientFlow,
}
#: what the search itself hands to the training
_NOT_TUNED = ("seed", "on_epoch")


class SpaceError(ValueError):
    """A space that is missing or malformed; the text says where and what was expected."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; whole ones where both are.

    Attributes:
        low: the least.
        high: the greatest.
        log: whether to draw their logarithm.
        step: distance of neighbours; None for every number.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        given = (self.low, self.high, *(() if self.step is None else (self.step,)))
        if not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in given):
            raise ValueError(f"expected numbers for low, high and step, got {', '.join(map(repr, given))}")
        if not isinstance(self.log, bool):
            raise ValueError(f"expected true or false for log, got {self.log!r}")
        if not self.low < self.high:
            raise ValueError(f"expected low below high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range begins above 0, got low = {self.low}")
        if self.step is not None and (self.log or self.step <= 0):
            raise ValueError(f"expected a step above 0 and no log beside it, got step = {self.step}, log = {self.log}")

    @property
    def example(self) -> float:
        """Some value."""
        return self.low

    @property
    def varies(self) -> bool:
        """Whether there is more than one value."""
        return True

    def draw(self, trial: optuna.Trial, name: str) -> float:
        """A value of the trial's."""
        if all(isinstance(v, int) for v in (self.low, self.high, self.step or 1)):
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return trial.suggest_float(name, self.low, self.high, log=self.log, step=self.step)


@dataclass(frozen=True)
class Choice:
    """One of several values, of any kind that JSON knows."""

    values: Sequence[Any]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("expected at least one value in the list")

    @property
    def example(self) -> Any:
        """Some value."""
        return self.values[0]

    @property
    def varies(self) -> bool:
        """Whether there is more than one value."""
        return len(self.values) > 1

    def draw(self, trial: optuna.Trial, name: str) -> Any:
        """A value of the trial's."""
        return json.loads(trial.suggest_categorical(name, [json.dumps(value) for value in self.values]))


@dataclass(frozen=True)
class Space:
    """Where to search: hyperparameters of the model and of the training, each with its values.

    What it does not name keeps the default of the model's constructor or of the training. No preset is looked at.

    Attributes:
        given: as in the file, ``{"model": {NAME: …}, "training": {NAME: …}}``, where … is a list to choose from, a
            range ``{"low": …, "high": …[, "log": true][, "step": …]}``, or the one value that it has.
        place: where it comes from, for errors.
    """

    given: Mapping[str, Mapping[str, Any]]
    place: str

    @classmethod
    def read(cls, file: Path | None, model: str) -> Space:
        """The space in ``file``, or the packaged one of ``model``.

        Raises:
            ProtocolError: there is no such model.
            SpaceError: there is no such file, or it is not JSON.
        """
        model = current_model(model)
        check_names("model", [model], own_models.names())
        folder = resources.files("contractive_gnn.bench") / "spaces"
        source = folder / f"{model}.json" if file is None else file
        if not source.is_file():
            if file is not None:
                raise SpaceError(f"--space {file}: there is no such file")
            packaged = [entry.name.removesuffix(".json") for entry in folder.iterdir()]
            raise SpaceError(f"{unknown('packaged space', [model], packaged)}; or give your own with --space FILE.json")
        try:
            return cls(json.loads(source.read_text(encoding="utf-8")), f"the space in {source}")
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise SpaceError(f"the space in {source} is not JSON: {error}") from error

    @cached_property
    def dimensions(self) -> Mapping[str, Mapping[str, Range | Choice]]:
        """The values by section and name, both sections always.

        Raises:
            SpaceError: it has another form, or nothing that varies.
        """
        form = "{'model': {…}, 'training': {…}}"
        given = self.given
        if not isinstance(given, Mapping) or not all(isinstance(values, Mapping) for values in given.values()):
            raise SpaceError(f"{self.place}: expected {form}, got {given!r}")
        if strange := [section for section in given if section not in SECTIONS]:
            raise SpaceError(f"{self.place}: expected {form}, got the section(s) {', '.join(map(repr, strange))}")
        read = {s: {name: self._dimension(s, name, v) for name, v in given.get(s, {}).items()} for s in SECTIONS}
        if not any(dimension.varies for section in read.values() for dimension in section.values()):
            raise SpaceError(f"{self.place} has nothing to search: no hyperparameter in it has more than one value")
        return read

    def _dimension(self, section: str, name: str, given: Any) -> Range | Choice:
        try:
            if isinstance(given, Mapping):
                inspect.signature(Range).bind(**given)
                return Range(**given)
            return Choice(tuple(given) if isinstance(given, list) else (given,))
        except (TypeError, ValueError) as error:
            raise SpaceError(
                f"{self.place}, {section}.{name}: {error}; expected a list of values, one value, or a range like "
                '{"low": 0.01, "high": 1, "log": true}'
            ) from error

    def check(self, model: str) -> None:
        """Compare its names with what the model and the training take.

        Raises:
            SpaceError: one of them is unknown.
        """
        if self.dimensions["training"] and declares(MODELS.get(model, None), TrainsItself):
            raise SpaceError(f"{self.place}: the model {model!r} trains itself; name its hyperparameters under 'model'")
        for section, known in (("model", model_hyperparameters(model)), ("training", TRAINING)):
            names = self.dimensions[section]
            now = {name: current_keyword(model, name) if section == "model" else name for name in names}
            if known is not None and (strange := [name for name in names if now[name] not in known]):
                raise SpaceError(
                    f"{self.place}, for the model {model!r}: {unknown(f'{section} hyperparameter', strange, known)}"
                )

    def example(self) -> Preset:
        """Some setting."""
        return {s: {name: d.example for name, d in values.items()} for s, values in self.dimensions.items()}

    def draw(self, trial: optuna.Trial) -> Preset:
        """The trial's setting."""
        return {
            section: {name: dimension.draw(trial, f"{section}.{name}") for name, dimension in values.items()}
            for section, values in self.dimensions.items()
        }


def model_hyperparameters(model: str) -> tuple[str, ...] | None:
    """The names that a model's constructor takes; None where it takes any, and it is not known whom it hands them."""
    if (mine := own_models.get(model)) is not None:
        return mine.hyperparameters()
    if model in MODELS:
        return _keywords(MODELS[model])
    own = _keywords(registry.DYNAMICS[model], but_first=True)
    around = [p.name for p in inspect.signature(flow_gnn).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return None if own is None else tuple(dict.fromkeys([*own, *(name for name in around if name != "dynamics")]))


def _keywords(function: Callable[..., Any], *, but_first: bool = False) -> tuple[str, ...] | None:
    parameters = list(inspect.signature(function).parameters.values())[but_first:]
    wanted = (p for p in parameters if p.kind is p.KEYWORD_ONLY or (but_first and p.kind is p.POSITIONAL_OR_KEYWORD))
    names = [p.name for p in wanted if p.name not in _NOT_TUNED]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        taker = _HANDED_ON.get(function)
        if taker is None and function.__module__ == registry.__name__:  # each hands them to what it returns
            taker = get_type_hints(function).get("return")
        if taker is None:
            return None
        names += _keywords(taker) or ()
    return tuple(dict.fromkeys(names))


#: what :func:`contractive_gnn.training.fit` takes from a preset, a space or ``--set``
TRAINING = training.FitOptions.names()
