"""Random crops and reflections of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from contractive_gnn.checks import check_flag, check_whole


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Move each image by a random number of pixels, and reflect it left to right with probability 1/2.

    Attributes:
        padding: p ≥ 0: each image is moved by −p … p pixels in both directions.
        fill: what comes in at the border: ``"zeros"`` (black), or ``"reflect"`` (the image reflected there).
        flip: whether images are reflected. Leave it out where left and right matter, as for digits.

    Raises:
        TypeError: one is of another type.
        ValueError: one is out of its range.

    Shapes:
        ``[n, c, H, W]`` to ``[n, c, H, W]``, any dtype.
    """

    padding: int = 4
    fill: Literal["zeros", "reflect"] = "zeros"
    flip: bool = True

    def __post_init__(self) -> None:
        check_whole("padding", self.padding, least=0)
        check_flag("flip", self.flip)
        if self.fill not in ("zeros", "reflect"):
            raise ValueError(f"fill must be 'zeros' or 'reflect', got {self.fill!r}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The images, each changed in its own way; what is drawn comes from a generator on the CPU."""
        n, _, height, width = images.shape
        rows = torch.arange(n, device=images.device)
        if p := self.padding:
            if self.fill == "reflect" and p >= min(height, width):
                raise ValueError(
                    f"padding = {p} reflects more than images of {height} × {width} have; give at most "
                    f"{min(height, width) - 1}, or fill='zeros'"
                )
            shifts = torch.randint(2 * p + 1, (2, n), generator=generator).to(images.device)
            padded = pad(images, (p, p, p, p), mode="constant" if self.fill == "zeros" else "reflect")
            windows = padded.unfold(2, height, 1).unfold(3, width, 1)
            images = windows[rows, :, shifts[0], shifts[1]]
        if self.flip:
            turned = (torch.rand(n, generator=generator) < 0.5).to(images.device)
            images = torch.where(turned[:, None, None, None], images.flip(3), images)
        return images
