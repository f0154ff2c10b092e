"""Labelled images by their name."""

from __future__ import annotations

from contractive_gnn.datasets.errors import UnknownDatasetError, UnknownSplitError
from contractive_gnn.datasets.fetch import Folder
from contractive_gnn.datasets.images.cifar10 import cifar10
from contractive_gnn.datasets.images.classification import ImageData
from contractive_gnn.datasets.images.digits import digits
from contractive_gnn.names import unknown

#: the sets of :func:`load_images`
IMAGES = ("cifar10", "digits")
SPLITS = ("train", "test")


def load_images(name: str, split: str = "train", *, root: Folder | None = None, download: bool = True) -> ImageData:
    """A split of labelled images, decoded once for each process.

    ===========  =====================  ==========================================================================
    name         train and test         what
    ===========  =====================  ==========================================================================
    ``cifar10``  50,000 and 10,000      photographs of 32 × 32, ten classes (Krizhevsky 2009)
    ``digits``   1,437 and 360          8 × 8, grey, ten classes: within scikit-learn, so it needs no files
    ===========  =====================  ==========================================================================

    CIFAR-10 is taken from the first of ``root``, ``$CONTRACTIVE_GNN_DATA``, the cache and the public address that has
    it, as published or as an npz file of JPEGs; ``note`` says when the latter. :func:`hold_out` splits off images to
    validate on.

    Args:
        name: of the table.
        split: ``"train"`` or ``"test"``.
        root: folder that is searched first.
        download: whether CIFAR-10 may be downloaded into the cache (163 MB, through torchvision).

    Raises:
        UnknownDatasetError: no such images.
        UnknownSplitError: no such split.
        MissingFileError: no place has them and ``download`` is false, or a named folder does not exist.
        AlteredFileError: a file is not the one that is pinned.
        DownloadError: the download failed.
        MissingExtraError: pillow or torchvision is needed and not installed.

    Example:
        >>> load_images("digits", "test").shape
        (1, 8, 8)
    """
    if name not in IMAGES:
        raise UnknownDatasetError(unknown("set of images", [name], IMAGES))
    if split not in SPLITS:
        raise UnknownSplitError(
            f"split {split!r} given; expected 'train' or 'test'. To validate, use hold_out(load_images({name!r}))"
        )
    return digits(split) if name == "digits" else cifar10(split, root=root, download=download)
