"""Other people's code: found, and imported once.

In two ways: a distribution declares an entry point in the group ``contractive_gnn.plugins``, or a file or module is
named in ``$CONTRACTIVE_GNN_PLUGINS`` (separated like ``$PATH``; the option ``--plugin`` of the commands adds to it).
What is imported calls the ``register`` of :mod:`contractive_gnn.dynamics`, :mod:`~contractive_gnn.nn`,
:mod:`~contractive_gnn.attacks` or :mod:`~contractive_gnn.datasets`.

The command line loads them, each of its worker processes imports the same, and nothing else does. In a script, import
the module of the plug-in: that registers it. Or call :func:`load_plugins`, for all that this environment declares.

A number that a plug-in has a part in belongs to this very code of it: its digest is among the hyperparameters of the
results and in the name of an attacked graph's file (:func:`digests`).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from contractive_gnn.registry import registered, transaction

GROUP = "contractive_gnn.plugins"
VARIABLE = "CONTRACTIVE_GNN_PLUGINS"


class PluginError(RuntimeError):
    """A plug-in that cannot be imported."""


@dataclass(frozen=True)
class Plugin:
    """A plug-in that has been imported.

    Attributes:
        name: the file's name, or the module's.
        digest: the first 12 digits of the SHA-256 of its code: of the file; of a module, all the ``.py`` files of the
            package that it belongs to.
        registered: the names of all that it registered.
    """

    name: str
    digest: str
    registered: frozenset[str]


#: by place; None while it is being imported
_loaded: dict[str, Plugin | None] = {}


def add_plugins(places: Iterable[str]) -> None:
    """Add files and modules to ``$CONTRACTIVE_GNN_PLUGINS``, for this process and those that it starts, and load all.

    Raises:
        PluginError: see :func:`load_plugins`; the variable is as it was.
    """
    before = os.environ.get(VARIABLE, "")
    known = list(filter(None, before.split(os.pathsep)))
    for place in places:
        if not place or os.pathsep in place:
            raise PluginError(f"expected a Python file or the name of a module, without {os.pathsep!r}, got {place!r}")
        known.append(str(Path(place).resolve()) if place.endswith(".py") else place)
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys(known))
    try:
        load_plugins()
    except PluginError:
        os.environ[VARIABLE] = before
        raise


def versions() -> dict[str, str]:
    """The digest of every plug-in that has been imported, by its name."""
    found: dict[str, str] = {}
    for plugin in filter(None, _loaded.values()):
        # two files may have one name
        found[plugin.name] = ", ".join(filter(None, (found.get(plugin.name), plugin.digest)))
    return found


def digests(names: Iterable[str]) -> dict[str, str]:
    """The digests of all plug-ins if one of them has a part in what is called by these names, else none.

    A plug-in has one that registered one of the names, or nothing: what it changes cannot be told. And what it builds
    may be made of what the others registered.
    """
    used, imported = set(names), [plugin for plugin in _loaded.values() if plugin is not None]
    return versions() if any(not plugin.registered or plugin.registered & used for plugin in imported) else {}


def loaded() -> dict[str, str]:
    """The digest of every plug-in that has been imported, by its place: what other processes compare with."""
    return {place: plugin.digest for place, plugin in _loaded.items() if plugin is not None}


def load_plugins(only: Mapping[str, str] | None = None) -> None:
    """Import every plug-in that has not been imported yet. One that fails leaves nothing registered.

    Args:
        only: of :func:`loaded` in another process: import what that one imported, and nothing else. By default all
            entry points, and all that ``$CONTRACTIVE_GNN_PLUGINS`` names.

    Raises:
        PluginError: if one cannot be imported or takes a name that there is, with its name and the reason; or if its
            code is no longer that of the other process.
    """
    entries = {f"{entry.name} = {entry.value}": entry for entry in entry_points(group=GROUP)}
    if only is None:
        named = filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))
        places = [*entries, *(str(Path(place).resolve()) if place.endswith(".py") else place for place in named)]
    else:
        places = list(only)
    for place in dict.fromkeys(places):
        if place in entries:
            _load(place, entries[place].module, lambda place=place: _load_entry(entries[place]))  # type: ignore[misc]
        elif place.endswith(".py"):
            _load(place, Path(place).name, lambda place=place: _run(Path(place)))  # type: ignore[misc]
        else:
            _load(place, place, lambda place=place: _import(place))  # type: ignore[misc]
    here = loaded()
    if changed := [place for place, digest in (only or {}).items() if here.get(place) != digest]:
        raise PluginError(f"the plug-in {changed[0]} has changed since this run began; start it again")


def _load(place: str, name: str, load: Callable[[], str]) -> None:
    """Import one plug-in; ``load`` returns the digest of its code."""
    if place in _loaded:
        return
    # All that have a registry, so that a failure is undone in all. Only now: most runs have no plug-in.
    from contractive_gnn import activations, attacks, datasets, dynamics, integrators, nn  # noqa: F401

    before = registered()
    _loaded[place] = None  # before it runs: a plug-in may load the others
    try:
        with transaction():
            digest = load()
    except (Exception, SystemExit) as error:
        del _loaded[place]
        raise PluginError(f"the plug-in {place} cannot be imported: {type(error).__name__}: {error}") from error
    new = {name for (kind, name), thing in registered().items() if before.get((kind, name)) is not thing}
    _loaded[place] = Plugin(name, digest, frozenset(new))


def _load_entry(entry: Any) -> str:
    entry.load()
    return _module_digest(entry.module)


def _import(module: str) -> str:
    importlib.import_module(module)
    return _module_digest(module)


def _module_digest(module: str) -> str:
    """Of the whole package: what a plug-in imports from there is its code, too."""
    top = sys.modules[module.partition(".")[0]]
    if hasattr(top, "__path__"):
        folders = [Path(folder) for folder in top.__path__]
        files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    else:
        files = [] if top.__file__ is None else [Path(top.__file__)]
    each = (hashlib.sha256(file.read_bytes()).digest() for file in files)
    return hashlib.sha256(b"".join(each)).hexdigest()[:12]


def _run(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; expected a Python file, or the name of a module")
    # By the path, so that two files of one name do not meet, and the same in every process, so that objects pickle.
    name = f"contractive_gnn_plugin_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    source = path.read_bytes()
    run_source(source, path, name)
    return source_digest(source)


def source_digest(source: bytes) -> str:
    """The first 12 digits of its SHA-256."""
    return hashlib.sha256(source).hexdigest()[:12]


def run_source(source: bytes, path: Path, name: str) -> ModuleType:
    """What a file holds as a module of that name, which is forgotten where an error ends it.

    Args:
        source: the content. Not by the file's loader, which may run what it compiled of an earlier content: the digest
            is that of what runs.
        path: of the file.
        name: under which the module is imported.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module
