"""Other people's code: found, and imported once.

In two ways: a distribution declares an entry point in the group ``contractive_gnn.plugins``, or a file or module is
named in ``$CONTRACTIVE_GNN_PLUGINS`` (separated like ``$PATH``; the option ``--plugin`` of the commands adds to it).
Worker processes import the same. What is imported calls :func:`contractive_gnn.dynamics.register`,
:func:`contractive_gnn.attacks.register` or :func:`contractive_gnn.nn.register`.

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
from typing import Any

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
        registered: the names of the dynamics, models and attacks that it registered.
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


def load_plugins(expected: Mapping[str, str] | None = None) -> None:
    """Import every plug-in that has not been imported yet. One that fails leaves nothing registered.

    Args:
        expected: of :func:`loaded` in another process, whose plug-ins these are.

    Raises:
        PluginError: if one cannot be imported or takes a model's name, with its name and the reason; or if its code is
            no longer what is expected.
    """
    for entry in entry_points(group=GROUP):
        _load(f"{entry.name} = {entry.value}", entry.module, lambda entry=entry: _load_entry(entry))  # type: ignore[misc]
    places = filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))
    for place in dict.fromkeys(str(Path(place).resolve()) if place.endswith(".py") else place for place in places):
        if place.endswith(".py"):
            _load(place, Path(place).name, lambda place=place: _run(Path(place)))  # type: ignore[misc]
        else:
            _load(place, place, lambda place=place: _import(place))  # type: ignore[misc]
    here = loaded()
    if changed := [place for place, digest in (expected or {}).items() if here.get(place, digest) != digest]:
        raise PluginError(f"the plug-in {changed[0]} has changed since this run began; start it again")


def _load(place: str, name: str, load: Callable[[], str]) -> None:
    """Import one plug-in; ``load`` returns the digest of its code."""
    if place in _loaded:
        return
    from contractive_gnn.activations import ACTIVATIONS
    from contractive_gnn.attacks import ATTACKS
    from contractive_gnn.dynamics.registry import DYNAMICS  # which imports this module
    from contractive_gnn.integrators import SCHEMES
    from contractive_gnn.nn.models import MODELS

    registries: tuple[dict[str, Any], ...] = (DYNAMICS, MODELS, ATTACKS, ACTIVATIONS, SCHEMES._things)
    before = [dict(registry) for registry in registries]
    _loaded[place] = None  # before it runs: a plug-in may ask for the registry itself
    try:
        digest = load()
        if taken := [new for new in DYNAMICS if new not in before[0] and new in MODELS]:
            raise ValueError(f"{', '.join(taken)} is a model's name, which hides the dynamics; register another name")
    except (Exception, SystemExit) as error:
        del _loaded[place]
        for registry, earlier in zip(registries, before, strict=True):
            registry.clear()
            registry.update(earlier)
        raise PluginError(f"the plug-in {place} cannot be imported: {type(error).__name__}: {error}") from error
    registered = {
        key
        for registry, earlier in zip(registries, before, strict=True)
        for key, value in registry.items()
        if earlier.get(key) is not value
    }
    _loaded[place] = Plugin(name, digest, frozenset(registered))


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
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    source = path.read_bytes()
    try:
        # Not by its loader, which may run what it compiled of an earlier content: the digest is that of what runs.
        exec(compile(source, str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return hashlib.sha256(source).hexdigest()[:12]
