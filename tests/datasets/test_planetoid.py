from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch_geometric.io import read_planetoid_data

from contractive_gnn.datasets import UnreadableFileError, load, planetoid
from contractive_gnn.datasets.protocol import edge_index


def python2(value: Any, protocol: int) -> bytes:
    """A pickle with the names that Python 2's numpy and scipy had, as in Planetoid's files."""
    content = pickle.dumps(value, protocol=protocol)
    return content.replace(b"scipy.sparse._csr", b"scipy.sparse.csr").replace(b"numpy._core", b"numpy.core")


def files(protocol: int) -> dict[str, bytes]:
    """A dataset in Planetoid's format, as small as PyTorch Geometric's reader takes; the tests are out of order."""
    rng = np.random.default_rng(0)
    n, first_test = 520, 510
    features = sp.csr_matrix((rng.random((n, 5)) * (rng.random((n, 5)) < 0.5)).astype(np.float32))
    labels = np.eye(3, dtype=np.int32)[np.arange(n) % 3]
    # A ring, an edge listed twice, and a self-loop.
    graph = collections.defaultdict(list, {i: [(i - 1) % n, (i + 1) % n] for i in range(n)})
    graph[3] += [4, 3]
    return {
        "x": python2(features[:2], protocol),
        "allx": python2(features[:first_test], protocol),
        "tx": python2(features[first_test:], protocol),
        "y": python2(labels[:2], protocol),
        "ally": python2(labels[:first_test], protocol),
        "ty": python2(labels[first_test:], protocol),
        "graph": python2(graph, protocol),
        "test.index": "".join(f"{node}\n" for node in rng.permutation(np.arange(first_test, n))).encode(),
    }


@pytest.mark.parametrize("protocol", [0, 2])
def test_reads_what_pytorch_geometric_reads(protocol: int, tmp_path: Path) -> None:
    content = files(protocol)
    for name, part in content.items():
        (tmp_path / f"ind.pubmed.{name}").write_bytes(part.replace(b"scipy.sparse.csr\n", b"scipy.sparse._csr\n"))
    reference = read_planetoid_data(os.fspath(tmp_path), "pubmed").coalesce()
    x, adjacency, y = planetoid.parse(content)
    assert torch.equal(x, reference.x)
    assert y.tolist() == reference.y.tolist()
    assert torch.equal(edge_index(adjacency), reference.edge_index)


class Trap:
    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return os.putenv, ("TRAP", "sprung")


@pytest.mark.parametrize("part", planetoid.PARTS[:-1])
def test_refuses_a_pickle_that_names_anything_but_arrays(part: str) -> None:
    content = {**files(2), part: pickle.dumps(Trap(), protocol=2)}
    with pytest.raises(UnreadableFileError, match=r"it names (posix|nt|os)\.putenv, which is no array"):
        planetoid.parse(content)


@pytest.mark.parametrize("part", planetoid.PARTS)
def test_a_truncated_file_says_to_delete_it(part: str) -> None:
    content = files(2)
    content[part] = content[part][: len(content[part]) // 2] if part != "test.index" else b"510\n999\n"
    with pytest.raises(UnreadableFileError, match="delete them and allow the download"):
        planetoid.parse(content)


def test_pubmed_is_read_from_the_folder_and_gets_its_split(tmp_path: Path) -> None:
    (tmp_path / "planetoid").mkdir()
    rng = np.random.default_rng(0)
    labels = np.eye(3, dtype=np.int32)[np.arange(60) % 3]
    content = {
        "allx": sp.csr_matrix(rng.random((50, 4)).astype(np.float32)),
        "tx": sp.csr_matrix(rng.random((10, 4)).astype(np.float32)),
        "ally": labels[:50],
        "ty": labels[50:],
        "graph": {i: [(i + 1) % 60] for i in range(60)},
    }
    for name, value in content.items():
        (tmp_path / "planetoid" / f"ind.pubmed.{name}").write_bytes(python2(value, 2))
    (tmp_path / "planetoid" / "ind.pubmed.test.index").write_text("\n".join(map(str, range(59, 49, -1))))
    data = load("pubmed", split="random", root=tmp_path, download=False)
    assert (data.num_nodes, data.num_edges, data.name) == (60, 120, "pubmed")
