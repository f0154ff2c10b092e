"""The image files that this package knows, where they come from, and the check that they are those.

A file is looked up under ``images/`` in the places of :mod:`contractive_gnn.datasets.fetch`: an explicit ``root``, the
folder named by ``$CONTRACTIVE_GNN_DATA``, the cache. Its SHA-256 is checked at every read, on the bytes handed back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from contractive_gnn.datasets.errors import AlteredFileError, MissingFileError
from contractive_gnn.datasets.fetch import Folder, Place, Source, difference, places

#: the name of a photograph ends like this; other files of its folder are not looked at
SUFFIXES = (".jpg", ".png")


@dataclass(frozen=True)
class PinnedFolder:
    """A folder of photographs.

    Attributes:
        folder: path inside a data folder, such as ``images/bsds500/train``.
        files: how many photographs it has.
        sha256: of the text with a line ``name digest`` for each photograph, in the order of the names; of the folders
            whose photographs are pinned one by one None.
        names: of the photographs that are pinned one by one.
    """

    folder: str
    files: int
    sha256: str | None
    names: tuple[str, ...]


@cache
def pinned_files() -> Mapping[str, Source]:
    """The files with a digest of their own, by their path inside a data folder."""
    files = _pins()["files"]
    return MappingProxyType({file: Source(file=file, url=origin(file), **entry) for file, entry in files.items()})


@cache
def pinned_folders() -> Mapping[str, PinnedFolder]:
    """The folders of photographs, by their path inside a data folder."""
    found = {}
    for folder, entry in _pins()["folders"].items():
        names = tuple(file.rpartition("/")[2] for file in pinned_files() if file.startswith(f"{folder}/"))
        found[folder] = PinnedFolder(folder, entry["files"], entry["sha256"], names)
    return MappingProxyType(found)


@cache
def _pins() -> dict[str, Any]:
    text = resources.files("contractive_gnn.datasets").joinpath("image_files.json").read_text(encoding="utf-8")
    pins: dict[str, Any] = json.loads(text)
    return pins


def origin(file: str) -> str:
    """Where to get a file or a folder, in words."""
    origins: dict[str, str] = _pins()["origins"]
    return next(text for start, text in origins.items() if file.startswith(start))


def find(file: str, *, root: Folder | None) -> Path | None:
    """The first place's path of a file or a folder; None where no place has it.

    Raises:
        MissingFileError: ``root`` or ``$CONTRACTIVE_GNN_DATA`` names a folder that does not exist.
    """
    fits = Path.is_dir if file in pinned_folders() else Path.is_file
    for place in places(root):
        if fits(path := place.folder / file):
            return path
    return None


def required(file: str, *, root: Folder | None) -> Path:
    """As :func:`find`, of a file that must be there.

    Raises:
        MissingFileError: no place has it.
    """
    path = find(file, root=root)
    if path is None:
        raise MissingFileError(f"{file} is in none of: {described(places(root))}; {origin(file)}")
    return path


def described(searched: list[Place]) -> str:
    """The places, in words."""
    return ", ".join(f"{place.label} ({place.folder})" for place in searched)


def read_pinned(file: str, *, root: Folder | None) -> bytes:
    """The verified content of a file of :func:`pinned_files`.

    Raises:
        AlteredFileError: it is not the file that is pinned.
        MissingFileError: no place has it.
    """
    return verified(required(file, root=root), pinned_files()[file])


def read_folder(folder: str, *, root: Folder | None) -> dict[str, bytes]:
    """The verified contents of the photographs of a folder, by name, in the order of their names.

    Raises:
        AlteredFileError: one is missing, is not the one that is pinned, or there is one too many.
        MissingFileError: no place has the folder.
    """
    pinned, path = pinned_folders()[folder], required(folder, root=root)
    files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES and file.is_file()]
    found = {file.name: file.read_bytes() for file in files}
    if len(found) != pinned.files:
        raise AlteredFileError(f"{path} has {len(found)} photographs, expected {pinned.files}; {origin(folder)}")
    for name in pinned.names:
        if name not in found:
            raise AlteredFileError(f"{path} has no {name}; {origin(folder)}")
        _check(found[name], pinned_files()[f"{folder}/{name}"], path / name)
    if pinned.sha256 is not None and (digest := folder_digest(found)) != pinned.sha256:
        raise AlteredFileError(
            f"{path} is altered: the digest of its {pinned.files} photographs is {digest}, expected {pinned.sha256}; "
            f"{origin(folder)}"
        )
    return found


def folder_digest(contents: Mapping[str, bytes]) -> str:
    """SHA-256 of the text with a line ``name digest`` for each file, in the order of the names, in hexadecimal."""
    lines = (f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in sorted(contents.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def verified(path: Path, source: Source) -> bytes:
    """The content of a file that was found.

    Raises:
        AlteredFileError: it is not the one that is pinned.
    """
    content = path.read_bytes()
    _check(content, source, path)
    return content


def _check(content: bytes, source: Source, path: Path) -> None:
    problem = difference(content, source)
    if problem is not None:
        raise AlteredFileError(f"{path} {problem}; delete it, or put the original there: {source.url}")
