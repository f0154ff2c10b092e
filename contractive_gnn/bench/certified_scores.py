"""Certified accuracies over seeds, to stand beside attacked ones: a bound beside what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contractive_gnn.bench.results import CERTIFICATE, RESULTS, BudgetUnit, Result, check_kind, digest, read_results
from contractive_gnn.bench.summary import Score, Section, letters


@dataclass(frozen=True)
class CertifiedScore:
    """What is proved of one model under one budget.

    Attributes:
        dataset: name of the data set.
        split: name of the split.
        split_seed: of a random split.
        model: name of the model.
        certificate: "certificate", "certificate-additions", …
        feature_flips: at every node, at the same time.
        budget: in ``budget_unit``.
        budget_unit: what the budget counts.
        certified: percent of the test nodes that are right and that nobody within the budget can change; ``clean`` in
            it is the accuracy without an attack.
        attacked: percent that are right and that no attack changed, where attacks were tried: no certificate can be
            above it. None where none were.
    """

    dataset: str
    split: str
    split_seed: int
    model: str
    certificate: str
    feature_flips: int
    budget: float | int
    budget_unit: BudgetUnit
    certified: Score
    attacked: Score | None

    @property
    def budget_text(self) -> str:
        """The budget in words, such as "1 edge per node"; what is only added or only deleted is said."""
        if self.budget_unit.startswith("fraction"):
            text = f"{100 * self.budget:g} % {self.budget_unit.removeprefix('fraction ')}"
        else:
            unit = self.budget_unit.replace("edges", "edge") if self.budget == 1 else self.budget_unit
            text = f"{self.budget:g} {unit}"
        _, _, kind = self.certificate.partition("-")
        features = f"{self.feature_flips} feature flips" if self.feature_flips else ""
        return ", ".join(filter(None, (text, features, kind)))


def read_certificates(folder: Path) -> tuple[CertifiedScore, ...]:
    """Of the lines of ``folder/results.jsonl``, as ``contractive-gnn certify --out`` wrote them.

    Raises:
        ResultsError: there is no such file, or a line that is no certificate.
    """
    from contractive_gnn.bench.certified import CertifiedResult

    path = folder / RESULTS
    if path.exists():
        check_kind(read_results(path), path, certificates=True)
    return of_results(read_results(path, CertifiedResult.from_line))


def of_results(results: Sequence[Result]) -> tuple[CertifiedScore, ...]:
    """Certificates by model and budget; of two lines of one cell the first counts.

    A model that was certified with several sets of hyperparameters is several: (a), (b), … as in the tables of attacks.
    Results that are not certificates are passed over.
    """
    results = [result for result in results if result.attack.startswith(CERTIFICATE)]
    settings: dict[str, list[str]] = {}
    for result in results:
        known = settings.setdefault(result.model, [])
        if (setting := _setting(result)) not in known:
            known.append(setting)
    groups: dict[tuple[str, str, int, str, str, int, BudgetUnit, float], dict[int, Result]] = {}
    for result in results:
        known = settings[result.model]
        label = result.model if len(known) == 1 else f"{result.model} ({letters(known.index(_setting(result)))})"
        features = int(result.hyperparameters.get("attack", {}).get("feature_flips", 0))
        where = (result.dataset, result.split, result.split_seed, label, result.attack, features)
        groups.setdefault((*where, result.budget_unit, result.budget), {}).setdefault(result.seed, result)
    return tuple(_score(key[3], key[5], list(group.values())) for key, group in sorted(groups.items()))


def _setting(result: Result) -> str:
    return digest({key: value for key, value in result.hyperparameters.items() if key != "attack"})


def of_place(certified: Sequence[CertifiedScore], section: Section) -> tuple[CertifiedScore, ...]:
    """Those of the section's data set and split, of any model."""
    where = (section.dataset, section.split, section.split_seed)
    return tuple(bound for bound in certified if (bound.dataset, bound.split, bound.split_seed) == where)


def of_section(certified: Sequence[CertifiedScore], section: Section) -> tuple[CertifiedScore, ...]:
    """Those of the section's data set, split and models."""
    return tuple(bound for bound in of_place(certified, section) if bound.model in section.models)


def _score(model: str, features: int, group: Sequence[Result]) -> CertifiedScore:
    first, seeds = group[0], tuple(result.seed for result in group)
    clean = tuple(result.clean_accuracy for result in group)
    left = [(r.seed, value) for r in group if (value := getattr(r, "unchanged_accuracy", None)) is not None]
    attacked = Score(tuple(v for _, v in left), clean, seeds=tuple(s for s, _ in left)) if left else None
    return CertifiedScore(
        first.dataset, first.split, first.split_seed, model, first.attack, features, first.budget, first.budget_unit,
        Score(tuple(result.accuracy for result in group), clean, seeds=seeds), attacked,
    )  # fmt: skip
