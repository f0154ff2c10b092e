"""PR-BCD with a budget at each node beside the global one."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.attacks.base import register
from contractive_gnn.attacks.whitebox.constraints import Constraint, LocalBudget
from contractive_gnn.attacks.whitebox.goals import TargetLabels
from contractive_gnn.attacks.whitebox.losses import Loss
from contractive_gnn.attacks.whitebox.pgd import WhiteboxPGD
from contractive_gnn.checks import check_real


@register
class LRBCD(WhiteboxPGD):
    r"""White-box PGD on edges that may flip only a share of each node's edges (LR-BCD).

    .. math:: \max_A L(f(A)) \quad\text{where}\quad |A - A_0| \le b, \quad |A - A_0|_i \le \lfloor\lambda d_i\rfloor

    Here :math:`|\cdot|` counts the flipped edges in all and :math:`|\cdot|_i` those that end at node i, whose degree in
    the clean graph is d_i. Gosch, Geisler, Sturm, Charpentier, Zügner, Günnemann, *Adversarial Training for Graph
    Neural Networks: Pitfalls, Solutions, and New Directions* (NeurIPS 2023). Relaxed steps, rounding, exchanges and the
    random flips to compare with keep to all budgets; the base class checks what comes out. Otherwise as
    :class:`WhiteboxPGD`, whose arguments it takes.

    A node of degree d with λ d < 1 is not touched: with λ = 0.5 none with a single edge.

    Args:
        local: λ > 0, the share of its degree that may be flipped at a node.
        candidates: see :class:`WhiteboxPGD`, and so are the others.
        loss: see there.
        goal: see there.
        target_labels: see there.
        epochs: see there.
        fine_epochs: see there.
        step: see there.
        samples: see there.
        swaps: see there.
        seed: see :class:`~contractive_gnn.attacks.Attack`.

    Raises:
        ValueError: ``local`` is not positive, and what :class:`WhiteboxPGD` raises.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> model = cg.build("gcn", data.num_features, 4).eval()
        >>> result = cg.attack(model, data, "lrbcd", fraction=0.1, local=0.5, epochs=3, fine_epochs=1, swaps=1)
        >>> degree = data.edge_index[0].bincount(minlength=60)
        >>> bool((result.edge_flips.flatten().bincount(minlength=60) <= degree // 2).all())
        True
    """

    name: ClassVar[str] = "lrbcd"

    def __init__(
        self,
        *,
        local: float = 0.5,
        candidates: int | None = 20_000,
        loss: str | Loss = "tanh-margin",
        goal: str = "untargeted",
        target_labels: TargetLabels | None = None,
        epochs: int = 100,
        fine_epochs: int = 25,
        step: float = 0.3,
        samples: int = 20,
        swaps: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__(
            candidates=candidates,
            loss=loss,
            goal=goal,
            target_labels=target_labels,
            epochs=epochs,
            fine_epochs=fine_epochs,
            step=step,
            samples=samples,
            swaps=swaps,
            seed=seed,
        )
        check_real("local", local, above=0)
        self.local = float(local)

    def _per_node(self, data: Data) -> Tensor:
        degrees = torch.bincount(data.edge_index[0], minlength=int(data.num_nodes))
        # as for a budget: 0.29 · 100 is 28.999…996 in floating point
        return (self.local * degrees.double() + 1e-9).floor().long()

    def _constraint(self, data: Data, budget: int) -> Constraint:
        return LocalBudget(budget, self._per_node(data))
