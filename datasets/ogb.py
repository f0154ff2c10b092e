"""ogbn-arxiv from the files that a user has (Hu et al., *Open Graph Benchmark*, NeurIPS 2020). No pickle is loaded.

A folder of the Open Graph Benchmark holds text: ``raw/edge.csv.gz`` with two nodes a line, ``raw/node-feat.csv.gz``,
``raw/node-label.csv.gz``, and in ``split/time`` the nodes of each part, a number a line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
import torch
from torch_geometric.data import Data

from contractive_gnn.datasets.errors import InvalidGraphError, MissingFileError, UnreadableFileError
from contractive_gnn.datasets.fetch import Folder, places
from contractive_gnn.datasets.protocol import IntArray, assemble, random_split, simple_graph

FOLDER: Final = "ogbn_arxiv"
_MOST_CLASSES: Final = 1 << 31
_MASKS: Final = {"train_mask": "train", "val_mask": "valid", "test_mask": "test"}


def read_ogb(
    folder: str | os.PathLike[str], *, split: str = "time", split_seed: int = 0, name: str = "ogbn-arxiv"
) -> Data:
    """A graph for node classification from a folder of the Open Graph Benchmark.

    Edges are taken in both directions; self-loops and edges given twice are dropped.

    Args:
        folder: that has ``raw`` and ``split``.
        split: a folder in ``split``, or ``"random"``: 10/10/80 and stratified.
        split_seed: of the random one.
        name: of the graph.

    Returns:
        as :func:`contractive_gnn.datasets.load`.

    Raises:
        MissingFileError: a file is missing; the text names it.
        UnreadableFileError: a file holds something other than numbers, or another count of them.
        InvalidGraphError: files that contradict each other.

    Example:
        >>> try:
        ...     data = read_ogb("nowhere/ogbn_arxiv")
        ... except MissingFileError as error:
        ...     print(str(error)[:53])
        nowhere/ogbn_arxiv/raw/node-feat.csv.gz does not exis
    """
    root = Path(folder).expanduser()
    x = _table(root, "raw/node-feat.csv.gz", np.float32)
    labels = _table(root, "raw/node-label.csv.gz", np.float64)
    if labels.shape[1] != 1 or len(labels) != len(x):
        raise InvalidGraphError(
            f"{root}: the labels are {list(labels.shape)}, the features {list(x.shape)}; expected one label for each "
            "row of features"
        )
    # a paper without a class, of which other graphs have some, is NaN
    classes = np.where(np.isnan(labels[:, 0]), -1.0, labels[:, 0])
    if strange := classes[(classes != np.floor(classes)) | (classes < -1) | (classes >= _MOST_CLASSES)].tolist():
        raise UnreadableFileError(
            f"{root}/raw/node-label.csv.gz: the label {strange[0]:g}; expected classes 0, 1, …, and nan or -1 where "
            "there is none"
        )
    y = classes.astype(np.int64)
    ends = _table(root, "raw/edge.csv.gz", np.int64)
    n = len(x)
    if ends.shape[1] != 2 or (ends.size and not 0 <= ends.min() <= ends.max() < n):
        raise InvalidGraphError(f"{root}/raw/edge.csv.gz: expected two nodes from 0 to {n - 1} a line")
    if not np.isfinite(x).all():
        raise UnreadableFileError(f"{root}/raw/node-feat.csv.gz: a feature is not finite")
    if split == "random":
        indices = random_split(y, seed=split_seed)
    else:
        indices = {mask: _part(root, f"split/{split}/{part}.csv.gz", n) for mask, part in _MASKS.items()}
    for what, count in (("node", n), ("edge", len(ends))):
        _check_count(root, f"raw/num-{what}-list.csv.gz", count, what)
    one_way = sp.coo_matrix((np.ones(len(ends), np.float32), (ends[:, 0], ends[:, 1])), shape=(n, n))
    return assemble(
        name=name, split=split, x=torch.from_numpy(x), adjacency=simple_graph(one_way), y=y, indices=indices
    )


def load_arxiv(*, split: str, split_seed: int, root: Folder | None, download: bool) -> Data:
    """ogbn-arxiv from the folder ``ogbn_arxiv`` of the first place that has it; ``"prognn"`` stands for its own split.

    Raises:
        MissingFileError: no place has it.
    """
    searched = places(root)
    for place in searched:
        if (place.folder / FOLDER / "raw").is_dir():
            return read_ogb(place.folder / FOLDER, split="time" if split == "prognn" else split, split_seed=split_seed)
    where = ", ".join(f"{place.label} ({place.folder})" for place in searched)
    raise MissingFileError(
        f"the folder {FOLDER} with raw/edge.csv.gz is in none of {where}; unpack the arxiv.zip of ogb.stanford.edu "
        f"there under this name, or take 'dc-sbm', a generated graph of its kind"
    )


def _part(root: Path, file: str, num_nodes: int) -> IntArray:
    """The nodes of a part of the split, one a line."""
    nodes = _table(root, file, np.int64)
    if nodes.shape[1] != 1 or not nodes.size or not 0 <= nodes.min() <= nodes.max() < num_nodes:
        raise InvalidGraphError(f"{root / file}: expected nodes from 0 to {num_nodes - 1}, one a line")
    if len(np.unique(nodes)) < len(nodes):
        raise InvalidGraphError(f"{root / file} has a node twice; expected each once")
    return nodes[:, 0]


def _check_count(root: Path, file: str, count: int, what: str) -> None:
    """Raise where the folder says how many there are, and there are others."""
    if (root / file).is_file() and (said := _table(root, file, np.int64)).tolist() != [[count]]:
        raise UnreadableFileError(
            f"{root / file} says {said.flatten().tolist()[:3]}, and there are {count} {what}s: a file was cut short, "
            "or is of another graph"
        )


def _table(root: Path, file: str, dtype: Any) -> np.ndarray[Any, Any]:
    """The numbers of a file, ``[lines, columns]``."""
    path = root / file
    if not path.is_file():
        raise MissingFileError(
            f"{path} does not exist; expected a folder of the Open Graph Benchmark, with raw and split"
        )
    try:
        return np.loadtxt(path, delimiter=",", dtype=dtype, ndmin=2)
    except (ValueError, OSError, EOFError) as error:
        raise UnreadableFileError(f"{path} is no table of numbers ({error})") from error
