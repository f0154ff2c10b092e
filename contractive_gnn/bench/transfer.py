"""Transfer matrices: how a model holds on graphs that were made against another one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contractive_gnn.bench.results import BudgetUnit, Result, Threat


@dataclass(frozen=True)
class TransferMatrix:
    """Accuracies under one attack and budget.

    Attributes:
        attack: the attack that made the graphs.
        threat: what became of the models.
        budget: in ``budget_unit``.
        budget_unit: what the budget counts.
        victims: rows: the models that the graphs were made against.
        models: columns: the models that were measured.
        accuracy: percent, the mean over seeds, by victim and model; a missing pair was not measured.
    """

    attack: str
    threat: Threat
    budget: float | int
    budget_unit: BudgetUnit
    victims: tuple[str, ...]
    models: tuple[str, ...]
    accuracy: Mapping[tuple[str, str], float]

    @property
    def title(self) -> str:
        """The attack with its budget, such as "whitebox-pgd, 5 % of edges, evasion"."""
        amount = f"{100 * self.budget:g} %" if self.budget_unit.startswith("fraction") else f"{self.budget:g}"
        return f"{self.attack}, {amount} {self.budget_unit.removeprefix('fraction ')}, {self.threat}"


def matrices(results: Sequence[Result]) -> tuple[TransferMatrix, ...]:
    """Of results on one data set and split, a matrix for each attack whose graphs were saved and measured again.

    A saved graph says which model it was made against (``contractive-gnn attack --model``), and so do its results,
    in ``hyperparameters["attack"]["victim"]``. Where the same attack was made against a model in the benchmark
    itself, that is the entry of a model under its own attack.
    """
    groups: dict[tuple[str, Threat, float, BudgetUnit], dict[tuple[str, str], list[float]]] = {}
    for result in results:
        made = result.hyperparameters.get("attack", {})
        if result.attack_source == "replayed" and "victim" in made:
            key = (str(made["made_by"]), result.threat, result.budget, result.budget_unit)
            groups.setdefault(key, {}).setdefault((str(made["victim"]), result.model), []).append(result.accuracy)
    found = []
    for (attack, threat, budget, unit), replayed in groups.items():
        victims = tuple(dict.fromkeys(victim for victim, _ in replayed))
        own: dict[tuple[str, str], list[float]] = {}
        for result in results:
            same = (result.attack, result.threat, result.budget, result.budget_unit) == (attack, threat, budget, unit)
            pair = (result.model, result.model)
            if same and result.attack_source == "live" and result.model in victims and pair not in replayed:
                own.setdefault(pair, []).append(result.accuracy)
        entries = {**replayed, **own}
        order = list(dict.fromkeys(result.model for result in results))
        victims = tuple(sorted(victims, key=lambda name: order.index(name) if name in order else len(order)))
        found.append(
            TransferMatrix(
                attack,
                threat,
                budget,
                unit,
                victims,
                tuple(name for name in order if any(name == model for _, model in entries)),
                {pair: statistics.fmean(values) for pair, values in entries.items()},
            )
        )
    return tuple(found)
