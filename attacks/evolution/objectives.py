"""What an evolutionary search raises: any number that a model and a graph give."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import AttackError, check_count
from contractive_gnn.certificates import FlipBudget, certify

#: a number to be raised, of the victim and the attacked graph, whose ``test_mask`` marks the nodes that count
GraphObjective = Callable[[nn.Module, Data], float]


class CertifiedErrors:
    """The per cent of the nodes that are wrong, or not certified against ``flips`` flips at every node.

    Raising it lowers the certified accuracy of :func:`contractive_gnn.certificates.certify`.

    Args:
        flips: what the certificate allows at every node at once, ≥ 1.

    Raises:
        AttackError: (when called) nothing is proved about the model.

    Example:
        >>> import contractive_gnn as cg
        >>> from contractive_gnn.attacks.evolution import CertifiedErrors
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> model = cg.build("linf-diffusion", data.num_features, 4).eval()
        >>> 0 <= CertifiedErrors(flips=1)(model, data) <= 100
        True
    """

    def __init__(self, flips: int = 1) -> None:
        self.flips = check_count("flips", flips)

    def __call__(self, model: nn.Module, data: Data) -> float:
        """Of the nodes of ``data.test_mask``."""
        budget = FlipBudget.uniform(self.flips, int(data.num_nodes))
        proved = certify(model, data.x, data.edge_index, flips=budget)
        if proved.reason:
            raise AttackError(
                f"the objective 'certified': nothing is proved about {type(model).__name__} ({proved.reason}); take "
                "another objective, or a model with a certificate"
            )
        return 100.0 - proved.accuracy(data.y, data.test_mask)
