"""A certificate of a batch: of the graph that was sampled, and not of the one that it was sampled from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.certificates.budget import FeatureBudget, FlipBudget
from contractive_gnn.certificates.certificate import Certificate, certify
from contractive_gnn.inputs import InputError


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class BatchCertificate(Certificate):
    """What is proved of a model on a batch alone.

    In the whole graph a node may have neighbours that the batch has not, and an attacker more nodes to join it to: a
    prediction that is certified here may be another one there.

    Attributes:
        n_id: the nodes in the whole graph, int64 ``[m]``.
        whole_nodes: how many nodes that has.
    """

    n_id: Tensor
    whole_nodes: int

    def __repr__(self) -> str:
        """One line that says of what graph."""
        where = f" for the sampled graph of {len(self.n_id):,} of {self.whole_nodes:,} nodes, not for the whole"
        return f"{super().__repr__()[:-1]}{where})"


def certify_batch(
    model: nn.Module, batch: Data, *, flips: FlipBudget | None = None, features: FeatureBudget | None = None
) -> BatchCertificate:
    """:func:`certify` of a batch of :mod:`contractive_gnn.training.minibatches`, which says what it is a proof of.

    Args:
        model: see :func:`certify`.
        batch: with ``n_id`` and ``whole_nodes``.
        flips: see :func:`certify`; a budget for the nodes of the batch.
        features: see :func:`certify`.

    Raises:
        TypeError: something else than a ``Data``.
        InputError: a graph that is no batch, and what :func:`certify` refuses.
        ValueError: see :func:`certify`.

    Example:
        >>> import torch
        >>> import contractive_gnn as cg
        >>> from contractive_gnn.training import induced
        >>> data = cg.contextual_sbm(200, seed=0)
        >>> model = cg.build("linf-diffusion", data.num_features, 4)
        >>> proof = certify_batch(model, induced(data, torch.arange(20)), flips=FlipBudget.uniform(1, 20))
        >>> print(str(proof)[-60:])
        for the sampled graph of 20 of 200 nodes, not for the whole)
    """
    if not isinstance(batch, Data):
        raise TypeError(f"batch must be a torch_geometric.data.Data, got a {type(batch).__name__}")
    if batch.get("n_id") is None or batch.get("whole_nodes") is None:
        raise InputError("batch has no n_id and whole_nodes; give one of ClusterBatches, NeighbourBatches or induced")
    if batch.get("edge_weight") is not None:
        raise InputError("batch has edge weights, which no certificate reads; drop them (del batch.edge_weight)")
    found = certify(model, batch.x, batch.edge_index, flips=flips, features=features)
    return BatchCertificate(
        prediction=found.prediction,
        margin=found.margin,
        certified=found.certified,
        reason=found.reason,
        seconds=found.seconds,
        n_id=batch.n_id.cpu(),
        whole_nodes=int(batch.whole_nodes),
    )
