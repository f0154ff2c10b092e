"""White-box PGD on one node's prediction at a time."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import Kind, Scope, check_count, register, undirected_edges
from contractive_gnn.attacks.whitebox.edge_flips import EdgeFlips
from contractive_gnn.attacks.whitebox.flips import Flips
from contractive_gnn.attacks.whitebox.goals import TargetLabels
from contractive_gnn.attacks.whitebox.losses import Loss
from contractive_gnn.attacks.whitebox.pgd import WhiteboxAttack


@register
class LocalPGD(WhiteboxAttack):
    """White-box PGD on the prediction of one target at a time, each with a budget of its own (local PR-BCD).

    All edges and all pairs with the target are considered at every step, and a random block of other pairs, as
    :class:`WhiteboxPGD` does. As every targeted attack it visits the targets one after another, each on the graph that
    those before it left; to attack each on the clean graph, as tables of local attacks do, run it once for each.
    A budget may be relative to the degree of each target: ``degree=0.5`` in Python, ``local-pgd:0.5`` on the command
    line. Geisler et al., *Robustness of Graph Neural Networks at Scale* (NeurIPS 2021), attack single nodes so.

    The provenance adds up the errors over the targets that have a budget, and says of each of them, in their order, how
    its flips were found.

    Args:
        candidates: random pairs without the target per block (at least four per flip).
        loss: see :class:`WhiteboxPGD`.
        goal: see there.
        target_labels: see there.
        epochs: steps with new random pairs.
        fine_epochs: steps without, of decreasing size.
        step: how far the steepest entries of p move in one step.
        samples: random roundings to try.
        swaps: attempts to exchange flips of the result.
        seed: see :class:`~contractive_gnn.attacks.Attack`.

    Raises:
        AttackError: (from ``run``) the victim's logits on the clean graph are not finite or do not fit it; a loss that
            gives something else than a number with a gradient.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> model = cg.build("gcn", data.num_features, 4).eval()
        >>> targets = data.test_mask.nonzero().flatten()[:2]
        >>> quick = {"epochs": 3, "fine_epochs": 1, "samples": 2, "swaps": 1}
        >>> result = cg.attack(model, data, "local-pgd", degree=0.5, targets=targets, **quick)
        >>> degrees = data.edge_index[0].bincount(minlength=60)[targets]
        >>> result.provenance["allowed_flips"] == (degrees // 2).tolist()
        True
    """

    name: ClassVar[str] = "local-pgd"
    kind: ClassVar[Kind] = "structure"
    scope: ClassVar[Scope] = "targeted"

    def __init__(
        self,
        *,
        candidates: int = 2_000,
        loss: str | Loss = "tanh-margin",
        goal: str = "untargeted",
        target_labels: TargetLabels | None = None,
        epochs: int = 40,
        fine_epochs: int = 10,
        step: float = 0.3,
        samples: int = 10,
        swaps: int = 20,
        seed: int = 0,
    ) -> None:
        super().__init__(
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
        self.candidates = check_count("candidates", candidates, least=0)

    def _flips(self, data: Data, victim: nn.Module, n_flips: int, targets: Tensor | None) -> Flips:
        assert targets is not None
        target = int(targets)
        others = torch.arange(int(data.num_nodes), device=data.x.device)
        others = others[others != target]
        direct = torch.stack([others.clamp(max=target), others.clamp(min=target)])
        candidates = max(self.candidates, 4 * n_flips)
        return EdgeFlips(victim, data.x, undirected_edges(data.edge_index), candidates=candidates, always=direct)

    def _tell(self, read: dict[str, Any], notes: dict[str, Any]) -> None:
        """Add what is said of this target to what was said of those before it."""
        before = dict(self._notes)
        super()._tell(read, notes)
        now = self._notes
        now["found_by"] = [*before.get("found_by", []), now["found_by"]]
        if not before:
            return
        now["errors"] = {key: count + before["errors"][key] for key, count in now["errors"].items()}
        now["nodes"] += before["nodes"]
        now["unreliable"] = list(dict.fromkeys([*before["unreliable"], *now["unreliable"]]))
        now["zero_gradient_fraction"] = max(before["zero_gradient_fraction"], now["zero_gradient_fraction"])
        now["gradient"] = now["gradient"] if before["gradient"] == "ok" else before["gradient"]
