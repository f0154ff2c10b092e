"""Poisoning and evasion together: one budget for flips before the training and flips after it.

*Poisoning × Evasion: Symbiotic Adversarial Robustness for Graph Neural Networks* (arXiv
2312.05502).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import Attack, AttackError, AttackResult, Budget, check_count, get
from contractive_gnn.attacks.base.graphs import attackable
from contractive_gnn.attacks.base.targets import checked_targets
from contractive_gnn.checks import check_real


@dataclass(frozen=True, kw_only=True, eq=False)
class SymbioticResult:
    """What a poisoning attack and an evasion attack did with one budget.

    Args:
        poisoning: the graph that the model was trained on.
        evasion: the graph that it then met; its flips are counted from the poisoned graph.
        model: as trained.
        share: of the budget that the poisoning was given.
        accuracy: of the model on the graph of the evasion, in percent of the nodes that count.
        accuracies: by each share that was tried.
    """

    poisoning: AttackResult
    evasion: AttackResult
    model: nn.Module
    share: float
    accuracy: float
    accuracies: Mapping[float, float]

    @property
    def n_flips(self) -> int:
        """Flips before the training plus flips after it; one that is taken back counts twice."""
        return self.poisoning.n_flips + self.evasion.n_flips


def poison_and_evade(
    fit: Callable[[Data], nn.Module],
    data: Data,
    *,
    flips: int | None = None,
    fraction: float | None = None,
    shares: Sequence[float] = (0.0, 0.5, 1.0),
    poisoning: str = "meta-pgd",
    evasion: str = "whitebox-pgd",
    poisoning_options: Mapping[str, Any] | None = None,
    evasion_options: Mapping[str, Any] | None = None,
    targets: Tensor | None = None,
    seed: int = 0,
) -> SymbioticResult:
    """Flip edges before the training, train, and flip edges under the trained model: at most b flips in all.

    The poisoning is given ⌊share·b⌋ flips, the evasion the others and what the poisoning left over. Each share is
    tried, and the one after which the model is right least often is kept: with the shares 0 and 1 among them the result
    is never weaker than either attack alone with the whole budget, on the same training. The two are found one after
    the other; the poisoning does not look ahead to the evasion.

    Args:
        fit: trains a new model on a graph, and is called once for each share. It draws no random numbers of its own,
            or begins from a fixed seed: else the shares are compared by chance.
        data: the clean graph, see :meth:`Attack.run`.
        flips: b.
        fraction: instead of ``flips``, b as a share of the edges of ``data``.
        shares: which to try, each 0 to 1.
        poisoning: a global attack on the edges that sees no model.
        evasion: a global attack on the edges.
        poisoning_options: hyperparameters of the first.
        evasion_options: hyperparameters of the second.
        targets: int64 ``[t]``, the nodes that count; the test nodes if None.
        seed: of both attacks.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: no share, or one outside 0…1; an attack that is not as described; no nodes that count; see
            :meth:`Attack.run`.
        AttackError: an attack cannot work on this graph or model.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> def fit(graph):
        ...     model = cg.build("gcn", graph.num_features, 4)
        ...     cg.fit(model, graph, seed=0, epochs=20)
        ...     return model.eval()
        >>> found = poison_and_evade(fit, data, flips=6, shares=(0.5,), poisoning_options={"epochs": 3})
        >>> found.n_flips <= 6
        True
    """
    first = _attack("poisoning", poisoning, poisoning_options, seed)
    if first.knowledge == "adaptive":
        raise ValueError(
            f"poisoning: attack {poisoning!r} needs a trained model, and there is none before the training"
        )
    second = _attack("evasion", evasion, evasion_options, seed)
    if not callable(fit):
        raise TypeError(f"fit is a function that trains a model on a graph and returns it, given {fit!r}")
    given: object = shares  # what was passed may be of any type
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise TypeError(f"shares are several numbers from 0 to 1, like (0.0, 0.5, 1.0), given {shares!r}")
    if not shares:
        raise ValueError("shares is empty: give at least one share of the budget, such as 0.5")
    for share in shares:
        check_real("each of shares", share, least=0, most=1)
    data = attackable(data, "data")
    whole = check_count("the budget", Budget(flips=flips, fraction=fraction).resolve(data, "structure"))
    nodes = data.test_mask.nonzero().flatten() if targets is None else checked_targets(data, targets)
    if nodes.numel() == 0:
        raise ValueError("data.test_mask selects no node: give targets, or a graph with test nodes")

    best: SymbioticResult | None = None
    accuracies: dict[float, float] = {}
    for share in dict.fromkeys(map(float, shares)):
        before = first.run(data, Budget(flips=math.floor(share * whole + 1e-9)), targets=targets)
        model = fit(before.data)
        if not isinstance(model, nn.Module):
            raise TypeError(f"fit returns the trained torch.nn.Module, returned {type(model).__name__}")
        after = second.run(before.data, Budget(flips=whole - before.n_flips), victim=model, targets=targets)
        accuracies[share] = _accuracy(model, after.data, nodes)
        if best is None or accuracies[share] < best.accuracy:
            best = SymbioticResult(
                poisoning=before,
                evasion=after,
                model=model,
                share=share,
                accuracy=accuracies[share],
                accuracies=accuracies,
            )
    assert best is not None  # there is a share
    return best


def _attack(role: str, name: str, options: Mapping[str, Any] | None, seed: int) -> Attack:
    attack = get(name, seed=seed, **(options or {}))
    if attack.scope != "global" or attack.kind != "structure":
        raise ValueError(
            f"{role}: attack {name!r} is a {attack.scope} one on {attack.kind}; expected a global one on structure"
        )
    return attack


def _accuracy(model: nn.Module, data: Data, nodes: Tensor) -> float:
    training = model.training
    model.eval()
    with torch.no_grad():
        scores = model(data.x, data.edge_index)
    model.train(training)
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        raise AttackError("the model returns no scores [n, classes]")
    right = scores.argmax(dim=1)[nodes] == data.y[nodes]
    return 100 * float(right.double().mean())
