"""The report as one HTML page that needs no other file: what holds in the worst case first.

The page works without scripts: its tables are there. With them models and attacks can be switched off, columns sorted,
and the charts answer to the pointer. What lies in ``pages/`` is copied into the page.
"""

from __future__ import annotations

import html as escape
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from contractive_gnn.bench.assets import asset, embedded, fill
from contractive_gnn.bench.bundle import library
from contractive_gnn.bench.certified_scores import CertifiedScore, of_place, of_section
from contractive_gnn.bench.grid import KINDS, Column, Grid, Row, breakdown_grids, sources
from contractive_gnn.bench.plots import Picture
from contractive_gnn.bench.results import CERTIFICATE, Result
from contractive_gnn.bench.summary import CLEAN, Anchor, Condition, Score, Section, number
from contractive_gnn.bench.transfer import TransferMatrix, matrices
from contractive_gnn.extras import MissingExtraError

#: no line ends between a number and its unit
_PERCENT = "\N{NO-BREAK SPACE}%"
_SCRIPTS = ("charts.js", "table.js", "report.js")


class Reported(Protocol):
    """What a page reads of a report; see :class:`contractive_gnn.bench.report.Report`."""

    @property
    def sections(self) -> tuple[Section, ...]:
        """A data set and split each."""

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The table of each section."""

    @property
    def anchors(self) -> tuple[Anchor, ...]:
        """Published numbers."""

    @property
    def certified(self) -> tuple[CertifiedScore, ...]:
        """Bounds."""

    @property
    def results(self) -> tuple[Result, ...]:
        """All that was measured."""

    @property
    def bounds_alone(self) -> bool:
        """Whether it has no results of attacks."""

    def caption(self, section: Section) -> str:
        """What the numbers of a section's table are."""

    def grid(self, section: Section) -> Grid:
        """The table of a section, or of one of its parts."""

    @property
    def origin(self) -> list[tuple[str, list[str]]]:
        """How it was made."""


def html(report: Reported, drawn: Sequence[Picture], folder: Path) -> str:
    """The page.

    Where the drawing library is not installed, the pictures stand in it, still, and it says so.

    Args:
        report: what to show.
        drawn: the still pictures, whose SVG files are in ``folder``.
        folder: see ``drawn``.
    """
    try:
        scripts = [library(), "\n".join(map(asset, _SCRIPTS))]
    except MissingExtraError as error:
        scripts, missing = [], str(error)
    else:
        missing = ""
    sections = [_section(report, index, interactive=bool(scripts)) for index in range(len(report.sections))]
    if missing:
        sections += [f'<p class="note">{_text(missing)}</p>', *(_still(picture, folder) for picture in drawn)]
    sections.append(fill("origin.html", rows="\n".join(_origin(report))))
    data = embedded({"sections": [_data(report, i) for i in range(len(report.sections))]})
    elements = [f'<script type="application/json" id="data">{data}</script>']
    elements += [f'<script type="module">\n{script}\n</script>' for script in scripts]
    return fill(
        "frame.html",
        title=_text(_title(report)),
        style=asset("page.css"),
        body="\n".join(sections),
        scripts="\n".join(elements),
    )


def tables(report: Reported) -> str:
    """The tables and their notes alone, for a notebook."""
    parts = []
    for section, grid in zip(report.sections, report.grids, strict=True):
        parts += [f"<h2>{_text(section.title)}</h2>", _headline(section), f"<div>{_table(grid)}</div>"]
        parts.append(f"<p>{_text(report.caption(section))}</p>")
        if section.notes:
            parts.append("<ul>" + "".join(f"<li>{_text(note)}</li>" for note in section.notes) + "</ul>")
        parts += [_breakdowns(section), _parts(report, section)]
    return "\n".join(parts)


def _text(text: str) -> str:
    return escape.escape(text)


def _title(report: Reported) -> str:
    what = "Certified robustness" if report.bounds_alone else "Robustness"
    return f"{what}: " + ", ".join(dict.fromkeys(section.dataset for section in report.sections))


def _section(report: Reported, index: int, *, interactive: bool) -> str:
    section, grid = report.sections[index], report.grids[index]
    overview, figures = "", ""
    if interactive:
        overview = "\n".join(_figures(report, index, first=True))
        figures = f'<div class="figures">{"".join(_figures(report, index, first=False))}</div>'
    told = " ".join(sources(grid))
    return fill(
        "section.html",
        id=f"s{index}",
        title=_text(section.title),
        headline=_certified_headline(report, section) if report.bounds_alone else _headline(section),
        warnings=_warnings(section),
        overview=overview,
        table_label=_text(f"Accuracies on {section.title}; scroll sideways for more columns"),
        table=_table(grid),
        caption=_text(report.caption(section)),
        sources=f'<p class="caption">{_text(told)}</p>' if told else "",
        transfer="\n".join(_matrix(matrix) for matrix in _matrices(report, section)),
        figures=figures,
        breakdowns=_breakdowns(section),
        parts=_parts(report, section),
    )


def _breakdowns(section: Section) -> str:
    """The tables of what is broken down."""
    return "\n".join(
        f'<h3>{_text(title)}</h3><div class="table" tabindex="0">{_table(grid)}</div>'
        for title, grid in breakdown_grids(section)
    )


def _parts(report: Reported, section: Section) -> str:
    """Of a mean over splits each split by itself, folded."""
    if not section.parts:
        return ""
    told = []
    for part in section.parts:
        table = _table(report.grid(part))
        told += [f"<h3>{_text(part.title)}</h3>", f'<div class="table" tabindex="0">{table}</div>']
        told += [_breakdowns(part), _warnings(part), *map(_matrix, _matrices(report, part))]
    return f"<details class='parts'><summary>{_each(section)}</summary>{''.join(told)}</details>"


def _each(section: Section) -> str:
    return f"Each of the {len(section.parts)} splits"


def _headline(section: Section) -> str:
    """What a reader wants to know first: who keeps most under the attack that is the worst for it."""
    sentences = []
    for on in KINDS:
        attacked = section.attacked(on)
        worst = {model: condition for model in section.models if (condition := section.worst(model, on))}
        if not worst:
            continue
        scores = {model: section.scores[condition, model] for model, condition in worst.items()}
        nodes = "test nodes" if on == "test" else "targets"
        attacks = "the one attack" if len(attacked) == 1 else f"the worst of {len(attacked)} attacks"
        printed = {model: round(score.mean, 1) for model, score in scores.items()}
        most, least = max(printed.values()), min(printed.values())
        told = [f"{_named(printed, most)} {_kept(printed, scores, worst, most)}"]
        if not all(section.complete(model, on) for model in section.models):
            # over fewer attacks a worst is no worst, and is compared with no other
            alone = [({model: mean}, mean) for model, mean in printed.items()]
            told = [f"{_named(one, mean)} {_kept(one, scores, worst, mean)}" for one, mean in alone]
            sentences.append(f"Over {nodes}, not every model under every attack: {'; '.join(told)}.")
            continue
        if len(printed) > 1:
            told[0] += ", the most" if most > least else ", all the same"
        if most > least:
            told.append(f"{_named(printed, least)} {_kept(printed, scores, worst, least)}, the least")
        sentences.append(f"Under {attacks} on {nodes}: {'; '.join(told)}.")
    return "\n".join(f'<p class="headline">{sentence}</p>' for sentence in sentences)


def _certified_headline(report: Reported, section: Section) -> str:
    """Of each model what is proved under the smallest budget."""
    told = []
    bounds = of_place(report.certified, section)
    for model in dict.fromkeys(bound.model for bound in bounds):
        own = [bound for bound in bounds if bound.model == model]
        first = min(own, key=lambda bound: (bound.budget_unit != "edges per node", bound.budget))
        attacked = f" (attacks left {_percent(first.attacked)})" if first.attacked is not None else ""
        told.append(
            f"<strong>{_text(model)}</strong>: {_percent(first.certified)} stay right under "
            f"{_text(first.budget_text)}, whatever the attack{attacked}"
        )
    return f'<p class="headline">{"; ".join(told)}.</p>' if told else ""


def _named(printed: Mapping[str, float], mean: float) -> str:
    """The models with a mean."""
    names = [f"<strong>{_text(model)}</strong>" for model, value in printed.items() if value == mean]
    return f"{names[0]} keeps" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} keep"


def _kept(
    printed: Mapping[str, float], scores: Mapping[str, Score], worst: Mapping[str, Condition], mean: float
) -> str:
    models = [model for model, value in printed.items() if value == mean]
    attacks = ", ".join(dict.fromkeys(worst[model].short for model in models))
    score = scores[models[0]]
    text = number(score.mean, score.std) if len(models) == 1 else f"{mean:.1f}"
    return f"{text}{_PERCENT} ({_text(attacks)})"


def _percent(score: Score) -> str:
    return f"{number(score.mean, score.std)}{_PERCENT}"


def _warnings(section: Section) -> str:
    if not section.notes:
        return ""
    notes = "".join(f"<li>{_text(note)}</li>" for note in section.notes)
    count = f"{len(section.notes)} warning{'s' if len(section.notes) > 1 else ''}"
    shown = " open" if len("".join(section.notes)) < 600 else ""
    return f'<details class="warnings"{shown}><summary>{count}</summary><ul>{notes}</ul></details>'


def _table(grid: Grid) -> str:
    head = ["<th scope='col'>model</th>", *(_head(column) for column in grid.columns)]
    rows = []
    first = True
    for row in grid.rows:
        rows.append(_row(row, grid.columns, first=first and bool(row.source)))
        first = first and not row.source
    return f"<table><thead><tr>{''.join(head)}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _head(column: Column) -> str:
    kind = " class='worst'" if column.worst_on else ""
    detail = f"<br><small>{_text(column.detail)}</small>" if column.detail else ""
    return f'<th scope="col"{kind} data-column="{_text(column.key)}">{_text(column.name)}{detail}</th>'


def _row(row: Row, columns: Sequence[Column], *, first: bool) -> str:
    kinds = " class='published first'" if first else " class='published'" if row.source else ""
    source = f"<br><small>published, {_text(row.source)}</small>" if row.source else ""
    cells = [f"<th scope='row'>{_text(row.name)}{source}</th>"]
    for column, cell in zip(columns, row.cells, strict=True):
        names = " ".join(name for name, on in (("worst", column.worst_on), ("best", cell.best)) if on)
        attributes = f' class="{names}"' if names else ""
        if cell.score is not None:
            attributes += f' data-mean="{cell.score.mean}" title="{_text(_seeds(cell.score))}"'
        why = f"<br><small>{_text(cell.why)}</small>" if cell.why else ""
        cells.append(f'<td data-column="{_text(column.key)}"{attributes}>{_text(cell.text)}{why}</td>')
    return f'<tr data-model="{_text(row.name)}"{kinds}>{"".join(cells)}</tr>'


def _seeds(score: Score) -> str:
    """Every seed's number, or every split's, for who points at a mean."""
    if not score.seeds:
        return ""
    named = [f"seed {seed}" if isinstance(seed, int) else seed for seed in score.seeds]
    return ", ".join(f"{name}: {value:.1f}" for name, value in zip(named, score.values, strict=True))


def _figures(report: Reported, index: int, *, first: bool) -> list[str]:
    """The places of the charts; what they show is said for who cannot see it."""
    section = report.sections[index]
    if report.bounds_alone:
        what = "Certified accuracy against the budget" + (
            "; dashed: what attacks left" if any(b.attacked for b in of_place(report.certified, section)) else ""
        )
        return [_figure("certified", "Certified accuracy", what, section)] if first else []
    places = []
    if first:
        certified = ", a diamond what is certified" if of_section(report.certified, section) else ""
        for on in KINDS:
            if section.attacked(on):
                nodes = "test nodes" if on == "test" else "targets"
                places.append(
                    _figure(
                        f"worst-{on}",
                        f"Worst case on {nodes}",
                        "A filled circle is the accuracy under the worst attack, an open one the clean accuracy, a "
                        f"tick every other attack{certified}.",
                        section,
                    )
                )
        return places
    one = "split" if section.parts else "seed"
    places.append(
        _figure(
            "seeds",
            f"Every {one}",
            f"A dot is one {one}, a bar the mean. Point at a dot for its {one} and its clean accuracy.",
            section,
            wide=True,
        )
    )
    for key, name in _curves(section).items():
        published = "; grey diamonds: published" if report.anchors else ""
        what = f"Mean and ± one standard deviation over {one}s{published}."
        places.append(_figure(f"curve-{key}", name, what, section))
    return places


def _figure(kind: str, title: str, what: str, section: Section, *, wide: bool = False) -> str:
    said = _text(f"{title} on {section.title}. {what} The numbers are in the table.")
    return (
        f"<figure{' class=wide' if wide else ''}><h3>{_text(title)}</h3>"
        f'<div class="chart" data-chart="{_text(kind)}" role="img" aria-label="{said}"></div>'
        f"<figcaption>{_text(what)}</figcaption></figure>"
    )


def _curves(section: Section) -> dict[str, str]:
    """Attacks that were measured at several budgets: a key and a title each."""
    found: dict[tuple[str, str, str, str], int] = {}
    for c in section.conditions:
        if c.attack != CLEAN and not c.chained:
            key = (c.attack, c.threat, c.budget_unit, c.evaluated_on)
            found[key] = found.get(key, 0) + 1
    return {"|".join(key): f"{key[0]}, {key[1]}" for key, count in found.items() if count > 1}


def _matrices(report: Reported, section: Section) -> tuple[TransferMatrix, ...]:
    own = [
        r
        for r in report.results
        if (r.dataset, r.split, r.split_seed) == (section.dataset, section.split, section.split_seed)
    ]
    return matrices(own)


def _matrix(matrix: TransferMatrix) -> str:
    head = "".join(f"<th scope='col'>{_text(model)}</th>" for model in matrix.models)
    rows = []
    for victim in matrix.victims:
        cells = []
        for model in matrix.models:
            value = matrix.accuracy.get((victim, model))
            own = " own" if victim == model else ""
            if value is None:
                cells.append(f"<td class='heat{own}'>–</td>")
            else:
                cells.append(f'<td class="heat{own}" style="--heat: {value:.1f}%">{value:.1f}</td>')
        rows.append(f"<tr><th scope='row'>{_text(victim)}</th>{''.join(cells)}</tr>")
    told = (
        "A row is the model that the graph was made against, a column the model that was measured on it, in percent. "
        "Framed: a model on the graph made against itself."
    )
    return (
        f"<h3>Transfer: {_text(matrix.title)}</h3>"
        f"<div class='table matrix' tabindex='0' role='region' aria-label='Transfer matrix'><table><thead><tr>"
        f"<th scope='col'>made against</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f"<p class='caption'>{told}</p>"
    )


def _origin(report: Reported) -> list[str]:
    parts = []
    for label, values in report.origin:
        parts.append(f"<dt>{_text(label)}</dt>")
        for value in values:
            copied = ' class="command"' if label == "Command" else ""
            parts.append(f"<dd{copied}><code>{_text(value)}</code></dd>")
    return parts


def _still(picture: Picture, folder: Path) -> str:
    svg = _inline((folder / f"{picture.name}.svg").read_text(encoding="utf-8"), picture.name)
    said = _text(picture.caption)
    return f'<figure role="img" aria-label="{said}">{svg}<figcaption>{said}</figcaption></figure>'


def _inline(svg: str, name: str) -> str:
    """An SVG file's drawing for use inside a page: without its XML head, and with ids that no other picture has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1
    )


def _data(report: Reported, index: int) -> dict[str, Any]:
    """What the scripts draw."""
    section = report.sections[index]
    keys = {condition: f"c{i}" for i, condition in enumerate(section.conditions)}
    return {
        "models": list(section.models),
        "conditions": [
            {
                "key": keys[c],
                "name": c.short,
                "attack": c.attack,
                "threat": c.threat,
                "on": c.evaluated_on,
                "clean": c.attack == CLEAN,
                "unit": c.budget_unit,
                "budget": 100 * c.budget if c.budget_unit.startswith("fraction") else c.budget,
                "axis": _axis(c.budget_unit),
                "curve": "|".join((c.attack, c.threat, c.budget_unit, c.evaluated_on)),
            }
            for c in section.conditions
        ],
        "scores": [
            {
                "condition": keys[condition],
                "model": model,
                "seeds": list(score.seeds),
                "values": list(score.values),
                "clean": list(score.clean),
                "doubt": list(score.unreliable),
            }
            for (condition, model), score in section.scores.items()
        ],
        "published": [
            {
                "condition": keys[condition],
                "model": anchor.model,
                "accuracy": anchor.accuracy,
                "std": anchor.std,
                "source": anchor.source,
            }
            for condition in section.conditions
            for anchor in report.anchors
            if anchor.matches(section.dataset, condition)
        ],
        "certified": [
            {
                "model": bound.model,
                "unit": _axis(bound.budget_unit)
                + ("" if bound.certificate == CERTIFICATE else f", {bound.certificate}")
                + (f", {bound.feature_flips} feature flips" if bound.feature_flips else ""),
                "budget": 100 * bound.budget if bound.budget_unit.startswith("fraction") else bound.budget,
                "text": bound.budget_text,
                "seeds": list(bound.certified.seeds),
                "values": list(bound.certified.values),
                "clean": list(bound.certified.clean),
                "attacked": list(bound.attacked.values) if bound.attacked else [],
            }
            for bound in of_place(report.certified, section)
        ],
    }


def _axis(unit: str) -> str:
    """The label of an axis of budgets."""
    return f"% {unit.removeprefix('fraction ')}" if unit.startswith("fraction") else unit
