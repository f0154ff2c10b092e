"""Photographs of any size, for denoising and inverse problems."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from contractive_gnn.datasets.errors import InvalidImagesError, UnknownDatasetError, UnreadableFileError
from contractive_gnn.datasets.fetch import Folder
from contractive_gnn.datasets.images.sources import read_folder
from contractive_gnn.extras import needs
from contractive_gnn.names import unknown

#: the sets of :func:`load_photographs`, and whether their photographs have colours
PHOTOGRAPHS = {
    "bsds500/train": True,
    "bsds500/val": True,
    "bsds500/test": True,
    "bsd68": False,
    "set12": False,
    "samples": True,
}


@dataclass(frozen=True, eq=False)
class Photographs(Sequence[Tensor]):
    """Photographs, each ``[c, H, W]``, float32 in [0, 1], with a size of its own.

    A sequence of tensors: ``len``, an index, a loop; a slice is again one of these, as ``photographs[-20:]``.

    Attributes:
        images: the photographs.
        names: of their files, in the same order.
        name: of the set.

    Raises:
        InvalidImagesError: there are none, or types, shapes, values or the number of names are others than these.
    """

    images: tuple[Tensor, ...]
    names: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        for name, value in (("images", self.images), ("names", self.names)):
            if not isinstance(value, tuple | list):
                raise InvalidImagesError(f"{name} must be a tuple, got {type(value).__name__}")
            object.__setattr__(self, name, tuple(value))  # a list could grow later
        if not self.images or len(self.images) != len(self.names):
            raise InvalidImagesError(
                f"{len(self.images)} photographs and {len(self.names)} names given; expected at least one, and a name "
                "for each"
            )
        for name, image in zip(self.names, self.images, strict=True):
            if not isinstance(image, Tensor):
                raise InvalidImagesError(f"{name} is a {type(image).__name__}; expected a torch.Tensor")
            if image.dtype != torch.float32 or image.dim() != 3 or not image.numel():
                raise InvalidImagesError(f"{name} is {image.dtype} {list(image.shape)}; expected float32 [c, H, W]")
            if image.size(0) != self.images[0].size(0):
                raise InvalidImagesError(
                    f"{name} has {image.size(0)} channels, {self.names[0]} {self.images[0].size(0)}; expected the same"
                )
            if not bool(((image >= 0) & (image <= 1)).all()):
                raise InvalidImagesError(f"{name} has values outside [0, 1]; divide by the largest value of a pixel")

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> Photographs: ...
    def __getitem__(self, index: int | slice) -> Tensor | Photographs:
        if isinstance(index, slice):
            return Photographs(self.images[index], self.names[index], self.name)
        return self.images[index]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.images)

    @property
    def channels(self) -> int:
        """1 of grey ones, 3 of those with colours."""
        return self.images[0].size(0)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all pixels and shapes, in hexadecimal."""
        sha = hashlib.sha256()
        for image in self.images:
            sha.update(f"{list(image.shape)}".encode())
            sha.update(image.detach().cpu().contiguous().numpy().data)
        return sha.hexdigest()


def load_photographs(name: str, *, grey: bool = True, root: Folder | None = None) -> Photographs:
    """The photographs of a set, in the order of their names (as text), lying or upright as they are.

    ===================  ====  =======  ======================================================================
    name                 many  colours  what
    ===================  ====  =======  ======================================================================
    ``bsds500/train``    200   yes      481 × 321 and 321 × 481 (Arbeláez et al., TPAMI 2011)
    ``bsds500/val``      100   yes      likewise; 68 of these are BSD68
    ``bsds500/test``     200   yes      likewise
    ``bsd68``            68    no       the test images of the denoising literature (Roth and Black, CVPR 2005)
    ``set12``            12    no       256 × 256 and 512 × 512, likewise
    ``samples``          2     yes      640 × 427, within scikit-learn: needs no files
    ===================  ====  =======  ======================================================================

    BSD68 are 68 of bsds500/val, made grey as here to within one of 255 levels: tune on bsds500/train alone.

    Args:
        name: of the table.
        grey: one channel, the luma of ITU-R 601, ``0.299 R + 0.587 G + 0.114 B``, rounded to one of 256 levels; else
            three.
        root: folder that is searched before ``$CONTRACTIVE_GNN_DATA`` and the cache. The sets are not downloaded:
            where one is missing, the error says where to get it.

    Raises:
        UnknownDatasetError: no such set, or colours of one that has none.
        MissingFileError: the set is in none of the places.
        AlteredFileError: its photographs are not the published ones.
        MissingExtraError: pillow is not installed.

    Example:
        >>> china, flower = load_photographs("samples")
        >>> china.shape
        torch.Size([1, 427, 640])
    """
    if not isinstance(name, str) or name not in PHOTOGRAPHS:
        raise UnknownDatasetError(unknown("set of photographs", [name], PHOTOGRAPHS))
    if not grey and not PHOTOGRAPHS[name]:
        raise UnknownDatasetError(
            f"{name} has no colours; ask for grey=True, or for one of "
            f"{', '.join(other for other, colours in PHOTOGRAPHS.items() if colours)}"
        )
    with needs("images", "reading photographs"):
        from PIL import Image, UnidentifiedImageError
    images: dict[str, Tensor] = {}
    for file, content in _samples().items() if name == "samples" else read_folder(f"images/{name}", root=root).items():
        try:
            with Image.open(io.BytesIO(content)) as image:
                images[file] = _tensor(image.convert("L" if grey else "RGB"))
        except (UnidentifiedImageError, OSError) as error:
            raise UnreadableFileError(f"{file} of {name} cannot be read as a photograph ({error})") from error
    return Photographs(tuple(images.values()), tuple(images), name)


def _tensor(image: Any) -> Tensor:
    pixels = torch.from_numpy(np.array(image))
    channels_first = pixels.permute(2, 0, 1) if pixels.dim() == 3 else pixels[None]
    return channels_first.contiguous().float().div_(255)


def _samples() -> dict[str, bytes]:
    """The photographs that scikit-learn brings."""
    from importlib.resources import files

    folder = files("sklearn.datasets.images")
    return {name: folder.joinpath(name).read_bytes() for name in ("china.jpg", "flower.jpg")}
