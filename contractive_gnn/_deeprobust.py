"""The border to DeepRobust 0.2.11, which was written for torch 1.x and NumPy 1.x.

Everything that its age requires happens here, and only while its code is being imported or run: nothing of DeepRobust,
NumPy or ``sys.modules`` stays changed afterwards.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import coalesce, scatter

_IMPORTING: Final = threading.Lock()


class DeepRobustMissing(ImportError):
    """DeepRobust, or something that it needs, is not installed."""


def import_deeprobust(module: str) -> Any:
    """Import ``deeprobust.<module>``, for example ``"graph.global_attack"``.

    DeepRobust imports torch_sparse and torch_scatter, which have no wheels for current PyTorch. Where they cannot be
    imported, stand-ins made of ``torch_geometric.utils`` take their places in ``sys.modules`` during the import.

    Raises:
        DeepRobustMissing: it is not installed; the text says how to install it.
    """
    name = f"deeprobust.{module}"
    if name in sys.modules:
        return sys.modules[name]
    with _IMPORTING, _stand_ins():
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise DeepRobustMissing(
                f"{name} cannot be imported ({error}); DeepRobust and what it needs come with the extra: "
                "pip install contractive-gnn[attacks]"
            ) from error


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    placed: dict[str, ModuleType] = {}
    sparse = {"SparseTensor": _SparseTensor, "coalesce": _coalesce, "matmul": _absent, "set_diag": _absent}
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


class _SparseTensor:
    """Has no instances: DeepRobust only asks whether an ``edge_index`` is one."""


def _absent(*_: Any, **__: Any) -> Any:
    raise DeepRobustMissing("this path of DeepRobust works on torch_sparse.SparseTensor and needs torch_sparse itself")


def _coalesce(index: Tensor, value: Tensor, m: int, n: int, op: str = "add") -> tuple[Tensor, Tensor]:
    merged: tuple[Tensor, Tensor] = coalesce(index, value, num_nodes=max(m, n), reduce=op)
    return merged


def _scatter_add(src: Tensor, index: Tensor, dim: int = -1, out: None = None, dim_size: int | None = None) -> Tensor:
    summed: Tensor = scatter(src, index, dim=dim, dim_size=dim_size, reduce="sum")
    return summed


@contextlib.contextmanager
def replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    """Give ``owner`` these attributes inside the block, and take them back afterwards."""
    before = {name: vars(owner)[name] for name in attributes if name in vars(owner)}
    for name, value in attributes.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name in attributes:
            if name in before:
                setattr(owner, name, before[name])
            else:
                delattr(owner, name)


@contextlib.contextmanager
def mended() -> Iterator[None]:
    """Run DeepRobust's code inside this block: quietly, on NumPy 2, and without dense n³ products per normalisation.

    - ``print`` and ``tqdm`` do nothing in its modules (stdout and stderr themselves are left alone);
    - ``numpy.in1d`` and ``numpy.row_stack``, gone from NumPy 2, are there;
    - ``utils.normalize_adj_tensor`` multiplies by the diagonal D^-½ entry by entry instead of as two dense matrices.

    Not for several threads at once: the changes are visible to the whole process while the block lasts.
    """
    utils = import_deeprobust("graph.utils")
    with contextlib.ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("deeprobust.graph."):
                stack.enter_context(replaced(module, print=_silent))
                if hasattr(module, "tqdm"):
                    stack.enter_context(replaced(module, tqdm=_no_progress))
        for name, function in (("in1d", np.isin), ("row_stack", np.vstack)):
            if name not in vars(np):
                stack.enter_context(replaced(np, **{name: function}))
        sparse_normalisation = utils.normalize_adj_tensor

        def normalize_adj_tensor(adj: Tensor, sparse: bool = False) -> Tensor:
            if sparse:
                normalised: Tensor = sparse_normalisation(adj, sparse=True)
                return normalised
            looped = adj + torch.eye(adj.shape[0], device=adj.device)
            scale = looped.sum(1).pow(-1 / 2)
            scale = scale.masked_fill(torch.isinf(scale), 0.0)
            return scale[:, None] * looped * scale

        stack.enter_context(replaced(utils, normalize_adj_tensor=normalize_adj_tensor))
        yield


def _silent(*_: Any, **__: Any) -> None:
    """In place of ``print``."""


def _no_progress(iterable: Any, *_: Any, **__: Any) -> Any:
    return iterable


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """A graph as DeepRobust takes it.

    Args:
        adjacency: scipy csr_matrix float32 ``[n, n]``, symmetric, 0 and 1.
        features: scipy csr_matrix float32 ``[n, d]``.
        labels: int64 ``[n]``.
        train, val, test: int64 node indices.
    """

    adjacency: Any
    features: Any
    labels: np.ndarray[Any, np.dtype[np.int64]]
    train: np.ndarray[Any, np.dtype[np.int64]]
    val: np.ndarray[Any, np.dtype[np.int64]]
    test: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def n_classes(self) -> int:
        """One more than the largest label."""
        return int(self.labels.max()) + 1


def to_arrays(data: Data) -> Arrays:
    """Convert ``data`` (undirected, unweighted, dense x) for DeepRobust."""
    n = data.x.shape[0]
    row, column = data.edge_index.numpy(force=True)
    # csr_matrix, not csr_array: DeepRobust multiplies with * and reads .A1
    adjacency = sp.csr_matrix((np.ones(row.size, dtype=np.float32), (row, column)), shape=(n, n))
    adjacency.sort_indices()
    return Arrays(
        adjacency=adjacency,
        features=sp.csr_matrix(data.x.numpy(force=True).astype(np.float32)),
        labels=data.y.numpy(force=True).astype(np.int64),
        train=data.train_mask.nonzero().flatten().numpy(force=True),
        val=data.val_mask.nonzero().flatten().numpy(force=True),
        test=data.test_mask.nonzero().flatten().numpy(force=True),
    )


def train_gcn(
    data: Data,
    *,
    hidden: int = 16,
    dropout: float = 0.0,
    with_relu: bool = False,
    with_bias: bool = False,
    weight_decay: float = 5e-4,
    patience: int | None = 30,
) -> Any:
    """DeepRobust's GCN, trained as its examples train their surrogates.

    The defaults are those of Nettack and Metattack: two linear layers without bias or dropout, stopped when the
    validation loss has not improved for 30 of at most 200 epochs (Adam, lr 0.01; DeepRobust drops the weight decay
    without ReLU). Random numbers come from torch's global generator, which the caller seeds.

    Args:
        data: the graph; its train_mask and val_mask are used.
        hidden: width of the hidden layer.
        dropout: probability.
        with_relu: whether the hidden layer has a ReLU.
        with_bias: whether the layers have biases.
        weight_decay: of Adam.
        patience: epochs; None trains 200 epochs without looking at the validation nodes.

    Returns:
        ``deeprobust.graph.defense.GCN`` in eval mode, on the CPU.
    """
    defense = import_deeprobust("graph.defense")
    arrays = to_arrays(data)
    with mended():
        model = defense.GCN(
            nfeat=arrays.features.shape[1],
            nhid=hidden,
            nclass=arrays.n_classes,
            dropout=dropout,
            weight_decay=weight_decay,
            with_relu=with_relu,
            with_bias=with_bias,
            device="cpu",
        )
        early_stopping = {} if patience is None else {"idx_val": arrays.val, "patience": patience}
        model.fit(arrays.features, arrays.adjacency, arrays.labels, arrays.train, **early_stopping)
    return model.eval()
