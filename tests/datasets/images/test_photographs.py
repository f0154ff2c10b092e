"""Photographs: grey and colours, their order, and the digests of their folders."""

from __future__ import annotations

import io
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch

from contractive_gnn.datasets import fetch
from contractive_gnn.datasets.errors import (
    AlteredFileError,
    InvalidImagesError,
    MissingFileError,
    UnknownDatasetError,
    UnreadableFileError,
)
from contractive_gnn.datasets.images import PHOTOGRAPHS, Photographs, load_photographs, sources
from contractive_gnn.datasets.images.sources import PinnedFolder
from contractive_gnn.extras import MissingExtraError

pytest.importorskip("PIL")

FOLDER = "images/bsds500/train"


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three small photographs in the place of bsds500/train: the data folder."""
    from PIL import Image

    folder = tmp_path / "data" / FOLDER
    folder.mkdir(parents=True)
    for name, size in (("20.png", (5, 4)), ("100.png", (4, 5)), ("3.png", (4, 4))):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        (folder / name).write_bytes(buffer.getvalue())
    digest = sources.folder_digest({path.name: path.read_bytes() for path in folder.iterdir()})
    pinned = PinnedFolder(FOLDER, 3, digest, ())
    monkeypatch.setattr(sources, "pinned_folders", lambda: MappingProxyType({FOLDER: pinned}))
    monkeypatch.setattr(fetch, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv(fetch.ENVIRONMENT_VARIABLE, raising=False)
    return tmp_path / "data"


def test_the_samples_need_no_files() -> None:
    grey, colours = load_photographs("samples"), load_photographs("samples", grey=False)
    assert grey.names == ("china.jpg", "flower.jpg")
    assert [list(image.shape) for image in (grey[0], colours[0])] == [[1, 427, 640], [3, 427, 640]]
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    luma = (weights * colours[0]).sum(0, keepdim=True)
    assert float((255 * (luma - grey[0])).abs().max()) <= 1.0  # rounded to a level
    assert torch.equal(255 * grey[1], (255 * grey[1]).round())


def test_they_come_in_the_order_of_their_names_with_the_sizes_that_they_have(three: Path) -> None:
    (three / FOLDER / "Thumbs.db").write_bytes(b"not one of them")
    photographs = load_photographs("bsds500/train", root=three)
    assert photographs.names == ("100.png", "20.png", "3.png")
    assert [list(image.shape) for image in photographs] == [[1, 5, 4], [1, 4, 5], [1, 4, 4]]
    assert photographs.channels == 1
    last = photographs[-2:]
    assert isinstance(last, Photographs)
    assert last.names == ("20.png", "3.png")
    assert last.digest != photographs.digest
    assert load_photographs("bsds500/train", root=three).digest == photographs.digest
    assert load_photographs("bsds500/train", root=three, grey=False).channels == 3


def test_an_altered_folder_is_refused(three: Path) -> None:
    folder = three / FOLDER
    shutil.copy(folder / "3.png", folder / "4.png")
    with pytest.raises(AlteredFileError, match="has 4 photographs, expected 3; its photographs are BSDS500"):
        load_photographs("bsds500/train", root=three)
    (folder / "3.png").unlink()
    with pytest.raises(AlteredFileError, match="the digest of its 3 photographs is"):
        load_photographs("bsds500/train", root=three)


def test_one_that_is_pinned_by_itself_is_named(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {path.name: path.read_bytes() for path in (three / FOLDER).iterdir()}
    pinned = replace(sources.pinned_folders()[FOLDER], sha256=None, names=("20.png",))
    source = fetch.Source(f"{FOLDER}/20.png", "there", "0" * 64, len(contents["20.png"]))
    monkeypatch.setattr(sources, "pinned_folders", lambda: MappingProxyType({FOLDER: pinned}))
    monkeypatch.setattr(sources, "pinned_files", lambda: MappingProxyType({source.file: source}))
    with pytest.raises(AlteredFileError, match=r"20.png is altered: its SHA-256 is .* put the original there: there"):
        load_photographs("bsds500/train", root=three)
    (three / FOLDER / "20.png").rename(three / FOLDER / "21.png")
    with pytest.raises(AlteredFileError, match=r"has no 20.png"):
        load_photographs("bsds500/train", root=three)


def test_what_is_no_photograph_is_refused(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (three / FOLDER / "3.png").write_bytes(b"no photograph")
    pinned = replace(sources.pinned_folders()[FOLDER], sha256=None)
    monkeypatch.setattr(sources, "pinned_folders", lambda: MappingProxyType({FOLDER: pinned}))
    with pytest.raises(UnreadableFileError, match=r"3.png of bsds500/train cannot be read as a photograph"):
        load_photographs("bsds500/train", root=three)


def test_what_is_nowhere_is_refused_with_where_to_get_it(three: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match=r"images/bsds500/train is in none of: root .*BSR_bsds500.tgz"):
        load_photographs("bsds500/train", root=tmp_path / "empty")


def test_without_pillow_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"reading photographs needs PIL.*contractive-gnn\[images\]"):
        load_photographs("samples")


def test_unknown_sets_and_colours_that_there_are_not() -> None:
    with pytest.raises(UnknownDatasetError, match="Did you mean 'bsd68'"):
        load_photographs("bsd86")
    with pytest.raises(UnknownDatasetError, match="set12 has no colours; ask for grey=True"):
        load_photographs("set12", grey=False)


@pytest.mark.parametrize(
    ("images", "names", "complaint"),
    [
        ((), (), "0 photographs and 0 names"),
        ((torch.zeros(1, 2, 2),), ("a", "b"), "1 photographs and 2 names"),
        ((torch.zeros(2, 2),), ("a",), r"a is torch.float32 \[2, 2\]; expected float32 \[c, H, W\]"),
        ((torch.zeros(1, 2, 2).double(),), ("a",), "a is torch.float64"),
        ((torch.zeros(1, 2, 2), torch.zeros(3, 2, 2)), ("a", "b"), "b has 3 channels, a 1; expected the same"),
        ((torch.full((1, 2, 2), 2.0),), ("a",), r"a has values outside \[0, 1\]"),
        ((torch.full((1, 2, 2), torch.nan),), ("a",), r"a has values outside \[0, 1\]"),
    ],
)
def test_what_is_no_set_of_photographs_is_refused(
    images: tuple[torch.Tensor, ...], names: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(InvalidImagesError, match=complaint):
        Photographs(images, names, "some")


@pytest.mark.usefixtures("real_images")
@pytest.mark.parametrize(("name", "count"), [("bsds500/val", 100), ("bsd68", 68), ("set12", 12)])
def test_the_real_sets(name: str, count: int) -> None:
    photographs = load_photographs(name)
    assert len(photographs) == count
    sizes = {tuple(image.shape) for image in photographs}
    assert sizes == ({(1, 256, 256), (1, 512, 512)} if name == "set12" else {(1, 321, 481), (1, 481, 321)})


@pytest.mark.usefixtures("real_images")
def test_bsd68_are_grey_photographs_of_the_validation_split_and_none_of_the_training_split() -> None:
    """To within a level: so nothing but bsds500/train may be tuned on, and our grey is that of the literature."""
    test = load_photographs("bsd68")
    found = {name: load_photographs(name) for name in ("bsds500/val", "bsds500/train")}

    def twins(name: str) -> int:
        means = {float(image.double().mean()): image for image in found[name]}
        count = 0
        for image in test:
            near = [other for mean, other in means.items() if abs(mean - float(image.double().mean())) < 1e-3]
            count += any(
                other.shape == image.shape and float((255 * (other - image)).abs().max()) < 1.5 for other in near
            )
        return count

    assert (twins("bsds500/val"), twins("bsds500/train")) == (68, 0)


def test_every_set_is_pinned() -> None:
    folders = {f"images/{name}" for name in PHOTOGRAPHS} - {"images/samples"}
    assert folders == set(sources.pinned_folders())
    assert all(len(entry.names) in (0, entry.files) for entry in sources.pinned_folders().values())
    assert all(entry.names or entry.sha256 for entry in sources.pinned_folders().values())
    assert all(source.sha256 and source.bytes for source in sources.pinned_files().values())


def test_only_a_folder_is_a_folder_and_only_a_file_is_a_photograph(three: Path, tmp_path: Path) -> None:
    (three / FOLDER / "made.png").mkdir()
    assert len(load_photographs("bsds500/train", root=three)) == 3
    other = tmp_path / "other" / FOLDER
    other.parent.mkdir(parents=True)
    other.write_text("a file")
    with pytest.raises(MissingFileError, match=r"images/bsds500/train is in none of: root"):
        load_photographs("bsds500/train", root=tmp_path / "other")


def test_photographs_of_other_types_are_refused_in_words() -> None:
    image = torch.zeros(1, 4, 4)
    assert Photographs([image], ["a"], "x").images == (image,)  # type: ignore[arg-type]
    with pytest.raises(InvalidImagesError, match=r"a is a ndarray; expected a torch.Tensor"):
        Photographs((image.numpy(),), ("a",), "x")  # type: ignore[arg-type]
    with pytest.raises(InvalidImagesError, match="images must be a tuple, got Tensor"):
        Photographs(image, ("a",), "x")  # type: ignore[arg-type]
    with pytest.raises(UnknownDatasetError, match=r"no set of photographs is called \['set12'\]"):
        load_photographs(["set12"])  # type: ignore[arg-type]
