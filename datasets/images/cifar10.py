"""CIFAR-10 (Krizhevsky 2009): 60,000 photographs of 32 × 32 in ten classes.

Two forms are read. One npz file for a split, ``images/cifar10_train.npz``, has every image as a JPEG: ``jpeg`` (all
bytes, uint8), ``offsets`` (where each begins, and the end), ``labels`` and ``classes``. A compression with losses:
results must say so. The other form is the published one, ``images/cifar-10-batches-py``, which torchvision downloads.
"""

from __future__ import annotations

import io
import itertools
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contractive_gnn.datasets import fetch
from contractive_gnn.datasets.errors import (
    AlteredFileError,
    DownloadError,
    MissingFileError,
    UnreadableFileError,
)
from contractive_gnn.datasets.fetch import Folder
from contractive_gnn.datasets.images.classification import ImageData
from contractive_gnn.datasets.images.sources import described, origin, pinned_files, verified
from contractive_gnn.datasets.published import arrays
from contractive_gnn.extras import needs

JPEG = "re-encoded as JPEG"
_BATCHES = "cifar-10-batches-py"


def cifar10(split: str, *, root: Folder | None, download: bool) -> ImageData:
    """A split of CIFAR-10; see :func:`contractive_gnn.datasets.images.load_images`."""
    file, searched = f"images/cifar10_{split}.npz", fetch.places(root)
    for place in searched:
        archive, batches = place.folder / file, place.folder / "images" / _BATCHES
        if archive.is_file():
            status = archive.stat()
            return _of_archive(archive, file, split, status.st_mtime_ns, status.st_size)
        # what a download left in the cache half done is completed below
        if batches.is_dir() and not (download and place.folder == fetch.cache_folder()):
            return _of_batches(batches, split)
    if not download:
        raise MissingFileError(f"neither {file} nor images/{_BATCHES} is in {described(searched)}; {origin(file)}")
    _download(fetch.cache_folder() / "images")
    return _of_batches(fetch.cache_folder() / "images" / _BATCHES, split)


@lru_cache(maxsize=2)  # both splits; modification time and size say whether the file is still the same
def _of_archive(path: Path, file: str, split: str, modified: int, size: int) -> ImageData:
    source = pinned_files()[file]
    parts = arrays(verified(path, source), ["jpeg", "offsets", "labels", "classes"], source=source)
    data, offsets = parts["jpeg"].tobytes(), parts["offsets"].tolist()
    with needs("images", "reading images"):
        from PIL import Image, UnidentifiedImageError
    pixels = np.empty((len(offsets) - 1, 32, 32, 3), dtype=np.uint8)
    try:
        for index, (start, end) in enumerate(itertools.pairwise(offsets)):
            with Image.open(io.BytesIO(data[start:end])) as image:
                pixels[index] = np.asarray(image)
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise UnreadableFileError(f"image {index} of {path} cannot be read as 32 × 32 colours ({error})") from error
    return _image_data(pixels, parts["labels"], parts["classes"], split, JPEG)


@lru_cache(maxsize=2)
def _of_batches(folder: Path, split: str) -> ImageData:
    with needs("images", "CIFAR-10 as published"):
        from torchvision.datasets import CIFAR10
    try:
        # compares the MD5 of each file with the published one before it reads any
        published = CIFAR10(folder.parent, train=split == "train", download=False)
    except RuntimeError as error:
        raise AlteredFileError(
            f"{folder} does not hold CIFAR-10 as published ({error}); delete it and allow the download"
        ) from error
    return _image_data(published.data, published.targets, published.classes, split, "")


def _download(folder: Path) -> None:
    with needs("images", "the download of CIFAR-10"):
        from torchvision.datasets import CIFAR10
    try:
        CIFAR10(folder, download=True)
    except (OSError, RuntimeError) as error:
        raise DownloadError(
            f"could not download CIFAR-10 from {CIFAR10.url} into {folder} ({type(error).__name__}: {error}); check "
            f"the network, or fetch it on another machine, unpack it into FOLDER/images/{_BATCHES} and set "
            "CONTRACTIVE_GNN_DATA=FOLDER"
        ) from error


def _image_data(pixels: Any, labels: Any, classes: Any, split: str, note: str) -> ImageData:
    return ImageData(
        images=torch.from_numpy(np.ascontiguousarray(np.asarray(pixels).transpose(0, 3, 1, 2))),
        labels=torch.from_numpy(np.asarray(labels, dtype=np.int64)),
        classes=tuple(map(str, classes)),
        name=f"cifar10/{split}",
        note=note,
    )
