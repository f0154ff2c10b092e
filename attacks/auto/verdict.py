"""What an ensemble of attacks says of a model."""

from __future__ import annotations

import copy
import os
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.auto.members import Member, ensemble
from contractive_gnn.attacks.base import ATTACKS, AttackResult, Budget, flip_edges
from contractive_gnn.attacks.base.graphs import attackable
from contractive_gnn.attacks.base.targets import checked_targets
from contractive_gnn.attacks.base.victim import frozen_victim
from contractive_gnn.attacks.perturbation_file import PerturbedGraph, save_perturbations
from contractive_gnn.attacks.whitebox import Objective, check_victim
from contractive_gnn.attacks.whitebox.adaptive import FLAGS
from contractive_gnn.checks import check_flag
from contractive_gnn.training.batches.progress import Progress

#: of the edges, where no budget is given
SHARE: Final = 0.05


@dataclass(frozen=True, eq=False)
class Verdict:
    """The worst of an ensemble of attacks, and whether it can be trusted.

    Attributes:
        clean: accuracy on the clean graph over the nodes that count, in per cent.
        accuracies: that under each attack, in the order in which they ran.
        worst: the least of them: what one perturbed graph does.
        worst_per_node: the share of nodes that are right on the clean graph and under every attack, in per cent. No
            single graph need do this to all of them: a bound for an attacker who aims at one node at a time with these
            attacks, at most ``worst``.
        strongest: the attack that reached ``worst``.
        unreliable: reasons not to believe that no stronger attack exists; empty where there is none. Each begins with
            its key, which docs/verdict.md explains.
        results: the perturbed graph of each attack.
        seconds: wall time of each.
        read: what :func:`~contractive_gnn.attacks.whitebox.check_victim` says of the model.
    """

    clean: float
    accuracies: Mapping[str, float]
    worst_per_node: float
    unreliable: tuple[str, ...]
    results: Mapping[str, AttackResult]
    seconds: Mapping[str, float]
    read: Mapping[str, Any]

    @property
    def strongest(self) -> str:
        """The attack with the least accuracy, the first of several."""
        return min(self.accuracies, key=self.accuracies.__getitem__)

    @property
    def worst(self) -> float:
        """The least accuracy under an attack, in per cent."""
        return self.accuracies[self.strongest]

    def save(self, path: str | os.PathLike[str], *, model: str, dataset: str | None = None) -> None:
        """Keep every perturbation, each under ``{model}-{attack}``: see :func:`save_perturbations`.

        Args:
            path: an ``.npz``.
            model: its name in the file, without ``/ : , @ +``.
            dataset: the graph's name there; None for its own.
        """
        clean = next(iter(self.results.values()))
        flips = {("evasion", f"{model}-{name}"): result.edge_flips for name, result in self.results.items()}
        name = dataset or str(clean.data.get("name") or "graph")
        save_perturbations(path, PerturbedGraph.of(_undone(clean), flips, name=name))

    def __str__(self) -> str:
        rows = [f"{'clean':12s} {self.clean:6.2f}"]
        rows += [f"{name:12s} {value:6.2f}  {self.seconds[name]:6.1f} s" for name, value in self.accuracies.items()]
        rows += [f"{'worst':12s} {self.worst:6.2f}", f"{'per node':12s} {self.worst_per_node:6.2f}"]
        return "\n".join(rows + [f"unreliable: {reason}" for reason in self.unreliable])


def auto(
    model: nn.Module,
    data: Data,
    *,
    flips: int | None = None,
    fraction: float | None = None,
    targets: Tensor | None = None,
    seed: int = 0,
    members: Iterable[Member] | None = None,
    progress: bool = True,
) -> Verdict:
    """Attack ``model`` on ``data`` by a fixed ensemble, and say how far the result can be trusted.

    Evasion: the model is frozen, in evaluation mode. An accuracy under attack is an upper bound of the true worst one;
    what the checks find says where it is likely to be far from it (Carlini et al., *On Evaluating Adversarial
    Robustness*, 2019; Croce and Hein 2020, whose AutoAttack does this for images; Mujkanovic et al. 2022 for graphs).

    Args:
        model: ``forward(x, edge_index, edge_weight=None) -> scores [n, classes]``; it is copied and not changed.
        data: as for :func:`contractive_gnn.attack`; surrogates are trained on its training nodes.
        flips: how many undirected edges may be flipped.
        fraction: instead of ``flips``, as a share of the edges; 0.05 where neither is given.
        targets: int64 ``[t]``, the nodes that count; None for the test nodes.
        seed: 0 ≤ seed < 2³².
        members: other attacks than those of :func:`ensemble`: global ones on edges, each with a name of its own.
        progress: whether a bar is shown.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: no attack, two of one name, or one on single nodes or on features; both flips and fraction; a graph
            that cannot be attacked, or without a node that counts.
        AttackError: the model cannot be attacked.

    Example:
        >>> import contractive_gnn as cg
        >>> from contractive_gnn.attacks.auto import Member, auto
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> model = cg.build("gcn", data.num_features, 4).eval()
        >>> quick = [Member("random", "random"), Member("pgd", "whitebox-pgd", {"epochs": 3}, adaptive=True)]
        >>> verdict = auto(model, data, fraction=0.1, members=quick, progress=False)
        >>> verdict.worst_per_node <= verdict.worst <= 100
        True
    """
    chosen = tuple(ensemble() if members is None else members)
    _check_members(chosen)
    check_flag("progress", progress)
    budget = Budget(flips=flips, fraction=SHARE if flips is None and fraction is None else fraction)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a torch.nn.Module, given {type(model).__name__}")
    data = attackable(data, "data").clone()  # a model that writes into its features writes into these
    targets = None if targets is None else checked_targets(data, targets)
    with torch.inference_mode(False), torch.no_grad():
        victim = frozen_victim("auto", model)
        read = check_victim("auto", victim, data, kind="structure")
        clean = victim(data.x, data.edge_index)
        nodes = Objective.of(data, clean, targets, "tanh-margin").nodes  # scores that fit, and a node that counts
    right_always = right = _right(clean, data, nodes)
    results: dict[str, AttackResult] = {}
    accuracies, seconds = {}, {}
    bar = Progress(shown=progress, steps=len(chosen), done=0)
    try:
        for member in chosen:
            begun = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what is to be told of the model was told
                results[member.name] = member.run(victim, data, budget, targets=targets, seed=seed)
            seconds[member.name] = time.perf_counter() - begun
            with torch.no_grad():
                scores = victim(data.x, results[member.name].data.edge_index)
            right_now = _right(scores, data, nodes)
            accuracies[member.name] = _percent(right_now)
            right_always = right_always & right_now
            bar.step()
            bar.epoch({"worst": min(accuracies.values())})
    finally:
        bar.close()
    reasons = [*_of_the_model(read), *_of_the_search(chosen, accuracies, results)]
    return Verdict(_percent(right), accuracies, _percent(right_always), tuple(reasons), results, seconds, read)


def _check_members(members: tuple[Member, ...]) -> None:
    """Whether each is a global attack on the edges, with a name of its own: one budget and one graph for all nodes."""
    if not members:
        raise ValueError("members are no attack at all; give at least one, or None for the fixed ensemble")
    names = []
    for member in members:
        if not isinstance(member, Member):
            raise TypeError(f"members are of {Member.__name__}, given {member!r} ({type(member).__name__})")
        attack = ATTACKS.get(member.attack)
        if (attack.scope, attack.kind) != ("global", "structure"):
            raise ValueError(
                f"member {member.name!r}: attack {member.attack!r} is a {attack.scope} one on {attack.kind}; a verdict "
                "is over global attacks on the structure, which share one budget of edges"
            )
        if member.name in names:
            raise ValueError(f"two members are called {member.name!r}; give each a name of its own")
        names.append(member.name)


def _right(scores: Tensor, data: Data, nodes: Tensor) -> Tensor:
    """Which of the nodes are right, bool ``[k]``."""
    found: Tensor = scores[nodes].argmax(dim=1) == data.y[nodes]
    return found


def _percent(right: Tensor) -> float:
    return 100 * float(right.double().mean())


def _of_the_model(read: Mapping[str, Any]) -> list[str]:
    """Reasons that lie in how the model answers."""
    reasons = [f"{flag}: {reason}" for flag, bad, reason in FLAGS if read[flag] is bad]
    if not read["reads_edges"] and not read["keeps_graph"]:
        reasons.append("reads_edges: the scores do not depend on the edges; attack the features")
    if read["computes_gradients"]:
        reasons.append(
            "computes_gradients: the victim switches gradients on while it answers, as one that optimises at test "
            "time; the attack's gradient may not go through all of it"
        )
    return reasons


def _of_the_search(
    members: tuple[Member, ...], accuracies: Mapping[str, float], results: Mapping[str, AttackResult]
) -> list[str]:
    """Reasons that lie in what the gradients found."""
    through = [member.name for member in members if member.adaptive]
    around = [member.name for member in members if not member.adaptive]
    diagnoses = [results[name].provenance["params"].get("diagnosis", {}) for name in through]  # none where no flip was
    told = [reason for diagnosis in diagnoses for reason in diagnosis.get("unreliable", [])]
    of_the_model = {reason for _, _, reason in FLAGS}
    reasons = [f"masked_gradient: {reason}" for reason in dict.fromkeys(told) if reason not in of_the_model]
    if through and around:
        best, other = (min(names, key=accuracies.__getitem__) for names in (through, around))
        if accuracies[other] < accuracies[best]:
            reasons.append(
                f"weak_search: {other}, which asks for no gradient of the model, leaves {accuracies[other]:.2f} %, and "
                f"{best}, which does, {accuracies[best]:.2f} %"
            )
    return reasons


def _undone(result: AttackResult) -> Data:
    """The clean graph: that of the attack with its flips undone."""
    data = copy.copy(result.data)
    data.edge_index = flip_edges(data.edge_index, result.edge_flips, num_nodes=int(data.num_nodes))
    return data
