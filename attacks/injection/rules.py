"""What an injection may do to a graph, and the check that it did no more."""

from __future__ import annotations

import torch
from torch_geometric.data import Data
from torch_geometric.utils import degree

from contractive_gnn.attacks.base import AttackError, edge_difference
from contractive_gnn.attacks.injection.features import FeatureRange
from contractive_gnn.inputs import MASKS, UNKNOWN


def check_injection(clean: Data, attacked: Data, *, nodes: int, edges: int, features: str = "range") -> None:
    """Raise unless ``attacked`` is ``clean`` with new nodes after the old ones, within these limits.

    Of the old nodes every feature, label, mask and edge is as it was. The label of a new node is −1, and it is in no
    mask.

    Args:
        clean: the graph before: x ``[n, d]``, edge_index ``[2, 2m]``, y ``[n]`` and masks ``[n]``.
        attacked: the graph after, with n + k nodes.
        nodes: k may be at most that.
        edges: how many edges a new node may have; those between new nodes count for both.
        features: "range" or "words", see :class:`FeatureRange`.

    Raises:
        AttackError: it is not; the text names the first rule that is broken.
        ValueError: "words" for features other than 0 and 1.

    Example:
        >>> import contractive_gnn as cg
        >>> from contractive_gnn.attacks.injection import check_injection
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> attacked = cg.attack(None, data, "random-injection", nodes=2, edges=5).data
        >>> check_injection(data, attacked, nodes=2, edges=5)
    """
    n, d = clean.x.shape
    k = int(attacked.x.shape[0]) - n
    if attacked.x.shape[1] != d or not 0 <= k <= nodes:
        raise _broken(f"made features {list(attacked.x.shape)} of {[n, d]}, where {nodes} new nodes are allowed")
    for key in ("x", "y", *MASKS):
        if key in clean and not torch.equal(attacked[key][:n], clean[key]):
            changed = int((attacked[key][:n] != clean[key]).reshape(n, -1).any(dim=1).nonzero()[0])
            raise _broken(f"changed {key} of the old node {changed}")
    if bool((attacked.y[n:] != UNKNOWN).any()):
        raise _broken("gave a new node a label")
    for key in MASKS:
        if key in attacked and bool(attacked[key][n:].any()):
            raise _broken(f"put a new node into {key}")
    u, v = attacked.edge_index
    flipped = edge_difference(clean.edge_index, attacked.edge_index[:, (u < n) & (v < n)])
    if flipped.shape[1]:
        raise _broken(f"flipped the edge {tuple(flipped[:, 0].tolist())} between old nodes")
    degrees = degree(u, num_nodes=n + k)[n:]
    if k and int(degrees.max()) > edges:
        raise _broken(f"gave new node {int(degrees.argmax())} {int(degrees.max())} edges, where {edges} are allowed")
    if reason := FeatureRange.of(clean.x, features).broken(attacked.x[n:]):
        raise _broken(reason)


def _broken(text: str) -> AttackError:
    return AttackError(f"the injection {text}")
