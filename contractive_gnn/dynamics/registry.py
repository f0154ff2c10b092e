"""The dynamics by name, ours and other people's.

A registered name is a row of ``contractive-gnn verify`` and a model of ``contractive-gnn bench``. Code outside this
package is found in two ways: a distribution declares an entry point in the group ``contractive_gnn.plugins``, or a file
or module is named in ``$CONTRACTIVE_GNN_PLUGINS`` (separated like ``$PATH``; the option ``--plugin`` of the commands
sets it). Either way it is imported once and calls :func:`register`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

from contractive_gnn.activations import Identity, LeakyReLU
from contractive_gnn.dynamics.adjacency import AdjacencyFlow
from contractive_gnn.dynamics.ascent import GradientAscent
from contractive_gnn.dynamics.base import Dynamics
from contractive_gnn.dynamics.coupled import CoupledFlow
from contractive_gnn.dynamics.diffusion import Diffusion
from contractive_gnn.dynamics.gradient_flow import GradientFlow
from contractive_gnn.dynamics.hamiltonian import HamiltonianFlow
from contractive_gnn.dynamics.implicit import ImplicitFlow

Factory = Callable[..., Dynamics]
"""``factory(channels, **hyperparameters) -> Dynamics``; a class whose first argument is the channels is one."""

GROUP = "contractive_gnn.plugins"
VARIABLE = "CONTRACTIVE_GNN_PLUGINS"

DYNAMICS: dict[str, Factory] = {}

F = TypeVar("F", bound=Factory)


class PluginError(RuntimeError):
    """A plug-in that cannot be imported."""


def register(name: str) -> Callable[[F], F]:
    """Register a class or a function ``(channels, **hyperparameters) -> Dynamics`` under a name.

    Args:
        name: lower-case words joined by hyphens.

    Raises:
        ValueError: if the name is taken by something else, or has other characters.
    """
    if not name or not all(part.isalnum() and part == part.lower() for part in name.split("-")):
        raise ValueError(f"a name is lower-case words joined by hyphens, like 'gradient-flow', got {name!r}")

    def add(factory: F) -> F:
        if name in DYNAMICS:
            raise ValueError(f"the dynamics {name!r} is registered already, by {DYNAMICS[name]}; choose another name")
        DYNAMICS[name] = factory
        return factory

    return add


_loaded: set[str] = set()


def load_plugins() -> None:
    """Import every plug-in that has not been imported yet.

    Raises:
        PluginError: if one cannot be imported, with its name and the reason.
    """
    for entry in entry_points(group=GROUP):
        _load(f"{entry.name} = {entry.value}", entry.load)
    for place in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        _load(place, lambda place=place: _import(place))  # type: ignore[misc]


def _load(name: str, load: Callable[[], object]) -> None:
    if name in _loaded:
        return
    _loaded.add(name)  # before it runs: a plug-in may ask for the registry itself
    try:
        load()
    except Exception as error:
        _loaded.discard(name)
        raise PluginError(f"the plug-in {name} cannot be imported: {type(error).__name__}: {error}") from error


def _import(place: str) -> None:
    path = Path(place)
    if path.suffix != ".py":
        importlib.import_module(place)
        return
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; expected a Python file, or the name of a module")
    # By the path, so that two files of one name do not meet, and the same in every process, so that objects pickle.
    name = f"contractive_gnn_plugin_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def names() -> list[str]:
    """The names of all registered dynamics, plug-ins included.

    Raises:
        PluginError: see :func:`load_plugins`.
    """
    load_plugins()
    return list(DYNAMICS)


def build(name: str, channels: int, **hyperparameters: object) -> Dynamics:
    """Build a registered dynamics.

    Raises:
        ValueError: if the name is unknown.
        PluginError: see :func:`load_plugins`.
    """
    known = names()
    if name not in known:
        raise ValueError(f"unknown dynamics {name!r}; expected one of {', '.join(known)}")
    return DYNAMICS[name](channels, **hyperparameters)


register("gradient-flow")(GradientFlow)


@register("gradient-flow-linear")
def _(channels: int, **flow: object) -> GradientFlow:
    return GradientFlow(channels, **{"sigma": "identity", "mu": 0.1, **flow})  # type: ignore[arg-type]


@register("gradient-flow-degree")
def _(channels: int, **flow: object) -> GradientFlow:
    return GradientFlow(channels, **{"normalization": "degree", "mu": 0.1, **flow})  # type: ignore[arg-type]


@register("gradient-flow-unnormalised")
def _(channels: int, **flow: object) -> GradientFlow:
    return GradientFlow(channels, **{"normalization": "none", "sigma": "group-huber", **flow})  # type: ignore[arg-type]


@register("redescending-flow")
def _(channels: int, **flow: object) -> GradientFlow:
    # slopes down to −1 and ‖G‖² ≤ 2, so it contracts for μ > 2
    return GradientFlow(channels, **{"sigma": "group-mcp", "mu": 2.1, "weight": False, **flow})  # type: ignore[arg-type]


@register("diffusion")
def _(channels: int, **flow: object) -> Diffusion:
    return Diffusion(**flow)  # type: ignore[arg-type]


@register("diffusion-linear")
def _(channels: int, **flow: object) -> Diffusion:
    return Diffusion(**{"sigma": "identity", **flow})  # type: ignore[arg-type]


register("gradient-ascent")(GradientAscent)
register("hamiltonian-flow")(HamiltonianFlow)
register("implicit-flow")(ImplicitFlow)


def _adjacency(form: str, **defaults: object) -> Factory:
    def factory(channels: int, **flow: object) -> AdjacencyFlow:
        return AdjacencyFlow(**{"form": form, "scale": 0.5, **defaults, **flow})  # type: ignore[arg-type]

    return factory


register("adjacency-l1-inside")(_adjacency("l1-inside"))
register("adjacency-l1-outside")(_adjacency("l1-outside"))
register("adjacency-max-outside")(_adjacency("max-outside"))
register("adjacency-linear")(_adjacency("l1-inside", sigma=Identity()))
register("adjacency-published")(_adjacency("published"))


@register("coupled-flow")
def _(channels: int, **flow: object) -> CoupledFlow:
    adjacency = AdjacencyFlow(form="l1-inside", sigma=LeakyReLU(0.2), alpha=-1.0, scale=0.5)
    return CoupledFlow(Diffusion(), adjacency, **flow)  # type: ignore[arg-type]
