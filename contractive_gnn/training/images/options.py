"""What a training on batches of images takes beside the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from contractive_gnn.checks import check_flag
from contractive_gnn.training.batches.options import BatchLoopOptions, check_choice


@dataclass(frozen=True, kw_only=True)
class ImageLoopOptions(BatchLoopOptions):
    """Those of :class:`BatchLoopOptions`, and the arithmetic.

    Attributes:
        dtype: of the arithmetic of a step. ``"bfloat16"`` is torch's autocast: parameters, validation and constants
            stay as they are.
        channels_last: store images and kernels with the channels innermost.

    Raises:
        TypeError: one is of another type.
        ValueError: one is out of its range.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("channels_last", self.channels_last)
        check_choice("dtype", self.dtype, ("float32", "bfloat16"))

    @property
    def autocast(self) -> torch.dtype | None:
        """bfloat16, where it was chosen."""
        return torch.bfloat16 if self.dtype == "bfloat16" else None

    @property
    def memory_format(self) -> torch.memory_format | None:
        """Channels innermost, where it was chosen."""
        return torch.channels_last if self.channels_last else None
