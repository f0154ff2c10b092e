"""The ensemble's attacks."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import AttackResult, Budget, get
from contractive_gnn.nn import build
from contractive_gnn.remembered import Remembered
from contractive_gnn.training import FitOptions, fit

#: what an attacker trains on the graph, to carry its perturbations over
SURROGATES: Final = ("gcn", "gat", "appnp")
_TRAINING: Final = FitOptions(epochs=200, lr=0.01, weight_decay=5e-4)
#: of the graph that was attacked last: surrogates, and what was found on them, which no victim has a part in
_of_graph: Final[Remembered[dict[Hashable, Any]]] = Remembered()


@dataclass(frozen=True)
class Member:
    """One attack of an ensemble.

    Attributes:
        name: what the verdict calls it.
        attack: a key of :data:`contractive_gnn.attacks.ATTACKS`.
        options: of that attack.
        surrogate: the model that it is made against and carried over from; "" for the model itself.
        adaptive: whether it asks the model for gradients.
    """

    name: str
    attack: str
    options: Mapping[str, Any] = field(default_factory=dict)
    surrogate: str = ""
    adaptive: bool = False

    def run(self, model: nn.Module, data: Data, budget: Budget, *, targets: Tensor | None, seed: int) -> AttackResult:
        """The perturbed graph.

        What a surrogate gave is remembered for the next model on the same graph.
        """
        attack = get(self.attack, seed=seed, **self.options)
        if not self.surrogate:
            return attack.run(data, budget, victim=model, targets=targets)
        found: dict[Hashable, Any] = _of_graph(
            [value for value in data.to_dict().values() if isinstance(value, Tensor)], dict
        )
        if (self.surrogate, seed) not in found:
            found[self.surrogate, seed] = trained_surrogate(self.surrogate, data, seed=seed)
        victim = found[self.surrogate, seed]
        if self.options:  # of which not all can be told apart
            return attack.run(data, budget, victim=victim, targets=targets)
        key = self.surrogate, self.attack, seed, budget, None if targets is None else tuple(targets.tolist())
        if key not in found:
            found[key] = attack.run(data, budget, victim=victim, targets=targets)
        result: AttackResult = copy.deepcopy(found[key])  # what the caller does to it is not remembered
        return result


def ensemble(*, population: int = 64, generations: int = 100) -> tuple[Member, ...]:
    """The fixed ensemble: random flips, carried over from surrogates, black-box, and through the model's gradients.

    * ``random``: edges between random nodes.
    * ``from-gcn``, ``from-gat``, ``from-appnp``: white-box PGD against a model that the attacker trains on the same
      graph. What is found does not depend on the gradients of the model that is judged.
    * ``eva``: the evolutionary search, which asks for scores alone.
    * ``pgd-tanh``, ``pgd-prob``: white-box PGD through the model, by two losses that weigh nodes differently: the tanh
      of the margin, and the margin of probabilities.

    Args:
        population: of the evolutionary search.
        generations: of the evolutionary search, which asks the model about ``population · (generations + 1)`` times.
    """
    return (
        Member("random", "random"),
        *(Member(f"from-{name}", "whitebox-pgd", surrogate=name) for name in SURROGATES),
        Member("eva", "eva", {"population": population, "generations": generations}),
        Member("pgd-tanh", "whitebox-pgd", {"loss": "tanh-margin"}, adaptive=True),
        Member("pgd-prob", "whitebox-pgd", {"loss": "prob-margin"}, adaptive=True),
    )


def trained_surrogate(name: str, data: Data, *, seed: int) -> nn.Module:
    """A model trained on the graph's training nodes, in evaluation mode."""
    model = build(name, int(data.x.shape[1]), int(data.y.max()) + 1).to(data.x.device)
    fit(model, data, _TRAINING, seed=seed)
    return model.eval()
