"""Digits, and CIFAR-10 in both of its forms, from every place."""

from __future__ import annotations

import hashlib
import http.server
import io
import pickle
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch

from contractive_gnn.datasets import fetch
from contractive_gnn.datasets.errors import (
    AlteredFileError,
    DownloadError,
    MissingFileError,
    UnknownDatasetError,
    UnknownSplitError,
    UnreadableFileError,
)
from contractive_gnn.datasets.fetch import Source
from contractive_gnn.datasets.images import cifar10 as module
from contractive_gnn.datasets.images import hold_out, load_images

pytest.importorskip("PIL")


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no $CONTRACTIVE_GNN_DATA, and nothing remembered: the folder of the cache."""
    monkeypatch.setattr(fetch, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv(fetch.ENVIRONMENT_VARIABLE, raising=False)
    module._of_archive.cache_clear()
    module._of_batches.cache_clear()
    return tmp_path / "cache"


def colours(n: int) -> np.ndarray:
    """Images of one colour each, which a JPEG keeps to within a level or two."""
    return np.broadcast_to((np.arange(n, dtype=np.uint8) * 20)[:, None, None, None], (n, 32, 32, 3)).copy()


def archive(folder: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch, *, pinned: bool = True) -> Path:
    """An npz file of JPEGs, and the pin that says that it is the test split."""
    from PIL import Image

    parts = []
    for image in pixels:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=95)
        parts.append(buffer.getvalue())
    path = folder / "images" / "cifar10_test.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        jpeg=np.frombuffer(b"".join(parts), dtype=np.uint8),
        offsets=np.cumsum([0, *map(len, parts)]),
        labels=np.arange(len(parts), dtype=np.uint8) % 10,
        classes=np.array([f"class {label}" for label in range(10)]),
    )
    if pinned:
        content = path.read_bytes()
        source = Source("images/cifar10_test.npz", "", hashlib.sha256(content).hexdigest(), len(content))
        monkeypatch.setattr(module, "pinned_files", lambda: MappingProxyType({source.file: source}))
    return path


def batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small CIFAR-10 in the published form, with torchvision's digests set to it."""
    torchvision = pytest.importorskip("torchvision")
    kind, path = torchvision.datasets.CIFAR10, folder / "images" / "cifar-10-batches-py"
    path.mkdir(parents=True)
    flat = colours(10).transpose(0, 3, 1, 2).reshape(10, -1)
    contents = {
        "data_batch_1": {"data": flat, "labels": list(range(10))},
        "test_batch": {"data": flat[:4], "labels": [3, 2, 1, 0]},
        "batches.meta": {"label_names": [f"class {label}" for label in range(10)]},
    }
    md5 = {}
    for name, content in contents.items():
        (path / name).write_bytes(pickle.dumps(content))
        md5[name] = hashlib.md5((path / name).read_bytes()).hexdigest()
    monkeypatch.setattr(kind, "train_list", [["data_batch_1", md5["data_batch_1"]]])
    monkeypatch.setattr(kind, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5["batches.meta"]})
    return path


def test_digits_need_no_files(alone: Path) -> None:
    train, test = load_images("digits"), load_images("digits", "test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.shape == (1, 8, 8)
    assert (train.name, test.name) == ("digits/train", "digits/test")
    assert float(train.floats().max()) == 1.0
    both = torch.cat([train.images, test.images]).flatten(1)
    assert len(torch.unique(both, dim=0)) == 1797  # none is in both
    assert max(test.labels.bincount()) - min(test.labels.bincount()) <= 2


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownDatasetError, match="Did you mean 'cifar10'"):
        load_images("cifar-10")
    with pytest.raises(UnknownSplitError, match=r"'val' given; expected 'train' or 'test'.*hold_out"):
        load_images("digits", "val")


def test_an_archive_of_jpegs_is_read_and_says_so(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = colours(12)
    archive(tmp_path, pixels, monkeypatch)
    data = load_images("cifar10", "test", root=tmp_path, download=False)
    assert data.note == "re-encoded as JPEG"
    assert data.labels.tolist() == [*range(10), 0, 1]
    assert data.classes[3] == "class 3"
    assert int((data.images.permute(0, 2, 3, 1).int() - torch.from_numpy(pixels).int()).abs().max()) <= 2
    assert load_images("cifar10", "test", root=tmp_path).images is data.images  # decoded once


def test_a_changed_archive_is_not_what_is_remembered(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(tmp_path, colours(12), monkeypatch)
    load_images("cifar10", "test", root=tmp_path)
    archive(tmp_path, colours(11), monkeypatch, pinned=False)
    with pytest.raises(AlteredFileError, match=r"cifar10_test.npz is (truncated|altered)"):
        load_images("cifar10", "test", root=tmp_path)


def test_an_archive_of_other_images_is_refused(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(tmp_path, np.zeros((10, 16, 16, 3), dtype=np.uint8), monkeypatch)
    with pytest.raises(UnreadableFileError, match=r"image 0 of .* cannot be read as 32 × 32"):
        load_images("cifar10", "test", root=tmp_path)


def test_the_published_form_is_read(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches(tmp_path, monkeypatch)
    monkeypatch.setenv(fetch.ENVIRONMENT_VARIABLE, str(tmp_path))
    data = load_images("cifar10", "test", download=False)
    assert data.note == ""
    assert data.labels.tolist() == [3, 2, 1, 0]
    assert torch.equal(data.images, torch.from_numpy(colours(4)).permute(0, 3, 1, 2))
    assert len(load_images("cifar10")) == 10


def test_an_altered_batch_is_refused(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = batches(tmp_path, monkeypatch)
    (path / "test_batch").write_bytes(b"no batch")
    with pytest.raises(AlteredFileError, match="does not hold CIFAR-10 as published"):
        load_images("cifar10", root=tmp_path)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of this machine's own server of the test's folder, with no proxy before it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_what_is_nowhere_is_downloaded_into_the_cache(
    alone: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = batches(tmp_path / "served", monkeypatch)
    from torchvision.datasets import CIFAR10

    packed = tmp_path / "cifar.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    monkeypatch.setattr(CIFAR10, "url", f"{server}/{packed.name}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(packed.read_bytes()).hexdigest())
    with pytest.raises(MissingFileError, match=r"cifar10_test.npz nor images/cifar-10-batches-py .*download=True"):
        load_images("cifar10", "test", download=False)
    assert len(load_images("cifar10", "test")) == 4
    assert (alone / "images" / "cifar-10-batches-py" / "test_batch").is_file()
    packed.unlink()
    module._of_batches.cache_clear()
    assert len(load_images("cifar10", "test")) == 4  # from the cache
    (alone / "images" / "cifar-10-batches-py" / "test_batch").unlink()
    module._of_batches.cache_clear()
    (alone / "images" / "cifar-10-python.tar.gz").unlink()
    with pytest.raises(DownloadError, match=r"could not download CIFAR-10 from http:.*CONTRACTIVE_GNN_DATA=FOLDER"):
        load_images("cifar10", "test")


@pytest.mark.usefixtures("real_images")
def test_the_test_split_of_cifar10() -> None:
    data = load_images("cifar10", "test", download=False)
    assert len(data) == 10_000
    assert data.shape == (3, 32, 32)
    assert data.labels.bincount().tolist() == [1000] * 10
    assert data.classes[0] == "airplane"
    mean = data.floats(slice(2000)).mean(dim=(0, 2, 3))
    assert torch.allclose(mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=0.02)  # that of the training split
    train, val = hold_out(data, 1000)
    assert val.labels.bincount().tolist() == [100] * 10
    assert len(train) == 9000
