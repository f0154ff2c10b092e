"""Other people's code: found, and imported once.

In two ways: a distribution declares an entry point in the group ``contractive_gnn.plugins``, or a file or module is
named in ``$CONTRACTIVE_GNN_PLUGINS`` (separated like ``$PATH``; the option ``--plugin`` of the commands adds to it, and
worker processes inherit it). What is imported calls :func:`contractive_gnn.dynamics.register`.
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

GROUP = "contractive_gnn.plugins"
VARIABLE = "CONTRACTIVE_GNN_PLUGINS"

_loaded: set[str] = set()


class PluginError(RuntimeError):
    """A plug-in that cannot be imported."""


def add_plugin(place: str) -> None:
    """Add a file or a module to ``$CONTRACTIVE_GNN_PLUGINS``, for this process and those that it starts."""
    if os.pathsep in place:
        raise PluginError(f"a plug-in's path cannot hold {os.pathsep!r}, got {place!r}; rename it, or give a module")
    known = list(filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)))
    place = str(Path(place).resolve()) if place.endswith(".py") else place
    if place not in known:
        os.environ[VARIABLE] = os.pathsep.join([*known, place])


def plugin_files() -> dict[str, str]:
    """The files in ``$CONTRACTIVE_GNN_PLUGINS`` with the first 12 digits of their SHA-256: the version of that code."""
    places = [Path(place) for place in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))]
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in places
        if path.suffix == ".py" and path.is_file()
    }


def load_plugins() -> None:
    """Import every plug-in that has not been imported yet. One that fails leaves no dynamics registered.

    Raises:
        PluginError: if one cannot be imported or takes a model's name, with its name and the reason.
    """
    for entry in entry_points(group=GROUP):
        _load(f"{entry.name} = {entry.value}", entry.load)
    places = filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))
    for place in dict.fromkeys(str(Path(place).resolve()) if place.endswith(".py") else place for place in places):
        _load(place, lambda place=place: _import(place))  # type: ignore[misc]


def _load(name: str, load: Callable[[], object]) -> None:
    if name in _loaded:
        return
    from contractive_gnn.dynamics.registry import DYNAMICS  # which imports this module
    from contractive_gnn.nn.models import MODELS

    before = dict(DYNAMICS)
    _loaded.add(name)  # before it runs: a plug-in may ask for the registry itself
    try:
        load()
        if taken := [new for new in DYNAMICS if new not in before and new in MODELS]:
            raise ValueError(f"{', '.join(taken)} is a model's name, which hides the dynamics; register another name")
    except Exception as error:
        _loaded.discard(name)
        DYNAMICS.clear()
        DYNAMICS.update(before)
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
