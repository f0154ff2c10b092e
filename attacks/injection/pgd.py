"""Projected gradient ascent over the features and the edges of new nodes at the same time."""

from __future__ import annotations

from typing import ClassVar

from contractive_gnn.attacks.base import check_count, register
from contractive_gnn.attacks.injection.adaptive import AdaptiveInjection
from contractive_gnn.attacks.injection.ascent import ascend_both, ascend_features
from contractive_gnn.attacks.injection.attack import Injection
from contractive_gnn.attacks.injection.features import FeatureRange
from contractive_gnn.attacks.injection.goal import Goal
from contractive_gnn.attacks.injection.random_injection import random_nodes
from contractive_gnn.checks import check_real


@register
class PGDInjection(AdaptiveInjection):
    r"""Adds nodes whose edges and features follow the gradient of the frozen victim.

    .. math:: \max_{X', P}\; L(\mathrm{victim}(X', P)) + \lambda h, \qquad 0 \le P_{iv} \le 1,\; \sum_v P_{iv} \le b

    with the features X' ``[k, d]`` of the new nodes within their range and the weights P of their edges. P is rounded
    to the b largest entries of a row, and then the features are moved once more, with the edges as they are. What
    counts is measured on the discrete graph. Old nodes with P = 0 are drawn anew on the way.

    Args:
        features: "range" or "words", see :class:`InjectionAttack`.
        hao: weight λ of homophily, see :class:`Goal`.
        loss: "tanh-margin", "prob-margin", "cross-entropy" or "cw".
        candidates: pairs (new node, old node) considered at the same time.
        epochs: steps on edges and features.
        feature_epochs: steps on the features alone, after that.
        step: how far the steepest edges of a new node move in one step.
        feature_step: how far a feature moves in one step, as a share of its range.
        seed: see :class:`Attack`.

    Raises:
        ValueError: (from ``run``) see :class:`InjectionAttack`.
        AttackError: (from ``run``) the victim's logits on the clean graph are not finite or do not fit it.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> model = cg.build("gcn", data.num_features, 4)
        >>> result = cg.attack(model, data, "pgd-injection", nodes=2, edges=5, epochs=3, feature_epochs=2)
        >>> result.data.num_nodes, result.n_flips <= 10
        (62, True)
    """

    name: ClassVar[str] = "pgd-injection"

    def __init__(
        self,
        *,
        features: str = "range",
        hao: float = 0.0,
        loss: str = "tanh-margin",
        candidates: int = 30_000,
        epochs: int = 100,
        feature_epochs: int = 50,
        step: float = 0.3,
        feature_step: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(features=features, hao=hao, loss=loss, candidates=candidates, seed=seed)
        self.epochs = check_count("epochs", epochs)
        self.feature_epochs = check_count("feature_epochs", feature_epochs, least=0)
        for name, value in (("step", step), ("feature_step", feature_step)):
            check_real(name, value, above=0)
        self.step, self.feature_step = float(step), float(feature_step)

    def _search(self, goal: Goal, nodes: int, edges: int, allowed: FeatureRange) -> Injection:
        x = random_nodes(goal.graph.x, nodes, edges).x
        found = ascend_both(
            goal,
            x,
            self._draw(goal, nodes, edges, of=nodes),
            allowed,
            budget=edges,
            epochs=self.epochs,
            step=self.step,
            feature_step=self.feature_step,
        )
        return ascend_features(goal, found, allowed, epochs=self.feature_epochs, feature_step=self.feature_step)
