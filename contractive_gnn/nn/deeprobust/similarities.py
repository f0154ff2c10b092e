"""The nodes whose features are most and least alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from contractive_gnn.distinct import distinct


def cosine_similarities(x: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Cosines between the supports of the rows of x, float32 ``[n, n]``; 0 where a row is empty."""
    # as DeepRobust computes them, to the last bit: among equal similarities the rounding decides who is a neighbour
    from sklearn.metrics.pairwise import cosine_similarity  # a second of import time that only this model needs

    similarities: np.ndarray[Any, np.dtype[np.float32]] = cosine_similarity(
        (x.numpy(force=True) != 0).astype(np.float32)
    )
    return similarities


def nearest_neighbours(similarities: np.ndarray[Any, np.dtype[np.float32]], k: int = 20) -> Any:
    """The k largest similarities of each row besides its own, csr_matrix ``[n, n]`` (not symmetric)."""
    similarities = similarities.copy()
    np.fill_diagonal(similarities, 0.0)
    order = np.argsort(similarities, axis=1)
    np.put_along_axis(similarities, order[:, :-k], 0.0, axis=1)
    return sp.csr_matrix(similarities)


def extreme_pairs(
    similarities: np.ndarray[Any, np.dtype[np.float32]], k: int = 5
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The pairs u < v of each node with its k least and k most similar others, each once; int64 ``[2, p]``."""
    n = similarities.shape[0]
    order = np.argsort(similarities, axis=1)
    others = np.hstack([order[:, :k], order[:, -k - 1 :]])
    nodes = np.repeat(np.arange(n), others.shape[1])
    u, v = np.minimum(nodes, others.ravel()), np.maximum(nodes, others.ravel())
    return np.stack(np.divmod(distinct(u[u < v] * n + v[u < v]), n))
