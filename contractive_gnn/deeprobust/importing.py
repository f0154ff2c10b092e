"""The import of DeepRobust, which nobody else does."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any, Final

from contractive_gnn.deeprobust.errors import DeepRobustMissing
from contractive_gnn.deeprobust.stand_ins import stand_ins

_IMPORTING: Final = threading.Lock()


def import_deeprobust(module: str) -> Any:
    """Import ``deeprobust.<module>``, for example ``"graph.global_attack"``.

    DeepRobust imports torch_sparse and torch_scatter, which have no wheels for current PyTorch. Where they cannot be
    imported, stand-ins made of ``torch_geometric.utils`` take their places in ``sys.modules`` during the import.

    Raises:
        DeepRobustMissing: it is not installed; the text says how to install it.
    """
    name = f"deeprobust.{module}"
    if (known := sys.modules.get(name)) is not None:
        return known
    with _IMPORTING, stand_ins():
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise DeepRobustMissing(
                f"{name} cannot be imported ({error}); DeepRobust and what it needs come with the extra: "
                "pip install 'contractive-gnn[attacks]'"
            ) from error
