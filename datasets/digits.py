"""The digits graph: real images, embedded in scikit-learn, so no network is needed."""

from __future__ import annotations

import numpy as np
import torch
from torch_geometric.data import Data

from contractive_gnn.datasets.errors import InvalidGraphError
from contractive_gnn.datasets.protocol import assemble, random_split, simple_graph

#: pixels run from 0 (white) to 16; from half of that a pixel is ink
INK = 8


def digits(*, k: int = 8, split_seed: int = 0) -> Data:
    """scikit-learn's 1,797 images of handwritten digits (UCI ML), each joined to its k nearest.

    Nodes i and j are joined where either is among the other's k nearest by Euclidean distance of the pixels, so the
    graph is symmetric and every degree is at least k. All nodes are kept. The features are binary, like the bags of
    words of the citation graphs, so that feature attacks have entries to flip: where an image has ink.

    Args:
        k: neighbours of each image, 1 … 1,796.
        split_seed: of the 10/10/80 split.

    Returns:
        ``x`` float32 ``[1797, 64]`` of 0 and 1; ``y`` in 0 … 9; masks; ``split`` is ``"random"``.

    Raises:
        InvalidGraphError: k is out of range.
    """
    # two seconds of import time that only this graph needs
    from sklearn.datasets import load_digits
    from sklearn.neighbors import kneighbors_graph

    images, labels = load_digits(return_X_y=True)
    n = len(labels)
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k < n:
        raise InvalidGraphError(f"k = {k!r} neighbours given; expected an integer from 1 to {n - 1}")
    return assemble(
        name="digits",
        split="random",
        x=torch.from_numpy((images >= INK).astype(np.float32)),
        adjacency=simple_graph(kneighbors_graph(images, k, include_self=False)),
        y=labels.astype(np.int64),
        indices=random_split(labels, seed=split_seed),
    )
