"""Digests of a graph, of its split and of predictions: what two machines must agree about."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import coalesce

from contractive_gnn.inputs import MASKS, checked


def graph_digest(data: Data) -> str:
    """SHA-256 of the features, the edges and the labels of a graph.

    The order of the edges and the layout and precision of ``x`` make no difference; the order of the nodes does.

    Args:
        data: ``x`` ``[n, d]``, ``edge_index`` ``[2, m]`` without weights, ``y`` ``[n]``.

    Returns:
        64 hexadecimal digits.

    Raises:
        InputError: a graph that :mod:`contractive_gnn.inputs` refuses, or one with weights.

    Example:
        >>> import contractive_gnn as cg
        >>> one, other = cg.contextual_sbm(60, seed=0), cg.contextual_sbm(60, seed=1)
        >>> graph_digest(one) == graph_digest(one.clone()), graph_digest(one) == graph_digest(other)
        (True, False)
    """
    data = checked(data, weighted=False)
    x = data.x if data.x.layout == torch.strided else data.x.to_dense()
    edges = coalesce(data.edge_index, num_nodes=data.num_nodes)
    return _digest(x.float(), edges, data.y)


def split_digest(data: Data) -> str | None:
    """SHA-256 of the three masks; None where the graph has no masks, or not all.

    Example:
        >>> import contractive_gnn as cg
        >>> len(split_digest(cg.contextual_sbm(60, seed=0)))
        64
    """
    masks = [data.get(name) for name in MASKS]
    return None if any(mask is None for mask in masks) else _digest(*masks)


def prediction_digest(scores: Tensor) -> str:
    """SHA-256 of the predicted classes.

    Args:
        scores: ``[n, classes]``, finite.

    Example:
        >>> scores = torch.eye(3)
        >>> prediction_digest(scores) == prediction_digest(2 * scores)
        True
    """
    return _digest(scores.argmax(dim=-1))


def _digest(*tensors: Tensor) -> str:
    whole = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous().numpy()
        whole.update(f"{array.dtype.str} {list(array.shape)}".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()
