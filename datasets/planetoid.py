"""Pubmed's clean graph, from Planetoid (Yang, Cohen and Salakhutdinov, ICML 2016).

Pubmed has no npz whose nodes are in the order of the published splits and attacked graphs: only Planetoid's own files
have. They are pickles. No pickle is executed here: :class:`_ArrayReader` knows the few constructors of plain arrays
that these files name, and refuses any other, so that a file can hold data and nothing else. No digest of them is
published, so none is checked; the address is the one that PyTorch Geometric uses.
"""

from __future__ import annotations

import collections
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from contractive_gnn.datasets.errors import UnreadableFileError
from contractive_gnn.datasets.fetch import Folder, Source, read
from contractive_gnn.datasets.protocol import IntArray, largest_component, simple_graph

ADDRESS = "https://github.com/kimiyoung/planetoid/raw/master/data"
PARTS = ("allx", "tx", "ally", "ty", "graph", "test.index")


def sources() -> list[Source]:
    """The files of the clean graph."""
    names = [f"ind.pubmed.{part}" for part in PARTS]
    return [Source(file=f"planetoid/{name}", url=f"{ADDRESS}/{name}", sha256=None, bytes=None) for name in names]


def clean_graph(*, root: Folder | None, download: bool) -> tuple[Tensor, sp.csr_matrix, IntArray]:
    """Features float32 ``[19717, 500]``, adjacency and labels of Pubmed, by the protocol.

    Raises:
        UnreadableFileError: a file holds something other than plain arrays.
        DatasetError: a file is missing or cannot be downloaded.
    """
    content = {part: read(source, root=root, download=download) for part, source in zip(PARTS, sources(), strict=True)}
    return parse(content)


def parse(content: dict[str, bytes]) -> tuple[Tensor, sp.csr_matrix, IntArray]:
    """Features, adjacency and labels from the content of each of :data:`PARTS`, in Planetoid's order of the nodes."""
    try:
        allx, tx = _matrix(content["allx"]), _matrix(content["tx"])
        ally, ty = _read(content["ally"]), _read(content["ty"])
        graph = _read(content["graph"])
        shuffled = np.array(content["test.index"].split(), dtype=np.int64)
        features, onehot = sp.vstack([allx, tx]).toarray().astype(np.float32), np.vstack([ally, ty])
        n = len(features)
        degrees = [len(graph.get(node, ())) for node in range(n)]
        row, col = np.repeat(np.arange(n), degrees), np.concatenate([graph.get(node, []) for node in range(n)])
        # The test nodes' rows are stored in the order of test.index.
        order = np.arange(n)
        order[shuffled] = np.sort(shuffled)
        adjacency = simple_graph(sp.coo_matrix((np.ones(len(row)), (row, col)), shape=(n, n)))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise UnreadableFileError(
            f"Planetoid's files of pubmed (planetoid/ind.pubmed.*) are not the arrays expected ({error}); "
            "delete them and allow the download"
        ) from error
    nodes = largest_component(adjacency)
    labels = onehot.argmax(axis=1)
    return torch.from_numpy(features[order][nodes]), adjacency[nodes][:, nodes], labels[order][nodes].astype(np.int64)


class _SparseState:
    """Takes the state of a pickled ``csr_matrix``, and does nothing with it."""

    data: Any
    indices: Any
    indptr: Any
    _shape: Any


def _reconstruct_array(*arguments: Any) -> Any:
    return np.ndarray.__new__(np.ndarray, (0,), dtype=np.int8)


def _reconstruct_sparse(*arguments: Any) -> _SparseState:
    return _SparseState()


def _encode(text: str, encoding: str) -> bytes:
    return text.encode(encoding)


class _ArrayReader(pickle.Unpickler):
    """Reads arrays, sparse matrices and dictionaries of lists; refuses whatever else a pickle can name."""

    constructors: dict[tuple[str, str], Callable[..., Any]] = {  # noqa: RUF012  read only, as a table
        ("copyreg", "_reconstructor"): _reconstruct_sparse,
        ("scipy.sparse.csr", "csr_matrix"): _SparseState,
        ("scipy.sparse._csr", "csr_matrix"): _SparseState,
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct_array,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct_array,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encode,
        ("collections", "defaultdict"): collections.defaultdict,
        ("builtins", "object"): object,
        ("builtins", "list"): list,
    }

    def find_class(self, module: str, name: str) -> Any:
        module = {"copy_reg": "copyreg", "__builtin__": "builtins"}.get(module, module)
        try:
            return self.constructors[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array") from None


def _read(content: bytes) -> Any:
    return _ArrayReader(io.BytesIO(content), encoding="latin1").load()


def _matrix(content: bytes) -> sp.csr_matrix:
    state = _read(content)
    return sp.csr_matrix((state.data, state.indices, state.indptr), shape=state._shape)
