"""Find, verify and download the files of the manifest.

A file is looked up in this order, and the first place that has it wins:

1. the explicit ``root``;
2. the folder named by ``$CONTRACTIVE_GNN_DATA``;
3. the user's cache (:func:`cache_folder`);
4. its public address, from which it is downloaded into the cache.

Its SHA-256 is checked at every read, on the very bytes that are handed back. A file of the user's own (``root``,
``$CONTRACTIVE_GNN_DATA``) that differs from the manifest is an error: it is neither used nor silently passed over. In
the cache, which belongs to this package, such a file is downloaded again, or is an error with ``download=False``.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from contractive_gnn.datasets.errors import AlteredFileError, DatasetError, DownloadError, MissingFileError
from contractive_gnn.extras import needs

ENVIRONMENT_VARIABLE = "CONTRACTIVE_GNN_DATA"
TIMEOUT_SECONDS = 30

Folder = str | os.PathLike[str]


@dataclass(frozen=True)
class Source:
    """One file of the manifest.

    Attributes:
        file: path inside a data folder, with forward slashes, such as ``graphs/cora.npz``.
        url: public address.
        sha256: expected digest, in hexadecimal; ``None`` where the publisher gives no digest and we have none.
        bytes: expected size; ``None`` as above.
    """

    file: str
    url: str
    sha256: str | None
    bytes: int | None


@dataclass(frozen=True)
class Place:
    """A folder that is searched for files, and what to call it in a message."""

    label: str
    folder: Path


@dataclass(frozen=True)
class FileStatus:
    """Where a file is, and whether it is what the manifest says.

    Attributes:
        file: path inside a data folder.
        bytes: size by the manifest; ``None`` where unknown.
        state: ``"here"``, ``"altered"`` (found, wrong digest) or ``"absent"`` (to be downloaded).
        path: the file found; ``None`` where absent.
    """

    file: str
    bytes: int | None
    state: str
    path: Path | None


@cache
def manifest() -> Mapping[str, Source]:
    """The files that this package knows, by their path inside a data folder."""
    text = resources.files("contractive_gnn.datasets").joinpath("manifest.json").read_text(encoding="utf-8")
    return MappingProxyType({entry["file"]: Source(**entry) for entry in json.loads(text)["files"]})


def cache_folder() -> Path:
    """The folder of the user's cache that downloads go to (by the custom of the operating system)."""
    with needs("bench", "the folder of downloads"):
        import pooch
    return Path(pooch.os_cache("contractive_gnn"))


def places(root: Folder | None = None) -> list[Place]:
    """The folders that are searched, in order.

    Raises:
        MissingFileError: ``root`` or ``$CONTRACTIVE_GNN_DATA`` names a folder that does not exist.
    """
    named = [("root", root), (f"${ENVIRONMENT_VARIABLE}", os.environ.get(ENVIRONMENT_VARIABLE) or None)]
    found = [Place(label, Path(folder)) for label, folder in named if folder is not None]
    for place in found:
        if not place.folder.is_dir():
            raise MissingFileError(
                f"{place.label} is {str(place.folder)!r}, which is not a folder; give the folder that holds graphs/, "
                f"images/, metattack/, nettack/ and splits/, or leave {place.label} unset to use the cache and the "
                "download"
            )
    return [*found, Place("the cache", cache_folder())]


def locate(file: str, *, root: Folder | None = None) -> tuple[Place, Path] | None:
    """The first place that has ``file``, and its path there; ``None`` where no place has it."""
    for place in places(root):
        path = place.folder / file
        if path.is_file():
            return place, path
    return None


def difference(content: bytes, source: Source) -> str | None:
    """In words, how ``content`` differs from what the manifest says; ``None`` where it does not."""
    if source.bytes is not None and len(content) != source.bytes:
        kind = "truncated" if len(content) < source.bytes else "altered"
        return f"is {kind}: it has {len(content)} bytes, expected {source.bytes}"
    digest = hashlib.sha256(content).hexdigest()
    if source.sha256 is not None and digest != source.sha256:
        return f"is altered: its SHA-256 is {digest}, expected {source.sha256}"
    return None


def read(source: Source, *, root: Folder | None = None, download: bool = True) -> bytes:
    """The verified content of a file.

    Args:
        source: which file, see :func:`manifest`.
        root: folder searched first.
        download: whether a file that is in no place may be downloaded into the cache.

    Raises:
        AlteredFileError: the file found (or downloaded) is not the one the manifest names.
        MissingFileError: no place has it and ``download`` is false, or a named folder does not exist.
        DownloadError: no network, no such address, or the cache cannot be written.
    """
    hit = locate(source.file, root=root)
    if hit is not None:
        place, path = hit
        content = path.read_bytes()
        problem = difference(content, source)
        if problem is None:
            return content
        in_cache = place.folder == cache_folder()
        if not (in_cache and download):
            remedy = "delete it and allow the download" if in_cache else "delete it, or put the original there"
            raise AlteredFileError(f"{path} (in {place.label}) {problem}; {remedy}: {source.url}")
        warnings.warn(f"{path} {problem}; downloading it again", stacklevel=2)
    elif not download:
        searched = ", ".join(f"{place.label} ({place.folder})" for place in places(root))
        raise MissingFileError(
            f"{source.file} is in none of: {searched}; allow the download (download=True), or fetch it from "
            f"{source.url} into one of these folders under that name"
        )
    content = _download(source).read_bytes()
    problem = difference(content, source)
    if problem is not None:  # changed between pooch's check and ours
        raise AlteredFileError(f"{cache_folder() / source.file} {problem}; delete it and try again")
    return content


def _download(source: Source) -> Path:
    with needs("bench", "a download"):
        import pooch
    target = cache_folder() / source.file
    try:
        path = pooch.retrieve(
            source.url,
            known_hash=None if source.sha256 is None else f"sha256:{source.sha256}",
            fname=target.name,
            path=target.parent,
            downloader=pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT_SECONDS),
        )
    except OSError as error:  # requests' errors are OSErrors as well as the disk's
        raise DownloadError(
            f"could not download {source.file} from {source.url} into {target.parent} "
            f"({type(error).__name__}: {error}); check the network, and that the folder can be written; or "
            f"fetch the file on another machine, put it in FOLDER/{source.file} and set {ENVIRONMENT_VARIABLE}=FOLDER"
        ) from error
    except ValueError as error:  # pooch found another digest
        raise AlteredFileError(
            f"what {source.url} serves is not the file of the manifest ({error}); nothing was kept. A proxy or a login "
            "page may have answered in its place, or the publisher changed it: try another network, or report it"
        ) from error
    return Path(path)


def file_status(source: Source, *, root: Folder | None = None) -> FileStatus:
    """Where a file is and whether its digest is right, without downloading anything."""
    hit = locate(source.file, root=root)
    if hit is None:
        return FileStatus(source.file, source.bytes, "absent", None)
    _, path = hit
    altered = difference(path.read_bytes(), source) is not None
    return FileStatus(source.file, source.bytes, "altered" if altered else "here", path)


def known(file: str) -> Source:
    """The manifest's entry for ``file``.

    Raises:
        DatasetError: the manifest has no such file.
    """
    try:
        return manifest()[file]
    except KeyError:
        raise DatasetError(f"the manifest has no file {file!r}; it has {', '.join(manifest())}") from None
