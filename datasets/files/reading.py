"""Read a graph of one's own, and say what was changed to make it one of the protocol."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.datasets.errors import InvalidGraphError, MissingFileError, UnknownSplitError, UnreadableFileError
from contractive_gnn.datasets.files import arrays, networks, saved
from contractive_gnn.datasets.files.contents import Array, Contents, from_arrays, numbers_of
from contractive_gnn.datasets.files.masks import FILE_SPLITS, drawn_split, own_split
from contractive_gnn.datasets.protocol import IntArray, simple_graph
from contractive_gnn.datasets.protocol import assemble as assemble_graph
from contractive_gnn.distinct import distinct
from contractive_gnn.names import unknown

_NAMED: Final[Mapping[str, Callable[[bytes, str], dict[str, Any]]]] = {
    ".npz": arrays.npz,
    ".mat": arrays.mat,
    ".pt": saved.pt,
    ".pth": saved.pt,
}
_EDGE_LISTS: Final = (".edgelist", ".edges", ".csv", ".tsv", ".txt")
#: the names of files that :func:`read` takes end like this
SUFFIXES: Final = (*_NAMED, ".graphml", *_EDGE_LISTS)
#: an identity matrix of features in float32 then takes 1.6 GB
_MOST_WITHOUT_FEATURES: Final = 20_000


def read(
    path: str | os.PathLike[str],
    *,
    split: str | int | None = None,
    split_seed: int = 0,
    labels: str | os.PathLike[str] | Array | Tensor | None = None,
    features: str | os.PathLike[str] | Array | Tensor | None = None,
) -> Data:
    r"""A graph from a file, as a graph of the protocol: undirected, unweighted, without self-loops and duplicates.

    ==================== ===========================================================================================
    file                 what it holds
    ==================== ===========================================================================================
    ``.npz``             of NumPy: a sparse adjacency in four arrays (``adj_data``, ``adj_indices``, ``adj_indptr``,
                         ``adj_shape``) or edges ``[m, 2]`` or ``[2, m]`` (``edges``, ``edge_index``); features
                         (``attr_data``, …, ``node_features``, ``x``); labels (``labels``, ``node_labels``, ``y``);
                         masks (``train_mask``, ``train_masks``, ``idx_train``, …). Of scipy's ``save_npz``: an
                         adjacency matrix
    ``.pt``, ``.pth``    a PyG ``Data``: ``torch.save(data.to_dict(), "mine.pt")``; loaded with ``weights_only=True``
    ``.mat``             of MATLAB up to version 7: ``Network``, ``Attributes``, ``Label``
    ``.graphml``         nodes with a label, numbers for features and, if there are any, masks
    ``.edgelist``,       two node numbers a line and, where there is one, a weight
    ``.csv``, ``.tsv``,
    ``.txt``, ``.edges``
    ==================== ===========================================================================================

    All nodes are kept. What is changed is said in ``data.notes``, and in a warning: edges in one direction are taken in
    both, self-loops and duplicates dropped, weights forgotten, classes numbered from 0. A node whose label is unknown
    (−1, −100, NaN) is in no mask: it is neither trained on nor evaluated. No pickle is loaded from any file.

    Args:
        path: the file; ``~`` and ``$NAME`` are replaced.
        split: ``"own"``, the masks of the file; ``"random"``, 10/10/80 and stratified by class; ``"public"``, 20
            training nodes of each class, 500 for validation and 1000 for the test; ``"inductive"``, see
            :func:`contractive_gnn.datasets.load`; a number: that one of the file's own splits. If None: ``"own"`` where
            the file has masks, else ``"random"``.
        split_seed: of the draw; of several own splits, the number of the one to take.
        labels: for a file without them, ``[n]``, or a file: ``.npy``, or text with a label a line.
        features: for a file without them, ``[n, d]``, or a file: ``.npy``, or ``.npz`` of ``save_npz``.

    Returns:
        as :func:`contractive_gnn.datasets.load`, with ``name`` (the file's), ``split``, ``notes`` and ``file_digest``,
        12 digits of the SHA-256 of the file.

    Raises:
        DatasetError: the subclass says what: no such file, one that cannot be read, or a split that it has not.

    Example:
        >>> import os, tempfile, warnings
        >>> ring = np.arange(60)
        >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")  # it says that edges are taken in both directions
        ...     file = os.path.join(folder, "ring.npz")
        ...     np.savez(file, edges=np.stack([ring, np.roll(ring, 1)]), labels=ring // 30)
        ...     read(file, split="random").edge_index.shape
        torch.Size([2, 120])
    """
    file = _existing(path)
    suffix = file.suffix.lower()
    content = file.read_bytes()
    where = str(path)
    if suffix in _NAMED:
        contents = from_arrays(_NAMED[suffix](content, where), where)
    elif suffix == ".graphml":
        contents = networks.graphml(content, where)
    elif suffix in _EDGE_LISTS:
        contents = networks.edge_list(content, where, suffix=suffix)
    else:
        raise UnreadableFileError(f"{where}: expected a file that ends in {', '.join(SUFFIXES)}")
    data = assemble(
        contents, name=file.name, where=where, split=split, split_seed=split_seed,
        labels=_beside(labels, _read_labels, "labels", where),
        features=_beside(features, _read_features, "features", where),
    )  # fmt: skip
    data.file_digest = digest(path, *(part for part in (labels, features) if isinstance(part, str | os.PathLike)))
    if data.notes:
        warnings.warn(f"{where}: {data.notes}", stacklevel=2)
    return data


def digest(*paths: str | os.PathLike[str]) -> str:
    """Twelve digits of the SHA-256 of files, one after another.

    Raises:
        MissingFileError: there is no such file.
    """
    whole = hashlib.sha256()
    for path in paths:
        whole.update(_existing(path).read_bytes())
    return whole.hexdigest()[:12]


def assemble(
    contents: Contents,
    *,
    name: str,
    where: str,
    split: str | int | None = None,
    split_seed: int = 0,
    labels: Array | None = None,
    features: Array | sp.spmatrix | None = None,
) -> Data:
    """A graph of the protocol of what a file, or somebody, has; see :func:`read`.

    Raises:
        DatasetError: the subclass says what.
    """
    notes: list[str] = []
    if labels is not None and contents.labels is not None:
        raise UnreadableFileError(f"{where} has labels of its own; leave the others out")
    if features is not None and contents.features is not None:
        raise UnreadableFileError(f"{where} has features of its own; leave the others out")
    y = contents.labels if labels is None else labels
    if y is None:
        raise UnreadableFileError(
            f"{where} has no labels, one class a node; save them beside the edges (labels=…), or give a file of them "
            "(--labels FILE, or labels= in Python): .npy, or text with a label a line"
        )
    # a list of edges does not know of isolated nodes at its end
    n = max(contents.num_nodes, len(y)) if contents.features is None else contents.num_nodes
    classes = _classes(np.asarray(y), n, where, notes)
    x = _features(contents.features if features is None else features, n, where, notes)
    adjacency = _adjacency(contents, n, where, notes)
    kind, number = _wanted(split, split_seed, has_masks=bool(contents.masks))
    if kind == "own":
        indices = own_split(contents.masks, n, number=number, where=where)
        lost = sum(int((classes[nodes] < 0).sum()) for nodes in indices.values())
        indices = {key: nodes[classes[nodes] >= 0] for key, nodes in indices.items()}
        if lost:
            notes.append(f"{lost} nodes without a label were taken out of the masks")
    else:
        indices = drawn_split(classes, kind=kind, seed=number, where=where)
    for key, nodes in indices.items():
        if not len(nodes):
            raise InvalidGraphError(f"{where}: the split {kind!r} leaves {key} without a labelled node; take another")
    if contents.unread:
        notes.append(f"not read: {', '.join(contents.unread)}")
    data = assemble_graph(name=name, split=kind, x=x, adjacency=adjacency, y=classes, indices=indices)
    data.notes = "; ".join(notes)
    return data


def _wanted(split: str | int | None, split_seed: int, *, has_masks: bool) -> tuple[str, int]:
    """The kind of the split, and its number or seed."""
    if split is None:
        return ("own" if has_masks else "random"), split_seed
    if isinstance(split, int | np.integer) and not isinstance(split, bool):
        return "own", int(split)
    if isinstance(split, str) and split.isdecimal():
        return "own", int(split)
    if split not in FILE_SPLITS:
        raise UnknownSplitError(f"{unknown('split', [split], FILE_SPLITS)}; or the number of one of the file's own")
    return split, split_seed


def _existing(path: str | os.PathLike[str], expected: str = f"a file that ends in {', '.join(SUFFIXES)}") -> Path:
    text = os.path.expandvars(os.fspath(path))
    if unset := re.findall(r"\$\{?(\w+)\}?", text):
        raise MissingFileError(f"{os.fspath(path)}: the variable ${unset[0]} is not set; set it, or write the folder")
    file = Path(text).expanduser()
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise MissingFileError(f"{file} {what}; expected {expected}")
    return file


def _beside(given: Any, reader: Callable[[Path, str], Any], what: str, where: str) -> Any:
    """An array, or what a file of it holds; None where there is none."""
    if isinstance(given, str | os.PathLike):
        return reader(_existing(given, f"a file of {what}"), os.fspath(given))
    if isinstance(given, Tensor):
        given = given.detach().cpu().numpy()
    return None if given is None else numbers_of(given, what, where)


def _read_labels(file: Path, where: str) -> Array:
    if file.suffix.lower() == ".npy":
        return _npy(file, where)
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{where} is no text; expected .npy, or a label a line") from error
    if any(len(re.split(r"[\s,;]+", line)) > 1 for line in lines):
        raise UnreadableFileError(f"{where} has several columns; expected one label a line, in the order of the nodes")
    return np.array(lines, dtype=object)


def _read_features(file: Path, where: str) -> Any:
    if file.suffix.lower() == ".npy":
        return _npy(file, where)
    found = arrays.npz(file.read_bytes(), where) if file.suffix.lower() == ".npz" else {}
    if len(found) != 1:
        raise UnreadableFileError(f"{where}: expected features [n, d] in .npy, or in .npz of scipy.sparse.save_npz")
    return next(iter(found.values()))


def _npy(file: Path, where: str) -> Array:
    try:
        return np.asarray(np.load(file, allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise UnreadableFileError(f"{where} is not an .npy file of numbers ({error})") from error


def _classes(given: Array, n: int, where: str, notes: list[str]) -> IntArray:
    """Int64 ``[n]``, classes 0, 1, …, −1 where unknown."""
    if given.ndim == 2 and 1 in given.shape:
        given = given.reshape(-1)
    if given.ndim == 2 and given.shape[0] == n:
        ones = given != 0
        if bool((ones.sum(axis=1) > 1).any()) or not bool(np.isin(given, (0, 1)).all()):
            raise UnreadableFileError(
                f"{where}: the labels are {list(given.shape)} with several classes at a node; expected one class a node"
            )
        given = np.where(ones.any(axis=1), ones.argmax(axis=1), -1)
    if given.shape != (n,):
        raise UnreadableFileError(f"{where}: the labels are {list(given.shape)}; expected one for each of {n} nodes")
    shown: list[str] = []
    if given.dtype.kind in "OUS":
        given = _without_text(given)
    if given.dtype.kind in "OUS":
        named = sorted({str(label) for label in given if label is not None})
        place = {name: k for k, name in enumerate(named)}
        if named:
            notes.append(f"the {len(named)} classes were numbered in the order of their names, from {named[0]!r}")
        given = np.array([-1 if label is None else place[str(label)] for label in given], dtype=np.int64)
        shown = named
    if given.dtype.kind not in "biuf":
        raise UnreadableFileError(f"{where}: the labels are {given.dtype}; expected whole numbers or names")
    values = np.where(np.isnan(given), -1, given) if given.dtype.kind == "f" else given
    strange = (values != np.round(values)) | (np.abs(values) >= 2**53)
    if bool(strange.any()):
        raise UnreadableFileError(f"{where}: a label is {values[strange][0]}; expected classes 0, 1, …")
    whole = values.astype(np.int64)
    whole[whole == -100] = -1
    if bool((whole < -1).any()):
        raise UnreadableFileError(
            f"{where}: a label is {whole.min()}; expected classes 0, 1, …, and −1, −100 or NaN where it is unknown"
        )
    there = np.unique(whole[whole >= 0])
    if not len(there):
        raise UnreadableFileError(f"{where}: no node has a label")
    if len(there) == 1:
        raise UnreadableFileError(
            f"{where}: all labels are {shown[0] if shown else there[0]}; expected at least two classes"
        )
    if there[-1] != len(there) - 1:
        notes.append(f"the {len(there)} classes, from {there[0]} to {there[-1]}, were numbered from 0")
        whole = np.where(whole < 0, -1, np.searchsorted(there, whole))
    if unknown_nodes := int((whole < 0).sum()):
        notes.append(f"{unknown_nodes} nodes have no label, and are neither trained on nor evaluated")
    return whole


def _without_text(given: Array) -> Array:
    """Of texts or objects the numbers that they are, if all are; else themselves."""
    # a cell of MATLAB is an array of one
    labels = [label.item() if isinstance(label, np.ndarray) and label.size == 1 else label for label in given.tolist()]
    labels = [None if str(label) in ("", "nan", "NaN", "None") else label for label in labels]
    try:
        return np.array([np.nan if label is None else float(label) for label in labels])
    except (TypeError, ValueError):
        return np.array(labels, dtype=object)


def _features(given: Any, n: int, where: str, notes: list[str]) -> Tensor:
    if given is None:
        if n > _MOST_WITHOUT_FEATURES:
            raise UnreadableFileError(
                f"{where} has no features, and {n} nodes are too many for a feature of its own for each "
                f"(at most {_MOST_WITHOUT_FEATURES}); give features"
            )
        notes.append("no features: each node has one of its own (the identity matrix)")
        return torch.eye(n)
    dense = np.asarray(given.toarray() if sp.issparse(given) else given)
    if dense.ndim != 2 or dense.shape[0] != n or dense.dtype.kind not in "biuf":
        raise UnreadableFileError(f"{where}: the features are {dense.dtype} {list(dense.shape)}; expected [{n}, d]")
    if not dense.shape[1]:
        raise UnreadableFileError(f"{where}: the features are {list(dense.shape)}, none at all; leave them out")
    with np.errstate(over="ignore"):  # what is too large for float32 is not finite there
        x = dense.astype(np.float32)
    if not bool(np.isfinite(x).all()):
        raise UnreadableFileError(
            f"{where}: {int((~np.isfinite(x)).sum())} features are not finite in float32; fill them in"
        )
    return torch.from_numpy(x)


def _adjacency(contents: Contents, n: int, where: str, notes: list[str]) -> sp.csr_matrix:
    row, col = contents.edges
    if len(row) and (int(contents.edges.min()) < 0 or int(contents.edges.max()) >= n):
        raise UnreadableFileError(
            f"{where}: the edges are between nodes {contents.edges.min()} and {contents.edges.max()}; expected 0 to "
            f"{n - 1}, as there are {n} labels or rows of features"
        )
    weights = np.ones(len(row)) if contents.weights is None else np.asarray(contents.weights)
    if weights.shape != row.shape or weights.dtype.kind not in "biuf":
        raise UnreadableFileError(
            f"{where}: the weights are {weights.dtype} {list(weights.shape)}; expected one for each of {len(row)} edges"
        )
    weights = weights.astype(np.float64)
    if not bool(np.isfinite(weights).all()) or bool((weights < 0).any()):
        raise UnreadableFileError(f"{where}: a weight is negative or not finite; expected weights of at least 0")
    there = weights != 0
    row, col, weights = row[there], col[there], weights[there]
    loops = row == col
    key = distinct(row[~loops] * n + col[~loops])
    back = (key % n) * n + key // n
    lone = int((~np.isin(back, key, assume_unique=True)).sum())
    for count, text in (
        (lone, "edges had one direction only, and are taken in both"),
        (int(loops.sum()), "self-loops were dropped"),
        (int((~loops).sum()) - len(key), "duplicates were dropped"),
        (int((weights != 1).sum()), "weights other than 1 were forgotten"),
    ):
        if count:
            notes.append(f"{count} {text}")
    return simple_graph(sp.coo_matrix((np.ones(len(row)), (row, col)), shape=(n, n)))
