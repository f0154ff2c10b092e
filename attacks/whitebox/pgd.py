"""Projected gradient ascent on edges, within a global budget, and on binary features."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import Kind, Perturbation, check_count, register, undirected_edges
from contractive_gnn.attacks.whitebox.adaptive import AdaptiveAttack
from contractive_gnn.attacks.whitebox.constraints import Constraint, GlobalBudget
from contractive_gnn.attacks.whitebox.diagnosis import diagnose
from contractive_gnn.attacks.whitebox.edge_flips import EdgeFlips
from contractive_gnn.attacks.whitebox.feature_flips import FeatureFlips
from contractive_gnn.attacks.whitebox.flips import Flips
from contractive_gnn.attacks.whitebox.goals import TargetLabels, check_goal
from contractive_gnn.attacks.whitebox.losses import Loss, loss_of
from contractive_gnn.attacks.whitebox.objective import Objective
from contractive_gnn.attacks.whitebox.random_flips import weigh
from contractive_gnn.attacks.whitebox.searching import Searching
from contractive_gnn.attacks.whitebox.victim import check_victim


class WhiteboxAttack(Searching, AdaptiveAttack):
    """What the attacks of this package share: the checks, the search, and random flips to compare it with."""

    def __init__(
        self,
        *,
        loss: str | Loss,
        goal: str,
        target_labels: TargetLabels | None,
        epochs: int,
        fine_epochs: int,
        step: float,
        samples: int,
        swaps: int,
        seed: int,
    ) -> None:
        super().__init__(seed=seed)
        loss_of(loss)  # refused here, and not in the middle of a run
        self.loss = loss
        self.goal, self.target_labels = check_goal(goal, target_labels)
        self._set_search(epochs=epochs, fine_epochs=fine_epochs, step=step, samples=samples, swaps=swaps)

    @property
    def params(self) -> dict[str, Any]:
        """The attack's own hyperparameters; without the goal where it is the usual one, as in earlier results."""
        told = super().params
        return (
            told if self.goal == "targeted" else {k: v for k, v in told.items() if k not in ("goal", "target_labels")}
        )

    def _constraint(self, data: Data, budget: int) -> Constraint:
        """What the flips have to keep to."""
        return GlobalBudget(budget)

    @abstractmethod
    def _flips(self, data: Data, victim: nn.Module, n_flips: int, targets: Tensor | None) -> Flips:
        """What to consider."""

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        assert victim is not None  # the base class has checked it
        read = check_victim(self.name, victim, data, kind=self.kind)
        flips = self._flips(data, victim, n_flips, targets)
        budget = min(n_flips, flips.size)
        constraint = self._constraint(data, budget)
        clean = flips.done(flips.none() > 0)
        objective = Objective.of(data, clean, targets, self.loss, goal=self.goal, target_labels=self.target_labels)
        diagnosis = diagnose(flips, objective, clean, budget)
        found = self._search_by_settings(flips, objective, constraint)
        found, notes = weigh(found, flips, objective, constraint, diagnosis, clean)
        self._tell(read, notes)
        return found.flips.perturbation(found.chosen)


@register
class WhiteboxPGD(WhiteboxAttack):
    """Flips edges so that the frozen victim misclassifies as many of the nodes as possible.

    All existing edges are considered at every step, and a random block of the other pairs, whose members with p = 0 are
    drawn anew after each of the first ``epochs`` steps. The nodes are the test nodes, or ``targets`` where given; their
    true labels are known to the attacker, as usual for evasion (Geisler et al. 2021).

    The provenance says whether the gradient was "ok", "zero" or "non-finite", and lists under ``unreliable`` whatever
    speaks for gradient masking: the result is then not the worst case, and other attacks should be tried.

    Args:
        candidates: pairs without an edge per block (at least four per flip allowed); None for all of them at once,
            which takes O(n²) time and memory per step.
        loss: "tanh-margin", "prob-margin", "cross-entropy" or "cw"; or a callable of scores ``[k, classes]`` and labels
            ``[k]`` that gives one number, or one for each node. It is raised, of scores that are divided by the number
            that makes the median clean margin 5.
        goal: "untargeted": any wrong class. "targeted": the class of ``target_labels``, whose loss is lowered.
        target_labels: for the targeted goal: one class for all nodes, or int64 ``[n]`` for every node of the graph.
            Nodes of that class are left out.
        epochs: steps with new random pairs.
        fine_epochs: steps without, of decreasing size.
        step: how far the steepest entries of p move in one step.
        samples: random roundings to try.
        swaps: attempts to exchange flips of the result.
        seed: see :class:`Attack`.

    Raises:
        AttackError: (from ``run``) the victim's logits on the clean graph are not finite or do not fit it; a loss that
            gives something else than a number with a gradient.
    """

    name: ClassVar[str] = "whitebox-pgd"
    kind: ClassVar[Kind] = "structure"

    def __init__(
        self,
        *,
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
        self.candidates = None if candidates is None else check_count("candidates", candidates)

    def _flips(self, data: Data, victim: nn.Module, n_flips: int, targets: Tensor | None) -> Flips:
        candidates = None if self.candidates is None else max(self.candidates, 4 * n_flips)
        return EdgeFlips(victim, data.x, undirected_edges(data.edge_index), candidates=candidates)


@register
class WhiteboxPGDFeatures(WhiteboxAttack):
    """Flips entries of a binary feature matrix so that the frozen victim misclassifies as many nodes as possible.

    All n·d entries are considered at every step. Otherwise as :class:`WhiteboxPGD`, whose arguments it takes except
    ``candidates``.

    Args:
        loss: "tanh-margin", "prob-margin", "cross-entropy" or "cw"; or a callable of scores ``[k, classes]`` and labels
            ``[k]`` that gives one number, or one for each node. It is raised, of scores that are divided by the number
            that makes the median clean margin 5.
        goal: "untargeted": any wrong class. "targeted": the class of ``target_labels``, whose loss is lowered.
        target_labels: for the targeted goal: one class for all nodes, or int64 ``[n]`` for every node of the graph.
            Nodes of that class are left out.
        epochs: steps of constant size.
        fine_epochs: steps of decreasing size.
        step: how far the steepest entries of p move in one step.
        samples: random roundings to try.
        swaps: attempts to exchange flips of the result.
        seed: see :class:`Attack`.

    Raises:
        ValueError: (from ``run``) x is not binary.
        AttackError: (from ``run``) the victim's logits on the clean graph are not finite or do not fit it; a loss that
            gives something else than a number with a gradient.
    """

    name: ClassVar[str] = "whitebox-pgd-features"
    kind: ClassVar[Kind] = "features"

    def __init__(
        self,
        *,
        loss: str | Loss = "tanh-margin",
        goal: str = "untargeted",
        target_labels: TargetLabels | None = None,
        epochs: int = 50,
        fine_epochs: int = 25,
        step: float = 0.3,
        samples: int = 20,
        swaps: int = 25,
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

    def _flips(self, data: Data, victim: nn.Module, n_flips: int, targets: Tensor | None) -> Flips:
        return FeatureFlips(victim, data.x, data.edge_index)
