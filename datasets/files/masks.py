"""The split of a graph from a file: its own masks, or one that is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from contractive_gnn.datasets.errors import InvalidGraphError, UnknownSplitError, UnreadableFileError
from contractive_gnn.datasets.files.contents import PARTS, Array
from contractive_gnn.datasets.protocol import (
    INDUCTIVE,
    IntArray,
    check_split_seed,
    inductive_split,
    known_only,
    random_split,
)
from contractive_gnn.names import unknown

#: the splits of a file of one's own
FILE_SPLITS: Final = ("own", "random", "public", INDUCTIVE)
#: of Planetoid's public splits: training nodes of each class, and validation and test nodes in all
PER_CLASS, VALIDATION, TEST = 20, 500, 1000


def own_split(masks: Mapping[str, Array], n: int, *, number: int, where: str) -> dict[str, IntArray]:
    """The nodes of the file's own split, or of the one with this number where it has several.

    Args:
        masks: by "train", "val" and "test": bool ``[n]``, ``[n, k]`` or ``[k, n]``, or the numbers of the nodes.
        n: the number of nodes.
        number: from 0.
        where: the file, for messages.

    Raises:
        UnknownSplitError: the file has not all three masks, or no split of this number.
        UnreadableFileError: a mask of another form.
        InvalidGraphError: a node is in two of them.
    """
    if missing := [part for part in PARTS if part not in masks]:
        raise UnknownSplitError(
            f"{where} has no {' and no '.join(f'{part}_mask' for part in missing)}; take --split random or public"
        )
    # a mask that is there once belongs to each of several splits, as the test nodes of WikiCS do
    several = any(mask.ndim == 2 and 1 not in mask.shape for mask in masks.values())
    if isinstance(number, bool) or number < 0 or (number and not several):
        there = "has several" if several else "has one"
        raise UnknownSplitError(f"split {number} given, and {where} {there}; expected the number of one, from 0")
    nodes = {f"{part}_mask": _chosen(masks[part], n, part, number, where) for part in PARTS}
    seen = np.concatenate(list(nodes.values()))
    if len(np.unique(seen)) < len(seen):
        values, counts = np.unique(seen, return_counts=True)
        raise InvalidGraphError(
            f"{where}: node {values[counts > 1][0]} is in two of the masks; expected disjoint ones. Take --split random"
        )
    return nodes


def _chosen(mask: Array, n: int, part: str, number: int, where: str) -> IntArray:
    binary = mask.dtype == bool or (mask.size and n in mask.shape and bool(np.isin(mask, (0, 1)).all()))
    if mask.ndim == 2 and 1 in mask.shape:
        mask = mask.reshape(-1)
    if binary and mask.ndim == 2 and n in mask.shape:
        several = mask if mask.shape[0] == n and mask.shape[1] != n else mask.T
        if mask.shape[0] == mask.shape[1]:
            raise UnreadableFileError(f"{where}: the {part} masks are {list(mask.shape)}: rows or columns? Save [n, k]")
        if number >= several.shape[1]:
            raise UnknownSplitError(
                f"split {number} given, and {where} has {several.shape[1]}; expected 0 to {several.shape[1] - 1}"
            )
        return np.flatnonzero(several[:, number])
    if binary and mask.ndim == 1 and len(mask) == n:
        return np.flatnonzero(mask)
    numbers = mask.ndim == 1 and mask.dtype.kind in "iu" and len(np.unique(mask)) == len(mask)
    if numbers and bool(((mask >= 0) & (mask < n)).all()):
        return mask.astype(np.int64)
    raise UnreadableFileError(
        f"{where}: the {part} mask is {mask.dtype} {list(mask.shape)}; expected bool [{n}], several as [{n}, k], or "
        "the numbers of its nodes"
    )


def drawn_split(labels: IntArray, *, kind: str, seed: int, where: str) -> dict[str, IntArray]:
    """A split of the nodes that have a label.

    Args:
        labels: int ``[n]``, −1 where unknown.
        kind: "random": 10/10/80, stratified. "public": as Planetoid's, 20 training nodes of each class, 500 for
            validation and 1000 for the test, at random. "inductive": see :func:`.inductive_split`.
        seed: of the draw.
        where: the file, for messages.

    Raises:
        UnknownSplitError: another kind or seed, or too few nodes.
    """
    if kind not in FILE_SPLITS[1:]:
        raise UnknownSplitError(unknown("split", [kind], FILE_SPLITS))
    if kind in ("random", INDUCTIVE):
        try:
            return known_only(random_split if kind == "random" else inductive_split, labels, seed=seed)
        except UnknownSplitError as error:
            raise UnknownSplitError(f"{where}: {error}") from None
    check_split_seed(seed)
    known = np.flatnonzero(labels >= 0)
    order = np.random.default_rng(seed).permutation(known)
    classes = np.unique(labels[known])
    train = np.concatenate([order[labels[order] == c][:PER_CLASS] for c in classes]) if len(classes) else order
    rest = order[~np.isin(order, train)]
    if len(train) < PER_CLASS * len(classes) or len(rest) < VALIDATION + TEST:
        raise UnknownSplitError(
            f"{where} has {len(known)} labelled nodes in {len(classes)} classes; a public split wants {PER_CLASS} of "
            f"each class and {VALIDATION + TEST} more: take --split random"
        )
    return {
        "train_mask": np.sort(train),
        "val_mask": np.sort(rest[:VALIDATION]),
        "test_mask": np.sort(rest[VALIDATION : VALIDATION + TEST]),
    }
