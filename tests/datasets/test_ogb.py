"""ogbn-arxiv's layout, with seven nodes."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from contractive_gnn.datasets import (
    InvalidGraphError,
    MissingFileError,
    UnreadableFileError,
    load,
    read_ogb,
    validate,
)

FILES = {
    "raw/edge": "0,1\n1,0\n2,1\n3,3\n4,5\n4,5\n6,0\n",
    "raw/node-feat": "".join(f"{k}.5,-0.25,1e-3\n" for k in range(7)),
    "raw/node-label": "0\n1\n2\n0\n1\n2\n0\n",
    "split/time/train": "0\n2\n4\n",
    "split/time/valid": "1\n3\n",
    "split/time/test": "6\n5\n",
}


def written(folder: Path, **other: str) -> Path:
    changed = {name.replace("__", "/").replace("_", "-"): text for name, text in other.items()}
    for name, text in {**FILES, **changed}.items():
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()))
    return folder


def test_the_files_become_a_graph_of_the_protocol(tmp_path: Path) -> None:
    data = read_ogb(written(tmp_path))
    validate(data)
    assert data.edge_index.t().tolist() == [[0, 1], [0, 6], [1, 0], [1, 2], [2, 1], [4, 5], [5, 4], [6, 0]]
    assert data.x[3].tolist() == pytest.approx([3.5, -0.25, 1e-3])
    assert data.x.dtype == torch.float32
    assert data.y.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert data.test_mask.nonzero().flatten().tolist() == [5, 6]
    assert (data.name, data.split) == ("ogbn-arxiv", "time")


def test_it_is_loaded_by_its_name_from_a_folder(tmp_path: Path) -> None:
    written(tmp_path / "ogbn_arxiv")
    assert load("ogbn-arxiv", root=tmp_path).split == "time"
    with pytest.raises(MissingFileError, match=r"ogbn_arxiv with raw/edge.csv.gz is in none of root .*dc-sbm"):
        load("ogbn-arxiv", root=tmp_path / "ogbn_arxiv")


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        ({"raw__edge": "0,7\n"}, InvalidGraphError, "two nodes from 0 to 6 a line"),
        ({"raw__edge": "0,1,2\n"}, InvalidGraphError, "two nodes from 0 to 6 a line"),
        ({"raw__edge": "0,b\n"}, UnreadableFileError, "no table of numbers"),
        ({"raw__node_feat": "1\nnan\n1\n1\n1\n1\n1\n"}, UnreadableFileError, "a feature is not finite"),
        ({"raw__node_label": "0\n1\n"}, InvalidGraphError, "one label for each row of features"),
        *(
            (
                {"raw__node_label": f"{label}\n1\n2\n0\n1\n2\n0\n"},
                UnreadableFileError,
                "label.csv.gz: the label .*; exp",
            )
            for label in ("0.5", "-3", "inf", "1e30")
        ),
        ({"raw__num_edge_list": "8\n"}, UnreadableFileError, r"says \[8\], and there are 7 edges"),
        ({"raw__num_node_list": "3\n4\n"}, UnreadableFileError, r"says \[3, 4\], and there are 7 nodes"),
        ({"split__time__train": "0,1\n2,4\n"}, InvalidGraphError, "one a line"),
        ({"split__time__train": "0\n0\n"}, InvalidGraphError, "has a node twice"),
        ({"split__time__train": ""}, InvalidGraphError, "expected nodes from 0 to 6"),
        ({"split__time__test": "9\n"}, InvalidGraphError, "nodes from 0 to 6"),
        ({"split__time__test": "0\n"}, InvalidGraphError, "disjoint masks"),
    ],
)
def test_files_that_make_no_graph_are_told(
    tmp_path: Path, other: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_ogb(written(tmp_path, **other))


def test_counts_that_are_right_and_nodes_without_a_class_are_read(tmp_path: Path) -> None:
    labels = "nan\n-1\n2\n0\n1\n2\n0\n"
    parts = {"split__time__train": "2\n4\n", "split__time__valid": "3\n"}
    counts = {"raw__num_edge_list": "7\n", "raw__num_node_list": "7\n"}
    data = read_ogb(written(tmp_path, raw__node_label=labels, **parts, **counts))
    assert data.y.tolist() == [-1, -1, 2, 0, 1, 2, 0]


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(MissingFileError, match=r"split/species/train.csv.gz does not exist"):
        read_ogb(tmp_path, split="species")
    (tmp_path / "raw" / "edge.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(UnreadableFileError, match=r"edge.csv.gz is no table of numbers"):
        read_ogb(tmp_path)
