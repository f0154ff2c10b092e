"""The versions that a result was made with."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Mapping


def versions(packages: tuple[str, ...]) -> Mapping[str, str]:
    """Those of Python, of this library, of PyTorch, PyG and NumPy, and of ``packages`` where they are installed."""
    found = {"python": platform.python_version()}
    for package in ("contractive-gnn", "torch", "torch-geometric", "numpy", *packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
