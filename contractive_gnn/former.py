"""Names that models and their hyperparameters had before: read for one release more, and never written.

Results keep the names under which they were measured. A line with a former name and one with the name of today speak of
one model, so a run that is resumed measures nothing anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

MODELS: Final[Mapping[str, str]] = {"hedged": "mixture", "robust-hedged": "robust-mixture"}
"""The name of today by the former one."""

_WIDTH: Final = {"hidden": "hidden_channels"}
_STEPS: Final = {**_WIDTH, "num_steps": "num_layers"}
_DIFFUSION: Final = {**_STEPS, "sigma": "activation"}
_FLOW: Final = {**_DIFFUSION, "weight": "learn_weight"}
_LEARNED: Final = {**_WIDTH, "sigma": "activation", "weight": "learn_weight"}

HYPERPARAMETERS: Final[Mapping[str, Mapping[str, str]]] = {
    **dict.fromkeys(("mlp", "robust-distilled", "gcn", "gat", "gnnguard"), _WIDTH),
    **dict.fromkeys(("rgcn", "gcn-jaccard", "gcn-svd", "median-gcn", "simp-gcn", "pro-gnn"), _WIDTH),
    **dict.fromkeys(("appnp", "rung", "elastic-gnn", "robust-provable"), _STEPS),
    **dict.fromkeys(("linf-diffusion", "certified", "certified-distilled", "robust"), _DIFFUSION),
    **dict.fromkeys(("csgnn", "csgnn-noadj", "ecsgnn", "csgnn-published"), _LEARNED),
    "gradient-flow": {**_LEARNED, **_STEPS},
    # flows of the registry as models
    **dict.fromkeys(("gradient-flow-linear", "gradient-flow-degree", "gradient-flow-unnormalised"), _FLOW),
    **dict.fromkeys(("redescending-flow", "gradient-ascent", "hamiltonian-flow"), _FLOW),
    **dict.fromkeys(("diffusion", "diffusion-linear", "implicit-flow"), _DIFFUSION),
    "mixture": {"share": "weight"},
    "robust-mixture": {"share": "weight"},
}
"""Of the constructor of each model: the name of today by the former one."""


def current_model(name: str, *, warn: bool = True) -> str:
    """The name of a model today; with a DeprecationWarning where it was called otherwise, unless ``warn`` is False."""
    now = MODELS.get(name, name)
    if warn and now != name:
        warnings.warn(f"the model {name!r} is called {now!r} now; write {now!r}", DeprecationWarning, stacklevel=3)
    return now


def current_keyword(model: str, keyword: str) -> str:
    """The name of a hyperparameter of a model today."""
    return HYPERPARAMETERS.get(current_model(model, warn=False), {}).get(keyword, keyword)


def current_hyperparameters(model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters of a model by the names of today, without a warning: its own, and those of models in it.

    Args:
        model: its name, former or not.
        given: as in a line of results: ``{"model": {…}, "training": {…}, …}``.
    """
    own = given.get("model", {})
    renamed = {current_keyword(model, key): value for key, value in own.items()} if isinstance(own, Mapping) else own
    if isinstance(renamed, Mapping) and isinstance(student := renamed.get("student"), Mapping):  # a perceptron
        renamed = {**renamed, "student": {current_keyword("mlp", key): value for key, value in student.items()}}
    return {key: _inside(renamed if key == "model" else value) for key, value in given.items()}


def _inside(value: Any) -> Any:
    """The same value, with the models that it describes, ``{"name": MODEL, "model": {…}, …}``, by today's names."""
    if isinstance(value, Mapping):
        if isinstance(name := value.get("name"), str) and set(value) <= {"name", "model", "training"}:
            return {"name": current_model(name, warn=False), **current_hyperparameters(name, _without_name(value))}
        return {key: _inside(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_inside(part) for part in value]
    return value


def _without_name(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in value.items() if key != "name"}
