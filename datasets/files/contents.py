"""What a file of a graph holds, before it is made a graph of the protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from contractive_gnn.datasets.errors import UnreadableFileError
from contractive_gnn.datasets.protocol import IntArray

Array = npt.NDArray[Any]

#: what the parts of a graph are called in the files of others, whatever their capitals
ADJACENCY: Final = ("adj", "adj_matrix", "adjacency", "network", "net", "a")
EDGES: Final = ("edge_index", "edges", "edge_list")
WEIGHTS: Final = ("edge_weight", "edge_weights")
FEATURES: Final = ("x", "features", "feat", "node_features", "attr", "attr_matrix", "attributes")
LABELS: Final = ("y", "labels", "label", "node_labels", "class", "gnd", "group")
PARTS: Final = ("train", "val", "test")
MASKS: Final[Mapping[str, tuple[str, ...]]] = {
    part: (f"{part}_mask", f"{part}_masks", f"idx_{part}", f"{part}_idx") for part in PARTS
}


@dataclass(frozen=True)
class Contents:
    """A graph as a file has it.

    Attributes:
        num_nodes: n.
        edges: int ``[2, E]``: as listed, in one orientation or both.
        weights: ``[E]``, or None for ones.
        features: ``[n, d]``, dense or sparse; None where the file has none.
        labels: of each node, ``[n]`` of any type, or one-hot ``[n, classes]``; None where the file has none.
        masks: by "train", "val" and "test": bool ``[n]``, several of them, or the numbers of the nodes.
        unread: names in the file that nothing reads.
    """

    num_nodes: int
    edges: IntArray
    weights: Array | None = None
    features: Array | sp.spmatrix | None = None
    labels: Array | None = None
    masks: Mapping[str, Array] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


def from_arrays(arrays: Mapping[str, Any], where: str) -> Contents:
    """The parts of a graph by their names.

    Args:
        arrays: dense arrays and sparse matrices.
        where: the file, for messages.

    Raises:
        UnreadableFileError: there are no edges, or two names mean the same part.
    """
    used: set[str] = set()

    def part(names: Iterable[str], what: str) -> Any:
        found = [key for key in arrays if key.lower() in names]
        if len(found) > 1:
            raise UnreadableFileError(
                f"{where}: {' and '.join(map(repr, found))} may each be the {what}; save the file with one of them"
            )
        used.update(found)
        return numbers_of(arrays[found[0]], what, where) if found else None

    adjacency, edges = part(ADJACENCY, "adjacency matrix"), part(EDGES, "edges")
    weights = part(WEIGHTS, "weights of the edges")
    features, labels = part(FEATURES, "features"), part(LABELS, "labels")
    masks = {key: mask for key in PARTS if (mask := part(MASKS[key], f"{key} mask")) is not None}
    if (adjacency is None) == (edges is None):
        given = "no edges" if edges is None else "an adjacency matrix and a list of edges"
        raise UnreadableFileError(
            f"{where} holds {given} under {', '.join(map(repr, arrays)) or 'no name'}; expected either a sparse matrix "
            f"({', '.join(ADJACENCY[:4])}) or edges ({', '.join(EDGES)}), with features ({', '.join(FEATURES[:4])}) "
            f"and labels ({', '.join(LABELS[:4])})"
        )
    if adjacency is not None:
        if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
            raise UnreadableFileError(
                f"{where}: the adjacency matrix is {list(adjacency.shape)}; expected a square one"
            )
        matrix = sp.coo_matrix(adjacency)
        n, pairs = int(matrix.shape[0]), np.stack([matrix.row, matrix.col]).astype(np.int64)
        weights = np.asarray(matrix.data)
    else:
        pairs = _pairs(_dense(edges), where)
        n = next((int(v.shape[0]) for v in (features, labels) if v is not None), int(pairs.max(initial=-1)) + 1)
        weights = None if weights is None else _dense(weights).reshape(-1)
    return Contents(
        num_nodes=n,
        edges=pairs,
        weights=weights,
        features=features,
        labels=None if labels is None else _dense(labels),
        masks={key: _dense(mask) for key, mask in masks.items()},
        unread=tuple(key for key in arrays if key not in used),
    )


def numbers_of(value: Any, what: str, where: str) -> Any:
    """An array of at least one axis, or a sparse matrix, of real numbers; of labels also one of texts or objects."""
    if not sp.issparse(value):
        try:
            value = np.asarray(value)
        except ValueError as error:  # a list of lists of different lengths
            raise UnreadableFileError(f"{where}: the {what} cannot be read as an array ({error})") from error
    if value.dtype.kind not in ("biufOUS" if what == "labels" else "biuf") or not value.ndim:
        wanted = "one class a node" if what == "labels" else "real numbers"
        raise UnreadableFileError(f"{where}: the {what} are {value.dtype} {list(value.shape)}; expected {wanted}")
    return value


def _pairs(edges: Array, where: str) -> IntArray:
    """``[2, E]`` of ``[2, E]`` or ``[E, 2]``."""
    whole = edges.ndim == 2 and (edges.dtype.kind in "iu" or bool((np.abs(edges) < 2**53).all()))
    whole = whole and bool((edges == np.round(edges)).all())
    if not whole or 2 not in edges.shape:
        raise UnreadableFileError(
            f"{where}: the edges are {edges.dtype} {list(edges.shape)}; expected whole numbers [2, E] or [E, 2]"
        )
    if edges.shape == (2, 2):
        raise UnreadableFileError(
            f"{where}: the edges are [2, 2], which can be read as [2, E] and as [E, 2]; save a sparse matrix instead"
        )
    return np.asarray(edges if edges.shape[0] == 2 else edges.T, dtype=np.int64)


def _dense(values: Any) -> Array:
    return np.asarray(values.toarray() if sp.issparse(values) else values)
