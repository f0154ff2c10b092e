"""The table of a section as rows and columns of texts, before anything is rendered: a row a model, the worst first."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from contractive_gnn.bench.certified_scores import CertifiedScore
from contractive_gnn.bench.results import CERTIFICATE, EvaluatedOn
from contractive_gnn.bench.summary import CLEAN, DOUBT, Anchor, Condition, Score, Section, number
from contractive_gnn.datasets.protocol import INDUCTIVE

ABSENT: Final = "–"
WORST: Final = "worst"
PUBLISHED: Final = "Published by others, on their own splits and settings; not measured here"
#: the kinds of nodes that an accuracy may be of; numbers of the two are never compared
KINDS: Final[tuple[EvaluatedOn, ...]] = ("test", "targets")


@dataclass(frozen=True)
class Cell:
    """One number, as it is printed.

    Attributes:
        text: such as "83.5 ± 0.4".
        why: in brackets behind it, such as the attack that was the worst; or empty.
        best: whether none of the column is better.
        score: what it was made of; None for a published or an absent number.
    """

    text: str
    why: str = ""
    best: bool = False
    score: Score | None = None

    @property
    def whole(self) -> str:
        """The number and what stands behind it."""
        return f"{self.text} ({self.why})" if self.why else self.text


@dataclass(frozen=True)
class Column:
    """What the numbers of a column are accuracies under.

    Attributes:
        name: such as "metattack 5 %".
        detail: what becomes of the model, and on which nodes; or empty.
        key: tells it from the others on a page.
        condition: None for the worst of several, and for a certificate.
        worst_on: the nodes that it is the worst accuracy on; None for any other column.
    """

    name: str
    detail: str
    key: str
    condition: Condition | None = None
    worst_on: EvaluatedOn | None = None

    @property
    def head(self) -> str:
        """Both in one line."""
        return f"{self.name} ({self.detail})" if self.detail else self.name


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        name: its label.
        cells: one for each column.
        source: where its numbers were published; empty for what was measured here.
        several: whether other rows have numbers of the same model from other sources.
    """

    name: str
    cells: tuple[Cell, ...]
    source: str = ""
    several: bool = False

    @property
    def label(self) -> str:
        """The name, and whether its numbers are others'."""
        where = f" ({self.source})" if self.several else ""
        return f"{self.name}, published{where}" if self.source else self.name


@dataclass(frozen=True)
class Grid:
    """A table: the worst columns first, then what is certified, clean, and every attack; published rows last."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def grid(section: Section, anchors: Sequence[Anchor] = (), certified: Sequence[CertifiedScore] = ()) -> Grid:
    """The table of one section.

    Args:
        section: what was measured.
        anchors: published numbers, of any data set.
        certified: bounds for the section's models, see :func:`.certified_scores.of_section`.
    """
    columns = (*_worst_columns(section), *_certified_columns(certified), *_condition_columns(section))
    bests = {column: _best(_scores(section, column, certified)) for column in columns}
    several = len({score.n for score in section.scores.values()}) > 1
    rows = [
        Row(model, tuple(_cell(section, column, model, certified, bests[column], several) for column in columns))
        for model in section.models
    ]
    return Grid(columns, (*rows, *_published_rows(section, anchors, columns)))


def breakdown_grids(section: Section) -> tuple[tuple[str, Grid], ...]:
    """For each attack whose numbers are broken down a title and a table, a column a part."""
    asked = [c for c in section.conditions if any((c, model) in section.breakdowns for model in section.models)]
    return tuple((_breakdown_title(condition), _breakdown_grid(section, condition)) for condition in asked)


def _breakdown_title(condition: Condition) -> str:
    by = "by bins of the targets" if condition.evaluated_on == "targets" else "under each of its attacks"
    return f"{condition.short}, {condition.threat}, {by}, each with the clean accuracy"


def _breakdown_grid(section: Section, condition: Condition) -> Grid:
    own = {model: parts for model in section.models if (parts := section.breakdowns.get((condition, model)))}
    names = list(dict.fromkeys(name for parts in own.values() for name in parts))
    bests = {name: _best(parts[name] for parts in own.values() if name in parts) for name in names}
    several = len({score.n for parts in own.values() for score in parts.values()}) > 1
    rows = []
    for model, parts in own.items():
        plain = [_plain(parts.get(name), bests[name], several) for name in names]
        cells = [replace(cell, why=_clean_text(cell.score)) for cell in plain]
        rows.append(Row(model, tuple(cells)))
    return Grid(tuple(Column(name, "", name) for name in names), tuple(rows))


def _clean_text(score: Score | None) -> str:
    return "" if score is None else f"{statistics.fmean(score.clean):.1f}"


def certified_grid(certified: Sequence[CertifiedScore]) -> Grid:
    """The table of certificates alone: clean, then for each budget what is proved and, beside it, what attacks left.

    Args:
        certified: of one data set and split.
    """
    models = list(dict.fromkeys(bound.model for bound in certified))
    budgets = list(dict.fromkeys(bound.budget_text for bound in certified))
    attacked = {bound.budget_text for bound in certified if bound.attacked is not None}
    found = {(bound.model, bound.budget_text): bound for bound in certified}
    columns = [Column("clean", "", "clean")]
    scores: list[list[Score | None]] = [[_clean(certified, model) for model in models]]
    for budget in budgets:
        own = [found.get((model, budget)) for model in models]
        columns.append(Column("certified", budget, f"certified {budget}"))
        scores.append([None if bound is None else bound.certified for bound in own])
        if budget in attacked:
            columns.append(Column("attacked", budget, f"attacked {budget}"))
            scores.append([None if bound is None else bound.attacked for bound in own])
    several = len({score.n for column in scores for score in column if score is not None}) > 1
    bests = [_best(score for score in column if score is not None) for column in scores]
    rows = [
        Row(
            model,
            tuple(_plain(column[place], best, several) for column, best in zip(scores, bests, strict=True)),
        )
        for place, model in enumerate(models)
    ]
    return Grid(tuple(columns), tuple(rows))


def _clean(certified: Sequence[CertifiedScore], model: str) -> Score:
    first = next(bound.certified for bound in certified if bound.model == model)
    return Score(first.clean, first.clean, seeds=first.seeds)


def _plain(score: Score | None, best: float | None, several: bool) -> Cell:
    if score is None:
        return Cell(ABSENT)
    text = number(score.mean, score.std) + (f" (n={score.n})" if several else "")
    return Cell(text, "", best is not None and round(score.mean, 1) == best, score)


def certified_caption(section: Section) -> str:
    """What the numbers of a table of certificates are."""
    over = ", ".join(dict.fromkeys(condition.nodes_text for condition in section.conditions))
    return (
        f"Percent of {over}, {section.over_text}. Certified: right, and proved to stay so whatever is flipped within "
        "the budget. Attacked: right, and changed by none of the attacks that were tried: no certificate is above it."
    )


def caption(section: Section) -> str:
    """What the numbers of a section's table are."""
    over = ", ".join(dict.fromkeys(condition.nodes_text for condition in section.conditions))
    given = dict.fromkeys(c.attack for c in section.conditions if c.source == "published" and not c.chained)
    both = any(c.threat == "symbiotic" for c in section.conditions)
    symbiotic = "; symbiotic: retrained on what the first attacks left, then attacked" if both else ""
    inductive = (
        " Models were fitted on the graph without the test nodes, and a share of the edges is of those at them."
        if section.split == INDUCTIVE
        else ""
    )
    graphs = f" The graphs of {', '.join(given)} are as others published them." if given else ""
    return (
        f"Accuracy in percent over {over}; {section.over_text}; best in bold; poisoning: retrained on the attacked "
        f"graph; evasion: the model is frozen{symbiotic}.{graphs}{inductive}"
    )


def sources(table: Grid) -> list[str]:
    """Where the published rows of a table come from, in a sentence; nothing where there are none."""
    found = dict.fromkeys(f"{row.name} ({row.source})" for row in table.rows if row.source)
    return [f"{PUBLISHED}: {', '.join(found)}."] if found else []


def _worst_columns(section: Section) -> list[Column]:
    """A column for each kind of nodes that several attacks were measured on; bounds are no attacks."""
    if any(condition.attack.startswith(CERTIFICATE) for condition in section.conditions):
        return []
    several = [on for on in KINDS if len(section.attacked(on)) > 1]
    nodes = {"targets": ", targets", "test": ", test nodes" if len(several) > 1 else ""}
    return [
        Column(WORST, f"of {len(section.attacked(on))} attacks{nodes[on]}", f"worst-{on}", None, on) for on in several
    ]


def _certified_columns(certified: Sequence[CertifiedScore]) -> list[Column]:
    return [Column("certified", text, f"certified {text}") for text in dict.fromkeys(c.budget_text for c in certified)]


def _condition_columns(section: Section) -> list[Column]:
    columns = []
    for index, condition in enumerate(section.conditions):
        targets = condition.evaluated_on == "targets"
        details = [] if condition.attack == CLEAN else [condition.threat]
        detail = ", ".join([*details, *(["targets"] if targets else [])])
        columns.append(Column(condition.short, detail, f"c{index}", condition))
    return columns


def _scores(section: Section, column: Column, certified: Sequence[CertifiedScore]) -> list[Score]:
    """What may be compared in a column; nothing where a worst is over fewer attacks than another's."""
    on = column.worst_on
    if on is not None and not all(section.complete(model, on) for model in section.models):
        return []
    found = (_score(section, column, model, certified) for model in section.models)
    return [score for score in found if score is not None]


def _score(section: Section, column: Column, model: str, certified: Sequence[CertifiedScore]) -> Score | None:
    if column.worst_on is not None:
        worst = section.worst(model, column.worst_on)
        return None if worst is None else section.scores[worst, model]
    if column.condition is not None:
        return section.scores.get((column.condition, model))
    own = (c.certified for c in certified if c.model == model and c.budget_text == column.detail)
    return next(own, None)


def _cell(
    section: Section,
    column: Column,
    model: str,
    certified: Sequence[CertifiedScore],
    best: float | None,
    several: bool,
) -> Cell:
    score = _score(section, column, model, certified)
    if score is None:
        return Cell(ABSENT)
    why = ""
    if column.worst_on is not None:
        condition = section.worst(model, column.worst_on)
        assert condition is not None
        why = condition.short + ("" if section.complete(model, column.worst_on) else ", not all attacks")
    text = number(score.mean, score.std) + (f" (n={score.n})" if several else "") + (DOUBT if score.unreliable else "")
    return Cell(text, why, best is not None and round(score.mean, 1) == best, score)


def _best(scores: Iterable[Score]) -> float | None:
    """The best mean as it is printed, so that equal prints are equally bold; None where there is nothing to compare."""
    means = [round(score.mean, 1) for score in scores]
    return max(means) if len(means) > 1 else None


def _published_rows(section: Section, anchors: Sequence[Anchor], columns: Sequence[Column]) -> list[Row]:
    """A row for each model and source with a number under one of the conditions."""
    rows: dict[tuple[str, str], dict[Column, Anchor]] = {}
    for column in columns:
        if column.condition is not None:
            for anchor in anchors:
                if anchor.matches(section.dataset, column.condition):
                    rows.setdefault((anchor.model, anchor.source), {})[column] = anchor
    return [
        Row(
            model,
            tuple(
                Cell(number(found[column].accuracy, found[column].std)) if column in found else Cell(ABSENT)
                for column in columns
            ),
            source,
            sum(name == model for name, _ in rows) > 1,
        )
        for (model, source), found in rows.items()
    ]
