"""What takes the places of torch_sparse and torch_scatter while DeepRobust is imported."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from torch import Tensor
from torch_geometric.utils import coalesce, scatter

from contractive_gnn.deeprobust.errors import DeepRobustMissing


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """Inside the block torch_sparse and torch_scatter can be imported: as they are installed, or as stand-ins."""
    placed: dict[str, ModuleType] = {}
    sparse = {"SparseTensor": SparseTensor, "coalesce": _coalesce, "matmul": absent, "set_diag": absent}
    for name, contents in (("torch_sparse", sparse), ("torch_scatter", {"scatter_add": _scatter_add})):
        try:
            importlib.import_module(name)
        except (ImportError, OSError, RuntimeError):  # the last two: compiled for another PyTorch or CUDA
            placed[name] = ModuleType(name)
            vars(placed[name]).update(contents)
    sys.modules.update(placed)
    try:
        yield
    finally:
        for name in placed:
            del sys.modules[name]


class SparseTensor:
    """Has no instances: DeepRobust only asks whether an ``edge_index`` is one."""


def absent(*_: Any, **__: Any) -> Any:
    """In the place of what has no stand-in."""
    raise DeepRobustMissing("this path of DeepRobust works on torch_sparse.SparseTensor and needs torch_sparse itself")


def _coalesce(index: Tensor, value: Tensor, m: int, n: int, op: str = "add") -> tuple[Tensor, Tensor]:
    merged: tuple[Tensor, Tensor] = coalesce(index, value, num_nodes=max(m, n), reduce=op)
    return merged


def _scatter_add(src: Tensor, index: Tensor, dim: int = -1, out: None = None, dim_size: int | None = None) -> Tensor:
    summed: Tensor = scatter(src, index, dim=dim, dim_size=dim_size, reduce="sum")
    return summed
