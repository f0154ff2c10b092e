"""Labelled images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from contractive_gnn.checks import check_whole
from contractive_gnn.datasets.errors import InvalidImagesError, UnknownSplitError


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images of one size, with a label each.

    Attributes:
        images: whole numbers from 0 (black) to ``white``, uint8 ``[n, c, H, W]``; shared by all who load them, so do
            not write to them.
        labels: int64 ``[n]``, in 0 … len(classes) − 1.
        classes: what each label is called.
        name: of the set and of the split, such as ``"cifar10/train"``.
        note: what a table must say of them, such as that they are JPEGs; empty for nothing.
        white: the largest value of a pixel.

    Raises:
        InvalidImagesError: shapes, types or values are others than these.
        TypeError: white is no whole number.

    Example:
        >>> import torch
        >>> data = ImageData(torch.full((2, 1, 4, 4), 255, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"), "two")
        >>> data.floats([0]).max()
        tensor(1.)
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    note: str = ""
    white: int = 255

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        for name, value in (("images", images), ("labels", labels)):
            if not isinstance(value, Tensor):
                raise InvalidImagesError(f"{name} are a {type(value).__name__}; expected a torch.Tensor")
        if not isinstance(self.classes, tuple | list):
            raise InvalidImagesError(f"classes are {self.classes!r}; expected a tuple with the name of each")
        object.__setattr__(self, "classes", tuple(self.classes))  # a list is no tuple of the same names
        check_whole("white", self.white)
        if images.dtype != torch.uint8 or images.dim() != 4 or not images.numel():
            raise InvalidImagesError(
                f"images are {images.dtype} {list(images.shape)}; expected uint8 [n, c, H, W] and at least one"
            )
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise InvalidImagesError(
                f"labels are {labels.dtype} {list(labels.shape)}; expected int64 [{len(images)}], one for each image"
            )
        if int(labels.min()) < 0 or int(labels.max()) >= len(self.classes):
            raise InvalidImagesError(
                f"labels run from {int(labels.min())} to {int(labels.max())}, but there are {len(self.classes)} "
                f"classes; expected 0 to {len(self.classes) - 1}"
            )
        if not 0 < self.white <= 255 or int(images.max()) > self.white:
            raise InvalidImagesError(
                f"the largest pixel is {int(images.max())} where white is {self.white}; expected at most white, and "
                "white in 1 … 255"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(c, H, W)`` of an image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def floats(
        self, indices: Tensor | Sequence[int] | slice | None = None, *, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """The chosen images (all of them for None) in [0, 1], ``[m, c, H, W]``."""
        return self.images[slice(None) if indices is None else indices].to(dtype).div_(self.white)

    def subset(self, indices: Tensor | Sequence[int] | slice, *, name: str | None = None) -> ImageData:
        """The chosen images, in the order of ``indices``, under a name of their own where one is given."""
        return replace(
            self, images=self.images[indices], labels=self.labels[indices], name=self.name if name is None else name
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of pixels, shape, labels and white, in hexadecimal."""
        shape = torch.tensor([*self.images.shape, self.white], dtype=torch.int64)
        sha = hashlib.sha256()
        for tensor in (shape, self.labels, self.images):
            sha.update(tensor.detach().cpu().contiguous().numpy().data)
        return sha.hexdigest()


def hold_out(data: ImageData, count: int = 5000, *, seed: int = 0) -> tuple[ImageData, ImageData]:
    """The images in two: all but ``count``, to train on, and ``count`` of them, to validate on.

    Every class gives the same share of its images, to within one. The choice depends on labels and seed alone; with
    the defaults it is the validation split of CIFAR-10 of every table of this library.

    Args:
        data: of a training split.
        count: 1 … n − 1.
        seed: 0 … 2³² − 1.

    Returns:
        ``(train, val)``, each in the order of ``data``.

    Raises:
        UnknownSplitError: count is out of range.
        TypeError: data are of another type, count or seed is no whole number.
        ValueError: the seed is out of range.
    """
    if not isinstance(data, ImageData):
        raise TypeError(f"data must be ImageData, as load_images gives, got {type(data).__name__}")
    check_whole("count", count)
    check_whole("seed", seed, least=0, below=2**32)
    if not 0 < count < len(data):
        raise UnknownSplitError(f"count = {count} given; expected 1 to {len(data) - 1} of the {len(data)} images")
    generator = np.random.RandomState(seed)
    labels = data.labels.numpy()
    members = [generator.permutation(np.flatnonzero(labels == label)) for label in range(len(data.classes))]
    shares = np.array([len(one) for one in members]) * count / len(data)
    taken = np.floor(shares).astype(int)
    # what the rounding left goes to the classes that it took most from
    for label in np.argsort(taken - shares, kind="stable")[: count - taken.sum()]:
        taken[label] += 1
    held = np.zeros(len(data), dtype=bool)
    for one, number in zip(members, taken, strict=True):
        held[one[:number]] = True
    name = data.name.partition("/")[0]
    train, val = (torch.from_numpy(np.flatnonzero(chosen)) for chosen in (~held, held))
    return data.subset(train, name=f"{name}/train-{count}"), data.subset(val, name=f"{name}/val-{count}")
