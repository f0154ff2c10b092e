"""Hyperparameters of each model on each data set, from the packaged ``presets/<model>.json`` or a user's own file.

A preset file is ``{"default": {"model": {…}, "training": {…}}, "cora": {…}, …}``: the arguments of
:func:`contractive_gnn.nn.build` and of :func:`contractive_gnn.training.fit`. "default" serves every data set without an
entry of its own; an entry stands for itself and inherits nothing. In the place of the training's ``teacher``, a module,
stands what to build and fit first: ``{"name": MODEL, "model": {…}, "training": {…}}``.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contractive_gnn.former import current_model

if TYPE_CHECKING:
    from importlib.abc import Traversable

Preset = dict[str, dict[str, Any]]

SECTIONS = ("model", "training")


class PresetError(ValueError):
    """A preset that is missing or malformed."""


def preset_names() -> list[str]:
    """The names of the packaged presets."""
    folder = resources.files("contractive_gnn.bench") / "presets"
    return sorted(file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json"))


def load_preset(model: str, dataset: str) -> Preset:
    """The hyperparameters of ``model`` on ``dataset``: ``{"model": {…}, "training": {…}}``.

    A model without a preset file runs with the defaults of its constructor and of the training.

    Raises:
        PresetError: see :func:`read_preset`.
    """
    file = resources.files("contractive_gnn.bench") / "presets" / f"{current_model(model)}.json"
    return read_preset(file, dataset) if file.is_file() else {section: {} for section in SECTIONS}


def parse_preset(text: str, dataset: str) -> tuple[str, Preset]:
    """The model and the hyperparameters that ``MODEL=FILE.json`` names.

    Raises:
        PresetError: it has another form, or there is no such file; and see :func:`read_preset`.
    """
    model, _, path = text.partition("=")
    if not (model and path):
        raise PresetError(f"--preset {text!r}: expected MODEL=FILE.json, like gcn=runs/tune/preset.json")
    if not Path(path).is_file():
        raise PresetError(f"--preset {text!r}: there is no file {path}")
    return model, read_preset(Path(path), dataset)


def read_preset(file: Traversable, dataset: str) -> Preset:
    """The entry of one preset file for ``dataset``.

    Raises:
        PresetError: the file has neither an entry for the data set nor "default", or an entry of another form.
    """
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PresetError(f"the preset file {file} is not JSON: {error}") from error
    entry = entries.get(dataset, entries.get("default")) if isinstance(entries, dict) else None
    if entry is None:
        raise PresetError(f"the preset file {file} has neither {dataset!r} nor 'default'; add one of them")
    if (
        not isinstance(entry, dict)
        or set(entry) - set(SECTIONS)
        or not all(isinstance(v, dict) for v in entry.values())
    ):
        raise PresetError(
            f"the preset file {file}, entry for {dataset!r}: expected {{'model': {{…}}, 'training': {{…}}}}"
            f", got {entry!r}"
        )
    return {section: dict(entry.get(section, {})) for section in SECTIONS}
