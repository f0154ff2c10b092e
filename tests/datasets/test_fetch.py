from __future__ import annotations

import hashlib
import http.server
import io
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from contractive_gnn import datasets
from contractive_gnn.datasets import (
    AlteredFileError,
    DatasetError,
    DownloadError,
    InvalidGraphError,
    MissingFileError,
    UnreadableFileError,
    fetch,
    load,
    load_attacked,
    published,
)
from contractive_gnn.datasets.fetch import Source

CONTENT = b"as published" * 100
FILE = "graphs/some.npz"


def source(url: str, content: bytes = CONTENT, file: str = FILE) -> Source:
    return Source(file=file, url=url, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def put(folder: Path, content: bytes, file: str = FILE) -> Path:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def altered(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no $CONTRACTIVE_GNN_DATA, and no proxy between us and this machine's own server."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(fetch, "cache_folder", lambda: folder)
    monkeypatch.delenv(fetch.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return folder


@pytest.fixture
def unreachable() -> str:
    """An address at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/some.npz"


class Server(http.server.ThreadingHTTPServer):
    """Serves ``pages`` by path, counts requests, and can cut an answer short."""

    pages: dict[str, bytes]
    requests: int = 0
    cut: bool = False

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        page = self.server.pages.get(self.path.lstrip("/"))
        self.send_response(404 if page is None else 200)
        self.send_header("Content-Length", str(len(page or b"")))
        self.end_headers()
        self.wfile.write(page[: len(page) // 2] if page and self.server.cut else page or b"")

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.pages = {"some.npz": CONTENT}
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


# The manifest


def test_manifest_is_complete_and_well_formed() -> None:
    manifest = fetch.manifest()
    assert len(manifest) == 58  # 4 graphs, 5 splits, 25 Metattack, 20 Nettack and 4 lists of targets
    for file, entry in manifest.items():
        assert file == entry.file
        assert entry.url.startswith("https://raw.githubusercontent.com/")
        assert entry.url.endswith("/" + file.split("/")[-1])
        assert entry.sha256 is not None
        assert re.fullmatch("[0-9a-f]{64}", entry.sha256)
        assert entry.bytes
    assert {published.graph_file(name) for name in ("cora", "citeseer", "polblogs", "cora_ml")} <= set(manifest)
    assert {published.split_file(name) for name in published.PUBLISHED} <= set(manifest)


def test_every_file_of_the_manifest_is_used_by_a_dataset() -> None:
    used = {file.file for entry in datasets.status() for file in entry.files if not file.file.startswith("planetoid/")}
    assert used == set(fetch.manifest())


def test_a_file_that_the_manifest_lacks_is_an_error() -> None:
    with pytest.raises(DatasetError, match=r"no file 'graphs/none.npz'; it has graphs/cora.npz"):
        fetch.known("graphs/none.npz")


# Order of the places


def test_places_are_searched_in_order(
    tmp_path: Path, cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = source(server.url("some.npz"))
    assert fetch.read(wanted) == CONTENT  # downloads into the cache
    assert (cache / FILE).read_bytes() == CONTENT
    assert fetch.read(wanted, download=False) == CONTENT
    assert server.requests == 1

    root, env = tmp_path / "root", tmp_path / "env"
    put(root, CONTENT)
    put(env, CONTENT)
    assert [(p.label, p.folder) for p in fetch.places()] == [("the cache", cache)]
    monkeypatch.setenv(fetch.ENVIRONMENT_VARIABLE, str(env))
    for given, found in ((root, root), (str(root), root), (None, env)):
        hit = fetch.locate(FILE, root=given)
        assert hit is not None
        assert hit[1] == found / FILE
    (env / FILE).unlink()
    hit = fetch.locate(FILE)
    assert hit is not None
    assert hit[1] == cache / FILE
    monkeypatch.setenv(fetch.ENVIRONMENT_VARIABLE, "")
    assert len(fetch.places()) == 1


@pytest.mark.parametrize("named_by", ["root", "environment"])
def test_a_folder_that_does_not_exist_is_an_error(
    named_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    if named_by == "environment":
        monkeypatch.setenv(fetch.ENVIRONMENT_VARIABLE, str(gone))
    with pytest.raises(
        MissingFileError, match=r"is '.*gone', which is not a folder; give the folder that holds graphs/"
    ):
        load("cora", root=gone if named_by == "root" else None)


# Digests


@pytest.mark.parametrize(
    ("damage", "message"),
    [(altered, "is altered: its SHA-256 is"), (lambda c: c[:-1], "is truncated: it has 1199 bytes, expected 1200")],
)
@pytest.mark.parametrize("named_by", ["root", "environment"])
def test_a_damaged_file_of_the_users_own_is_named_and_never_skipped(
    damage: Any,
    message: str,
    named_by: str,
    tmp_path: Path,
    cache: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(cache, CONTENT)
    path = put(tmp_path / "own", damage(CONTENT))
    if named_by == "environment":
        monkeypatch.setenv(fetch.ENVIRONMENT_VARIABLE, str(tmp_path / "own"))
    root = tmp_path / "own" if named_by == "root" else None
    with pytest.raises(
        AlteredFileError, match=f"(?s){re.escape(str(path))}.*{message}.*delete it, or put the original"
    ):
        fetch.read(source(server.url("some.npz")), root=root)
    assert server.requests == 0


def test_a_damaged_file_in_the_cache_is_downloaded_again(cache: Path, server: Server) -> None:
    path = put(cache, altered(CONTENT))
    with pytest.warns(UserWarning, match="is altered.*downloading it again"):
        assert fetch.read(source(server.url("some.npz"))) == CONTENT
    assert path.read_bytes() == CONTENT


def test_a_damaged_file_in_the_cache_is_an_error_without_download(cache: Path, unreachable: str) -> None:
    put(cache, CONTENT[:50])
    with pytest.raises(AlteredFileError, match=r"is truncated.*delete it and allow the download"):
        fetch.read(source(unreachable), download=False)


def test_the_digest_is_checked_at_every_read(tmp_path: Path, unreachable: str) -> None:
    path = put(tmp_path, CONTENT)
    assert fetch.read(source(unreachable), root=tmp_path) == CONTENT
    path.write_bytes(altered(CONTENT))
    with pytest.raises(AlteredFileError):
        fetch.read(source(unreachable), root=tmp_path)
    assert fetch.file_status(source(unreachable), root=tmp_path).state == "altered"


# Downloads


def test_no_network_says_what_to_do_and_leaves_nothing_behind(cache: Path, unreachable: str) -> None:
    with pytest.raises(
        DownloadError,
        match=r"could not download graphs/some.npz from http://127.*check the network.*CONTRACTIVE_GNN_DATA=FOLDER",
    ):
        fetch.read(source(unreachable))
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_an_address_that_is_gone_is_a_download_error(server: Server) -> None:
    with pytest.raises(DownloadError, match="404"):
        fetch.read(source(server.url("moved.npz")))


def test_another_file_at_the_address_is_refused_and_not_kept(cache: Path, server: Server) -> None:
    server.pages["some.npz"] = b"<html>please log in</html>"
    with pytest.raises(AlteredFileError, match="is not the file of the manifest"):
        fetch.read(source(server.url("some.npz")))
    assert not (cache / FILE).exists()


def test_what_lands_in_the_cache_is_checked_again_before_use(
    cache: Path, unreachable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(cache, altered(CONTENT), "elsewhere.npz")
    monkeypatch.setattr(fetch, "_download", lambda source: path)  # as if another process had written in between
    with pytest.raises(AlteredFileError, match=r"is altered.*delete it and try again"):
        fetch.read(source(unreachable))


def test_a_download_cut_short_is_an_error_and_not_kept(cache: Path, server: Server) -> None:
    server.cut = True
    with pytest.raises((DownloadError, AlteredFileError)):
        fetch.read(source(server.url("some.npz")))
    assert not (cache / FILE).exists()


def test_a_cache_that_cannot_be_written_is_a_download_error(cache: Path, server: Server) -> None:
    cache.write_bytes(b"a file where the folder should be")
    with pytest.raises(DownloadError, match="the folder can be written"):
        fetch.read(source(server.url("some.npz")))


def test_download_false_lists_the_places_searched(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(MissingFileError) as caught:
        load("cora", root=tmp_path, download=False)
    for part in (f"root ({tmp_path})", f"the cache ({cache})", "download=True", "https://raw.githubusercontent.com"):
        assert part in str(caught.value)


# A whole dataset, from a file like the published ones to a graph


class Trap:
    """Whoever unpickles this has loaded a pickle."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return pytest.fail, ("a pickle was loaded",)


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def raw_graph(**replaced: Any) -> bytes:
    """Directed and weighted, with a self-loop, an edge both ways, an isolated node (0) and an object array."""
    n = 41
    row = np.arange(1, n - 1)
    adjacency = sp.csr_matrix((np.full(n - 2, 3.0), (row, row + 1)), shape=(n, n)).tolil()
    adjacency[5, 5] = 1.0
    adjacency[2, 1] = 1.0  # the way back of an edge that is there
    adjacency, features = adjacency.tocsr(), sp.identity(n, dtype=np.int64, format="csr")
    parts = {
        f"{prefix}_{part}": np.asarray(getattr(matrix, part))
        for prefix, matrix in (("adj", adjacency), ("attr", features))
        for part in ("data", "indices", "indptr", "shape")
    }
    trap = np.array([Trap()], dtype=object)
    return npz(**{**parts, "labels": (np.arange(n) % 2).astype(np.int8), "idx_to_node": trap, **replaced})


def publish(monkeypatch: pytest.MonkeyPatch, folder: Path, url: str, files: dict[str, bytes]) -> None:
    entries = {file: source(url, content, file) for file, content in files.items()}
    monkeypatch.setattr(fetch, "manifest", lambda: entries)
    for file, content in files.items():
        put(folder, content, file)


def test_a_raw_graph_is_loaded_by_the_protocol_and_its_pickles_are_not_touched(
    tmp_path: Path, unreachable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = {"idx_train": [0, 1], "idx_val": [2], "idx_test": [3, 39]}
    files = {"graphs/cora_ml.npz": raw_graph(), "splits/cora_ml_prognn_splits.json": json.dumps(split).encode()}
    publish(monkeypatch, tmp_path, unreachable, files)
    data = load("cora_ml", root=tmp_path)
    assert data.num_nodes == 40
    assert data.edge_index.T.tolist() == sorted([[i, i + 1] for i in range(39)] + [[i + 1, i] for i in range(39)])
    assert data.y.tolist() == [(i + 1) % 2 for i in range(40)]
    assert data.x[0].nonzero().tolist() == [[1]]
    assert data.train_mask.nonzero().flatten().tolist() == [0, 1]
    assert data.test_mask.nonzero().flatten().tolist() == [3, 39]


@pytest.mark.parametrize("replaced", [{"labels": np.array([Trap()], dtype=object)}, None])
def test_a_file_that_needs_a_pickle_or_is_no_archive_is_refused(
    replaced: dict[str, Any] | None, tmp_path: Path, unreachable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"no archive" if replaced is None else raw_graph(**replaced)
    publish(monkeypatch, tmp_path, unreachable, {"graphs/cora_ml.npz": content})
    with pytest.raises(UnreadableFileError, match=r"graphs/cora_ml\.npz is not an npz file of plain arrays"):
        load("cora_ml", root=tmp_path)


def test_an_archive_without_labels_is_refused(
    tmp_path: Path, unreachable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tmp_path, unreachable, {"graphs/cora_ml.npz": npz(adj_data=np.ones(1))})
    with pytest.raises(UnreadableFileError, match="adj_indices"):
        load("cora_ml", root=tmp_path)


@pytest.mark.usefixtures("real_data")
def test_a_real_file_altered_by_one_bit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # back to the user's own data
    hit = fetch.locate("graphs/polblogs.npz")
    assert hit is not None
    put(tmp_path, altered(hit[1].read_bytes()), "graphs/polblogs.npz")
    with pytest.raises(AlteredFileError, match=r"polblogs\.npz .* is altered: its SHA-256"):
        load("polblogs", root=tmp_path)
    (entry,) = (entry for entry in datasets.status(tmp_path) if entry.name == "polblogs")
    assert entry.state == "altered"


def test_an_attacked_graph_of_another_size_is_refused(
    tmp_path: Path, unreachable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = sp.identity(41, format="csr")
    attacked = npz(data=larger.data, indices=larger.indices, indptr=larger.indptr, shape=np.array(larger.shape))
    split = json.dumps({f"idx_{part}": [i] for i, part in enumerate(("train", "val", "test"))}).encode()
    attack = "metattack/cora_ml_meta_adj_0.05.npz"
    files = {"graphs/cora_ml.npz": raw_graph(), "splits/cora_ml_prognn_splits.json": split, attack: attacked}
    publish(monkeypatch, tmp_path, unreachable, files)
    with pytest.raises(InvalidGraphError, match=r"has shape \(41, 41\), but the clean cora_ml has 40 nodes"):
        load_attacked("cora_ml", "metattack", 0.05, root=tmp_path)
