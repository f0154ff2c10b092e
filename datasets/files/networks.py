"""GraphML and edge lists, through networkx."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

import numpy as np

from contractive_gnn.datasets.errors import UnreadableFileError
from contractive_gnn.datasets.files.contents import LABELS, MASKS, Array, Contents
from contractive_gnn.extras import needs

_DELIMITERS: Mapping[str, str | None] = {".csv": ",", ".tsv": "\t", ".edgelist": None, ".edges": None, ".txt": None}


def graphml(content: bytes, where: str) -> Contents:
    """A GraphML file.

    Of the nodes' attributes one is the label ("y", "label", "class", …), "train_mask", "val_mask" and "test_mask" are
    the split, and all other numbers are the features, by their names. The attribute "weight" of an edge is its weight.

    Raises:
        UnreadableFileError: another file, or an attribute that some nodes lack.
    """
    with needs("bench", "a GraphML file"):
        import networkx as nx
    try:
        graph = nx.read_graphml(io.BytesIO(content), force_multigraph=True)
    except Exception as error:  # of the parser, of networkx and of what an attribute says
        raise UnreadableFileError(f"{where} is not a GraphML file ({type(error).__name__}: {error})") from error
    nodes = list(graph.nodes(data=True))
    place = {name: k for k, (name, _) in enumerate(nodes)}
    names = sorted({key for _, attributes in nodes for key in attributes}, key=_natural)
    labels = [name for name in names if name.lower() in LABELS]
    if len(labels) > 1:
        raise UnreadableFileError(f"{where}: {' and '.join(map(repr, labels))} may each be the label; keep one")
    masks: dict[str, Array] = {}
    for part, words in MASKS.items():
        for name in (n for n in names if n.lower() in words):
            if part in masks:
                raise UnreadableFileError(f"{where}: several attributes may each be the {part} mask; keep one")
            chosen = [attributes.get(name, False) for _, attributes in nodes]
            if strange := [value for value in chosen if value not in (0, 1)]:  # a text, "False" too, counts as true
                raise UnreadableFileError(
                    f"{where}: {name!r} of a node is {strange[0]!r}; expected a boolean attribute (attr.type)"
                )
            masks[part] = np.array(chosen, dtype=bool)
    taken = {*labels, *(name for name in names if any(name.lower() in words for words in MASKS.values()))}
    numeric = [n for n in names if n not in taken and all(_is_number(a.get(n, 0)) for _, a in nodes)]
    for name in numeric:
        if lacking := [node for node, attributes in nodes if name not in attributes]:
            raise UnreadableFileError(
                f"{where}: node {lacking[0]!r} has no {name!r}, which others have; give it to every node"
            )
    edges = [(place[u], place[v]) for u, v in graph.edges()]
    weights = [attributes.get("weight", 1.0) for _, _, attributes in graph.edges(data=True)]
    if strange := [weight for weight in weights if not _is_number(weight)]:
        raise UnreadableFileError(f"{where}: the weight of an edge is {strange[0]!r}; expected a number")
    return Contents(
        num_nodes=len(nodes),
        edges=np.array(edges, dtype=np.int64).reshape(-1, 2).T,
        weights=np.array(weights, dtype=np.float64),
        features=np.array([[float(a[name]) for name in numeric] for _, a in nodes]) if numeric else None,
        labels=np.array([a.get(labels[0]) for _, a in nodes], dtype=object) if labels else None,
        masks=masks,
        unread=tuple(name for name in names if name not in taken and name not in numeric),
    )


def edge_list(content: bytes, where: str, *, suffix: str) -> Contents:
    """Lines of two nodes and, where there is a third column, a weight; ``#`` begins a comment.

    Nodes are whole numbers from 0: the rows of the features and labels.

    Raises:
        UnreadableFileError: a line of another form.
    """
    form = f"lines of two whole numbers from 0 and perhaps a weight, separated by {_DELIMITERS[suffix] or 'spaces'!r}"
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{where} is no text; expected {form}") from error
    rows = [line.split("#", 1)[0].strip() for line in lines]
    columns = {len(row.split(_DELIMITERS[suffix])) for row in rows if row}
    if columns not in ({2}, {3}):
        given = "no edges" if not columns else f"lines of {', '.join(map(str, sorted(columns)))} columns"
        raise UnreadableFileError(f"{where} has {given}; expected {form}")
    weighted = columns == {3}
    with needs("bench", "an edge list"):
        import networkx as nx
    try:
        graph = nx.parse_edgelist(
            rows,
            nodetype=int,
            delimiter=_DELIMITERS[suffix],
            data=[("weight", float)] if weighted else False,
            create_using=nx.MultiDiGraph,
        )
        edges = np.array(list(graph.edges()), dtype=np.int64).reshape(-1, 2).T
    except (TypeError, ValueError, OverflowError) as error:
        raise UnreadableFileError(f"{where}: {error}; expected {form}, without a line of names") from error
    weights = [weight for _, _, weight in graph.edges(data="weight")] if weighted else None
    return Contents(
        num_nodes=int(edges.max(initial=-1)) + 1,
        edges=edges,
        weights=None if weights is None else np.array(weights, dtype=np.float64),
    )


def _natural(name: str) -> list[tuple[int, int, str]]:
    """x2 before x10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
