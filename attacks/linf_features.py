"""White-box evasion on real features: projected gradient ascent in an ℓ∞ ball over the whole graph."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import Kind, Perturbation, check_choice, check_count, register
from contractive_gnn.attacks.whitebox import LOSSES, AdaptiveAttack, Objective, Score, check_victim
from contractive_gnn.checks import check_real

_RANDOM_DRAWS: Final = 3


@register
class LinfFeatures(AdaptiveAttack):
    r"""Moves entries of x by at most ε each so that the frozen victim misclassifies as many nodes as possible.

    .. math:: \max_\delta L(\mathrm{victim}(x + \delta)), \qquad \|\delta\|_\infty \le \epsilon,\; \|\delta\|_0 \le b

    by δ ← clip(δ + α sign ∇L, −ε, ε) with α = 2.5 ε/epochs (Madry et al., ICLR 2018), from 0 and from random corners.
    The budget b counts the entries that may change: ``Budget(fraction=1.0)`` is as many as x has non-zero ones. Where b
    is less than all, those with the largest mean \|∂L\| so far may. Features of 0 and 1 are for
    ``whitebox-pgd-features``, which flips them.

    Args:
        epsilon: ε > 0, in units of the features.
        loss: "tanh-margin", "prob-margin", "cross-entropy" or "cw".
        epochs: steps of each start.
        restarts: starts; the first one is x itself.
        seed: see :class:`Attack`.

    Raises:
        AttackError: (from ``run``) the victim's logits on the clean graph are not finite or do not fit it.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> model = cg.build("gcn", data.num_features, 4)
        >>> after = cg.attack(model, data, "linf-features", fraction=1.0, epsilon=0.1, epochs=3).data
        >>> bool(((after.x - data.x).abs() <= 0.1 + 1e-6).all())
        True
    """

    name: ClassVar[str] = "linf-features"
    kind: ClassVar[Kind] = "features"

    def __init__(
        self, *, epsilon: float = 0.1, loss: str = "tanh-margin", epochs: int = 50, restarts: int = 2, seed: int = 0
    ) -> None:
        super().__init__(seed=seed)
        check_real("epsilon", epsilon, above=0)
        self.epsilon = float(epsilon)
        self.loss = check_choice("loss", loss, tuple(LOSSES))
        self.epochs = check_count("epochs", epochs)
        self.restarts = check_count("restarts", restarts)

    @property
    def radius(self) -> float:
        """ε."""
        return self.epsilon

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        assert victim is not None  # the base class has checked it
        read = check_victim(self.name, victim, data, kind=self.kind)
        x = data.x

        def answer(delta: Tensor) -> Tensor:
            logits: Tensor = victim(x + delta, data.edge_index)
            return logits

        with torch.no_grad():
            clean = answer(torch.zeros_like(x))
        objective = Objective.of(data, clean, targets, self.loss)
        best = (objective.score(clean), torch.zeros_like(x), "nothing")
        guess = max((self._look(objective, answer, self._corner(x, n_flips)) for _ in range(_RANDOM_DRAWS)), key=_score)
        slopes = []
        for restart in range(self.restarts):
            start = torch.zeros_like(x) if restart == 0 else self._corner(x, n_flips)
            found, slope = self._ascend(objective, answer, start, n_flips)
            slopes.append(slope)
            best = max(best, (*found, self.name), key=_score)
        reasons = []
        if slopes[0] == "zero" and guess[0] != objective.score(clean):
            reasons.append("the gradient is zero everywhere, yet other features change the logits: masked gradient")
        if slopes[0] == "non-finite":
            reasons.append("entries of the gradient are not finite")
        if _score(guess) > _score(best):
            reasons.append(f"random corners cause {guess[0].errors} errors, the search {best[0].errors}")
            best = (*guess, "random corners")
        notes: dict[str, Any] = {
            "gradient": slopes[0],
            "unreliable": reasons,
            "found_by": best[2],
            "errors": {
                "clean": objective.score(clean).errors,
                "random": guess[0].errors,
                "found": best[0].errors,
            },
            "nodes": objective.nodes.numel(),
        }
        self._tell(read, notes)
        return Perturbation(x=x + best[1])

    def _ascend(
        self, objective: Objective, answer: Any, delta: Tensor, budget: int
    ) -> tuple[tuple[Score, Tensor], str]:
        """The best δ on the way, and whether the first gradient was "ok", "zero" or "non-finite"."""
        best = self._look(objective, answer, delta)
        told, size = "ok", torch.zeros_like(delta)
        for epoch in range(self.epochs):
            delta = delta.detach().requires_grad_(True)
            value = objective.value(answer(delta))
            slope = torch.autograd.grad(value, delta, allow_unused=True)[0] if value.requires_grad else None
            if epoch == 0 and (slope is None or not bool(slope.any())):
                return best, "zero"
            assert slope is not None
            if epoch == 0 and not bool(torch.isfinite(slope).all()):
                told = "non-finite"
            slope = slope.nan_to_num(0.0, 0.0, 0.0)
            size += slope.abs()
            moved = delta.detach() + 2.5 * self.epsilon / self.epochs * slope.sign()
            delta = moved.clamp(-self.epsilon, self.epsilon) * _largest(size, budget)
            best = max(best, self._look(objective, answer, delta), key=_score)
        return best, told

    def _look(self, objective: Objective, answer: Any, delta: Tensor) -> tuple[Score, Tensor]:
        with torch.no_grad():
            return objective.score(answer(delta)), delta.detach()

    def _corner(self, x: Tensor, budget: int) -> Tensor:
        """±ε at random entries."""
        sign = torch.where(torch.rand_like(x) < 0.5, -self.epsilon, self.epsilon)
        return sign * _largest(torch.rand_like(x), budget)


def _score(found: tuple[Any, ...]) -> Score:
    score: Score = found[0]
    return score


def _largest(size: Tensor, budget: int) -> Tensor:
    """Which entries are the ``budget`` largest, bool."""
    if budget >= size.numel():
        return torch.ones_like(size, dtype=torch.bool)
    chosen = torch.zeros(size.numel(), dtype=torch.bool, device=size.device)
    chosen[size.flatten().topk(budget).indices] = True
    return chosen.view_as(size)
