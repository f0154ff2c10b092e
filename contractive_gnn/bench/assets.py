"""The files of ``pages/``, which become parts of a page."""

from __future__ import annotations

import json
from importlib import resources
from string import Template


def asset(name: str) -> str:
    """A file of ``pages/``."""
    return resources.files("contractive_gnn.bench").joinpath("pages").joinpath(name).read_text(encoding="utf-8")


def fill(name: str, **values: str) -> str:
    """A file of ``pages/`` with its places filled: every one, and with nothing else."""
    return Template(asset(name)).substitute(values)


def embedded(data: object) -> str:
    """JSON that may stand inside a script element, whatever texts are in it."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
