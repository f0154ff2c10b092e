"""scikit-learn's handwritten digits as images: embedded, so no network is needed."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from contractive_gnn.datasets.images.classification import ImageData, hold_out

#: images of the test split, of 1,797
TEST = 360


def digits(split: str) -> ImageData:
    """A split of the digits; see :func:`contractive_gnn.datasets.images.load_images`."""
    train, test = _splits()
    return train if split == "train" else test


@cache
def _splits() -> tuple[ImageData, ImageData]:
    from sklearn.datasets import load_digits  # two seconds of import time

    found = load_digits()
    every = ImageData(
        images=torch.from_numpy(found.images[:, None].astype(np.uint8)),
        labels=torch.from_numpy(found.target.astype(np.int64)),
        classes=tuple(map(str, found.target_names)),
        name="digits",
        note="8 × 8 pixels of 17 values",
        white=16,
    )
    train, test = hold_out(every, TEST, seed=0)
    return train.subset(slice(None), name="digits/train"), test.subset(slice(None), name="digits/test")
